package enclavecmd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/plugins"
	"github.com/vasp-enclave/vasp-enclave/plugins/standard"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge/acme"
	"github.com/vasp-enclave/vasp-enclave/proxy/outward"
)

// Prefix begins the name of every setting of the enclave.
const Prefix = "VEGA_"

// Settings is everything an operator can tell the enclave. Names, defaults and
// rules that the public contract has (its section 4) are the contract's; the
// others are ours, under the same prefix. A field's zero value is safe.
type Settings struct {
	ServerHost       settings.Address `env:"VEGA_SERVER_HOST" envDefault:"127.0.0.1" group:"Backend listener" doc:"Loopback address on which the VASP's backend reaches the enclave."`
	UnsafeServerHost settings.Address `env:"VEGA_UNSAFE_SERVER_HOST" doc:"Any address, instead of VEGA_SERVER_HOST: who can connect there can read and send personal data."`
	ServerPort       int              `env:"VEGA_SERVER_PORT" envDefault:"21117" range:"0-65535" doc:"Port for the VASP's backend; 0 takes any free one."`
	KeepAliveTimeout settings.Millis  `env:"VEGA_SERVER_KEEPALIVE_TIMEOUT_MS" envDefault:"5000" doc:"How long an idle connection of the backend is kept, in ms; behind a proxy, longer than the proxy keeps it."`
	ServerToken      settings.Secret  `env:"VEGA_SERVER_TOKEN" first:"true" reload:"true" secret:"true" doc:"When set, the backend must send it as Authorization: Bearer."`

	PublicEndpoint   settings.URL    `env:"VEGA_ENCLAVE_PUBLIC_ENDPOINT" required:"true" group:"Public listener" doc:"https URL at which the central server reaches this enclave; it may have a path."`
	PublicListen     settings.Listen `env:"VEGA_PUBLIC_LISTEN" first:"true" envDefault:":8443" doc:"Where to listen for the central server."`
	CentralAllowlist string          `env:"VEGA_CENTRAL_ALLOWLIST" first:"true" reload:"true" doc:"Addresses and networks the central server connects from, comma separated; nobody else sees a certificate. IP addresses only, no names."`
	AllowlistFile    string          `env:"VEGA_CENTRAL_ALLOWLIST_FILE" reload:"true" doc:"File with that list instead, which may also have line breaks and comments that begin with #; without entries nobody may connect."`
	ReportOnly       bool            `env:"VEGA_UNSAFE_ALLOWLIST_REPORT_ONLY" envDefault:"false" doc:"Lets in who is not on the list, and only counts and logs it; requests must still be signed by the central server."`
	TrustedProxies   string          `env:"VEGA_TRUSTED_PROXIES" doc:"Load balancers that name the caller, addresses and networks as in VEGA_CENTRAL_ALLOWLIST; unset, nobody's word counts."`
	ProxyProtocol    string          `env:"VEGA_PROXY_PROTOCOL" envDefault:"off" oneof:"off|require" doc:"require: only VEGA_TRUSTED_PROXIES may connect, each connection begins with a PROXY header (version 1 or 2), and the address in it is judged."`
	ForwardedHeader  string          `env:"VEGA_FORWARDED_HEADER" doc:"The one header in which VEGA_TRUSTED_PROXIES that speak HTTPS to us name the caller, such as X-Forwarded-For; unset, none is read."`
	TLSCertFile      string          `env:"VEGA_TLS_CERT_FILE" first:"true" doc:"PEM file with the certificate chain of the public endpoint, leaf first; unset, certificates are automatic."`
	TLSKeyFile       string          `env:"VEGA_TLS_KEY_FILE" first:"true" doc:"PEM file with the private key of that certificate."`
	TLSMinVersion    string          `env:"VEGA_TLS_MIN_VERSION" envDefault:"1.2" oneof:"1.2|1.3" doc:"Lowest version of TLS taken: 1.2, with AEAD suites only, or 1.3."`
	ClientCAFile     string          `env:"VEGA_CENTRAL_CLIENT_CA_FILE" doc:"PEM file of authorities; set, the central server must also show a client certificate of one of them. Requests are signed in any case."`
	ClientKeyPins    string          `env:"VEGA_CENTRAL_CLIENT_KEY_PINS" doc:"SHA-256 digests of public keys in base64, comma separated, sha256/ in front or not; set, the central server must also show a client certificate of one of these keys."`
	PeerMessages     int             `env:"VEGA_PEER_MESSAGES_PER_SECOND" envDefault:"2000" range:"1-1000000" doc:"How many messages of one counterparty are taken in a second, five times as many for a moment; more are asked to come later, with 429."`

	ACMETermsAgreed bool            `env:"VEGA_ACME_TERMS_AGREED" first:"true" envDefault:"false" group:"Automatic certificates" doc:"Says that you agree to the terms of the certificate authority, which it wants before it certifies; needed without VEGA_TLS_CERT_FILE."`
	ACMEDirectory   settings.URL    `env:"VEGA_ACME_DIRECTORY" envDefault:"https://acme-v02.api.letsencrypt.org/directory" doc:"ACME directory of the certificate authority; unset, Let's Encrypt's."`
	ACMEEmail       string          `env:"VEGA_ACME_EMAIL" doc:"Where the authority writes to, if it does."`
	ACMEChallenge   string          `env:"VEGA_ACME_CHALLENGE" envDefault:"tls-alpn-01" oneof:"tls-alpn-01|http-01" doc:"How to show the authority that the host is ours: tls-alpn-01 on the public listener, which it calls at port 443; http-01 on a listener of its own, which it calls at port 80."`
	ACMEHTTPListen  settings.Listen `env:"VEGA_ACME_HTTP_LISTEN" envDefault:":80" doc:"Where to listen for the authority with http-01; not opened otherwise."`
	ACMEProfile     string          `env:"VEGA_ACME_PROFILE" doc:"Kind of certificate to order, by the authority's name for it; unset, the authority chooses, and for an IP address at Let's Encrypt it is shortlived, the one it offers."`
	ACMEKeyID       string          `env:"VEGA_ACME_EAB_KEY_ID" doc:"Key id of an account with the authority (external account binding), where it wants one."`
	ACMEMACKey      settings.Secret `env:"VEGA_ACME_EAB_MAC_KEY" secret:"true" doc:"Key that goes with it, in base64url."`
	ACMERootsFile   string          `env:"VEGA_ACME_ROOTS_FILE" doc:"PEM file of the root certificates to trust the directory's own endpoint with; unset, the system's."`
	ACMEStorage     string          `env:"VEGA_ACME_STORAGE" doc:"Directory of this enclave's own for accounts and certificates, sealed; unset, the database file's name and .acme."`

	Mode          string           `env:"VEGA_ENCLAVE_MODE" envDefault:"TR" unset:"assuming TR (Travel Rule)" group:"Alliance" doc:"What the enclave does; TR, the Travel Rule, is the one mode offered."`
	VASPID        identity.VASPID  `env:"VEGA_VASP_ID" required:"true" doc:"This VASP's id in the alliance, a decimal number."`
	NetworkID     string           `env:"VEGA_NETWORK_ID" envDefault:"alliance" doc:"Name of the alliance and its environment, 1 to 64 printable ASCII characters; messages from another one do not open."`
	APIEndpoint   settings.URL     `env:"VEGA_API_ENDPOINT" required:"true" doc:"https base URL of the central server."`
	AccessKey     string           `env:"VEGA_ALLIANCE_ACCESS_KEY" reload:"true" required:"true" doc:"Access key from the alliance's console."`
	SecretKey     settings.Secret  `env:"VEGA_ALLIANCE_SECRET_KEY" reload:"true" required:"true" secret:"true" doc:"Secret key from the alliance's console."`
	APIRootsFile  string           `env:"VEGA_API_ROOTS_FILE" first:"true" doc:"PEM file of the root certificates to trust the central server with; unset, the system's."`
	APICertFile   string           `env:"VEGA_API_CLIENT_CERT_FILE" doc:"PEM file with a certificate chain to show to the central server, leaf first, where it or a proxy before it asks for one."`
	APIKeyFile    string           `env:"VEGA_API_CLIENT_KEY_FILE" doc:"PEM file with the private key of that certificate."`
	SourceAddress settings.Address `env:"VEGA_SOURCE_ADDRESS" doc:"Local address of connections to the central server, when it must see a certain one."`
	IVMS101File   string           `env:"VEGA_VASP_IVMS101_FILE" first:"true" doc:"JSON file with this VASP's own legal person, sent sealed with every verification; unset, the counterparty falls back on the directory's word."`
	Validator     string           `env:"VEGA_PAYLOAD_VALIDATOR" envDefault:"lenient:" doc:"What is asked of IVMS101 payloads: lenient: what the contract asks, strict: all its rules in both directions, strict:?inbound=lenient those for what we send only."`

	UserURL            settings.URL    `env:"VEGA_VERIFICATION_API_PATH" required:"true" group:"VASP API" doc:"Full URL at which the backend verifies a user."`
	AccountURL         settings.URL    `env:"VEGA_VERIFICATION_ACCOUNT_API_PATH" required:"true" alias:"VEGA_VERIFICATION_ADDRESSES_API_PATH,VEGA_VERIFICATION_ADDRESS_API_PATH" doc:"Full URL at which the backend verifies an account."`
	TransactionURL     settings.URL    `env:"VEGA_VERIFICATION_TRANSACTION_API_PATH" doc:"Full URL at which the backend tells the status of a transaction."`
	CallbackURL        settings.URL    `env:"VEGA_VERIFICATION_CALLBACK_API_PATH" first:"true" unset:"the backend hears of no result and has to poll" doc:"Full URL at which the backend hears of results; unset, it polls."`
	AuthorizationToken settings.Secret `env:"VEGA_VERIFICATION_AUTHORIZATION_TOKEN" first:"true" reload:"true" secret:"true" doc:"Sent to the backend with every call, as Authorization: Bearer."`
	AuthorizationKey   string          `env:"VEGA_VERIFICATION_AUTHORIZATION_KEY" doc:"Name of the header that carries the token instead, as it is and without Bearer."`
	VerificationRoots  string          `env:"VEGA_VERIFICATION_ROOTS_FILE" doc:"PEM file of the root certificates to trust the backend with; unset, the system's."`
	VerificationCert   string          `env:"VEGA_VERIFICATION_CLIENT_CERT_FILE" doc:"PEM file with a certificate chain to show to the backend, leaf first, where it asks for one."`
	VerificationKey    string          `env:"VEGA_VERIFICATION_CLIENT_KEY_FILE" doc:"PEM file with the private key of that certificate."`
	VerificationSocket string          `env:"VEGA_VERIFICATION_SOCKET" doc:"Path of a Unix socket at which the backend listens: calls of http URLs above are made to it, whatever host they name."`
	VerificationIdle   settings.Millis `env:"VEGA_VERIFICATION_KEEPALIVE_TIMEOUT_MS" envDefault:"4000" range:"100-600000" doc:"How long an idle connection to the backend is kept, in ms; shorter than the backend keeps it."`
	UnsafePlainHTTP    bool            `env:"VEGA_UNSAFE_VERIFICATION_HTTP" envDefault:"false" doc:"Allows http URLs above that leave this machine: personal data and the token travel in clear."`

	EncryptionKey   settings.Secret `env:"VEGA_ENCRYPTION_KEY_BASE64" first:"true" secret:"true" group:"Database key" doc:"32 random bytes in base64 that protect the history and the private keys; make them with openssl rand -base64 32. With a decrypt API, what it is asked to decrypt, as it is."`
	KeySource       string          `env:"VEGA_KEY_SOURCE" envDefault:"plain:" doc:"Where that key comes from: plain: takes it from VEGA_ENCRYPTION_KEY_BASE64, file:/path from a file with the 32 bytes or their base64, decrypt-api:https://host/path from the API at that URL."`
	PreviousKey     settings.Secret `env:"VEGA_ENCRYPTION_KEY_BASE64_PREVIOUS" secret:"true" doc:"Another value of VEGA_ENCRYPTION_KEY_BASE64 that the history may be under, while that key is changed."`
	DecryptAPI      settings.URL    `env:"VEGA_DECRYPT_API_ENDPOINT" doc:"https URL of an API that decrypts VEGA_ENCRYPTION_KEY_BASE64, the same as VEGA_KEY_SOURCE=decrypt-api: and the URL."`
	DecryptToken    settings.Secret `env:"VEGA_DECRYPT_API_TOKEN" secret:"true" doc:"Sent to the decrypt API in the place of VEGA_VERIFICATION_AUTHORIZATION_TOKEN, which the backend knows, too."`
	DecryptRoots    string          `env:"VEGA_DECRYPT_API_ROOTS_FILE" doc:"PEM file of the root certificates to trust the decrypt API with; unset, the system's."`
	DecryptCertFile string          `env:"VEGA_DECRYPT_API_CLIENT_CERT_FILE" doc:"PEM file with the certificate chain that is shown to the decrypt API, leaf first; unset, none is."`
	DecryptKeyFile  string          `env:"VEGA_DECRYPT_API_CLIENT_KEY_FILE" doc:"PEM file with the private key of that certificate."`
	DecryptSealed   bool            `env:"VEGA_DECRYPT_API_SEALED" envDefault:"false" doc:"Asks the decrypt API to seal its answer to a key of this one call, and takes no other answer: proxies that end TLS in between see no key. deploy/decryptapi can do it."`
	UnsafeDecrypt   bool            `env:"VEGA_UNSAFE_DECRYPT_API_HTTP" envDefault:"false" doc:"Allows a decrypt API by http on another machine: the database key and the token travel in clear."`

	DatabaseFile    string `env:"VEGA_DATABASE_FILE" first:"true" envDefault:"enclave.db" group:"History" doc:"The history, an encrypted file; one running enclave per file."`
	UnsafeNetworkFS bool   `env:"VEGA_UNSAFE_DATABASE_NETWORK_FILESYSTEM" envDefault:"false" doc:"Allows the history on NFS, SMB, FUSE and the like, where a second enclave may write too and what was acknowledged may be lost."`
	AnchorFile      string `env:"VEGA_DATABASE_ANCHOR_FILE" doc:"File on another volume that says how far the history is, so that a whole older one put back is noticed at start; unset, it is not."`
	AuditSinks      string `env:"VEGA_AUDIT_SINKS" doc:"Where the audit log is copied to as it grows, comma separated: file:/path for a file on another volume, stdout: for the standard output; when none of them takes it, requests are refused. Unset, it stays in the history."`
	RetentionPeriod int    `env:"VEGA_RETENTION_PERIOD_DAYS" envDefault:"30" range:"1-3650" doc:"How many days of history share a data key, in days; counts only when the file is made."`
	RetentionDays   string `env:"VEGA_VERIFICATION_RETENTION_DAYS" doc:"Verifications older than so many days are erased for good, every hour; less than 1 counts as 1; unset, or not a number, none is."`

	PeerTrust      string          `env:"VEGA_PEER_TRUST" first:"true" envDefault:"tofu" oneof:"tofu|verified" group:"Counterparties" doc:"Counterparties to exchange with: tofu takes the central server's word for who they are at first contact, verified asks an operator to compare a safety number first."`
	PreferredSuite string          `env:"VEGA_PREFERRED_SUITE" envDefault:"x-wing" oneof:"x-wing|x25519" doc:"Kind of key to publish: x-wing also resists quantum computers, and then no weaker key of a counterparty is sealed to; x25519 accepts both."`
	RedisURL       settings.Secret `env:"VEGA_REDIS_URL" secret:"true" doc:"Redis in which counterparties' public keys are kept for the next start, too: redis://, rediss://, unix://, and redis+sentinel:// or redis+cluster://; unset, they are kept in process only."`
	RedisRootsFile string          `env:"VEGA_REDIS_ROOTS_FILE" doc:"PEM file of the root certificates to trust Redis with; unset, the system's."`
	PublicKeyTTL   settings.Millis `env:"VEGA_PUBLIC_KEY_TTL" envDefault:"1800000" min:"600000" doc:"How long a counterparty's public key is kept, in ms, at least 600000."`
	Timeout        settings.Millis `env:"VEGA_VERIFICATION_TIMEOUT_MS" envDefault:"600000" min:"1000" doc:"How long an unanswered verification waits before it ends as REQUEST-TIMEOUT, in ms."`
	ClockSkew      settings.Millis `env:"VEGA_CLOCK_SKEW_MS" envDefault:"60000" range:"0-600000" doc:"How far the clocks of two enclaves may differ, in ms."`

	MetricsListen  settings.Listen `env:"VEGA_METRICS_LISTEN" envDefault:"127.0.0.1:9464" group:"Operation" doc:"Where Prometheus reads /metrics."`
	VASPLabels     bool            `env:"VEGA_METRICS_VASP_LABELS" envDefault:"false" doc:"Counts exchanges by counterparty, too: whoever reads the metrics sees whom this VASP deals with, and how much."`
	AdminListen    settings.Listen `env:"VEGA_ADMIN_LISTEN" envDefault:"127.0.0.1:21118" doc:"Loopback address for /livez, /readyz and /startupz."`
	OperatorSocket string          `env:"VEGA_OPERATOR_SOCKET" doc:"Socket file for the commands peers and identity, which only the enclave's own user may open; unset, the database file's name and .sock."`
	ShutdownDelay  settings.Millis `env:"VEGA_SHUTDOWN_DELAY_MS" envDefault:"2000" range:"0-600000" doc:"How long the enclave goes on taking work after SIGTERM while /readyz says 503, in ms; longer than the probe's period times its failure threshold."`
	ShutdownGrace  settings.Millis `env:"VEGA_SHUTDOWN_GRACE_MS" envDefault:"10000" range:"1-600000" doc:"How long requests in progress may take after that, in ms; what is cut off then makes the exit code 1."`
	LogLevel       string          `env:"VEGA_LOG_LEVEL" reload:"true" envDefault:"info" oneof:"none|error|warn|info|debug" doc:"How much to log."`
	LogFormat      string          `env:"VEGA_LOG_FORMAT" envDefault:"json" oneof:"json|text" doc:"How a line of the log looks."`
}

