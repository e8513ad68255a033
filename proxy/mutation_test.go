package proxy_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// mutationSeed and the number that a failure names give the same mutation
// again; keys and salts of the messages are fresh each time.
const mutationSeed = 20260102

var mutatedTypes = []string{"PerVasp", "PerAddress", "PerVerification"}

// mutations is how many are made: few in make test, many in make torture.
func mutations(few, many int) int {
	if os.Getenv("TORTURE") != "" {
		return many
	}
	return few
}

// quiet keeps a million log lines out of memory.
func quiet(c *proxy.Config) { c.Logger = slog.New(slog.DiscardHandler) }

// mutator changes messages as a relay can that has no key but has seen much.
type mutator struct {
	*rand.Rand
	seen [][]byte
}

func newMutator(n int, seen [][]byte) mutator {
	return mutator{rand.New(rand.NewPCG(mutationSeed, uint64(n))), seen}
}

// mutate gives another text than the message, and says what was done to it.
func (m mutator) mutate(message []byte) (what string, changed []byte) {
	ways := []struct {
		what   string
		change func([]byte) []byte
	}{
		{"flipped bits", m.flip}, {"flipped bits of the header", m.flipHeader}, {"substituted bytes", m.substitute},
		{"cut off", m.truncate}, {"extended", m.extend}, {"spliced", m.splice},
		{"field of another message", m.borrowField}, {"fields swapped", m.swapFields}, {"parts of two", m.mixParts},
	}
	way := ways[m.IntN(len(ways))]
	return way.what, way.change(bytes.Clone(message))
}

func (m mutator) other() []byte { return m.seen[m.IntN(len(m.seen))] }

func (m mutator) flip(b []byte) []byte {
	for range 1 + m.IntN(8) {
		b[m.IntN(len(b))] ^= 1 << m.IntN(8)
	}
	return b
}

func (m mutator) flipHeader(b []byte) []byte {
	m.flip(b[:proxytest.HeaderEnd(b)])
	return b
}

func (m mutator) substitute(b []byte) []byte {
	for range 1 + m.IntN(4) {
		b[m.IntN(len(b))] = [...]byte{0, 1, 0x7f, 0x80, 0xff, byte(m.Uint32())}[m.IntN(6)]
	}
	return b
}

func (m mutator) truncate(b []byte) []byte { return b[:m.IntN(len(b))] }

// extend adds at the end or in the middle.
func (m mutator) extend(b []byte) []byte {
	more, at := make([]byte, 1+m.IntN(64)), len(b)
	for i := range more {
		more[i] = byte(m.Uint32())
	}
	if m.IntN(2) == 0 {
		at = m.IntN(len(b))
	}
	return append(append(bytes.Clone(b[:at]), more...), b[at:]...)
}

func (m mutator) splice(b []byte) []byte {
	other := m.other()
	at := m.IntN(len(b))
	from := min(at, len(other)) // the same place, so that fields still fit
	if m.IntN(2) == 0 {
		from = m.IntN(len(other))
	}
	return append(b[:at], other[from:]...)
}

// borrowField takes the value of a header field from another message.
func (m mutator) borrowField(b []byte) []byte {
	other := m.other()
	mine, theirs := proxytest.Fields(b), proxytest.Fields(other)
	i := m.IntN(len(mine))
	if len(mine[i]) == len(theirs[i]) {
		copy(mine[i], theirs[i])
	}
	return b
}

// swapFields exchanges two header fields of one length: sender and recipient,
// the times, the hashes.
func (m mutator) swapFields(b []byte) []byte {
	fields := proxytest.Fields(b)
	one, two := fields[m.IntN(len(fields))], fields[m.IntN(len(fields))]
	if len(one) == len(two) {
		kept := bytes.Clone(one)
		copy(one, two)
		copy(two, kept)
	}
	return b
}

