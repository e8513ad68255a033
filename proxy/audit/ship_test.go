package audit_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// book is a log in memory.
type book struct {
	mu      sync.Mutex
	all     []storage.AuditEntry
	shipped []byte
	full    bool // it keeps nothing of how far sinks are
}

func (b *book) set(all []storage.AuditEntry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all = all
}

func (b *book) AuditLength(context.Context) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return uint64(len(b.all)), nil
}

func (b *book) Audit(_ context.Context, from uint64, limit int) ([]storage.AuditEntry, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if from > uint64(len(b.all)) {
		return nil, nil
	}
	rest := b.all[from-1:]
	return slices.Clone(rest[:min(limit, len(rest))]), nil
}

func (b *book) Shipped(context.Context) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shipped == nil {
		return nil, storage.ErrNotFound
	}
	return b.shipped, nil
}

func (b *book) Apply(_ context.Context, c *storage.Change) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.full {
		return storage.ErrReadOnly
	}
	b.shipped = c.Shipped
	return nil
}

// shelf is a sink in memory, which can fail.
type shelf struct {
	mu    sync.Mutex
	text  []byte
	fails bool
}

func (s *shelf) Write(_ context.Context, lines []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails {
		return errors.New("the shelf is full")
	}
	s.text = append(s.text, lines...)
	return nil
}

func (s *shelf) Close() error { return nil }

func (s *shelf) fail(yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails = yes
}

func (s *shelf) has() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.text)
}

func (s *shelf) verify(known ...*audit.Checkpoint) (*audit.Verified, error) {
	return audit.VerifyStream(bytes.NewReader(s.has()), known, nil)
}

type ship struct {
	*audit.Shipper
	stop func()
}

// sail starts a shipper of a book to shelves.
func sail(t *testing.T, b *book, by *identity.Signer, shelves map[string]audit.Sink) *ship {
	t.Helper()
	shipper, err := audit.NewShipper(t.Context(), audit.ShipperConfig{Log: b, Sinks: shelves, Now: time.Now, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		shipper.Run(ctx, func(from uint64, last storage.AuditEntry) ([]byte, error) {
			return audit.Checkpoint{Time: time.Now(), From: from, Seq: last.Seq, Hash: hex.EncodeToString(last.Hash[:])}.Sign(by)
		})
	}()
	return &ship{shipper, func() { cancel(); <-done }}
}

// Every sink gets every entry, in order, with checkpoints; one that fails for a
// while gets what it missed, and hinders no other.
func TestSinksGetTheWholeLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		by, all, b := newSigner(t), entries(5000), new(book)
		good, bad := new(shelf), &shelf{fails: true}
		s := sail(t, b, by, map[string]audit.Sink{"good": good, "bad": bad})
		for n := 1; n <= len(all); n += 250 {
			b.set(all[:n])
			time.Sleep(time.Second)
		}
		b.set(all)
		time.Sleep(2 * time.Minute)
		v, err := good.verify()
		if err != nil || v.Entries != 5000 || v.Unsigned != 0 || v.From != 1 || v.To != 5000 {
			t.Errorf("the good sink: %+v, %v", v, err)
		}
		if n := bytes.Count(good.has(), []byte(`{"checkpoint":`)); n < 5 || n > 10 {
			t.Errorf("%d checkpoints among 5000 entries", n)
		}
		if len(bad.has()) != 0 {
			t.Error("the failing sink has something")
		}
		bad.fail(false)
		time.Sleep(2 * time.Minute)
		if v, err := bad.verify(); err != nil || v.Entries != 5000 {
			t.Errorf("the other one, later: %+v, %v", v, err)
		}
		s.stop()
	})
}

// A checkpoint comes a minute after the first entry that has none.
func TestAQuietLogIsSignedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		by, all, b, sink := newSigner(t), entries(3), new(book), new(shelf)
		s := sail(t, b, by, map[string]audit.Sink{"sink": sink})
		defer s.stop()
		b.set(all[:2])
		time.Sleep(50 * time.Second)
		if _, err := sink.verify(); err == nil || !strings.Contains(err.Error(), "there is no checkpoint") {
			t.Errorf("after 50 s: %v", err)
		}
		time.Sleep(15 * time.Second)
		b.set(all)
		time.Sleep(time.Second)
		if v, err := sink.verify(); err != nil || v.Checkpoint.Seq != 2 || v.Unsigned != 1 {
			t.Errorf("after a minute: %+v, %v", v, err)
		}
	})
}

// After the end, orderly or not, a sink goes on where it was or a little
// before; nothing is missing, and what comes twice does not matter.
func TestAtLeastOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		by, all, b, sink := newSigner(t), entries(3000), new(book), new(shelf)
		for n := range 30 {
			b.mu.Lock()
			b.full = n%3 == 1 // as if it was killed before it was kept how far it had come
			b.mu.Unlock()
			s := sail(t, b, by, map[string]audit.Sink{"sink": sink})
			b.set(all[:(n+1)*100])
			time.Sleep(time.Duration(rand.IntN(8000)) * time.Millisecond)
			s.stop()
		}
		v, err := sink.verify()
		if err != nil || v.Entries != 3000 {
			t.Fatalf("%+v, %v", v, err)
		}
		lines := bytes.Count(sink.has(), []byte("\n")) - bytes.Count(sink.has(), []byte(`{"checkpoint":`))
		if lines == 3000 || lines > 3000+11*200 {
			t.Errorf("%d lines of 3000 entries: what came twice is not what a kill costs", lines)
		}
	})
}