var (
	_ settings.Checker = (*Settings)(nil)
	_ settings.Warner  = (*Settings)(nil)
	_ settings.Refuser = (*Settings)(nil)
)

// ServerAddress is host and port of the backend listener.
func (s *Settings) ServerAddress() string {
	host := s.ServerHost
	if s.UnsafeServerHost.IsSet() {
		host = s.UnsafeServerHost
	}
	return net.JoinHostPort(host.String(), strconv.Itoa(s.ServerPort))
}

// kekSize is the length of the key that wraps all other keys, in bytes.
const kekSize = 32

// defaultKeySource can be judged without asking anybody.
const defaultKeySource = "plain:"

// KEK is the key that wraps all other keys, 32 bytes, from one of the sources
// of a stock build.
func (s *Settings) KEK() ([]byte, error) {
	return s.KEKFrom(context.Background(), standard.Catalog())
}

// KEKFrom is KEK for a build with key sources of its own. Errors tell which
// setting is wrong and the length the key has, never a byte of it.
func (s *Settings) KEKFrom(ctx context.Context, c *plugins.Catalog) ([]byte, error) {
	source, err := s.openKeySource(ctx, c)
	if err != nil {
		return nil, err
	}
	return s.kekOf(ctx, source)
}

// kekOf asks a key source once.
func (s *Settings) kekOf(ctx context.Context, source plugins.KeySource) ([]byte, error) {
	const advice = "make one with: openssl rand -base64 32"
	key, err := source.Key(ctx, s.EncryptionKey.Reveal())
	var away *plugins.KeyAway
	switch {
	case errors.As(err, &away):
		return nil, named(s.keySourceName(), err)
	case err != nil:
		return nil, fmt.Errorf("%s: %w; %s", s.keySourceName(), err, advice)
	case len(key) != kekSize:
		return nil, fmt.Errorf("%s: the key has %d bytes, want %d; %s", s.keySourceName(), len(key), kekSize, advice)
	}
	return key, nil
}

