package main

import (
	"context"
	"crypto/hpke"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/time/rate"
)

const (
	maxRequest  = 8 << 10 // bytes; a sealed request has some 2,000
	maxInFlight = 64
	burst       = 10 // uses of one caller at once
	// healthAge is how old an answer about the token's health may be: who asks
	// for it needs no identity, and shall not keep the token busy.
	healthAge = 5 * time.Second
)

// server is the API. Make it with newServer.
type server struct {
	config *config
	token  *token
	log    *slog.Logger

	callers  []*caller // those that show more come first
	limits   map[string]*rate.Limiter
	inFlight chan struct{}

	strangers *rate.Limiter // lines of the log about those whom nobody knows

	healthMu sync.Mutex
	healthAt time.Time
	health   error
}

func newServer(c *config, t *token, log *slog.Logger) *server {
	s := &server{
		config: c, token: t, log: log, callers: slices.Clone(c.Callers), limits: map[string]*rate.Limiter{},
		inFlight: make(chan struct{}, maxInFlight), strangers: rate.NewLimiter(1, 60),
	}
	slices.SortStableFunc(s.callers, func(a, b *caller) int { return b.shows() - a.shows() })
	for _, who := range c.Callers {
		s.limits[who.Name] = rate.NewLimiter(rate.Limit(float64(c.PerMinute)/60), burst)
	}
	return s
}

// shows is how much a caller has to show.
func (who *caller) shows() (n int) {
	if who.TokenFile != "" {
		n++
	}
	if who.wantsCertificate() {
		n++
	}
	return n
}

// serve answers until ctx ends.
func (s *server) serve(ctx context.Context, listener net.Listener) error {
	pool, err := s.config.clientCAs()
	if err != nil {
		return err
	}
	certificates := &reloaded{certFile: s.config.TLSCertFile, keyFile: s.config.TLSKeyFile, log: s.log}
	if _, err := certificates.get(nil); err != nil {
		return err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: certificates.get, SessionTicketsDisabled: true}
	if pool != nil {
		// Who shows none may still have a token, or ask for health. One that
		// nobody vouches for ends the handshake.
		config.ClientAuth, config.ClientCAs = tls.VerifyClientCertIfGiven, pool
	}
	h := &http.Server{
		Handler: s.handler(), TLSConfig: config, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10,
	}
	done := make(chan error, 1)
	go func() { done <- h.ServeTLS(listener, "", "") }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err = h.Shutdown(late)
	<-done
	return err
}

// reloaded is a certificate that is read again for each connection; one that
// cannot be read leaves the last good one in use.
type reloaded struct {
	certFile, keyFile string
	log               *slog.Logger
	mu                sync.Mutex
	last              *tls.Certificate
}

func (r *reloaded) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair(r.certFile, r.keyFile)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		r.last = &c
	case r.last == nil:
		return nil, err
	default:
		r.log.Error("the certificate cannot be read; the last good one stays in use", "err", err)
	}
	return r.last, nil
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("POST /v1/decrypt", s.use(mayUnwrap, s.unwrap))
	mux.HandleFunc("POST /v1/wrap", s.use(mayWrap, s.wrap))
	return mux
}

// use is one request for a key: who asks, what for, and what became of it.
type use struct {
	who      *caller
	instance string
	label    string
	sealed   bool
}

// outcome of a use, in the log and as a status. The answers about a value that
// is another's and about one that does not open are the same: who asks learns
// nothing of values that are not its own.
type outcome struct {
	name   string
	status int
	answer string
}

var (
	done       = outcome{"ok", http.StatusOK, ""}
	noCaller   = outcome{"no-caller", http.StatusUnauthorized, "who are you?"}
	notAllowed = outcome{"not-allowed", http.StatusForbidden, "not for this caller"}
	noOpening  = outcome{"does-not-open", http.StatusForbidden, "not for this caller"}
	malformed  = outcome{"malformed", http.StatusBadRequest, "not a request of this API"}
	tooOften   = outcome{"too-often", http.StatusTooManyRequests, "too often"}
	trouble    = outcome{"token-trouble", http.StatusServiceUnavailable, "the token is in trouble"}
	busy       = outcome{"busy", http.StatusServiceUnavailable, "busy"}
)

