package edge

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The suites of TLS 1.2 that are AEADs with forward secrecy. Go's own default
// still offers CBC (attack N4); the suites of TLS 1.3 are all fit and are not
// configurable.
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// tlsConfig is what every handshake has in common. It asks for no client
// certificate: a validator's challenge is built of it, and a validator has none.
// The groups are Go's own, X25519MLKEM768 before all others, so that they
// follow Go's; CheckGODEBUG sees to it that nobody has turned that one off.
func (e *Listener) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion:         max(e.config.MinVersion, tls.VersionTLS12),
		CipherSuites:       suites,
		NextProtos:         []string{"h2", "http/1.1"},
		GetCertificate:     e.config.Certificates.Certificate,
		GetConfigForClient: e.judgeHello,
		Time:               e.config.Now,
	}
}

// serverTLS is the configuration of the listener's own handshakes: whom
// judgeHello lets pass has to show the client certificate that is asked for
// at this moment. Tickets are of one key for all of them, and a resumed session
// is checked like a new one, since VerifyConnection runs for both.
func (e *Listener) serverTLS() *tls.Config {
	base := e.tlsConfig()
	base.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		special, err := e.judgeHello(hello)
		auth := e.clientAuth.Load()
		if special != nil || err != nil || !auth.required() {
			return special, err
		}
		c := e.tlsConfig()
		c.GetConfigForClient = nil
		c.ClientAuth = tls.RequireAnyClientCert // and verify judges it
		c.ClientCAs = auth.CAs
		c.VerifyConnection = func(s tls.ConnectionState) error { return auth.verify(&s, e.config.now()) }
		return c, nil
	}
	return base
}

// ClientAuth says which client certificates may connect. Its zero value asks
// for none. With both CAs and pins a certificate has to satisfy both.
type ClientAuth struct {
	// CAs are the authorities that must have issued the certificate, for
	// client authentication. Use a private one: public ones issue to anybody.
	CAs *x509.CertPool

	// Pins are SHA-256 digests of public keys (SPKI), one of which must be the
	// certificate's own. Without CAs its chain and its dates do not count.
	Pins [][sha256.Size]byte
}

func (a *ClientAuth) required() bool { return a != nil && (a.CAs != nil || len(a.Pins) > 0) }

var errClientCertificate = errors.New("edge: the client certificate is not one that may connect")

// verify judges the client certificate of a connection. The handshake has
// proved already that the client has its key.
func (a *ClientAuth) verify(s *tls.ConnectionState, now time.Time) error {
	if !a.required() {
		return nil
	}
	if s == nil || len(s.PeerCertificates) == 0 {
		return errClientCertificate
	}
	leaf := s.PeerCertificates[0]
	if len(a.Pins) > 0 && !a.pinned(leaf) {
		return errClientCertificate
	}
	if a.CAs == nil {
		return nil
	}
	between := x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: a.CAs, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errClientCertificate, err)
	}
	return nil
}

func (a *ClientAuth) pinned(leaf *x509.Certificate) bool {
	key := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	for _, pin := range a.Pins {
		if pin == key { // public, so no constant time
			return true
		}
	}
	return false
}

// ParsePins reads pins, comma separated: SHA-256 of a SubjectPublicKeyInfo in
// base64, with or without sha256/ in front. An empty text has none.
func ParsePins(text string) (pins [][sha256.Size]byte, err error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	for i, item := range strings.Split(text, ",") {
		item = strings.TrimPrefix(strings.TrimSpace(item), "sha256/")
		digest, err := base64.StdEncoding.Strict().DecodeString(item)
		if err != nil || len(digest) != sha256.Size {
			return nil, fmt.Errorf("pin %d is not a SHA-256 digest in base64, 44 characters; make one with: openssl x509 -in cert.pem -noout -pubkey | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64", i+1)
		}
		pins = append(pins, [sha256.Size]byte(digest))
	}
	return pins, nil
}

// SetClientAuth replaces what is asked of client certificates, also of
// connections that are open: their next request is judged anew. It may be
// called at any time. A connection that had to show none before, and has to
// now, is closed with its next request.
func (e *Listener) SetClientAuth(a ClientAuth) { e.clientAuth.Store(&a) }

// unfit are values of GODEBUG that bring back what the policy has ruled out,
// here or on the connections that the program makes.
var unfit = map[string]string{
	"tlsmlkem":     "0", // no X25519MLKEM768
	"tlssecpmlkem": "0",
	"tlskyber":     "0",
	"tls10server":  "1",
	"tlsrsakex":    "1", // no forward secrecy
	"tls3des":      "1",
	"tlssha1":      "1",
	"tlsunsafeekm": "1",
	"x509sha1":     "1",
}

