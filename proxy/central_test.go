package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// Attacks K1, K2, K3, K4, K5, K7, K10, K12, K13: a hostile central server does
// everything of the catalogue to every message that it can be done to, and to
// every entry of its directory. None is taken for what it is not, each is
// counted under its own reason and no other, no backend hears of any, nothing
// is recorded of it, central learns nothing of anybody, and what was under
// attack ends well, once, when the attack is over.
func TestAHostileCentral(t *testing.T) {
	attacks, books := proxytest.Attacks(), proxytest.BookAttacks()
	names := map[string]bool{}
	tried := 0
	t.Run("messages", func(t *testing.T) {
		for _, kind := range proxytest.Attacked() {
			var these []proxytest.Attack
			for _, a := range attacks {
				if _, applies := a.On[kind]; applies {
					these = append(these, a)
					names[a.Name] = true
				}
			}
			tried += len(these)
			t.Run(kind.String(), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { attackMessages(t, kind, these) })
			})
		}
	})
	t.Run("directory", func(t *testing.T) {
		for _, a := range books {
			names[a.Name] = true
			tried += 2
			t.Run(a.Name, func(t *testing.T) {
				t.Parallel()
				for _, of := range []proxytest.Role{proxytest.Originator, proxytest.Beneficiary} {
					synctest.Test(t, func(t *testing.T) { attackDirectory(t, &a, of) })
				}
			})
		}
	})
	t.Logf("%d named attacks, tried in %d ways: on %d types of messages, and on the directory's word of either side", len(names), tried, len(proxytest.Attacked()))
	if len(names) != len(attacks)+len(books) || len(names) < 60 {
		t.Errorf("%d attacks, %d of them with a name of their own and tried, want 60", len(attacks)+len(books), len(names))
	}
}

func attackMessages(t *testing.T, kind envelope.MessageType, attacks []proxytest.Attack) {
	h := newHostileCentral(t, proxytest.Question(kind))
	for i := range attacks {
		h.run(&attacks[i], kind)
	}
	h.learnsNothing()
	t.Logf("%d attacks on a %s; central saw %d messages", len(attacks), kind, len(h.w.Central.Relayed()))
}

