package robotcmd

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/proxy/ivms101"
	"github.com/vasp-enclave/vasp-enclave/proxy/wirejson"
)

// driving answers a person who drives the robot: with a body, or with an
// error that is a *refusal.
type driving func(ctx context.Context, h *http.Request, body []byte) ([]byte, error)

// refusal is an answer that says why not, in the form of the contract's errors
// (2.0).
type refusal struct {
	status        int
	code, message string
}

func (e *refusal) Error() string { return e.message }

// passed is an answer of the enclave that is no 200, and goes to whoever
// drives as it is.
type passed struct {
	status int
	body   []byte
}

func (e *passed) Error() string { return "the enclave answered " + strconv.Itoa(e.status) }

// driven guards a handler with the driver's token, when there is one.
func (r *robot) driven(do driving) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, h *http.Request) {
		got := sha256.Sum256([]byte(h.Header.Get("Authorization")))
		if r.driverToken != "" && subtle.ConstantTimeCompare(got[:], r.drives[:]) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			refuse(w, http.StatusUnauthorized, "UNAUTHENTICATED", "Send `Authorization: Bearer` with the token of ROBOT_DRIVER_TOKEN.")
			return
		}
		body, err := readBody(w, h)
		if err != nil {
			refuse(w, http.StatusRequestEntityTooLarge, "TOO-LARGE", "The body is longer than 1 MiB or ended early.")
			return
		}
		answer, err := do(h.Context(), h, body)
		var no *refusal
		var other *passed
		switch {
		case err == nil:
			reply(w, http.StatusOK, answer)
		case errors.As(err, &no):
			refuse(w, no.status, no.code, no.message)
		case errors.As(err, &other):
			reply(w, other.status, other.body)
		default:
			refuse(w, http.StatusInternalServerError, "INTERNAL-ERROR", err.Error())
		}
	})
}

// read reads the body of who drives: a misspelt field is a mistake, and is
// named. What they write here is for a sandbox, so its names may be shown.
func read(body []byte, v any) error {
	if err := wirejson.Unmarshal(body, v, wirejson.RefuseUnknown(), wirejson.ShowNames()); err != nil {
		return &refusal{http.StatusBadRequest, "INVALID-JSON", "The body is refused: " + err.Error() + "."}
	}
	return nil
}

func missing(name string) error {
	return &refusal{http.StatusBadRequest, "MISSING-" + kebab(name), "`" + name + "` is required."}
}

func invalid(name, remedy string) error {
	return &refusal{http.StatusBadRequest, "INVALID-" + kebab(name), "`" + name + "` is invalid value: " + remedy + "."}
}

// kebab is a field's name in the form of the contract's codes (6.4):
// beneficiaryVaspId becomes BENEFICIARY-VASP-ID.
func kebab(name string) string {
	var b strings.Builder
	for _, c := range name {
		if c >= 'A' && c <= 'Z' {
			b.WriteByte('-')
		}
		b.WriteRune(c)
	}
	return strings.ToUpper(b.String())
}

// checkUUID refuses what no enclave issues.
func checkUUID(id string) error {
	switch {
	case id == "":
		return missing("verificationUuid")
	case len(id) != 36 || uuid.Validate(id) != nil:
		return invalid("verificationUuid", "write it as the enclave gave it, 36 characters")
	}
	return nil
}

// checkVASP refuses what is no id of a VASP (contract 2.0).
func checkVASP(name, id string) error {
	if id == "" {
		return missing(name)
	}
	if n, err := strconv.ParseUint(id, 10, 64); err != nil || strconv.FormatUint(n, 10) != id {
		return invalid(name, "write a decimal number as a string, as GET /v1/vasps of the enclave shows it")
	}
	return nil
}

// target is to whom a verification goes.
type target struct {
	KeyType         string         `json:"keyType"`
	BeneficiaryVASP string         `json:"beneficiaryVaspId"`
	Symbol          string         `json:"symbol"`
	Network         string         `json:"network"`
	Address         string         `json:"address"`
	Name            string         `json:"beneficiaryName"`
	Persons         jsontext.Value `json:"beneficiaryPersons"`
}

