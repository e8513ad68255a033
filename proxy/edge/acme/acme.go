// Package acme gets the public listener's certificate from a certificate
// authority and renews it, by ACME (RFC 8555, and RFC 8738 for addresses).
//
// The listener's allowlist stays closed meanwhile. The authority's validators
// call from addresses that nobody publishes, so while an authorization of ours
// is pending, and only then, a stranger may do the one thing that a validator
// does: a handshake that offers acme-tls/1 and names our host (TLS-ALPN-01,
// RFC 8737), or one request for the pending token on a listener of its own
// (HTTP-01). Neither shows a certificate or anything else of the enclave.
//
// The protocol, the choice of when to renew, with the authority's own advice
// (ARI, RFC 9773), and the swap are certmagic's. This package adds the files
// that it keeps, sealed (attack S1), the pauses between attempts, and words
// for an operator.
package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
)

// The ways to show the authority that a host is ours.
const (
	TLSALPN01 = "tls-alpn-01" // on the public listener
	HTTP01    = "http-01"     // on a listener of its own
)

// LetsEncrypt is the directory of Let's Encrypt's production service.
const LetsEncrypt = certmagic.LetsEncryptProductionCA

// Config is what automatic certificates need.
type Config struct {
	Host      string         // name or IP address to be certified
	Directory string         // https URL of the authority's directory
	Roots     *x509.CertPool // to trust the authority's own endpoint with; nil: the system's
	Email     string         // for the account; may be empty
	Profile   string         // kind of certificate; empty: see profile

	// KeyID and MACKey bind the account to one that the operator has with the
	// authority (RFC 8555 section 7.3.4); MACKey is base64url. Both or none.
	KeyID, MACKey string

	Challenge  string // TLSALPN01 or HTTP01
	HTTPListen string // host:port, with HTTP01

	Storage string        // directory, of this enclave only
	AEAD    identity.AEAD // seals the files in it

	Namespace string                // prefix of the metric
	Metrics   prometheus.Registerer // nil: none
	Log       *slog.Logger

	// Pause is the shortest wait after a failed attempt. Zero takes 10 s.
	Pause time.Duration
}

// Check says what is wrong with the configuration, as far as it can be known
// without the authority. Its errors name settings, and quote no secret.
func (c Config) Check() error {
	var problems []error
	if u, err := url.Parse(c.Directory); err != nil || u.Scheme != "https" || u.Host == "" {
		problems = append(problems, errors.New("VEGA_ACME_DIRECTORY: must be the https URL of the authority's directory"))
	} else if isPublicCA(u.Hostname()) && !certmagic.SubjectQualifiesForPublicCert(c.Host) {
		problems = append(problems, errors.New("VEGA_ENCLAVE_PUBLIC_ENDPOINT: no public authority certifies this host, which is no public name or address; give one, name your own authority with VEGA_ACME_DIRECTORY, or a certificate with VEGA_TLS_CERT_FILE"))
	}
	if c.Challenge != TLSALPN01 && c.Challenge != HTTP01 {
		problems = append(problems, fmt.Errorf("VEGA_ACME_CHALLENGE: must be %s or %s", TLSALPN01, HTTP01))
	}
	if (c.KeyID == "") != (c.MACKey == "") {
		problems = append(problems, errors.New("VEGA_ACME_EAB_KEY_ID, VEGA_ACME_EAB_MAC_KEY: the authority gives both together; set both or none"))
	}
	if _, err := base64.RawURLEncoding.DecodeString(trimMAC(c.MACKey)); err != nil {
		problems = append(problems, errors.New("VEGA_ACME_EAB_MAC_KEY: is not base64url; take it as the authority shows it"))
	}
	if info, err := os.Stat(c.Storage); err == nil && !info.IsDir() {
		problems = append(problems, fmt.Errorf("VEGA_ACME_STORAGE: %s is a file; name a directory, which may be one that does not exist yet", c.Storage))
	}
	return errors.Join(problems...)
}