// attackDirectory lets central show both parties a false entry of one of them.
func attackDirectory(t *testing.T, a *proxytest.BookAttack, role proxytest.Role) {
	h := newHostileCentral(t)
	of := h.w.Party(role)
	viewer := of.Other()
	what := fmt.Sprintf("%s (%s), of %s", a.Name, a.ID, of.ID)
	mine := a.Before(h.w, of)
	refused := h.refused()
	h.w.Central.EditDirectory(func(d *relay.Directory) { a.Show(d, of, mine) })
	look := func() {
		time.Sleep(2 * time.Second)
		of.Refresh()
		viewer.Refresh()
	}
	look()
	one := map[bool]float64{true: 1}
	if n := viewer.Metric(pinEvents, audit.ChangePeer); n != one[a.Holds] {
		t.Errorf("%s: %v holds are counted", what, n)
	}
	if n := of.Metric("enclave_identity_misrepresented"); n != one[a.Misnamed] {
		t.Errorf("%s: misrepresented = %v", what, n)
	}
	// In its name the identity that central has a hand in asks for data.
	asked := len(viewer.Backend.Asked())
	h.w.Central.Send(viewer.ID, of.Seal(viewer, proxytest.Message{
		Type: envelope.VerificationRequest, Signer: mine, Payload: payload("", ""), ReplyBundle: h.w.BundleBy(mine, identity.SuiteXWing, nil),
	}))
	if n := len(viewer.Backend.Asked()) - asked; n != 0 {
		t.Errorf("%s: the backend was asked %d times by nobody", what, n)
	}
	want := []proxytest.Refused{{By: 3 - role, Reason: "other-identity"}}
	if a.Holds {
		want[0].Reason = "pin"
	}
	h.counted(what, want, refused)
	x := h.meanwhile(what, a, role)
	h.w.Central.EditDirectory(nil)
	look()
	if a.Holds {
		held, err := viewer.Enclave.PeerView(t.Context(), of.ID)
		if err == nil {
			_, err = viewer.Enclave.AcceptPeer(t.Context(), of.ID, held.Acceptable, "ops")
		}
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if x.id == "" {
		x = h.begin(envelope.VerificationRequest, "PerVasp", "")
	}
	h.ends(x, what+", when it is over")
	if n := of.Metric("enclave_identity_misrepresented"); n != 0 {
		t.Errorf("%s: still misrepresented when it is over", what)
	}
	h.learnsNothing()
}

// meanwhile lets A ask B while the directory lies, and gives the exchange that
// is under way then, if any.
func (h *hostileCentral) meanwhile(what string, a *proxytest.BookAttack, role proxytest.Role) (x exchange) {
	h.t.Helper()
	relayed, asked := len(h.w.Central.Relayed()), len(h.w.B.Backend.Asked())
	if role == proxytest.Beneficiary && (a.Holds || a.Hides) {
		if status, answer := h.w.A.Call(http.MethodPost, "/v1/verifications", request(h.w)); status < 400 {
			h.t.Errorf("%s: a verification = %d %s", what, status, answer)
		}
		if n := h.sealedMessages(relayed); n != 0 {
			h.t.Errorf("%s: %d messages were sealed and sent", what, n)
		}
		return x
	}
	x = h.begin(envelope.VerificationRequest, "PerVasp", "")
	if !a.Holds {
		h.ends(x, what+", while it lasts")
		return x
	}
	time.Sleep(10 * time.Second)
	h.unharmed(what, x, false)
	if n := len(h.w.B.Backend.Asked()) - asked; n != 0 {
		h.t.Errorf("%s: the backend was asked %d times", what, n)
	}
	return x
}

// hostileCentral is a world whose central server attacks, and in which every value
// is marked.
type hostileCentral struct {
	t       *testing.T
	w       *proxytest.World
	central *proxytest.Hostile
	mu      sync.Mutex
	m       markers
	ended   string // a verification, to inquire about
	stands  string // the transaction of every transfer, by A's backend
}

// newHostileCentral lets central see an exchange of a kind, and one of each
// that every transfer needs.
func newHostileCentral(t *testing.T, kinds ...envelope.MessageType) *hostileCentral {
	h := &hostileCentral{t: t, w: proxytest.NewWorld(t, quiet)}
	h.central = h.w.Hostile()
	h.stands = h.next()
	h.w.B.Backend.OnUser(func(_ context.Context, body []byte) (*vasp.UserAnswer, error) {
		account := object(t, body)["ivms101"].(map[string]any)["beneficiary"].(map[string]any)["accountNumber"].([]any)[0].(string)
		h.mu.Lock()
		defer h.mu.Unlock()
		return &vasp.UserAnswer{Result: "VERIFIED", Reason: "OK", Beneficiary: []byte(h.m.beneficiary(account))}, nil
	})
	tells(h.w.A, vasp.TransactionAnswer{Status: "CONFIRMED", TxHash: h.stands}, nil)
	for _, kind := range append(kinds, envelope.AccountRequest, envelope.VerificationRequest, envelope.KeyRequest) {
		h.ends(h.begin(kind, keyTypeFor(kind), h.about(kind)), "before any attack") // they know each other
	}
	return h
}

// next is a value that central must not see.
func (h *hostileCentral) next() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.m.next(latin)
}

// keyTypeFor lets each exchange ask for a key when that is to be attacked.
func keyTypeFor(kind envelope.MessageType) string {
	if kind == envelope.KeyRequest || kind == envelope.KeyAnswer {
		return "PerVerification"
	}
	return "PerVasp"
}

// exchange is one that is under way.
type exchange struct {
	kind   envelope.MessageType // of its question
	id     string               // the verification's, but for an account check
	told   string               // the transaction, or the message, of a report
	status int                  // of what a backend waits for
	answer string
}

// waited says whether a backend waits for the exchange, and asks again.
func (x *exchange) waited() bool {
	return x.kind == envelope.AccountRequest || x.kind == envelope.TxInquiry
}

// about gives a verification that has ended well, when messages of a type are
// about one: a new one for each report, for it has one end.
func (h *hostileCentral) about(kind envelope.MessageType) (id string) {
	h.t.Helper()
	switch proxytest.Question(kind) {
	case envelope.TxInquiry:
		if h.ended != "" {
			return h.ended
		}
	case envelope.TxReport, envelope.ErrorReport:
	default:
		return ""
	}
	h.ended = h.begin(envelope.VerificationRequest, "PerVasp", "").id
	h.await("a transfer to tell of", func() bool { return called(h.w.A, h.ended) > 0 })
	return h.ended
}

