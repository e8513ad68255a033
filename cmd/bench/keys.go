package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
)

// keyRow is one measurement with one type of key at one suite. Cached means
// that the receiver's key was there already; the key of the answer is made for
// each verification whatever the row, but for PerVasp.
//
// A PerVasp key is for every verification, so that to find none takes a fresh
// start: rows that are After it measure one verification in each.
type keyRow struct {
	KeyType  string  `json:"keyType"`
	Suite    string  `json:"suite"`
	To       string  `json:"to"`
	Cached   bool    `json:"cached"`
	After    bool    `json:"afterStart"`
	Requests float64 `json:"keyRequestsPerVerification"`
	sample
}

// keyRows are the rows in the order of the table.
var keyRows = []keyRow{
	{KeyType: "PerVasp", Suite: "x-wing", To: "one address", Cached: true},
	{KeyType: "PerVasp", Suite: "x25519", To: "one address", Cached: true},
	{KeyType: "PerVasp", Suite: "x-wing", To: "one address", Cached: true, After: true},
	{KeyType: "PerVasp", Suite: "x25519", To: "one address", Cached: true, After: true},
	{KeyType: "PerVasp", Suite: "x-wing", To: "one address", Cached: false, After: true},
	{KeyType: "PerVasp", Suite: "x25519", To: "one address", Cached: false, After: true},
	{KeyType: "PerAddress", Suite: "x-wing", To: "one address", Cached: true},
	{KeyType: "PerAddress", Suite: "x25519", To: "one address", Cached: true},
	{KeyType: "PerAddress", Suite: "x-wing", To: "a new address each", Cached: false},
	{KeyType: "PerAddress", Suite: "x25519", To: "a new address each", Cached: false},
	{KeyType: "PerVerification", Suite: "x-wing", To: "one address", Cached: false},
	{KeyType: "PerVerification", Suite: "x25519", To: "one address", Cached: false},
}

const (
	keyConcurrency = 64
	// What an enclave gives one counterparty at once is 1,000 keys of a
	// type, and 100 more each second of the type that it gives most slowly
	// (keyring.DefaultLimits). An uncached row stays within the burst and
	// then lets it fill up, so that no limit is lifted and none is met.
	keysPerSample = 800
	keysToWarmUp  = keyConcurrency
	keysPerSecond = 100
	// A sample of a row that is measured after a start has so many starts.
	startsPerSample = 25
)