// Check applies the rules that need more than one field, or more than its
// type. Fields that are not set are not its business.
func (s *Settings) Check() []error {
	var errs []error
	rule := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	rule(s.AnchorFile == "" || s.AnchorFile != s.DatabaseFile, "VEGA_DATABASE_ANCHOR_FILE: is the history itself; set it to a file of its own, on another volume")
	rule(s.Mode == "" || s.Mode == "TR", "VEGA_ENCLAVE_MODE: only TR is offered: owner verification (VN2, VN1_CALL, VN1_RESPONSE) needs another program; set VEGA_ENCLAVE_MODE=TR")
	rule(!s.ServerHost.IsSet() || s.ServerHost.Unmap().IsLoopback(), "VEGA_SERVER_HOST: is not a loopback address; set VEGA_UNSAFE_SERVER_HOST to allow it")
	rule(s.AdminListen == "" || s.AdminListen.Loopback(), "VEGA_ADMIN_LISTEN: is not a loopback address; in a pod, probe with the command: enclave healthcheck")
	rule(httpsOrUnset(s.PublicEndpoint), "VEGA_ENCLAVE_PUBLIC_ENDPOINT: must begin with https://")
	rule(httpsOrUnset(s.APIEndpoint), "VEGA_API_ENDPOINT: must begin with https://")
	rule(s.NetworkID == "" || networkID.MatchString(s.NetworkID), "VEGA_NETWORK_ID: must be 1 to 64 printable ASCII characters")
	rule(s.AccessKey == "" || visible.MatchString(s.AccessKey), "VEGA_ALLIANCE_ACCESS_KEY: must be printable ASCII without blanks")
	rule(!s.ServerToken.IsSet() || visible.MatchString(s.ServerToken.Reveal()), "VEGA_SERVER_TOKEN: must be printable ASCII without blanks")
	rule(!s.AuthorizationToken.IsSet() || fieldValue.MatchString(s.AuthorizationToken.Reveal()), "VEGA_VERIFICATION_AUTHORIZATION_TOKEN: must be printable ASCII")
	rule(s.AuthorizationKey == "" || fieldName.MatchString(s.AuthorizationKey), "VEGA_VERIFICATION_AUTHORIZATION_KEY: is not the name of an HTTP header")
	rule(httpsOrUnset(s.ACMEDirectory), "VEGA_ACME_DIRECTORY: must begin with https://")
	rule(s.ACMEEmail == "" || mailbox.MatchString(s.ACMEEmail), "VEGA_ACME_EMAIL: is not an address, as in operator@vasp.example")
	if err := s.checkCertificate(); err != nil {
		rule(false, "%w", err)
	}
	rule((s.APICertFile == "") == (s.APIKeyFile == ""), "VEGA_API_CLIENT_CERT_FILE, VEGA_API_CLIENT_KEY_FILE: one is set and the other not; set both")
	rule((s.VerificationCert == "") == (s.VerificationKey == ""), "VEGA_VERIFICATION_CLIENT_CERT_FILE, VEGA_VERIFICATION_CLIENT_KEY_FILE: one is set and the other not; set both")
	rule(s.VerificationSocket == "" || filepath.IsAbs(s.VerificationSocket) && len(s.VerificationSocket) <= longestSocket,
		"VEGA_VERIFICATION_SOCKET: must be a path that begins with / and has at most %d bytes", longestSocket)
	rule(s.VerificationSocket == "" || s.callsPlainHTTP(),
		"VEGA_VERIFICATION_SOCKET: no URL of the VASP API uses it: write those that shall as http://localhost/path")
	errs = append(errs, s.checkSources()...)
	errs = append(errs, s.checkListeners()...)
	_, err := edge.ParsePins(s.ClientKeyPins)
	rule(err == nil, "%w", named("VEGA_CENTRAL_CLIENT_KEY_PINS", err))
	if s.plainKey() {
		_, err := s.KEK()
		rule(err == nil, "%w", err)
	}
	errs = append(errs, s.checkDecryptAPI()...)
	errs = append(errs, s.checkAddresses()...)
	return append(errs, s.checkBackendURLs()...)
}