// begin starts an exchange in which there is a message of a type, about a
// verification that has ended, if any.
func (h *hostileCentral) begin(kind envelope.MessageType, keyType, about string) exchange {
	h.t.Helper()
	x := exchange{kind: proxytest.Question(kind), id: about}
	h.mu.Lock()
	account, verification := h.m.account(h.w.B.ID), h.m.request(h.w.B.ID, h.m.next(digits))
	h.mu.Unlock()
	body := strings.NewReplacer(ofType(keyType)...)
	wait := func(p *proxytest.Party, path, body string) {
		status, answer := p.Call(http.MethodPost, path, []byte(body))
		x.status, x.answer = status, string(answer)
	}
	switch x.kind {
	case envelope.AccountRequest:
		wait(h.w.A, "/v1/verifications/account", body.Replace(account))
	case envelope.TxInquiry:
		wait(h.w.B, inquiryPath, string(inquiryAbout(about)))
	case envelope.TxReport:
		x.told = h.next()
		accepted(h.t, h.w.A, txPath, txReport(about, x.told))
	case envelope.ErrorReport:
		x.told = h.next()
		accepted(h.t, h.w.A, errorPath, fmt.Appendf(nil, `{"verificationUuid":%q,"result":"DENIED","reason":"USER-CANCELED","message":%q}`, about, x.told))
	default:
		x.id = verify(h.t, h.w, []byte(body.Replace(verification)))
	}
	return x
}

// ends waits until an exchange has ended well, and looks whether it did so
// once.
func (h *hostileCentral) ends(x exchange, what string) {
	h.t.Helper()
	switch x.kind {
	case envelope.AccountRequest:
		if x.status != http.StatusOK {
			h.t.Errorf("%s: an account check = %d", what, x.status)
		}
	case envelope.TxInquiry:
		if x.status != http.StatusOK {
			h.t.Errorf("%s: an inquiry = %d", what, x.status)
			return
		}
		sameJSON(h.t, what+": an inquiry", []byte(x.answer), fmt.Sprintf(`{"verificationUuid":%q,"transactionStatus":"CONFIRMED","txHash":%q}`, x.id, h.stands))
		h.untold(what, h.w.B, x.id)
	case envelope.TxReport, envelope.ErrorReport:
		h.await(what+": the report is taken", func() bool { return called(h.w.B, x.id) > 0 && h.undelivered(x.id) == 0 })
		time.Sleep(time.Second)
		h.told(what, x)
	default:
		h.verified(what, x)
	}
}

// verified looks whether a verification ends well, once.
func (h *hostileCentral) verified(what string, x exchange) {
	h.t.Helper()
	h.await(what+": the verification ends", func() bool { return called(h.w.A, x.id) > 0 })
	time.Sleep(time.Second)
	for _, p := range []*proxytest.Party{h.w.A, h.w.B} {
		h.untold(what, p, x.id)
	}
	if n := called(h.w.A, x.id); n != 1 {
		h.t.Errorf("%s: %d callbacks", what, n)
	}
	if n := called(h.w.B, x.id); n != 0 {
		h.t.Errorf("%s: B is called back %d times about a verification", what, n)
	}
	if n := h.asked(x.id); n != 1 {
		h.t.Errorf("%s: the backend was asked %d times about one verification", what, n)
	}
}

// told looks whether B has recorded a report as A's backend made it, and told
// its backend of it once.
func (h *hostileCentral) told(what string, x exchange) {
	h.t.Helper()
	result, hash, message, callback := "VERIFIED", any(x.told), "", fmt.Sprintf(`{"callbackType":"TX_REPORT","data":{"verificationUuid":%q,"txHash":%q}}`, x.id, x.told)
	if x.kind == envelope.ErrorReport {
		result, hash, message = "DENIED", nil, x.told
		callback = fmt.Sprintf(`{"callbackType":"ERROR_REPORT","data":{"verificationUuid":%q,"result":"DENIED","reason":"USER-CANCELED","message":%q}}`, x.id, x.told)
	}
	for _, p := range []*proxytest.Party{h.w.A, h.w.B} {
		if r := row(h.t, p, x.id); r["result"] != result || r["txHash"] != hash || message != "" && r["message"] != message {
			h.t.Errorf("%s: after a %s the row is %v %v %v at %s", what, x.kind, r["result"], r["message"], r["txHash"], p.ID)
		}
	}
	if n := called(h.w.A, x.id); n != 1 {
		h.t.Errorf("%s: A is called back %d times", what, n)
	}
	switch told := callbacks(h.w.B, x.id); len(told) {
	case 1:
		sameJSON(h.t, what, []byte(told[0]), callback)
	default:
		h.t.Errorf("%s: B is called back %d times", what, len(told))
	}
}