// complete checks a target and fills in what was left out.
func (to *target) complete() error {
	if err := checkVASP("beneficiaryVaspId", to.BeneficiaryVASP); err != nil {
		return err
	}
	if to.Address == "" {
		return missing("address")
	}
	if to.Name != "" && to.Persons != nil {
		return invalid("beneficiaryName", "give it or beneficiaryPersons, not both")
	}
	if to.KeyType == "" {
		to.KeyType = "PerVasp"
	}
	if to.Symbol == "" {
		to.Symbol = "ETH"
	}
	return checkPersons("beneficiaryPersons", to.Persons)
}

func checkPersons(name string, raw jsontext.Value) error {
	if raw == nil {
		return nil
	}
	if persons, err := ivms101.ParsePersons(raw); err != nil || len(persons) == 0 {
		return invalid(name, "write an array of persons as IVMS101 has them")
	}
	return nil
}

// beneficiary is the beneficiary object: the persons or the name that were
// given, else the names of the customer who has the address here, since a
// sandbox's robots have the same customers, else nobody.
func (r *robot) beneficiary(to *target) []byte {
	persons := to.Persons
	switch a := r.book.accounts[keyOf(to.Symbol, to.Address)]; {
	case persons != nil:
	case to.Name != "":
		persons = namedPerson(to.Name)
	case a != nil:
		names, _, err := ivms101.Strip(beneficiary(a.persons, []string{to.Address}), nameCodes)
		if err == nil {
			return names
		}
	}
	if persons == nil {
		persons = jsontext.Value("[]")
	}
	return beneficiary(persons, []string{to.Address})
}

// nameCodes are the codes of an address and the names of its owner.
var nameCodes = []ivms101.Code{ivms101.AccountNumber, ivms101.NaturalPersonName, ivms101.LegalPersonName, ivms101.CorporateRepresentativeName}

// namedPerson is a natural person of whom only the whole name is known.
func namedPerson(name string) jsontext.Value {
	var id, list, natural, person text
	id.str("primaryIdentifier", name)
	id.str("nameIdentifierType", "LEGL")
	list.raw("nameIdentifier", slices.Concat([]byte{'['}, id.end(), []byte{']'}))
	natural.raw("name", list.end())
	person.raw("naturalPerson", natural.end())
	return slices.Concat([]byte{'['}, person.end(), []byte{']'})
}

// payload wraps parties as contract 2.3 and 2.4 have them.
func payload(originator, beneficiary []byte) []byte {
	var ivms, p text
	if originator != nil {
		ivms.raw("originator", originator)
	}
	ivms.raw("beneficiary", beneficiary)
	p.str("version", "1.0")
	p.raw("ivms101", ivms.end())
	return p.end()
}

// post calls the enclave; anything but 200 is a *passed.
func (r *robot) post(ctx context.Context, path string, body []byte) ([]byte, error) {
	status, answer, err := r.enclave.call(ctx, http.MethodPost, path, body)
	if err == nil && status != http.StatusOK {
		err = &passed{status, answer}
	}
	return answer, err
}

// driveAccount starts an account check (contract 2.3) and gives its answer.
func (r *robot) driveAccount(ctx context.Context, _ *http.Request, body []byte) ([]byte, error) {
	var to target
	if err := read(body, &to); err != nil {
		return nil, err
	}
	if err := to.complete(); err != nil {
		return nil, err
	}
	to.Persons = orNobody(to)
	var t text
	t.str("keyType", to.KeyType)
	t.str("beneficiaryVaspId", to.BeneficiaryVASP)
	t.str("symbol", to.Symbol)
	if to.Network != "" {
		t.str("network", to.Network)
	}
	t.raw("payload", payload(nil, r.beneficiary(&to)))
	return r.post(ctx, "/v1/verifications/account", t.end())
}

// orNobody keeps an account check without a name without one: with a name it
// is another question (contract 3.1).
func orNobody(to target) jsontext.Value {
	if to.Name == "" && to.Persons == nil {
		return jsontext.Value("[]")
	}
	return to.Persons
}

// order is a transfer that who drives wants to be verified.
type order struct {
	target
	Amount            string         `json:"amount"`
	OriginatorAccount string         `json:"originatorAccountNumber"`
	OriginatorPersons jsontext.Value `json:"originatorPersons"`
	Required          string         `json:"requiredBeneficiaryInfo"`
	Exceeds           *bool          `json:"isExceedingThreshold"`
	Price             string         `json:"tradePrice"`
	Currency          string         `json:"tradeCurrency"`
}