// mixParts takes header, ciphertext and signature from either of two.
func (m mutator) mixParts(b []byte) (mixed []byte) {
	parts, others := proxytest.Parts(b), proxytest.Parts(m.other())
	for i := range parts {
		if m.IntN(2) == 0 {
			parts[i] = others[i]
		}
		mixed = append(mixed, parts[i]...)
	}
	return mixed
}

// everyMessage is what central has seen after exchanges of every kind, with
// keys of every type, and messages that it has not let through yet.
func everyMessage(t *testing.T, w *proxytest.World) [][]byte {
	t.Helper()
	var open string // a verification that no report has changed
	for _, name := range mutatedTypes {
		ask(t, w.A, http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID, ofType(name)...))
		told, given := verify(t, w, request(w, ofType(name)...)), verify(t, w, request(w, ofType(name)...))
		open = verify(t, w, request(w, ofType(name)...))
		for _, id := range []string{told, given, open} {
			finished(t, w, id)
		}
		accepted(t, w.A, txPath, txReport(told, "8a54"))
		accepted(t, w.A, errorPath, errorReport(given, "ERROR", "USER-CANCELED"))
		ask(t, w.B, http.MethodPost, inquiryPath, inquiryAbout(told))
	}
	settled(t, w)
	seen := w.Central.Relayed()
	about := parse(t, open)
	for _, kind := range []identity.KeyType{identity.PerVASP, identity.PerAddress, identity.PerVerification} {
		for _, m := range []proxytest.Message{
			{Type: envelope.KeyRequest, Payload: make([]byte, 32)},
			{Type: envelope.AccountRequest, Payload: []byte(`{"symbol":"ETH","network":"Ethereum","version":"1.0","ivms101":{"beneficiary":{"accountNumber":["0xAbC1"]}}}`)},
			{Type: envelope.VerificationRequest, Payload: payload("", "")},
			{Type: envelope.ErrorReport, ID: uuid.New(), Payload: []byte(`{"result":"ERROR","reason":"REQUEST-TIMEOUT"}`)},
			{Type: envelope.ErrorReport, ID: about, Payload: []byte(`{"result":"ERROR","reason":"USER-CANCELED","message":"Given up."}`)},
			{Type: envelope.TxReport, ID: about, Payload: fmt.Appendf(nil, `{"txHash":"8a54","vout":"1","orderedAt":%q}`, orderedNow())},
			{Type: envelope.TxInquiry, ID: about, Payload: []byte(`{}`)},
		} {
			m.Edit = func(h *envelope.Header) {
				h.KeyType = kind
				if kind == identity.PerAddress {
					h.Scope = [32]byte{1}
				}
			}
			from := w.Party(proxytest.Asker(m.Type))
			m.ReplyBundle = from.EncodedBundle()
			seen = append(seen, from.Seal(from.Other(), m))
		}
	}
	return seen
}

// orderedNow is when a transaction that is reported now was made.
func orderedNow() string { return time.Now().UTC().Format("2006-01-02T15:04:05.000Z") }

