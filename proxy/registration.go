package proxy

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"syscall"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
)

// keepRegistered tells central where we are, who we are and that we live,
// and renews that as often as central asks, until ctx ends. Central's absence
// is waited out; only what an operator must mend ends it.
func (e *Enclave) keepRegistered(ctx context.Context) error {
	defer e.metrics.lease.Set(0)
	registered, failures := false, 0
	for {
		var pause time.Duration
		lease, err := e.register(ctx)
		switch {
		case err == nil:
			if !registered {
				e.Logger.Info("registered with central", "endpoint", e.PublicEndpoint)
			}
			registered, failures, pause = true, 0, lease.Heartbeat()
		case mustMend(err) != nil:
			return mustMend(err)
		case ctx.Err() != nil:
			return ctx.Err()
		default:
			e.metrics.lease.Set(0)
			registered = false
			e.Logger.Warn("central did not register this enclave; trying again", "err", err, "advice", Advice(err))
			failures++
			pause = min(retryPause<<min(failures, 8), 10*time.Second)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		case <-e.wanted:
			// Not at once: every delivery in flight may have asked.
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(retryPause):
			}
		}
	}
}

const retryPause = 250 * time.Millisecond

func (e *Enclave) register(ctx context.Context) (*relay.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	suites := make([]string, len(e.Suites))
	for i, s := range e.Suites {
		suites[i] = s.String()
	}
	us := e.self.Load()
	lease, err := e.Relay.Register(ctx, relay.Registration{
		PublicEndpoint: e.PublicEndpoint, Version: e.Version, Suites: suites,
		Replace:  us.replaces.Load(),
		Identity: base64.StdEncoding.EncodeToString(us.chain), Instance: e.instance.String(),
	})
	if err != nil {
		return nil, err
	}
	if lease.VASPID != e.Self {
		return nil, &mendError{fmt.Sprintf("the alliance access key belongs to VASP %s and VEGA_VASP_ID says %s: set the one that goes with the other", lease.VASPID, e.Self)}
	}
	e.taken(ctx, us)
	e.metrics.lease.Set(1)
	if err := e.refreshDirectory(ctx); err != nil {
		e.Logger.Warn("central gave no directory; the kept one serves", "err", err)
	}
	return lease, nil
}

// Advice says what most likely stands behind a request to central that failed.
func Advice(err error) string {
	var refused *relay.Error
	switch {
	case errors.As(err, &refused) && refused.Code == relay.CodeUnauthenticated:
		return "look at VEGA_ALLIANCE_ACCESS_KEY, VEGA_ALLIANCE_SECRET_KEY, the path of VEGA_API_ENDPOINT and the clock"
	case errors.As(err, &refused) && refused.Code == relay.CodeForbidden:
		return "central's operator must allow the address that this enclave calls from; see VEGA_SOURCE_ADDRESS"
	case errors.As(err, &refused) && refused.Code == relay.CodeInvalidEndpoint:
		return "VEGA_ENCLAVE_PUBLIC_ENDPOINT must be, and resolve to, a public address, unless central's operator allows private ones"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return "central hung up at once: is the address that this enclave calls from on its list? See VEGA_SOURCE_ADDRESS"
	case errors.As(err, &refused):
		return "central's log says more"
	}
	return "is central there, and does VEGA_API_ROOTS_FILE vouch for its certificate?"
}

// mendError is what only an operator can mend.
type mendError struct{ advice string }

func (e *mendError) Error() string { return e.advice }

// mustMend tells whether a failed registration is one that waiting does not
// help, and what to do; nil for every other failure.
func mustMend(err error) error {
	var mend *mendError
	var refused *relay.Error
	switch {
	case errors.As(err, &mend):
		return mend
	case !errors.As(err, &refused):
		return nil
	}
	switch refused.Code {
	case "INVALID-IDENTITY":
		return &mendError{"central does not take our identity for this access key: VEGA_VASP_ID, VEGA_ALLIANCE_ACCESS_KEY and the database file must be of one VASP"}
	case relay.CodeIdentityConflict:
		return &mendError{"central knows another identity for this VASP: is this the right database file? " +
			"If the identity was lost for good, start once with --replace-identity, and tell your counterparties: each must accept the new one"}
	case relay.CodeInstanceConflict:
		return &mendError{"another enclave of this VASP is alive: stop it first; one VASP runs one enclave"}
	}
	return nil
}

// RegisterSoon asks for a registration before the next heartbeat is due, such as
// with another key of the alliance's. It does not wait.
func (e *Enclave) RegisterSoon() {
	select {
	case e.wanted <- struct{}{}:
	default:
	}
}

// ServeHealth answers central's signed health poll. An unsigned one gets the
// bare status elsewhere: it learns neither version nor instance.
func (e *Enclave) ServeHealth(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, newText().str("status", "UP").str("version", e.Version).str("instance", e.instance.String()).end())
}
