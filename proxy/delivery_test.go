package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// Central away: work is accepted from the kept directory, and done when it is
// back, however often the way there fails.
func TestWorkIsAcceptedAndDoneThroughAnAbsenceOfCentral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := proxytest.NewWorld(t)
		verified(w)
		w.Central.Down(true)
		id := verify(t, w, request(w))
		time.Sleep(5 * time.Minute)
		if r := row(t, w.A, id); r["result"] != "WAIT" {
			t.Fatalf("row %v while central is down", r["result"])
		}
		status, answer := w.A.Call(http.MethodPost, "/v1/verifications/account", accountTo(w.B.ID))
		if code, _ := problem(t, answer); status != http.StatusServiceUnavailable || code != "COUNTERPARTY-UNAVAILABLE" {
			t.Errorf("an account check meanwhile = %d %s", status, answer)
		}
		w.Central.Down(false)
		start := time.Now()
		if r := finished(t, w, id); r["result"] != "VERIFIED" {
			t.Errorf("row %v %v", r["result"], r["reason"])
		}
		if took := time.Since(start); took > 15*time.Second {
			t.Errorf("done %v after central was back", took)
		}
	})
}

// None of central's own errors ends a verification, whatever it claims.
func TestCentralsErrorsAreNeverFinal(t *testing.T) {
	for _, fault := range []error{
		&relay.Error{Code: relay.CodeUnauthenticated, Status: 401}, &relay.Error{Code: relay.CodeForbidden, Status: 403},
		&relay.Error{Code: relay.CodeUnknownVASP, Status: 404}, &relay.Error{Code: relay.CodeNotRegistered, Status: 412, Retryable: true},
		&relay.Error{Code: relay.CodeTooLarge, Status: 413}, &relay.Error{Code: relay.CodeBusy, Status: 429, Retryable: true},
		&relay.Error{Code: relay.CodeUnreachable, Status: 502}, &relay.Error{Code: relay.CodeDown, Status: 503}, &relay.Error{Code: relay.CodeTimeout, Status: 504},
		&relay.Error{Code: "DENIED", Status: 200}, &relay.TransportError{Op: "deliver", Err: errors.New("reset")}, errors.New("anything"),
	} {
		t.Run(fault.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := proxytest.NewWorld(t)
				verified(w)
				var n atomic.Int32
				w.Central.Tamper(func(_, _ identity.VASPID, message []byte) ([]byte, error) {
					if proxytest.TypeOf(message) == envelope.VerificationRequest && n.Add(1) <= 3 {
						return nil, fault
					}
					return message, nil
				})
				if r := finished(t, w, verify(t, w, request(w))); r["result"] != "VERIFIED" {
					t.Errorf("row %v %v", r["result"], r["reason"])
				}
				if n.Load() != 4 {
					t.Errorf("%d deliveries, want 3 that failed and one", n.Load())
				}
			})
		})
	}
}