// snapshotOf is what a refused message must not change.
func snapshotOf(t *testing.T, p *proxytest.Party) string {
	t.Helper()
	rows := ask(t, p, http.MethodGet, "/v1/verifications", nil)
	entries, err := p.History.Audit(t.Context(), 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	peers, err := p.History.Peers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pins := ""
	for _, peer := range peers {
		pins += fmt.Sprintf(" %s:%d:%x", peer.VASP, peer.State, peer.Identity)
	}
	entries = slices.DeleteFunc(entries, func(e storage.AuditEntry) bool { return e.Verb == audit.List }) // our own looking
	return fmt.Sprintf("%v rows, %d audit entries, backend asked %d times and called back %d times, pins%s",
		rows["count"], len(entries), len(p.Backend.Asked()), len(p.Backend.Callbacks()), pins)
}

// Attacks K3, K4, K5, O4: whatever central makes of the messages it has seen,
// none but a message itself is answered. All others hear one word.
func TestMutatedEnvelopesAreRefused(t *testing.T) {
	clock := proxytest.NewClock(time.Now()) // stands: no message expires meanwhile
	w := proxytest.NewWorldAt(t, clock.Now, quiet)
	verified(w)
	seen := everyMessage(t, w)
	known := map[[32]byte]bool{}
	for _, message := range seen {
		known[envelope.Hash(message)] = true
	}
	before := snapshotOf(t, w.A) + snapshotOf(t, w.B)
	total := mutations(50_000, 1_000_000)
	var next, unread, refused atomic.Int64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for n := int(next.Add(1)); n <= total && !t.Failed(); n = int(next.Add(1)) {
				m := newMutator(n, seen)
				original := m.other()
				what, changed := m.mutate(original)
				for known[envelope.Hash(changed)] {
					what, changed = m.mutate(original)
				}
				to := w.B
				if proxytest.TypeOf(original) == envelope.TxInquiry {
					to = w.A
				}
				status, reply := w.Central.Send(to.ID, changed)
				switch said := wordOf(to, reply); {
				case status == http.StatusBadRequest:
					unread.Add(1)
				case status == http.StatusOK && said == "ENVELOPE-REJECTED":
					refused.Add(1)
				default:
					t.Errorf("seed %d, mutation %d, a %s %s: answered with %d, a %s, %q",
						mutationSeed, n, proxytest.TypeOf(original), what, status, proxytest.TypeOf(reply), said)
				}
			}
		})
	}
	workers.Wait()
	if after := snapshotOf(t, w.A) + snapshotOf(t, w.B); after != before {
		t.Errorf("mutated messages changed the state:\n%s\nwas\n%s", after, before)
	}
	t.Logf("%d messages of central; %d mutations: %d refused, %d are no envelope", len(seen), total, refused.Load(), unread.Load())
	if sum := refused.Load() + unread.Load(); sum != int64(total) || refused.Load() < sum/5 {
		t.Errorf("of %d mutations %d are envelopes and %d are none", total, refused.Load(), unread.Load())
	}
	if r := finished(t, w, verify(t, w, request(w))); r["result"] != "VERIFIED" {
		t.Errorf("an honest one afterwards: %v", r["result"])
	}
}

// wordOf is what a party's signed refusal says; "" when the reply is none.
func wordOf(by *proxytest.Party, reply []byte) string {
	parsed, err := envelope.Parse(reply)
	if err != nil || parsed.Header.Type != envelope.Refusal {
		return ""
	}
	authentic, err := parsed.Authenticate(by.Signer.Public())
	if err != nil {
		return ""
	}
	body, err := authentic.Clear()
	if err != nil {
		return ""
	}
	return string(body.Payload)
}

