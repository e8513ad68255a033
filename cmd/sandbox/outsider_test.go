package sandbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox/outsider"
)

// outside is a VASP whose backend is somebody else's work.
type outside struct {
	*outsider.Backend
	id string
}

// outsiders is a running alliance of two VASPs whose backends know the
// contract only; the one is sent its token as a bearer, the other raw.
func outsiders(t *testing.T) (a, b *outside) {
	t.Helper()
	alliance := prepare(t, sandbox.Options{})
	var both []*outside
	for i, header := range []string{"Authorization", "X-Api-Key"} {
		v := alliance.VASPs[i]
		backend, err := outsider.Listen(header, v.Token)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = backend.Close()
			for _, wrong := range backend.Complaints() {
				t.Errorf("the backend of %s complains: %s", v.Name, wrong)
			}
			if backend.Refused() == 0 {
				t.Errorf("the backend of %s has taken every callback at once, which it never does", v.Name)
			}
		})
		backend.Enclave = outsider.Enclave{Base: v.API, Client: &http.Client{Timeout: 20 * time.Second}}
		v.Enclave.Env = append(v.Enclave.Env,
			"VEGA_VERIFICATION_ACCOUNT_API_PATH="+backend.URL+"/account", "VEGA_VERIFICATION_API_PATH="+backend.URL+"/user",
			"VEGA_VERIFICATION_TRANSACTION_API_PATH="+backend.URL+"/tx", "VEGA_VERIFICATION_CALLBACK_API_PATH="+backend.URL+"/callback")
		if header != "Authorization" {
			v.Enclave.Env = append(v.Enclave.Env, "VEGA_VERIFICATION_AUTHORIZATION_KEY="+header)
		}
		both = append(both, &outside{backend, v.ID})
	}
	if err := alliance.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return both[0], both[1]
}

// Two backends that know nothing but the contract go through every flow of
// its section 1.2, with each key type, in both directions.
func TestABackendThatKnowsTheContractOnly(t *testing.T) {
	a, b := outsiders(t)
	for _, v := range []*outside{a, b} {
		meetsTheAlliance(t, v, a.id, b.id)
	}
	t.Run("flows", func(t *testing.T) {
		for i, keyType := range []string{"PerVasp", "PerAddress", "PerVerification"} {
			from, to := a, b
			if i == 1 {
				from, to = b, a
			}
			t.Run(keyType, func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				f := &flows{T: t, ctx: ctx, keyType: keyType, from: from, to: to}
				timedOut := f.begins("late", func(*outsider.Question) outsider.Answer {
					return outsider.Answer{Result: "VERIFIED", Reason: "OK", After: 5500 * time.Millisecond}
				})
				f.accounts()
				f.verified()
				f.denied()
				f.missingInformation()
				f.anotherAccount()
				f.errorReport()
				f.transactionReport()
				f.inquiries()
				f.oneTransactionForMany()
				f.unmatchedDeposit()
				f.selfTransfer()
				f.refusals()
				f.ends(timedOut, "ERROR", "REQUEST-TIMEOUT", "Request timeout.")
			})
		}
	})
}

// meetsTheAlliance is step 1 of every flow.
func meetsTheAlliance(t *testing.T, v *outside, ids ...string) {
	t.Helper()
	if up, err := v.Enclave.Health(t.Context()); up != "UP" {
		t.Errorf("health = %q, %v", up, err)
	}
	if id, err := v.Enclave.Self(t.Context()); id != v.id {
		t.Errorf("self = %q, %v, want %s", id, err, v.id)
	}
	for protocol, want := range map[string]int{"": len(ids), "ALL": len(ids), "VERIFYVASP": len(ids), "CODE": 0} {
		all, err := v.Enclave.VASPs(t.Context(), protocol)
		if err != nil || len(all) != want {
			t.Errorf("the directory for protocol %q has %d VASPs, %v, want %d", protocol, len(all), err, want)
		}
		for _, m := range all {
			if m.Health != "UP" || m.VaspStatus != "VERIFIED-MEMBER" || !slices.Contains(ids, m.VaspID) || m.VaspName == "" {
				t.Errorf("the directory has %+v", m)
			}
		}
	}
}

// flows are one key type's, from one VASP to another.
type flows struct {
	*testing.T
	ctx      context.Context
	keyType  string
	from, to *outside
	deposits int
}