// checkCertificate wants one of the two ways to a certificate.
func (s *Settings) checkCertificate() error {
	switch {
	case s.TLSCertFile != "" && s.TLSKeyFile == "":
		return errors.New("VEGA_TLS_KEY_FILE is not set: it goes with VEGA_TLS_CERT_FILE; set both, or none for automatic certificates")
	case s.TLSCertFile == "" && s.TLSKeyFile != "":
		return errors.New("VEGA_TLS_CERT_FILE is not set: it goes with VEGA_TLS_KEY_FILE; set both, or none for automatic certificates")
	case s.TLSCertFile == "" && !s.ACMETermsAgreed:
		return errors.New("VEGA_ACME_TERMS_AGREED is not set: the public listener needs a certificate. Either name one with VEGA_TLS_CERT_FILE and VEGA_TLS_KEY_FILE, or have the enclave get one by itself: read the terms of the authority (Let's Encrypt, or VEGA_ACME_DIRECTORY) and set VEGA_ACME_TERMS_AGREED=true")
	}
	return nil
}

// ACMEStorageDir is where automatic certificates are kept.
func (s *Settings) ACMEStorageDir() string {
	if s.ACMEStorage != "" {
		return s.ACMEStorage
	}
	return s.DatabaseFile + ".acme"
}

