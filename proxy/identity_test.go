package proxy_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// rotate gives a party a new identity, signed for by its present one.
func rotate(t testing.TB, p *proxytest.Party) {
	t.Helper()
	if err := p.Enclave.RotateIdentity(t.Context(), p.History.Keys().PrivateAEAD(), "ops"); err != nil {
		t.Fatal(err)
	}
}

// replace gives a party a new identity without continuity.
func replace(t testing.TB, p *proxytest.Party) {
	t.Helper()
	if err := p.Enclave.ReplaceIdentity(t.Context(), p.History.Keys().PrivateAEAD(), "ops"); err != nil {
		t.Fatal(err)
	}
}

// A verification that is under way when we rotate our identity ends as if we
// had not: its reply key is promised anew under the next identity, and the
// answer opens with the private key it always had, over a restart too.
func TestAVerificationOutlivesARotation(t *testing.T) {
	unreachable := func(_, _ identity.VASPID, _ []byte) ([]byte, error) {
		return nil, &relay.Error{Code: relay.CodeUnreachable, Status: http.StatusBadGateway, Retryable: true}
	}
	for name := range keyTypes {
		for _, c := range []struct {
			when              string
			answered, restart bool
		}{{"before it left", false, false}, {"before it left, and a restart", false, true}, {"when its answer was lost", true, false}} {
			t.Run(name+"/"+c.when, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := proxytest.NewWorld(t)
					verified(w)
					finished(t, w, verify(t, w, request(w, ofType(name)...)))
					cut := w.Central.Tamper
					if c.answered {
						cut = w.Central.TamperReply
					}
					cut(unreachable)
					id := verify(t, w, request(w, ofType(name)...))
					if c.answered {
						cut(func(from, to identity.VASPID, m []byte) ([]byte, error) { // keys still come
							if len(w.B.Backend.Asked()) < 2 {
								return m, nil
							}
							return unreachable(from, to, m)
						})
						w.Await("B has answered", func() bool { return len(w.B.Backend.Asked()) == 2 })
					}
					rotate(t, w.A)
					if c.restart {
						w.A.Stop()
						w.A.Start()
					}
					refresh(w, w.B, func() bool { return len(audited(t, w.B, audit.FollowPeer)) == 1 })
					cut(nil)
					if r := finished(t, w, id); r["result"] != "VERIFIED" {
						t.Errorf("row = %v %v", r["result"], r["reason"])
					}
					if n := len(w.B.Backend.Asked()); n != 2 {
						t.Errorf("B's backend was asked %d times about two verifications", n)
					}
				})
			})
		}
	}
}

// While identities are rotated on both sides no account check fails, of however
// many are under way and whatever their key type: all who meet the next
// identity follow it, and what was under way is asked again.
func TestNoAccountCheckFailsInARotation(t *testing.T) {
	synctest.Test(t, noAccountCheckFailsInARotation)
}

func noAccountCheckFailsInARotation(t *testing.T) {
	w := proxytest.NewWorld(t, distant)
	for from, to := range map[*proxytest.Party]*proxytest.Party{w.A: w.B, w.B: w.A} { // they meet
		if status, answer := from.Call(http.MethodPost, "/v1/verifications/account", accountTo(to.ID)); status != http.StatusOK {
			t.Fatalf("account check = %d %s", status, answer)
		}
	}
	var hands sync.WaitGroup
	var checks atomic.Int32
	over := make(chan struct{})
	var names []string
	for name := range keyTypes {
		names = append(names, name)
	}
	many, rounds := 8, 1
	if os.Getenv("TORTURE") != "" {
		many, rounds = 32, 8
	}
	for hand := range many {
		for from, to := range map[*proxytest.Party]*proxytest.Party{w.A: w.B, w.B: w.A} {
			hands.Go(func() {
				account := []string{"0xAbC1", fmt.Sprintf("0xAbC%d", hand)}
				for {
					select {
					case <-over:
						return
					case <-time.After(time.Duration(100+hand) * time.Millisecond): // within the budgets of keys and checks
					}
					status, answer := from.Call(http.MethodPost, "/v1/verifications/account", accountTo(to.ID, append(ofType(names[hand%len(names)]), account...)...))
					if checks.Add(1); status != http.StatusOK || !contains(answer, `"VERIFIED"`) {
						t.Errorf("account check from %s = %d %s", from.ID, status, answer)
					}
				}
			})
		}
	}
	for round := range rounds {
		for p, peer := range map[*proxytest.Party]*proxytest.Party{w.A: w.B, w.B: w.A} {
			rotate(t, p)
			w.Await("the counterparty follows", func() bool { return len(audited(t, peer, audit.FollowPeer)) == round+1 })
		}
		time.Sleep(time.Second)
	}
	rotate(t, w.A) // both at once
	rotate(t, w.B)
	time.Sleep(time.Second)
	close(over)
	hands.Wait()
	for _, p := range []*proxytest.Party{w.A, w.B} {
		if n := len(audited(t, p, audit.FollowPeer)); n != rounds+1 {
			t.Errorf("%s followed %d rotations, want %d", p.ID, n, rounds+1)
		}
		if n := p.Metric("enclave_identity_misrepresented"); n != 0 {
			t.Errorf("%s says that central shows another identity for it", p.ID)
		}
		for reason, n := range p.Refusals() { // an alert is on these, and nobody forges here
			if n > 0 && slices.Contains([]string{"bad-signature", "other-identity", "recipient-identity", "conflict"}, reason) {
				t.Errorf("%s refused %v for %s in honest rotations", p.ID, n, reason)
			}
		}
	}
	t.Logf("%d account checks during %d rotations", checks.Load(), 2*rounds+2)
}

