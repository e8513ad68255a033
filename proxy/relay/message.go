package relay

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/wirejson"
)

// Registration is what an enclave tells central of itself, at start and with
// every heartbeat.
type Registration struct {
	PublicEndpoint string   `json:"publicEndpoint"` // https URL, see ParseEndpoint
	Version        string   `json:"version"`        // of the enclave, 1 to 64 printable ASCII characters
	Suites         []string `json:"suites"`         // it can open, best first
	Identity       string   `json:"identity"`       // base64 of its identity chain
	Instance       string   `json:"instance"`       // UUID, made anew at each start
	// Replace asks central to take this identity though it does not continue
	// the one it knows: that one is lost, or no longer the member's alone.
	Replace bool `json:"replace,omitempty"`
}

// InvalidError says which field of a message is wrong. Its Code is
// INVALID- and the field's name.
type InvalidError struct {
	Code    string
	Problem string
}

// Error is a sentence without the field's value.
func (e *InvalidError) Error() string { return e.Problem }

func invalid(field, format string, args ...any) error {
	return &InvalidError{Code: invalidPrefix + field, Problem: fmt.Sprintf(format, args...)}
}

// ParseRegistration reads a registration. Unknown and duplicate members and
// other spellings of their names are refused: two readers must not understand
// it differently. The identity chain is decoded and not looked into. Errors
// are *InvalidError.
func ParseRegistration(b []byte) (*Registration, error) {
	r := new(Registration)
	if err := wirejson.Unmarshal(b, r, wirejson.RefuseUnknown()); err != nil {
		return nil, invalid("REGISTRATION", "%v", err)
	}
	if _, err := ParseEndpoint(r.PublicEndpoint); err != nil {
		return nil, invalid("PUBLIC-ENDPOINT", "publicEndpoint %v", err)
	}
	id, err := uuid.Parse(r.Instance)
	switch {
	case !isPrintable(r.Version, 64):
		return nil, invalid("VERSION", "version must be 1 to 64 printable ASCII characters")
	case !areSuites(r.Suites):
		return nil, invalid("SUITES", "suites must be 1 to 16 different names of lower-case letters, digits and -")
	case err != nil || id.String() != r.Instance:
		return nil, invalid("INSTANCE", "instance must be a UUID in its usual form")
	}
	if _, err := r.Chain(); err != nil {
		return nil, invalid("IDENTITY", "identity %v", err)
	}
	return r, nil
}

// Chain is the decoded identity chain, for identity.ParseChain.
func (r *Registration) Chain() ([]byte, error) { return decodeChain(r.Identity) }

func decodeChain(text string) ([]byte, error) {
	if text == "" {
		return nil, errors.New("is missing")
	}
	if len(text) > base64.StdEncoding.EncodedLen(identity.MaxChain) {
		return nil, errors.New("is longer than an identity chain")
	}
	chain, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || base64.StdEncoding.EncodeToString(chain) != text {
		return nil, errors.New("must be base64 with padding")
	}
	return chain, nil
}

func isPrintable(text string, most int) bool {
	for _, r := range text {
		if r < ' ' || r > '~' {
			return false
		}
	}
	return text != "" && len(text) <= most
}

func areSuites(names []string) bool {
	seen := make(map[string]bool)
	for _, name := range names {
		if name == "" || len(name) > 32 || seen[name] || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
		seen[name] = true
	}
	return len(names) > 0 && len(names) <= 16
}

// Lease is central's answer to a registration.
type Lease struct {
	LeaseMs     int64 `json:"leaseMs"`     // how long it counts
	HeartbeatMs int64 `json:"heartbeatMs"` // how often to repeat it
	// VASPID is the member that the access key belongs to, so that an enclave
	// with another VASP's key learns it at once.
	VASPID identity.VASPID `json:"vaspId"`
}

// Heartbeat is how often to repeat the registration.
func (l *Lease) Heartbeat() time.Duration { return time.Duration(l.HeartbeatMs) * time.Millisecond }

// Duration is how long the registration counts.
func (l *Lease) Duration() time.Duration { return time.Duration(l.LeaseMs) * time.Millisecond }