// use finds out who asks before a byte of the body is read, and logs every
// use. What do gives is written as JSON.
func (s *server) use(what string, do func(*use, []byte) (any, outcome, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		u := new(use)
		answer, result, err := s.judge(u, w, r, what, do)
		s.record(r, what, u, result, err)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		switch result.status {
		case http.StatusOK:
		case http.StatusUnauthorized:
			w.Header().Set("WWW-Authenticate", "Bearer")
			fallthrough
		default:
			answer = map[string]string{"error": result.answer}
			if result.status == http.StatusTooManyRequests || result.status == http.StatusServiceUnavailable {
				w.Header().Set("Retry-After", "5")
			}
		}
		w.WriteHeader(result.status)
		_ = json.MarshalWrite(w, answer)
	}
}

func (s *server) judge(u *use, w http.ResponseWriter, r *http.Request, what string, do func(*use, []byte) (any, outcome, error)) (any, outcome, error) {
	select {
	case s.inFlight <- struct{}{}:
		defer func() { <-s.inFlight }()
	default:
		return nil, busy, nil
	}
	if u.who = s.caller(r); u.who == nil {
		return nil, noCaller, nil
	}
	if !slices.Contains(u.who.May, what) {
		return nil, notAllowed, nil
	}
	if !s.limits[u.who.Name].Allow() {
		return nil, tooOften, nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	defer clear(body)
	if err != nil {
		return nil, malformed, err
	}
	return do(u, body)
}

// record logs one use: who, for which instance, with which key, with what
// outcome. Strangers get a few lines a minute, so that they cannot fill a disk.
func (s *server) record(r *http.Request, what string, u *use, result outcome, err error) {
	level := slog.LevelInfo
	if result != done {
		level = slog.LevelWarn
	}
	attrs := []slog.Attr{slog.String("outcome", result.name), slog.String("remote", r.RemoteAddr)}
	if u.who == nil {
		if !s.strangers.Allow() {
			return
		}
	} else {
		attrs = append(attrs, slog.String("caller", u.who.Name), slog.String("instance", u.instance), slog.String("key", u.label), slog.Bool("sealed", u.sealed))
	}
	if err != nil {
		attrs = append(attrs, slog.String("err", err.Error()))
	}
	s.log.LogAttrs(r.Context(), level, what, attrs...)
}

// caller is who asks, nil when nobody whom we know does. Every token is
// compared with every caller's, by hash and in constant time.
func (s *server) caller(r *http.Request) *caller {
	given := sha256.Sum256([]byte(s.shownToken(r)))
	var certificate *x509.Certificate
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		certificate = r.TLS.VerifiedChains[0][0]
	}
	var found *caller
	for _, who := range s.callers {
		right := 1
		if who.TokenFile != "" {
			right = subtle.ConstantTimeCompare(given[:], who.tokenHash[:])
		}
		if right == 1 && found == nil && (!who.wantsCertificate() || certificate != nil && who.has(certificate)) {
			found = who
		}
	}
	return found
}

func (s *server) shownToken(r *http.Request) string {
	if s.config.TokenHeader != "" {
		return r.Header.Get(s.config.TokenHeader)
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return ""
	}
	return token
}

// has tells whether a certificate that a CA of ours vouches for is this
// caller's: by name if it has names, by public key if it has pins.
func (who *caller) has(c *x509.Certificate) bool {
	named := len(who.CertificateNames) == 0
	for _, name := range who.CertificateNames {
		named = named || slices.Contains(c.DNSNames, name)
		for _, uri := range c.URIs {
			named = named || uri.String() == name
		}
	}
	pin := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return named && (len(who.CertificatePins) == 0 || slices.Contains(who.CertificatePins, hex.EncodeToString(pin[:])))
}

