package enclavecmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge/acme"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
	"github.com/vasp-enclave/vasp-enclave/storage/memory"
	"github.com/vasp-enclave/vasp-enclave/storage/redis"
)

// peerKeys is how many counterparties' keys are kept in memory.
const peerKeys = 10_000

// auditReserve is the room kept for the audit log on a full disk, in bytes: some
// hundred entries at the least.
const auditReserve = 4 << 20

// openHistory opens the database file; when a write to it fails the state on
// disk is unknown and the program stops.
func openHistory(s *Settings, p *parts, metrics prometheus.Registerer, logger *slog.Logger, stop context.CancelCauseFunc) (*bolt.DB, error) {
	dir := filepath.Dir(s.DatabaseFile)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, configError{fmt.Errorf("VEGA_DATABASE_FILE: there is no directory %s; make it, readable by this user only", dir)}
	}
	db, err := bolt.Open(bolt.Options{
		Path: s.DatabaseFile, KEK: p.kek, Others: p.otherKEKs, Period: time.Duration(s.RetentionPeriod) * 24 * time.Hour,
		Reserve: auditReserve, UnsafeNetwork: s.UnsafeNetworkFS, Now: time.Now, Metrics: metrics, Logger: logger,
		OnFail: func(err error) { stop(fmt.Errorf("the history failed, and what is on disk is unknown: %w", err)) },
	})
	if errors.Is(err, atrest.ErrWrongKEK) {
		return nil, configError{fmt.Errorf("%s: %w; find the key with the first id, or the history that is under the second", s.keySourceName(), err)}
	}
	if err == nil {
		sayWhichKEK(db, p, logger)
	}
	return db, onNetwork(err)
}

// wire makes an enclave of its parts and opens its listeners.
func wire(ctx context.Context, s *Settings, p *parts, db audited, watch *watch, r *reloading, logger *slog.Logger) (*node, error) {
	registry := watch.registry
	enclave, err := newEnclave(ctx, s, p, db, registry, r, logger)
	if err != nil {
		return nil, err
	}
	verifier, err := relay.NewVerifier(relay.VerifierConfig{
		Direction: relay.CentralToEnclave, Keys: []relay.Key{allianceKey(s)}, Recipient: s.VASPID.String(),
		Namespace: "enclave", Metrics: registry, Now: time.Now,
	})
	if err != nil {
		return nil, configError{err}
	}
	certificates, automatic, err := openCertificates(ctx, p, db.DB, registry, logger)
	if err != nil {
		return nil, configError{err}
	}
	r.enclave, r.verifier, r.key, r.api = enclave, verifier, allianceKey(s), new(changing)
	r.api.set(enclave.API(s.ServerToken.Reveal()))
	if err := p.emptyAllowlist(); err != nil {
		logger.Error("settings: " + err.Error())
	}
	public, err := edge.Listen(ctx, edge.Config{
		Address: string(s.PublicListen), Certificates: certificates, Allow: p.allowed, Sources: p.sources(s),
		MinVersion: minVersion(s), ClientAuth: p.clientAuth, Hosts: s.hosts(),
		MaxBody: relay.MaxMessage, Urgent: isHealthPoll, Drain: s.ShutdownGrace.Duration(),
		Namespace: "enclave", Metrics: registry, Log: logger, Now: time.Now,
	})
	if errors.As(err, new(*net.OpError)) {
		return nil, named("VEGA_PUBLIC_LISTEN", err)
	}
	if err != nil {
		return nil, err
	}
	r.public = public
	n := &node{
		enclave: enclave, public: public, automatic: automatic, handler: enclave.Public(verifier, s.PublicEndpoint.URL()), watch: watch,
		reload: r.group(registry), hangup: r.options.hangup, delay: s.ShutdownDelay.Duration(), grace: s.ShutdownGrace.Duration(),
		alive: func(ctx context.Context) bool {
			_, err := db.Directory(ctx)
			return err == nil || errors.Is(err, storage.ErrNotFound)
		},
	}
	backendPanicked, operatorPanicked := panicCounters(registry)
	backend, err := newServer("backend", "VEGA_SERVER_HOST, VEGA_SERVER_PORT", s.ServerAddress(), limitBackend(r.api, registry), s.KeepAliveTimeout.Duration(), backendPanicked, logger)
	if err != nil {
		return nil, err
	}
	operator, err := operatorServer(socketPath(s.OperatorSocket, s.DatabaseFile), enclave.Operator(db, db.Keys().PrivateAEAD(), operatorName), operatorPanicked, logger)
	if err != nil {
		return nil, err
	}
	n.servers = append(n.servers, backend, operator)
	return n, nil
}

