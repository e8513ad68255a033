package sandbox_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
)

// keyStatus is what enclave keys status --json says.
type keyStatus struct {
	KEKID    string
	DataKeys []struct {
		ID      uint32
		Purpose string
		Current bool
	}
	Rotation *struct{ Problem string }
}

func statusOfKeys(t *testing.T, v *sandbox.VASP) (s keyStatus, running bool) {
	t.Helper()
	code, said := operate(t, v, "keys", "status", "--json")
	if code != 0 {
		return s, false
	}
	if err := json.Unmarshal([]byte(said), &s); err != nil {
		t.Fatalf("keys status says %q: %v", said, err)
	}
	return s, true
}

// private is the number of the private data key.
func (s *keyStatus) private() uint32 {
	for _, k := range s.DataKeys {
		if k.Purpose == "private" && k.Current {
			return k.ID
		}
	}
	return 0
}

func privateKey(t *testing.T, v *sandbox.VASP) (id uint32) {
	t.Helper()
	eventually(t, time.Minute, "the enclave tells of its keys", func() bool {
		s, up := statusOfKeys(t, v)
		id = s.private()
		return up
	})
	return id
}

// keyOwner is a VASP whose database key changes.
type keyOwner struct {
	*sandbox.VASP
	dir   string
	n     int
	files []string // of the keys, the last one is the present one
}

func newKeyOwner(t *testing.T, a *sandbox.Alliance, v *sandbox.VASP) *keyOwner {
	t.Helper()
	o := &keyOwner{VASP: v, dir: a.Dir}
	for _, line := range v.Enclave.Env {
		if file, ok := strings.CutPrefix(line, "VEGA_ENCRYPTION_KEY_BASE64_FILE="); ok {
			o.files = append(o.files, file)
		}
	}
	return o
}

func learn(t *testing.T, value string) *atrest.KEK {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		t.Fatal(err)
	}
	kek, err := atrest.NewKEK(raw)
	if err != nil {
		t.Fatal(err)
	}
	return kek
}

