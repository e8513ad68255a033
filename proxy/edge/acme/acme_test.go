package acme_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509/pkix"
	"encoding/asn1"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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

// held is a gate in front of where the authority's validators call: they wait
// until it is opened, and the authorization stays pending meanwhile. What
// passes comes from the gate's own address, which is on no list either.
type held struct {
	listener net.Listener
	arrived  chan struct{} // gets a value for each validator
	open     chan struct{} // closed to let them pass
}

// hold makes one; to is read when it is opened.
func hold(t *testing.T, to *string) *held {
	t.Helper()
	listener, err := net.Listen("tcp", server+":0")
	if err != nil {
		t.Fatal(err)
	}
	h := &held{listener, make(chan struct{}, 100), make(chan struct{})}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			h.arrived <- struct{}{}
			running.Go(func() { h.pass(t, conn, to) })
		}
	})
	t.Cleanup(func() { listener.Close(); h.letPass(); running.Wait() })
	return h
}

func (h *held) letPass() {
	select {
	case <-h.open:
	default:
		close(h.open)
	}
}

func (h *held) pass(t *testing.T, conn net.Conn, to *string) {
	defer conn.Close()
	<-h.open
	onward, err := net.Dial("tcp", *to)
	if err != nil {
		t.Error(err)
		return
	}
	defer onward.Close()
	go func() { _, _ = io.Copy(onward, conn) }()
	_, _ = io.Copy(conn, onward)
}

// While a challenge is pending a stranger gets its answer with the validator's
// own hello, and with any other not a byte of a certificate (attacks N1, N2).
func TestAStrangerLearnsNothingOfAPendingHandshake(t *testing.T) {
	for _, host := range []string{name, server} {
		t.Run(host, func(t *testing.T) {
			var public string
			validators := hold(t, &public)
			w := newWorld(t, host, acme.TLSALPN01, pebble.Options{TLSPort: portOf(t, validators.listener.Addr().String()), HTTPPort: 1})
			public = w.public
			w.startAuthority()
			w.startEnclave()
			<-validators.arrived

			right := []string{"acme-tls/1"}
			for title, c := range map[string]*tls.Config{
				"nothing offered":  {ServerName: acme.ServerName(host)},
				"http":             {ServerName: acme.ServerName(host), NextProtos: []string{"h2", "http/1.1"}},
				"among others":     {ServerName: acme.ServerName(host), NextProtos: []string{"acme-tls/1", "http/1.1"}},
				"no name":          {NextProtos: right},
				"another name":     {ServerName: "other.example", NextProtos: right},
				"below the name":   {ServerName: "a." + acme.ServerName(host), NextProtos: right},
				"another address":  {ServerName: "3.0.0.127.in-addr.arpa", NextProtos: right},
				"old TLS":          {ServerName: acme.ServerName(host), NextProtos: right, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
				"resumption only":  {ServerName: "other.example", NextProtos: right, ClientSessionCache: tls.NewLRUClientSessionCache(1)},
				"the other's name": {ServerName: map[bool]string{true: server, false: acme.ServerName(server)}[host == server], NextProtos: right},
			} {
				c.InsecureSkipVerify = true
				if conn, err := w.handshake(stranger, c); err == nil {
					t.Errorf("%s: a stranger was shown %v", title, conn.ConnectionState().PeerCertificates[0].Subject)
					conn.Close()
				}
			}
			tickets := new(ticketCounter)
			conn, err := w.handshake(stranger, &tls.Config{ServerName: acme.ServerName(host), NextProtos: right, InsecureSkipVerify: true, ClientSessionCache: tickets})
			if err != nil {
				t.Fatalf("the validator's handshake: %v", err)
			}
			defer conn.Close()
			if leaf := conn.ConnectionState().PeerCertificates[0]; !bytes.Equal(leaf.RawIssuer, leaf.RawSubject) || !slices.ContainsFunc(leaf.Extensions, isChallenge) {
				t.Errorf("the answer to a challenge is %v of %v", leaf.Subject, leaf.Issuer)
			}
			_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			if got, _ := io.ReadAll(conn); len(got) != 0 {
				t.Errorf("after the challenge the stranger was sent %q", got)
			}
			if tickets.put.Load() != 0 {
				t.Error("the stranger got a session ticket")
			}
			if err := w.usable(); err == nil {
				t.Fatal("there is a certificate already: nothing was pending")
			}
			if log := w.log.String(); strings.Contains(log, "other.example") {
				t.Errorf("a stranger's words are in the log:\n%s", log)
			}

			validators.letPass()
			w.eventually("a certificate is there", func() bool { return w.usable() == nil })
			w.eventually("the challenge is over", func() bool { return !w.certificates.Pending() })
			if _, err := w.handshake(stranger, &tls.Config{ServerName: acme.ServerName(host), NextProtos: right, InsecureSkipVerify: true}); err == nil {
				t.Error("a validator passed when none is expected")
			}
			if n := w.requests.Load(); n != 0 {
				t.Errorf("the handler ran %d times for strangers", n)
			}
		})
	}
}

// isChallenge recognizes the extension id-pe-acmeIdentifier (RFC 8737).
func isChallenge(e pkix.Extension) bool {
	return e.Critical && e.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31})
}

