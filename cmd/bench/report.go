package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// report is one run of the benchmark.
type report struct {
	Date    string   `json:"date"`
	Machine machine  `json:"machine"`
	Disk    string   `json:"filesystem"`
	Span    string   `json:"span"`
	Rounds  int      `json:"rounds"`
	Path    []sample `json:"path"` // medians, by concurrency
	Floor   floor    `json:"floor"`
	Ratio   float64  `json:"cpuToFloorAtConcurrency64"`
	Keys    []keyRow `json:"keys"` // medians, by key type and suite

	ReadyMs    float64 `json:"readyMs"`
	IdleMiB    float64 `json:"idleRSSMiB"`
	LoadedMiB  float64 `json:"loadedRSSMiB"`
	BinaryMiB  float64 `json:"enclaveBinaryMiB"`
	CentralMiB float64 `json:"centralLoadedRSSMiB"`
}

func (r *report) measure(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp(o.dir, "vasp-enclave-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if r.Disk, err = filesystem(dir); err != nil {
		return err
	}
	w, err := newWorld(o.bin, dir, nil, nil)
	if err != nil {
		return err
	}
	defer func() { _ = w.Stop() }()
	if err := w.Start(ctx); err != nil {
		return err
	}
	if err := r.atRest(ctx, w, o); err != nil {
		return err
	}
	byConcurrency := map[int][]sample{}
	for round := range o.rounds {
		for _, n := range concurrencies {
			if round == 0 {
				if _, _, err := w.load(ctx, n, o.span/4); err != nil { // warm up
					return err
				}
			}
			s, err := w.sample(ctx, n, o.span)
			if err != nil {
				return err
			}
			fmt.Fprintf(os.Stderr, "round %d, %3d at once: %6.0f/s, %5.2f ms CPU\n", round+1, n, s.PerSecond, s.CPU)
			byConcurrency[n] = append(byConcurrency[n], s)
		}
	}
	for _, n := range concurrencies {
		r.Path = append(r.Path, medians(byConcurrency[n]))
	}
	if r.LoadedMiB, err = rss(w.VASPs[0].Enclave.PID()); err != nil {
		return err
	}
	if r.CentralMiB, err = rss(w.Central.PID()); err != nil {
		return err
	}
	i := slices.Index(concurrencies, 64)
	if r.Floor, err = measureFloor(dir, r.Path[i].Commits); err != nil {
		return err
	}
	r.Ratio = r.Path[i].CPU / r.Floor.Total
	return nil
}

// atRest measures an enclave before it has done anything: restarted, so that
// central and the counterparty are there already.
func (r *report) atRest(ctx context.Context, w *world, o options) error {
	enclave := w.VASPs[0].Enclave
	var ready []float64
	for range 5 {
		if err := enclave.Stop(); err != nil {
			return err
		}
		start := time.Now()
		if err := enclave.Start(ctx); err != nil {
			return err
		}
		ready = append(ready, ms(time.Since(start)))
	}
	r.ReadyMs = middle(ready)
	time.Sleep(2 * time.Second) // registration and first directory are over
	var err error
	if r.IdleMiB, err = rss(enclave.PID()); err != nil {
		return err
	}
	info, err := os.Stat(filepath.Join(o.bin, "enclave"))
	if err != nil {
		return err
	}
	r.BinaryMiB = float64(info.Size()) / (1 << 20)
	return nil
}

func middle(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// medians takes each column's own median.
func medians(all []sample) sample {
	pick := func(f func(sample) float64) float64 {
		values := make([]float64, len(all))
		for i, s := range all {
			values[i] = f(s)
		}
		return middle(values)
	}
	m := sample{
		Concurrency: all[0].Concurrency,
		PerSecond:   pick(func(s sample) float64 { return s.PerSecond }),
		P50:         pick(func(s sample) float64 { return s.P50 }), P99: pick(func(s sample) float64 { return s.P99 }),
		CPU: pick(func(s sample) float64 { return s.CPU }), CPUSender: pick(func(s sample) float64 { return s.CPUSender }),
		CPUReceiver: pick(func(s sample) float64 { return s.CPUReceiver }), CPUCentral: pick(func(s sample) float64 { return s.CPUCentral }),
		CPUOthers: pick(func(s sample) float64 { return s.CPUOthers }), Bytes: pick(func(s sample) float64 { return s.Bytes }),
		Commits: pick(func(s sample) float64 { return s.Commits }),
	}
	for _, s := range all {
		m.Errors += s.Errors
	}
	return m
}

func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "## %s\n\n%s, %d cores, Linux %s, %s, files on %s. Everything on this machine; %d rounds of %s, medians.\n\n",
		r.Date, r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel, r.Machine.Go, r.Disk, r.Rounds, r.Span)
	fmt.Fprintln(w, "| at once | verifications/s | p50 ms | p99 ms | errors | CPU ms, enclaves + central | sender | receiver | central | robot + load | kB on disk per node | commits |")
	fmt.Fprintln(w, "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
	for _, s := range r.Path {
		fmt.Fprintf(w, "| %d | %.0f | %.1f | %.1f | %d | %.2f | %.2f | %.2f | %.2f | %.2f | %.1f | %.2f |\n",
			s.Concurrency, s.PerSecond, s.P50, s.P99, s.Errors, s.CPU, s.CPUSender, s.CPUReceiver, s.CPUCentral, s.CPUOthers, s.Bytes/1000, s.Commits)
	}
	f := r.Floor
	fmt.Fprintf(w, "\nFloor, CPU ms: 2 x (seal %.3f + open %.3f + sign %.3f + verify %.3f) + 2 x https %.3f + 3/2 x http %.3f + %.2f commits x 2 x write and sync %.3f = **%.2f**\n",
		f.Seal, f.Open, f.Sign, f.Verify, f.HTTPS, f.HTTP, f.Commits, f.Sync, f.Total)
	fmt.Fprintf(w, "\nCPU per verification at 64 at once is **%.2f** times the floor.\n", r.Ratio)
	fmt.Fprintf(w, "\n| enclave | |\n| --- | ---: |\n| start to ready | %.0f ms |\n| idle RSS | %.1f MiB |\n| RSS after the load | %.1f MiB |\n| binary | %.1f MiB |\n| central, RSS after the load | %.1f MiB |\n",
		r.ReadyMs, r.IdleMiB, r.LoadedMiB, r.BinaryMiB, r.CentralMiB)
	r.printKeys(w)
}