// An older history that was put back, or one made anew, is sent whole, and who
// verifies the sink sees that there are two.
func TestAnOlderHistoryIsSeenInTheSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		by, all := newSigner(t), entries(400)
		other := slices.Clone(all)
		for i := 100; i < len(other); i++ {
			other[i].Outcome, other[i].Prev = "DENIED", other[i-1].Hash
			other[i].Hash = other[i].Sum()
		}
		for name, later := range map[string][]storage.AuditEntry{"older, and then another": other, "shorter": all[:50], "another": other[:300]} {
			b, sink := new(book), new(shelf)
			s := sail(t, b, by, map[string]audit.Sink{"sink": sink})
			b.set(all[:300])
			time.Sleep(2 * time.Minute)
			s.stop()
			b.set(later)
			s = sail(t, b, by, map[string]audit.Sink{"sink": sink})
			time.Sleep(2 * time.Minute)
			s.stop()
			_, err := sink.verify()
			if n := bytes.Count(sink.has(), []byte(`"seq":1,`)); n != 2 {
				t.Errorf("%s: the first entry was sent %d times", name, n)
			}
			if seen := err != nil && strings.Contains(err.Error(), "an older history was put back"); seen != (name != "shorter") {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// While every sink is too far behind, and only then, nothing more is to be
// taken; it ends by itself (target 25).
func TestBlockedSinksBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		by, all, b := newSigner(t), entries(audit.Buffered+100), new(book)
		one, two := &shelf{fails: true}, &shelf{fails: true}
		s := sail(t, b, by, map[string]audit.Sink{"one": one, "two": two})
		defer s.stop()
		want := func(when string, full bool) {
			t.Helper()
			time.Sleep(2 * time.Minute)
			if s.Full() != full {
				t.Errorf("%s: full is %t", when, s.Full())
			}
		}
		b.set(all[:audit.Buffered-1])
		want("not yet", false)
		b.set(all[:audit.Buffered])
		want("both fail", true)
		one.fail(false)
		want("one takes them", false)
		one.fail(true)
		b.set(all)
		want("one has most", false)
		two.fail(false)
		want("the other takes them", false)
		if none := sail(t, b, by, nil); none.Full() {
			t.Error("without sinks it is full")
		} else {
			none.stop()
		}
	})
}

// Every change, loss and exchange of a stream's lines is detected, but for the
// loss of its beginning, which the result tells, and of its end.
func TestEveryEditOfAStreamIsDetected(t *testing.T) {
	by, all := newSigner(t), entries(60)
	var good []string
	for i := range all {
		good = append(good, lineOf(t, &all[i]))
		if (i+1)%20 == 0 {
			good = append(good, checkpointOf(t, by, all[i-19].Seq, &all[i]))
		}
	}
	good = slices.Insert(good, 25, good[15:25]...) // what came twice
	verify := func(lines []string) error {
		_, err := audit.VerifyStream(bytes.NewReader(textOf(lines)), nil, nil)
		return err
	}
	if err := verify(good); err != nil {
		t.Fatal(err)
	}
	tried := 0
	for tried < 3000 {
		lines := slices.Clone(good)
		i, k := rand.IntN(len(lines)-1), rand.IntN(len(lines)-1)
		once := func(i int) bool {
			return !strings.HasPrefix(good[i], `{"checkpoint"`) && strings.Count(strings.Join(good, "\n"), good[i]) == 1
		}
		kind := rand.IntN(4)
		switch kind {
		case 0: // a byte
			b := []byte(lines[i])
			b[rand.IntN(len(b))] ^= 1 << rand.IntN(7)
			lines[i] = string(b)
		case 1: // one that was there once is not any more
			if !once(i) || i == 0 {
				continue
			}
			lines = slices.Delete(lines, i, i+1)
		case 2: // another order
			if i == k || !once(i) || !once(k) {
				continue
			}
			lines[i], lines[k] = lines[k], lines[i]
		case 3: // of another log
			other := entries(60)
			other[i%60].Reason += "x"
			other[i%60].Hash = other[i%60].Sum()
			lines[slices.Index(lines, lineOf(t, &all[i%60]))] = lineOf(t, &other[i%60])
		}
		tried++
		if err := verify(lines); err == nil && !slices.Equal(lines, good) {
			t.Fatalf("kind %d at %d and %d is not detected", kind, i, k)
		}
	}
	if v, err := audit.VerifyStream(bytes.NewReader(textOf(good[3:])), nil, nil); err != nil || v.From != 4 {
		t.Errorf("its beginning is missing: %+v, %v", v, err)
	}
	known, err := audit.ParseCheckpoint([]byte(checkpointOf(t, by, 1, &all[59])))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := audit.VerifyStream(bytes.NewReader(textOf(good[:50])), []*audit.Checkpoint{known}, nil); err == nil || !strings.Contains(err.Error(), "kept elsewhere is of entry 60") {
		t.Errorf("its end is missing: %v", err)
	}
}