// A rotation is followed also by who has asked central just before, for another
// reason.
func TestARotationIsFollowedRightAfterAnotherLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := proxytest.NewWorld(t)
		ask(t, w.A, http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID))
		if status, answer := w.A.Call(http.MethodPost, "/v1/verifications/account", accountTo(777)); status != http.StatusBadRequest {
			t.Fatalf("a check with nobody = %d %s", status, answer)
		}
		rotate(t, w.B)
		w.Await("central has it", func() bool {
			return w.Central.Registration(w.B.ID).Identity == base64.StdEncoding.EncodeToString(chainOf(t, w.B))
		})
		ask(t, w.A, http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID))
	})
}

// distant puts central far away and lets it take its time to register, so that
// each step of an exchange may find that an identity has changed since the last.
func distant(c *proxy.Config) { c.Relay = distantCentral{c.Relay} }

type distantCentral struct{ proxy.Relay }

func (d distantCentral) Deliver(ctx context.Context, to identity.VASPID, message []byte) ([]byte, error) {
	time.Sleep(13 * time.Millisecond)
	defer time.Sleep(13 * time.Millisecond)
	return d.Relay.Deliver(ctx, to, message)
}

func (d distantCentral) Directory(ctx context.Context) (*relay.Directory, error) {
	defer time.Sleep(50 * time.Millisecond) // an old one, when it comes
	return d.Relay.Directory(ctx)
}

func (d distantCentral) Register(ctx context.Context, r relay.Registration) (*relay.Lease, error) {
	time.Sleep(200 * time.Millisecond)
	return d.Relay.Register(ctx, r)
}

// That an identity replaces the one that central knows is said to central
// until central has taken just that one, whatever dies in between, and never
// again.
func TestAReplacementIsRememberedUntilCentralTookIt(t *testing.T) {
	for name, before := range map[string]func(t *testing.T, w *proxytest.World){
		"replaced":                   func(t *testing.T, w *proxytest.World) { replace(t, w.A) },
		"replaced and rotated":       func(t *testing.T, w *proxytest.World) { replace(t, w.A); rotate(t, w.A) },
		"replaced, and tried before": func(t *testing.T, w *proxytest.World) { replace(t, w.A); time.Sleep(time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := proxytest.NewWorld(t)
				w.Central.Down(true)
				before(t, w)
				restart(t, w, true)
				restart(t, w, false)
			})
		})
	}
	t.Run("replaced again while central took it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := proxytest.NewWorld(t)
			taken := &afterRegistration{}
			w.A.Tweak(func(c *proxy.Config) { taken.Relay, c.Relay = c.Relay, taken })
			restart(t, w, false)
			var once sync.Once
			taken.do.Store(func() { once.Do(func() { w.Central.Down(true); replace(t, w.A) }) })
			replace(t, w.A)
			w.Await("it was replaced again", func() bool { return len(audited(t, w.A, audit.ReplaceIdentity)) == 2 })
			restart(t, w, true)
		})
	})
}

// restart starts A again, with central there, and waits until central has A's
// present identity and A knows that. It checks whether that was to replace
// another one.
func restart(t *testing.T, w *proxytest.World, replacing bool) {
	t.Helper()
	w.A.Stop()
	w.Central.Down(false)
	before := w.Central.Registrations(w.A.ID)
	w.A.Start()
	w.Await("A registers", func() bool { return w.Central.Registrations(w.A.ID) > before })
	r := w.Central.Registration(w.A.ID)
	if r.Replace != replacing || r.Identity != base64.StdEncoding.EncodeToString(chainOf(t, w.A)) {
		t.Errorf("registered with replace = %t, want %t", r.Replace, replacing)
	}
	w.Await("it is noted", func() bool {
		own, err := w.A.History.Identity(t.Context())
		return err == nil && !own.Replaces
	})
}

// afterRegistration does something between central's word and ours on it.
type afterRegistration struct {
	proxy.Relay
	do atomic.Value
}

