package audit_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

func newSigner(t testing.TB) *identity.Signer {
	t.Helper()
	s, err := identity.NewSigner(101)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var verbs = []string{audit.Accept, audit.Open, audit.Finish, audit.PinPeer}

// entries are a chain of n.
func entries(n int) []storage.AuditEntry {
	all := make([]storage.AuditEntry, n)
	var prev [32]byte
	for i := range all {
		e := &all[i]
		*e = storage.AuditEntry{
			Seq: uint64(i + 1), Prev: prev, Time: time.UnixMilli(1.79e12 + int64(i)*977).UTC(), Actor: audit.Backend, Verb: verbs[i%len(verbs)],
			Object: fmt.Sprintf("b1d6a3b2-0000-4000-8000-%012d", i), Peer: identity.VASPID(i % 3 * 101), Outcome: audit.OK, Reason: strings.Repeat("<&>", i%2),
		}
		e.Hash = e.Sum()
		prev = e.Hash
	}
	return all
}

func lineOf(t testing.TB, e *storage.AuditEntry) string {
	t.Helper()
	l, err := audit.Line(e)
	if err != nil {
		t.Fatal(err)
	}
	return string(l)
}

func checkpointOf(t testing.TB, by *identity.Signer, from uint64, last *storage.AuditEntry) string {
	t.Helper()
	c, err := audit.Checkpoint{Time: time.Now(), From: from, Seq: last.Seq, Hash: hex.EncodeToString(last.Hash[:])}.Sign(by)
	if err != nil {
		t.Fatal(err)
	}
	return string(c)
}

// export is the lines of an export of all.
func export(t testing.TB, by *identity.Signer, all []storage.AuditEntry) (lines []string) {
	t.Helper()
	for i := range all {
		lines = append(lines, lineOf(t, &all[i]))
	}
	return append(lines, checkpointOf(t, by, all[0].Seq, &all[len(all)-1]))
}

func textOf(lines []string) []byte { return []byte(strings.Join(lines, "\n") + "\n") }

func verify(lines []string, known ...*audit.Checkpoint) (*audit.Verified, error) {
	return audit.Verify(bytes.NewReader(textOf(lines)), known, nil)
}

func TestAnExportVerifies(t *testing.T) {
	all, by := entries(300), newSigner(t)
	for _, part := range [][]storage.AuditEntry{all, all[:1], all[200:], all[299:]} {
		v, err := verify(export(t, by, part))
		if err != nil {
			t.Fatal(err)
		}
		if v.Entries != uint64(len(part)) || v.Checkpoint.From != part[0].Seq || v.Checkpoint.VASP != 101 || !v.First.Equal(part[0].Time) {
			t.Errorf("verified %+v with %+v", v, v.Checkpoint)
		}
	}
}

// What somebody may do to an export who has no key of the enclave, but can
// hash (G1, S3).
var edits = map[string]func(r *rand.Rand, lines []string) []string{
	"a byte": func(r *rand.Rand, lines []string) []string {
		i := r.IntN(len(lines))
		b := []byte(lines[i])
		b[r.IntN(len(b))] ^= byte(1 + r.IntN(255))
		lines[i] = string(b)
		return lines
	},
	"a byte more": func(r *rand.Rand, lines []string) []string {
		i := r.IntN(len(lines))
		at := r.IntN(len(lines[i]) + 1)
		lines[i] = lines[i][:at] + string(rune(' '+r.IntN(90))) + lines[i][at:]
		return lines
	},
	"a byte less": func(r *rand.Rand, lines []string) []string {
		i := r.IntN(len(lines))
		at := r.IntN(len(lines[i]))
		lines[i] = lines[i][:at] + lines[i][at+1:]
		return lines
	},
	"a line dropped": func(r *rand.Rand, lines []string) []string {
		i := r.IntN(len(lines))
		return slices.Delete(lines, i, i+1)
	},
	"a line twice": func(r *rand.Rand, lines []string) []string {
		i := r.IntN(len(lines))
		return slices.Insert(lines, i, lines[i])
	},
	"two lines exchanged": func(r *rand.Rand, lines []string) []string {
		i := r.IntN(len(lines))
		j := (i + 1 + r.IntN(len(lines)-1)) % len(lines)
		lines[i], lines[j] = lines[j], lines[i]
		return lines
	},
	"the beginning cut off": func(r *rand.Rand, lines []string) []string { return lines[1+r.IntN(len(lines)-1):] },
	"the end cut off":       func(r *rand.Rand, lines []string) []string { return lines[:r.IntN(len(lines))] },
	"the end cut off before the checkpoint": func(r *rand.Rand, lines []string) []string {
		n := len(lines) - 1
		return slices.Delete(lines, r.IntN(n), n)
	},
	"the text cut off anywhere": func(r *rand.Rand, lines []string) []string {
		text := textOf(lines)
		cut := string(text[:r.IntN(len(text)-1)])
		return strings.Split(strings.TrimSuffix(cut, "\n"), "\n")
	},
	"an entry changed, and all hashes after it": func(r *rand.Rand, lines []string) []string {
		i := r.IntN(len(lines) - 1)
		return rehash(lines, i, func(e *storage.AuditEntry) { e.Outcome = "DENIED" })
	},
	"an entry of one's own, and all hashes after it": func(r *rand.Rand, lines []string) []string {
		i := r.IntN(len(lines) - 1)
		lines = slices.Insert(lines, i, lines[i])
		return rehash(lines, i, func(e *storage.AuditEntry) { e.Object = "b1d6a3b2-0000-4000-8000-ffffffffffff" })
	},
	"an entry left out, and all hashes after it": func(r *rand.Rand, lines []string) []string {
		i := r.IntN(len(lines) - 1)
		return rehash(slices.Delete(lines, i, i+1), i, func(*storage.AuditEntry) {})
	},
}

// rehash makes a chain anew from the i-th line on, after a change of that one.
func rehash(lines []string, i int, change func(*storage.AuditEntry)) []string {
	for j := i; j < len(lines)-1; j++ {
		var l struct {
			Seq                                              uint64
			Time                                             time.Time
			Actor, Verb, Object, Outcome, Reason, Prev, Peer string
		}
		if err := json.Unmarshal([]byte(lines[j]), &l); err != nil {
			panic(err)
		}
		peer, _ := identity.ParseVASPID(l.Peer)
		e := storage.AuditEntry{Seq: uint64(j + 1), Time: l.Time, Actor: l.Actor, Verb: l.Verb, Object: l.Object, Peer: peer, Outcome: l.Outcome, Reason: l.Reason}
		if j > 0 {
			var before struct{ Hash string }
			_ = json.Unmarshal([]byte(lines[j-1]), &before)
			b, _ := hex.DecodeString(before.Hash)
			e.Prev = [32]byte(b)
		}
		if j == i {
			change(&e)
		}
		e.Hash = e.Sum()
		line, _ := audit.Line(&e)
		lines[j] = string(line)
	}
	return lines
}

func TestEveryEditIsDetected(t *testing.T) {
	const each = 800 // of 13 kinds: 10,400
	all, by := entries(40), newSigner(t)
	good := export(t, by, all)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	tried := 0
	for name, edit := range edits {
		for range each {
			lines := edit(r, slices.Clone(good))
			if slices.Equal(lines, good) {
				continue
			}
			tried++
			if v, err := verify(lines); err == nil {
				t.Fatalf("%s: verified as %d entries:\n%s", name, v.Entries, textOf(lines))
			}
		}
	}
	t.Logf("%d edits of %d kinds, all detected", tried, len(edits))
	if tried < 10_000 {
		t.Errorf("only %d edits", tried)
	}
}

// Who can make the whole history anew, key and all, still meets the checkpoints
// that were kept elsewhere.
func TestCheckpointsKeptElsewhere(t *testing.T) {
	by := newSigner(t)
	all := entries(50)
	point := func(n int) *audit.Checkpoint {
		c, err := audit.ParseCheckpoint([]byte(checkpointOf(t, by, 1, &all[n-1])))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if _, err := verify(export(t, by, all), point(1), point(20), point(50)); err != nil {
		t.Fatal(err)
	}
	shorter := export(t, by, all[:30])
	if _, err := verify(shorter, point(31)); err == nil || !strings.Contains(err.Error(), "the last one here is entry 30") {
		t.Errorf("a log cut off before a known checkpoint: %v", err)
	}
	if _, err := verify(export(t, by, all[25:]), point(20)); err == nil || !strings.Contains(err.Error(), "give what comes before, too") {
		t.Errorf("an export from behind a known checkpoint: %v", err)
	}
	other := rehash(export(t, by, all), 10, func(e *storage.AuditEntry) { e.Outcome = "DENIED" })
	var last struct{ Hash string }
	if err := json.Unmarshal([]byte(other[49]), &last); err != nil {
		t.Fatal(err)
	}
	forged, err := audit.Checkpoint{Time: time.Now(), From: 1, Seq: 50, Hash: last.Hash}.Sign(by)
	if err != nil {
		t.Fatal(err)
	}
	other[50] = string(forged)
	if _, err := verify(other); err != nil {
		t.Fatalf("the forged log is no log: %v", err)
	}
	if _, err := verify(other, point(20)); err == nil || !strings.Contains(err.Error(), "entry 20 is not the one of a checkpoint") {
		t.Errorf("a log made anew: %v", err)
	}
	stranger, err := identity.NewSigner(103)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verify(export(t, stranger, all), point(20)); err == nil || !strings.Contains(err.Error(), "of VASP 101") {
		t.Errorf("another VASP's log: %v", err)
	}
}

// A million entries: TORTURE makes them all and says how long it takes.
func TestAMillionEntriesVerify(t *testing.T) {
	n := 50_000
	if os.Getenv("TORTURE") != "" {
		n = 1_000_000
	}
	text := textOf(export(t, newSigner(t), entries(n)))
	begun := time.Now()
	v, err := audit.Verify(bytes.NewReader(text), nil, nil)
	if err != nil || v.Entries != uint64(n) {
		t.Fatalf("%+v, %v", v, err)
	}
	t.Logf("%d entries, %d bytes, verified in %s", n, len(text), time.Since(begun).Round(time.Millisecond))
}

// No text makes the reading panic, or verifies that was not signed.
func FuzzVerify(f *testing.F) {
	by, err := identity.NewSigner(101)
	if err != nil {
		f.Fatal(err)
	}
	good := textOf(export(f, by, entries(3)))
	f.Add(good[:len(good)-2])
	f.Add(bytes.Replace(good, []byte("101"), []byte("102"), 1))
	f.Fuzz(func(t *testing.T, text []byte) {
		if v, err := audit.Verify(bytes.NewReader(text), nil, nil); err == nil && !bytes.Equal(text, good) {
			t.Fatalf("verified: %+v", v)
		}
	})
}