// CheckGODEBUG refuses a value of the environment variable GODEBUG that
// weakens TLS (attack N4). Listen checks it, too.
func CheckGODEBUG(value string) error {
	for item := range strings.SplitSeq(value, ",") {
		name, set, _ := strings.Cut(strings.TrimSpace(item), "=")
		if bad, known := unfit[name]; known && set == bad {
			return fmt.Errorf("GODEBUG: %s=%s weakens TLS below this program's policy; take it out of GODEBUG", name, set)
		}
	}
	return nil
}

func checkEnvironment() error { return CheckGODEBUG(os.Getenv("GODEBUG")) }

// terminator is a listener of connections whose handshake is done. It does
// handshakes itself, rather than leave them to net/http, to count how each
// ended and to put the framing check between TLS and HTTP/1.1.
type terminator struct {
	net.Listener
	config  *tls.Config
	metrics *metrics
	done    chan accepted
	closing context.Context // ends when no connection is accepted any more
	close   context.CancelFunc
	working sync.WaitGroup
	closed  chan struct{} // and no handshake is under way
	log     func(net.Addr, result, error)
}

type accepted struct {
	conn net.Conn
	err  error
}

// terminate starts to do handshakes on what l accepts. Close it.
func terminate(l net.Listener, c *tls.Config, m *metrics, log func(net.Addr, result, error)) *terminator {
	t := &terminator{Listener: l, config: c, metrics: m, done: make(chan accepted), closed: make(chan struct{}), log: log}
	t.closing, t.close = context.WithCancel(context.Background())
	t.working.Go(t.run)
	go func() { t.working.Wait(); close(t.closed) }()
	return t
}

// run accepts until the listener is closed. Another error goes to who calls
// Accept, who knows how long to wait.
func (t *terminator) run() {
	for {
		conn, err := t.Listener.Accept()
		switch {
		case err == nil:
			t.working.Go(func() { t.shake(conn) })
		case errors.Is(err, net.ErrClosed):
			return
		default:
			select {
			case t.done <- accepted{err: err}:
			case <-t.closing.Done():
				return
			}
		}
	}
}

// Accept returns the next connection that speaks TLS. Once Close was called it
// returns those whose handshake was under way, and then net.ErrClosed: a
// client that was let in has its request answered.
func (t *terminator) Accept() (net.Conn, error) {
	select {
	case a := <-t.done:
		return a.conn, a.err
	case <-t.closed:
		return nil, net.ErrClosed
	}
}

// abandon closes what Accept would still return. It is for who will call it no
// more, and returns when no handshake is under way.
func (t *terminator) abandon() {
	_ = t.Close()
	for {
		conn, err := t.Accept()
		switch {
		case conn != nil:
			_ = conn.Close()
		case errors.Is(err, net.ErrClosed):
			return
		}
	}
}

// Close stops to accept, and gives handshakes under way a moment. It may be
// called again.
func (t *terminator) Close() error {
	t.close()
	if err := t.Listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// shake does one handshake and hands the connection on.
func (t *terminator) shake(raw net.Conn) {
	conn := tls.Server(raw, t.config)
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	defer context.AfterFunc(t.closing, func() { time.AfterFunc(lastHandshakes, cancel) })()
	err := conn.HandshakeContext(ctx)
	t.metrics.shook(conn.ConnectionState(), err)
	if err != nil {
		t.log(raw.RemoteAddr(), resultOf(err), err)
		_ = raw.Close()
		return
	}
	a := accepted{conn: conn}
	switch conn.ConnectionState().NegotiatedProtocol {
	case challengeProtocol: // the handshake was all there is (RFC 8737)
		_ = conn.Close()
		return
	case "h2":
	default:
		a.conn = &framed{Conn: conn}
	}
	t.done <- a // somebody takes it: Accept is called until closed, see abandon
}

// result is how a handshake ended: a metric's label, from a closed set.
type result string

const (
	resultOK          result = "ok"
	resultStranger    result = "stranger"           // address on no list
	resultTimeout     result = "timeout"            // not done in time
	resultGone        result = "gone"               // the client closed the connection
	resultCertificate result = "client-certificate" // none, or not one that may connect
	resultRefused     result = "refused"            // no version, suite or group in common, or no TLS at all
)

func resultOf(err error) result {
	var gone *net.OpError
	switch {
	case err == nil:
		return resultOK
	case errors.Is(err, errStranger):
		return resultStranger
	case errors.Is(err, errClientCertificate), strings.Contains(err.Error(), "client didn't provide a certificate"):
		return resultCertificate
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errors.Is(err, os.ErrDeadlineExceeded):
		return resultTimeout
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.As(err, &gone) && gone.Op == "read":
		return resultGone
	}
	return resultRefused
}

// versionOf and groupOf are labels from closed sets.
func versionOf(s tls.ConnectionState) string {
	switch s.Version {
	case tls.VersionTLS12:
		return "1.2"
	case tls.VersionTLS13:
		return "1.3"
	}
	return "none"
}

func groupOf(s tls.ConnectionState) string {
	switch s.CurveID {
	case tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024, tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521:
		return s.CurveID.String()
	}
	return "none"
}
