// Package reload takes over what changed in a program's files while it runs:
// when the content of a file changes, and when the program is told to, by
// SIGHUP.
//
// Files are compared by content and polled: what Kubernetes mounts changes by
// a rename of the link ..data, which watches of the file itself miss, and a
// network file system sends no events at all.
package reload

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Source is something that can be loaded again.
type Source struct {
	// Name says what it is, in the log and as a metric's label: one of a few.
	Name string
	// Files are looked at for changes. Nil: it is loaded when told only.
	Files func() []string
	// Load reads it all and takes it over whole, or fails and changes nothing.
	// Its error names the setting and the remedy, and no value. It is never
	// called concurrently with another Load of the same Group.
	Load func() error
}

// Config is what a Group is made of.
type Config struct {
	Sources   []Source
	Namespace string                // of the metrics: enclave, central
	Metrics   prometheus.Registerer // nil: none
	Log       *slog.Logger
	Now       func() time.Time

	// Every is how often files are looked at, Settle how long a changed one
	// must stay as it is before it is loaded: a writer may be half done. Zero
	// takes 2 s and 200 ms.
	Every, Settle time.Duration
}

// Group is the sources of one program.
type Group struct {
	config     Config
	successful *prometheus.GaugeVec
	last       *prometheus.GaugeVec

	mu   sync.Mutex // one load at a time
	seen []digest   // of what was loaded last, or refused
}

// New looks at the files as they are now, which is what the program has loaded
// at its start.
func New(c Config) *Group {
	if c.Every == 0 {
		c.Every = 2 * time.Second
	}
	if c.Settle == 0 {
		c.Settle = 200 * time.Millisecond
	}
	g := &Group{
		config: c, seen: make([]digest, len(c.Sources)),
		successful: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: c.Namespace, Name: "config_last_reload_successful", Help: "1 when what was loaded last of a source was taken over, 0 when it was refused and the one before is still in force.",
		}, []string{"source"}),
		last: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: c.Namespace, Name: "config_last_reload_success_timestamp_seconds", Help: "When a source was taken over last, in Unix seconds; at start, the start.",
		}, []string{"source"}),
	}
	if c.Metrics != nil {
		c.Metrics.MustRegister(g.successful, g.last)
	}
	for i, s := range c.Sources {
		g.seen[i] = look(s)
		g.succeeded(s)
	}
	return g
}

// Run loads what changes, and everything when hangup receives, until ctx ends.
// What hangup receives afterwards is nobody's: a program that ends takes over
// nothing more. around, if not nil, is called around a load that hangup asked for.
func (g *Group) Run(ctx context.Context, hangup <-chan os.Signal, around func(load func())) {
	tick := time.NewTicker(g.config.Every)
	defer tick.Stop()
	if around == nil {
		around = func(load func()) { load() }
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			around(func() { _ = g.Reload() })
		case <-tick.C:
			g.lookAround(ctx)
		}
	}
}

// Reload loads every source, changed or not. A source that fails keeps what it
// had, and hinders no other; the error joins all of them.
func (g *Group) Reload() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var problems []error
	for i := range g.config.Sources {
		problems = append(problems, g.load(i, look(g.config.Sources[i])))
	}
	return errors.Join(problems...)
}

func (g *Group) lookAround(ctx context.Context) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, s := range g.config.Sources {
		if s.Files == nil {
			continue
		}
		if found := look(s); found != g.seen[i] {
			g.settled(ctx, i, found)
		}
	}
}

// settled loads a source that differs from what was seen last, once it is the
// same twice. One that keeps changing is left for the next time.
func (g *Group) settled(ctx context.Context, i int, found digest) {
	wait := time.NewTimer(g.config.Settle)
	defer wait.Stop()
	select {
	case <-ctx.Done():
		return
	case <-wait.C:
	}
	if look(g.config.Sources[i]) == found {
		_ = g.load(i, found)
	}
}

// load is called with mu held. What was found is noted before it is read, so
// that what changes meanwhile is a change next time.
func (g *Group) load(i int, found digest) error {
	s := g.config.Sources[i]
	g.seen[i] = found
	if err := s.Load(); err != nil {
		g.successful.WithLabelValues(s.Name).Set(0)
		g.config.Log.Error("not reloaded; what was in force stays in force", "source", s.Name, "err", err)
		return fmt.Errorf("reload %s: %w", s.Name, err)
	}
	g.succeeded(s)
	g.config.Log.Info("reloaded", "source", s.Name)
	return nil
}

func (g *Group) succeeded(s Source) {
	g.successful.WithLabelValues(s.Name).Set(1)
	g.last.WithLabelValues(s.Name).Set(float64(g.config.Now().UnixMilli()) / 1000)
}

// digest is what a source's files hold, all together.
type digest [sha256.Size]byte

// look reads the files of a source. A file that is missing, or cannot be read,
// is a state like any other.
func look(s Source) digest {
	all := sha256.New()
	if s.Files == nil {
		return digest(all.Sum(nil))
	}
	for _, name := range s.Files() {
		one := sha256.New()
		if err := readInto(one, name); err != nil {
			kind := "unreadable"
			if errors.Is(err, fs.ErrNotExist) {
				kind = "missing"
			}
			one.Reset()
			fmt.Fprint(one, kind)
		}
		fmt.Fprintf(all, "%q ", name)
		all.Write(one.Sum(nil))
	}
	return digest(all.Sum(nil))
}

func readInto(w io.Writer, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return errors.Join(err, errors.New("not a regular file"))
	}
	_, err = io.Copy(w, f)
	return err
}