// openCertificates gives those from files, or automatic ones, whose private
// keys the history's key seals; automatic is nil for the former.
func openCertificates(ctx context.Context, p *parts, db *bolt.DB, registry *prometheus.Registry, logger *slog.Logger) (shown edge.Certificates, automatic *acme.Certificates, err error) {
	if p.certificates != nil {
		return p.certificates, nil, nil
	}
	c := p.automatic
	c.AEAD, c.Namespace, c.Metrics, c.Log = db.Keys().PrivateAEAD(), "enclave", registry, logger
	automatic, err = acme.Open(ctx, c)
	return automatic, automatic, err
}

func newEnclave(ctx context.Context, s *Settings, p *parts, db audited, registry *prometheus.Registry, r *reloading, logger *slog.Logger) (*proxy.Enclave, error) {
	kek := db.Keys().PrivateAEAD()
	signer, chain, err := proxy.OpenIdentity(ctx, db, kek, s.VASPID, time.Now())
	if err != nil {
		return nil, err
	}
	skew := s.ClockSkew.Duration()
	own, err := keyring.OpenOwn(ctx, keyring.OwnConfig{
		Signer: signer, Store: db, AEAD: kek, Suite: p.suites[0], Suites: p.suites, Now: time.Now,
		MaxEnvelopeLife: proxy.MaxEnvelopeLife, Skew: skew, ReplyLife: s.Timeout.Duration() + time.Hour,
	})
	if err != nil {
		return nil, fmt.Errorf("load our keys: %w", err)
	}
	central, err := relay.NewClient(relay.Config{
		Endpoint: s.APIEndpoint.String(), AccessKey: s.AccessKey, SecretKey: allianceKey(s).Secret,
		Trust: p.apiTrust, SourceAddress: s.SourceAddress.Addr, Metrics: registry, Log: logger, Now: time.Now,
	})
	if err != nil {
		return nil, configError{err}
	}
	backend, err := newBackend(s, p, registry, logger)
	if err != nil {
		return nil, configError{err}
	}
	r.central, r.backend = central, backend
	go scan(ctx, backend, logger)
	cache, err := openCache(ctx, s, p, db.DB, registry, logger)
	if err != nil {
		return nil, configError{err}
	}
	return proxy.New(ctx, proxy.Config{
		Self: s.VASPID, Network: s.NetworkID, Signer: signer, Chain: chain,
		History: db, Own: own, Cache: cache, Relay: central, Backend: backend, Validator: p.validator,
		MessagesPerSecond: s.PeerMessages,
		PublicEndpoint:    s.PublicEndpoint.String(), Version: Version, Suites: p.suites, Floor: p.floor, VASPIVMS101: p.ivms101,
		ReplaceIdentity: p.replaceIdentity,
		Custody:         db, OpenKEK: p.openKEK, Retention: s.retention(),
		LabelPeers: s.VASPLabels, Callbacks: s.CallbackURL.IsSet(), VerifiedOnly: s.PeerTrust == "verified",
		KeyTTL: s.PublicKeyTTL.Duration(), Timeout: s.Timeout.Duration(), Skew: skew,
		Now: time.Now, Logger: logger, Metrics: registry,
	})
}

// openCache keeps counterparties' keys in process, and behind that in Redis
// when one is named. Redis is trusted for nothing and may be away.
func openCache(ctx context.Context, s *Settings, p *parts, db *bolt.DB, metrics prometheus.Registerer, logger *slog.Logger) (keyring.PeerCache, error) {
	front := memory.New(peerKeys, time.Now)
	if !s.RedisURL.IsSet() {
		return front, nil
	}
	cache, err := redis.Open(redis.Config{
		URL: s.RedisURL.Reveal(), Roots: p.redisRoots, Front: front, MAC: db.MAC, Now: time.Now, Metrics: metrics, Logger: logger,
	})
	if err != nil {
		return nil, named("VEGA_REDIS_URL", err)
	}
	go func() {
		if err := cache.Probe(ctx); err != nil {
			logger.Warn("Redis cannot be used; keys are kept in process until it can", "err", err)
		}
	}()
	return cache, nil
}

func newBackend(s *Settings, p *parts, metrics prometheus.Registerer, logger *slog.Logger) (*vasp.Client, error) {
	return vasp.New(vasp.Config{
		Account: s.AccountURL.String(), Verification: s.UserURL.String(),
		Transaction: s.TransactionURL.String(), Callback: s.CallbackURL.String(), UnsafeHTTP: s.UnsafePlainHTTP,
		Token: vasp.NewToken(s.AuthorizationToken.Reveal()), HeaderName: s.AuthorizationKey,
		Socket: s.VerificationSocket, Trust: p.vaspTrust, KeepAlive: s.VerificationIdle.Duration(), Now: time.Now, Metrics: metrics, Log: logger,
	})
}

// scan says at start which of the backend's endpoints cannot be reached
// (contract 3.0); it changes nothing.
func scan(ctx context.Context, backend *vasp.Client, logger *slog.Logger) {
	for _, problem := range backend.Probe(ctx) {
		logger.Warn("the VASP's backend", "err", problem)
	}
}
