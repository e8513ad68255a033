package enclavecmd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/plugins"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/allow"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge/acme"
	"github.com/vasp-enclave/vasp-enclave/proxy/outward"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
	"github.com/vasp-enclave/vasp-enclave/proxy/wirejson"
	"github.com/vasp-enclave/vasp-enclave/storage/redis"
)

// parts are what the settings' texts and files amount to: everything that can
// be read and judged without starting.
type parts struct {
	kek             *atrest.KEK             // nil: to be asked for, see unseal
	keySource       plugins.RemoteKeySource // nil: kek is there
	otherKEKs       []*atrest.KEK           // that the history may be under instead; of a remote source, see unseal
	allowed         *allow.Current
	proxies         *allow.List       // who may name callers
	certificates    edge.Certificates // from files; nil: automatic
	automatic       acme.Config       // as far as the settings say
	clientAuth      edge.ClientAuth
	apiTrust        *outward.Trust // of the central server
	vaspTrust       *outward.Trust // of the VASP's backend
	redisRoots      *x509.CertPool // nil: the system's
	ivms101         []byte         // nil: none
	validator       proxy.Validator
	sinks           map[string]audit.Sink // of the audit log
	openKEK         func(ctx context.Context, source, value string) (*atrest.KEK, error)
	replaceIdentity bool             // of the command line, see runCommand
	suites          []identity.Suite // what we can open, the one we publish first
	floor           []identity.Suite // what we seal to
}

// readParts reads them all, and reports every problem at once.
func readParts(ctx context.Context, catalog *plugins.Catalog, s *Settings) (*parts, error) {
	p := new(parts)
	var problems []error
	note := func(err error) {
		if err != nil {
			problems = append(problems, err)
		}
	}
	err := p.readKey(ctx, catalog, s)
	note(err)
	p.openKEK = kekOpener(s, catalog)
	p.proxies, err = allow.ParseList(s.TrustedProxies)
	note(named("VEGA_TRUSTED_PROXIES", err))
	p.allowed = new(allow.Current)
	note(p.loadAllowlist(s))
	note(p.readCertificates(s))
	note(edge.CheckGODEBUG(os.Getenv("GODEBUG")))
	p.clientAuth, err = readClientAuth(s)
	note(err)
	p.apiTrust, err = outward.ReadTrust(outward.Files{
		Roots: s.APIRootsFile, Cert: s.APICertFile, Key: s.APIKeyFile,
		RootsSetting: "VEGA_API_ROOTS_FILE", PairSetting: "VEGA_API_CLIENT_CERT_FILE, VEGA_API_CLIENT_KEY_FILE",
	}, time.Now())
	note(err)
	p.vaspTrust, err = outward.ReadTrust(outward.Files{
		Roots: s.VerificationRoots, Cert: s.VerificationCert, Key: s.VerificationKey,
		RootsSetting: "VEGA_VERIFICATION_ROOTS_FILE", PairSetting: "VEGA_VERIFICATION_CLIENT_CERT_FILE, VEGA_VERIFICATION_CLIENT_KEY_FILE",
	}, time.Now())
	note(err)
	p.redisRoots, err = outward.ReadRoots(s.RedisRootsFile)
	note(named("VEGA_REDIS_ROOTS_FILE", err))
	if s.RedisURL.IsSet() {
		note(named("VEGA_REDIS_URL", redis.Validate(s.RedisURL.Reveal())))
	}
	p.ivms101, err = readIVMS101(s.IVMS101File)
	note(named("VEGA_VASP_IVMS101_FILE", err))
	p.validator, err = catalog.PayloadValidators.Open(ctx, s.Validator)
	note(named("VEGA_PAYLOAD_VALIDATOR", err))
	p.sinks, err = openSinks(ctx, catalog, s.AuditSinks)
	note(err)
	note(named("VEGA_ALLIANCE_ACCESS_KEY, VEGA_ALLIANCE_SECRET_KEY", allianceKey(s).Check()))
	_, err = newBackend(s, p, nil, nil)
	note(named("VEGA_VERIFICATION_...", err))
	p.suites, p.floor = suites(s.PreferredSuite)
	return p, errors.Join(problems...)
}