// untold looks whether a party has a verification as it ended.
func (h *hostileCentral) untold(what string, p *proxytest.Party, id string) {
	h.t.Helper()
	if r := row(h.t, p, id); r["result"] != "VERIFIED" || r["txHash"] != nil {
		h.t.Errorf("%s: the verification is %v %v at %s, with the transaction %v", what, r["result"], r["reason"], p.ID, r["txHash"])
	}
}

// undelivered counts the reports of a verification that A has still to deliver.
func (h *hostileCentral) undelivered(id string) (n int) {
	h.t.Helper()
	waiting, err := h.w.A.History.Outbox(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	for _, entry := range waiting {
		if entry.UUID.String() == id && (entry.Kind == storage.ToPeerTx || entry.Kind == storage.ToPeerError) {
			n++
		}
	}
	return n
}

// await waits for minutes, which are free here, and goes on all the same.
func (h *hostileCentral) await(what string, holds func() bool) {
	h.t.Helper()
	for range 1000 {
		if holds() {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	h.t.Errorf("never: %s", what)
}

// asked counts how often B's backend was asked about a verification.
func (h *hostileCentral) asked(id string) (n int) {
	for _, body := range h.w.B.Backend.Asked() {
		if bytes.Contains(body, []byte(id)) {
			n++
		}
	}
	return n
}

// sealedMessages counts the messages of A's that hold what its backend gave,
// since central had seen so many.
func (h *hostileCentral) sealedMessages(since int) (n int) {
	for _, message := range h.w.Central.Relayed()[since:] {
		switch envelope.MessageType(proxytest.Fields(message)[proxytest.FieldType][0]) {
		case envelope.AccountRequest, envelope.VerificationRequest:
			n++
		}
	}
	return n
}

// run tries one attack on one type of messages.
func (h *hostileCentral) run(a *proxytest.Attack, kind envelope.MessageType) {
	h.t.Helper()
	what := fmt.Sprintf("%s (%s), on a %s", a.Name, a.ID, kind)
	keyType := a.KeyType
	if keyType == "" {
		keyType = keyTypeFor(kind)
	}
	if a.KeyType == "PerVasp" {
		h.w.A.ForgetKey(h.w.B)
	}
	about := make([]string, max(a.Exchanges, 1))
	for i := range about {
		about[i] = h.about(kind)
	}
	by := h.w.Party(proxytest.Asker(kind).Other())
	refused := h.refused()
	done, rows, relayed := heard(by), h.rows(by), len(h.w.Central.Relayed())
	h.central.Begin(a, kind)
	exchanges := make([]exchange, len(about))
	for i := range exchanges {
		exchanges[i] = h.begin(kind, keyType, about[i])
	}
	h.await(what+": it is refused", func() bool {
		now := h.refused()
		return h.central.Tried() > 0 && !slices.ContainsFunc(a.On[kind], func(r proxytest.Refused) bool { return now[r] == refused[r] })
	})
	answer := kind != proxytest.Question(kind) && kind.Sealed()
	if a.Harmless {
		for _, x := range exchanges {
			h.ends(x, what+", while it lasts")
		}
	} else {
		time.Sleep(time.Second)
		for _, x := range exchanges {
			h.unharmed(what, x, a.Reaches || answer)
		}
	}
	reached := heard(by) - done
	switch {
	case (a.Reaches || answer) && kind.Sealed() && reached > len(exchanges):
		h.t.Errorf("%s: the backend heard %d times of %d exchanges", what, reached, len(exchanges))
	case !a.Reaches && !answer && (reached != 0 || h.rows(by) != rows):
		h.t.Errorf("%s: the backend heard %d times, and its enclave has %v rows more", what, reached, h.rows(by)-rows)
	}
	h.oneWord(what, by, a.On[kind], relayed)
	if kind == envelope.KeyAnswer && !a.Harmless {
		if n := h.sealedMessages(relayed); n != 0 {
			h.t.Errorf("%s: %d messages were sealed and sent", what, n)
		}
	}
	h.central.End()
	h.central.Settle()
	for _, x := range exchanges {
		if x.waited() {
			x = h.begin(kind, keyType, x.id)
		}
		h.ends(x, what+", when it is over")
	}
	h.counted(what, a.On[kind], refused)
}

// heard counts what a party's backend was asked and told.
func heard(p *proxytest.Party) int { return len(p.Backend.Asked()) + len(p.Backend.Callbacks()) }

// rows counts a party's.
func (h *hostileCentral) rows(of *proxytest.Party) float64 {
	h.t.Helper()
	return ask(h.t, of, http.MethodGet, "/v1/verifications?rpp=1", nil)["count"].(float64)
}

// oneWord looks whether the refusals of who answers all say the same (O4).
// Only a key that it does not have is its sender's to replace.
func (h *hostileCentral) oneWord(what string, by *proxytest.Party, refused []proxytest.Refused, since int) {
	h.t.Helper()
	want := rejected
	if slices.ContainsFunc(refused, func(r proxytest.Refused) bool { return h.w.Party(r.By) == by && r.Reason == "key" }) {
		want = "NEW-KEY-NEEDED"
	}
	for _, message := range h.w.Central.Relayed()[since:] {
		if word := wordOf(by, message); word != "" && word != want {
			h.t.Errorf("%s: %s refuses with %s, want %s", what, by.ID, word, want)
		}
	}
}

// unharmed looks whether an attack got nothing: who waits goes on waiting. The
// honest question may have come through.
func (h *hostileCentral) unharmed(what string, x exchange, through bool) {
	h.t.Helper()
	switch {
	case x.waited():
		if x.status < 500 || x.status == http.StatusBadGateway && x.answer != problemRejected {
			h.t.Errorf("%s: a %s = %d %s", what, x.kind, x.status, x.answer)
		}
		if x.kind == envelope.TxInquiry {
			h.untold(what, h.w.B, x.id)
		}
	case x.kind == envelope.TxReport, x.kind == envelope.ErrorReport:
		if n := h.undelivered(x.id); n != 1 {
			h.t.Errorf("%s: A has %d reports to deliver", what, n)
		}
		if through && called(h.w.B, x.id) > 0 {
			h.told(what, x)
			return
		}
		h.untold(what, h.w.B, x.id)
		if n := called(h.w.B, x.id); n != 0 {
			h.t.Errorf("%s: B is called back %d times", what, n)
		}
	default:
		if r := row(h.t, h.w.A, x.id); r["result"] != "WAIT" || called(h.w.A, x.id) != 0 {
			h.t.Errorf("%s: row %v %v, %d callbacks", what, r["result"], r["reason"], called(h.w.A, x.id))
		}
	}
}

// refused is what both parties have counted.
func (h *hostileCentral) refused() map[proxytest.Refused]float64 {
	all := map[proxytest.Refused]float64{}
	for _, role := range []proxytest.Role{proxytest.Originator, proxytest.Beneficiary} {
		for reason, n := range h.w.Party(role).Refusals() {
			all[proxytest.Refused{By: role, Reason: reason}] = n
		}
	}
	return all
}

// counted compares the refusals that were counted with those that were due.
func (h *hostileCentral) counted(what string, want []proxytest.Refused, before map[proxytest.Refused]float64) {
	h.t.Helper()
	var rose []proxytest.Refused
	for r, n := range h.refused() {
		if n > before[r] {
			rose = append(rose, r)
		}
	}
	set := func(all []proxytest.Refused) map[proxytest.Refused]bool {
		s := map[proxytest.Refused]bool{}
		for _, r := range all {
			s[r] = true
		}
		return s
	}
	if !maps.Equal(set(rose), set(want)) {
		h.t.Errorf("%s: counted %v, want %v", what, rose, want)
	}
}

// learnsNothing looks for personal data in all that central got, in any
// common encoding.
func (h *hostileCentral) learnsNothing() {
	h.t.Helper()
	seen := lower(bytes.Join(h.w.Central.Relayed(), nil))
	for _, core := range []string{latin, hangul, arabic, digits, born} {
		for _, form := range sandbox.Encodings(core) {
			if bytes.Contains(seen, lower(form)) {
				h.t.Errorf("central saw %s as %q", core, form)
			}
		}
	}
	if h.m.n == 0 || len(seen) == 0 {
		h.t.Error("nothing to look for, or nothing to look at")
	}
}
