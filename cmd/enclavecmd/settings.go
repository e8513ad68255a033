package enclavecmd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"

	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/plugins"
	"github.com/vasp-enclave/vasp-enclave/plugins/standard"
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
	ServerToken      settings.Secret  `env:"VEGA_SERVER_TOKEN" secret:"true" doc:"When set, the backend must send it as Authorization: Bearer."`

	PublicEndpoint   settings.URL    `env:"VEGA_ENCLAVE_PUBLIC_ENDPOINT" required:"true" group:"Public listener" doc:"https URL at which the central server reaches this enclave; it may have a path."`
	PublicListen     settings.Listen `env:"VEGA_PUBLIC_LISTEN" envDefault:":8443" doc:"Where to listen for the central server."`
	CentralAllowlist string          `env:"VEGA_CENTRAL_ALLOWLIST" required:"true" doc:"Addresses and networks the central server connects from, comma separated; nobody else sees a certificate. IP addresses only, no names."`
	TLSCertFile      string          `env:"VEGA_TLS_CERT_FILE" required:"true" doc:"PEM file with the certificate chain of the public endpoint, leaf first."`
	TLSKeyFile       string          `env:"VEGA_TLS_KEY_FILE" required:"true" doc:"PEM file with the private key of that certificate."`

	Mode          string           `env:"VEGA_ENCLAVE_MODE" envDefault:"TR" unset:"assuming TR (Travel Rule)" group:"Alliance" doc:"What the enclave does; TR, the Travel Rule, is the one mode offered."`
	VASPID        identity.VASPID  `env:"VEGA_VASP_ID" required:"true" doc:"This VASP's id in the alliance, a decimal number."`
	NetworkID     string           `env:"VEGA_NETWORK_ID" envDefault:"alliance" doc:"Name of the alliance and its environment, 1 to 64 printable ASCII characters; messages from another one do not open."`
	APIEndpoint   settings.URL     `env:"VEGA_API_ENDPOINT" required:"true" doc:"https base URL of the central server."`
	AccessKey     string           `env:"VEGA_ALLIANCE_ACCESS_KEY" required:"true" doc:"Access key from the alliance's console."`
	SecretKey     settings.Secret  `env:"VEGA_ALLIANCE_SECRET_KEY" required:"true" secret:"true" doc:"Secret key from the alliance's console."`
	APIRootsFile  string           `env:"VEGA_API_ROOTS_FILE" doc:"PEM file of the root certificates to trust the central server with; unset, the system's."`
	SourceAddress settings.Address `env:"VEGA_SOURCE_ADDRESS" doc:"Local address of connections to the central server, when it must see a certain one."`
	IVMS101File   string           `env:"VEGA_VASP_IVMS101_FILE" doc:"JSON file with this VASP's own legal person, sent sealed with every verification; unset, the counterparty falls back on the directory's word."`
	Validator     string           `env:"VEGA_PAYLOAD_VALIDATOR" envDefault:"lenient:" doc:"What is asked of IVMS101 payloads: lenient: what the contract asks, strict: all its rules in both directions, strict:?inbound=lenient those for what we send only."`

	UserURL            settings.URL    `env:"VEGA_VERIFICATION_API_PATH" required:"true" group:"VASP API" doc:"Full URL at which the backend verifies a user."`
	AccountURL         settings.URL    `env:"VEGA_VERIFICATION_ACCOUNT_API_PATH" required:"true" alias:"VEGA_VERIFICATION_ADDRESSES_API_PATH,VEGA_VERIFICATION_ADDRESS_API_PATH" doc:"Full URL at which the backend verifies an account."`
	TransactionURL     settings.URL    `env:"VEGA_VERIFICATION_TRANSACTION_API_PATH" doc:"Full URL at which the backend tells the status of a transaction."`
	CallbackURL        settings.URL    `env:"VEGA_VERIFICATION_CALLBACK_API_PATH" unset:"the backend hears of no result and has to poll" doc:"Full URL at which the backend hears of results; unset, it polls."`
	AuthorizationToken settings.Secret `env:"VEGA_VERIFICATION_AUTHORIZATION_TOKEN" secret:"true" doc:"Sent to the backend with every call, as Authorization: Bearer."`
	AuthorizationKey   string          `env:"VEGA_VERIFICATION_AUTHORIZATION_KEY" doc:"Name of the header that carries the token instead, as it is and without Bearer."`
	VerificationRoots  string          `env:"VEGA_VERIFICATION_ROOTS_FILE" doc:"PEM file of the root certificates to trust the backend with; unset, the system's."`
	UnsafePlainHTTP    bool            `env:"VEGA_UNSAFE_VERIFICATION_HTTP" envDefault:"false" doc:"Allows http URLs above that leave this machine: personal data and the token travel in clear."`

	EncryptionKey   settings.Secret `env:"VEGA_ENCRYPTION_KEY_BASE64" secret:"true" group:"Keys and history" doc:"32 random bytes in base64 that protect the history and the private keys; make them with openssl rand -base64 32."`
	KeySource       string          `env:"VEGA_KEY_SOURCE" envDefault:"plain:" doc:"Where that key comes from: plain: takes it from VEGA_ENCRYPTION_KEY_BASE64, file:/path from a file with the 32 bytes or their base64."`
	PreviousKey     settings.Secret `env:"VEGA_ENCRYPTION_KEY_BASE64_PREVIOUS" secret:"true" doc:"Another value of VEGA_ENCRYPTION_KEY_BASE64 that the history may be under, while that key is changed."`
	DatabaseFile    string          `env:"VEGA_DATABASE_FILE" envDefault:"enclave.db" doc:"The history, an encrypted file; one running enclave per file."`
	RetentionPeriod int             `env:"VEGA_RETENTION_PERIOD_DAYS" envDefault:"30" range:"1-3650" doc:"How many days of history share a data key, in days; counts only when the file is made."`
	RetentionDays   string          `env:"VEGA_VERIFICATION_RETENTION_DAYS" doc:"Verifications older than so many days are erased for good, every hour; less than 1 counts as 1; unset, or not a number, none is."`
	RedisURL        settings.Secret `env:"VEGA_REDIS_URL" secret:"true" doc:"Redis in which counterparties' public keys are kept for the next start, too: redis://, rediss://, unix://, and redis+sentinel:// or redis+cluster://; unset, they are kept in process only."`
	RedisRootsFile  string          `env:"VEGA_REDIS_ROOTS_FILE" doc:"PEM file of the root certificates to trust Redis with; unset, the system's."`
	PublicKeyTTL    settings.Millis `env:"VEGA_PUBLIC_KEY_TTL" envDefault:"1800000" min:"600000" doc:"How long a counterparty's public key is kept, in ms, at least 600000."`
	PeerTrust       string          `env:"VEGA_PEER_TRUST" envDefault:"tofu" oneof:"tofu|verified" doc:"Counterparties to exchange with: tofu takes the central server's word for who they are at first contact, verified asks an operator to compare a safety number first."`
	PreferredSuite  string          `env:"VEGA_PREFERRED_SUITE" envDefault:"x-wing" oneof:"x-wing|x25519" doc:"Kind of key to publish: x-wing also resists quantum computers, and then no weaker key of a counterparty is sealed to; x25519 accepts both."`
	Timeout         settings.Millis `env:"VEGA_VERIFICATION_TIMEOUT_MS" envDefault:"600000" min:"1000" doc:"How long an unanswered verification waits before it ends as REQUEST-TIMEOUT, in ms."`
	ClockSkew       settings.Millis `env:"VEGA_CLOCK_SKEW_MS" envDefault:"60000" range:"0-600000" doc:"How far the clocks of two enclaves may differ, in ms."`

	MetricsListen  settings.Listen `env:"VEGA_METRICS_LISTEN" envDefault:"127.0.0.1:9464" group:"Operation" doc:"Where Prometheus reads /metrics."`
	AdminListen    settings.Listen `env:"VEGA_ADMIN_LISTEN" envDefault:"127.0.0.1:21118" doc:"Loopback address for /livez and /readyz."`
	OperatorSocket string          `env:"VEGA_OPERATOR_SOCKET" doc:"Socket file for the commands peers and identity, which only the enclave's own user may open; unset, the database file's name and .sock."`
	LogLevel       string          `env:"VEGA_LOG_LEVEL" envDefault:"info" oneof:"none|error|warn|info|debug" doc:"How much to log."`
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
	const advice = "make one with: openssl rand -base64 32"
	source, err := c.KeySources.Open(ctx, s.KeySource)
	if err != nil {
		return nil, fmt.Errorf("VEGA_KEY_SOURCE: %w", err)
	}
	name := "VEGA_KEY_SOURCE"
	if s.KeySource == defaultKeySource {
		name = "VEGA_ENCRYPTION_KEY_BASE64"
	}
	key, err := source.Key(ctx, s.EncryptionKey.Reveal())
	if err != nil {
		return nil, fmt.Errorf("%s: %w; %s", name, err, advice)
	}
	if len(key) != kekSize {
		return nil, fmt.Errorf("%s: the key has %d bytes, want %d; %s", name, len(key), kekSize, advice)
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
	if s.KeySource == defaultKeySource {
		_, err := s.KEK()
		rule(err == nil, "%w", err)
	}
	return append(errs, s.checkBackendURLs()...)
}

