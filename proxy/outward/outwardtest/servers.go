package outwardtest

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// Server is a TLS server on loopback.
type Server struct {
	Name string // what is wrong with it; "" for a good one
	URL  string // https://host:port, to the host that its certificate should be for
	// Says is a part of the error that a client ends with, so that a server
	// which cannot shake hands at all is not taken for one that is refused.
	Says string

	heard atomic.Int32
}

// Heard counts the requests that reached the server.
func (s *Server) Heard() int { return int(s.heard.Load()) }

// Company is good servers and bad ones.
type Company struct {
	Roots *x509.CertPool
	Good  []*Server
	Bad   []*Server
}

// serve starts a server at host, which is an address of this machine or
// localhost, and ends it with the test. Good ones answer with h.
func serve(t testing.TB, host string, config *tls.Config, h http.Handler, name, says string) *Server {
	t.Helper()
	address := host
	if address == "localhost" {
		address = "127.0.0.1"
	}
	l, err := net.Listen("tcp", address+":0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Name: name, Says: says}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	s.URL = "https://" + net.JoinHostPort(host, port)
	count := func(w http.ResponseWriter, r *http.Request) {
		s.heard.Add(1)
		h.ServeHTTP(w, r)
	}
	server := &http.Server{Handler: http.HandlerFunc(count), ErrorLog: log.New(io.Discard, "", 0)}
	if config != nil {
		l = tls.NewListener(l, config)
	}
	var done sync.WaitGroup
	done.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() { server.Close(); done.Wait() })
	return s
}

// NewCompany starts them all. Good servers answer with h, and bad ones would.
// The address is a loopback one.
func NewCompany(t testing.TB, address string, h http.Handler) *Company {
	t.Helper()
	f := newForge(t, address).withRSA()
	c := &Company{Roots: f.pool}
	for _, host := range []string{address, "localhost"} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			pair := f.leaf(f.root, host, nil)
			c.Good = append(c.Good, serve(t, host, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: version, MaxVersion: version}, h, "", ""))
		}
	}
	for _, k := range f.kinds() {
		if k.host == "" {
			k.host = address
		}
		config := &tls.Config{Certificates: []tls.Certificate{k.pair(f)}}
		if k.tls != nil {
			k.tls(config)
		}
		if k.plain {
			config = nil
		}
		c.Bad = append(c.Bad, serve(t, k.host, config, h, k.name, k.says))
	}
	return c
}

// authority is a certificate that signs others. Its chain is what a server
// sends after its own certificate.
type authority struct {
	cert  *x509.Certificate
	key   crypto.Signer
	chain [][]byte
}
