package outsider

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// Asset is assetInfo (contract 2.4).
type Asset struct {
	Symbol               string `json:"symbol"`
	Network              string `json:"network,omitempty"`
	Amount               string `json:"amount"`
	IsExceedingThreshold bool   `json:"isExceedingThreshold"`
	TradePrice           string `json:"tradePrice"`
	TradeCurrency        string `json:"tradeCurrency"`
	TradeISODatetime     string `json:"tradeISODatetime"`
}

// Party is an originator or a beneficiary of IVMS101.
type Party struct {
	OriginatorPersons  []json.RawMessage `json:"originatorPersons,omitempty"`
	BeneficiaryPersons []json.RawMessage `json:"beneficiaryPersons,omitempty"`
	AccountNumber      []string          `json:"accountNumber"`
}

// IVMS101 is the personal part of a request.
type IVMS101 struct {
	Originator      *Party          `json:"originator,omitempty"`
	Beneficiary     *Party          `json:"beneficiary,omitempty"`
	OriginatingVASP json.RawMessage `json:"originatingVASP,omitempty"`
	BeneficiaryVASP json.RawMessage `json:"beneficiaryVASP,omitempty"`
}

// Question is what an enclave asks about an account or a transfer (contract
// 3.1, 3.2), as far as the two have it.
type Question struct {
	VerificationUUID        string  `json:"verificationUuid"`
	AssetInfo               *Asset  `json:"assetInfo"`
	RequiredBeneficiaryInfo string  `json:"requiredBeneficiaryInfo"`
	OriginatingVaspID       string  `json:"originatingVaspId"`
	Version                 string  `json:"version"`
	IVMS101                 IVMS101 `json:"ivms101"`
	Symbol                  string  `json:"symbol"`
	Network                 string  `json:"network"`
}

func (q *Question) account() string {
	if q.IVMS101.Beneficiary == nil || len(q.IVMS101.Beneficiary.AccountNumber) == 0 {
		return ""
	}
	return q.IVMS101.Beneficiary.AccountNumber[0]
}

// strict reads one JSON value that has no member which the contract lacks.
// Names count letter by letter, as for most backends, though not for Go's own
// decoder.
func strict(body []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("more than one value")
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return err
	}
	return misnamed(value, reflect.TypeOf(into))
}

// misnamed finds a member that a struct's tags do not have in this spelling.
func misnamed(value any, t reflect.Type) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch value := value.(type) {
	case []any:
		if t.Kind() != reflect.Slice || t == reflect.TypeFor[json.RawMessage]() {
			return nil
		}
		for _, v := range value {
			if err := misnamed(v, t.Elem()); err != nil {
				return err
			}
		}
	case map[string]any:
		if t.Kind() != reflect.Struct {
			return nil
		}
		inside := map[string]reflect.Type{}
		for i := range t.NumField() {
			name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			inside[name] = t.Field(i).Type
		}
		for name, v := range value {
			if inside[name] == nil {
				return fmt.Errorf("there is a member %q", name)
			}
			if err := misnamed(v, inside[name]); err != nil {
				return err
			}
		}
	}
	return nil
}

