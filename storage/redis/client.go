package redis

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"syscall"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// connections is how many there may be to each server.
const connections = 16

// redirects is how often a cluster may send us on within one call.
const redirects = 2

// bufferSize holds any bundle with what goes around it, in bytes.
const bufferSize = 4 << 10

func init() { logging.Disable() } // it would write errors to stderr, with what servers said

// client makes a client that has not connected yet.
func (s *server) client(roots *x509.CertPool, certificates []tls.Certificate, budget time.Duration) goredis.UniversalClient {
	d := &dialer{server: s, budget: budget}
	if s.tls {
		d.tls = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: certificates, ServerName: s.serverName}
	}
	o := s.options(budget)
	switch s.kind {
	case cluster:
		o.Dialer = d.dial
		c := o.Cluster()
		c.DisableRoutingPolicies = true // they need COMMAND, and wait 5 s for it
		return goredis.NewClusterClient(c)
	case sentinel:
		o.Dialer = d.dialMaster
	default:
		o.Dialer = func(ctx context.Context, _, _ string) (net.Conn, error) { return d.dial(ctx, s.network, s.addrs[0]) }
	}
	return goredis.NewClient(o.Simple())
}

// options are the same for every kind of server: no second try, no wait that
// outlasts the budget, no command but those that were asked for, and the
// protocol in which a server speaks only when it is spoken to.
func (s *server) options(budget time.Duration) *goredis.UniversalOptions {
	return &goredis.UniversalOptions{
		Addrs: s.addrs, DB: s.db, Username: s.user, Password: s.password, Protocol: 2,
		DialTimeout: budget, ReadTimeout: budget, WriteTimeout: budget, PoolTimeout: budget, ContextTimeoutEnabled: true,
		DialerRetries: 1, MaxRetries: -1, MaxRedirects: redirects,
		PoolSize: connections, PipelinePoolSize: -1, ReadBufferSize: bufferSize, WriteBufferSize: bufferSize,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

// dialer makes connections whose replies are bounded.
type dialer struct {
	server *server
	budget time.Duration
	tls    *tls.Config // nil: in clear
}

func (d *dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	raw, ok := conn.(syscall.Conn)
	if !ok {
		return nil, errors.Join(errors.New("connection of an unknown kind"), conn.Close())
	}
	if d.tls != nil {
		secure := tls.Client(conn, d.tlsFor(addr))
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, err
		}
		conn = secure
	}
	return &bounded{Conn: conn, raw: raw}, nil
}

// tlsFor expects a server to be who was dialed, unless the URL names another.
func (d *dialer) tlsFor(addr string) *tls.Config {
	c := d.tls.Clone()
	if c.ServerName == "" {
		c.ServerName, _, _ = net.SplitHostPort(addr) // which was dialed, so it splits
	}
	return c
}

// bounded is a connection that ends when a reply is longer than any that we
// may get.
type bounded struct {
	net.Conn
	raw     syscall.Conn // what go-redis looks at to tell a connection that the server closed
	replies replies
}

// Write begins a new question.
func (b *bounded) Write(p []byte) (int, error) {
	b.replies.restart()
	return b.Conn.Write(p)
}

// Read gives what the server said, once it is known to be within bounds.
func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	if refused := b.replies.pass(p[:n]); refused != nil {
		return 0, refused
	}
	return n, err
}

// SyscallConn is of the connection below TLS.
func (b *bounded) SyscallConn() (syscall.RawConn, error) { return b.raw.SyscallConn() }
