package edge_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge/edgetest"
)

// The policy on every version, suite and group that a Go client can offer
// (attack N4): what is accepted is negotiated as it was offered, and counted.
func TestTLSPolicy(t *testing.T) {
	for _, minVersion := range []uint16{0, tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(max(minVersion, tls.VersionTLS12)), func(t *testing.T) {
			w := newWorld(t, edge.Config{MinVersion: minVersion})
			for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11} {
				w.wantHandshake(false, &tls.Config{MinVersion: version, MaxVersion: version})
			}
			for _, suite := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
				if !slices.Contains(suite.SupportedVersions, tls.VersionTLS12) {
					continue // of 1.3, which are not chosen by name
				}
				aead := strings.HasPrefix(suite.Name, "TLS_ECDHE_ECDSA_") && !strings.Contains(suite.Name, "_CBC_") && !strings.Contains(suite.Name, "RC4")
				state := w.wantHandshake(aead && minVersion != tls.VersionTLS13, &tls.Config{
					MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite.ID},
				})
				if aead && minVersion != tls.VersionTLS13 && state.CipherSuite != suite.ID {
					t.Errorf("%s: negotiated %s", suite.Name, tls.CipherSuiteName(state.CipherSuite))
				}
			}
			for _, group := range []tls.CurveID{
				tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024, tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521,
			} {
				state := w.wantHandshake(true, &tls.Config{MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{group}})
				if state.CurveID != group {
					t.Errorf("%s: negotiated %s", group, state.CurveID)
				}
				w.wantHandshakes("1.3", group.String(), "ok", 1)
			}
			if state := w.wantHandshake(true, &tls.Config{}); state.CurveID != tls.X25519MLKEM768 || state.Version != tls.VersionTLS13 {
				t.Errorf("a client of no special wishes: %s, %s", tls.VersionName(state.Version), state.CurveID)
			}
			if minVersion != tls.VersionTLS13 {
				if state := w.wantHandshake(true, &tls.Config{MaxVersion: tls.VersionTLS12}); state.CurveID != tls.X25519 {
					t.Errorf("TLS 1.2: %s", state.CurveID)
				}
			}
			if got := w.handshakesBy("refused"); got < 10 {
				t.Errorf("%v handshakes counted as refused", got)
			}
		})
	}
}