// isPublicCA knows the authorities that everybody's browser trusts.
func isPublicCA(host string) bool {
	for _, ca := range []string{certmagic.LetsEncryptProductionCA, certmagic.LetsEncryptStagingCA, certmagic.ZeroSSLProductionCA, certmagic.GoogleTrustProductionCA} {
		if u, err := url.Parse(ca); err == nil && u.Hostname() == host {
			return true
		}
	}
	return false
}

// trimMAC takes padding off, which some authorities show.
func trimMAC(key string) string { return strings.TrimRight(strings.TrimSpace(key), "=") }

// Certificates is an edge.Certificates that keeps itself valid while Run runs.
// Make it with Open. Methods may be called concurrently.
type Certificates struct {
	config  Config
	host    string // as certificates have it
	pending string // server name of a validator's hello
	storage *storage
	cache   *certmagic.Cache
	magic   *certmagic.Config
	http    *httpChallenge // nil with TLS-ALPN-01
	orders  *prometheus.CounterVec
	problem atomic.Pointer[string] // why there is no certificate
}

var _ edge.Certificates = (*Certificates)(nil)

// Open opens the storage, loads the certificate that is there, and with HTTP01
// opens the challenge listener. It asks no network. The caller must Run or
// Close.
func Open(ctx context.Context, c Config) (*Certificates, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	if c.Pause == 0 {
		c.Pause = 10 * time.Second
	}
	host := canonical(c.Host)
	files, err := openStorage(c.Storage, c.AEAD)
	if err != nil {
		return nil, fmt.Errorf("VEGA_ACME_STORAGE, %s: %w", c.Storage, err)
	}
	a := &Certificates{config: c, host: host, pending: serverName(host), storage: files, orders: newOrders(c)}
	a.say("none was asked for yet")
	a.newMagic()
	if err := a.load(ctx); err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.Log.Warn("the stored TLS certificate does not load", "err", err)
		a.say(err.Error())
	}
	if c.Challenge == HTTP01 {
		if a.http, err = listenHTTP(ctx, c.HTTPListen, host); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// canonical is a host as certmagic keys it: lower case, and an address in its
// shortest form.
func canonical(host string) string {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().String()
	}
	return strings.ToLower(host)
}

// serverName is what a validator of TLS-ALPN-01 names in its hello: the host,
// and for an address its name in the reverse tree (RFC 8738 section 6).
func serverName(host string) string {
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	var labels []string
	if ip.Is4() {
		for _, octet := range ip.As4() {
			labels = append([]string{strconv.Itoa(int(octet))}, labels...)
		}
		return strings.Join(labels, ".") + ".in-addr.arpa"
	}
	const digits = "0123456789abcdef"
	for _, octet := range ip.As16() {
		labels = append([]string{digits[octet&15 : octet&15+1], digits[octet>>4 : octet>>4+1]}, labels...)
	}
	return strings.Join(labels, ".") + ".ip6.arpa"
}

// profile is the kind of certificate to order. Let's Encrypt certifies
// addresses with its six-day profile only.
func (c Config) profile() string {
	directory, err := url.Parse(c.Directory)
	_, notIP := netip.ParseAddr(c.Host)
	if c.Profile == "" && err == nil && notIP == nil && strings.HasSuffix(directory.Host, ".api.letsencrypt.org") {
		return "shortlived"
	}
	return c.Profile
}

func newOrders(c Config) *prometheus.CounterVec {
	orders := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: c.Namespace, Name: "acme_orders_total", Help: "Orders of certificates, by what became of them.",
	}, []string{"result"})
	for _, result := range []string{"issued", "renewed", "failed"} {
		orders.WithLabelValues(result)
	}
	if c.Metrics != nil {
		c.Metrics.MustRegister(orders)
	}
	return orders
}

// newMagic makes certmagic's part. Its own clock is stopped at once and Run
// takes its place: the library's cannot be told to give up a call that hangs,
// and its pace is fixed before a certificate's lifetime is known.
func (a *Certificates) newMagic() {
	logger := zap.New(&zapLog{log: a.config.Log})
	options := certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return a.magic, nil },
		Logger:           logger,
	}
	a.cache = certmagic.NewCache(options)
	a.cache.Stop()
	a.magic = certmagic.New(a.cache, certmagic.Config{
		Storage: a.storage,
		OCSP:    certmagic.OCSPConfig{DisableStapling: true}, // central asks for none
		OnEvent: a.happened,
		Logger:  logger,
	})
	a.magic.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(a.magic, a.issuer(logger, nil))}
}

