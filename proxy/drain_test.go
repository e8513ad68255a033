package proxy_test

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
)

// One counterparty, which is neither A nor B, asks B for keys of every type as
// fast as it can: B's history does not grow by it, no type is given in place
// of another, what is refused is counted, and A's verifications with B go on
// meanwhile and none of them fails (K5, K9).
func TestAKeyDrainHurtsNobodyElse(t *testing.T) {
	n, rounds := 5_000, 1
	if os.Getenv("TORTURE") != "" {
		n, rounds = 100_000, 3
	}
	// At the log level of a running enclave: nobody keeps all debug lines in memory.
	w := proxytest.NewWorld(t, func(c *proxy.Config) { c.Logger = slog.New(slog.NewJSONHandler(io.Discard, nil)) })
	d, o := newDrainer(t, w), newOthers(t, w)
	before := size(t, w.B.File)
	d.drain(n, 0)
	grown := size(t, w.B.File) - before
	t.Logf("%d key requests of each type: the history grew by %d bytes", n, grown)
	if grown >= 1<<20 {
		t.Error("that is 1 MiB or more")
	}
	d.check()

	// As many again while others use B, at 100,000 of each type a minute; in
	// slices, with and without by turns, so that what else this machine does
	// meets both.
	const turns = 5
	var alone, beside []time.Duration
	for range rounds {
		var without, with []time.Duration
		for range turns {
			drained := make(chan struct{})
			go func() {
				defer close(drained)
				d.drain(n/rounds/turns, time.Minute/100_000)
			}()
			took := o.verifyUntil(drained)
			with = append(with, took...)
			without = append(without, o.verify(len(took))...)
		}
		alone, beside = append(alone, percentile(without, 99)), append(beside, percentile(with, 99))
		t.Logf("p99 of %d verifications: %s without the drain, %s with it", len(with), alone[len(alone)-1], beside[len(beside)-1])
	}
	d.check()
	if a, b := percentile(alone, 50), percentile(beside, 50); rounds >= 3 && b > 2*a {
		t.Errorf("the others' p99 goes from %s to %s", a, b)
	}
}

// drainer is a member of the alliance that asks B for keys.
type drainer struct {
	t       *testing.T
	w       *proxytest.World
	signer  *identity.Signer
	asked   atomic.Uint64
	refused map[identity.KeyType]*atomic.Int64
}

func newDrainer(t *testing.T, w *proxytest.World) *drainer {
	const id = 3
	d := &drainer{t: t, w: w, signer: mallory(t, id), refused: map[identity.KeyType]*atomic.Int64{
		identity.PerVASP: {}, identity.PerAddress: {}, identity.PerVerification: {},
	}}
	shown := base64.StdEncoding.EncodeToString(chain(t, d.signer))
	w.Central.EditDirectory(func(v *relay.Directory) {
		m := v.VASPs[0]
		m.VASPID, m.Identity = id, shown
		v.VASPs = append(v.VASPs, m)
	})
	refresh(w, w.B, func() bool { return proxytest.TypeOf(d.ask(identity.PerVASP)) == envelope.KeyAnswer })
	return d
}

// ask asks for one key, of a PerAddress key's kind for an address never named
// before.
func (d *drainer) ask(kind identity.KeyType) (reply []byte) {
	n := d.asked.Add(1)
	_, reply = d.w.Central.Send(d.w.B.ID, d.w.A.Seal(d.w.B, proxytest.Message{
		Type: envelope.KeyRequest, Payload: make([]byte, 32), Signer: d.signer,
		Edit: func(h *envelope.Header) {
			h.Sender, h.KeyType = d.signer.Public().VASP(), kind
			if kind == identity.PerAddress {
				binary.BigEndian.PutUint64(h.Scope[:], n)
			}
		},
	}))
	return reply
}

// drain asks for n keys of each type, all types at once: one each pace, or
// without a pause.
func (d *drainer) drain(n int, pace time.Duration) {
	start := time.Now()
	var types sync.WaitGroup
	for kind, refused := range d.refused {
		types.Go(func() {
			for i := range n {
				time.Sleep(time.Until(start.Add(time.Duration(i) * pace)))
				parsed, err := envelope.Parse(d.ask(kind))
				switch {
				case err != nil:
					d.t.Errorf("asked for %s: %v", kind, err)
					return
				case parsed.Header.Type == envelope.Refusal:
					refused.Add(1)
				case parsed.Header.Type != envelope.KeyAnswer, parsed.Header.KeyType != kind:
					d.t.Errorf("asked for %s, got a %s of %s", kind, parsed.Header.Type, parsed.Header.KeyType)
				}
			}
		})
	}
	types.Wait()
}

// check compares what was refused with what B counted.
func (d *drainer) check() {
	d.t.Helper()
	for kind, refused := range d.refused {
		want, counted := float64(refused.Load()), d.w.B.Metric("enclave_keys_exhausted_total", kind.String())
		if want == 0 || counted != want {
			d.t.Errorf("%s: %v refused, %v counted", kind, want, counted)
		}
	}
}

// others are A's verifications with B, of all key types by turns.
type others struct {
	t    *testing.T
	w    *proxytest.World
	told chan []byte // A's callbacks
}

func newOthers(t *testing.T, w *proxytest.World) *others {
	o := &others{t: t, w: w, told: make(chan []byte, 1)}
	verified(w)
	w.A.Backend.OnCallback(func(body []byte) error {
		o.told <- body
		return nil
	})
	o.verify(10)
	return o
}

// verify makes n verifications one after the other, and gives how long each
// took from request to callback.
func (o *others) verify(n int) (took []time.Duration) {
	o.t.Helper()
	for i := range n {
		took = append(took, o.one([]string{"PerVasp", "PerAddress", "PerVerification"}[i%3]))
	}
	return took
}

// verifyUntil makes verifications until the channel is closed.
func (o *others) verifyUntil(closed <-chan struct{}) (took []time.Duration) {
	o.t.Helper()
	for {
		took = append(took, o.verify(3)...)
		select {
		case <-closed:
			return took
		default:
		}
	}
}

func (o *others) one(keyType string) time.Duration {
	o.t.Helper()
	start := time.Now()
	id := verify(o.t, o.w, request(o.w, ofType(keyType)...))
	var callback struct {
		Data struct{ VerificationUUID, VerificationResult string }
	}
	if err := json.Unmarshal(o.callback(), &callback); err != nil {
		o.t.Fatal(err)
	}
	took := time.Since(start)
	if callback.Data.VerificationUUID != id || callback.Data.VerificationResult != "VERIFIED" {
		o.t.Fatalf("%s: told of %+v, want %s", keyType, callback.Data, id)
	}
	return took
}

func (o *others) callback() []byte {
	o.t.Helper()
	select {
	case body := <-o.told:
		return body
	case <-time.After(time.Minute):
		o.t.Fatal("no callback")
		return nil
	}
}

// percentile sorts what it is given.
func percentile(all []time.Duration, p int) time.Duration {
	slices.Sort(all)
	return all[len(all)*p/100]
}

func size(t *testing.T, file string) int64 {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
