package bolt_test

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A step is what the store did to its file, or told its caller.
type step struct {
	sync     bool // what was before has reached the disk
	truncate bool // to size at
	at       int64
	data     []byte
	row      int // acknowledged in this version
	version  uint64
}

// H3, S7: the machine dies at any point. What was written since the last sync has then
// reached the disk, or not, write by write and sector by sector in any order.
// Whatever is there, the file opens, every value is whole, and nothing is
// missing that was acknowledged.
func TestCrashImages(t *testing.T) {
	path := newPath(t)
	mustClose(t, mustOpen(t, options(t, path)))
	before := readFile(t, path)
	log := filepath.Join(t.TempDir(), "strace")
	strace(t, path, "-o", log, "-xx", "-s", strconv.Itoa(16<<20), "-e", "trace=pwrite64,fdatasync,fsync,ftruncate,write", "-e", "signal=none")
	steps := readSteps(t, log)
	if got := play(before, steps); !bytes.Equal(got, readFile(t, path)) {
		t.Fatal("the steps replayed are not the file: strace's log is not read as it is meant")
	}
	syncs, acknowledged := 0, 0
	for _, s := range steps {
		if s.sync {
			syncs++
		}
		if s.version > 0 {
			acknowledged++
		}
	}
	if acknowledged != 2*oneByOne || syncs < 4*oneByOne {
		t.Fatalf("%d acknowledged changes and %d syncs", acknowledged, syncs)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	images, torn := short(1500, 30_000), 0
	image := newPath(t)
	for i := range images {
		at := random.IntN(len(steps) + 1)
		b, last, mixed := crash(before, steps[:at], random)
		if mixed {
			torn++
		}
		writeFile(t, image, b)
		db := mustOpen(t, options(t, image))
		if err := db.Check(t.Context()); err != nil {
			t.Errorf("Check: %v", err)
		}
		checkAcknowledged(t, db, last)
		mustClose(t, db)
		if t.Failed() {
			t.Fatalf("image %d, at step %d of %d", i, at, len(steps))
		}
	}
	t.Logf("%d images of %d steps, %d of them with writes that reached the disk in part; all opened", images, len(steps), torn)
	if torn < images/4 {
		t.Error("too few images are mixed: this test tests little")
	}
}

const sector = 512

// crash is the file after the steps, of which those since the last sync are
// there in part, and what had been acknowledged.
func crash(before []byte, steps []step, random *rand.Rand) (image []byte, last map[int]uint64, mixed bool) {
	synced := 0
	last = map[int]uint64{}
	for i, s := range steps {
		if s.sync {
			synced = i
		}
		if s.version > 0 {
			last[s.row] = s.version
		}
	}
	image = play(before, steps[:synced])
	var kept []step
	for _, s := range steps[synced:] {
		switch random.IntN(3) {
		case 0: // whole
			kept = append(kept, s)
		case 1: // not at all
			mixed = mixed || s.data != nil
		default: // some of its sectors
			mixed = mixed || s.data != nil
			if s.truncate {
				kept = append(kept, s)
			}
			for from := 0; from < len(s.data); from += sector {
				if random.IntN(2) == 0 {
					kept = append(kept, step{at: s.at + int64(from), data: s.data[from:min(from+sector, len(s.data))]})
				}
			}
		}
	}
	random.Shuffle(len(kept), func(i, j int) { kept[i], kept[j] = kept[j], kept[i] })
	return play(image, kept), last, mixed
}

// play does the steps to a copy of the file.
func play(before []byte, steps []step) []byte {
	b := bytes.Clone(before)
	resize := func(n int64) {
		for int64(len(b)) < n {
			b = append(b, make([]byte, n-int64(len(b)))...)
		}
	}
	for _, s := range steps {
		switch {
		case s.truncate:
			resize(s.at)
			b = b[:s.at]
		case s.data != nil:
			resize(s.at + int64(len(s.data)))
			copy(b[s.at:], s.data)
		}
	}
	return b
}

// readSteps reads strace's log, in which a call that another thread's came
// into stands in two lines.
func readSteps(t *testing.T, log string) (steps []step) {
	t.Helper()
	f, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	begun := map[string]string{}
	for lines := bufio.NewReader(f); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return steps
		}
		pid, call, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		call = strings.TrimSpace(call)
		if first, ok := strings.CutSuffix(call, " <unfinished ...>"); ok {
			begun[pid] = first
			continue
		}
		if rest, ok := strings.CutPrefix(call, "<... "); ok {
			_, rest, _ = strings.Cut(rest, " resumed>")
			call = begun[pid] + rest
		}
		if s, ok := readStep(t, call); ok {
			steps = append(steps, s)
		}
	}
}

func readStep(t *testing.T, call string) (s step, ok bool) {
	t.Helper()
	name, arguments, _ := strings.Cut(call, "(")
	arguments, result, _ := strings.Cut(arguments, ") ")
	if strings.HasPrefix(name, "+++") || strings.HasPrefix(name, "???") { // a thread that ends, its last call not said
		return s, false
	}
	if result = strings.TrimSpace(result); strings.HasPrefix(result, "= -1") || !strings.HasPrefix(result, "= ") {
		t.Fatalf("strace says %.200q", call)
	}
	part := strings.Split(arguments, ", ")
	number := func(i int) int64 {
		n, err := strconv.ParseInt(part[i], 10, 64)
		if err != nil {
			t.Fatalf("strace says %.200q: %v", call, err)
		}
		return n
	}
	switch name {
	case "fdatasync", "fsync":
		return step{sync: true}, true
	case "ftruncate":
		return step{truncate: true, at: number(1)}, true
	case "pwrite64":
		s = step{at: number(3), data: unhex(t, part[1])}
		if int64(len(s.data)) != number(2) {
			t.Fatalf("strace gives %d bytes of a write of %s", len(s.data), part[2])
		}
		return s, true
	}
	if part[0] != "1" { // a write to wake a thread
		return s, false
	}
	var how string
	if _, err := fmt.Sscanf(string(unhex(t, part[1])), "%d %d %s", &s.row, &s.version, &how); err != nil || how != "ok" {
		t.Fatalf("the child said %q", unhex(t, part[1]))
	}
	return s, true
}

// unhex reads a quoted text of \xNN.
func unhex(t *testing.T, quoted string) []byte {
	t.Helper()
	text := strings.ReplaceAll(strings.Trim(quoted, `"`), `\x`, "")
	b := make([]byte, len(text)/2)
	if _, err := fmt.Sscanf(text, "%x", &b); err != nil {
		t.Fatalf("strace's text %.80q: %v", quoted, err)
	}
	return b
}