// checkBackendURLs refuses http to another machine.
func (s *Settings) checkBackendURLs() []error {
	var errs []error
	for _, u := range []struct {
		name string
		url  settings.URL
	}{
		{"VEGA_VERIFICATION_API_PATH", s.UserURL},
		{"VEGA_VERIFICATION_ACCOUNT_API_PATH", s.AccountURL},
		{"VEGA_VERIFICATION_TRANSACTION_API_PATH", s.TransactionURL},
		{"VEGA_VERIFICATION_CALLBACK_API_PATH", s.CallbackURL},
	} {
		if !s.UnsafePlainHTTP && !httpsOrUnset(u.url) && !onThisMachine(u.url) {
			errs = append(errs, errors.New(u.name+": is http to another machine; use https, or set VEGA_UNSAFE_VERIFICATION_HTTP=true to allow it"))
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
	warn(s.UnsafePlainHTTP, "VEGA_UNSAFE_VERIFICATION_HTTP lets personal data and the token travel in clear")
	warn(s.AuthorizationKey != "" && !s.AuthorizationToken.IsSet(),
		"VEGA_VERIFICATION_AUTHORIZATION_KEY names a header that is not sent: VEGA_VERIFICATION_AUTHORIZATION_TOKEN is not set")
	warn(s.PeerTrust == "tofu", "VEGA_PEER_TRUST=tofu takes the central server's word for who a counterparty is at first contact")
	list = append(list, s.warnOfCustody()...)
	warn(s.EncryptionKey.IsSet() && !s.EncryptionKey.FromFile(),
		"VEGA_ENCRYPTION_KEY_BASE64 stands in the environment, which other processes may read: VEGA_ENCRYPTION_KEY_BASE64_FILE keeps it in a file")
	return list
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
		{Names: []string{"VEGA_DECRYPT_API_ENDPOINT"},
			Instead: "this enclave does not ask a decrypt API; remove it and set VEGA_ENCRYPTION_KEY_BASE64, or VEGA_ENCRYPTION_KEY_BASE64_FILE, to the decrypted key"},
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
	fieldName  = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$") // token of RFC 9110
)

func httpsOrUnset(u settings.URL) bool { return !u.IsSet() || u.URL().Scheme == "https" }

// onThisMachine tells whether a URL's host is the loopback, by address or by
// the one name that always means it.
func onThisMachine(u settings.URL) bool {
	host := u.URL().Hostname()
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}