// ParseLease reads a lease. A heartbeat faster than a second or slower than
// the lease is refused.
func ParseLease(b []byte) (*Lease, error) {
	l := new(Lease)
	if err := wirejson.Unmarshal(b, l, wirejson.RefuseUnknown()); err != nil {
		return nil, err
	}
	const day = 24 * 60 * 60 * 1000
	if l.VASPID == 0 || l.HeartbeatMs < 1000 || l.HeartbeatMs >= l.LeaseMs || l.LeaseMs > day {
		return nil, errors.New("lease without vaspId, or with a heartbeat that does not fit it")
	}
	return l, nil
}

// Directory is the VASPs that a member is connected with, itself included.
type Directory struct {
	VASPs []Member `json:"vasps"`
}

// Member is one VASP as central knows it: the fields of contract section 2.2,
// and what peers need to reach its enclave.
type Member struct {
	Health         string          `json:"health"` // UP or DOWN
	VASPID         identity.VASPID `json:"vaspId"`
	VASPName       string          `json:"vaspName"`
	LegalName      string          `json:"legalName,omitempty"`
	Jurisdiction   string          `json:"jurisdiction,omitempty"`
	IsAlliance     bool            `json:"isAlliance"`
	Country        string          `json:"country,omitempty"`
	CountryCode    string          `json:"countryCode,omitempty"` // ISO 3166-1 alpha-2
	Protocol       string          `json:"protocol"`              // VERIFYVASP
	LicensedStatus string          `json:"licensedStatus,omitempty"`
	VASPStatus     string          `json:"vaspStatus"` // VERIFIED, or VERIFIED-MEMBER once its enclave has registered
	CreatedAt      string          `json:"createdAt"`  // see Timestamp
	UpdatedAt      string          `json:"updatedAt"`

	Identity       string   `json:"identity,omitempty"` // base64 of the identity chain; "" until it has registered
	Suites         []string `json:"suites,omitempty"`
	EnclaveVersion string   `json:"enclaveVersion,omitempty"`
}

// Values of Member's closed fields.
const (
	Up             = "UP"
	Down           = "DOWN"
	Protocol       = "VERIFYVASP"
	StatusVerified = "VERIFIED"
	StatusMember   = "VERIFIED-MEMBER"
)

// Timestamp is the contract's form of a time: UTC with milliseconds.
func Timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// directoryLimits let a directory hold some thousand members.
var directoryLimits = wirejson.Limits{Bytes: maxDirectory, Tokens: 1 << 20}

const maxDirectory = 32 << 20

// ParseDirectory reads a directory, as strictly as ParseRegistration: it
// decides whom an enclave believes at first contact. A VASP that is in it
// twice is an error.
func ParseDirectory(b []byte) (*Directory, error) {
	d := new(Directory)
	if err := wirejson.Unmarshal(b, d, wirejson.RefuseUnknown(), wirejson.WithLimits(directoryLimits)); err != nil {
		return nil, err
	}
	seen := make(map[identity.VASPID]bool)
	for i := range d.VASPs {
		m := &d.VASPs[i]
		switch {
		case m.VASPID == 0:
			return nil, fmt.Errorf("directory entry %d has no vaspId", i)
		case seen[m.VASPID]:
			return nil, fmt.Errorf("directory has VASP %s twice", m.VASPID)
		case m.Health != Up && m.Health != Down:
			return nil, fmt.Errorf("directory entry of VASP %s has no health", m.VASPID)
		}
		if _, err := decodeChain(m.Identity); m.Identity != "" && err != nil {
			return nil, fmt.Errorf("directory entry of VASP %s: identity %w", m.VASPID, err)
		}
		seen[m.VASPID] = true
	}
	return d, nil
}

// Health is an enclave's answer to a signed health poll. The instance tells
// central whether the enclave that registered is still the one that answers.
type Health struct {
	Status   string `json:"status"` // UP
	Version  string `json:"version"`
	Instance string `json:"instance"`
}

// ParseHealth reads a health report. Unknown members are let be.
func ParseHealth(b []byte) (*Health, error) {
	h := new(Health)
	if err := wirejson.Unmarshal(b, h, wirejson.WithLimits(wirejson.Limits{Bytes: MaxHealth})); err != nil {
		return nil, err
	}
	return h, nil
}

// MaxHealth is the most bytes a health report may have.
const MaxHealth = 4 << 10
