package robotcmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy/wirejson"
)

// enclave is the robot's own enclave, called as a backend calls it (contract
// section 2).
type enclave struct {
	base   *url.URL
	token  string // "" for none
	client *http.Client
}

// enclaveTimeout bounds one call of the enclave: its own synchronous calls
// through the central server take 5 s at most (contract 6.4).
const enclaveTimeout = 10 * time.Second

// newEnclave makes the client; nil when there is no URL.
func newEnclave(base *url.URL, token string) *enclave {
	if base == nil {
		return nil
	}
	return &enclave{base: base, token: token, client: &http.Client{
		Timeout:       enclaveTimeout,
		Transport:     &http.Transport{Proxy: nil, DisableCompression: true, MaxIdleConnsPerHost: 16, IdleConnTimeout: 4 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// close closes the connections that nobody uses.
func (e *enclave) close() {
	if e != nil {
		e.client.CloseIdleConnections()
	}
}

// call makes one call and gives the status and the JSON body, whatever the
// status is. Errors are *refusal.
func (e *enclave) call(ctx context.Context, method, path string, body []byte) (status int, answer []byte, err error) {
	if e == nil {
		return 0, nil, &refusal{http.StatusServiceUnavailable, "NO-ENCLAVE", "The robot does not know its enclave: set ROBOT_ENCLAVE_URL."}
	}
	r, err := http.NewRequestWithContext(ctx, method, e.base.JoinPath(path).String(), bytes.NewReader(body))
	if err != nil {
		return 0, nil, unreachable()
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if e.token != "" {
		r.Header.Set("Authorization", "Bearer "+e.token)
	}
	resp, err := e.client.Do(r)
	if err != nil {
		return 0, nil, unreachable()
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxEnclaveAnswer+1))
	if err != nil || wirejson.Check(answer, wirejson.Limits{Bytes: maxEnclaveAnswer}) != nil {
		return 0, nil, &refusal{http.StatusBadGateway, "ENCLAVE-ANSWER", fmt.Sprintf("The enclave answered %d without readable JSON: see that ROBOT_ENCLAVE_URL leads to it.", resp.StatusCode)}
	}
	return resp.StatusCode, answer, nil
}

// maxEnclaveAnswer bounds an answer of the enclave, in bytes.
const maxEnclaveAnswer = 4 << 20

func unreachable() *refusal {
	return &refusal{http.StatusBadGateway, "ENCLAVE-UNREACHABLE", "The enclave at ROBOT_ENCLAVE_URL does not answer: see that it runs."}
}

// row is a verification as the enclave's history has it (contract 2.5).
type row struct {
	Result string `json:"result"`
	Reason string `json:"reason"`
	Asset  struct {
		Symbol  string `json:"symbol"`
		Network string `json:"network"`
		Amount  string `json:"amount"`
	} `json:"assetInfo"`
	TxHash          *string `json:"txHash"`
	VOut            *string `json:"vout"`
	OriginatingVASP string  `json:"originatingVaspId"`
	BeneficiaryVASP string  `json:"beneficiaryVaspId"`
	From            string  `json:"originatorAccountNumber"`
	To              string  `json:"beneficiaryAccountNumber"`
}

// errNoAnswer says that the enclave has no such thing, or none that is
// readable.
var errNoAnswer = errors.New("the enclave has no such thing")

// get reads something of the enclave's.
func (e *enclave) get(ctx context.Context, path string, into any) error {
	status, answer, err := e.call(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	if status != http.StatusOK || wirejson.Unmarshal(answer, into, wirejson.WithLimits(wirejson.Limits{Bytes: maxEnclaveAnswer})) != nil {
		return errNoAnswer
	}
	return nil
}

// lookup reads one verification of the enclave's history.
func (e *enclave) lookup(ctx context.Context, uuid string) (*row, error) {
	found := new(row)
	return found, e.get(ctx, "/v1/verifications/"+url.PathEscape(uuid), found)
}

// self is the id of the enclave's own VASP (contract 2.1).
func (e *enclave) self(ctx context.Context) (string, error) {
	var own struct {
		VASPID string `json:"vaspId"`
	}
	return own.VASPID, e.get(ctx, "/v1/vasps/self", &own)
}