// noProxy asks none, whatever the environment says (attack V1).
func noProxy(*http.Request) (*url.URL, error) { return nil, nil }

// issuer is the authority. certmagic looks whether somebody listens where the
// challenge will be answered, and would listen itself if nobody did.
func (a *Certificates) issuer(logger *zap.Logger, answering net.Addr) certmagic.ACMEIssuer {
	c := a.config
	issuer := certmagic.ACMEIssuer{
		CA: c.Directory, Email: c.Email, Agreed: true, TrustedRoots: c.Roots, Profile: c.profile(), Logger: logger,
		HTTPProxy:                 noProxy,     // of the environment: as with all calls outward
		TestCA:                    c.Directory, // a failure is not tried again elsewhere
		DisableHTTPChallenge:      c.Challenge != HTTP01,
		DisableTLSALPNChallenge:   c.Challenge != TLSALPN01,
		DisableDistributedSolvers: true,
	}
	if c.KeyID != "" {
		issuer.ExternalAccount = &acme.EAB{KeyID: c.KeyID, MACKey: trimMAC(c.MACKey)}
	}
	if tcp, ok := answering.(*net.TCPAddr); ok {
		issuer.ListenHost = tcp.IP.String()
		issuer.AltHTTPPort, issuer.AltTLSALPNPort = tcp.Port, tcp.Port
	}
	return issuer
}

// Certificate is the same for every caller, but for a validator's hello, which
// gets the answer to the pending challenge and no certificate of ours.
func (a *Certificates) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == "acme-tls/1" {
		if !a.Challenge() || hello.ServerName != a.pending {
			return nil, errors.New("acme: no challenge is pending for that name")
		}
		return a.magic.GetCertificate(hello)
	}
	if now := a.current(); now != nil {
		return &now.Certificate, nil
	}
	return nil, errors.New("acme: there is no certificate yet")
}

// Challenge tells whether a validator is expected on the public listener: only
// while an authorization is pending.
func (a *Certificates) Challenge() bool {
	if a.config.Challenge != TLSALPN01 {
		return false
	}
	_, pending := certmagic.GetACMEChallenge(a.pending)
	return pending
}

// current is the certificate in use, nil while there is none.
func (a *Certificates) current() *certmagic.Certificate {
	var newest *certmagic.Certificate
	for _, c := range a.cache.AllMatchingCertificates(a.host) {
		if newest == nil || c.Leaf.NotAfter.After(newest.Leaf.NotAfter) {
			newest = &c
		}
	}
	return newest
}

// NotAfter is when the certificate ends; the start of 1970 while there is none.
func (a *Certificates) NotAfter() time.Time {
	if now := a.current(); now != nil {
		return now.Leaf.NotAfter
	}
	return time.Unix(0, 0)
}

// Usable says why no caller can be served, nil when one can.
func (a *Certificates) Usable(now time.Time) error {
	switch c := a.current(); {
	case c == nil:
		return fmt.Errorf("there is no TLS certificate yet: %s", *a.problem.Load())
	case now.After(c.Leaf.NotAfter):
		return fmt.Errorf("the TLS certificate expired at %s: %s", c.Leaf.NotAfter.UTC().Format(time.RFC3339), *a.problem.Load())
	}
	return nil
}

func (a *Certificates) say(problem string) { a.problem.Store(&problem) }