// When central has lost our lease, the enclave registers at once and not with
// the next heartbeat.
func TestALostLeaseIsRenewedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := proxytest.NewWorld(t)
		verified(w)
		time.Sleep(time.Second)
		w.Central.Tamper(func(from, _ identity.VASPID, message []byte) ([]byte, error) {
			if from == w.A.ID && w.Central.Registered() < 2 {
				return nil, &relay.Error{Code: relay.CodeNotRegistered, Status: 412, Retryable: true}
			}
			return message, nil
		})
		w.Central.Forget(w.A.ID)
		start := time.Now()
		finished(t, w, verify(t, w, request(w)))
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// The deadline ends what nobody answered; the counterparty, which knew of it,
// is told when it can be, and both histories agree.
func TestTheDeadlineEndsAVerificationAtBothVASPs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := proxytest.NewWorld(t, func(c *proxy.Config) { c.Timeout = time.Minute })
		verified(w)
		w.Central.TamperReply(func(_, _ identity.VASPID, reply []byte) ([]byte, error) {
			if proxytest.TypeOf(reply) == envelope.VerificationAnswer {
				return nil, proxytest.ErrDown // B has answered, and A never hears of it
			}
			return reply, nil
		})
		id := verify(t, w, request(w))
		w.Await("B has answered", func() bool { return len(w.B.Backend.Asked()) == 1 })
		w.Central.Down(true)
		start := time.Now()
		w.AwaitWithin(2*time.Minute, "A is called back", func() bool { return called(w.A, id) > 0 })
		r := row(t, w.A, id)
		if took := time.Since(start); took < 50*time.Second || took > 70*time.Second {
			t.Errorf("ended after %v", took)
		}
		if r["result"] != "ERROR" || r["reason"] != "REQUEST-TIMEOUT" || r["message"] != "Request timeout." || r["verifiedAt"] != nil {
			t.Errorf("row of A %v", r)
		}
		sameJSON(t, "callback to A", []byte(callbacks(w.A, id)[0]), fmt.Sprintf(
			`{"callbackType":"VERIFICATION_RESULT","data":{"verificationUuid":%q,"verificationResult":"ERROR","reason":"REQUEST-TIMEOUT","message":"Request timeout.","ivms101":{"originator":%s,"beneficiary":%s,"originatingVASP":%s}}}`,
			id, originator, said, proxytest.LegalPerson(w.A.ID)))
		if r := row(t, w.B, id); r["result"] != "VERIFIED" {
			t.Errorf("row of B %v before it was told", r["result"])
		}
		time.Sleep(2 * time.Hour)
		w.Central.Down(false)
		w.AwaitWithin(2*time.Minute, "B is called back", func() bool { return called(w.B, id) > 0 })
		sameJSON(t, "callback to B", []byte(callbacks(w.B, id)[0]), fmt.Sprintf(
			`{"callbackType":"ERROR_REPORT","data":{"verificationUuid":%q,"result":"ERROR","reason":"REQUEST-TIMEOUT","message":"Request timeout."}}`, id))
		if r := row(t, w.B, id); r["result"] != "ERROR" || r["reason"] != "REQUEST-TIMEOUT" || r["message"] != "Request timeout." {
			t.Errorf("row of B %v", r)
		}
		w.Await("A's outbox is empty", func() bool { return w.A.Metric("enclave_outbox_entries") == 0 })
		time.Sleep(time.Hour)
		if called(w.A, id) != 1 || called(w.B, id) != 1 {
			t.Errorf("called back %d and %d times", called(w.A, id), called(w.B, id))
		}
		if left, err := w.A.History.Outbox(t.Context()); err != nil || len(left) != 0 {
			t.Errorf("A's outbox holds %d entries, %v", len(left), err)
		}
		if e := audited(t, w.A, audit.Finish); len(e) != 1 || e[0].Actor != audit.System || e[0].Reason != "REQUEST-TIMEOUT" {
			t.Errorf("audit of A %+v", e)
		}
		if e := audited(t, w.B, audit.OpenError); len(e) != 1 || e[0].Outcome != "ERROR" {
			t.Errorf("audit of B %+v", e)
		}
	})
}

// A verified transfer may be reported as failed, once. What comes after
// changes nothing and calls nobody, whatever it says (A7).
func TestErrorReportsAreIdempotent(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	id := verify(t, w, request(w))
	finished(t, w, id)
	report := func(reason string) {
		t.Helper()
		m := proxytest.Message{Type: envelope.ErrorReport, ID: parse(t, id), ReplyBundle: w.A.EncodedBundle(),
			Payload: fmt.Appendf(nil, `{"result":"ERROR","reason":%q,"message":"m"}`, reason)}
		if _, reply := w.Central.Send(w.B.ID, w.A.Seal(w.B, m)); proxytest.TypeOf(reply) != envelope.ErrorReportAnswer {
			t.Fatalf("answered with a %s", proxytest.TypeOf(reply))
		}
	}
	for range 3 {
		report("USER-CANCELED")
	}
	w.Await("B is called back", func() bool { return called(w.B, id) == 1 })
	report("BLACKLISTED")
	if r := row(t, w.B, id); r["reason"] != "USER-CANCELED" {
		t.Errorf("row %v", r)
	}
	var outcomes []string
	for _, e := range audited(t, w.B, audit.OpenError) {
		outcomes = append(outcomes, e.Outcome+" "+e.Reason)
	}
	if want := []string{"ERROR USER-CANCELED", "unchanged ", "unchanged ", "unchanged "}; !slices.Equal(outcomes, want) || called(w.B, id) != 1 {
		t.Errorf("audited %q, %d callbacks, want %q and one", outcomes, called(w.B, id), want)
	}
	if r := row(t, w.A, id); r["result"] != "VERIFIED" {
		t.Errorf("row of A %v", r["result"])
	}
}

