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
)

// Attacks K1, K2, K3, K4, K5, K7, K10, K12, K13: a hostile central server does
// everything of the catalogue to every message that it can be done to, and to
// every entry of its directory. None is taken for what it is not, each is
// counted under its own reason and no other, the backend hears of none,
// central learns nothing of anybody, and what was under attack ends well,
// once, when the attack is over.
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
	h := newHostileCentral(t)
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
		x = h.begin(envelope.VerificationRequest, "PerVasp")
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
	sealed, asked := h.sealedMessages(), len(h.w.B.Backend.Asked())
	if role == proxytest.Beneficiary && (a.Holds || a.Hides) {
		if status, answer := h.w.A.Call(http.MethodPost, "/v1/verifications", request(h.w)); status < 400 {
			h.t.Errorf("%s: a verification = %d %s", what, status, answer)
		}
		if n := h.sealedMessages() - sealed; n != 0 {
			h.t.Errorf("%s: %d messages were sealed and sent", what, n)
		}
		return x
	}
	x = h.begin(envelope.VerificationRequest, "PerVasp")
	if !a.Holds {
		h.ends(x, what+", while it lasts")
		return x
	}
	time.Sleep(10 * time.Second)
	h.unharmed(what, envelope.VerificationRequest, []exchange{x})
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
}

func newHostileCentral(t *testing.T) *hostileCentral {
	h := &hostileCentral{t: t, w: proxytest.NewWorld(t, quiet)}
	h.central = h.w.Hostile()
	h.w.B.Backend.OnUser(func(_ context.Context, body []byte) (*vasp.UserAnswer, error) {
		account := object(t, body)["ivms101"].(map[string]any)["beneficiary"].(map[string]any)["accountNumber"].([]any)[0].(string)
		h.mu.Lock()
		defer h.mu.Unlock()
		return &vasp.UserAnswer{Result: "VERIFIED", Reason: "OK", Beneficiary: []byte(h.m.beneficiary(account))}, nil
	})
	for _, kind := range []envelope.MessageType{envelope.AccountRequest, envelope.VerificationRequest, envelope.KeyRequest} {
		h.ends(h.begin(kind, keyTypeFor(kind)), "before any attack") // they know each other, and central has seen one of each
	}
	return h
}

// keyTypeFor lets each exchange ask for a key when that is to be attacked.
func keyTypeFor(kind envelope.MessageType) string {
	if kind == envelope.KeyRequest || kind == envelope.KeyAnswer {
		return "PerVerification"
	}
	return "PerVasp"
}

// exchange is one that is under way: a verification, or the status of an
// account check.
type exchange struct {
	id     string
	status int
	answer string // of an account check
}

// begin starts an exchange in which there is a message of a type.
func (h *hostileCentral) begin(kind envelope.MessageType, keyType string) exchange {
	h.t.Helper()
	h.mu.Lock()
	account, verification := h.m.account(h.w.B.ID), h.m.request(h.w.B.ID, h.m.next(digits))
	h.mu.Unlock()
	body := strings.NewReplacer(ofType(keyType)...)
	if kind == envelope.AccountRequest || kind == envelope.AccountAnswer {
		status, answer := h.w.A.Call(http.MethodPost, "/v1/verifications/account", []byte(body.Replace(account)))
		return exchange{status: status, answer: string(answer)}
	}
	return exchange{id: verify(h.t, h.w, []byte(body.Replace(verification)))}
}

