// Package life is how a program of this repository lives: what its probes
// say, what a signal does, how it drains, and what its supervisor hears.
//
// A program is alive from its first moment, started when everything that has
// to happen once has happened, and ready while every condition holds. At
// SIGTERM it is not ready at once and still takes work for a while, so that
// whoever sends work has time to hear of it; then it stops listening, finishes
// what it took, and ends.
package life

import (
	"encoding/json"
	"net/http"
	"sync"

	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
)

// Readiness is what must hold for a program to take work, by name. Its methods
// may be called concurrently. The zero Readiness is ready, and not started.
type Readiness struct {
	mu         sync.Mutex
	conditions []*Condition
	started    bool
	notify     func(ready bool, reason string)
	told       bool
}

// Condition is one of the things that must hold.
type Condition struct {
	of     *Readiness
	name   string
	reason string // "": it holds
}

// Require adds a condition that does not hold yet, for a reason. Name and
// reason are shown to whoever may probe, so neither holds a secret.
func (r *Readiness) Require(name, reason string) *Condition {
	c := &Condition{of: r, name: name}
	r.mu.Lock()
	r.conditions = append(r.conditions, c)
	r.mu.Unlock()
	c.Fails(reason)
	return c
}

// Holds says that the condition is met.
func (c *Condition) Holds() { c.set("") }

// Fails says that it is not, and why.
func (c *Condition) Fails(reason string) { c.set(reason) }

func (c *Condition) set(reason string) {
	r := c.of
	r.mu.Lock()
	defer r.mu.Unlock()
	c.reason = reason
	r.tell()
}

// Started says that the start is over. What fails later is unreadiness and no
// reason to give a start more time.
func (r *Readiness) Started() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.started = true
	r.tell()
}

// OnChange has f called, one call at a time, whenever the program becomes
// ready or stops being it, with the first reason. f must not call r.
func (r *Readiness) OnChange(f func(ready bool, reason string)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notify = f
}

// tell is called with mu held.
func (r *Readiness) tell() {
	ready, reason := r.ready()
	if r.notify != nil && ready != r.told {
		r.told = ready
		r.notify(ready, reason)
	}
}

// ready is called with mu held.
func (r *Readiness) ready() (ready bool, reason string) {
	if !r.started {
		return false, "starting"
	}
	for _, c := range r.conditions {
		if c.reason != "" {
			return false, c.name + ": " + c.reason
		}
	}
	return true, ""
}

// Ready tells whether the program takes work.
func (r *Readiness) Ready() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	ready, _ := r.ready()
	return ready
}

// status is the body of a probe's answer.
type status struct {
	Status string  `json:"status"` // "ok", "starting" or "not ready"
	Checks []check `json:"checks"`
}

type check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Reason string `json:"reason,omitempty"`
}

func (r *Readiness) status(startOnly bool) (s status, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	start := check{Name: "start", OK: r.started}
	if !r.started {
		start.Reason = "not over yet"
	}
	s = status{Status: "ok", Checks: []check{start}}
	for _, c := range r.conditions {
		s.Checks = append(s.Checks, check{c.name, c.reason == "", c.reason})
	}
	ok, _ = r.ready()
	switch {
	case !r.started:
		s.Status, ok = "starting", false
	case startOnly:
		ok = true
	case !ok:
		s.Status = "not ready"
	}
	return s, ok
}

// Routes are the probes: alive while the process answers at all, started when
// the start is over, ready while every condition holds. The last two answer
// 503 with the reasons until then.
func (r *Readiness) Routes() edge.Routes {
	probe := func(startOnly bool) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			s, ok := r.status(startOnly)
			write(w, s, ok)
		})
	}
	return edge.Routes{
		"GET /livez": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			write(w, status{Status: "ok", Checks: []check{}}, true)
		}),
		"GET /startupz": probe(true),
		"GET /readyz":   probe(false),
	}
}

func write(w http.ResponseWriter, s status, ok bool) {
	body, err := json.Marshal(s)
	if err != nil { // cannot be: texts and truth values
		ok = false
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = w.Write(append(body, '\n'))
}