// checkSources wants one list of callers, and somebody to trust before a
// caller's name is taken from another machine.
func (s *Settings) checkSources() []error {
	var errs []error
	rule := func(ok bool, sentence string) {
		if !ok {
			errs = append(errs, errors.New(sentence))
		}
	}
	required, named := s.ProxyProtocol == requireProxyProtocol, s.ForwardedHeader != ""
	rule(s.CentralAllowlist != "" || s.AllowlistFile != "", "VEGA_CENTRAL_ALLOWLIST is not set: give the addresses that the central server connects from, or VEGA_CENTRAL_ALLOWLIST_FILE with them")
	rule(s.CentralAllowlist == "" || s.AllowlistFile == "", "VEGA_CENTRAL_ALLOWLIST and VEGA_CENTRAL_ALLOWLIST_FILE are both set: keep one of them")
	rule(!required || s.TrustedProxies != "", "VEGA_PROXY_PROTOCOL: nobody is trusted to send the header; set VEGA_TRUSTED_PROXIES to the load balancers' addresses, or VEGA_PROXY_PROTOCOL=off")
	rule(!named || s.TrustedProxies != "", "VEGA_FORWARDED_HEADER: nobody is trusted to send it; set VEGA_TRUSTED_PROXIES to the load balancers' addresses, or unset VEGA_FORWARDED_HEADER")
	rule(!required || !named, "VEGA_PROXY_PROTOCOL and VEGA_FORWARDED_HEADER are both set: a load balancer that passes TLS on sends the PROXY protocol, one that ends TLS sends the header; keep one of them")
	rule(s.TrustedProxies == "" || required || named, "VEGA_TRUSTED_PROXIES: nothing is read from them; set VEGA_PROXY_PROTOCOL=require or VEGA_FORWARDED_HEADER, or unset VEGA_TRUSTED_PROXIES")
	if named {
		err := edge.CheckForwardedHeader(s.ForwardedHeader)
		rule(err == nil, fmt.Sprintf("VEGA_FORWARDED_HEADER: %v", err))
	}
	return errs
}

