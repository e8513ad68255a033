package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// client speaks to enclaves and robots as a backend engineer's curl would.
var client = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 1024, IdleConnTimeout: 3 * time.Second}}

// Call sends one request and gives status and body.
func Call(ctx context.Context, method, url string, body []byte) (status int, answer []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(response.Body)
	return response.StatusCode, answer, err
}

// fetch is a Call that must answer 200 with JSON.
func fetch(ctx context.Context, method, url string, body []byte, into any) error {
	status, answer, err := Call(ctx, method, url, body)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("%s %s: status %d: %s", method, url, status, answer)
	}
	return json.Unmarshal(answer, into)
}

// Directory is what GET /v1/vasps answers.
type Directory struct {
	VASPs []struct {
		VASPID   string `json:"vaspId"`
		VASPName string `json:"vaspName"`
		Health   string `json:"health"`
	} `json:"vasps"`
}

func (d *Directory) allUp(n int) bool {
	up := 0
	for _, v := range d.VASPs {
		if v.Health == "UP" {
			up++
		}
	}
	return up >= n
}

// Directory asks the VASP's own enclave who is in the alliance.
func (v *VASP) Directory(ctx context.Context) (*Directory, error) {
	d := new(Directory)
	return d, fetch(ctx, http.MethodGet, v.API+"/v1/vasps", nil, d)
}

// Accepted is what POST /v1/verifications answers.
type Accepted struct {
	VerificationUUID string `json:"verificationUuid"`
	CreatedAt        string `json:"createdAt"`
}

// Verify hands the enclave a user verification.
func (v *VASP) Verify(ctx context.Context, body []byte) (*Accepted, error) {
	a := new(Accepted)
	return a, fetch(ctx, http.MethodPost, v.API+"/v1/verifications", body, a)
}

// ReportTransaction tells the enclave in which transaction the coins moved.
func (v *VASP) ReportTransaction(ctx context.Context, body []byte) error {
	return fetch(ctx, http.MethodPost, v.API+"/v1/verifications/tx", body, &struct{}{})
}

// ReportError tells the enclave that a transfer will never come, or should not
// have.
func (v *VASP) ReportError(ctx context.Context, body []byte) error {
	return fetch(ctx, http.MethodPost, v.API+"/v1/verifications/error", body, &struct{}{})
}

// Row is one row of the history, as far as a test asks.
type Row struct {
	VerificationUUID   string `json:"verificationUuid"`
	Result             string `json:"result"`
	Reason             string `json:"reason"`
	TxHash             string `json:"txHash"` // "" for null
	Originator         string `json:"ivms101Originator"`
	Beneficiary        string `json:"ivms101Beneficiary"`
	OriginatingVASP    string `json:"ivms101OriginatingVasp"`
	BeneficiaryVASP    string `json:"ivms101BeneficiaryVasp"`
	BeneficiaryAccount string `json:"beneficiaryAccountNumber"`
}

// Row reads one verification from the enclave's history.
func (v *VASP) Row(ctx context.Context, id string) (*Row, error) {
	r := new(Row)
	return r, fetch(ctx, http.MethodGet, v.API+"/v1/verifications/"+id, nil, r)
}