// driveVerification starts a user verification (contract 2.4) for one of the
// customers, and gives the id and time that the enclave gave it.
func (r *robot) driveVerification(ctx context.Context, _ *http.Request, body []byte) ([]byte, error) {
	o := order{Price: "1000", Currency: "USD"}
	if err := read(body, &o); err != nil {
		return nil, err
	}
	from, err := r.completeOrder(&o)
	if err != nil {
		return nil, err
	}
	answer, err := r.post(ctx, "/v1/verifications", r.orderText(&o, from))
	if err != nil {
		return nil, err
	}
	var begun struct {
		UUID string `json:"verificationUuid"`
	}
	if err := wirejson.Unmarshal(answer, &begun); err != nil || begun.UUID == "" {
		return nil, &refusal{http.StatusBadGateway, "ENCLAVE-ANSWER", "The enclave answered 200 without a verificationUuid."}
	}
	// The result may have been called back before this.
	r.transfers.update(transferKey{sends, begun.UUID}, func(t *transfer) {
		t.counterparty, t.symbol, t.network, t.amount = o.BeneficiaryVASP, o.Symbol, o.Network, o.Amount
		t.from, t.to = from.number, o.Address
	})
	return answer, nil
}

// completeOrder checks an order, fills in what was left out, and gives the
// account that sends.
func (r *robot) completeOrder(o *order) (*account, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	if o.Amount == "" {
		return nil, missing("amount")
	}
	for _, n := range []struct{ name, text string }{{"amount", o.Amount}, {"tradePrice", o.Price}} {
		if _, err := parseAmount(n.text); err != nil {
			return nil, invalid(n.name, err.Error())
		}
	}
	if err := checkPersons("originatorPersons", o.OriginatorPersons); err != nil {
		return nil, err
	}
	from := r.book.sender(o.Symbol, o.OriginatorAccount)
	if from == nil && o.OriginatorAccount != "" {
		return nil, invalid("originatorAccountNumber", "no customer of the robot has that account of the symbol")
	}
	if from == nil {
		return nil, invalid("symbol", "no customer of the robot can send it: add one in ROBOT_CUSTOMERS_FILE")
	}
	if o.Required == "" {
		o.Required = r.defaultRequired(&o.target)
	}
	return from, nil
}

// sender is the account that sends: the one named, or the first of a customer
// against whom there is nothing. Nil when there is none.
func (b *book) sender(symbol, number string) *account {
	if number != "" {
		return b.accounts[keyOf(symbol, number)]
	}
	for _, c := range b.customers {
		for _, a := range c.accounts {
			if strings.EqualFold(a.symbol, symbol) && !c.unverified && c.deny == nil {
				return a
			}
		}
	}
	return nil
}

// defaultRequired asks for the account and the name of the kind of person that
// the beneficiary is.
func (r *robot) defaultRequired(to *target) string {
	var party struct {
		Persons []ivms101.Person `json:"beneficiaryPersons"`
	}
	_ = wirejson.Unmarshal(r.beneficiary(to), &party) // checked before
	if slices.ContainsFunc(party.Persons, func(p ivms101.Person) bool { return p.Legal != nil }) {
		return list([]ivms101.Code{ivms101.AccountNumber, ivms101.LegalPersonName})
	}
	return list([]ivms101.Code{ivms101.AccountNumber, ivms101.NaturalPersonName})
}

func (r *robot) orderText(o *order, from *account) []byte {
	var asset, originator, t text
	asset.str("symbol", o.Symbol)
	if o.Network != "" {
		asset.str("network", o.Network)
	}
	asset.str("amount", o.Amount)
	asset.boolean("isExceedingThreshold", o.Exceeds == nil || *o.Exceeds)
	asset.str("tradePrice", o.Price)
	asset.str("tradeCurrency", o.Currency)
	asset.str("tradeISODatetime", timestamp(r.now()))

	persons := o.OriginatorPersons
	if persons == nil {
		persons = from.persons
	}
	account, _ := jsontext.AppendQuote([]byte{'['}, from.number)
	originator.raw("originatorPersons", persons)
	originator.raw("accountNumber", append(account, ']'))

	t.str("keyType", o.KeyType)
	t.str("beneficiaryVaspId", o.BeneficiaryVASP)
	t.raw("assetInfo", asset.end())
	t.str("requiredBeneficiaryInfo", o.Required)
	t.raw("payload", payload(originator.end(), r.beneficiary(&o.target)))
	return t.end()
}