// requireProxyProtocol is the value of VEGA_PROXY_PROTOCOL that turns it on.
const requireProxyProtocol = "require"

// longestSocket is the longest path of a Unix socket that every system
// connects to, in bytes.
const longestSocket = 103

// checkListeners wants an address for each listener. Port 0 is always free.
func (s *Settings) checkListeners() []error {
	listeners := []struct{ name, address string }{
		{"VEGA_PUBLIC_LISTEN", string(s.PublicListen)}, {"VEGA_SERVER_PORT", s.ServerAddress()},
		{"VEGA_METRICS_LISTEN", string(s.MetricsListen)}, {"VEGA_ADMIN_LISTEN", string(s.AdminListen)},
	}
	if s.TLSCertFile == "" && s.ACMEChallenge == acme.HTTP01 {
		listeners = append(listeners, struct{ name, address string }{"VEGA_ACME_HTTP_LISTEN", string(s.ACMEHTTPListen)})
	}
	var errs []error
	for i, a := range listeners {
		for _, b := range listeners[:i] {
			if settings.Overlap(a.address, b.address) {
				errs = append(errs, fmt.Errorf("%s: listens where %s does; give each a port of its own", a.name, b.name))
			}
		}
	}
	return errs
}

type namedURL struct {
	name string
	url  settings.URL
}

