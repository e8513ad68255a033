package central

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
)

// register answers PUT /relay/v1/enclaves/self: a first registration, or a
// heartbeat.
func (s *Server) register(w http.ResponseWriter, r *http.Request, from *seat, signed *relay.Verified) {
	registration, err := relay.ParseRegistration(signed.Body)
	var invalid *relay.InvalidError
	if errors.As(err, &invalid) {
		s.metrics.registrations.WithLabelValues("invalid").Inc()
		relay.WriteError(w, http.StatusBadRequest, invalid.Code, invalid.Problem)
		return
	}
	from.registering.Lock()
	defer from.registering.Unlock()
	now := s.config.Now()
	e, err := s.enclave(from.member, kept{Registration: *registration, AccessKey: signed.AccessKey, UpdatedAt: now, LeaseUntil: now.Add(s.config.Lease)})
	if err != nil {
		s.config.Log.Error("registration not taken", "vasp", from.member.VASPID, "err", err)
		writeInternal(w)
		return
	}
	if problem := s.judge(r, from, e); problem != nil {
		s.metrics.registrations.WithLabelValues(problem.outcome).Inc()
		s.config.Log.Warn("registration refused", "vasp", from.member.VASPID, "reason", problem.outcome)
		relay.WriteError(w, problem.status, problem.code, problem.message)
		return
	}
	e.kept.Registration.Replace = false // done, and not to be done again
	if err := s.keep(from, e); err != nil {
		s.metrics.registrations.WithLabelValues("failed").Inc()
		s.config.Log.Error("registration not taken", "vasp", from.member.VASPID, "err", err)
		writeInternal(w)
		return
	}
	s.metrics.registrations.WithLabelValues("ok").Inc()
	writeJSON(w, relay.Lease{LeaseMs: s.config.Lease.Milliseconds(), HeartbeatMs: s.config.Heartbeat.Milliseconds(), VASPID: from.member.VASPID})
}

// problem is why a registration is refused.
type problem struct {
	outcome string // a metric's label
	status  int
	code    string
	message string
}

// judge says whether this enclave may sit down: its identity is this VASP's
// and continues the one known, and nobody else sits there alive.
func (s *Server) judge(r *http.Request, from *seat, e *enclave) *problem {
	chain, err := identity.ParseChain(e.chain)
	if err != nil || chain.Current().VASP() != from.member.VASPID {
		return &problem{"invalid", http.StatusBadRequest, "INVALID-IDENTITY", "identity is not a chain of identity statements of this VASP"}
	}
	before, alive := from.sitting(s.config.Now())
	if moved := before == nil || before.kept.Registration.PublicEndpoint != e.kept.Registration.PublicEndpoint; moved {
		if problem := s.judgeEndpoint(r.Context(), from, e); problem != nil {
			return problem
		}
	}
	if before == nil {
		return nil
	}
	continues := bytes.HasPrefix(e.chain, before.chain)
	if !continues && e.kept.Registration.Replace {
		s.config.Log.Warn("a member replaced its identity without continuity", "vasp", from.member.VASPID)
	} else if !continues {
		return &problem{"identity-conflict", http.StatusConflict, relay.CodeIdentityConflict,
			"Another identity is known for this VASP and this one does not continue it. If it was lost, register once with replace."}
	}
	if !alive || before.kept.Registration.Instance == e.kept.Registration.Instance {
		return nil
	}
	// An enclave that was killed comes back as a new instance while its old
	// lease runs. Whoever answers where it was tells whether it is gone.
	if up, _ := s.ask(context.WithoutCancel(r.Context()), from.member, before); up == pollUp {
		return &problem{"instance-conflict", http.StatusConflict, relay.CodeInstanceConflict,
			"Another enclave of this VASP is alive; stop it first, or wait until its lease ends."}
	}
	s.config.Log.Info("an enclave took the place of one that is gone", "vasp", from.member.VASPID)
	return nil
}

// judgeEndpoint refuses an endpoint that central must not call. It is judged
// again each time that it is dialled, when its name may resolve to another
// address (attack V2). The answer does not say what the name resolves to here.
func (s *Server) judgeEndpoint(ctx context.Context, from *seat, e *enclave) *problem {
	err := s.config.Reach.JudgeHost(ctx, s.config.Resolver, e.endpoint.Base.Hostname())
	if err == nil {
		return nil
	}
	s.config.Log.Warn("a member registered an endpoint that central must not call", "vasp", from.member.VASPID, "err", err)
	return &problem{"refused-endpoint", http.StatusBadRequest, relay.CodeInvalidEndpoint,
		"publicEndpoint is, or resolves to, an address that central does not call; it must be a public one, unless central's operator allows others."}
}

// keep seats the enclave. What changes who it is or where is on disk before;
// a mere heartbeat is not worth a fsync.
func (s *Server) keep(from *seat, e *enclave) error {
	before, alive := from.sitting(s.config.Now())
	if before != nil && alive && same(&before.kept, &e.kept) {
		e.kept.UpdatedAt = before.kept.UpdatedAt
		s.store.prolong(from.member.VASPID, e.kept)
		from.prolong(e)
		return nil
	}
	if err := s.store.put(from.member.VASPID, e.kept); err != nil {
		return err
	}
	from.take(e)
	return nil
}

func same(a, b *kept) bool {
	x, y := a.Registration, b.Registration
	return a.AccessKey == b.AccessKey && x.PublicEndpoint == y.PublicEndpoint && x.Version == y.Version && x.Identity == y.Identity &&
		x.Instance == y.Instance && slices.Equal(x.Suites, y.Suites)
}

func writeJSON(w http.ResponseWriter, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		writeInternal(w)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body)
}