const (
	joe = `{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":"Doe","secondaryIdentifier":"Joe","nameIdentifierType":"LEGL"}]}}}`
	ann = `{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":"Roe","secondaryIdentifier":"Ann","nameIdentifierType":"LEGL"}]}}}`
	// annWithBirth is what is sent when more is asked for.
	annWithBirth = `{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":"Roe","secondaryIdentifier":"Ann","nameIdentifierType":"LEGL"}]},"dateAndPlaceOfBirth":{"dateOfBirth":"1990-01-02","placeOfBirth":"Oslo"}}}`
	sender       = "0xSender"
)

// account is an address of the flow's own.
func (f *flows) account(name string) string { return "0x" + f.keyType + "-" + name }

// known is a customer's answer: what was asked for, and more, which the
// enclave must take away.
func known(account string) func(*outsider.Question) outsider.Answer {
	return func(*outsider.Question) outsider.Answer {
		told := strings.Replace(joe, `{"naturalPerson":{`, `{"naturalPerson":{"nationality":"NO",`, 1)
		return outsider.Answer{Result: "VERIFIED", Reason: "OK", Beneficiary: fmt.Appendf(nil, `{"beneficiaryPersons":[%s],"accountNumber":[%q]}`, told, account)}
	}
}

func denial(reason, message string) func(*outsider.Question) outsider.Answer {
	return func(*outsider.Question) outsider.Answer {
		return outsider.Answer{Result: "DENIED", Reason: reason, Message: message}
	}
}

func (f *flows) request(to, account, originator string) outsider.VerificationRequest {
	f.deposits++
	return outsider.VerificationRequest{
		KeyType: f.keyType, BeneficiaryVaspID: to,
		AssetInfo: outsider.Asset{Symbol: "ETH", Network: "Ethereum", Amount: fmt.Sprintf("1.%d", f.deposits), IsExceedingThreshold: true,
			TradePrice: "4100.00", TradeCurrency: "USD", TradeISODatetime: "2026-01-15T09:30:00.000Z"},
		RequiredBeneficiaryInfo: "ACCOUNT_NUMBER,NATURAL_PERSON_NAME",
		Payload: outsider.Payload{Version: "1.0", IVMS101: outsider.IVMS101{
			Originator:  &outsider.Party{OriginatorPersons: []json.RawMessage{[]byte(originator)}, AccountNumber: []string{sender}},
			Beneficiary: &outsider.Party{BeneficiaryPersons: []json.RawMessage{[]byte(joe)}, AccountNumber: []string{account}},
		}},
	}
}

// begins scripts the receiver and sends it a verification.
func (f *flows) begins(name string, script func(*outsider.Question) outsider.Answer) (id string) {
	f.Helper()
	f.to.Says(f.account(name), script)
	return f.sends(f.request(f.to.id, f.account(name), ann))
}

func (f *flows) sends(r outsider.VerificationRequest) (id string) {
	f.Helper()
	id, err := f.from.Enclave.Verify(f.ctx, r)
	if err != nil {
		f.Fatal(err)
	}
	return id
}

// ends waits for a verification's end, and looks at what both VASPs have.
func (f *flows) ends(id, result, reason, message string) *outsider.Callback {
	f.Helper()
	c := f.told(f.from, "VERIFICATION_RESULT", id)
	if d := c.Data; d.VerificationResult != result || d.Reason != reason || d.Message != message {
		f.Errorf("the callback says %s %s %q, want %s %s %q", d.VerificationResult, d.Reason, d.Message, result, reason, message)
	}
	for _, v := range []*outside{f.from, f.to} {
		f.has(v, id, result, reason, message)
	}
	return c
}

// told waits for a callback.
func (f *flows) told(v *outside, kind, id string) *outsider.Callback {
	f.Helper()
	c, err := v.Await(f.ctx, kind, id)
	if err != nil {
		f.Fatal(err)
	}
	return c
}

func (f *flows) row(v *outside, id string) *outsider.Row {
	f.Helper()
	r, err := v.Enclave.Row(f.ctx, id)
	if err != nil {
		f.Fatal(err)
	}
	return r
}

func (f *flows) has(v *outside, id, result, reason, message string) {
	f.Helper()
	if r := f.row(v, id); r.Result != result || r.Reason != reason || r.Message != message {
		f.Errorf("the history of %s says %s %s %q, want %s %s %q", v.id, r.Result, r.Reason, r.Message, result, reason, message)
	}
}

