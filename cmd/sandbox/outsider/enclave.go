package outsider

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// Enclave is the backend's own enclave (contract section 2).
type Enclave struct {
	Base   string // such as http://127.0.0.1:21117
	Client *http.Client
}

// Refused is an enclave's error: the status and the two members that every
// error body has (contract 2.0).
type Refused struct {
	Status  int
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (r *Refused) Error() string { return fmt.Sprintf("%d %s: %s", r.Status, r.Code, r.Message) }

// Call sends a request with a JSON body, none when body is nil, and reads the
// answer into into. An error of the enclave is *Refused.
func (e Enclave) Call(ctx context.Context, method, path string, body, into any) error {
	var sent io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, e.Base+path, sent)
	if err != nil {
		return err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	answer, err := e.Client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		refused := &Refused{Status: answer.StatusCode}
		if err := strict(text, refused); err != nil || refused.Code == "" || refused.Message == "" {
			return fmt.Errorf("%s %s answers %d with a body that is not {code, message}: %v", method, path, answer.StatusCode, err)
		}
		return refused
	}
	if err := strict(text, into); err != nil {
		return fmt.Errorf("%s %s answers what the contract does not have: %w", method, path, err)
	}
	return nil
}

// Health is GET /healthcheck: UP.
func (e Enclave) Health(ctx context.Context) (string, error) {
	var a struct {
		Status string `json:"status"`
	}
	return a.Status, e.Call(ctx, http.MethodGet, "/healthcheck", nil, &a)
}

// Self is the enclave's own VASP id (contract 2.1).
func (e Enclave) Self(ctx context.Context) (string, error) {
	var a struct {
		VaspID string `json:"vaspId"`
	}
	err := e.Call(ctx, http.MethodGet, "/v1/vasps/self", nil, &a)
	return a.VaspID, err
}

// VASP is one of the directory (contract 2.2).
type VASP struct {
	Health         string  `json:"health"`
	VaspID         string  `json:"vaspId"`
	VaspName       string  `json:"vaspName"`
	LegalName      string  `json:"legalName"`
	Jurisdiction   string  `json:"jurisdiction"`
	Country        string  `json:"country"`
	CountryCode    string  `json:"countryCode"`
	IsAlliance     bool    `json:"isAlliance"`
	Protocol       string  `json:"protocol"`
	LicensedStatus *string `json:"licensedStatus"`
	VaspStatus     string  `json:"vaspStatus"`
	CreatedAt      string  `json:"createdAt"`
	UpdatedAt      string  `json:"updatedAt"`
}

// VASPs is the directory, of one protocol (contract 2.2).
func (e Enclave) VASPs(ctx context.Context, protocol string) ([]VASP, error) {
	var a struct {
		VASPs []VASP `json:"vasps"`
	}
	err := e.Call(ctx, http.MethodGet, "/v1/vasps?protocol="+protocol, nil, &a)
	return a.VASPs, err
}

// Payload is the sensitive part of a request.
type Payload struct {
	Version string  `json:"version"`
	IVMS101 IVMS101 `json:"ivms101"`
}

// AccountRequest is the body of an account check (contract 2.3).
type AccountRequest struct {
	KeyType           string  `json:"keyType"`
	BeneficiaryVaspID string  `json:"beneficiaryVaspId"`
	Symbol            string  `json:"symbol"`
	Network           string  `json:"network,omitempty"`
	Payload           Payload `json:"payload"`
}

// AccountAnswer is its answer.
type AccountAnswer struct {
	Result     string `json:"accountVerificationResult"`
	Reason     string `json:"reason"`
	Message    string `json:"message"`
	VerifiedAt string `json:"verifiedAt"`
}

// CheckAccount asks whose an account is (contract 2.3).
func (e Enclave) CheckAccount(ctx context.Context, r AccountRequest) (*AccountAnswer, error) {
	a := new(AccountAnswer)
	if err := e.Call(ctx, http.MethodPost, "/v1/verifications/account", r, a); err != nil {
		return nil, err
	}
	if !moment.MatchString(a.VerifiedAt) {
		return nil, fmt.Errorf("verifiedAt is not in the contract's form")
	}
	return a, nil
}

// VerificationRequest is the body of a user verification (contract 2.4).
type VerificationRequest struct {
	KeyType                 string  `json:"keyType"`
	BeneficiaryVaspID       string  `json:"beneficiaryVaspId"`
	AssetInfo               Asset   `json:"assetInfo"`
	RequiredBeneficiaryInfo string  `json:"requiredBeneficiaryInfo"`
	Payload                 Payload `json:"payload"`
}

