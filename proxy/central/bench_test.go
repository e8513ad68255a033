package central_test

import (
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
)

// BenchmarkExchange is one envelope of 8 KiB from enclave to enclave through
// central and its reply back, over kept TLS connections, signatures and all:
// two hops, three parties, one process. cpu-µs/op is the whole process's.
func BenchmarkExchange(b *testing.B) {
	for name, workers := range map[string]int{"1": 1, "64": 64} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b, func(w *world) { w.config.Log = slog.New(slog.NewTextHandler(io.Discard, nil)) })
			w.alpha.mustRegister()
			w.beta.mustRegister()
			w.beta.message = func(rw http.ResponseWriter, _ *http.Request, signed *relay.Verified) {
				rw.Header().Set("Content-Type", relay.MediaType)
				rw.Header().Set("Content-Length", strconv.Itoa(len(signed.Body)))
				_, _ = rw.Write(signed.Body)
			}
			exchange(b, w, workers)
		})
	}
}

func exchange(b *testing.B, w *world, workers int) {
	envelope := make([]byte, 8<<10)
	var all sync.WaitGroup
	before := cpu(b)
	b.ResetTimer()
	for i := range workers {
		all.Go(func() {
			for range (b.N + workers - 1 - i) / workers {
				if _, err := w.alpha.client.Deliver(b.Context(), w.beta.id, envelope); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

// cpu is the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