func (a *afterRegistration) Register(ctx context.Context, r relay.Registration) (*relay.Lease, error) {
	lease, err := a.Relay.Register(ctx, r)
	if do, ok := a.do.Load().(func()); ok && err == nil {
		do()
	}
	return lease, err
}

// Attack K1: between an operator's look and his word central shows a third
// identity. Only the one that he saw can be accepted.
func TestOnlyTheIdentityThatWasShownIsAccepted(t *testing.T) {
	synctest.Test(t, onlyTheIdentityThatWasShownIsAccepted)
}

func onlyTheIdentityThatWasShownIsAccepted(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	finished(t, w, verify(t, w, request(w)))
	digits := func(s *identity.Signer) string { return identity.FingerprintDigits(s.Public()) }
	seen, other := mallory(t, w.B.ID), mallory(t, w.B.ID)
	view := func() proxy.PeerView {
		v, err := w.A.Enclave.PeerView(t.Context(), w.B.ID)
		if err != nil {
			t.Fatal(err)
		}
		return *v
	}
	refuses := func(digits, sentence string) {
		t.Helper()
		before := view()
		if _, err := w.A.Enclave.AcceptPeer(t.Context(), w.B.ID, digits, "ops"); err == nil || !strings.Contains(sentenceOf(err), sentence) {
			t.Errorf("accepted, or refused with %q, want %q", sentenceOf(err), sentence)
		}
		if after := view(); after != before {
			t.Errorf("a refusal changed %+v to %+v", before, after)
		}
	}
	accepts := func(by string) {
		t.Helper()
		v, err := w.A.Enclave.AcceptPeer(t.Context(), w.B.ID, by, "ops")
		if err != nil || v.State != storage.PeerTOFU.String() || v.Fingerprint != by || v.Acceptable != "" {
			t.Errorf("AcceptPeer = %+v, %v", v, err)
		}
	}
	const nothing, notThat = "nothing waits", "not the fingerprint"
	refuses(digits(w.B.Signer), nothing)
	for _, s := range []*identity.Signer{seen, other} {
		w.Central.ShowIdentity(w.B.ID, chain(t, s))
		refresh(w, w.A, func() bool { return view().Pending == digits(s) })
		if v := view(); v.Acceptable != v.Pending {
			t.Errorf("to be accepted is %q, shown %q", v.Acceptable, v.Pending)
		}
	}
	for _, given := range []string{digits(seen), digits(w.B.Signer), "", view().PendingSafetyNumber} {
		refuses(given, notThat)
	}
	accepts(digits(other))
	if _, err := w.A.Enclave.BlockPeer(t.Context(), w.B.ID, "ops"); err != nil {
		t.Fatal(err)
	}
	refuses(digits(seen), notThat)
	accepts(digits(other))
	// The pinned identity being shown again, it is the one to accept.
	w.Central.ShowIdentity(w.B.ID, chain(t, seen))
	refresh(w, w.A, func() bool { return view().Pending == digits(seen) })
	w.Central.ShowIdentity(w.B.ID, chain(t, other))
	refresh(w, w.A, func() bool { return view().Pending == "" })
	refuses(digits(seen), notThat)
	accepts(digits(other))
}

// A counterparty that was blocked, and has another identity since, stays blocked
// until its operator's new safety number is typed; a successor that the blocked
// one signed is not followed, since a thief may have signed it (K1).
func TestABlockedCounterpartyIsComparedByItsNewIdentity(t *testing.T) {
	for name, change := range map[string]func(testing.TB, *proxytest.Party){"replaced": replace, "rotated": rotate} {
		t.Run(name, func(t *testing.T) {
			w := proxytest.NewWorld(t)
			verified(w)
			ask(t, w.A, http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID))
			if _, err := w.A.Enclave.BlockPeer(t.Context(), w.B.ID, "ops"); err != nil {
				t.Fatal(err)
			}
			change(t, w.B)
			var v *proxy.PeerView
			w.Await("the new identity is shown", func() bool {
				w.A.Refresh()
				var err error
				if v, err = w.A.Enclave.PeerView(t.Context(), w.B.ID); err != nil {
					t.Fatal(err)
				}
				return v.Pending != ""
			})
			if v.State != storage.PeerBlocked.String() {
				t.Errorf("it is %s", v.State)
			}
			if status, _ := w.A.Call(http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID)); status != http.StatusForbidden {
				t.Errorf("an account check with a blocked counterparty = %d", status)
			}
			if v, err := w.A.Enclave.VerifyPeer(t.Context(), w.B.ID, v.PendingSafetyNumber, "ops"); err != nil || v.State != storage.PeerVerified.String() {
				t.Fatalf("VerifyPeer = %+v, %v", v, err)
			}
			if name == "rotated" {
				ask(t, w.A, http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID))
			}
		})
	}
}

// sentenceOf is what an operator reads of an error.
func sentenceOf(err error) string {
	if e, ok := err.(*proxy.Error); ok {
		return e.Message
	}
	return fmt.Sprint(err)
}
