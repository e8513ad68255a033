package robotcmd

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// fault is one way in which a backend goes wrong.
type fault struct {
	name string
	what string   // one sentence
	apis []string // it makes sense for; nil for all
	// waits is for how long, when delayMs does not say: before the fault, or
	// in it where `what` says so.
	waits time.Duration
	do    func(*scene)
}

func (f *fault) fits(api string) bool { return f.apis == nil || slices.Contains(f.apis, api) }

// planted is a fault for an API, for a while.
type planted struct {
	api   string // or anyAPI
	fault *fault
	left  int // how many answers it still spoils; always when negative
	delay time.Duration
}

// anyAPI stands for all APIs that a fault fits.
const anyAPI = "*"

var apis = []string{apiUser, apiAccount, apiTransaction, apiCallback}

// spoil lets an answer go wrong.
func (p *planted) spoil(s *scene) {
	s.delay = p.delay
	p.fault.do(s)
}

// faults are what is planted, in order: the first that fits an API is next.
// The zero value has none. Methods may be called concurrently.
type faults struct {
	mu   sync.Mutex
	list []planted
}

func (f *faults) plant(p planted) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, p)
}

func (f *faults) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = nil
}

func (f *faults) planted() []planted {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.list)
}

// take is the fault for the next answer of an API, nil for none.
func (f *faults) take(api string) *planted {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.list {
		p := &f.list[i]
		if p.api != api && (p.api != anyAPI || !p.fault.fits(api)) {
			continue
		}
		taken := *p
		if p.left > 0 {
			p.left--
		}
		if p.left == 0 {
			f.list = slices.Delete(f.list, i, i+1)
		}
		return &taken
	}
	return nil
}

// maxPlantedDelay bounds delayMs.
const maxPlantedDelay = time.Hour

// newPlanted checks what somebody wants. times 0 is until it is removed;
// delay negative is the fault's own.
func newPlanted(api, name string, times int, delay time.Duration) (planted, error) {
	f := faultNamed(name)
	switch {
	case api == "":
		return planted{}, missing("api")
	case api != anyAPI && !slices.Contains(apis, api):
		return planted{}, invalid("api", "use one of "+strings.Join(apis, ", ")+", or "+anyAPI)
	case name == "":
		return planted{}, missing("fault")
	case f == nil:
		return planted{}, invalid("fault", "`robotvasp faults` and GET /v1.0/faults list them")
	case api != anyAPI && !f.fits(api):
		return planted{}, invalid("api", "the fault is for "+strings.Join(f.apis, " and "))
	case times < 0:
		return planted{}, invalid("times", "write how many answers to spoil, or 0 for all")
	case delay > maxPlantedDelay:
		return planted{}, invalid("delayMs", "at most "+strconv.FormatInt(maxPlantedDelay.Milliseconds(), 10))
	}
	if delay < 0 {
		delay = f.waits
	}
	if times == 0 {
		times = -1
	}
	return planted{api, f, times, delay}, nil
}

func faultNamed(name string) *fault {
	for i := range catalogue {
		if catalogue[i].name == name {
			return &catalogue[i]
		}
	}
	return nil
}

// FaultPlan is the faults that a robot starts with, as a setting.
type FaultPlan struct{ list []planted }

// UnmarshalText reads api:fault, api:fault:times or api:fault:times:delayMs,
// with commas between several.
func (p *FaultPlan) UnmarshalText(text []byte) error {
	p.list = nil
	for entry := range strings.SplitSeq(string(text), ",") {
		one, err := parsePlanted(strings.TrimSpace(entry))
		if err != nil {
			return err
		}
		p.list = append(p.list, one)
	}
	return nil
}

func parsePlanted(entry string) (planted, error) {
	parts := strings.Split(entry, ":")
	if len(parts) < 2 || len(parts) > 4 {
		return planted{}, errors.New("must be api:fault, api:fault:times or api:fault:times:delayMs, with commas between several")
	}
	times, delay := 0, int64(-1)
	var err error
	if len(parts) > 2 {
		if times, err = strconv.Atoi(parts[2]); err != nil {
			return planted{}, invalid("times", "write a whole number")
		}
	}
	if len(parts) > 3 {
		if delay, err = strconv.ParseInt(parts[3], 10, 32); err != nil || delay < 0 {
			return planted{}, invalid("delayMs", "write a whole number of milliseconds")
		}
	}
	return newPlanted(parts[0], parts[1], times, time.Duration(delay)*time.Millisecond)
}

// String is the plan in the form it is read from.
func (p FaultPlan) String() string {
	var entries []string
	for _, f := range p.list {
		entries = append(entries, fmt.Sprintf("%s:%s:%d:%d", f.api, f.fault.name, max(0, f.left), f.delay.Milliseconds()))
	}
	return strings.Join(entries, ",")
}

// SettingType names the type in help texts.
func (FaultPlan) SettingType() string { return "api:fault:times:delayMs, ..." }

// plantFault is for tests and people.
func (r *robot) plantFault(_ context.Context, _ *http.Request, body []byte) ([]byte, error) {
	var q struct {
		API   string `json:"api"`
		Fault string `json:"fault"`
		Times int    `json:"times"`
		Delay *int64 `json:"delayMs"`
	}
	if err := read(body, &q); err != nil {
		return nil, err
	}
	delay := time.Duration(-1)
	if q.Delay != nil {
		if *q.Delay < 0 || *q.Delay > maxPlantedDelay.Milliseconds() {
			return nil, invalid("delayMs", "write a number from 0 to "+strconv.FormatInt(maxPlantedDelay.Milliseconds(), 10))
		}
		delay = time.Duration(*q.Delay) * time.Millisecond
	}
	p, err := newPlanted(q.API, q.Fault, q.Times, delay)
	if err != nil {
		return nil, err
	}
	r.faults.plant(p)
	return []byte(`{"result":true}`), nil
}

func (r *robot) clearFaults(context.Context, *http.Request, []byte) ([]byte, error) {
	r.faults.clear()
	return []byte(`{"result":true}`), nil
}

// listFaults gives what is planted, and everything that can be.
func (r *robot) listFaults(context.Context, *http.Request, []byte) ([]byte, error) {
	var t text
	t.raw("planted", array(r.faults.planted(), func(p planted) []byte {
		var t text
		t.str("api", p.api)
		t.str("fault", p.fault.name)
		if p.left > 0 {
			t.raw("times", strconv.AppendInt(nil, int64(p.left), 10))
		}
		t.raw("delayMs", strconv.AppendInt(nil, p.delay.Milliseconds(), 10))
		return t.end()
	}))
	t.raw("known", array(catalogue, func(f fault) []byte {
		var t text
		t.str("fault", f.name)
		t.str("apis", f.forAPIs())
		t.str("what", f.what)
		return t.end()
	}))
	return t.end(), nil
}

// forAPIs is the APIs a fault fits, for people.
func (f *fault) forAPIs() string {
	if f.apis == nil {
		return "all"
	}
	return strings.Join(f.apis, ", ")
}
