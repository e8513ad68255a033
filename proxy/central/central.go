// Package central is the mediator of an alliance: it knows its members, lets
// each in from its registered addresses, tells each who the others are, and
// carries envelopes between their enclaves.
//
// Central is trusted with delivery and no more. It holds an envelope for as
// long as one request takes, can neither read nor forge what is inside, keeps
// nothing of it, and decides no verification: its errors are about the way.
// What it keeps on disk is who its members' enclaves are and where: see
// StateFile in Config.
package central

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/vasp-enclave/vasp-enclave/proxy/allow"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
	"github.com/vasp-enclave/vasp-enclave/proxy/outward"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
)

// Config is what a central server is made of.
type Config struct {
	Members *Members

	Address      string // host:port to listen on; port 0 takes any free one
	BasePath     string // below which the wire's paths lie; "" for none
	Certificates edge.Certificates

	Roots         *x509.CertPool // of the enclaves' certificates; nil: the system's
	Trust         *outward.Trust // if not nil, counts instead of Roots; may hold central's client certificate
	SourceAddress netip.Addr     // of connections to enclaves; zero: any
	// Reach is where enclaves may be. A member says where its own is, so it
	// may point at anything that central can reach (attack V2); zero lets it
	// point at public addresses only.
	Reach    outward.Class
	Resolver *net.Resolver // of endpoints' names; nil: the system's

	// StateFile keeps identities and registrations, so that a central that
	// was killed comes back knowing them. "" keeps them in memory only.
	StateFile string

	// Record, if not nil, gets everything that is relayed, one JSON object a
	// line. For sandboxes and tests: it undoes the promise to keep nothing.
	Record io.Writer

	// Zero takes the value in brackets.
	Lease         time.Duration // how long a registration counts [90 s]
	Heartbeat     time.Duration // how often it is to be repeated [30 s]
	PollEvery     time.Duration // how often enclaves are asked for their health [5 s]
	RelayTimeout  time.Duration // how long an exchange may take [9 s]
	MaxExchanges  int           // at once with one recipient [512]
	DrainRequests time.Duration // how long requests may take once told to stop [15 s]

	Now     func() time.Time
	Log     *slog.Logger
	Metrics prometheus.Registerer // nil: none
}

func (c Config) withDefaults() Config {
	c.Lease = or(c.Lease, 90*time.Second)
	c.Heartbeat = or(c.Heartbeat, 30*time.Second)
	c.PollEvery = or(c.PollEvery, 5*time.Second)
	c.RelayTimeout = or(c.RelayTimeout, 9*time.Second)
	c.MaxExchanges = or(c.MaxExchanges, 512)
	c.Reach = or(c.Reach, outward.Global)
	if c.Trust == nil {
		c.Trust = outward.NewTrust(c.Roots, nil)
	}
	c.Log = or(c.Log, slog.New(slog.DiscardHandler))
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
	return c
}

// or is v, or standard when v is zero.
func or[T comparable](v, standard T) T {
	var zero T
	if v == zero {
		return standard
	}
	return v
}

// Server is a central server that listens. Make it with New, then Run it.
type Server struct {
	config    Config
	listener  *edge.Listener
	handler   http.Handler
	transport *http.Transport
	store     *store
	metrics   *metrics
	record    *recorder
	verifier  *relay.Verifier
	allowed   *allow.Current
	roster    atomic.Pointer[roster]
	changing  sync.Mutex // one SetMembers at a time
	watchers  watchers
}

// New reads the state file and opens the public listener. It answers nothing
// until Run. A state file in use by another central is an error.
func New(ctx context.Context, c Config) (*Server, error) {
	c = c.withDefaults()
	base, err := relay.ParseEndpoint("https://central" + c.BasePath)
	if err != nil || c.BasePath != "" && c.BasePath[0] != '/' {
		return nil, errors.New("base path must be a plain path such as /alliance")
	}
	s := &Server{
		config: c, metrics: newMetrics(c.Metrics),
		transport: relay.NewTransportTo(outward.Config{Secure: c.Reach, Trust: c.Trust, Source: c.SourceAddress, Resolver: c.Resolver}),
	}
	if c.Record != nil {
		s.record = &recorder{to: c.Record, now: c.Now}
	}
	s.verifier, err = relay.NewVerifier(relay.VerifierConfig{
		Direction: relay.EnclaveToCentral, Keys: c.Members.keys(), Namespace: "central", Metrics: c.Metrics, Now: c.Now,
	})
	if err != nil {
		return nil, err
	}
	if s.store, err = openStore(c.StateFile); err != nil {
		return nil, err
	}
	if err = s.open(ctx, base); err != nil {
		return nil, errors.Join(err, s.store.close())
	}
	return s, nil
}