// timestamp is a time as the contract writes it (2.0).
func timestamp(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05.000Z") }

// recall asks the enclave's history for a transfer of a customer that the
// robot does not know, or only half: it may have been started by somebody
// else, or before the robot was. False when the enclave does not know it
// either, or as another VASP's: the history has what came as well.
func (r *robot) recall(ctx context.Context, id string) (transfer, bool) {
	if r.enclave == nil || checkUUID(id) != nil {
		return transfer{}, false
	}
	found, err := r.enclave.lookup(ctx, id)
	if err != nil {
		return transfer{}, false
	}
	if self, err := r.enclave.self(ctx); err != nil || found.OriginatingVASP != self {
		return transfer{}, false
	}
	return r.transfers.update(transferKey{sends, id}, func(t *transfer) {
		t.counterparty, t.symbol, t.network, t.amount = found.BeneficiaryVASP, found.Asset.Symbol, found.Asset.Network, found.Asset.Amount
		t.from, t.to = found.From, found.To
		if found.Result != "WAIT" {
			t.result, t.reason = found.Result, found.Reason
		}
		switch {
		case found.TxHash != nil && *found.TxHash != "" && t.txHash == "":
			vout := ""
			if found.VOut != nil {
				vout = *found.VOut
			}
			t.settle(processing, *found.TxHash, vout)
			t.paid, t.reported = true, true // before our time
		case t.result == "DENIED" || t.result == "ERROR":
			t.settle(canceled, "", "")
		}
	}), true
}

// sent is a transfer that a customer sends, as it is known here or in the
// enclave's history.
func (r *robot) sent(ctx context.Context, id string) (transfer, error) {
	if err := checkUUID(id); err != nil {
		return transfer{}, err
	}
	t, known := r.transfers.get(transferKey{sends, id})
	if !known || t.result == "" || t.amount == "" {
		if recalled, found := r.recall(ctx, id); found {
			return recalled, nil
		}
	}
	if !known {
		return transfer{}, &refusal{http.StatusNotFound, "VERIFICATION-NOT-FOUND", "Neither the robot nor its enclave knows such a verification of a customer who sends."}
	}
	return t, nil
}

// driveWithdrawal pretends to broadcast a verified transfer and reports it,
// unless told to omit that. Done again it moves nothing, and reports what was
// not reported yet.
func (r *robot) driveWithdrawal(ctx context.Context, _ *http.Request, body []byte) ([]byte, error) {
	var q struct {
		UUID string `json:"verificationUuid"`
		Omit bool   `json:"omitTxReport"`
		VOut string `json:"vout"`
	}
	if err := read(body, &q); err != nil {
		return nil, err
	}
	if _, err := r.sent(ctx, q.UUID); err != nil {
		return nil, err
	}
	var no error
	t := r.transfers.update(transferKey{sends, q.UUID}, func(t *transfer) { no = r.pay(t, q.VOut) })
	if no != nil {
		return nil, no
	}
	if !q.Omit && !t.reported {
		if _, err := r.report(ctx, t.uuid, t.txHash, t.vout); err != nil {
			return nil, err
		}
		t.reported = true
	}
	return t.text(), nil
}

// pay moves a transfer's coins, once.
func (r *robot) pay(t *transfer, vout string) error {
	conflict := func(code, message string) error { return &refusal{http.StatusConflict, code, message} }
	switch {
	case t.paid:
		return nil
	case t.status == canceled:
		return conflict("CANCELED", "The transfer was canceled, or its verification failed: start a new verification.")
	case t.result == "":
		return conflict("NOT-VERIFIED", "The verification has no result yet: wait for its VERIFICATION_RESULT.")
	case t.result != "VERIFIED":
		return conflict("NOT-VERIFIED", "Only a VERIFIED transfer is sent: start a new verification.")
	case r.book.accounts[keyOf(t.symbol, t.from)] == nil:
		return conflict("NOT-OURS", "No customer of the robot has the account that sends.")
	}
	amount, err := parseAmount(t.amount)
	if err != nil {
		return invalid("amount", err.Error())
	}
	if err := r.chain.move(keyOf(t.symbol, t.from), keyOf(t.symbol, t.to), amount); err != nil {
		return conflict("INSUFFICIENT-BALANCE", "The account has too little: send less, or give it more in ROBOT_CUSTOMERS_FILE.")
	}
	t.paid = true
	hash := t.txHash
	if hash == "" {
		hash = newHash(t.symbol)
	} else if vout == "" {
		vout = t.vout
	}
	t.settle(processing, hash, vout)
	return nil
}

// report tells the enclave a transaction's hash (contract 2.7).
func (r *robot) report(ctx context.Context, id, txHash, vout string) ([]byte, error) {
	var t text
	t.str("verificationUuid", id)
	t.str("txHash", txHash)
	if vout != "" {
		t.str("vout", vout)
	}
	answer, err := r.post(ctx, "/v1/verifications/tx", t.end())
	if err != nil {
		return nil, err
	}
	r.transfers.update(transferKey{sends, id}, func(t *transfer) {
		if !broadcast(t.status) {
			t.settle(processing, txHash, vout)
		} else {
			t.settle(t.status, txHash, vout)
		}
		t.reported = true
	})
	return answer, nil
}

// driveReport reports a transaction: the given one, or the one of a
// withdrawal that was not reported.
func (r *robot) driveReport(ctx context.Context, _ *http.Request, body []byte) ([]byte, error) {
	var q struct {
		UUID   string `json:"verificationUuid"`
		TxHash string `json:"txHash"`
		VOut   string `json:"vout"`
	}
	if err := read(body, &q); err != nil {
		return nil, err
	}
	if err := checkUUID(q.UUID); err != nil {
		return nil, err
	}
	if q.TxHash == "" {
		t, _ := r.transfers.get(transferKey{sends, q.UUID})
		if t.txHash == "" {
			return nil, &refusal{http.StatusConflict, "NO-TX-HASH", "There is no transaction yet: withdraw first, or give `txHash`."}
		}
		q.TxHash = t.txHash
		if q.VOut == "" {
			q.VOut = t.vout
		}
	}
	return r.report(ctx, q.UUID, q.TxHash, q.VOut)
}

// driveError reports that a transfer will never come (contract 2.8).
func (r *robot) driveError(ctx context.Context, _ *http.Request, body []byte) ([]byte, error) {
	q := struct {
		UUID    string `json:"verificationUuid"`
		Result  string `json:"result"`
		Reason  string `json:"reason"`
		Message string `json:"message"`
	}{Result: "ERROR", Reason: "USER-CANCELED"}
	if err := read(body, &q); err != nil {
		return nil, err
	}
	if err := checkUUID(q.UUID); err != nil {
		return nil, err
	}
	var t text
	t.str("verificationUuid", q.UUID)
	t.str("result", q.Result)
	t.str("reason", q.Reason)
	if q.Message != "" {
		t.str("message", q.Message)
	}
	answer, err := r.post(ctx, "/v1/verifications/error", t.end())
	if err != nil {
		return nil, err
	}
	r.transfers.update(transferKey{sends, q.UUID}, func(t *transfer) {
		t.result, t.reason = q.Result, q.Reason
		r.cancel(t)
	})
	return answer, nil
}

// cancel ends a transfer for good; coins that moved come back.
func (r *robot) cancel(t *transfer) {
	if final(t.status) {
		return
	}
	t.settle(canceled, "", "")
	amount, err := parseAmount(t.amount)
	if !t.paid || err != nil {
		return
	}
	t.paid = false
	r.chain.undo(keyOf(t.symbol, t.from), keyOf(t.symbol, t.to), amount)
}

// driveInquiry asks the originating VASP for a transaction (contract 2.9).
func (r *robot) driveInquiry(ctx context.Context, _ *http.Request, body []byte) ([]byte, error) {
	var q struct {
		UUID string `json:"verificationUuid"`
	}
	if err := read(body, &q); err != nil {
		return nil, err
	}
	if err := checkUUID(q.UUID); err != nil {
		return nil, err
	}
	return r.inquire(ctx, q.UUID)
}

func (r *robot) inquire(ctx context.Context, id string) ([]byte, error) {
	var t text
	t.str("verificationUuid", id)
	answer, err := r.post(ctx, "/v1/verifications/tx/inquiry", t.end())
	if err != nil {
		return nil, err
	}
	var told struct {
		Status string `json:"transactionStatus"`
		TxHash string `json:"txHash"`
		VOut   string `json:"vout"`
	}
	if wirejson.Unmarshal(answer, &told) == nil {
		r.arrived(id, told.Status, told.TxHash, told.VOut)
	}
	return answer, nil
}

// driveStatus sets where a transfer stands that a customer sends, and gives
// what is known of it. A final state is not left.
func (r *robot) driveStatus(ctx context.Context, _ *http.Request, body []byte) ([]byte, error) {
	var q struct {
		UUID   string `json:"verificationUuid"`
		Status string `json:"transactionStatus"`
		TxHash string `json:"txHash"`
		VOut   string `json:"vout"`
	}
	if err := read(body, &q); err != nil {
		return nil, err
	}
	if !slices.Contains(states, q.Status) {
		return nil, invalid("transactionStatus", "use one of "+strings.Join(states, ", "))
	}
	if _, err := r.sent(ctx, q.UUID); err != nil {
		return nil, err
	}
	var no error
	t := r.transfers.update(transferKey{sends, q.UUID}, func(t *transfer) { no = r.set(t, q.Status, q.TxHash, q.VOut) })
	if no != nil {
		return nil, no
	}
	return t.text(), nil
}

func (r *robot) set(t *transfer, status, txHash, vout string) error {
	switch {
	case final(t.status) && t.status != status:
		return &refusal{http.StatusConflict, "FINAL", fmt.Sprintf("The transfer is %s, which is final.", t.status)}
	case status == canceled:
		r.cancel(t)
		return nil
	case txHash == "" && t.txHash == "" && broadcast(status):
		txHash = newHash(t.symbol)
	}
	t.settle(status, txHash, vout)
	return nil
}

// balance tells what an address has on the robot's pretended chain. The chain
// is one for all VASPs: vaspId is checked and given back.
func (r *robot) balance(_ context.Context, h *http.Request, _ []byte) ([]byte, error) {
	q, err := url.ParseQuery(h.URL.RawQuery)
	if err != nil {
		return nil, &refusal{http.StatusBadRequest, "INVALID-QUERY", "The query is refused: write it as name=value&name=value, percent-encoded."}
	}
	for name, values := range q {
		if len(values) > 1 || !slices.Contains([]string{"vaspId", "symbol", "address"}, name) {
			return nil, &refusal{http.StatusBadRequest, "INVALID-QUERY", "The query is refused: use vaspId, symbol and address, each once."}
		}
	}
	vaspID, symbol, address := q.Get("vaspId"), q.Get("symbol"), q.Get("address")
	switch {
	case symbol == "":
		return nil, missing("symbol")
	case address == "":
		return nil, missing("address")
	}
	if vaspID != "" {
		if err := checkVASP("vaspId", vaspID); err != nil {
			return nil, err
		}
	}
	var t text
	if vaspID != "" {
		t.str("vaspId", vaspID)
	}
	t.str("symbol", symbol)
	t.str("address", address)
	t.str("balance", formatAmount(r.chain.balance(keyOf(symbol, address))))
	return t.end(), nil
}

// seen gives the requests and callbacks in one text.
func (r *robot) seen(context.Context, *http.Request, []byte) ([]byte, error) {
	var t text
	t.raw("requests", r.requests.asRequests())
	t.raw("callbacks", r.callbacks.asBodies())
	return t.end(), nil
}

// listTransfers gives what is known of every transfer.
func (r *robot) listTransfers(context.Context, *http.Request, []byte) ([]byte, error) {
	var list []byte
	for _, known := range r.transfers.list() {
		if list != nil {
			list = append(list, ",\n"...)
		}
		list = append(list, known.text()...)
	}
	var t text
	t.raw("verifications", slices.Concat([]byte{'['}, list, []byte{']'}))
	return t.end(), nil
}

// inquireUntil asks by itself about transfers of which nobody reported a
// transaction, until ctx ends.
func (r *robot) inquireUntil(ctx context.Context) {
	if r.inquireAfter <= 0 || r.enclave == nil {
		return
	}
	tick := time.NewTicker(min(time.Second, max(10*time.Millisecond, r.inquireAfter/4)))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.inquireDue(ctx)
		}
	}
}

// inquireDue makes the inquiries that are due now. One that fails is made
// again when the next is due.
func (r *robot) inquireDue(ctx context.Context) {
	for _, key := range r.transfers.due(r.now(), r.inquireAfter) {
		_, _ = r.inquire(ctx, key.uuid)
	}
}