// unwrap is contract 3.5, with sealing if it is asked for.
func (s *server) unwrap(u *use, body []byte) (any, outcome, error) {
	var asked struct {
		InputKey  string `json:"inputKey"`
		Recipient string `json:"recipient"`
	}
	if err := json.Unmarshal(body, &asked, json.RejectUnknownMembers(true)); err != nil {
		return nil, malformed, errMalformed
	}
	v, err := parseValue(asked.InputKey)
	if err != nil {
		return nil, malformed, err
	}
	u.instance, u.label, u.sealed = v.instance, v.label, asked.Recipient != ""
	if !u.who.allowed(mayUnwrap, v.instance) {
		return nil, notAllowed, nil
	}
	key, err := s.token.unwrap(v)
	switch {
	case errors.Is(err, errDoesNotOpen):
		return nil, noOpening, err
	case err != nil:
		return nil, trouble, err
	}
	defer clear(key)
	if !u.sealed {
		return map[string]string{"outputKey": base64.StdEncoding.EncodeToString(key)}, done, nil
	}
	sealed, err := sealTo(asked.Recipient, asked.InputKey, key)
	if err != nil {
		return nil, malformed, err
	}
	return map[string]string{"sealedKey": sealed}, done, nil
}

// sealTo seals an answer to the public key that came with the request, so that
// only the caller's process can read it: HPKE (RFC 9180) in base mode with
// X-Wing, HKDF-SHA256 and AES-256-GCM. The enclave's plugins/keysource opens it.
func sealTo(recipient, inputKey string, key []byte) (string, error) {
	public, err := base64.StdEncoding.DecodeString(recipient)
	if err != nil {
		return "", errors.New("the recipient is not base64")
	}
	to, err := hpke.MLKEM768X25519().NewPublicKey(public)
	if err != nil {
		return "", errors.New("the recipient is no X-Wing public key")
	}
	sealed, err := hpke.Seal(to, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte("vasp-enclave decrypt-api v1\x00"+inputKey), key)
	if err != nil {
		return "", fmt.Errorf("seal the answer: %w", err)
	}
	return base64.StdEncoding.EncodeToString(sealed), nil
}

// wrap makes a value for VEGA_ENCRYPTION_KEY_BASE64: of a new key that only the
// token has seen, or of one that is sent along.
func (s *server) wrap(u *use, body []byte) (any, outcome, error) {
	var asked struct {
		Instance string `json:"instance"`
		Key      []byte `json:"key"` // base64; absent: a new one
	}
	if err := json.Unmarshal(body, &asked, json.RejectUnknownMembers(true)); err != nil {
		return nil, malformed, errors.New("is no request to wrap")
	}
	defer clear(asked.Key)
	if !names.MatchString(asked.Instance) || asked.Key != nil && len(asked.Key) != keySize {
		return nil, malformed, fmt.Errorf("the instance is no name, or the key has not %d bytes", keySize)
	}
	u.instance, u.label = asked.Instance, s.config.Keys[0]
	if !u.who.allowed(mayWrap, asked.Instance) {
		return nil, notAllowed, nil
	}
	v, err := s.token.wrap(asked.Instance, asked.Key)
	if err != nil {
		return nil, trouble, err
	}
	return map[string]string{"inputKey": v.text()}, done, nil
}

// healthz tells whether the token works, at most healthAge ago.
func (s *server) healthz(w http.ResponseWriter, _ *http.Request) {
	s.healthMu.Lock()
	if time.Since(s.healthAt) > healthAge {
		s.health, s.healthAt = s.token.healthy(), time.Now()
	}
	err := s.health
	s.healthMu.Unlock()
	if err != nil {
		http.Error(w, "the token is in trouble: see the log", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}