func (s *Settings) backendURLs() []namedURL {
	return []namedURL{
		{"VEGA_VERIFICATION_API_PATH", s.UserURL},
		{"VEGA_VERIFICATION_ACCOUNT_API_PATH", s.AccountURL},
		{"VEGA_VERIFICATION_TRANSACTION_API_PATH", s.TransactionURL},
		{"VEGA_VERIFICATION_CALLBACK_API_PATH", s.CallbackURL},
	}
}

func (s *Settings) callsPlainHTTP() bool {
	return slices.ContainsFunc(s.backendURLs(), func(u namedURL) bool { return !httpsOrUnset(u.url) })
}

// checkBackendURLs refuses http to another machine. What goes through a socket
// goes to none.
func (s *Settings) checkBackendURLs() []error {
	var errs []error
	for _, u := range s.backendURLs() {
		if !s.UnsafePlainHTTP && s.VerificationSocket == "" && !httpsOrUnset(u.url) && !onThisMachine(u.url) {
			errs = append(errs, errors.New(u.name+": is http to another machine; use https, or set VEGA_UNSAFE_VERIFICATION_HTTP=true to allow it"))
		}
	}
	return errs
}

// checkAddresses refuses URLs of addresses that are never called. What a name
// leads to is judged when it is called.
func (s *Settings) checkAddresses() []error {
	urls := append(s.backendURLs(), namedURL{"VEGA_API_ENDPOINT", s.APIEndpoint}, namedURL{"VEGA_DECRYPT_API_ENDPOINT", s.DecryptAPI})
	var errs []error
	for _, u := range urls {
		if !u.url.IsSet() {
			continue
		}
		a, err := netip.ParseAddr(u.url.URL().Hostname())
		if err == nil && outward.Configured.Judge(a) != nil {
			errs = append(errs, errors.New(u.name+": is a link-local, multicast, unspecified or metadata address, which is never called; give the address of the service itself"))
		}
	}
	return errs
}