// ticketCounter is a session cache that forgets.
type ticketCounter struct{ put atomic.Int64 }

func (*ticketCounter) Get(string) (*tls.ClientSessionState, bool) { return nil, false }
func (c *ticketCounter) Put(string, *tls.ClientSessionState)      { c.put.Add(1) }

// The challenge listener answers the one request that is expected, while it
// is, and closes on any other without a byte.
func TestTheChallengeListenerGivesTheTokenOnly(t *testing.T) {
	for _, host := range []string{name, server} {
		t.Run(host, func(t *testing.T) { theTokenOnly(t, host) })
	}
}

func theTokenOnly(t *testing.T, host string) {
	var challenges string
	validators := hold(t, &challenges)
	w := newWorld(t, host, acme.HTTP01, pebble.Options{TLSPort: 1, HTTPPort: portOf(t, validators.listener.Addr().String())})
	w.startAuthority()
	w.startEnclave()
	challenges = w.certificates.HTTPAddress()
	<-validators.arrived

	path := w.tokenPath()
	right := "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n"
	wrong := map[string]string{
		"root":             "GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n",
		"no token":         "GET /.well-known/acme-challenge/ HTTP/1.1\r\nHost: " + host + "\r\n\r\n",
		"another token":    "GET /.well-known/acme-challenge/aaaa HTTP/1.1\r\nHost: " + host + "\r\n\r\n",
		"dots":             "GET /.well-known/acme-challenge/../.." + path + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n",
		"slashes":          "GET /" + path + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n",
		"escaped":          "GET " + strings.Replace(path, "acme", "%61cme", 1) + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n",
		"query":            "GET " + path + "?a=b HTTP/1.1\r\nHost: " + host + "\r\n\r\n",
		"absolute":         "GET http://" + host + path + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n",
		"POST":             "POST " + path + " HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 0\r\n\r\n",
		"HEAD":             "HEAD " + path + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n",
		"OPTIONS":          "OPTIONS * HTTP/1.1\r\nHost: " + host + "\r\n\r\n",
		"CONNECT":          "CONNECT " + host + ":80 HTTP/1.1\r\nHost: " + host + "\r\n\r\n",
		"another host":     "GET " + path + " HTTP/1.1\r\nHost: other.example\r\n\r\n",
		"no host":          "GET " + path + " HTTP/1.1\r\n\r\n",
		"HTTP/0.9":         "GET " + path + "\r\n\r\n",
		"HTTP/2":           "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"no HTTP":          "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"header too long":  "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\nX: " + strings.Repeat("x", 8<<10) + "\r\n\r\n",
		"request too long": "GET /" + strings.Repeat("x", 8<<10),
	}
	for title, request := range wrong {
		if got := w.raw(challenges, request); got != "" {
			t.Errorf("%s: a stranger was sent %q", title, got)
		}
	}
	got := w.raw(challenges, right)
	_, body, _ := strings.Cut(got, "\r\n\r\n")
	if token := path[strings.LastIndex(path, "/")+1:]; !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") || !strings.HasPrefix(body, token+".") || strings.Contains(got, "Server:") {
		t.Errorf("the pending token: got %q", got)
	}
	if conn, err := w.handshake(stranger, &tls.Config{ServerName: acme.ServerName(host), NextProtos: []string{"acme-tls/1"}, InsecureSkipVerify: true}); err == nil {
		conn.Close()
		t.Error("with HTTP-01 a stranger got a handshake on the public listener")
	}

	early, err := dialerFrom(stranger).DialContext(t.Context(), "tcp", challenges)
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	validators.letPass()
	w.eventually("a certificate is there", func() bool { return w.usable() == nil })
	w.eventually("the challenge is over", func() bool { return !w.certificates.Pending() })
	if got := w.raw(challenges, right); got != "" {
		t.Errorf("with nothing pending a stranger was sent %q", got)
	}
	if got := ask(early, wrong["no token"]); got != "" {
		t.Errorf("who came before the challenge was over was sent %q", got)
	}
	// A caller who says nothing is not waited for.
	w.stop()
	w.startEnclave(func(c *acme.Certificates) { c.BePatient() })
	silent, err := dialerFrom(stranger).DialContext(t.Context(), "tcp", w.certificates.HTTPAddress())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if got, _ := io.ReadAll(silent); len(got) != 0 {
		t.Errorf("who says nothing was sent %q", got)
	}
}

