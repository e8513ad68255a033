package proxy_test

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
)

const pinEvents = "enclave_peer_pin_events_total"

// chain is the chain of statements of an identity that begins now.
func chain(t testing.TB, s *identity.Signer) []byte {
	t.Helper()
	encoded, err := identity.NewChain(s, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

// refresh lets a party see the directory that central gives now.
func refresh(w *proxytest.World, p *proxytest.Party, seen func() bool) {
	w.Await("the directory is seen", func() bool {
		p.Call(http.MethodGet, "/v1/vasps", nil)
		return seen()
	})
}

func pinState(t testing.TB, p *proxytest.Party, peer identity.VASPID) storage.PeerState {
	t.Helper()
	stored, err := p.History.Peer(t.Context(), peer)
	if err != nil {
		t.Fatal(err)
	}
	return stored.State
}

// The first use of an identity is believed, written down and said aloud, at
// both VASPs.
func TestFirstUseIsAudited(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	finished(t, w, verify(t, w, request(w)))
	for p, peer := range map[*proxytest.Party]*proxytest.Party{w.A: w.B, w.B: w.A} {
		entries := audited(t, p, audit.PinPeer)
		if len(entries) != 1 || entries[0].Peer != peer.ID || entries[0].Object != peer.Signer.Public().Fingerprint().String() {
			t.Errorf("audit of %s: %+v", p.ID, entries)
		}
		if n := p.Metric(pinEvents, audit.PinPeer); n != 1 {
			t.Errorf("%s counts %v first uses", p.ID, n)
		}
		if s := pinState(t, p, peer.ID); s != storage.PeerTOFU {
			t.Errorf("state %v", s)
		}
		if !strings.Contains(p.Log.String(), "believed on first use") {
			t.Error("the log does not say so")
		}
	}
}

// Nothing touches the disk before a signature holds: whoever sends in the name
// of a VASP never met does not cause a pin.
func TestNothingIsPinnedBeforeASignatureHolds(t *testing.T) {
	w := proxytest.NewWorld(t)
	forged := w.A.Seal(w.B, proxytest.Message{Type: envelope.KeyRequest, Signer: mallory(t, w.A.ID)})
	honest := w.A.Seal(w.B, proxytest.Message{Type: envelope.KeyRequest, Payload: make([]byte, 32)})
	broken := append(honest[:len(honest)-1:len(honest)-1], honest[len(honest)-1]^1)
	for _, message := range [][]byte{forged, broken, proxytest.Pretend(w.A, forged)} {
		if _, reply := w.Central.Send(w.B.ID, message); refusal(t, w.B, reply) != rejected {
			t.Errorf("refused with %s", refusal(t, w.B, reply))
		}
		if pinned, err := w.B.History.Peers(t.Context()); err != nil || len(pinned) != 0 {
			t.Errorf("%d pins, %v", len(pinned), err)
		}
	}
	if _, reply := w.Central.Send(w.B.ID, honest); proxytest.TypeOf(reply) != envelope.KeyAnswer {
		t.Errorf("the honest one is answered with a %s", proxytest.TypeOf(reply))
	}
	if s := pinState(t, w.B, w.A.ID); s != storage.PeerTOFU {
		t.Errorf("state %v", s)
	}
}

// Attack K1: central shows another identity for a counterparty. Nothing is
// exchanged with it in either direction, over restarts, until an operator
// decides.
func TestAnotherIdentityPutsACounterpartyOnHold(t *testing.T) {
	synctest.Test(t, anotherIdentityPutsACounterpartyOnHold)
}

func anotherIdentityPutsACounterpartyOnHold(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	finished(t, w, verify(t, w, request(w)))
	w.Central.Down(true)
	waiting := verify(t, w, request(w)) // accepted before, delivered never
	w.Central.Down(false)
	w.Central.ShowIdentity(w.B.ID, chain(t, mallory(t, w.B.ID)))
	refresh(w, w.A, func() bool { return pinState(t, w.A, w.B.ID) == storage.PeerChangePending })
	onHold := func() {
		t.Helper()
		relayed, asked := len(w.Central.Relayed()), len(w.A.Backend.Asked())
		refused(t, w, "/v1/verifications", request(w), http.StatusForbidden, "COUNTERPARTY-NOT-TRUSTED", "operator")
		refused(t, w, "/v1/verifications/account", accountTo(w.B.ID), http.StatusForbidden, "COUNTERPARTY-NOT-TRUSTED", "operator")
		if n := len(w.Central.Relayed()) - relayed; n != 0 {
			t.Errorf("%d messages left", n)
		}
		before := w.A.Metric("enclave_refused_total", "pin")
		_, reply := w.Central.Send(w.A.ID, w.B.Seal(w.A, proxytest.Message{Type: envelope.VerificationRequest, ReplyBundle: w.B.EncodedBundle(), Payload: payload("", "")}))
		if code := refusal(t, w.A, reply); code != rejected || w.A.Metric("enclave_refused_total", "pin") != before+1 {
			t.Errorf("what comes from it is refused with %s and counted %v times", code, w.A.Metric("enclave_refused_total", "pin")-before)
		}
		if n := len(w.A.Backend.Asked()) - asked; n != 0 {
			t.Errorf("the backend was asked %d times", n)
		}
	}
	onHold()
	w.A.Stop()
	w.A.Start()
	onHold()
	refresh(w, w.A, func() bool { return w.A.Metric("enclave_directory_fetched_timestamp_seconds") > 0 })
	if entries := audited(t, w.A, audit.ChangePeer); len(entries) != 1 || entries[0].Peer != w.B.ID {
		t.Errorf("audit %+v", entries)
	}
	if !strings.Contains(w.A.Log.String(), "shows another identity without continuity") {
		t.Error("the log does not say so")
	}
	// The right one being shown again is no operator's word.
	w.Central.ShowIdentity(w.B.ID, chainOf(t, w.B))
	refresh(w, w.A, func() bool { return len(audited(t, w.A, audit.ChangePeer)) == 2 })
	onHold()
	if _, err := w.A.Enclave.AcceptPeer(t.Context(), w.B.ID, identity.FingerprintDigits(w.B.Signer.Public()), "ops"); err != nil {
		t.Fatal(err)
	}
	if r := finished(t, w, waiting); r["result"] != "VERIFIED" {
		t.Errorf("what waited: %v", r["result"])
	}
}

// chainOf is the chain that a party has registered.
func chainOf(t testing.TB, p *proxytest.Party) []byte {
	t.Helper()
	own, err := p.History.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return own.Chain
}

// renew restarts a party under a new identity, which the old one has signed.
func renew(t testing.TB, w *proxytest.World, p *proxytest.Party) (next *identity.Signer, extended []byte) {
	t.Helper()
	next = mallory(t, p.ID)
	extended, err := identity.ExtendChain(chainOf(t, p), p.Signer, next, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	p.Stop()
	p.Tweak(func(c *proxy.Config) {
		own, err := keyring.OpenOwn(context.Background(), keyring.OwnConfig{
			Signer: next, Store: c.History, AEAD: c.History.(*bolt.DB).Keys().PrivateAEAD(), Suite: identity.SuiteXWing, Now: c.Now,
			MaxEnvelopeLife: proxy.MaxEnvelopeLife, Skew: time.Minute,
		})
		if err != nil {
			t.Fatal(err)
		}
		c.Signer, c.Chain, c.Own = next, extended, own
	})
	p.Start()
	return next, extended
}

// A new identity that the old one has signed is followed; from then on the old
// one is nobody's.
func TestASignedChangeOfIdentityIsFollowed(t *testing.T) {
	synctest.Test(t, aSignedChangeOfIdentityIsFollowed)
}

func aSignedChangeOfIdentityIsFollowed(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	finished(t, w, verify(t, w, request(w)))
	next, extended := renew(t, w, w.B)
	refresh(w, w.A, func() bool { return len(audited(t, w.A, audit.FollowPeer)) == 1 })
	if e := audited(t, w.A, audit.FollowPeer)[0]; e.Object != next.Public().Fingerprint().String() {
		t.Errorf("audit %+v", e)
	}
	if n := w.A.Metric(pinEvents, audit.FollowPeer); n != 1 {
		t.Errorf("%v follows are counted", n)
	}
	if r := finished(t, w, verify(t, w, request(w))); r["result"] != "VERIFIED" {
		t.Errorf("row %v", r["result"])
	}
	_, reply := w.Central.Send(w.A.ID, w.B.Seal(w.A, proxytest.Message{Type: envelope.KeyRequest})) // w.B.Signer is the old one
	if code := refusal(t, w.A, reply); code != rejected || w.A.Metric("enclave_refused_total", "other-identity") != 1 {
		t.Errorf("the old identity is refused with %s", code)
	}
	// Central falls back to the chain before: that is another identity again.
	parsed, err := identity.ParseChain(extended)
	if err != nil || parsed.Len() != 2 {
		t.Fatal(parsed, err)
	}
	w.Central.ShowIdentity(w.B.ID, chainOf(t, w.B))
	refresh(w, w.A, func() bool { return pinState(t, w.A, w.B.ID) == storage.PeerChangePending })
}

// With VEGA_PEER_TRUST=verified nothing personal leaves for a counterparty, and
// nothing is taken from one, before its operator was asked.
func TestVerifiedOnlyRefusesBeforeAnythingLeaves(t *testing.T) {
	w := proxytest.NewWorld(t, func(c *proxy.Config) { c.VerifiedOnly = true })
	verified(w)
	for range 2 { // never met, and met
		refused(t, w, "/v1/verifications", request(w), http.StatusForbidden, "COUNTERPARTY-NOT-TRUSTED", "safety numbers")
		refused(t, w, "/v1/verifications/account", accountTo(w.B.ID), http.StatusForbidden, "COUNTERPARTY-NOT-TRUSTED", "safety numbers")
	}
	if n := len(w.Central.Relayed()); n != 0 {
		t.Errorf("%d messages left", n)
	}
	for range 2 {
		_, reply := w.Central.Send(w.B.ID, w.A.Seal(w.B, proxytest.Message{Type: envelope.VerificationRequest, ReplyBundle: w.A.EncodedBundle(), Payload: payload("", "")}))
		if code := refusal(t, w.B, reply); code != rejected {
			t.Errorf("what comes is refused with %s", code)
		}
	}
	if n := len(w.B.Backend.Asked()); n != 0 || w.B.Metric("enclave_refused_total", "pin") != 2 {
		t.Errorf("asked %d times, refused %v times", n, w.B.Metric("enclave_refused_total", "pin"))
	}
	number := identity.SafetyNumber(w.A.Signer.Public(), w.B.Signer.Public())
	for p, peer := range map[*proxytest.Party]*proxytest.Party{w.A: w.B, w.B: w.A} {
		if _, err := p.Enclave.VerifyPeer(t.Context(), peer.ID, number, "ops"); err != nil {
			t.Fatal(err)
		}
	}
	if r := finished(t, w, verify(t, w, request(w))); r["result"] != "VERIFIED" {
		t.Errorf("row %v", r["result"])
	}
}

// An identity in the directory that cannot be read, or is of another VASP, is
// no identity: nothing is pinned.
func TestABadIdentityInTheDirectoryIsNotPinned(t *testing.T) {
	synctest.Test(t, aBadIdentityInTheDirectoryIsNotPinned)
}

func aBadIdentityInTheDirectoryIsNotPinned(t *testing.T) {
	w := proxytest.NewWorld(t)
	for name, text := range map[string]string{
		"no base64": "!", "no chain": base64.StdEncoding.EncodeToString([]byte("chain")), "none": "",
		"of another VASP": base64.StdEncoding.EncodeToString(chain(t, mallory(t, 777))),
	} {
		w.Central.EditDirectory(func(d *relay.Directory) { d.VASPs[1].Identity = text })
		w.A.Stop() // forgets the directory it has in memory, and the pause before asking again
		w.A.Start()
		refresh(w, w.A, func() bool { return w.A.Metric("enclave_directory_fetched_timestamp_seconds") > 0 })
		w.Await("an account check is refused", func() bool {
			status, _ := w.A.Call(http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID))
			return status == http.StatusServiceUnavailable
		})
		if pinned, err := w.A.History.Peers(t.Context()); err != nil || len(pinned) != 0 {
			t.Errorf("%s: %d pins, %v", name, len(pinned), err)
		}
	}
}

// B loses its keys: it says so, A asks for the new one and seals again, once.
func TestALostKeyIsReplaced(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	finished(t, w, verify(t, w, request(w)))
	loseKeys(t, w.B)
	before := len(w.Central.Relayed())
	id := verify(t, w, request(w))
	if r := finished(t, w, id); r["result"] != "VERIFIED" {
		t.Errorf("row %v", r["result"])
	}
	counts := map[envelope.MessageType]int{}
	for _, message := range w.Central.Relayed()[before:] {
		counts[proxytest.TypeOf(message)]++
	}
	if counts[envelope.VerificationRequest] != 2 || counts[envelope.Refusal] != 1 || counts[envelope.KeyRequest] != 1 || counts[envelope.VerificationAnswer] != 1 {
		t.Errorf("relayed %v", counts)
	}
	if n := len(w.B.Backend.Asked()); n != 2 {
		t.Errorf("the backend was asked %d times for two verifications", n)
	}
}

// A counterparty that asks for a new key again and again is not obeyed without
// end.
func TestNewKeyNeededIsObeyedOnce(t *testing.T) {
	w := proxytest.NewWorld(t)
	var asked atomic.Pointer[[]byte]
	var requests atomic.Int32
	w.Central.Tamper(func(_, _ identity.VASPID, message []byte) ([]byte, error) {
		asked.Store(&message)
		if proxytest.TypeOf(message) == envelope.AccountRequest {
			requests.Add(1)
		}
		return message, nil
	})
	w.Central.TamperReply(func(_, _ identity.VASPID, reply []byte) ([]byte, error) {
		if proxytest.TypeOf(reply) != envelope.AccountAnswer {
			return reply, nil
		}
		return w.B.Reply(w.A, *asked.Load(), proxytest.Message{Type: envelope.Refusal, Payload: []byte("NEW-KEY-NEEDED")}), nil
	})
	status, answer := w.A.Call(http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID))
	if code, _ := problem(t, answer); status != http.StatusServiceUnavailable || code != "COUNTERPARTY-UNAVAILABLE" || requests.Load() != 2 {
		t.Errorf("%d %s after %d requests", status, answer, requests.Load())
	}
}
