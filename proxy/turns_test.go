package proxy_test

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// lingering is a history that stores at once and takes its time to say so.
type lingering struct {
	storage.History
	on atomic.Bool
}

func (l *lingering) Apply(ctx context.Context, c *storage.Change) error {
	err := l.History.Apply(ctx, c)
	if l.on.Load() && len(c.Outbox) > 0 && c.Outbox[0].Kind == storage.ToPeerVerification {
		time.Sleep(300 * time.Millisecond)
	}
	return err
}

// Whoever sees a verification in the list may report about it before the
// enclave has even answered that it is accepted: the report goes out behind
// the verification all the same.
func TestAReportDoesNotOvertakeItsVerification(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	w.A.Stop()
	var slow lingering
	w.A.Tweak(func(c *proxy.Config) { slow.History, c.History = c.History, &slow })
	w.A.Start()
	finished(t, w, verify(t, w, request(w)))
	slow.on.Store(true)
	accepting := make(chan string, 1)
	go func() { accepting <- verify(t, w, request(w)) }()
	var id string
	w.Await("the row is there", func() bool {
		rows, _, err := w.A.History.List(t.Context(), storage.Filter{Result: storage.Wait, Limit: 1})
		if err == nil && len(rows) == 1 {
			id = rows[0].UUID.String()
		}
		return id != ""
	})
	accepted(t, w.A, txPath, txReport(id, "h"))
	<-accepting
	finished(t, w, id)
	w.Await("B is called back", func() bool { return called(w.B, id) == 1 })
	if r := row(t, w.B, id); r["txHash"] != "h" {
		t.Errorf("B's row has %v", r["txHash"])
	}
	if n := w.A.Metric("enclave_reports_undelivered_total"); n != 0 {
		t.Errorf("%v reports were of no use", n)
	}
	if told := callbacks(w.B, id); !slices.ContainsFunc(told, func(c string) bool { return strings.Contains(c, "TX_REPORT") }) {
		t.Errorf("B was told %v", told)
	}
}