// What common scanners look for besides versions and suites: no compression,
// no renegotiation, no heartbeat, no answer in clear, a protocol by ALPN or
// none, and no certificate of another name's.
func TestTLSScan(t *testing.T) {
	w := newWorld(t, edge.Config{})
	if _, err := w.handshake(member, &tls.Config{NextProtos: []string{"http/1.0"}}); err == nil {
		t.Error("a client that offers only http/1.0 got a handshake")
	}
	conn, err := w.tlsDial(member, &tls.Config{MaxVersion: tls.VersionTLS12, Renegotiation: tls.RenegotiateFreelyAsClient, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := conn.ConnectionState(); got.NegotiatedProtocol != "http/1.1" || len(got.PeerCertificates) != 1 {
		t.Errorf("negotiated %q with %d certificates", got.NegotiatedProtocol, len(got.PeerCertificates))
	}
	plain := dial(t, member, w.addr)
	_, _ = io.WriteString(plain, "GET / HTTP/1.1\r\nHost: vasp.example\r\n\r\n")
	if got, _ := io.ReadAll(plain); strings.Contains(string(got), "HTTP") {
		t.Errorf("plain HTTP was answered %q", got)
	}
	for name, hello := range map[string][]byte{
		"SSL 2.0":      {0x80, 0x2e, 0x01, 0x00, 0x02, 0x00, 0x15, 0x00, 0x00, 0x00, 0x10},
		"SSL 3.0":      {0x16, 0x03, 0x00, 0x00, 0x04, 0x01, 0x00, 0x00, 0x00},
		"a heartbeat":  {0x18, 0x03, 0x02, 0x00, 0x03, 0x01, 0x40, 0x00},
		"a long hello": append([]byte{0x16, 0x03, 0x01, 0xff, 0xff}, make([]byte, 70000)...),
	} {
		raw := dial(t, member, w.addr)
		_ = raw.SetDeadline(time.Now().Add(30 * time.Second))
		_, _ = raw.Write(hello)
		_ = raw.(interface{ CloseWrite() error }).CloseWrite()
		if got, _ := io.ReadAll(raw); len(got) > 7 { // an alert has seven bytes
			t.Errorf("%s was answered % x", name, got)
		}
	}
	w.eventually("counted as refused", func() bool { return w.handshakes("none", "none", "refused") >= 5 })
}

// Settings of the environment that weaken TLS stop the start.
func TestGODEBUGThatWeakensTLSIsRefused(t *testing.T) {
	for _, value := range []string{
		"tlsmlkem=0", "tlssecpmlkem=0", "tls10server=1", "tlsrsakex=1", "tls3des=1", "tlssha1=1", "tlsunsafeekm=1", "x509sha1=1",
		"gctrace=1,tlsmlkem=0", "tlsmlkem=0,tlsmlkem=1", " tlsmlkem=0 ",
	} {
		if err := edge.CheckGODEBUG(value); err == nil || !strings.Contains(err.Error(), "take it out of GODEBUG") {
			t.Errorf("CheckGODEBUG(%q) = %v", value, err)
		}
	}
	for _, value := range []string{"", "gctrace=1", "tlsmlkem=1", "tls10server=0,http2debug=1"} {
		if err := edge.CheckGODEBUG(value); err != nil {
			t.Errorf("CheckGODEBUG(%q) = %v", value, err)
		}
	}
	t.Setenv("GODEBUG", "tlsmlkem=0")
	files, err := edge.FileCertificates(edgetest.NewAuthority(t).Issue(server))
	if err != nil {
		t.Fatal(err)
	}
	l, err := edge.Listen(t.Context(), edge.Config{Address: server + ":0", Certificates: files, Allow: mustParse(t, member), Now: time.Now})
	if err == nil {
		l.Close()
		t.Fatal("the listener opened without post-quantum key exchange")
	}
	if !strings.Contains(err.Error(), "GODEBUG: tlsmlkem=0 weakens TLS") {
		t.Errorf("Listen = %v", err)
	}
}

// Central may have to show a client certificate: of an authority, of a pinned
// key, or both (attack N2).
func TestClientCertificates(t *testing.T) {
	ours, other := edgetest.NewAuthority(t), edgetest.NewAuthority(t)
	good, server1, foreign := clientOf(t, ours, x509.ExtKeyUsageClientAuth), clientOf(t, ours, x509.ExtKeyUsageServerAuth), clientOf(t, other, x509.ExtKeyUsageClientAuth)
	old := clientAt(t, ours, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
	lone := selfSigned(t)
	for _, c := range []struct {
		name string
		auth edge.ClientAuth
		cert *tls.Certificate
		want bool
	}{
		{"nothing asked, none shown", edge.ClientAuth{}, nil, true},
		{"nothing asked, one shown", edge.ClientAuth{}, &foreign, true},
		{"authority, none shown", edge.ClientAuth{CAs: ours.Pool()}, nil, false},
		{"authority, its own", edge.ClientAuth{CAs: ours.Pool()}, &good, true},
		{"authority, another's", edge.ClientAuth{CAs: ours.Pool()}, &foreign, false},
		{"authority, a server's", edge.ClientAuth{CAs: ours.Pool()}, &server1, false},
		{"authority, expired", edge.ClientAuth{CAs: ours.Pool()}, &old, false},
		{"authority, self-signed", edge.ClientAuth{CAs: ours.Pool()}, &lone, false},
		{"an empty pool", edge.ClientAuth{CAs: x509.NewCertPool()}, &good, false},
		{"pin, none shown", edge.ClientAuth{Pins: pins(lone)}, nil, false},
		{"pin, that key", edge.ClientAuth{Pins: pins(lone)}, &lone, true},
		{"pin, one of two", edge.ClientAuth{Pins: append(pins(good), pins(lone)...)}, &lone, true},
		{"pin, another key", edge.ClientAuth{Pins: pins(lone)}, &good, false},
		{"both, both right", edge.ClientAuth{CAs: ours.Pool(), Pins: pins(good)}, &good, true},
		{"both, pin wrong", edge.ClientAuth{CAs: ours.Pool(), Pins: pins(lone)}, &good, false},
		{"both, authority wrong", edge.ClientAuth{CAs: ours.Pool(), Pins: pins(lone)}, &lone, false},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			w := newWorld(t, edge.Config{ClientAuth: c.auth})
			got, err := w.get(w.showing(c.cert, version))
			if (err == nil && got == 200) != c.want {
				t.Errorf("%s, %s: %d, %v, want served: %v", c.name, tls.VersionName(version), got, err, c.want)
			}
			if n := w.requests.Load(); (n == 1) != c.want {
				t.Errorf("%s: the handler ran %d times", c.name, n)
			}
			if !c.want {
				w.eventually(c.name+": counted", func() bool {
					return w.handshakesBy("client-certificate") > 0
				})
				w.eventually(c.name+": told", func() bool {
					return strings.Contains(w.log.String(), `level=WARN msg="TLS handshake failed" address=`+member+" reason=client-certificate")
				})
			}
		}
	}
}

// A session begun before the certificate was asked for, or under another
// pin, resumes nothing.
func TestAResumedSessionShowsItsCertificateToo(t *testing.T) {
	a := edgetest.NewAuthority(t)
	good, lone := clientOf(t, a, x509.ExtKeyUsageClientAuth), selfSigned(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		w := newWorld(t, edge.Config{})
		with, without := w.showing(&good, version), w.showing(nil, version)
		want := func(when string, client *http.Client, served, resumed bool) {
			t.Helper()
			r, err := client.Get("https://" + w.addr + "/")
			if err == nil {
				read(t, r)
			}
			client.CloseIdleConnections()
			if ok := err == nil && r.StatusCode == 200; ok != served || ok && r.TLS.DidResume != resumed {
				t.Errorf("%s, %s: served %v, %v; want served %v, resumed %v", tls.VersionName(version), when, ok, err, served, resumed)
			}
		}
		want("nothing asked", without, true, false)
		want("nothing asked, again", without, true, true)
		w.listener.SetClientAuth(edge.ClientAuth{CAs: a.Pool()})
		want("a session without a certificate", without, false, false)
		want("a certificate", with, true, false)
		want("its session", with, true, true)
		w.listener.SetClientAuth(edge.ClientAuth{Pins: pins(lone)})
		want("its session, when another key is pinned", with, false, false)
		w.listener.SetClientAuth(edge.ClientAuth{Pins: pins(good)})
		if got, err := w.get(with); got != 200 || err != nil {
			t.Errorf("once more when its own is: %d, %v", got, err)
		}
	}
}

// What is asked anew is asked of open connections, too.
func TestClientAuthReplacedCountsForOpenConnections(t *testing.T) {
	a := edgetest.NewAuthority(t)
	good, lone := clientOf(t, a, x509.ExtKeyUsageClientAuth), selfSigned(t)
	for _, protocol := range []string{"http/1.1", "h2"} {
		w := newWorld(t, edge.Config{ClientAuth: edge.ClientAuth{CAs: a.Pool()}})
		client := w.client(member, protocol)
		client.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{good}
		for _, step := range []struct {
			auth edge.ClientAuth
			want int
		}{
			{edge.ClientAuth{CAs: a.Pool()}, 200},
			{edge.ClientAuth{CAs: a.Pool(), Pins: pins(good)}, 200},
			{edge.ClientAuth{}, 200},
			{edge.ClientAuth{Pins: pins(lone)}, 403},
		} {
			w.listener.SetClientAuth(step.auth)
			if got, err := w.get(client); got != step.want || err != nil {
				t.Errorf("%s: %d, %v, want %d", protocol, got, err, step.want)
			}
		}
		if n := w.handshakesBy("ok"); n != 1 {
			t.Errorf("%s: %v handshakes, want the one connection", protocol, n)
		}
		w.wantRefused("client-certificate", 1)
	}
}

// A certificate authority's validator has no client certificate, and is not
// asked for one.
func TestAValidatorNeedsNoClientCertificate(t *testing.T) {
	a := edgetest.NewAuthority(t)
	w := newWorld(t, edge.Config{ClientAuth: edge.ClientAuth{CAs: a.Pool(), Pins: pins(selfSigned(t))}})
	w.certs.challenge.Store(true)
	asked := false
	_, err := w.handshake(stranger, &tls.Config{
		ServerName: "vasp.example", NextProtos: []string{"acme-tls/1"},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked = true
			return new(tls.Certificate), nil
		},
	})
	if err != nil || asked {
		t.Errorf("the validator's handshake: %v, asked for a certificate: %v", err, asked)
	}
}

func TestParsePins(t *testing.T) {
	digest := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for text, want := range map[string]int{"": 0, " ": 0, digest: 1, "sha256/" + digest: 1, digest + " , sha256/" + digest: 2} {
		if got, err := edge.ParsePins(text); err != nil || len(got) != want {
			t.Errorf("ParsePins(%q) = %d pins, %v", text, len(got), err)
		}
	}
	for _, text := range []string{",", digest + ",", "sha256/", "sha1/" + digest, digest[:43], "AAAA", strings.Repeat("0", 64), "sha256//" + digest} {
		if _, err := edge.ParsePins(text); err == nil || !strings.Contains(err.Error(), "openssl") {
			t.Errorf("ParsePins(%q) = %v, want advice", text, err)
		}
	}
}

func (w *world) wantHandshake(want bool, c *tls.Config) tls.ConnectionState {
	w.t.Helper()
	state, err := w.handshake(member, c)
	if (err == nil) != want {
		w.t.Errorf("handshake from %s to %s, suites %x, groups %v: %v, want it accepted: %v",
			tls.VersionName(c.MinVersion), tls.VersionName(c.MaxVersion), c.CipherSuites, c.CurvePreferences, err, want)
	}
	return state
}

func (w *world) wantHandshakes(version, group, result string, want float64) {
	w.t.Helper()
	w.eventually(fmt.Sprintf("%v handshakes of %s %s %s", want, version, group, result), func() bool { return w.handshakes(version, group, result) == want })
}

// handshakes is the number of them with these labels; "" is any.
func (w *world) handshakes(version, group, result string) (n float64) {
	families, err := w.registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if f.GetName() == "enclave_tls_handshakes_total" && labels["result"] == result &&
				(version == "" || labels["version"] == version) && (group == "" || labels["group"] == group) {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

func (w *world) handshakesBy(result string) float64 { return w.handshakes("", "", result) }

// showing is a client with a certificate, or none, and a cache of sessions.
func (w *world) showing(cert *tls.Certificate, version uint16) *http.Client {
	client := w.client(member, "http/1.1")
	c := client.Transport.(*http.Transport).TLSClientConfig
	c.MinVersion, c.MaxVersion, c.ClientSessionCache = version, version, tls.NewLRUClientSessionCache(1)
	if cert != nil {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil } // also an unfit one
	}
	return client
}

func (w *world) get(client *http.Client) (int, error) {
	r, err := client.Get("https://" + w.addr + "/")
	if err != nil {
		return 0, err
	}
	read(w.t, r)
	return r.StatusCode, nil
}

func clientOf(t *testing.T, a *edgetest.Authority, usage x509.ExtKeyUsage) tls.Certificate {
	t.Helper()
	return load(t, func() (string, string) {
		return a.IssueFor("central.example", usage, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	})
}

func clientAt(t *testing.T, a *edgetest.Authority, from, until time.Time) tls.Certificate {
	t.Helper()
	return load(t, func() (string, string) {
		return a.IssueFor("central.example", x509.ExtKeyUsageClientAuth, from, until)
	})
}

func load(t *testing.T, issue func() (string, string)) tls.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(issue())
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "central"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func pins(certs ...tls.Certificate) (pins [][sha256.Size]byte) {
	for _, c := range certs {
		leaf, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			panic(err)
		}
		pins = append(pins, sha256.Sum256(leaf.RawSubjectPublicKeyInfo))
	}
	return pins
}