// Attacks K2, K3, K4, K5: no mutated reply is taken for an answer, be it about
// a key, an account, a verification, a report or an inquiry. What waits goes on
// waiting, and ends with the real answer.
func TestMutatedRepliesAreNoAnswers(t *testing.T) {
	var ahead atomic.Int64 // of the real clock, so that budgets fill again
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	w := proxytest.NewWorldAt(t, now, quiet)
	verified(w)
	var mu sync.Mutex
	hostile, done, last := false, 0, ""
	changes := map[envelope.MessageType]int{}
	var seen [][]byte
	w.Central.TamperReply(func(_, _ identity.VASPID, reply []byte) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		if len(seen) < 100 {
			seen = append(seen, reply)
		} else {
			seen[done%100] = reply
		}
		kind := proxytest.TypeOf(reply)
		if !hostile || kind == envelope.KeyAnswer && done%4 != 0 { // most keys get through, for answers to be asked for
			return reply, nil
		}
		for try := 0; ; try++ {
			what, changed := newMutator(done+try<<32, seen).mutate(reply)
			if !bytes.Equal(changed, reply) {
				done++
				changes[kind]++
				last = fmt.Sprintf("seed %d, mutation %d (try %d), a %s %s", mutationSeed, done-1, try, kind, what)
				return changed, nil
			}
		}
	})
	mutated := func() (n int, how string) {
		mu.Lock()
		defer mu.Unlock()
		return done, last
	}
	set := func(to bool) {
		mu.Lock()
		defer mu.Unlock()
		hostile = to
	}
	const round = 1000 // well within the life of a verification
	total := mutations(round, 50*round)
	for end := round; end <= total; end += round {
		var waiting, told, given []string
		for i := range 12 {
			id := verify(t, w, request(w, ofType(mutatedTypes[i%3])...))
			finished(t, w, id)
			if i < 6 {
				told = append(told, id)
			} else {
				given = append(given, id)
			}
		}
		set(true)
		for i := range 12 {
			waiting = append(waiting, verify(t, w, request(w, ofType(mutatedTypes[i%3])...)))
		}
		for i := range told {
			accepted(t, w.A, txPath, txReport(told[i], "8a54"))
			accepted(t, w.A, errorPath, errorReport(given[i], "ERROR", "USER-CANCELED"))
		}
		for i, n := 0, 0; n < end; i++ {
			ahead.Add(int64(20 * time.Millisecond))
			what, by, path, body := "an account check", w.A, "/v1/verifications/account", accountTo(w.B.ID, ofType(mutatedTypes[i%3])...)
			if i%2 == 1 {
				what, by, path, body = "an inquiry", w.B, inquiryPath, inquiryAbout(told[i/2%len(told)])
			}
			status, answer := by.Call(http.MethodPost, path, body)
			var how string
			if n, how = mutated(); status < 400 {
				t.Fatalf("%s: %s = %d %s", how, what, status, answer)
			}
		}
		for _, id := range waiting {
			if r := row(t, w.A, id); r["result"] != "WAIT" || called(w.A, id) != 0 {
				t.Errorf("by mutated answers a verification ended as %v, with %d callbacks", r["result"], called(w.A, id))
			}
		}
		if n := reportsOf(t, w.A); n != len(told)+len(given) {
			t.Errorf("by mutated answers A has %d reports to deliver, want %d", n, len(told)+len(given))
		}
		set(false)
		for _, id := range waiting {
			if r := finished(t, w, id); r["result"] != "VERIFIED" {
				t.Errorf("with honest answers a verification ended as %v", r["result"])
			}
		}
		w.AwaitWithin(2*time.Minute, "all reports are taken", func() bool { return reportsOf(t, w.A) == 0 }) // between two attempts there may be one
		settled(t, w)
		for i := range told {
			if r := row(t, w.B, told[i]); r["result"] != "VERIFIED" || r["txHash"] != "8a54" || called(w.B, told[i]) != 1 {
				t.Errorf("a transaction report ended as %v %v, with %d callbacks", r["result"], r["txHash"], called(w.B, told[i]))
			}
			if r := row(t, w.B, given[i]); r["result"] != "ERROR" || r["reason"] != "USER-CANCELED" || called(w.B, given[i]) != 1 {
				t.Errorf("an error report ended as %v %v, with %d callbacks", r["result"], r["reason"], called(w.B, given[i]))
			}
		}
		ahead.Add(int64(20 * time.Minute)) // single-use keys that got lost on their way count no more
	}
	t.Logf("%d mutated replies %v, %v refused at A, %v at B", total, changes, w.A.Metric("enclave_refused_total"), w.B.Metric("enclave_refused_total"))
	for _, kind := range proxytest.Attacked() {
		if kind != proxytest.Question(kind) && changes[kind] == 0 {
			t.Errorf("no %s was mutated", kind)
		}
	}
}

// reportsOf counts the reports that a party has still to deliver.
func reportsOf(t *testing.T, p *proxytest.Party) (n int) {
	t.Helper()
	waiting, err := p.History.Outbox(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range waiting {
		if entry.Kind == storage.ToPeerTx || entry.Kind == storage.ToPeerError {
			n++
		}
	}
	return n
}