// measureKeys measures every row in every round, one after the other, so that
// what else the machine does meets all of them.
func (r *report) measureKeys(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp(o.dir, "vasp-enclave-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	worlds := map[string]*world{}
	defer func() {
		for _, w := range worlds {
			_ = w.Stop()
		}
	}()
	for _, row := range keyRows {
		name, suite := row.world(), row.Suite
		if worlds[name] != nil {
			continue
		}
		w, err := newWorld(o.bin, filepath.Join(dir, name), []string{"VEGA_PREFERRED_SUITE=" + suite}, []string{"ROBOT_CUSTOMERS_FILE=many.yaml"})
		if err != nil {
			return err
		}
		worlds[name] = w
		if err := writeCustomers(filepath.Join(w.Dir, "many.yaml"), keysToWarmUp+o.rounds*keysPerSample); err != nil {
			return err
		}
		if err := w.Start(ctx); err != nil {
			return err
		}
	}
	var measures []*keyMeasure
	for _, row := range keyRows {
		m := &keyMeasure{row: row, w: worlds[row.world()]}
		measures = append(measures, m)
		if err := m.warmUp(ctx); err != nil {
			return fmt.Errorf("%s, %s: %w", row.KeyType, row.Suite, err)
		}
	}
	for round := range o.rounds {
		for _, m := range measures {
			measure := m.measure
			if m.row.After {
				measure = m.measureAfterStarts
			}
			if err := measure(ctx, o.span/2); err != nil {
				return fmt.Errorf("%s, %s: %w", m.row.KeyType, m.row.Suite, err)
			}
			s := m.samples[round]
			fmt.Fprintf(os.Stderr, "round %d, %s, %s, %s: %6.0f/s, %5.2f ms CPU\n", round+1, m.row.KeyType, m.row.Suite, m.row.To, s.PerSecond, s.CPU)
		}
	}
	for _, m := range measures {
		r.Keys = append(r.Keys, m.median())
	}
	return nil
}

// world names the alliance that a row is measured in. One of each suite has a
// sender that is started again and again, so that the others' caches stay.
func (k keyRow) world() string {
	if k.After {
		return k.Suite + "-restarted"
	}
	return k.Suite
}

// keyMeasure measures one row.
type keyMeasure struct {
	row      keyRow
	w        *world
	sent     atomic.Int64 // verifications so far
	refilled time.Time    // when the receiver gives a whole sample of keys again
	samples  []sample
	requests []float64
}

func (m *keyMeasure) warmUp(ctx context.Context) error {
	m.w.body = m.bodies(keysToWarmUp)
	_, failed, err := m.w.load(ctx, keyConcurrency, time.Minute)
	if err == nil && failed > 0 {
		err = fmt.Errorf("%d verifications failed while warming up", failed)
	}
	return err
}

func (m *keyMeasure) measure(ctx context.Context, span time.Duration) error {
	select {
	case <-time.After(time.Until(m.refilled)):
	case <-ctx.Done():
		return ctx.Err()
	}
	before, err := m.asked(ctx)
	if err != nil {
		return err
	}
	start := m.sent.Load()
	most := int64(keysPerSample)
	if m.row.Cached {
		most = math.MaxInt64 - start
	}
	m.w.body = m.bodies(most)
	s, err := m.w.sample(ctx, keyConcurrency, span)
	if err != nil {
		return err
	}
	after, err := m.asked(ctx)
	if err != nil {
		return err
	}
	done := m.sent.Load() - start
	if !m.row.Cached {
		m.refilled = time.Now().Add(time.Duration(done) * time.Second / keysPerSecond)
	}
	m.samples = append(m.samples, s)
	m.requests = append(m.requests, (after-before)/float64(done))
	return nil
}

// measureAfterStarts measures one verification after each of some starts.
func (m *keyMeasure) measureAfterStarts(ctx context.Context, _ time.Duration) error {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	var latencies []time.Duration
	var took time.Duration
	var used snapshot
	var requests float64
	for range startsPerSample {
		if err := m.startWarm(ctx, client); err != nil {
			return err
		}
		asked, err := m.asked(ctx)
		if err != nil {
			return err
		}
		before, err := m.w.before(ctx)
		if err != nil {
			return err
		}
		start := time.Now()
		if err := m.w.one(ctx, client, m.body(m.row.KeyType)); err != nil {
			return err
		}
		latency := time.Since(start)
		after, err := m.w.after(ctx)
		if err != nil {
			return err
		}
		askedAfter, err := m.asked(ctx)
		if err != nil {
			return err
		}
		latencies, took = append(latencies, latency), took+latency
		used, requests = used.plus(after.since(before)), requests+askedAfter-asked
	}
	m.samples = append(m.samples, m.w.summary(1, latencies, 0, took, used))
	m.requests = append(m.requests, requests/startsPerSample)
	return nil
}

// startWarm starts the sender's enclave again, whose cache is empty then. Two
// verifications open its connections and warm it up, with keys of another
// type, unless the row wants its own key to be there.
func (m *keyMeasure) startWarm(ctx context.Context, client *http.Client) error {
	client.CloseIdleConnections() // they end with the process
	if err := m.w.restart(ctx); err != nil {
		return err
	}
	second := "PerAddress"
	if m.row.Cached {
		second = m.row.KeyType
	}
	for _, keyType := range []string{"PerAddress", second} {
		if err := m.w.one(ctx, client, m.body(keyType)); err != nil {
			return fmt.Errorf("warm up: %w", err)
		}
	}
	return nil
}

func (m *keyMeasure) body(keyType string) []byte {
	return sandbox.RequestBy(keyType, m.w.VASPs[1].ID, sandbox.Account)
}

// restart starts the sender's enclave again and waits until it has registered
// and has the directory.
func (w *world) restart(ctx context.Context) error {
	sender := w.VASPs[0]
	if err := sender.Enclave.Stop(); err != nil {
		return err
	}
	if err := sender.Enclave.Start(ctx); err != nil {
		return err
	}
	for ctx.Err() == nil {
		registered, err := metric(ctx, sender.Metrics, "enclave_central_registered")
		if err != nil {
			return err
		}
		fetched, err := metric(ctx, sender.Metrics, "enclave_directory_fetched_timestamp_seconds")
		if err != nil {
			return err
		}
		if registered > 0 && fetched > 0 {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return ctx.Err()
}

// asked counts the sender's requests for keys that were answered with one.
func (m *keyMeasure) asked(ctx context.Context) (float64, error) {
	return metric(ctx, m.w.VASPs[0].Metrics, `enclave_exchanges_total{direction="outbound",message="key-request",outcome="ok"}`)
}

// bodies gives so many verifications of the row.
func (m *keyMeasure) bodies(most int64) func() []byte {
	to, end := m.w.VASPs[1].ID, m.sent.Load()+most
	return func() []byte {
		n := m.sent.Add(1)
		if n > end {
			m.sent.Add(-1)
			return nil
		}
		account := sandbox.Account
		if strings.HasPrefix(m.row.To, "a new") {
			account = accountOf(n)
		}
		return sandbox.RequestBy(m.row.KeyType, to, account)
	}
}

func (m *keyMeasure) median() keyRow {
	row := m.row
	row.sample, row.Requests = medians(m.samples), middle(m.requests)
	return row
}

// accountOf is an account of the many that the sandbox's customer has.
func accountOf(n int64) string { return fmt.Sprintf("0x%040x", n) }

// writeCustomers writes a robot's customers: the sandbox's one, with so many
// more accounts.
func writeCustomers(file string, n int) error {
	var b strings.Builder
	b.WriteString("customers:\n  - persons: [{naturalPerson: {name: {nameIdentifier: [" +
		"{primaryIdentifier: Robbins, secondaryIdentifier: Taylor, nameIdentifierType: LEGL}]}}}]\n    accounts:\n")
	fmt.Fprintf(&b, "      - {symbol: ETH, account: %q}\n", sandbox.Account)
	for i := range n {
		fmt.Fprintf(&b, "      - {symbol: ETH, account: %q}\n", accountOf(int64(i+1)))
	}
	return os.WriteFile(file, []byte(b.String()), 0o600)
}

func (r *report) printKeys(w io.Writer) {
	fmt.Fprintf(w, "\nBy type of key. An uncached row ends after %d verifications, within the receiver's budget of keys for one counterparty. Rows of one at once are of %d starts of the sender's enclave, one warm verification after each.\n\n", keysPerSample, startsPerSample)
	fmt.Fprintln(w, "| key type | suite | to | key | at once | key requests | verifications/s | p50 ms | p99 ms | errors | CPU ms, enclaves + central | sender | receiver | central | kB on disk per node |")
	fmt.Fprintln(w, "| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
	for _, k := range r.Keys {
		key := "uncached"
		if k.Cached {
			key = "cached"
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %d | %.2f | %.0f | %.1f | %.1f | %d | %.2f | %.2f | %.2f | %.2f | %.1f |\n",
			k.KeyType, k.Suite, k.To, key, k.Concurrency, k.Requests, k.PerSecond, k.P50, k.P99, k.Errors, k.CPU, k.CPUSender, k.CPUReceiver, k.CPUCentral, k.Bytes/1000)
	}
}
