package centralcmd

import (
	"errors"
	"strings"

	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
	"github.com/vasp-enclave/vasp-enclave/proxy/outward"
)

// Prefix is what the names of this program's variables begin with.
const Prefix = "CENTRAL_"

// Settings is what an operator of central decides. The help text and the
// README's table are made from it.
type Settings struct {
	Listen   settings.Listen `env:"CENTRAL_LISTEN" envDefault:"127.0.0.1:8443" group:"Public listener" doc:"Where members' enclaves connect to, over TLS."`
	BasePath string          `env:"CENTRAL_BASE_PATH" doc:"Path below which the wire lies, as in the members' VEGA_API_ENDPOINT; a proxy in front may cut it off."`
	CertFile string          `env:"CENTRAL_TLS_CERT_FILE" required:"true" doc:"PEM file with the certificate chain, central's own first."`
	KeyFile  string          `env:"CENTRAL_TLS_KEY_FILE" required:"true" doc:"PEM file with the private key of the certificate."`

	MembersFile string `env:"CENTRAL_MEMBERS_FILE" required:"true" group:"Alliance" doc:"YAML or JSON file with the members, their addresses and keys."`
	StateFile   string `env:"CENTRAL_STATE_FILE" required:"true" doc:"File that central keeps members' identities and registrations in; made at first start."`

	RootsFile     string           `env:"CENTRAL_ROOTS_FILE" group:"Connections to enclaves" doc:"PEM file with the roots of the enclaves' certificates; unset: the system's."`
	ClientCert    string           `env:"CENTRAL_CLIENT_CERT_FILE" doc:"PEM file with a certificate chain that central shows to enclaves, leaf first, where they ask for one."`
	ClientKey     string           `env:"CENTRAL_CLIENT_KEY_FILE" doc:"PEM file with the private key of that certificate."`
	SourceAddress settings.Address `env:"CENTRAL_SOURCE_ADDRESS" doc:"Local address that connections to enclaves come from; unset: any. The enclaves must allow it."`
	UnsafePrivate bool             `env:"CENTRAL_UNSAFE_PRIVATE_MEMBERS" envDefault:"false" doc:"Lets members register private addresses, for an alliance inside one network: each member can then have central call anything in there."`

	MetricsListen settings.Listen `env:"CENTRAL_METRICS_LISTEN" envDefault:"127.0.0.1:9465" group:"Operation" doc:"Where /metrics, /livez, /readyz and /startupz are."`
	ShutdownDelay settings.Millis `env:"CENTRAL_SHUTDOWN_DELAY_MS" envDefault:"2000" range:"0-600000" doc:"How long central goes on taking requests after SIGTERM while /readyz says 503, in ms."`
	ShutdownGrace settings.Millis `env:"CENTRAL_SHUTDOWN_GRACE_MS" envDefault:"10000" range:"1-600000" doc:"How long requests in progress may take after that, in ms; what is cut off then makes the exit code 1."`
	LogLevel      string          `env:"CENTRAL_LOG_LEVEL" reload:"true" envDefault:"info" oneof:"none|error|warn|info|debug" doc:"How much to log."`
	LogFormat     string          `env:"CENTRAL_LOG_FORMAT" envDefault:"json" oneof:"json|text" doc:"How a line of the log looks."`

	UnsafeLoopback   bool   `env:"CENTRAL_UNSAFE_LOOPBACK_MEMBERS" envDefault:"false" group:"Sandboxes and tests" doc:"Lets members register loopback addresses: they can then have central call what listens on its own machine only."`
	UnsafeRecordFile string `env:"CENTRAL_UNSAFE_RECORD_FILE" doc:"File that everything relayed is written to, one JSON object a line. Never in production: central promises to keep nothing."`
}

// Check says what is wrong beyond single fields.
func (s *Settings) Check() (problems []error) {
	if s.BasePath != "" && !strings.HasPrefix(s.BasePath, "/") {
		problems = append(problems, errors.New("CENTRAL_BASE_PATH: must begin with /, as in /alliance"))
	}
	if (s.ClientCert == "") != (s.ClientKey == "") {
		problems = append(problems, errors.New("CENTRAL_CLIENT_CERT_FILE, CENTRAL_CLIENT_KEY_FILE: one is set and the other not; set both"))
	}
	return problems
}

// reach is where members' enclaves may be.
func (s *Settings) reach() outward.Class {
	reach := outward.Global
	if s.UnsafePrivate {
		reach |= outward.Private
	}
	if s.UnsafeLoopback {
		reach |= outward.Loopback
	}
	return reach
}

// Warnings says what is allowed and seldom wise.
func (s *Settings) Warnings() (warnings []string) {
	if s.UnsafeRecordFile != "" {
		warnings = append(warnings, "CENTRAL_UNSAFE_RECORD_FILE is set: everything relayed is written down; fit for sandboxes only")
	}
	if s.UnsafeLoopback {
		warnings = append(warnings, "CENTRAL_UNSAFE_LOOPBACK_MEMBERS is set: members can have central call what listens on this machine only; fit for sandboxes only")
	}
	if s.UnsafePrivate {
		warnings = append(warnings, "CENTRAL_UNSAFE_PRIVATE_MEMBERS is set: members can have central call any private address that it can reach; let a firewall stop what is no enclave")
	}
	if !s.MetricsListen.Loopback() {
		warnings = append(warnings, "CENTRAL_METRICS_LISTEN is not on loopback: let nobody but Prometheus reach it")
	}
	return warnings
}