// An answer that comes after the deadline is written down and changes nothing:
// the deadline has ended the verification, and the counterparty is told.
func TestALateAnswerIsOnlyAudited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := proxytest.NewWorld(t, func(c *proxy.Config) { c.Timeout = 3 * time.Second })
		w.B.Backend.OnUser(func(context.Context, []byte) (*vasp.UserAnswer, error) {
			time.Sleep(4 * time.Second)
			return &vasp.UserAnswer{Result: "VERIFIED", Reason: "OK", Beneficiary: []byte(said)}, nil
		})
		id := verify(t, w, request(w))
		if r := finished(t, w, id); r["result"] != "ERROR" || r["reason"] != "REQUEST-TIMEOUT" || r["verifiedAt"] != nil {
			t.Errorf("row of A %v", r)
		}
		w.Await("B is told", func() bool { return called(w.B, id) == 1 })
		if r := row(t, w.B, id); r["result"] != "ERROR" || r["reason"] != "REQUEST-TIMEOUT" {
			t.Errorf("row of B %v", r)
		}
		if e := audited(t, w.A, audit.LateAnswer); len(e) != 1 || e[0].Outcome != "VERIFIED" || e[0].Object != id {
			t.Errorf("audit %+v", e)
		}
		if n := w.A.Metric("enclave_late_answers_total"); n != 1 {
			t.Errorf("enclave_late_answers_total = %v", n)
		}
		time.Sleep(time.Minute)
		if called(w.A, id) != 1 {
			t.Errorf("A was called back %d times", called(w.A, id))
		}
	})
}

// Central holds a request back until its sender has given up, and then gives
// both to the recipient in the other order: the backend is not asked for what
// is over.
func TestAWithdrawnVerificationIsNotAsked(t *testing.T) {
	w := proxytest.NewWorld(t)
	verified(w)
	id := uuid.New()
	held := w.A.Seal(w.B, proxytest.Message{Type: envelope.VerificationRequest, ID: id, ReplyBundle: w.A.EncodedBundle(), Payload: payload("", "")})
	report := w.A.Seal(w.B, proxytest.Message{Type: envelope.ErrorReport, ID: id, ReplyBundle: w.A.EncodedBundle(), Payload: []byte(`{"result":"ERROR","reason":"REQUEST-TIMEOUT"}`)})
	if _, reply := w.Central.Send(w.B.ID, report); proxytest.TypeOf(reply) != envelope.ErrorReportAnswer {
		t.Fatalf("the report is answered with a %s", proxytest.TypeOf(reply))
	}
	for _, restart := range []bool{false, true} {
		if restart {
			w.B.Stop()
			w.B.Start()
		}
		if _, reply := w.Central.Send(w.B.ID, held); proxytest.TypeOf(reply) != envelope.Refusal {
			t.Errorf("the request is answered with a %s", proxytest.TypeOf(reply))
		}
		if n := w.B.Metric("enclave_refused_total", "withdrawn"); n != 1 {
			t.Errorf("refused as withdrawn: %v", n)
		}
	}
	if n := len(w.B.Backend.Asked()); n != 0 {
		t.Errorf("the backend was asked %d times", n)
	}
	if n := w.B.Metric("enclave_verification_conflicts_total"); n != 0 {
		t.Error("a withdrawal is alarmed as a conflict")
	}
	if e := audited(t, w.B, audit.OpenError); len(e) != 1 || e[0].Outcome != "unknown" {
		t.Errorf("audit %+v", e)
	}
}

