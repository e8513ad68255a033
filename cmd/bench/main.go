// Command bench measures the whole path of a verification, from the backend's
// POST to the 200 of its callback, over real processes, sockets and files; and
// in the same run the operations that no implementation can do without. It
// prints both, and their ratio, as a table and as JSON.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "directory of the built programs")
	flag.DurationVar(&o.span, "span", 5*time.Second, "length of one measurement")
	flag.IntVar(&o.rounds, "rounds", 3, "how often each measurement is made; medians are shown")
	flag.StringVar(&o.json, "json", "", "write the JSON to this file instead of after the table")
	flag.StringVar(&o.dir, "dir", "", "directory of the histories, on the kind of disk that is meant (default: a temporary one)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	bin    string
	span   time.Duration
	rounds int
	json   string
	dir    string
}

func run(ctx context.Context, o options) error {
	r := report{Date: time.Now().UTC().Format(time.DateOnly), Machine: thisMachine(), Span: o.span.String(), Rounds: o.rounds}
	if err := r.measure(ctx, o); err != nil {
		return err
	}
	if err := r.measureKeys(ctx, o); err != nil {
		return err
	}
	r.print(os.Stdout)
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if o.json == "" {
		fmt.Printf("\n```json\n%s\n```\n", b)
	} else if err := os.WriteFile(o.json, append(b, '\n'), 0o644); err != nil {
		return err
	}
	for _, s := range r.Path {
		if s.Errors > 0 {
			return fmt.Errorf("%d verifications failed at %d at once", s.Errors, s.Concurrency)
		}
	}
	for _, k := range r.Keys {
		if k.Errors > 0 {
			return fmt.Errorf("%d verifications failed with %s keys, %s", k.Errors, k.KeyType, k.Suite)
		}
	}
	return nil
}