func (f *flows) list(v *outside, want int, filters ...string) []outsider.Row {
	f.Helper()
	rows, err := v.Enclave.List(f.ctx, filters...)
	if err != nil || len(rows) != want {
		f.Fatalf("the list for %q has %d rows, %v, want %d", filters, len(rows), err, want)
	}
	return rows
}

// accounts are steps 2 to 5: the answer of the receiver's backend is the
// answer to the sender's.
func (f *flows) accounts() {
	f.Helper()
	check := func(account string, persons ...json.RawMessage) *outsider.AccountAnswer {
		f.Helper()
		a, err := f.from.Enclave.CheckAccount(f.ctx, outsider.AccountRequest{KeyType: f.keyType, BeneficiaryVaspID: f.to.id, Symbol: "ETH", Network: "Ethereum",
			Payload: outsider.Payload{Version: "1.0", IVMS101: outsider.IVMS101{Beneficiary: &outsider.Party{BeneficiaryPersons: persons, AccountNumber: []string{account}}}}})
		if err != nil {
			f.Fatal(err)
		}
		return a
	}
	account := f.account("checked")
	f.to.Says(account, known(account))
	for _, persons := range [][]json.RawMessage{nil, {[]byte(joe)}} {
		if a := check(account, persons...); a.Result != "VERIFIED" || a.Reason != "" {
			f.Errorf("an account check says %+v, want VERIFIED", a)
		}
	}
	for reason, message := range map[string]string{
		"UNKNOWN-SYMBOL": "ETH", "UNKNOWN-NETWORK": "Ethereum", "UNKNOWN-ADDRESS": account, "MISMATCHED-NAME": "",
		"BLACKLISTED": account, "UNVERIFIED-KYC": "", "UNDEFINED-ERROR": "Try again on Monday.",
	} {
		f.to.Says(account, denial(reason, message))
		if a := check(account); a.Result != "DENIED" || a.Reason != reason || a.Message != message {
			f.Errorf("an account check says %+v, want DENIED %s %q", a, reason, message)
		}
	}
	if a := check(f.account("nobody's")); a.Result != "DENIED" || a.Reason != "UNKNOWN-ADDRESS" || a.Message != f.account("nobody's") {
		f.Errorf("an account check says %+v of nobody's account", a)
	}
	f.list(f.from, 0, "beneficiaryAccountNumber", account) // no verification came of it
}

// verified are steps 6 to 8.
func (f *flows) verified() {
	f.Helper()
	id := f.begins("verified", known(f.account("verified")))
	c := f.ends(id, "VERIFIED", "OK", "")
	var told outsider.Party
	if err := json.Unmarshal(c.Data.IVMS101["beneficiary"], &told); err != nil || !slices.Equal(told.AccountNumber, []string{f.account("verified")}) || len(told.BeneficiaryPersons) != 1 {
		f.Fatalf("the callback tells %s of the beneficiary: %v", c.Data.IVMS101["beneficiary"], err)
	}
	if person := string(told.BeneficiaryPersons[0]); !strings.Contains(person, "Doe") || strings.Contains(person, "nationality") {
		f.Errorf("the callback tells %s, want the name that was asked for and nothing else", person)
	}
	for _, v := range []*outside{f.from, f.to} {
		r := f.row(v, id)
		if r.OriginatingVaspID != f.from.id || r.BeneficiaryVaspID != f.to.id || r.OriginatorAccountNumber != sender || r.BeneficiaryAccountNumber != f.account("verified") ||
			r.AssetInfo.Amount == "" || r.TxHash != nil || r.VOut != nil || r.OrderedAt != nil || r.VerifiedAt == nil || r.CreatedAt == nil {
			f.Errorf("the row of %s is %+v", v.id, r)
		}
		for name, part := range map[string]*string{"originator": r.IVMS101Originator, "beneficiary": r.IVMS101Beneficiary, "originating VASP": r.IVMS101OriginatingVasp, "beneficiary VASP": r.IVMS101BeneficiaryVasp} {
			if part == nil || !json.Valid([]byte(*part)) {
				f.Errorf("the row of %s has no JSON for the %s", v.id, name)
			}
		}
	}
	for v, action := range map[*outside]string{f.from: "SEND", f.to: "RECEIVE"} {
		f.list(v, 1, "actionType", action, "result", "VERIFIED", "symbol", "eth", "network", "ETHEREUM", "beneficiaryAccountNumber", f.account("verified"))
	}
}