// A directory that never comes holds up neither the backend nor the heartbeat.
func TestADirectoryThatHangsHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := proxytest.NewWorld(t)
		verified(w)
		time.Sleep(40 * time.Second) // a heartbeat brought a directory that has both; it is old now
		w.Central.HangDirectory(true)
		start := time.Now()
		if list := ask(t, w.A, http.MethodGet, "/v1/vasps", nil)["vasps"].([]any); len(list) != 2 {
			t.Errorf("the kept directory holds %d VASPs", len(list))
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("the directory took %v", took)
		}
		before := w.Central.Registrations(w.A.ID)
		time.Sleep(5 * time.Minute)
		if n := w.Central.Registrations(w.A.ID) - before; n < 7 {
			t.Errorf("%d heartbeats in five minutes", n)
		}
		if r := finished(t, w, verify(t, w, request(w))); r["result"] != "VERIFIED" {
			t.Errorf("row %v", r["result"])
		}
		w.Central.HangDirectory(false)
		w.Central.EditDirectory(func(d *relay.Directory) { d.VASPs[0].VASPName = "renamed" })
		w.Await("the request that hangs is given up, and a new one made", func() bool {
			_, answer := w.A.Call(http.MethodGet, "/v1/vasps", nil)
			return contains(answer, "renamed")
		})
	})
}

// A counterparty that registers its first enclave can be sent to at once, not
// when the kept directory is fetched again.
func TestACounterpartyIsFoundRightAfterItsFirstRegistration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := proxytest.NewWorld(t)
		w.Central.EditDirectory(func(d *relay.Directory) {
			for i := range d.VASPs {
				if d.VASPs[i].VASPID == w.B.ID {
					d.VASPs[i].VASPStatus, d.VASPs[i].Identity, d.VASPs[i].Suites = relay.StatusVerified, "", nil
				}
			}
		})
		time.Sleep(time.Minute) // a heartbeat brings it
		if status, answer := w.A.Call(http.MethodPost, "/v1/verifications", request(w)); status != http.StatusBadRequest || !contains(answer, "ALLIANCE-NOT-ACTIVE") {
			t.Fatalf("before: %d %s", status, answer)
		}
		time.Sleep(time.Second)
		w.Central.EditDirectory(nil)
		if r := finished(t, w, verify(t, w, request(w))); r["result"] != "VERIFIED" {
			t.Errorf("right after: %v", r["result"])
		}
	})
}

// An operator is told once that central cannot reach this enclave, also when it
// never could, and once that it can.
func TestCentralsWordOfUsIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const gone, there = `"msg":"central cannot reach this enclave`, `"msg":"central says that this enclave is up`
		w := proxytest.NewWorld(t)
		says := func(health string) {
			w.Central.EditDirectory(func(d *relay.Directory) {
				for i := range d.VASPs {
					d.VASPs[i].Health = health
				}
			})
		}
		told := func(when string, lost, found int) {
			t.Helper()
			time.Sleep(2 * time.Minute)
			if a, b := strings.Count(w.A.Log.String(), gone), strings.Count(w.A.Log.String(), there); a != lost || b != found {
				t.Errorf("%s: told %d times that we are lost, %d times that we are found; want %d and %d", when, a, b, lost, found)
			}
		}
		told("up since the start", 0, 0)
		says(relay.Down)
		told("down", 1, 0)
		says(relay.Up)
		told("up again", 1, 1)
		w.A.Stop()
		says(relay.Down)
		w.A.Start()
		told("never reached since the start", 2, 1)
	})
}

// failing is a history whose writer fails when a test says so.
type failing struct {
	storage.History
	on func(*storage.Change) error
}

func (f *failing) Apply(ctx context.Context, c *storage.Change) error {
	if err := f.on(c); err != nil {
		return err
	}
	return f.History.Apply(ctx, c)
}

// The directory whose writing failed is written with the next one: a start
// without central must not fall back behind it.
func TestTheDirectoryIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := proxytest.NewWorld(t)
		w.A.Stop()
		var full atomic.Bool
		w.A.Tweak(func(c *proxy.Config) {
			c.History = &failing{c.History, func(c *storage.Change) error {
				if c.Directory != nil && full.Load() {
					return storage.ErrReadOnly
				}
				return nil
			}}
		})
		full.Store(true)
		w.A.Start()
		w.Central.EditDirectory(func(d *relay.Directory) { d.VASPs[1].VASPName = "renamed" })
		time.Sleep(time.Minute)
		full.Store(false)
		time.Sleep(time.Minute)
		w.A.Stop()
		w.Central.Down(true)
		w.A.Start()
		if _, answer := w.A.Call(http.MethodGet, "/v1/vasps", nil); !contains(answer, "renamed") {
			t.Errorf("after a restart without central: %s", answer)
		}
	})
}