// Verify begins a user verification and gives its id (contract 2.4).
func (e Enclave) Verify(ctx context.Context, r VerificationRequest) (string, error) {
	var a struct {
		VerificationUUID string `json:"verificationUuid"`
		CreatedAt        string `json:"createdAt"`
	}
	if err := e.Call(ctx, http.MethodPost, "/v1/verifications", r, &a); err != nil {
		return "", err
	}
	if !isUUID(a.VerificationUUID) || !moment.MatchString(a.CreatedAt) {
		return "", fmt.Errorf("the answer to a verification has no UUID version 4 or no time")
	}
	return a.VerificationUUID, nil
}

// Row is one of the history (contract 2.5).
type Row struct {
	VerificationID           string  `json:"verificationId"`
	VerificationUUID         string  `json:"verificationUuid"`
	Result                   string  `json:"result"`
	Reason                   string  `json:"reason"`
	Message                  string  `json:"message"`
	AssetInfo                Asset   `json:"assetInfo"`
	TxHash                   *string `json:"txHash"`
	VOut                     *string `json:"vout"`
	OriginatingVaspID        string  `json:"originatingVaspId"`
	OriginatorAccountNumber  string  `json:"originatorAccountNumber"`
	IVMS101Originator        *string `json:"ivms101Originator"`
	IVMS101OriginatingVasp   *string `json:"ivms101OriginatingVasp"`
	BeneficiaryVaspID        string  `json:"beneficiaryVaspId"`
	BeneficiaryAccountNumber string  `json:"beneficiaryAccountNumber"`
	IVMS101Beneficiary       *string `json:"ivms101Beneficiary"`
	IVMS101BeneficiaryVasp   *string `json:"ivms101BeneficiaryVasp"`
	VerifiedAt               *string `json:"verifiedAt"`
	OrderedAt                *string `json:"orderedAt"`
	CreatedAt                *string `json:"createdAt"`
}

// Row is one verification (contract 2.6).
func (e Enclave) Row(ctx context.Context, id string) (*Row, error) {
	r := new(Row)
	if err := e.Call(ctx, http.MethodGet, "/v1/verifications/"+id, nil, r); err != nil {
		return nil, err
	}
	return r, nil
}

// List is the rows that fit pairs of filter and value, newest first (contract
// 2.5).
func (e Enclave) List(ctx context.Context, filters ...string) ([]Row, error) {
	query := url.Values{}
	for i := 0; i+1 < len(filters); i += 2 {
		query.Set(filters[i], filters[i+1])
	}
	var a struct {
		Count         int   `json:"count"`
		Page          int   `json:"page"`
		RPP           int   `json:"rpp"`
		Verifications []Row `json:"verifications"`
	}
	if err := e.Call(ctx, http.MethodGet, "/v1/verifications?"+query.Encode(), nil, &a); err != nil {
		return nil, err
	}
	if a.Page != 1 || a.RPP != 10 || len(a.Verifications) != min(a.Count, 10) {
		return nil, fmt.Errorf("a list of %d rows says count %d, page %d, rpp %d", len(a.Verifications), a.Count, a.Page, a.RPP)
	}
	return a.Verifications, nil
}

// ReportTransaction says in which transaction the coins moved (contract 2.7).
func (e Enclave) ReportTransaction(ctx context.Context, id, hash, vout string) error {
	body := map[string]string{"verificationUuid": id, "txHash": hash}
	if vout != "" {
		body["vout"] = vout
	}
	return e.report(ctx, "/v1/verifications/tx", body)
}

// ReportError says that a transfer will never happen (contract 2.8).
func (e Enclave) ReportError(ctx context.Context, id, result, reason, message string) error {
	return e.report(ctx, "/v1/verifications/error", map[string]string{"verificationUuid": id, "result": result, "reason": reason, "message": message})
}

func (e Enclave) report(ctx context.Context, path string, body any) error {
	var a struct {
		Result bool `json:"result"`
	}
	err := e.Call(ctx, http.MethodPost, path, body, &a)
	if err == nil && !a.Result {
		err = fmt.Errorf("%s: the report was not taken", path)
	}
	return err
}

// Inquire asks the originating VASP where a transfer stands (contract 2.9).
func (e Enclave) Inquire(ctx context.Context, id string) (*Status, error) {
	s := new(Status)
	if err := e.Call(ctx, http.MethodPost, "/v1/verifications/tx/inquiry", map[string]string{"verificationUuid": id}, s); err != nil {
		return nil, err
	}
	return s, nil
}
