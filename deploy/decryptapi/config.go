package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
)

// config is the one file that the program is given. Relative paths in it are
// relative to it.
type config struct {
	Listen       string `json:"listen"`       // address:port
	TLSCertFile  string `json:"tlsCertFile"`  // PEM, leaf first; read again for each connection
	TLSKeyFile   string `json:"tlsKeyFile"`   // PEM
	ClientCAFile string `json:"clientCAFile"` // PEM; who may vouch for callers' certificates

	Module     string   `json:"module"`     // the PKCS#11 library
	TokenLabel string   `json:"tokenLabel"` // of the token
	PINFile    string   `json:"pinFile"`    // with the user PIN
	Keys       []string `json:"keys"`       // labels of AES keys: the first wraps, all unwrap

	TokenHeader string    `json:"tokenHeader"` // header with callers' tokens; default Authorization: Bearer
	PerMinute   int       `json:"perMinute"`   // uses for each caller; default 30, a burst of 10
	Callers     []*caller `json:"callers"`
}

// caller is one who may ask, once everything that it names has been shown: a
// token, a certificate, or both.
type caller struct {
	Name             string   `json:"name"`
	TokenFile        string   `json:"tokenFile"`
	CertificateNames []string `json:"certificateNames"` // DNS or URI names, one of which its certificate has
	CertificatePins  []string `json:"certificatePins"`  // SHA-256 of its public key (SubjectPublicKeyInfo), hex
	May              []string `json:"may"`              // unwrap, wrap
	Instances        []string `json:"instances"`        // whose keys; no patterns

	tokenHash [sha256.Size]byte // of its token, if TokenFile
}

const (
	mayUnwrap = "unwrap"
	mayWrap   = "wrap"
)

// minToken is the least length of a token, in characters. Tokens are compared
// as often as somebody likes to ask.
const minToken = 32

var visible = regexp.MustCompile(`^[!-~]+$`)

func readConfig(file string) (*config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	c := &config{PerMinute: 30}
	if err := json.Unmarshal(text, c, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	dir := filepath.Dir(file)
	for _, path := range []*string{&c.TLSCertFile, &c.TLSKeyFile, &c.ClientCAFile, &c.PINFile} {
		*path = beside(dir, *path)
	}
	for _, who := range c.Callers {
		if who != nil {
			who.TokenFile = beside(dir, who.TokenFile)
		}
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return c, nil
}

func beside(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// check reports everything that is wrong.
func (c *config) check() error {
	var errs []error
	rule := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	_, _, err := net.SplitHostPort(c.Listen)
	rule(err == nil, "listen: must be address:port")
	rule(c.TLSCertFile != "" && c.TLSKeyFile != "", "tlsCertFile, tlsKeyFile: must be set; keys are given out by https only")
	rule(c.Module != "" && c.TokenLabel != "" && c.PINFile != "", "module, tokenLabel, pinFile: must be set")
	rule(len(c.Keys) > 0, "keys: must name at least one key in the token")
	for _, label := range c.Keys {
		rule(names.MatchString(label), "keys: %q is no label; use 1 to 64 letters, digits and ._:@/-", label)
	}
	rule(c.PerMinute > 0, "perMinute: must be 1 or more")
	rule(len(c.Callers) > 0, "callers: there must be one at least")
	seen := map[string]bool{}
	for i, who := range c.Callers {
		if who == nil || !names.MatchString(who.Name) || seen[who.Name] {
			rule(false, "callers: number %d has no name, or one that is taken", i+1)
			continue
		}
		seen[who.Name] = true
		for _, problem := range who.check(c.ClientCAFile != "") {
			rule(false, "callers: %s: %w", who.Name, problem)
		}
	}
	return errors.Join(append(errs, c.readTokens()...)...)
}

func (who *caller) check(certificates bool) []error {
	var errs []error
	rule := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	rule(who.TokenFile != "" || who.wantsCertificate(), "names neither a token nor a certificate: everybody would be let in")
	rule(certificates || !who.wantsCertificate(), "names a certificate, and clientCAFile is not set")
	for i, pin := range who.CertificatePins {
		b, err := hex.DecodeString(pin)
		rule(err == nil && len(b) == sha256.Size, "certificatePins: number %d is not the SHA-256 of a public key in hex", i+1)
		who.CertificatePins[i] = strings.ToLower(pin)
	}
	rule(len(who.May) > 0, "may: is empty")
	for _, what := range who.May {
		rule(what == mayUnwrap || what == mayWrap, "may: must be unwrap or wrap")
	}
	rule(len(who.Instances) > 0, "instances: is empty")
	for _, instance := range who.Instances {
		rule(names.MatchString(instance), "instances: %q is no name; use 1 to 64 letters, digits and ._:@/-", instance)
	}
	return errs
}

func (who *caller) wantsCertificate() bool {
	return len(who.CertificateNames) > 0 || len(who.CertificatePins) > 0
}

// readTokens keeps the hash of each caller's token.
func (c *config) readTokens() (errs []error) {
	owner := map[[sha256.Size]byte]string{}
	for _, who := range c.Callers {
		if who == nil || who.TokenFile == "" {
			continue
		}
		text, err := os.ReadFile(who.TokenFile)
		if err != nil {
			errs = append(errs, fmt.Errorf("callers: %s: %w", who.Name, err))
			continue
		}
		given := strings.TrimRight(string(text), "\r\n")
		if len(given) < minToken || !visible.MatchString(given) {
			errs = append(errs, fmt.Errorf("callers: %s: the token must be %d or more printable characters without blanks; make one with openssl rand -hex 32", who.Name, minToken))
			continue
		}
		who.tokenHash = sha256.Sum256([]byte(given))
		if other, taken := owner[who.tokenHash]; taken {
			errs = append(errs, fmt.Errorf("callers: %s has the token of %s; give each its own", who.Name, other))
		}
		owner[who.tokenHash] = who.Name
	}
	return errs
}

// clientCAs are who may vouch for callers, nil without ClientCAFile.
func (c *config) clientCAs() (*x509.CertPool, error) {
	if c.ClientCAFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(c.ClientCAFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no PEM certificate", c.ClientCAFile)
	}
	return pool, nil
}

// allowed tells whether a caller may do something for an instance.
func (who *caller) allowed(what, instance string) bool {
	return slices.Contains(who.May, what) && slices.Contains(who.Instances, instance)
}