// denied is step 8 with every reason of contract 6.2, and its message.
func (f *flows) denied() {
	f.Helper()
	ids := map[string]string{}
	messages := map[string]string{
		"UNKNOWN-SYMBOL": "ETH", "UNKNOWN-NETWORK": "Ethereum", "UNKNOWN-ADDRESS": f.account("UNKNOWN-ADDRESS"), "MISMATCHED-NAME": "",
		"LACK-OF-INFORMATION": "NATURAL_PERSON_NATIONALITY,NATURAL_PERSON_GEOGRAPHIC_ADDRESS", "UNAVAILABLE-INFORMATION": "NATURAL_PERSON_NAME",
		"BLACKLISTED": f.account("BLACKLISTED"), "UNVERIFIED-KYC": "", "NOT-ALLOWED": "No transfers over 1 ETH.", "UNDEFINED-ERROR": "Try again on Monday.",
	}
	for reason, message := range messages {
		ids[reason] = f.begins(reason, denial(reason, message))
	}
	for reason, message := range messages {
		c := f.ends(ids[reason], "DENIED", reason, message)
		for _, part := range []string{"originator", "beneficiary", "originatingVASP", "beneficiaryVASP"} {
			if c.Data.IVMS101[part] == nil {
				f.Errorf("the callback of a denial lacks %s", part)
			}
		}
	}
	f.ends(f.sends(f.request(f.to.id, f.account("no one's"), ann)), "DENIED", "UNKNOWN-ADDRESS", f.account("no one's"))
}

// missingInformation is contract 6.2's end: after LACK-OF-INFORMATION comes a
// new verification with what was missing.
func (f *flows) missingInformation() {
	f.Helper()
	const code = "NATURAL_PERSON_DATE_AND_PLACE_OF_BIRTH"
	account := f.account("strict")
	id := f.begins("strict", func(q *outsider.Question) outsider.Answer {
		if !strings.Contains(string(q.IVMS101.Originator.OriginatorPersons[0]), "dateAndPlaceOfBirth") {
			return outsider.Answer{Result: "DENIED", Reason: "LACK-OF-INFORMATION", Message: code}
		}
		return known(account)(q)
	})
	f.ends(id, "DENIED", "LACK-OF-INFORMATION", code)
	f.ends(f.sends(f.request(f.to.id, account, annWithBirth)), "VERIFIED", "OK", "")
}

// anotherAccount is what the originator's enclave finds out.
func (f *flows) anotherAccount() {
	f.Helper()
	id := f.begins("asked", known(f.account("answered")))
	c := f.told(f.from, "VERIFICATION_RESULT", id)
	if d := c.Data; d.VerificationResult != "ERROR" || d.Reason != "BENEFICIARY-ACCOUNT-NOT-MATCHED" || d.Message != "Beneficiary account is not matched with requested account." {
		f.Errorf("about another account the callback says %s %s %q", d.VerificationResult, d.Reason, d.Message)
	}
}

// errorReport is step 9: both histories change, and the receiver is told.
func (f *flows) errorReport() {
	f.Helper()
	id := f.begins("given up", known(f.account("given up")))
	f.ends(id, "VERIFIED", "OK", "")
	if err := f.from.Enclave.ReportError(f.ctx, id, "ERROR", "USER-CANCELED", "The customer changed her mind."); err != nil {
		f.Fatal(err)
	}
	f.has(f.from, id, "ERROR", "USER-CANCELED", "The customer changed her mind.")
	c := f.told(f.to, "ERROR_REPORT", id)
	if d := c.Data; d.Result != "ERROR" || d.Reason != "USER-CANCELED" || d.Message != "The customer changed her mind." {
		f.Errorf("the error report's callback says %+v", d)
	}
	f.has(f.to, id, "ERROR", "USER-CANCELED", "The customer changed her mind.")
	f.list(f.to, 1, "result", "ERROR", "beneficiaryAccountNumber", f.account("given up"))
}

