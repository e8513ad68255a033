// Package pebble runs Pebble, Let's Encrypt's small certificate authority for
// tests, as the real program that it is: on loopback, with an endpoint
// certificate, an issuing root and a memory that end with it. Tests and the
// demo use it; nobody else should believe what it certifies.
package pebble

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Short is the profile of certificates that last Options.Lifetime.
const Short = "short"

// Options of an authority. Ports are those at which its validators call.
type Options struct {
	TLSPort, HTTPPort int
	Listen            string            // host:port of its endpoint; empty takes a free port of 127.0.0.1
	DNS               string            // host:port of the resolver it asks; empty: the system's
	Accounts          map[string]string // external accounts, key id to base64url key; set, it wants one
	RejectNonces      bool              // refuse one good nonce in twenty, as Pebble does by itself
	Lifetime          time.Duration     // of certificates of the profile Short
}

// Authority is a Pebble with its files; it runs between Start and Stop.
type Authority struct {
	Directory  string   // URL
	Management string   // base URL
	RootsFile  string   // PEM, to trust both with
	Args       []string // of the program
	Env        []string // of the program, all of it
	Log        string   // file

	client  *http.Client
	process *process
}

// New writes an authority's files into dir.
func New(dir string, o Options) (*Authority, error) {
	listen := o.Listen
	management, err := FreePort("127.0.0.1")
	if err == nil && listen == "" {
		listen, err = FreePort("127.0.0.1")
	}
	if err != nil {
		return nil, err
	}
	file := func(name string) string { return filepath.Join(dir, "pebble-"+name) }
	a := &Authority{
		Directory: "https://" + listen + "/dir", Management: "https://" + management, RootsFile: file("endpoint.pem"),
		Args: []string{"-config", file("config.json")}, Log: file("log"),
		Env: []string{"PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0", "PEBBLE_WFE_NONCEREJECT=" + strconv.Itoa(nonceReject(o))},
	}
	if o.DNS != "" {
		a.Args = append(a.Args, "-dnsserver", o.DNS)
	}
	pool, err := endpoint(a.RootsFile, file("endpoint.key"))
	if err != nil {
		return nil, err
	}
	a.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	type profile struct {
		Description    string `json:"description"`
		ValidityPeriod int    `json:"validityPeriod"` // seconds
	}
	// An order without a profile gets any one of them.
	profiles := map[string]profile{"default": {"ninety days", 90 * 24 * 3600}}
	if o.Lifetime > 0 {
		profiles[Short] = profile{"for tests of renewal", int(o.Lifetime / time.Second)}
	}
	config, err := json.MarshalIndent(map[string]any{"pebble": map[string]any{
		"listenAddress": listen, "managementListenAddress": management,
		"certificate": a.RootsFile, "privateKey": file("endpoint.key"),
		"httpPort": o.HTTPPort, "tlsPort": o.TLSPort, "keyAlgorithm": "ecdsa",
		"externalAccountBindingRequired": len(o.Accounts) > 0, "externalAccountMACKeys": o.Accounts,
		"profiles": profiles,
	}}, "", "  ")
	if err != nil {
		return nil, err
	}
	return a, os.WriteFile(file("config.json"), config, 0o600)
}

func nonceReject(o Options) int {
	if o.RejectNonces {
		return 5 // per cent, Pebble's own default
	}
	return 0
}

// FreePort is a host:port at which nobody listens now.
func FreePort(host string) (string, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// endpoint makes the certificate of Pebble's own HTTPS, which vouches for
// itself.
func endpoint(certFile, keyFile string) (*x509.CertPool, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "pebble's endpoint"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 0, 30),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certificate)
	return pool, errors.Join(
		os.WriteFile(certFile, certificate, 0o644),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
	)
}

// Start starts the program at path and waits until it answers. It starts anew
// what was stopped, with a new memory and a new issuing root.
func (a *Authority) Start(ctx context.Context, path string) error {
	p, err := start(path, a.Args, a.Env, a.Log)
	if err != nil {
		return err
	}
	a.process = p
	return p.await(ctx, func() error { return a.Answers(ctx) })
}

// Stop ends the program.
func (a *Authority) Stop() { a.process.stop() }

// Answers is nil once the authority's endpoints are there.
func (a *Authority) Answers(ctx context.Context) error {
	_, err := a.get(ctx, a.Directory)
	if err == nil {
		_, err = a.IssuingRoot(ctx)
	}
	return err
}

// IssuingRoot is the root of what it certifies, as PEM. It is made at start.
func (a *Authority) IssuingRoot(ctx context.Context) ([]byte, error) {
	return a.get(ctx, a.Management+"/roots/0")
}

// SetRenewalInfo makes the authority advise to renew one of its certificates,
// PEM, between two times (ARI).
func (a *Authority) SetRenewalInfo(ctx context.Context, certificate []byte, from, until time.Time) error {
	window, err := json.Marshal(map[string]any{"suggestedWindow": map[string]time.Time{"start": from, "end": until}})
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]string{"Certificate": string(certificate), "ARIResponse": string(window)})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.Management+"/set-renewal-info/", bytes.NewReader(body))
	if err != nil {
		return err
	}
	_, err = a.do(request)
	return err
}

func (a *Authority) get(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return a.do(request)
}

func (a *Authority) do(request *http.Request) ([]byte, error) {
	response, err := a.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: status %d", request.URL, response.StatusCode)
	}
	return body, err
}