// tokenPath is the path of the pending token, as the authority asks for it.
func (w *world) tokenPath() string {
	w.t.Helper()
	found := regexp.MustCompile(`/\.well-known/acme-challenge/[\w-]+`).Find(readFile(w.t, w.authority.Log))
	if found == nil {
		w.t.Fatalf("the authority does not say what it asks for:\n%s", readFile(w.t, w.authority.Log))
	}
	return string(found)
}

// raw sends bytes from the stranger's address and gives what comes back.
func (w *world) raw(to, request string) string {
	w.t.Helper()
	conn, err := dialerFrom(stranger).DialContext(w.t.Context(), "tcp", to)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	return ask(conn, request)
}

// ask sends bytes and gives what comes back.
func ask(conn net.Conn, request string) string {
	_, _ = io.WriteString(conn, request) // may fail: the other end may be closed already
	_ = conn.(*net.TCPConn).CloseWrite() // no more is to come
	got, _ := io.ReadAll(conn)
	return string(got)
}

// A restart serves what is stored and orders nothing, with the authority there
// or not.
func TestARestartIssuesNothing(t *testing.T) {
	w := start(t, server, acme.TLSALPN01, pebble.Options{})
	roots := w.issuers()
	first, err := w.shown(roots)
	if err != nil {
		t.Fatal(err)
	}
	orders := w.orders()
	for _, authority := range []string{"there", "there", "away"} {
		w.stop()
		if authority == "away" {
			w.authority.Stop()
		}
		w.startEnclave()
		if err := w.usable(); err != nil {
			t.Errorf("authority %s: %v", authority, err)
		}
		now, err := w.shown(roots)
		if err != nil || now.SerialNumber.Cmp(first.SerialNumber) != 0 {
			t.Errorf("authority %s: shown %v, %v; want the first certificate", authority, now, err)
		}
	}
	if got := w.orders(); got != orders || orders != 1 {
		t.Errorf("%d orders, %d before the restarts; want 1", got, orders)
	}
	if got := w.counted("issued"); got != 0 {
		t.Errorf("after a restart %v certificates were issued", got)
	}
}

// Without the authority the enclave lives and says why it has no certificate;
// once the authority is there, so is the certificate.
func TestAnAuthorityThatIsAwayIsWaitedFor(t *testing.T) {
	w := newWorld(t, server, acme.TLSALPN01, pebble.Options{})
	w.startEnclave()
	w.eventually("three attempts failed", func() bool { return w.counted("failed") >= 3 })
	if err := w.usable(); err == nil || !strings.Contains(err.Error(), "there is no TLS certificate yet") || !strings.Contains(err.Error(), "is VEGA_ACME_DIRECTORY right") {
		t.Errorf("usable: %v", err)
	}
	if conn, err := w.handshake(member, &tls.Config{InsecureSkipVerify: true}); err == nil {
		conn.Close()
		t.Error("a handshake without a certificate succeeded")
	}
	for _, want := range []string{"no TLS certificate; trying again", "is VEGA_ACME_DIRECTORY right, and may this machine connect to it?", "pause="} {
		if !strings.Contains(w.log.String(), want) {
			t.Errorf("the log does not say %q", want)
		}
	}
	w.startAuthority()
	w.eventually("a certificate is there", func() bool { return w.usable() == nil })
	if _, err := w.shown(w.issuers()); err != nil {
		t.Error(err)
	}
}