// reports tells both VASPs of a transaction, and waits until both know it.
func (f *flows) reports(id, hash, vout string) {
	f.Helper()
	if err := f.from.Enclave.ReportTransaction(f.ctx, id, hash, vout); err != nil {
		f.Fatal(err)
	}
	if c := f.told(f.to, "TX_REPORT", id); c.Data.TxHash != hash || c.Data.VOut != vout {
		f.Errorf("the transaction report's callback says %q, %q, want %q, %q", c.Data.TxHash, c.Data.VOut, hash, vout)
	}
	for _, v := range []*outside{f.from, f.to} {
		r := f.row(v, id)
		if r.TxHash == nil || *r.TxHash != hash || r.OrderedAt == nil || (r.VOut == nil) != (vout == "") || r.VOut != nil && *r.VOut != vout || r.Result != "VERIFIED" {
			f.Errorf("after the report the row of %s is %+v", v.id, r)
		}
	}
}

// transactionReport is step 10.
func (f *flows) transactionReport() {
	f.Helper()
	id := f.begins("paid", known(f.account("paid")))
	f.ends(id, "VERIFIED", "OK", "")
	f.reports(id, "0xPaid"+f.keyType, "")
}

// inquiries are step 11, in each status of contract 6.3.
func (f *flows) inquiries() {
	f.Helper()
	id := f.begins("inquired", known(f.account("inquired")))
	f.ends(id, "VERIFIED", "OK", "")
	for _, s := range []outsider.Status{
		{TransactionStatus: "PENDING"}, {TransactionStatus: "PROCESSING", TxHash: "0xInquired"},
		{TransactionStatus: "WAIT-CONFIRM", TxHash: "0xInquired", VOut: "1"}, {TransactionStatus: "CONFIRMED", TxHash: "0xInquired", VOut: "1"}, {TransactionStatus: "CANCELED"},
	} {
		s.VerificationUUID = id
		f.from.Stands(s)
		if got, err := f.to.Enclave.Inquire(f.ctx, id); err != nil || *got != s {
			f.Errorf("the inquiry says %+v, %v, want %+v", got, err, s)
		}
	}
}

// oneTransactionForMany is several withdrawals in one chain transaction: the
// same hash once for each, told apart by vout.
func (f *flows) oneTransactionForMany() {
	f.Helper()
	const n = 3
	hash := "0xBatch" + f.keyType
	var ids []string
	for i := range n {
		name := fmt.Sprintf("batch-%d", i)
		ids = append(ids, f.begins(name, known(f.account(name))))
	}
	for i, id := range ids {
		f.ends(id, "VERIFIED", "OK", "")
		f.reports(id, hash, fmt.Sprint(i))
	}
	for _, v := range []*outside{f.from, f.to} {
		for _, r := range f.list(v, n, "txHash", hash) {
			if at := slices.Index(ids, r.VerificationUUID); at < 0 || r.VOut == nil || *r.VOut != fmt.Sprint(at) || r.BeneficiaryAccountNumber != f.account(fmt.Sprintf("batch-%d", at)) {
				f.Errorf("%s has the row %+v for the hash", v.id, r)
			}
		}
	}
}

// unmatchedDeposit is contract 1.2's recipe for a deposit without a report.
func (f *flows) unmatchedDeposit() {
	f.Helper()
	hash, name := "0xDeposit"+f.keyType, "deposit"
	other := f.begins(name, known(f.account(name)))
	paid := f.begins(name, known(f.account(name)))
	for _, id := range []string{other, paid} {
		f.ends(id, "VERIFIED", "OK", "")
	}
	amount := f.row(f.to, paid).AssetInfo.Amount // as the chain shows it
	f.from.Stands(outsider.Status{VerificationUUID: paid, TransactionStatus: "CONFIRMED", TxHash: hash})

	f.list(f.to, 0, "txHash", hash)
	var found []string
	for _, r := range f.list(f.to, 2, "originatorAccountNumber", sender, "beneficiaryAccountNumber", f.account(name)) {
		if r.AssetInfo.Amount != amount {
			continue
		}
		s, err := f.to.Enclave.Inquire(f.ctx, r.VerificationUUID)
		if err != nil {
			f.Fatal(err)
		}
		if s.TxHash == hash {
			found = append(found, r.VerificationUUID)
		}
	}
	if !slices.Equal(found, []string{paid}) {
		f.Errorf("the deposit belongs to %q, want %q", found, paid)
	}
	f.reports(paid, hash, "") // it comes late
	f.list(f.to, 1, "txHash", hash)
}