// next makes a key and lets the next start know it and the present one.
func (o *keyOwner) next(t *testing.T) (file string, kek *atrest.KEK) {
	t.Helper()
	raw := make([]byte, 32)
	_, _ = rand.Read(raw)
	value := base64.StdEncoding.EncodeToString(raw)
	o.n++
	file = filepath.Join(o.dir, fmt.Sprintf("%s-key-%d", strings.Fields(o.Name)[0], o.n))
	if err := os.WriteFile(file, []byte(value+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o.Enclave.Env = append(slices.DeleteFunc(slices.Clone(o.Enclave.Env), func(line string) bool {
		return strings.HasPrefix(line, "VEGA_ENCRYPTION_KEY_BASE64")
	}), "VEGA_ENCRYPTION_KEY_BASE64_FILE="+file, "VEGA_ENCRYPTION_KEY_BASE64_PREVIOUS_FILE="+o.files[len(o.files)-1])
	o.files = append(o.files, file)
	return file, learn(t, value)
}

// load sends 50 verifications a second, and knows which requests failed when.
type load struct {
	mu           sync.Mutex
	acknowledged []string
	failed       []span
	down         []span // an enclave was killed and is not up again
	begun        int
}

type span struct{ from, to time.Time }

func (s span) meets(other span) bool { return s.from.Before(other.to) && other.from.Before(s.to) }

func (l *load) run(ctx context.Context, from, to *sandbox.VASP) {
	var requests sync.WaitGroup
	defer requests.Wait()
	tick := time.NewTicker(time.Second / 50)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		l.begun++
		requests.Go(func() {
			begun := time.Now()
			accepted, err := from.Verify(context.WithoutCancel(ctx), sandbox.Request(to.ID))
			l.mu.Lock()
			defer l.mu.Unlock()
			if err != nil {
				l.failed = append(l.failed, span{begun, time.Now()})
				return
			}
			l.acknowledged = append(l.acknowledged, accepted.VerificationUUID)
		})
	}
}

// kill ends an enclave with SIGKILL and starts it again.
func (l *load) kill(t *testing.T, v *sandbox.VASP) {
	t.Helper()
	begun := time.Now()
	if err := v.Enclave.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := v.Enclave.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = append(l.down, span{begun, time.Now().Add(100 * time.Millisecond)})
}

// S4: keys are rotated while 50 verifications a second come in and enclaves
// are killed in the middle of it. No request fails but for a kill, all that was
// acknowledged ends, and no value is left under an old key.
func TestKeysRotateUnderLoad(t *testing.T) {
	keks, datas, kills := 4, 2, 4
	if torture() {
		keks, datas, kills = 20, 5, 50
	}
	a := start(t, sandbox.Options{})
	alpha, bravo := newKeyOwner(t, a, a.VASPs[0]), newKeyOwner(t, a, a.VASPs[1])
	l := &load{}
	ctx, stop := context.WithCancel(t.Context())
	var loading sync.WaitGroup
	loading.Go(func() { l.run(ctx, alpha.VASP, bravo.VASP) })
	defer loading.Wait()
	defer stop()
	steps := keks + datas
	for i := range steps {
		o := alpha
		if i%2 == 1 {
			o = bravo
		}
		deaths := kills*(i+1)/steps - kills*i/steps
		data := i*datas/steps != (i+1)*datas/steps
		command := []string{"keys", "rotate-data", "--all"}
		var want *atrest.KEK
		if !data {
			var file string
			file, want = o.next(t)
			command = []string{"keys", "rotate-kek", "--value-file", file}
		}
		before := privateKey(t, o.VASP)
		var running sync.WaitGroup
		running.Go(func() { _, _ = operate(t, o.VASP, command...) }) // it may die with the enclave
		for range deaths {
			time.Sleep(time.Duration(mathrand.IntN(120)) * time.Millisecond)
			l.kill(t, o.VASP)
		}
		running.Wait()
		rotated(t, o.VASP, want, before, command)
		time.Sleep(200 * time.Millisecond) // of undisturbed load
	}
	stop()
	loading.Wait()
	t.Logf("%d KEK and %d data-key rotations, %d kills: %d requests, %d acknowledged, %d failed", keks, datas, len(l.down), l.begun, len(l.acknowledged), len(l.failed))
	for _, f := range l.failed {
		if !slices.ContainsFunc(l.down, f.meets) {
			t.Errorf("a request failed at %v though no enclave was down", f.from)
		}
	}
	if len(l.acknowledged) == 0 {
		t.Fatal("nothing was acknowledged: this test tests nothing")
	}
	eventually(t, 2*time.Minute, "every acknowledged verification ends", func() bool {
		for _, id := range l.acknowledged {
			if row, err := alpha.Row(t.Context(), id); err != nil || row.Result != "VERIFIED" {
				return false
			}
		}
		return true
	})
	if err := a.Stop(); err != nil {
		t.Error(err)
	}
	for _, o := range []*keyOwner{alpha, bravo} {
		present := learn(t, strings.TrimSpace(string(read(t, o.files[len(o.files)-1]))))
		db, err := bolt.Open(bolt.Options{Path: o.Database, KEK: present})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Check(t.Context()); err != nil {
			t.Errorf("%s: Check: %v", o.Name, err)
		}
		status, err := db.KeyStatus(t.Context())
		if err != nil || status.Rotation != nil || slices.ContainsFunc(status.Keys, func(k storage.DataKey) bool { return !k.Current }) {
			t.Errorf("%s: keys are %+v, %v", o.Name, status, err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

// rotated waits until a rotation is over, and begins it again when a kill came
// before it was stored.
func rotated(t *testing.T, v *sandbox.VASP, kek *atrest.KEK, before uint32, command []string) {
	t.Helper()
	eventually(t, time.Minute, strings.Join(command, " "), func() bool {
		s, up := statusOfKeys(t, v)
		switch {
		case !up:
			return false
		case s.Rotation != nil && s.Rotation.Problem != "":
			t.Fatalf("the rotation stopped: %s", s.Rotation.Problem)
		case s.Rotation != nil:
			return false
		case kek != nil && s.KEKID != kek.ID(), kek == nil && s.private() == before:
			_, _ = operate(t, v, command...)
			return false
		}
		return true
	})
}

// The enclave starts with whichever of two keys fits, says so, and takes the
// present one when it is told to.
func TestTheEnclaveStartsWithThePreviousKey(t *testing.T) {
	a := prepare(t, sandbox.Options{})
	o := newKeyOwner(t, a, a.VASPs[0])
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := o.Enclave.Stop(); err != nil {
		t.Fatal(err)
	}
	path, env := o.Enclave.Path, o.Enclave.Env
	_, want := o.next(t)
	if err := o.Enclave.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if log := string(read(t, o.Enclave.Log)); !strings.Contains(log, "VEGA_ENCRYPTION_KEY_BASE64_PREVIOUS: wrap it") {
		t.Errorf("the log does not say which key it is: %s", log)
	}
	if code, said := operate(t, o.VASP, "keys", "rotate-kek"); code != 0 || !strings.Contains(said, "under the key "+want.ID()) || !strings.Contains(said, "Do this next") {
		t.Errorf("rotate-kek: exit %d, said %q", code, said)
	}
	if code, said := operate(t, o.VASP, "keys", "rotate-kek"); code == 0 || !strings.Contains(said, "under this key already") {
		t.Errorf("rotate-kek again: exit %d, said %q", code, said)
	}
	if s, _ := statusOfKeys(t, o.VASP); s.KEKID != want.ID() {
		t.Errorf("the history is under %s, want %s", s.KEKID, want.ID())
	}
	if code, said := operate(t, o.VASP, "keys", "list"); code != 0 || strings.Count(said, "current") < 3 {
		t.Errorf("keys list: exit %d, said %q", code, said)
	}
	if err := o.Enclave.Stop(); err != nil {
		t.Fatal(err)
	}
	if code, said := run(t, path, env, "run"); code != 2 || !strings.Contains(said, "wrong key-encryption key") {
		t.Errorf("with the old key alone: exit %d, said %q", code, said)
	}
	if err := o.Enclave.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}