// readCertificates reads the pair of files, or what the settings say of
// automatic certificates.
func (p *parts) readCertificates(s *Settings) error {
	host := s.PublicEndpoint.URL().Hostname()
	if s.TLSCertFile != "" {
		files, err := edge.FileCertificates(s.TLSCertFile, s.TLSKeyFile)
		if err == nil {
			err = errors.Join(files.ValidAt(time.Now()), covers(files, host))
			p.certificates = files
		}
		return named(s.pairSettings(err), err)
	}
	roots, err := outward.ReadRoots(s.ACMERootsFile)
	p.automatic = acme.Config{
		Host: host, Directory: s.ACMEDirectory.String(), Roots: roots, Email: s.ACMEEmail, Profile: s.ACMEProfile,
		KeyID: s.ACMEKeyID, MACKey: s.ACMEMACKey.Reveal(),
		Challenge: s.ACMEChallenge, HTTPListen: string(s.ACMEHTTPListen), Storage: s.ACMEStorageDir(),
	}
	return errors.Join(named("VEGA_ACME_ROOTS_FILE", err), p.automatic.Check())
}

// pairSettings are those that a failure to read the pair is about.
func (s *Settings) pairSettings(err error) string {
	var at *fs.PathError
	switch {
	case s.TLSCertFile != s.TLSKeyFile && errors.As(err, &at) && at.Path == s.TLSCertFile:
		return "VEGA_TLS_CERT_FILE"
	case errors.As(err, &at) && at.Path == s.TLSKeyFile:
		return "VEGA_TLS_KEY_FILE"
	}
	return "VEGA_TLS_CERT_FILE, VEGA_TLS_KEY_FILE"
}

// readClientAuth reads what is asked of central's client certificate. It may
// be called again while the enclave runs, for edge.Listener.SetClientAuth.
func readClientAuth(s *Settings) (a edge.ClientAuth, err error) {
	var problems [2]error
	a.CAs, problems[0] = outward.ReadRoots(s.ClientCAFile)
	a.Pins, problems[1] = edge.ParsePins(s.ClientKeyPins)
	return a, errors.Join(named("VEGA_CENTRAL_CLIENT_CA_FILE", problems[0]), named("VEGA_CENTRAL_CLIENT_KEY_PINS", problems[1]))
}

// minVersion is the setting as crypto/tls has it.
func minVersion(s *Settings) uint16 {
	if s.TLSMinVersion == "1.3" {
		return tls.VersionTLS13
	}
	return tls.VersionTLS12
}

// suites turns the policy into what we publish and what we seal to: with
// x-wing a weaker key is refused, so that nobody can talk us down (attack K5).
func suites(preferred string) (published, floor []identity.Suite) {
	if preferred == identity.SuiteX25519.String() {
		return []identity.Suite{identity.SuiteX25519}, []identity.Suite{identity.SuiteXWing, identity.SuiteX25519}
	}
	return []identity.Suite{identity.SuiteXWing}, []identity.Suite{identity.SuiteXWing}
}

// allianceKey is the key pair that requests in both directions are signed by.
func allianceKey(s *Settings) relay.Key {
	return relay.Key{Access: s.AccessKey, Secret: relay.NewSecret(s.SecretKey.Reveal())}
}

// covers wants a certificate that central will take for our endpoint.
func covers(files *edge.Files, host string) error {
	if err := files.Covers(host); err != nil {
		return fmt.Errorf("central will refuse it at VEGA_ENCLAVE_PUBLIC_ENDPOINT; get one with %s as a subject alternative name: %w", host, err)
	}
	return nil
}

func named(setting string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", setting, err)
}

// maxIVMS101 is the longest file of our own legal person, in bytes: it travels
// beside each request, which together must fit an envelope.
const maxIVMS101 = 32 << 10

// readIVMS101 reads our own legal person. Its text is kept as it is.
func readIVMS101(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if len(text) > maxIVMS101 {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are sent with each verification", file, len(text), maxIVMS101)
	}
	var shape struct {
		LegalPerson map[string]any `json:"legalPerson"`
	}
	if err := wirejson.Unmarshal(text, &shape); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if shape.LegalPerson == nil {
		return nil, fmt.Errorf(`%s: has no member "legalPerson"; write {"legalPerson": {...}} as IVMS101 has it`, file)
	}
	compact := jsontext.Value(text)
	if err := compact.Compact(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return compact, nil
}
