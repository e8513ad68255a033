package vasp

import (
	"context"
	"slices"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/vasp-enclave/vasp-enclave/proxy/ivms101"
	"github.com/vasp-enclave/vasp-enclave/proxy/wirejson"
)

// AccountAnswer is the backend's word on an account (contract 3.1).
type AccountAnswer struct {
	Result     string // VERIFIED or DENIED
	Reason     string // why it is DENIED
	VerifiedAt string // as the backend wrote it, "" when it did not
	Message    string
}

// VerifyAccount asks whether an account belongs to a customer, and to the one
// named when one is. Deadline 1 s.
func (c *Client) VerifyAccount(ctx context.Context, body []byte) (*AccountAnswer, error) {
	var a struct {
		Result     string `json:"accountVerificationResult"`
		Reason     string `json:"reason"`
		VerifiedAt string `json:"verifiedAt"`
		Message    string `json:"message"`
	}
	err := c.call(ctx, c.account, body, func(answer []byte) error {
		if err := c.account.decode(answer, &a); err != nil {
			return err
		}
		return c.account.must(oneOf(a.Result, "VERIFIED", "DENIED") && short(a.Reason, a.VerifiedAt))
	})
	if err != nil {
		return nil, err
	}
	return &AccountAnswer{a.Result, a.Reason, a.VerifiedAt, a.Message}, nil
}

// UserAnswer is the backend's word on a transfer (contract 3.2).
type UserAnswer struct {
	Result  string // VERIFIED, DENIED or ERROR
	Reason  string // OK when VERIFIED; a backend that gave none said OK or UNDEFINED-ERROR
	Message string
	Version string // "" when not said
	// Beneficiary is ivms101.beneficiary as the backend wrote it, nil when
	// absent: an answer may do without (contract 3.2).
	Beneficiary []byte
	Raw         []byte // the whole answer
}

// VerifyUser asks whether a transfer may come in. Deadline 5 s. It is never
// sent twice.
func (c *Client) VerifyUser(ctx context.Context, body []byte) (*UserAnswer, error) {
	var (
		a struct {
			Result  string `json:"result"`
			Reason  string `json:"reason"`
			Message string `json:"message"`
			Version string `json:"version"`
			IVMS101 struct {
				Beneficiary jsontext.Value `json:"beneficiary"`
			} `json:"ivms101"`
		}
		raw []byte
	)
	err := c.call(ctx, c.user, body, func(answer []byte) error {
		raw = answer
		if err := c.user.decode(answer, &a); err != nil {
			return err
		}
		return c.user.must(oneOf(a.Result, "VERIFIED", "DENIED", "ERROR") && short(a.Reason, a.Version) && isParty(a.IVMS101.Beneficiary))
	})
	if err != nil {
		return nil, err
	}
	u := &UserAnswer{a.Result, a.Reason, a.Message, a.Version, a.IVMS101.Beneficiary, raw}
	u.complete()
	return u, nil
}

// isParty says whether raw is an object, null or absent.
func isParty(raw jsontext.Value) bool {
	k := raw.Kind()
	return len(raw) == 0 || k == 'n' || k == '{'
}

func (u *UserAnswer) complete() {
	if jsontext.Value(u.Beneficiary).Kind() != '{' {
		u.Beneficiary = nil
	}
	switch {
	case u.Reason != "":
	case u.Result == "VERIFIED":
		u.Reason = "OK"
	default:
		u.Reason = "UNDEFINED-ERROR"
	}
}

// TransactionAnswer is where a transfer stands (contract 3.3).
type TransactionAnswer struct {
	VerificationUUID string // as the backend wrote it; the caller compares
	Status           string // one of contract 6.3
	TxHash           string // "" when unknown
	VOut             string // "" when none
}

// TransactionStatus asks where a transfer stands that we originate. Deadline
// 1 s.
func (c *Client) TransactionStatus(ctx context.Context, body []byte) (*TransactionAnswer, error) {
	var a struct {
		UUID   string `json:"verificationUuid"`
		Status string `json:"transactionStatus"`
		TxHash string `json:"txHash"`
		VOut   string `json:"vout"`
	}
	err := c.call(ctx, c.transaction, body, func(answer []byte) error {
		if err := c.transaction.decode(answer, &a); err != nil {
			return err
		}
		known := oneOf(a.Status, "PENDING", "PROCESSING", "WAIT-CONFIRM", "CONFIRMED", "CANCELED")
		return c.transaction.must(known && short(a.UUID, a.TxHash, a.VOut))
	})
	if err != nil {
		return nil, err
	}
	return &TransactionAnswer{a.UUID, a.Status, a.TxHash, a.VOut}, nil
}

// Callback tells the backend something. Nil means that it has taken it: HTTP
// 200 and {"result":true} (contract 3.4). After any error, call again later;
// the backend takes the same callback more than once. Deadline 1 s.
func (c *Client) Callback(ctx context.Context, body []byte) error {
	var a struct {
		Result bool `json:"result"`
	}
	return c.call(ctx, c.callback, body, func(answer []byte) error {
		if err := c.callback.decode(answer, &a); err != nil {
			return err
		}
		return c.callback.must(a.Result)
	})
}

// decode reads an answer. What a counterparty would refuse to read later is
// refused here, where the backend's owner sees it.
func (e *endpoint) decode(answer []byte, into any) error {
	if err := wirejson.Unmarshal(answer, into); err != nil {
		if wirejson.Check(answer, wirejson.Limits{}) != nil {
			return e.fail(NotJSON)
		}
		return e.fail(Invalid)
	}
	return e.must(ivms101.CheckText(answer) == nil)
}

func (e *endpoint) must(valid bool) error {
	if !valid {
		return e.fail(Invalid)
	}
	return nil
}

// maxShort bounds a code or an id in an answer, in characters (contract 2.8).
const maxShort = 256

func short(texts ...string) bool {
	for _, t := range texts {
		if utf8.RuneCountInString(t) > maxShort {
			return false
		}
	}
	return true
}

func oneOf(text string, set ...string) bool { return slices.Contains(set, text) }