var (
	uuid4   = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	decimal = regexp.MustCompile(`^[0-9]{1,20}$`)
	moment  = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`)
)

func isUUID(s string) bool { return uuid4.MatchString(s) }

// wrongs collects what is wrong.
type wrongs []string

func (w *wrongs) unless(holds bool, what string) {
	if !holds {
		*w = append(*w, what)
	}
}

// wrongHead holds a request's head against contract 3.0.
func wrongHead(r *http.Request, header, value string) []string {
	var w wrongs
	w.unless(r.Method == http.MethodPost, "the method is "+r.Method+", want POST")
	w.unless(strings.HasPrefix(r.Header.Get("Content-Type"), "application/json"), "the body is not said to be JSON")
	w.unless(slices.Equal(r.Header.Values(header), []string{value}), "the header "+header+" is not what was agreed")
	if header != "Authorization" {
		w.unless(len(r.Header.Values("Authorization")) == 0, "there is an Authorization header, too")
	}
	return w
}

func readAccountQuestion(body []byte) (*Question, []string) {
	var w wrongs
	q := new(Question)
	if err := strict(body, q); err != nil {
		w.unless(false, err.Error())
	}
	w.unless(decimal.MatchString(q.OriginatingVaspID), "originatingVaspId is no decimal string")
	w.unless(q.Symbol != "" && q.Version != "", "symbol or version is missing")
	w.unless(q.IVMS101.Beneficiary != nil && len(q.IVMS101.Beneficiary.AccountNumber) == 1, "there is not exactly one account")
	w.unless(q.VerificationUUID == "" && q.AssetInfo == nil && q.IVMS101.Originator == nil, "it holds members of a user verification")
	return q, w
}

func readUserQuestion(body []byte) (*Question, []string) {
	var w wrongs
	q := new(Question)
	if err := strict(body, q); err != nil {
		w.unless(false, err.Error())
	}
	w.unless(isUUID(q.VerificationUUID), "verificationUuid is no UUID version 4")
	w.unless(decimal.MatchString(q.OriginatingVaspID), "originatingVaspId is no decimal string")
	w.unless(slices.Contains(strings.Split(q.RequiredBeneficiaryInfo, ","), "ACCOUNT_NUMBER"), "requiredBeneficiaryInfo lacks ACCOUNT_NUMBER")
	w.unless(q.Version != "" && q.Symbol == "" && q.Network == "", "version is missing, or symbol is outside assetInfo")
	if w.unless(q.AssetInfo != nil, "assetInfo is missing"); q.AssetInfo != nil {
		a := q.AssetInfo
		w.unless(a.Symbol != "" && a.Amount != "" && a.TradePrice != "" && a.TradeCurrency != "" && moment.MatchString(a.TradeISODatetime), "assetInfo is not complete")
	}
	from, to := q.IVMS101.Originator, q.IVMS101.Beneficiary
	w.unless(from != nil && len(from.OriginatorPersons) > 0 && len(from.AccountNumber) > 0, "the originator is not complete")
	w.unless(to != nil && len(to.BeneficiaryPersons) > 0 && len(to.AccountNumber) > 0, "the beneficiary is not complete")
	return q, w
}

// members are those that data must have, and those that it may have, by the
// callback's type.
var members = map[string]struct{ must, may []string }{
	"VERIFICATION_RESULT": {[]string{"verificationUuid", "verificationResult", "reason"}, []string{"message", "ivms101"}},
	"TX_REPORT":           {[]string{"verificationUuid", "txHash"}, []string{"vout"}},
	"ERROR_REPORT":        {[]string{"verificationUuid", "result", "reason"}, []string{"message"}},
}

func readCallback(body []byte) (*Callback, []string) {
	var w wrongs
	var envelope struct {
		CallbackType string          `json:"callbackType"`
		Data         json.RawMessage `json:"data"`
	}
	var has map[string]json.RawMessage
	c := new(Callback)
	if err := strict(body, &envelope); err != nil {
		return c, []string{err.Error()}
	}
	c.Type = envelope.CallbackType
	if err := strict(envelope.Data, &c.Data); err != nil {
		return c, []string{err.Error()}
	}
	if err := json.Unmarshal(envelope.Data, &has); err != nil {
		return c, []string{err.Error()}
	}
	known, ok := members[c.Type]
	w.unless(ok, "the type "+c.Type+" is not one of the Travel Rule's")
	for _, name := range known.must {
		w.unless(has[name] != nil, c.Type+" lacks "+name)
		delete(has, name)
	}
	for name := range has {
		w.unless(slices.Contains(known.may, name), c.Type+" has a member "+name)
	}
	w.unless(isUUID(c.Data.VerificationUUID), "verificationUuid is no UUID version 4")
	return c, w
}

// contradicts holds a callback against the row that there is while it is being
// handled: a result is stored before the backend hears of it.
func contradicts(c *Callback, row *Row) []string {
	var w wrongs
	w.unless(row.VerificationUUID == c.Data.VerificationUUID, "the history gives another row")
	switch c.Type {
	case "VERIFICATION_RESULT":
		w.unless(row.Result == c.Data.VerificationResult && row.Reason == c.Data.Reason && row.Message == c.Data.Message,
			"says "+c.Data.VerificationResult+", and the history "+row.Result)
	case "ERROR_REPORT":
		w.unless(row.Result == c.Data.Result && row.Reason == c.Data.Reason, "says "+c.Data.Result+", and the history "+row.Result)
	case "TX_REPORT":
		w.unless(row.TxHash != nil && *row.TxHash == c.Data.TxHash, "the history has another hash, or none")
		w.unless(row.OrderedAt != nil && moment.MatchString(*row.OrderedAt), "the history does not say when it was ordered")
	}
	return w
}