// selfTransfer is a transfer whose VASP is on both sides.
func (f *flows) selfTransfer() {
	f.Helper()
	self := &flows{T: f.T, ctx: f.ctx, keyType: f.keyType, from: f.from, to: f.from}
	id := self.begins("own", known(f.account("own")))
	self.ends(id, "VERIFIED", "OK", "")
	self.reports(id, "0xOwn"+f.keyType, "0")
	f.from.Stands(outsider.Status{VerificationUUID: id, TransactionStatus: "CONFIRMED", TxHash: "0xOwn" + f.keyType, VOut: "0"})
	if s, err := f.from.Enclave.Inquire(f.ctx, id); err != nil || s.TransactionStatus != "CONFIRMED" {
		f.Errorf("the inquiry says %+v, %v", s, err)
	}
	if n := len(f.from.Taken(id)); n != 2 {
		f.Errorf("%d callbacks about a transfer to ourselves, want its result and its transaction", n)
	}
	given := self.begins("own", known(f.account("own")))
	self.ends(given, "VERIFIED", "OK", "")
	if err := f.from.Enclave.ReportError(f.ctx, given, "DENIED", "BLACKLISTED", ""); err != nil {
		f.Fatal(err)
	}
	self.told(f.from, "ERROR_REPORT", given)
	f.has(f.from, given, "DENIED", "BLACKLISTED", "")
}

// refusals are the errors of contract 6.4.
func (f *flows) refusals() {
	f.Helper()
	is := func(err error, status int, code string) {
		f.Helper()
		var refused *outsider.Refused
		if !errors.As(err, &refused) || refused.Status != status || refused.Code != code {
			f.Errorf("refused with %v, want %d %s", err, status, code)
		}
	}
	const nobody = "3f0c2a9e-6f0e-4b53-9f38-0f4a3f6d7c11"
	verify := func(change func(*outsider.VerificationRequest)) error {
		r := f.request(f.to.id, f.account("refused"), ann)
		change(&r)
		_, err := f.from.Enclave.Verify(f.ctx, r)
		return err
	}
	is(verify(func(r *outsider.VerificationRequest) { r.BeneficiaryVaspID = "" }), 400, "MISSING-VASP")
	is(verify(func(r *outsider.VerificationRequest) { r.BeneficiaryVaspID = "7" }), 400, "ALLIANCE-NOT-FOUND")
	is(verify(func(r *outsider.VerificationRequest) { r.KeyType = "PerMoon" }), 400, "INVALID-KEY-TYPE")
	is(verify(func(r *outsider.VerificationRequest) { r.RequiredBeneficiaryInfo = "" }), 400, "MISSING-REQUIRED-BENEFICIARY-INFO")
	is(verify(func(r *outsider.VerificationRequest) { r.RequiredBeneficiaryInfo = "NATURAL_PERSON_NAME" }), 400, "INVALID-REQUIRED-BENEFICIARY-INFO")
	f.list(f.from, 0, "beneficiaryAccountNumber", f.account("refused"))

	_, err := f.from.Enclave.Row(f.ctx, nobody)
	is(err, 404, "VERIFICATION-NOT-FOUND")
	is(f.from.Enclave.ReportTransaction(f.ctx, "", "0x1", ""), 400, "MISSING-VERIFICATION-UUID")
	is(f.from.Enclave.ReportTransaction(f.ctx, nobody, "0x1", ""), 400, "VERIFICATION-NOT-FOUND")
	is(f.from.Enclave.ReportError(f.ctx, nobody, "", "OK", ""), 400, "MISSING-RESULT")
	is(f.from.Enclave.ReportError(f.ctx, nobody, "LOST", "OK", ""), 400, "INVALID-RESULT")
	is(f.from.Enclave.ReportError(f.ctx, nobody, "ERROR", "OK", ""), 400, "VERIFICATION-NOT-FOUND")
	_, err = f.to.Enclave.Inquire(f.ctx, "")
	is(err, 400, "MISSING-VERIFICATION-UUID")
	_, err = f.to.Enclave.Inquire(f.ctx, nobody)
	is(err, 400, "VERIFICATION-NOT-FOUND")
	id := f.begins("not yours", known(f.account("not yours")))
	f.ends(id, "VERIFIED", "OK", "")
	_, err = f.from.Enclave.Inquire(f.ctx, id)
	is(err, 400, "VASP-NOT-MATCHED")
}
