package proxy

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/ivms101"
	"github.com/vasp-enclave/vasp-enclave/proxy/wirejson"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// What our backend may send (contract 2.3, 2.4). Unknown members are ignored;
// a bad one is answered with its field and the remedy, never with its value.

// MaxRequest is the longest body our backend may send, in bytes: with the
// VASP's own part and the reply key it still fits an envelope.
const MaxRequest = 256 << 10

type accountRequest struct {
	keyType         identity.KeyType
	beneficiary     identity.VASPID
	symbol, network string
	payload         *ivms101.Payload
}

type verificationRequest struct {
	keyType     identity.KeyType
	beneficiary identity.VASPID
	asset       storage.Asset
	required    string
	payload     *ivms101.Payload
}

func readAccountRequest(body []byte) (*accountRequest, error) {
	var in struct {
		KeyType           *string        `json:"keyType"`
		BeneficiaryVaspID *string        `json:"beneficiaryVaspId"`
		Symbol            *string        `json:"symbol"`
		Network           *string        `json:"network"`
		Payload           jsontext.Value `json:"payload"`
	}
	if err := readJSON(body, &in); err != nil {
		return nil, err
	}
	var r accountRequest
	var err error
	if r.keyType, r.beneficiary, err = readTarget(in.KeyType, in.BeneficiaryVaspID); err != nil {
		return nil, err
	}
	if r.symbol, err = required(in.Symbol, "symbol"); err != nil {
		return nil, err
	}
	if r.network, err = optional(in.Network, "network"); err != nil {
		return nil, err
	}
	if r.payload, err = readPayload(in.Payload); err != nil {
		return nil, err
	}
	if len(r.payload.Beneficiary.Accounts) > 1 {
		return nil, invalid("INVALID-ACCOUNT-NUMBER", "`accountNumber` must hold one account: an account check takes one at a time.")
	}
	return &r, nil
}

func readVerificationRequest(body []byte) (*verificationRequest, error) {
	var in struct {
		KeyType           *string        `json:"keyType"`
		BeneficiaryVaspID *string        `json:"beneficiaryVaspId"`
		AssetInfo         *assetInput    `json:"assetInfo"`
		Required          *string        `json:"requiredBeneficiaryInfo"`
		Payload           jsontext.Value `json:"payload"`
	}
	if err := readJSON(body, &in); err != nil {
		return nil, err
	}
	var r verificationRequest
	var err error
	if r.keyType, r.beneficiary, err = readTarget(in.KeyType, in.BeneficiaryVaspID); err != nil {
		return nil, err
	}
	if r.asset, err = in.AssetInfo.read(); err != nil {
		return nil, err
	}
	if r.required, err = required(in.Required, "requiredBeneficiaryInfo"); err != nil {
		return nil, err
	}
	codes, err := ivms101.ParseRequired(r.required)
	if err != nil || !slices.Contains(codes, ivms101.AccountNumber) {
		return nil, invalid("INVALID-REQUIRED-BENEFICIARY-INFO", "`requiredBeneficiaryInfo` is required `ACCOUNT_NUMBER`")
	}
	if r.payload, err = readPayload(in.Payload); err != nil {
		return nil, err
	}
	if r.payload.Originator.Raw == nil {
		return nil, missing("originator")
	}
	return &r, nil
}

// readTarget reads whom a request is for and which kind of key it wants; an
// absent key type is the contract's default, PerVasp.
func readTarget(keyType, vaspID *string) (identity.KeyType, identity.VASPID, error) {
	kind := identity.PerVASP
	if keyType != nil {
		var err error
		if kind, err = identity.ParseKeyType(*keyType); err != nil {
			return 0, 0, invalid("INVALID-KEY-TYPE", "`keyType` is invalid value: use `PerVasp`, `PerAddress` or `PerVerification`.")
		}
	}
	if vaspID == nil || *vaspID == "" {
		return 0, 0, invalid("MISSING-VASP", "`beneficiaryVaspId` is required.")
	}
	id, err := identity.ParseVASPID(*vaspID)
	if err != nil {
		return 0, 0, invalid("INVALID-VASP", "`beneficiaryVaspId` is invalid value: give the VASP's decimal id as a string.")
	}
	return kind, id, nil
}

// assetInput is assetInfo as it may come: both spellings of the rate's time.
type assetInput struct {
	Symbol   *string `json:"symbol"`
	Network  *string `json:"network"`
	Amount   *string `json:"amount"`
	Exceeds  *bool   `json:"isExceedingThreshold"`
	Price    *string `json:"tradePrice"`
	Currency *string `json:"tradeCurrency"`
	At       *string `json:"tradeISODatetime"`
	AtToo    *string `json:"tradeISODateTime"`
}

var decimal = regexp.MustCompile(`^[0-9]{1,78}(\.[0-9]{1,78})?$`)

