package sandbox_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
	"github.com/vasp-enclave/vasp-enclave/proxy/openapi/openapitest"
)

// Any program may die by SIGKILL while reports are under way: every
// acknowledged one reaches the beneficiary's history, and its backend at least
// once, in the order in which they were made about one verification (S7, K13).
func TestEveryAcknowledgedReportSurvivesTheDeathOfAnyProgram(t *testing.T) {
	rounds := 1
	if torture() {
		rounds = 20
	}
	for name, pick := range map[string]func(*sandbox.Alliance) *sandbox.Program{
		"central":                    func(a *sandbox.Alliance) *sandbox.Program { return a.Central },
		"enclave of the originator":  func(a *sandbox.Alliance) *sandbox.Program { return a.VASPs[0].Enclave },
		"enclave of the beneficiary": func(a *sandbox.Alliance) *sandbox.Program { return a.VASPs[1].Enclave },
		"backend of the beneficiary": func(a *sandbox.Alliance) *sandbox.Program { return a.VASPs[1].Robot },
	} {
		for round := range rounds {
			t.Run(fmt.Sprintf("%s/%d", name, round), func(t *testing.T) { reportsSurviveDeath(t, pick) })
		}
	}
}

const reported = 60 // verifications

func reportsSurviveDeath(t *testing.T, pick func(*sandbox.Alliance) *sandbox.Program) {
	// The backend takes its time, so that many reports are under way.
	a := prepare(t, sandbox.Options{Robot: []string{"ROBOT_DELAY_MS=50"}})
	sender, receiver, victim := a.VASPs[0], a.VASPs[1], pick(a)
	told := newWitness(t, receiver.RobotURL)
	receiver.Enclave.Env = append(receiver.Enclave.Env, "VEGA_VERIFICATION_CALLBACK_API_PATH="+told.url+"/callback")
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	transfers := verifiedTransfers(t, a)
	var turn sync.Mutex
	made := 0
	progress := func() {
		turn.Lock()
		defer turn.Unlock()
		if made++; made != reported {
			return
		}
		if err := victim.Kill(); err != nil {
			t.Error(err)
		}
		time.Sleep(300 * time.Millisecond) // dead for a while
		if err := victim.Start(t.Context()); err != nil {
			t.Error(err)
		}
	}
	var hands sync.WaitGroup
	for hand := range 10 {
		hands.Go(func() {
			for i := hand; i < len(transfers); i += 10 {
				if err := transfers[i].report(t, sender, progress); err != nil {
					t.Error(err)
				}
			}
		})
	}
	hands.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for _, v := range []*sandbox.VASP{sender, receiver} {
		eventually(t, time.Minute, "nothing is left to deliver", func() bool {
			return sumOf(metrics(t, v.Metrics), "enclave_outbox_entries") == 0
		})
	}
	for _, x := range transfers {
		got := fmt.Sprint(slices.Compact(told.of(x.id)))
		if got != x.told {
			t.Errorf("%s: the beneficiary's backend was told %s, want %s", x.id, got, x.told)
		}
		for _, v := range []*sandbox.VASP{sender, receiver} {
			row, err := v.Row(t.Context(), x.id)
			if err != nil {
				t.Fatal(err)
			}
			if got := row.Result + "/" + row.Reason + " " + row.TxHash; got != x.row {
				t.Errorf("%s: the row at %s is %s, want %s", x.id, v.Name, got, x.row)
			}
		}
	}
	t.Logf("%d reports; callbacks that came again: %d", made, told.repeated())
}

// reportedTransfer is a verified transfer, and what is known of it after the
// reports about it.
type reportedTransfer struct {
	id      string
	reports string // in order: the hashes of transactions, a letter each, and "!" for an error
	row     string // at both VASPs
	told    string // to the beneficiary's backend
}

