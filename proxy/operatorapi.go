package proxy

import (
	"context"
	"encoding/json"
	"io"
	"net/http"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
	"github.com/vasp-enclave/vasp-enclave/proxy/wirejson"
)

// IdentityView is our own identity as an operator sees it.
type IdentityView struct {
	VASP        identity.VASPID `json:"vaspId"`
	Fingerprint string          `json:"fingerprint"` // in digits, to read out
	Hex         string          `json:"fingerprintHex"`
	Statements  int             `json:"statements"` // length of the chain: one more than there were rotations
}

// Operator is the HTTP surface of the operator's commands. It authenticates
// nobody: it belongs on a socket that only the operator can open. The KEK
// wraps a new identity; by says who the caller is, for the audit log.
func (e *Enclave) Operator(log OperatorStore, kek identity.AEAD, by func(*http.Request) string) http.Handler {
	return (&operator{e, log, kek, by}).routes().Handler()
}

// OperatorRoutes are the patterns that Operator serves.
func OperatorRoutes() []string { return (&operator{Enclave: new(Enclave)}).routes().Patterns() }

func (o *operator) routes() edge.Routes {
	e, routes := o.Enclave, edge.Routes{}
	for pattern, h := range map[string]handler{
		"GET /identity":          o.identity,
		"POST /identity/rotate":  o.change(e.RotateIdentity),
		"POST /identity/replace": o.change(e.ReplaceIdentity),
		"GET /peers":             o.peers,
		"GET /peers/{id}": o.peer(func(ctx context.Context, id identity.VASPID, _, _ string) (*PeerView, error) {
			return e.PeerView(ctx, id)
		}),
		"POST /peers/{id}/verify": o.peer(e.VerifyPeer),
		"POST /peers/{id}/accept": o.peer(e.AcceptPeer),
		"POST /peers/{id}/block": o.peer(func(ctx context.Context, id identity.VASPID, _, by string) (*PeerView, error) {
			return e.BlockPeer(ctx, id, by)
		}),
		"GET /peers/{id}/history": o.history,

		"GET /keys":                    o.keys,
		"POST /keys/kek":               o.rotateKEK,
		"POST /keys/data":              o.rotateData,
		"GET /history":                 o.listHistory,
		"GET /history/export":          o.exportHistory,
		"GET /history/holds":           o.listHolds,
		"POST /history/holds":          o.holdPeriod,
		"POST /history/holds/release":  o.releasePeriod,
		"GET /history/{uuid}":          o.showHistory,
		"POST /history/{uuid}/erase":   o.eraseHistory,
		"POST /history/{uuid}/hold":    o.holdHistory,
		"POST /history/{uuid}/release": o.releaseHistory,
		"POST /backup":                 o.backup,
		"GET /audit":                   o.exportAudit,
		"POST /audit/checkpoint":       o.signCheckpoint,
		"POST /check":                  o.check,
	} {
		routes[pattern] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := h(w, r); err != nil {
				writeError(w, err)
			}
		})
	}
	return routes
}

type operator struct {
	*Enclave
	log OperatorStore
	kek identity.AEAD
	by  func(*http.Request) string
}

// change makes another identity ours, and shows it.
func (o *operator) change(do func(context.Context, identity.AEAD, string) error) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := do(r.Context(), o.kek, o.by(r)); err != nil {
			return err
		}
		return o.identity(w, r)
	}
}

func (o *operator) identity(w http.ResponseWriter, _ *http.Request) error {
	chain, err := identity.ParseChain(o.self.Load().chain)
	if err != nil {
		return fail("read our identity", Internal, err)
	}
	us := o.signer().Public()
	return writeView(w, IdentityView{o.Self, identity.FingerprintDigits(us), us.Fingerprint().String(), chain.Len()})
}

func (o *operator) peers(w http.ResponseWriter, _ *http.Request) error {
	return writeView(w, o.PeerViews())
}

// peer answers a look or a decision at one counterparty.
func (o *operator) peer(do func(ctx context.Context, id identity.VASPID, digits, by string) (*PeerView, error)) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		id, err := peerID(r)
		if err != nil {
			return err
		}
		var in struct {
			Digits string `json:"digits"`
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 4<<10))
		if err == nil && len(body) > 0 {
			err = wirejson.Unmarshal(body, &in)
		}
		if err != nil {
			return invalid("BAD-REQUEST", "The request cannot be read.")
		}
		view, err := do(r.Context(), id, in.Digits, o.by(r))
		if err != nil {
			return err
		}
		return writeView(w, view)
	}
}

func (o *operator) history(w http.ResponseWriter, r *http.Request) error {
	id, err := peerID(r)
	if err != nil {
		return err
	}
	events, err := o.PeerHistory(r.Context(), o.log, id)
	if err != nil {
		return err
	}
	return writeView(w, events)
}

func peerID(r *http.Request) (identity.VASPID, error) {
	id, err := identity.ParseVASPID(r.PathValue("id"))
	if err != nil {
		return 0, invalid("INVALID-VASP", "The VASP id must be a decimal number.")
	}
	return id, nil
}

func writeView(w http.ResponseWriter, view any) error {
	body, err := json.Marshal(view)
	if err != nil {
		return fail("write a view", Internal, err)
	}
	writeJSON(w, http.StatusOK, body)
	return nil
}
