package vasp

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// newTransport makes a transport for many short calls of one host. It speaks
// HTTP/1.1, asks no proxy and unpacks nothing, so what it reads is what was
// sent.
func newTransport(roots *x509.CertPool) *http.Transport {
	only1 := new(http.Protocols)
	only1.SetHTTP1(true)
	return &http.Transport{
		Proxy:               nil,
		DialContext:         dialer().DialContext,
		Protocols:           only1,
		DisableCompression:  true,
		TLSClientConfig:     newTLS(roots),
		TLSHandshakeTimeout: 5 * time.Second,
		MaxIdleConns:        0,
		MaxIdleConnsPerHost: 256,
		MaxConnsPerHost:     512,
		// Below the 5 s after which Node's and many other servers close an
		// idle connection: whoever closes first knows that it carries nothing.
		IdleConnTimeout:        4 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

func newTLS(roots *x509.CertPool) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ClientSessionCache: tls.NewLRUClientSessionCache(16)}
}

func dialer() *net.Dialer {
	return &net.Dialer{Timeout: 5 * time.Second, Control: refuseOddAddresses}
}

// refuseOddAddresses runs after names were resolved: no backend lives at an
// address where clouds serve credentials, or at a multicast one (attack V2).
func refuseOddAddresses(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return errors.New("not an address")
	}
	switch a := to.Addr().Unmap(); {
	case a.IsLinkLocalUnicast(), a.IsMulticast(), a.IsUnspecified(), a == ec2Metadata:
		return errors.New("a link-local, multicast or metadata address is refused")
	}
	return nil
}

var ec2Metadata = netip.MustParseAddr("fd00:ec2::254")

// judge looks at an answer's head; 0 means that the body is worth reading.
func judge(resp *http.Response) Problem {
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode <= 399:
		return Redirect
	case resp.StatusCode != http.StatusOK:
		return Status
	case resp.ContentLength > maxAnswer:
		return TooLarge
	case !saysJSON(resp.Header):
		return NotJSON
	}
	return 0
}

// saysJSON accepts application/json, its kin, and silence.
func saysJSON(h http.Header) bool {
	if e := h.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return false
	}
	given := h.Get("Content-Type")
	if given == "" {
		return true
	}
	kind, _, err := mime.ParseMediaType(given)
	return err == nil && (kind == "application/json" || kind == "text/json" || strings.HasSuffix(kind, "+json"))
}
