package reload_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/vasp-enclave/vasp-enclave/cmd/reload"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// text is a source that holds a file's text, whose text must end with a dot.
type text struct {
	file string

	mu    sync.Mutex
	now   string
	loads int
}

func (x *text) load() error {
	b, err := os.ReadFile(x.file)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.loads++
	switch {
	case err != nil:
		return err
	case !strings.HasSuffix(string(b), "."):
		return errors.New("SETTING: ends without a dot; write it to its end")
	}
	x.now = string(b)
	return nil
}

func (x *text) get() (now string, loads int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.now, x.loads
}

type watched struct {
	t        *testing.T
	registry *prometheus.Registry
	hangup   chan os.Signal
	log      *bytes.Buffer
	stop     func()
}

func watch(t *testing.T, settle time.Duration, sources ...*text) *watched {
	w := &watched{t: t, registry: prometheus.NewRegistry(), hangup: make(chan os.Signal, 1), log: new(bytes.Buffer)}
	var all []reload.Source
	for _, x := range sources {
		if err := x.load(); err != nil {
			t.Fatal(err)
		}
		all = append(all, reload.Source{Name: filepath.Base(x.file), Files: func() []string { return []string{x.file} }, Load: x.load})
	}
	g := reload.New(reload.Config{
		Sources: all, Namespace: "test", Metrics: w.registry, Log: slog.New(slog.NewTextHandler(w.log, nil)), Now: time.Now,
		Every: 5 * time.Millisecond, Settle: settle,
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); g.Run(ctx, w.hangup, nil) }()
	w.stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(w.stop)
	return w
}

func (w *watched) eventually(what string, holds func() bool) {
	w.t.Helper()
	for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(time.Millisecond) {
		if holds() {
			return
		}
	}
	w.t.Fatalf("it never was so that %s", what)
}

func (w *watched) successful(source string, want float64) bool {
	w.t.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "test_config_last_reload_successful" && m.GetLabel()[0].GetValue() == source {
				return m.GetGauge().GetValue() == want
			}
		}
	}
	w.t.Fatalf("no metric for %s", source)
	return false
}

// put replaces a file at once.
func put(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// A change is taken over; a bad one is refused once, said in log and metric,
// and leaves what was; a missing file is a bad change; the next good one is
// taken; another source does not notice.
func TestAChangeIsTakenAndABadOneKeepsWhatWas(t *testing.T) {
	dir := t.TempDir()
	a, b := &text{file: filepath.Join(dir, "a")}, &text{file: filepath.Join(dir, "b")}
	put(t, a.file, "one.")
	put(t, b.file, "other.")
	w := watch(t, time.Millisecond, a, b)
	put(t, a.file, "two.")
	w.eventually("the change is taken", func() bool { now, _ := a.get(); return now == "two." })
	put(t, a.file, "half")
	w.eventually("the bad one is refused", func() bool { return w.successful("a", 0) })
	_, loads := a.get()
	time.Sleep(50 * time.Millisecond) // ten looks
	if now, again := a.get(); now != "two." || again != loads {
		t.Errorf("after a bad change: %q, loaded %d times more", now, again-loads)
	}
	if err := os.Remove(a.file); err != nil {
		t.Fatal(err)
	}
	w.eventually("the missing one is refused", func() bool { _, n := a.get(); return n > loads })
	if now, _ := a.get(); now != "two." {
		t.Errorf("without a file: %q", now)
	}
	put(t, a.file, "three.")
	w.eventually("the next one is taken", func() bool { now, _ := a.get(); return now == "three." && w.successful("a", 1) })
	if _, loads := b.get(); loads != 1 || !w.successful("b", 1) {
		t.Errorf("the other source was loaded %d times", loads)
	}
	w.stop()
	if !strings.Contains(w.log.String(), "SETTING: ends without a dot") {
		t.Errorf("the log does not name the setting:\n%s", w.log)
	}
	if n, err := testutil.GatherAndCount(w.registry, "test_config_last_reload_success_timestamp_seconds"); n != 2 || err != nil {
		t.Errorf("%d timestamps, %v", n, err)
	}
}

// A file that is being written is not taken while it grows, though each part
// of it would do.
func TestAFileThatGrowsIsTakenAtItsEnd(t *testing.T) {
	x := &text{file: filepath.Join(t.TempDir(), "x")}
	put(t, x.file, "one.")
	w := watch(t, 2*time.Second, x)
	f, err := os.Create(x.file)
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if _, err := f.WriteString("part."); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	whole := strings.Repeat("part.", 50)
	w.eventually("the whole is taken", func() bool { now, _ := x.get(); return now == whole })
	if _, loads := x.get(); loads != 2 {
		t.Errorf("it was loaded %d times, want at start and at the end", loads)
	}
}

// What Kubernetes does with a mounted volume: ..data is another directory from
// one moment to the next, and the file's own link does not change.
func TestASwapOfDataIsAChange(t *testing.T) {
	dir := t.TempDir()
	version := func(name, content string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(dir, name, "x"), content)
		if err := os.Symlink(name, filepath.Join(dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version("..2026_1", "one.")
	x := &text{file: filepath.Join(dir, "x")}
	if err := os.Symlink("..data/x", x.file); err != nil {
		t.Fatal(err)
	}
	w := watch(t, time.Millisecond, x)
	version("..2026_2", "two.")
	w.eventually("the swap is seen", func() bool { now, _ := x.get(); return now == "two." })
}

// SIGHUP loads everything, changed or not, and at once.
func TestAHangupLoadsEverything(t *testing.T) {
	x := &text{file: filepath.Join(t.TempDir(), "x")}
	put(t, x.file, "one.")
	w := watch(t, time.Hour, x)
	w.hangup <- syscall.SIGHUP
	w.eventually("it is loaded again", func() bool { _, n := x.get(); return n == 2 })
	put(t, x.file, "two.")
	w.hangup <- syscall.SIGHUP
	w.stop()
	_, loads := x.get()
	select {
	case w.hangup <- syscall.SIGHUP: // nobody listens any more
	default: // nor did anybody take the one before: the end was first
	}
	if _, again := x.get(); again != loads {
		t.Error("it was loaded after the end")
	}
}