// A proxy that the environment names is not asked: calls outward go where the
// settings say (attack V1).
func TestNoProxyOfTheEnvironmentIsAsked(t *testing.T) {
	w := newWorld(t, server, acme.TLSALPN01, pebble.Options{})
	w.config.Directory = "https://authority.invalid/dir"
	w.startEnclave()
	w.eventually("an attempt failed", func() bool { return w.counted("failed") > 0 })
	if n := proxyAsked.Load(); n != 0 {
		t.Errorf("the proxy was asked %d times", n)
	}
}

// An authority that wants an account gets the operator's, and without one the
// log says which settings are missing.
func TestExternalAccountBinding(t *testing.T) {
	const id, key = "kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	w := newWorld(t, server, acme.TLSALPN01, pebble.Options{Accounts: map[string]string{id: key}})
	w.startAuthority()
	w.startEnclave()
	w.eventually("an attempt failed", func() bool { return w.counted("failed") > 0 })
	w.eventually("the log says what is missing", func() bool {
		return strings.Contains(w.log.String(), "VEGA_ACME_EAB_KEY_ID and VEGA_ACME_EAB_MAC_KEY")
	})
	w.stop()
	w.config.KeyID, w.config.MACKey = id, key
	w.startEnclave()
	w.eventually("a certificate is there", func() bool { return w.usable() == nil })
	if strings.Contains(w.log.String(), key) {
		t.Error("the key is in the log")
	}
}

// A profile that the authority does not offer is refused there, and the log
// names the setting.
func TestAProfileThatIsNotOffered(t *testing.T) {
	w := newWorld(t, server, acme.TLSALPN01, pebble.Options{})
	w.config.Profile = "golden"
	w.startAuthority()
	w.startEnclave()
	w.eventually("the log says what to set", func() bool {
		return strings.Contains(w.log.String(), "set VEGA_ACME_PROFILE to one that the authority offers")
	})
	if err := w.usable(); err == nil {
		t.Error("there is a certificate of another profile")
	}
}

// The authority's advice to renew is followed long before the certificate
// ends (ARI).
func TestTheAuthoritysAdviceIsFollowed(t *testing.T) {
	w := start(t, server, acme.TLSALPN01, pebble.Options{})
	first, err := w.shown(w.issuers())
	if err != nil {
		t.Fatal(err)
	}
	chain, err := w.certificates.Chain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-time.Hour)
	if err := w.authority.SetRenewalInfo(t.Context(), chain, past.Add(-time.Hour), past); err != nil {
		t.Fatal(err)
	}
	// It said to ask again in six hours. They pass:
	retryAfter := regexp.MustCompile(`"_retryAfter":\s*"[^"]*"`)
	err = w.certificates.Rewrite(t.Context(), ".json", func(text []byte) []byte {
		if !retryAfter.Match(text) {
			t.Errorf("no time to ask again in %s", text)
		}
		return retryAfter.ReplaceAll(text, []byte(`"_retryAfter": "`+past.UTC().Format(time.RFC3339)+`"`))
	})
	if err != nil {
		t.Fatal(err)
	}
	w.stop()
	w.startEnclave()
	w.eventually("the certificate is renewed", func() bool {
		now, err := w.shown(w.issuers())
		return err == nil && now.SerialNumber.Cmp(first.SerialNumber) != 0
	})
	if n := w.counted("renewed"); n != 1 {
		t.Errorf("renewed %v times, want once", n)
	}
}

// A renewal that fails is told, and the old certificate serves. The name is of
// this test only: certmagic remembers for a process which ones failed.
func TestAFailedRenewalLeavesTheOldCertificate(t *testing.T) {
	w := start(t, "late."+name, acme.TLSALPN01, pebble.Options{})
	roots := w.issuers()
	first, err := w.shown(roots)
	if err != nil {
		t.Fatal(err)
	}
	w.authority.Stop()
	if err := w.certificates.TryToRenew(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.eventually("an attempt failed", func() bool { return w.counted("failed") >= 1 })
	w.eventually("the log says so, with a remedy", func() bool {
		return strings.Contains(w.log.String(), "the TLS certificate was not renewed; the old one serves") && strings.Contains(w.log.String(), "is VEGA_ACME_DIRECTORY right")
	})
	now, err := w.shown(roots)
	if err != nil || now.SerialNumber.Cmp(first.SerialNumber) != 0 || w.usable() != nil {
		t.Errorf("shown %v, %v, usable %v; want the first certificate", now, err, w.usable())
	}
}