// ends waits until an exchange has ended well, and looks whether it did so
// once.
func (h *hostileCentral) ends(x exchange, what string) {
	h.t.Helper()
	if x.id == "" {
		if x.status != http.StatusOK {
			h.t.Errorf("%s: an account check = %d", what, x.status)
		}
		return
	}
	h.await(what+": the verification ends", func() bool { return called(h.w.A, x.id) > 0 })
	time.Sleep(time.Second)
	for _, p := range []*proxytest.Party{h.w.A, h.w.B} {
		if r := row(h.t, p, x.id); r["result"] != "VERIFIED" {
			h.t.Errorf("%s: the verification ended as %v %v at %s", what, r["result"], r["reason"], p.ID)
		}
	}
	if n := called(h.w.A, x.id); n != 1 {
		h.t.Errorf("%s: %d callbacks", what, n)
	}
	if n := h.asked(x.id); n != 1 {
		h.t.Errorf("%s: the backend was asked %d times about one verification", what, n)
	}
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

// sealedMessages counts the messages of A's that hold what its backend gave.
func (h *hostileCentral) sealedMessages() (n int) {
	for _, message := range h.w.Central.Relayed() {
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
	refused := h.refused()
	asked, sealed := len(h.w.B.Backend.Asked()), h.sealedMessages()
	relayed, rows := len(h.w.Central.Relayed()), h.rows()
	h.central.Begin(a, kind)
	exchanges := make([]exchange, max(a.Exchanges, 1))
	for i := range exchanges {
		exchanges[i] = h.begin(kind, keyType)
	}
	h.await(what+": it is refused", func() bool {
		now := h.refused()
		return h.central.Tried() > 0 && !slices.ContainsFunc(a.On[kind], func(r proxytest.Refused) bool { return now[r] == refused[r] })
	})
	if a.Harmless {
		for _, x := range exchanges {
			h.ends(x, what+", while it lasts")
		}
	} else {
		time.Sleep(time.Second)
		h.unharmed(what, kind, exchanges)
	}
	reached := len(h.w.B.Backend.Asked()) - asked
	switch answer := kind == envelope.AccountAnswer || kind == envelope.VerificationAnswer; {
	case (a.Reaches || answer) && kind != envelope.KeyAnswer && kind != envelope.KeyRequest && reached > len(exchanges):
		h.t.Errorf("%s: the backend was asked %d times in %d exchanges", what, reached, len(exchanges))
	case !a.Reaches && !answer && (reached != 0 || h.rows() != rows):
		h.t.Errorf("%s: the backend was asked %d times, and B has %v rows more", what, reached, h.rows()-rows)
	}
	h.oneWord(what, a, kind, relayed)
	if n := h.sealedMessages() - sealed; kind == envelope.KeyAnswer && !a.Harmless && n != 0 {
		h.t.Errorf("%s: %d messages were sealed and sent", what, n)
	}
	h.central.End()
	h.central.Settle()
	for i, x := range exchanges {
		if x.id == "" {
			exchanges[i] = h.begin(kind, keyType) // its backend asks again
		}
		h.ends(exchanges[i], what+", when it is over")
	}
	h.counted(what, a.On[kind], refused)
}

// rows counts B's.
func (h *hostileCentral) rows() float64 {
	h.t.Helper()
	return ask(h.t, h.w.B, http.MethodGet, "/v1/verifications", nil)["count"].(float64)
}

// oneWord looks whether B's refusals all say the same (O4). Only a key that B
// does not have is its sender's to replace.
func (h *hostileCentral) oneWord(what string, a *proxytest.Attack, kind envelope.MessageType, since int) {
	h.t.Helper()
	want := rejected
	if slices.Contains(a.On[kind], proxytest.Refused{By: proxytest.Beneficiary, Reason: "key"}) {
		want = "NEW-KEY-NEEDED"
	}
	for _, message := range h.w.Central.Relayed()[since:] {
		if word := wordOf(h.w.B, message); word != "" && word != want {
			h.t.Errorf("%s: B refuses with %s, want %s", what, word, want)
		}
	}
}

// unharmed looks whether an attack got nothing: who waits goes on waiting.
func (h *hostileCentral) unharmed(what string, kind envelope.MessageType, exchanges []exchange) {
	h.t.Helper()
	for _, x := range exchanges {
		if x.id == "" {
			if x.status < 500 || x.status == http.StatusBadGateway && x.answer != problemRejected {
				h.t.Errorf("%s: an account check = %d %s", what, x.status, x.answer)
			}
			continue
		}
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
