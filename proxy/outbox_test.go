package proxy_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// While central is away it is knocked at by one delivery every few seconds,
// however many wait; when it is back, they come no faster than it takes them.
func TestOutboxDoesNotStormACentralThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := proxytest.NewWorld(t, func(c *proxy.Config) { c.Timeout = time.Hour })
		verified(w)
		verify(t, w, request(w))
		w.Await("B is known", func() bool { return len(w.A.Backend.Callbacks()) == 1 })
		const waiting = 300
		start := w.Central.Attempts()
		w.Central.Down(true)
		for range waiting {
			verify(t, w, request(w))
		}
		time.Sleep(time.Minute)
		first := w.Central.Attempts() - start
		time.Sleep(10 * time.Minute)
		later := w.Central.Attempts() - start - first
		if first > 400 || later < 60 || later > 400 {
			t.Errorf("%d waiting entries made %d attempts in the first minute and %d in the next ten", waiting, first, later)
		}
		w.Central.Down(false)
		w.Await("all called back", func() bool { return len(w.A.Backend.Callbacks()) == 1+waiting })
		if repeated := w.Central.Attempts() - start - first - later - waiting; repeated > 100 {
			t.Errorf("%d deliveries needed %d attempts more than one each after central was back", waiting, repeated)
		}
		if n := w.A.Metric("enclave_outbox_entries"); n != 0 {
			t.Errorf("the outbox is said to hold %v entries", n)
		}
	})
}

// Who waits hears of the timeout when it is due, also behind others that are
// not: their lane being held is no reason to wait.
func TestOutboxGivesUpInTimeWhileCentralIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := proxytest.NewWorld(t, func(c *proxy.Config) { c.Timeout = 10 * time.Minute })
		w.Central.Down(true)
		accepted := map[string]time.Time{}
		heard := map[string]time.Duration{}
		var mu sync.Mutex
		w.A.Backend.OnCallback(func(body []byte) error {
			mu.Lock()
			defer mu.Unlock()
			for id, at := range accepted {
				if strings.Contains(string(body), id) {
					heard[id] = time.Since(at)
				}
			}
			return nil
		})
		for range 60 { // one every twenty seconds, so that later ones are not due when the first are
			id := verify(t, w, request(w))
			mu.Lock()
			accepted[id] = time.Now()
			mu.Unlock()
			time.Sleep(20 * time.Second)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if len(heard) != len(accepted) {
			t.Errorf("%d of %d timeouts were told", len(heard), len(accepted))
		}
		for id, after := range heard {
			if after < 10*time.Minute || after > 10*time.Minute+15*time.Second {
				t.Errorf("verification %s: REQUEST-TIMEOUT after %v", id, after)
			}
		}
	})
}

// A counterparty that does not answer holds up neither others nor callbacks.
func TestOutboxLanesAreIndependent(t *testing.T) {
	w := proxytest.NewWorld(t)
	stuck := make(chan struct{})
	defer close(stuck)
	w.Central.Tamper(func(_, to identity.VASPID, message []byte) ([]byte, error) {
		if to == w.B.ID {
			<-stuck
		}
		return message, nil
	})
	for range 300 { // more than may be under way at once
		verify(t, w, request(w))
	}
	id := verify(t, w, requestTo(w.A.ID))
	w.Await("the transfer to another VASP is done", func() bool { return called(w.A, id) == 1 })
}

// Verifications that never arrive, while others do, hold those up by seconds
// at most, however many they are and however little is to do.
func TestOutboxIsNotBlockedByTheUndeliverable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := proxytest.NewWorld(t, func(c *proxy.Config) { c.Timeout = time.Hour })
		verified(w)
		finished(t, w, verify(t, w, request(w)))
		var mu sync.Mutex
		never := map[string]bool{}
		w.Central.Tamper(func(_, _ identity.VASPID, message []byte) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			if parsed, err := envelope.Parse(message); err == nil && never[uuid.UUID(parsed.Header.Verification).String()] {
				return nil, proxytest.ErrDown
			}
			return message, nil
		})
		mu.Lock()
		for range 50 {
			never[verify(t, w, request(w))] = true
		}
		mu.Unlock()
		time.Sleep(time.Minute)
		for range 30 {
			start := time.Now()
			id := verify(t, w, request(w))
			w.AwaitWithin(time.Hour, "it is done", func() bool { return called(w.A, id) == 1 })
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
			time.Sleep(20 * time.Second)
		}
	})
}

// slowOutbox lets a test act before and after its entries are read.
type slowOutbox struct {
	storage.History
	before, after func()
}

func (s *slowOutbox) Outbox(ctx context.Context) ([]*storage.OutboxEntry, error) {
	s.before()
	defer s.after()
	return s.History.Outbox(ctx)
}

// What is accepted while the enclave reads its outbox at start may be in what
// it reads or not; it is delivered once.
func TestOutboxSchedulesOnceWhatIsAcceptedDuringStart(t *testing.T) {
	w := proxytest.NewWorld(t)
	w.A.Stop()
	reading, read, proceed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	w.A.Tweak(func(c *proxy.Config) {
		c.History = &slowOutbox{c.History,
			func() { reading <- struct{}{}; <-proceed },
			func() { read <- struct{}{}; <-proceed },
		}
	})
	w.A.Start()
	var ids []string
	for _, at := range []chan struct{}{reading, read} {
		<-at
		for range 10 {
			ids = append(ids, verify(t, w, request(w)))
		}
		proceed <- struct{}{}
	}
	for _, id := range ids {
		w.Await("called back", func() bool { return called(w.A, id) == 1 })
	}
	w.Await("the outbox is empty", func() bool { return w.A.Metric("enclave_outbox_entries") == 0 })
	if n := w.A.Metric("enclave_outbox_attempts_total", "ok"); n != 40 {
		t.Errorf("%v deliveries of 20 verifications and 20 callbacks", n)
	}
}

// An entry whose row is gone has nothing to deliver, and is not tried for ever.
func TestOutboxDropsAnEntryWithoutRow(t *testing.T) {
	w := proxytest.NewWorld(t)
	w.A.Stop()
	w.A.Tweak(func(c *proxy.Config) {
		for _, kind := range []storage.OutboxKind{storage.ToPeerVerification, storage.ToPeerError, storage.ToBackend} {
			orphan := &storage.OutboxEntry{Kind: kind, Originating: c.Self, UUID: [16]byte{1}, Counterparty: w.B.ID, Created: c.Now(), Deadline: c.Now().Add(time.Hour)}
			if err := c.History.Apply(context.Background(), &storage.Change{Outbox: []*storage.OutboxEntry{orphan}}); err != nil {
				t.Fatal(err)
			}
		}
	})
	w.A.Start()
	w.Await("the entries are dropped", func() bool {
		left, err := w.A.History.Outbox(t.Context())
		return err == nil && len(left) == 0
	})
	w.Await("the gauge is zero", func() bool { return w.A.Metric("enclave_outbox_entries") == 0 })
}