// connsPerMember is how many connections one address may hold open, and how
// many of its requests may be under way, whatever they come on. The total
// grows with the members, so that none can shut out another.
const connsPerMember = 600

func (s *Server) open(ctx context.Context, base *url.URL) error {
	r, err := s.newRoster(s.config.Members, nil)
	if err != nil {
		return err
	}
	s.roster.Store(r)
	s.allowed = allow.NewCurrent(r.members.allowed())
	s.handler = relay.Below(base, s.verifier.Require(s.routes().Handler()))
	s.config.Metrics.MustRegister(&seatsCollector{s})
	places := maxConns(r.members)
	s.listener, err = edge.Listen(ctx, edge.Config{
		Address: s.config.Address, Certificates: s.config.Certificates, Allow: s.allowed, Drain: s.config.DrainRequests,
		MaxConns: places, MaxConnsPerSource: connsPerMember, MaxInFlight: places, MaxInFlightPerSource: connsPerMember, MaxBody: relay.MaxMessage,
		Namespace: "central", Metrics: s.config.Metrics, Log: s.config.Log, Now: s.config.Now,
	})
	return err
}

func maxConns(m *Members) int { return max(m.Len(), 2) * connsPerMember }

// Addr is the address listened on, with its real port.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Run serves members until ctx ends; then it lets exchanges in progress
// finish and writes its state. It may be called once.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.listener.Serve(ctx, s.handler) })
	group.Go(func() error { return s.store.run(ctx, s.config.Log) })
	s.watchers.start(ctx, s.watch)
	s.watchers.follow(s.roster.Load())
	err := group.Wait()
	s.watchers.wait()
	s.transport.CloseIdleConnections()
	return errors.Join(err, s.store.flush(), s.store.close())
}

// Members is how many members there are, active or not.
func (s *Server) Members() int { return s.roster.Load().members.Len() }

// Alive tells whether what is kept of members can be read and nobody holds it
// for good: false once ctx ends before.
func (s *Server) Alive(ctx context.Context) bool {
	read := make(chan struct{})
	go func() {
		defer close(read)
		s.store.get(0)
	}()
	select {
	case <-read:
		return true
	case <-ctx.Done():
		return false
	}
}

// Leave is said some time before Run is told to stop, see edge.Listener.
func (s *Server) Leave() { s.listener.Leave() }

// Close gives up a Server that is never run.
func (s *Server) Close() error { return errors.Join(s.listener.Close(), s.store.close()) }

func (s *Server) routes() edge.Routes {
	return edge.Routes{
		"POST " + relay.MessagesPath: s.member(s.relay),
		"PUT " + relay.RegisterPath:  s.member(s.register),
		"GET " + relay.DirectoryPath: s.member(s.directory),
	}
}

// Routes are the patterns that a Server serves.
func Routes() []string { return new(Server).routes().Patterns() }

// handler answers a request of a member whose signature and address are right.
type handler func(w http.ResponseWriter, r *http.Request, from *seat, signed *relay.Verified)

// member finds whose request it is, and whether it comes from one of the
// addresses of just that member: with a stolen key and another member's
// address one gets no further (attack N2).
func (s *Server) member(next handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		signed, ok := relay.From(r.Context())
		if !ok { // a mistake in open
			relay.WriteError(w, http.StatusUnauthorized, relay.CodeUnauthenticated, "The request is not signed.")
			return
		}
		from := s.roster.Load().byKey[signed.AccessKey]
		source, err := netip.ParseAddrPort(r.RemoteAddr)
		if from == nil || err != nil || !from.member.Allow.Contains(source.Addr()) {
			s.metrics.forbidden.Inc()
			s.config.Log.Warn("request from an address that is not its member's", "access_key", signed.AccessKey, "address", source.Addr().String())
			relay.WriteError(w, http.StatusForbidden, relay.CodeForbidden, "This member's enclave is not at this address; see allow in central's members file.")
			return
		}
		next(w, r, from, signed)
	}
}

func writeInternal(w http.ResponseWriter) {
	relay.WriteError(w, http.StatusInternalServerError, relay.CodeInternal, "Central failed; its log says why.")
}