func (in *assetInput) read() (a storage.Asset, err error) {
	if in == nil {
		return a, missing("assetInfo")
	}
	if in.At == nil {
		in.At = in.AtToo
	}
	for _, field := range []struct {
		from *string
		to   *string
		name string
	}{
		{in.Symbol, &a.Symbol, "symbol"}, {in.Amount, &a.Amount, "amount"}, {in.Price, &a.TradePrice, "tradePrice"},
		{in.Currency, &a.TradeCurrency, "tradeCurrency"}, {in.At, &a.TradeISODatetime, "tradeISODatetime"},
	} {
		if *field.to, err = required(field.from, field.name); err != nil {
			return a, err
		}
	}
	if a.Network, err = optional(in.Network, "network"); err != nil {
		return a, err
	}
	if in.Exceeds == nil {
		return a, missing("isExceedingThreshold")
	}
	a.ExceedsThreshold = *in.Exceeds
	at, ok := parseTime(a.TradeISODatetime)
	switch {
	case !ok:
		return a, invalid("INVALID-TRADE-ISO-DATETIME", "`tradeISODatetime` is invalid value: write 2006-01-02T15:04:05.000Z.")
	case !decimal.MatchString(a.Amount):
		return a, invalid("INVALID-AMOUNT", "`amount` is invalid value: write a decimal number as a string.")
	case !decimal.MatchString(a.TradePrice):
		return a, invalid("INVALID-TRADE-PRICE", "`tradePrice` is invalid value: write a decimal number as a string.")
	}
	a.TradeISODatetime = timestamp(at)
	return a, nil
}

func readPayload(raw jsontext.Value) (*ivms101.Payload, error) {
	if len(raw) == 0 || raw.Kind() == 'n' {
		return nil, missing("payload")
	}
	p, err := ivms101.ParsePayload(raw)
	if err != nil {
		return nil, fieldError(err, "/payload")
	}
	switch {
	case p.Version == "":
		return nil, missing("version")
	case len(p.Version) > maxText:
		return nil, tooLong("version")
	case p.IVMS101 == nil:
		return nil, missing("ivms101")
	case p.Beneficiary.Raw == nil:
		return nil, missing("beneficiary")
	case len(p.Beneficiary.Accounts) == 0 || slices.Contains(p.Beneficiary.Accounts, ""):
		return nil, missing("accountNumber")
	}
	return p, nil
}

// readJSON decodes a body; its errors name the place.
func readJSON(body []byte, v any) error {
	err := wirejson.Unmarshal(body, v)
	if err == nil {
		if err := ivms101.CheckText(body); err != nil {
			return fieldError(err, "")
		}
		return nil
	}
	if bad := wirejson.Check(body, wirejson.Limits{}); bad != nil {
		return invalid("INVALID-JSON", "The body is refused: %s.", bad)
	}
	return fieldError(err, "")
}

// fieldError names the field of a value of the wrong type or form, by the
// contract's pattern.
func fieldError(err error, under string) error {
	var w *wirejson.Error
	if !errors.As(err, &w) {
		return invalid("INVALID-JSON", "The body is refused: %s.", err)
	}
	at := under + w.Pointer
	if name := fieldName(at); name != "" {
		return invalid("INVALID-"+kebab(name), "`%s` is invalid value: %s (at %s).", name, w.Problem, at)
	}
	return invalid("INVALID-JSON", "The body is refused: %s.", err)
}

// fieldName is the last name in a pointer that is a field's: an element stands
// for its array. There is none when nobody knows the name.
func fieldName(pointer string) (name string) {
	for part := range strings.SplitSeq(pointer, "/") {
		switch {
		case part == "?":
			return ""
		case strings.Trim(part, "0123456789") != "":
			name = part
		}
	}
	return name
}

func required(value *string, name string) (string, error) {
	if value == nil || *value == "" {
		return "", missing(name)
	}
	return optional(value, name)
}

// maxText bounds the short texts of a request; the contract's columns hold
// 128 at most.
const maxText = 256

func optional(value *string, name string) (string, error) {
	if value == nil {
		return "", nil
	}
	if len(*value) > maxText && name != "requiredBeneficiaryInfo" {
		return "", tooLong(name)
	}
	return *value, nil
}

func tooLong(name string) error {
	return invalid("INVALID-"+kebab(name), "`%s` is invalid value: longer than %d bytes.", name, maxText)
}

func missing(name string) error {
	return invalid("MISSING-"+kebab(name), "`%s` is required.", name)
}

// kebab turns a field's name into the contract's code form: accountNumber
// becomes ACCOUNT-NUMBER.
func kebab(name string) string {
	var b strings.Builder
	for i, r := range name {
		upper := r >= 'A' && r <= 'Z'
		if upper && i > 0 && !(name[i-1] >= 'A' && name[i-1] <= 'Z') {
			b.WriteByte('-')
		}
		b.WriteRune(r)
	}
	return strings.NewReplacer("ISODATETIME", "ISO-DATETIME", "ISODATE-TIME", "ISO-DATETIME").Replace(strings.ToUpper(b.String()))
}