// Warnings says what is allowed and seldom wise.
func (s *Settings) Warnings() []string {
	var list []string
	warn := func(when bool, sentence string) {
		if when {
			list = append(list, sentence)
		}
	}
	warn(s.UnsafeServerHost.IsSet() && !s.UnsafeServerHost.Unmap().IsLoopback() && !s.ServerToken.IsSet(),
		"VEGA_UNSAFE_SERVER_HOST lets other machines read and send personal data: set VEGA_SERVER_TOKEN at least")
	warn(s.ReportOnly, "VEGA_UNSAFE_ALLOWLIST_REPORT_ONLY lets everybody see the certificate and send requests: only central's signature stands between them and this enclave; unset it when the log is as you expect")
	warn(s.UnsafePlainHTTP, "VEGA_UNSAFE_VERIFICATION_HTTP lets personal data and the token travel in clear")
	warn(s.AuthorizationKey != "" && !s.AuthorizationToken.IsSet(),
		"VEGA_VERIFICATION_AUTHORIZATION_KEY names a header that is not sent: VEGA_VERIFICATION_AUTHORIZATION_TOKEN is not set")
	warn(s.UnsafeNetworkFS, "VEGA_UNSAFE_DATABASE_NETWORK_FILESYSTEM lets two enclaves write to one history, and a power cut lose what was acknowledged, if the filesystem does")
	warn(s.AnchorFile != "" && filepath.Dir(s.AnchorFile) == filepath.Dir(s.DatabaseFile),
		"VEGA_DATABASE_ANCHOR_FILE lies beside the history: who puts back an older directory puts back both; set it to a path on another volume")
	warn(s.ACMETermsAgreed && s.TLSCertFile != "", "VEGA_ACME_TERMS_AGREED does nothing: the certificate is the one that VEGA_TLS_CERT_FILE names")
	warn(s.ACMEHTTPListen != ":80" && (s.TLSCertFile != "" || s.ACMEChallenge != acme.HTTP01),
		"VEGA_ACME_HTTP_LISTEN does nothing: it is opened with VEGA_ACME_CHALLENGE=http-01 only")
	warn(s.PeerTrust == "tofu", "VEGA_PEER_TRUST=tofu takes the central server's word for who a counterparty is at first contact")
	list = append(list, s.warnOfCustody()...)
	warn(s.plainKey() && s.EncryptionKey.IsSet() && !s.EncryptionKey.FromFile(),
		"VEGA_ENCRYPTION_KEY_BASE64 stands in the environment, which other processes may read: VEGA_ENCRYPTION_KEY_BASE64_FILE keeps it in a file")
	return append(list, s.warnOfDecryptAPI()...)
}

// Refused lists the contract's variables that this enclave cannot honour.
func (*Settings) Refused() []settings.Refusal {
	return []settings.Refusal{
		{Names: []string{
			"VEGA_DATABASE_CLIENT", "VEGA_DATABASE_USERNAME", "VEGA_DATABASE_PASSWORD", "VEGA_DATABASE_HOST",
			"VEGA_DATABASE_PORT", "VEGA_DATABASE_DB", "VEGA_DATABASE_SEARCH_PATH", "VEGA_DATABASE_POOL_MIN",
			"VEGA_DATABASE_POOL_MAX", "VEGA_DATABASE_SSL", "VEGA_DATABASE_SSL_CA", "VEGA_DATABASE_SSL_KEY",
			"VEGA_DATABASE_SSL_CERT", "VEGA_DATABASE_SSL_CAPATH", "VEGA_DATABASE_SSL_CIPHER",
			"VEGA_DATABASE_SSL_REJECT_UNAUTHORIZED",
		}, Instead: "this enclave keeps its history in one encrypted file and uses no database server; remove them and set VEGA_DATABASE_FILE to a path on a lasting volume"},
		{Names: []string{
			"VEGA_CHAINALYSIS_SANCTION_API_KEY", "VEGA_CHAINALYSIS_KYT_API_KEY", "VEGA_REFINITIV_WCO_API_KEY",
			"VEGA_REFINITIV_WCO_API_SECRET", "VEGA_REFINITIV_WCO_GROUP_ID",
		}, Instead: "this enclave screens nobody; remove them and call the screening provider from the backend"},
		{Names: []string{"VEGA_VERIFICATION_VERIFY_NAME_V2_API_PATH", "VEGA_VERIFICATION_VERIFY_NAME_TRANSACTION_API_PATH"},
			Instead: "this enclave does not verify owners (VerifyName); remove them"},
	}
}

var (
	networkID  = regexp.MustCompile(`^[ -~]{1,64}$`)
	visible    = regexp.MustCompile(`^[!-~]+$`)
	fieldValue = regexp.MustCompile(`^[!-~]([ -~]*[!-~])?$`)
	mailbox    = regexp.MustCompile(`^[!-?A-~]+@[!-?A-~]+$`)
	fieldName  = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$") // token of RFC 9110
)

func httpsOrUnset(u settings.URL) bool { return !u.IsSet() || u.URL().Scheme == "https" }

// onThisMachine is outward.ThisMachine of a URL.
func onThisMachine(u settings.URL) bool { return outward.ThisMachine(u.URL().Hostname()) }
