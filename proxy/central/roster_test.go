package central_test

import (
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
)

// A member that is removed is refused at once, on the connection it has, and
// its lease ends; the others' exchange goes on, the one in progress too, on
// the connections they have. Put back, it is who it was, and has to register.
func TestAMemberIsRemovedAndComesBack(t *testing.T) {
	w := newWorld(t, nil)
	w.alpha.mustRegister()
	w.beta.mustRegister()
	w.gamma.mustRegister()
	arrived, goOn := make(chan struct{}), make(chan struct{})
	w.beta.behave(func(p *party) {
		p.message = func(rw http.ResponseWriter, r *http.Request, signed *relay.Verified) {
			if string(signed.Body) == "wait" {
				close(arrived)
				<-goOn
			}
			echo(rw, r, signed)
		}
	})
	inProgress := make(chan string, 2)
	go func() { inProgress <- w.gamma.deliver(w.beta.id, "wait") }()
	<-arrived
	if err := w.server.SetMembers(w.membersOf("", w.alpha, w.beta)); err != nil {
		t.Fatal(err)
	}
	if got := w.gamma.deliver(w.beta.id, "after"); !strings.HasPrefix(got, "no answer") && !strings.HasPrefix(got, "401") && !strings.HasPrefix(got, "403") {
		t.Errorf("a removed member's message: %s", got)
	}
	if err := w.gamma.register(); err == nil {
		t.Error("a removed member registered")
	}
	if got := w.alpha.deliver(w.gamma.id, "to one that is gone"); got != "404 UNKNOWN-VASP" {
		t.Errorf("a message to a removed member: %s", got)
	}
	if _, found := w.alpha.sees(w.gamma.id); found {
		t.Error("a removed member is in the directory")
	}
	if got := w.alpha.deliver(w.beta.id, "hello"); got != "to 102: hello" {
		t.Errorf("between the others: %s", got)
	}
	close(goOn)
	if got := <-inProgress; got != "to 102: wait" {
		t.Errorf("the exchange that was in progress: %s", got)
	}
	if n := w.server.Members(); n != 3 { // with one that is not active
		t.Errorf("%d members", n)
	}

	if err := w.server.SetMembers(w.members("")); err != nil {
		t.Fatal(err)
	}
	if got := w.gamma.deliver(w.beta.id, "early"); got != "412 NOT-REGISTERED" {
		t.Errorf("back, and not registered: %s", got)
	}
	if m, found := w.alpha.sees(w.gamma.id); !found || m.Identity == "" {
		t.Error("its identity was forgotten")
	}
	w.gamma.mustRegister()
	if got := w.gamma.deliver(w.alpha.id, "hello"); got != "to 101: hello" {
		t.Errorf("registered again: %s", got)
	}
}

// A change of members drops nobody's connection: hundreds of changes, and
// every request of the others goes over the connection of the first.
func TestChangesOfMembersDropNoConnection(t *testing.T) {
	w := newWorld(t, nil)
	w.alpha.mustRegister()
	w.beta.mustRegister()
	first := w.alpha.deliver(w.beta.id, "first")
	var dials atomic.Int64
	trace := &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) {
		if !c.Reused {
			dials.Add(1)
		}
	}}
	ctx := httptrace.WithClientTrace(t.Context(), trace)
	for i := range 200 {
		members := w.membersOf("", w.alpha, w.beta)
		if i%2 == 1 {
			members = w.members("")
		}
		if err := w.server.SetMembers(members); err != nil {
			t.Fatal(err)
		}
		if reply, err := w.alpha.client.Deliver(ctx, w.beta.id, []byte("again")); err != nil || string(reply) != "to 102: again" {
			t.Fatalf("change %d: %q, %v", i, reply, err)
		}
	}
	if n := dials.Load(); n != 0 || first != "to 102: first" {
		t.Errorf("%d connections were opened anew", n)
	}
}

// Keys change without a restart: the one taken away is refused at once, the
// one that stays signs what central sends, and a new member is let in.
func TestKeysAndNewMembersAreTakenOver(t *testing.T) {
	w := newWorld(t, nil)
	w.alpha.mustRegister()
	w.beta.mustRegister()
	old, kept := w.beta.keys[0], w.beta.keys[1]
	w.beta.keys = []relay.Key{kept}
	delta := w.party(identity.VASPID(105), "127.0.0.8")
	if err := w.server.SetMembers(w.membersOf("", w.alpha, w.beta, delta)); err != nil {
		t.Fatal(err)
	}
	w.beta.keys = []relay.Key{old, kept}
	if err := w.beta.register(); err == nil {
		t.Error("a key that was taken away signed a registration")
	}
	if got := w.alpha.deliver(w.beta.id, "hello"); got != "to 102: hello" {
		t.Errorf("to a member whose key was taken away: %s", got)
	}
	w.beta.client = w.beta.clientWith(kept, w.beta.address)
	w.beta.mustRegister()
	delta.client = delta.clientWith(delta.keys[0], delta.address)
	delta.mustRegister()
	if got := delta.deliver(w.beta.id, "new"); got != "to 102: new" {
		t.Errorf("from a new member: %s", got)
	}
	if got := w.alpha.deliver(delta.id, "welcome"); got != "to 105: welcome" {
		t.Errorf("to a new member: %s", got)
	}
}