// report makes all reports, each until it is acknowledged.
func (x *reportedTransfer) report(t *testing.T, v *sandbox.VASP, progress func()) error {
	for _, r := range x.reports {
		post, body := v.ReportTransaction, fmt.Appendf(nil, `{"verificationUuid":%q,"txHash":"%c"}`, x.id, r)
		if r == '!' {
			post, body = v.ReportError, fmt.Appendf(nil, `{"verificationUuid":%q,"result":"ERROR","reason":"USER-CANCELED"}`, x.id)
		}
		err := post(t.Context(), body)
		for until := time.Now().Add(time.Minute); err != nil && time.Now().Before(until); { // nobody there
			time.Sleep(50 * time.Millisecond)
			err = post(t.Context(), body)
		}
		if err != nil {
			return err
		}
		progress()
	}
	return nil
}

// verifiedTransfers are transfers whose verifications are over.
func verifiedTransfers(t *testing.T, a *sandbox.Alliance) (all []*reportedTransfer) {
	t.Helper()
	for i := range reported {
		accepted, err := a.VASPs[0].Verify(t.Context(), sandbox.Request(a.VASPs[1].ID))
		if err != nil {
			t.Fatal(err)
		}
		x := []reportedTransfer{
			{reports: "xy", row: "VERIFIED/OK y", told: "[x y]"},
			{reports: "x!", row: "ERROR/USER-CANCELED x", told: "[x ERROR/USER-CANCELED]"},
			{reports: "xyz", row: "VERIFIED/OK z", told: "[x y z]"},
			{reports: "!", row: "ERROR/USER-CANCELED ", told: "[ERROR/USER-CANCELED]"},
		}[i%4]
		x.id = accepted.VerificationUUID
		all = append(all, &x)
	}
	eventually(t, time.Minute, "every verification is verified", func() bool {
		for _, x := range all {
			if row, err := a.VASPs[0].Row(t.Context(), x.id); err != nil || row.Result != "VERIFIED" {
				return false
			}
		}
		return true
	})
	return all
}

// witness stands before a robot backend and remembers the callbacks that it
// took, as the robot itself does until it dies.
type witness struct {
	t    *testing.T
	url  string
	next *httputil.ReverseProxy

	mu   sync.Mutex
	took map[string][]string // by verification: a transaction's hash, or result and reason
}

func newWitness(t *testing.T, robot string) *witness {
	t.Helper()
	to, err := url.Parse(robot)
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{t: t, took: map[string][]string{}}
	w.next = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) },
		// A connection for each: what the robot took is never sent again.
		Transport: &http.Transport{DisableKeepAlives: true},
		ErrorLog:  log.New(io.Discard, "", 0), // it is dead
	}
	server := httptest.NewServer(w)
	t.Cleanup(server.Close)
	w.url = server.URL
	return w
}

func (w *witness) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the enclave died while it spoke
	}
	if err := openapitest.VASP().Request(http.MethodPost, r.URL.Path, body); err != nil {
		w.t.Errorf("a callback is not in the document: %v", err)
	}
	var c struct {
		Data struct{ VerificationUUID, Result, Reason, TxHash string }
	}
	if err := json.Unmarshal(body, &c); err != nil {
		w.t.Errorf("a callback is no JSON: %v", err)
	}
	what := c.Data.TxHash
	if what == "" {
		what = c.Data.Result + "/" + c.Data.Reason
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	next := *w.next
	next.ModifyResponse = func(answer *http.Response) error {
		if answer.StatusCode == http.StatusOK {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.took[c.Data.VerificationUUID] = append(w.took[c.Data.VerificationUUID], what)
		}
		return nil
	}
	next.ServeHTTP(out, r)
}

// of is what the robot took of one verification, in order.
func (w *witness) of(id string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.took[id])
}

// repeated counts the callbacks that came again.
func (w *witness) repeated() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, took := range w.took {
		n += len(took) - len(slices.Compact(slices.Clone(took)))
	}
	return n
}
