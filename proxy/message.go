package proxy

import (
	"bytes"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/ivms101"
	"github.com/vasp-enclave/vasp-enclave/proxy/wirejson"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// What travels inside an envelope is JSON text made here and read here. The
// parts that came from a backend (originator, beneficiary, the VASP parts and
// unknown neighbours) are spliced in as the text they were: order, spelling
// and unknown fields survive the journey. docs/formats.md lists the shapes.

// requestPayload is a user verification as the beneficiary reads it.
type requestPayload struct {
	Asset                   storage.Asset  `json:"assetInfo"`
	RequiredBeneficiaryInfo string         `json:"requiredBeneficiaryInfo"`
	Version                 string         `json:"version"`
	IVMS101                 jsontext.Value `json:"ivms101"`
}

// accountPayload is an account check as the beneficiary reads it.
type accountPayload struct {
	Symbol  string         `json:"symbol"`
	Network string         `json:"network"`
	Version string         `json:"version"`
	IVMS101 jsontext.Value `json:"ivms101"`
}

// answerPayload is the beneficiary's answer to a user verification, beside
// its version and ivms101 (ivms101.Payload) and verifiedAt.
type answerPayload struct {
	Result  string `json:"result"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// accountAnswer is the answer to an account check, both inside the envelope
// and towards our backend (contract 2.3).
type accountAnswer struct {
	Result     string `json:"accountVerificationResult"`
	Reason     string `json:"reason,omitempty"`
	Message    string `json:"message,omitempty"`
	VerifiedAt string `json:"verifiedAt"`
}

// errorPayload is an error report for the counterparty.
type errorPayload struct {
	Result  string `json:"result"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// txPayload is a transaction report for the counterparty. OrderedAt is when
// the originator's backend made it; a later report has a later time.
type txPayload struct {
	TxHash    string `json:"txHash"`
	VOut      string `json:"vout"`
	OrderedAt string `json:"orderedAt"`
}

// reportAnswer is the counterparty's answer to a report: whether it has such
// a verification.
type reportAnswer struct {
	Result *bool `json:"result"`
}

// inquiryAnswer is where a transfer stands: between enclaves and, with the
// verification's id in front, towards the backend that asked (contract 2.9).
// Code, instead of the rest, says why there is no answer.
type inquiryAnswer struct {
	Status string `json:"transactionStatus"`
	TxHash string `json:"txHash"`
	VOut   string `json:"vout"`
	Code   string `json:"code"`
}

func txText(row *storage.Verification) []byte {
	t := newText().str("txHash", row.TxHash)
	if row.VOut != "" {
		t.str("vout", row.VOut)
	}
	return t.str("orderedAt", timestamp(row.OrderedAt)).end()
}

func errorText(p errorPayload) []byte {
	return newText().str("result", p.Result).str("reason", p.Reason).str("message", p.Message).end()
}

func reportAnswerText(taken bool) []byte { return newText().bool("result", taken).end() }

// text builds a JSON object member by member. Members given as raw are JSON
// text already; everything else is quoted.
type text struct{ b []byte }

func newText() *text { return &text{b: append(make([]byte, 0, 4096), '{')} }

func (t *text) name(name string) {
	if len(t.b) > 1 && t.b[len(t.b)-1] != '{' {
		t.b = append(t.b, ',')
	}
	t.b = quote(t.b, name)
	t.b = append(t.b, ':')
}

func (t *text) str(name, value string) *text {
	t.name(name)
	t.b = quote(t.b, value)
	return t
}

func (t *text) raw(name string, value []byte) *text {
	if value != nil {
		t.name(name)
		t.b = append(t.b, value...)
	}
	return t
}

func (t *text) bool(name string, value bool) *text {
	t.name(name)
	t.b = strconv.AppendBool(t.b, value)
	return t
}

// orNull writes a string, or null when it is empty.
func (t *text) orNull(name, value string) *text {
	if value == "" {
		return t.raw(name, []byte("null"))
	}
	return t.str(name, value)
}

func (t *text) object(name string, inner *text) *text { return t.raw(name, inner.end()) }

func (t *text) end() []byte { return append(t.b, '}') }

// quote appends s as a JSON string. What is not valid UTF-8 cannot come here:
// every reader refuses it.
func quote(b []byte, s string) []byte {
	b, err := jsontext.AppendQuote(b, s)
	if err != nil {
		panic("proxy: text is not valid UTF-8")
	}
	return b
}

func assetText(a storage.Asset) *text {
	t := newText().str("symbol", a.Symbol)
	if a.Network != "" {
		t.str("network", a.Network)
	}
	return t.str("amount", a.Amount).
		bool("isExceedingThreshold", a.ExceedsThreshold).
		str("tradePrice", a.TradePrice).
		str("tradeCurrency", a.TradeCurrency).
		str("tradeISODatetime", a.TradeISODatetime)
}

// timestamp is the contract's one way to write a time; zero is null to the
// callers that use orNull.
func timestamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

// timeForms are the ways the contract lets a time be read (2.0).
var timeForms = []string{
	"2006-01-02T15:04:05.999999999Z",
	"20060102T150405.999999999Z",
	"2006-01-02T15:04:05.999999999-07:00",
}

func parseTime(s string) (time.Time, bool) {
	for _, form := range timeForms {
		t, err := time.Parse(form, s)
		// What cannot be written is not read: an offset may lead out of the
		// four digits of a year, and the zero time stands for none.
		if year := t.UTC().Year(); err == nil && year >= 1 && year <= 9999 && !t.IsZero() {
			return t, true
		}
	}
	return time.Time{}, false
}

// withMember gives a member to the text of a JSON object that lacks it or has
// null in its place.
func withMember(object []byte, name string, value []byte) []byte {
	d := jsontext.NewDecoder(bytes.NewBuffer(object))
	d.ReadToken()
	first := true
	for ; d.PeekKind() == '"'; first = false {
		found, _ := d.ReadToken()
		is := found.String() == name
		old, err := d.ReadValue()
		if err != nil {
			break // it cannot: every reader has checked the text
		}
		if end := int(d.InputOffset()); is {
			return slices.Concat(object[:end-len(old)], value, object[end:])
		}
	}
	end := bytes.LastIndexByte(object, '}')
	b := slices.Clone(object[:end])
	if !first {
		b = append(b, ',')
	}
	b = append(quote(b, name), ':')
	return append(append(b, value...), '}')
}

// verifyUserBody is what our backend is asked (contract 3.2): the payload
// flattened, with who asks and for which verification.
func verifyUserBody(id uuid.UUID, from identity.VASPID, p *requestPayload) []byte {
	return newText().
		str("verificationUuid", id.String()).
		object("assetInfo", assetText(p.Asset)).
		str("requiredBeneficiaryInfo", p.RequiredBeneficiaryInfo).
		str("originatingVaspId", from.String()).
		str("version", p.Version).
		raw("ivms101", p.IVMS101).
		end()
}

// verifyAccountBody is what our backend is asked (contract 3.1).
func verifyAccountBody(from identity.VASPID, p *accountPayload) []byte {
	t := newText().str("originatingVaspId", from.String()).str("symbol", p.Symbol)
	if p.Network != "" {
		t.str("network", p.Network)
	}
	return t.str("version", p.Version).raw("ivms101", p.IVMS101).end()
}

// decode reads the payload of an envelope: a peer is not trusted because it
// can encrypt, so the limits of every edge apply (attack P1).
func decode[T any](payload []byte) (*T, error) {
	v := new(T)
	if err := wirejson.Unmarshal(payload, v); err != nil {
		return nil, err
	}
	return v, ivms101.CheckText(payload)
}
