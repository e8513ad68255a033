package acme_test

import (
	"crypto/tls"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy/edge/acme"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge/acme/pebble"
)

// swaps is how often certificates are exchanged under load.
func swaps() int {
	if os.Getenv("TORTURE") != "" {
		return 100
	}
	return 10
}

// For a name and for an address, in both ways, with an allowlist that does not
// hold the validators: issued, renewed and renewed again, while the member's
// requests run and a stranger tries.
func TestIssueAndRenewUnderLoad(t *testing.T) {
	for title, c := range map[string]struct {
		host, challenge string
		renewals        int
		options         pebble.Options
	}{
		"name, TLS-ALPN-01":    {name, acme.TLSALPN01, 2, pebble.Options{}},
		"name, HTTP-01":        {name, acme.HTTP01, 2, pebble.Options{RejectNonces: true}},
		"address, TLS-ALPN-01": {server, acme.TLSALPN01, swaps(), pebble.Options{}},
		"address, HTTP-01":     {server, acme.HTTP01, 2, pebble.Options{RejectNonces: true}},
	} {
		t.Run(title, func(t *testing.T) {
			w := start(t, c.host, c.challenge, c.options)
			roots := w.issuers()
			first, err := w.shown(roots)
			if err != nil {
				t.Fatal(err)
			}
			if isIP := net.ParseIP(c.host) != nil; isIP != (len(first.IPAddresses) == 1) || isIP == slices.Contains(first.DNSNames, c.host) {
				t.Errorf("the certificate is for %v %v, want %s", first.DNSNames, first.IPAddresses, c.host)
			}
			serials := map[string]bool{first.SerialNumber.String(): true}
			stop := w.load(roots)
			strangers := make(chan struct{})
			tries := make(chan int)
			go func() { tries <- w.tryAsAStranger(strangers) }()
			for range c.renewals {
				w.renew()
				now, err := w.shown(roots)
				if err != nil {
					t.Fatal(err)
				}
				serials[now.SerialNumber.String()] = true
			}
			close(strangers)
			t.Logf("%d renewals, %d requests, %d handshakes of a stranger", c.renewals, stop(), <-tries)
			if len(serials) != 1+c.renewals {
				t.Errorf("%d certificates were shown, want %d", len(serials), 1+c.renewals)
			}
			if issued, renewed := w.counted("issued"), w.counted("renewed"); issued != 1 || renewed != float64(c.renewals) {
				t.Errorf("enclave_acme_orders_total: issued %v, renewed %v; want 1, %d", issued, renewed, c.renewals)
			}
			if w.certificates.Pending() {
				t.Error("a challenge is pending with nothing to certify")
			}
		})
	}
}

// tryAsAStranger calls as no validator does until told to stop, and wants
// nothing. It tells how often it called.
func (w *world) tryAsAStranger(stop <-chan struct{}) (tries int) {
	for ; ; tries++ {
		select {
		case <-stop:
			return tries
		case <-time.After(10 * time.Millisecond):
		}
		for _, c := range []*tls.Config{
			{ServerName: w.host, InsecureSkipVerify: true},
			{ServerName: w.host, InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}},
		} {
			if conn, err := w.handshake(stranger, c); err == nil {
				w.t.Errorf("a stranger was shown %v", conn.ConnectionState().PeerCertificates[0].Subject)
				conn.Close()
			}
		}
	}
}

// A certificate of twenty seconds is renewed by itself, and no request notices.
func TestAShortCertificateRenewsItself(t *testing.T) {
	w := newWorld(t, server, acme.TLSALPN01, pebble.Options{Lifetime: 20 * time.Second})
	w.config.Profile = pebble.Short
	w.startAuthority()
	w.startEnclave()
	w.eventually("a certificate is there", func() bool { return w.usable() == nil })
	roots := w.issuers()
	first, err := w.shown(roots)
	if err != nil {
		t.Fatal(err)
	}
	if life := first.NotAfter.Sub(first.NotBefore); life > 21*time.Second {
		t.Errorf("the certificate lasts %v: the profile was not ordered", life)
	}
	stop := w.load(roots)
	w.eventually("another certificate is shown", func() bool { return w.certificates.NotAfter() != first.NotAfter })
	t.Logf("%d requests", stop())
	now, err := w.shown(roots)
	if err != nil || now.SerialNumber.Cmp(first.SerialNumber) == 0 {
		t.Errorf("shown %v, %v; want another certificate", now, err)
	}
}
