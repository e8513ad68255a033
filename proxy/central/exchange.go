package central

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
)

// outcome is how an exchange ended, as seen by central: a metric's label and,
// but for ok, an error of the wire. None says anything of a verification.
type outcome struct {
	label   string
	status  int
	code    string
	message string
	wait    time.Duration // before the sender tries again; zero: as it likes
}

// after is the same outcome with the wait that the recipient asks for.
func (o outcome) after(wait time.Duration) *outcome {
	o.wait = wait
	return &o
}

var (
	relayed       = &outcome{label: "ok"}
	badRecipient  = &outcome{label: "invalid", status: http.StatusBadRequest, code: "INVALID-RECIPIENT", message: "Relay-Recipient must be the recipient's VASP id."}
	badMedia      = &outcome{label: "invalid", status: http.StatusBadRequest, code: "INVALID-CONTENT-TYPE", message: "The body must be an envelope, application/octet-stream."}
	notRegistered = &outcome{label: "not-registered", status: http.StatusPreconditionFailed, code: relay.CodeNotRegistered, message: "This enclave has no lease; register, then try again."}
	unknownVASP   = &outcome{label: "unknown-vasp", status: http.StatusNotFound, code: relay.CodeUnknownVASP, message: "The recipient is no member that this one is connected with."}
	busy          = &outcome{label: "busy", status: http.StatusTooManyRequests, code: relay.CodeBusy, message: "Too many exchanges with this recipient; try again."}
	unreachable   = &outcome{label: "unreachable", status: http.StatusBadGateway, code: relay.CodeUnreachable, message: "The recipient's enclave cannot be reached, or gave no reply of an enclave; try again."}
	down          = &outcome{label: "down", status: http.StatusServiceUnavailable, code: relay.CodeDown, message: "The recipient's enclave is down; try again."}
	late          = &outcome{label: "timeout", status: http.StatusGatewayTimeout, code: relay.CodeTimeout, message: "The recipient's enclave did not reply in time; try again."}
	canceled      = &outcome{label: "canceled", status: http.StatusGatewayTimeout, code: relay.CodeTimeout, message: "The sender did not wait."}
)

// relay answers POST /relay/v1/messages: the recipient's enclave gets the same
// bytes, and the sender its reply. Nothing is kept.
func (s *Server) relay(w http.ResponseWriter, r *http.Request, from *seat, signed *relay.Verified) {
	start := s.config.Now()
	reply, o := s.exchange(r, from, signed)
	took := s.config.Now().Sub(start)
	s.metrics.exchanges[o.label].Observe(took.Seconds())
	s.config.Log.Debug("exchange done", "from", from.member.VASPID, "to", signed.Recipient, "outcome", o.label,
		"bytes", len(signed.Body), "reply_bytes", len(reply), "took", took)
	if o != relayed {
		if o.wait > 0 {
			w.Header().Set("Retry-After", relay.FormatRetryAfter(o.wait))
		}
		relay.WriteError(w, o.status, o.code, o.message)
		return
	}
	w.Header().Set("Content-Type", relay.MediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(reply))) // rather than chunks
	_, _ = w.Write(reply)
}

func (s *Server) exchange(r *http.Request, from *seat, signed *relay.Verified) ([]byte, *outcome) {
	if r.Header.Get("Content-Type") != relay.MediaType {
		return nil, badMedia
	}
	to, e, o := s.recipient(from, signed.Recipient)
	if o != nil {
		return nil, o
	}
	if to.exchanges.Add(1) > int64(s.config.MaxExchanges) {
		to.exchanges.Add(-1)
		return nil, busy
	}
	defer to.exchanges.Add(-1)
	reply, o := s.carry(r.Context(), to, e, signed.Body)
	s.record.add(s.config.Log, from, to, signed.Body, reply)
	return reply, o
}

// recipient finds the enclave that a member may send to.
func (s *Server) recipient(from *seat, header string) (*seat, *enclave, *outcome) {
	now := s.config.Now()
	id, err := identity.ParseVASPID(header)
	if err != nil {
		return nil, nil, badRecipient
	}
	if _, alive := from.sitting(now); !alive {
		return nil, nil, notRegistered
	}
	to := s.roster.Load().seats[id]
	if to == nil || !from.member.connected(to.member) {
		return nil, nil, unknownVASP
	}
	e, alive := to.sitting(now)
	if !alive {
		return nil, nil, down
	}
	return to, e, nil
}

// carry posts an envelope to an enclave and brings its reply. It ends with the
// sender's request or after RelayTimeout, whichever is first.
func (s *Server) carry(sender context.Context, to *seat, e *enclave, envelope []byte) ([]byte, *outcome) {
	ctx, cancel := context.WithTimeout(sender, s.config.RelayTimeout)
	defer cancel()
	reply, err := e.endpoint.Do(ctx, relay.Call{
		Method: http.MethodPost, Path: relay.MessagesPath, Recipient: to.member.VASPID.String(),
		MediaType: relay.MediaType, Body: envelope, MaxReply: relay.MaxMessage,
	})
	switch {
	case sender.Err() != nil:
		return nil, canceled
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, late
	case err != nil:
		s.config.Log.Debug("recipient unreachable", "to", to.member.VASPID, "err", err)
		return nil, unreachable
	}
	return s.accept(to, reply)
}

// accept tells a reply envelope from what else an enclave, or something in
// front of it, may say.
func (s *Server) accept(to *seat, reply *relay.Reply) ([]byte, *outcome) {
	switch {
	case reply.Status == http.StatusOK && reply.MediaType == relay.MediaType:
		return reply.Body, relayed
	case reply.Status == http.StatusTooManyRequests:
		return nil, busy.after(reply.RetryAfter)
	case reply.Status == http.StatusServiceUnavailable:
		return nil, down.after(reply.RetryAfter)
	}
	s.config.Log.Warn("recipient gave no reply of an enclave: do its keys and its allowlist fit central's?", "to", to.member.VASPID, "status", reply.Status)
	return nil, unreachable
}

// recorder writes down what is relayed. A nil one writes nothing.
type recorder struct {
	now func() time.Time
	mu  sync.Mutex
	to  io.Writer
}

// recorded is one line of a record.
type recorded struct {
	Time  string          `json:"time"`
	From  identity.VASPID `json:"from"`
	To    identity.VASPID `json:"to"`
	Bytes []byte          `json:"bytes"` // base64, as is
	Reply []byte          `json:"reply"` // empty when there was none
}

func (r *recorder) add(log *slog.Logger, from, to *seat, envelope, reply []byte) {
	if r == nil {
		return
	}
	line, err := json.Marshal(recorded{relay.Timestamp(r.now()), from.member.VASPID, to.member.VASPID, envelope, reply})
	if err == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		_, err = r.to.Write(append(line, '\n'))
	}
	if err != nil {
		log.Error("exchange not recorded", "err", err)
	}
}