// Run gets a certificate if there is none and keeps it valid until ctx ends.
// public is the address of the public listener, which must be served
// meanwhile. What the authority or the network refuses is logged and tried
// again, with longer and longer pauses.
func (a *Certificates) Run(ctx context.Context, public net.Addr) {
	if a.http != nil {
		public = a.http.listener.Addr()
		served := make(chan struct{})
		go func() { defer close(served); a.http.serve(ctx) }()
		defer func() { <-served }()
	}
	a.magic.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(a.magic, a.issuer(zap.New(&zapLog{log: a.config.Log}), public))}
	for failures := 0; ctx.Err() == nil; {
		err := a.tend(ctx)
		pause := a.interval()
		if err != nil && ctx.Err() == nil {
			pause = a.pause(err, failures)
			failures++
			help := remedy(err, a.config)
			a.say(err.Error() + "; " + help)
			a.config.Log.Error("no TLS certificate; trying again", "host", a.host, "err", err, "remedy", help, "pause", pause.Round(time.Second).String())
		} else {
			failures = 0
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// Close gives up what Open opened. It is for Certificates that never Run.
func (a *Certificates) Close() error {
	if a.http == nil {
		return nil
	}
	return a.http.listener.Close()
}

// tend does what is to be done now: load, obtain, or have certmagic look
// whether it is time to renew.
func (a *Certificates) tend(ctx context.Context) error {
	if a.current() == nil {
		err := a.load(ctx)
		if errors.Is(err, fs.ErrNotExist) {
			err = a.obtain(ctx)
		}
		if err != nil {
			return err
		}
	}
	a.cache.SetOptions(certmagic.CacheOptions{
		GetConfigForCert:   func(certmagic.Certificate) (*certmagic.Config, error) { return a.magic, nil },
		RenewCheckInterval: a.interval(),
	})
	return a.cache.RenewManagedCertificates(ctx)
}

// The pace at which to look whether it is time to renew. A certificate of six
// days is looked at every ten minutes, one of an hour every minute and a half.
const (
	longestInterval  = 10 * time.Minute
	shortestInterval = 250 * time.Millisecond
	looksInALifetime = 40
)

func (a *Certificates) interval() time.Duration {
	c := a.current()
	if c == nil {
		return longestInterval
	}
	return min(longestInterval, max(shortestInterval, c.Lifetime()/looksInALifetime))
}

// load takes the certificate from the storage into use. It is fs.ErrNotExist
// when there is none, or only parts of one, which a crash leaves.
func (a *Certificates) load(ctx context.Context) error {
	loaded, err := a.magic.CacheManagedCertificate(ctx, a.host)
	switch {
	case err == nil:
		a.config.Log.Info("TLS certificate loaded", "host", a.host, "not_after", loaded.Leaf.NotAfter)
	case errors.Is(err, fs.ErrNotExist), errors.As(err, new(*sealError)):
	case a.storage.Exists(ctx, a.folder()):
		a.config.Log.Warn("the stored TLS certificate and its key do not belong together, as after a crash between two writes; asking for a new one", "err", err)
		return errors.Join(a.storage.Delete(ctx, a.folder()), fs.ErrNotExist)
	}
	return err
}

// folder is where in the storage our certificate is.
func (a *Certificates) folder() string {
	return certmagic.StorageKeys.CertsSitePrefix(a.magic.Issuers[0].IssuerKey(), a.host)
}

// giveUp is the key of a context's value that ends an attempt.
type giveUp struct{}

// obtain makes one attempt. certmagic would go on by itself, at a pace that
// cannot be chosen; so its first failure ends the attempt.
func (a *Certificates) obtain(ctx context.Context) error {
	attempt, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	err := a.magic.ObtainCertAsync(context.WithValue(attempt, giveUp{}, stop), a.host)
	if err != nil {
		if cause := context.Cause(attempt); cause != nil {
			return cause
		}
		return err
	}
	_, err = a.magic.CacheManagedCertificate(ctx, a.host)
	return err
}

// happened hears what certmagic does.
func (a *Certificates) happened(ctx context.Context, event string, data map[string]any) error {
	renewal, _ := data["renewal"].(bool)
	switch event {
	case "cert_obtained":
		a.obtained(ctx, renewal, data)
	case "cert_failed":
		a.failed(ctx, renewal, data)
	}
	return nil
}

func (a *Certificates) obtained(ctx context.Context, renewal bool, data map[string]any) {
	result, message := "issued", "TLS certificate issued"
	if renewal {
		result, message = "renewed", "TLS certificate renewed"
	}
	a.orders.WithLabelValues(result).Inc()
	a.say("")
	attrs := []any{"host", a.host}
	if path, ok := data["certificate_path"].(string); ok {
		if until, err := a.storedUntil(ctx, path); err == nil {
			attrs = append(attrs, "not_after", until)
		}
	}
	a.config.Log.Info(message, attrs...)
}

// storedUntil is the end of the certificate at key.
func (a *Certificates) storedUntil(ctx context.Context, key string) (time.Time, error) {
	chain, err := a.storage.Load(ctx, key)
	if err != nil {
		return time.Time{}, err
	}
	block, _ := pem.Decode(chain)
	if block == nil {
		return time.Time{}, errors.New("acme: no PEM")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return time.Time{}, err
	}
	return leaf.NotAfter, nil
}

func (a *Certificates) failed(ctx context.Context, renewal bool, data map[string]any) {
	err, _ := data["error"].(error)
	if ctx.Err() != nil { // we are told to stop
		return
	}
	a.orders.WithLabelValues("failed").Inc()
	if stop, ok := ctx.Value(giveUp{}).(context.CancelCauseFunc); ok {
		stop(err) // Run logs it
		return
	}
	if renewal {
		a.say(err.Error())
		a.config.Log.Error("the TLS certificate was not renewed; the old one serves, trying again", "host", a.host, "not_after", a.NotAfter(), "err", err, "remedy", remedy(err, a.config))
	}
}

// The longest pauses between attempts. An authority counts refused
// validations, five an hour at Let's Encrypt; nobody counts calls that reach
// nobody.
const (
	longestRefused     = time.Hour
	longestUnreachable = 10 * time.Minute
	refusedFactor      = 6 // a refusal waits that much longer than a network's failure
)

// pause is how long to wait after the failures so far, with a fifth of
// chance, so that a fleet does not come back at one moment.
func (a *Certificates) pause(err error, failures int) time.Duration {
	pause, longest := a.config.Pause, longestUnreachable
	if errors.As(err, new(acme.Problem)) {
		pause, longest = pause*refusedFactor, longestRefused
	}
	pause = min(longest, pause<<min(failures, 10))
	return pause - pause/10 + rand.N(pause/5+1)
}

const profileRemedy = "set VEGA_ACME_PROFILE to one that the authority offers"

// remedy is what most likely helps against a failure.
func remedy(err error, c Config) string {
	port := "443, which must lead to VEGA_PUBLIC_LISTEN"
	if c.Challenge == HTTP01 {
		port = "80, which must lead to VEGA_ACME_HTTP_LISTEN"
	}
	var problem acme.Problem
	switch {
	case errors.As(err, new(*sealError)):
		return "see VEGA_ACME_STORAGE"
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return "VEGA_ACME_ROOTS_FILE must vouch for the certificate of VEGA_ACME_DIRECTORY"
	case !errors.As(err, &problem) && c.profile() != "" && strings.Contains(err.Error(), "profile"): // the library looks at the directory itself
		return profileRemedy
	case !errors.As(err, &problem):
		return "is VEGA_ACME_DIRECTORY right, and may this machine connect to it?"
	}
	switch strings.TrimPrefix(problem.Type, acme.ProblemTypeNamespace) {
	case "connection", "tls", "unauthorized", "incorrectResponse", "dns":
		return "from anywhere in the world, VEGA_ENCLAVE_PUBLIC_ENDPOINT's host must lead here at port " + port
	case "caa":
		return "the domain's CAA records must name this authority"
	case "rateLimited":
		return "wait; the authority says for how long"
	case "externalAccountRequired":
		return "this authority wants an account: set VEGA_ACME_EAB_KEY_ID and VEGA_ACME_EAB_MAC_KEY"
	case "invalidProfile":
		return profileRemedy
	case "rejectedIdentifier", "unsupportedIdentifier":
		return "this authority does not certify that host; use a public name, or another authority"
	case "invalidContact", "unsupportedContact":
		return "correct VEGA_ACME_EMAIL"
	}
	return "the authority says what it wants; if not, look at VEGA_ACME_EAB_KEY_ID, VEGA_ACME_PROFILE and VEGA_ACME_EMAIL"
}
