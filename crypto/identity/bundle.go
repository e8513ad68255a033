package identity

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/internal/tlv"
)

// Fields of an encoded bundle, in order; never renumber.
const (
	bundleVASP uint16 = iota + 1
	bundleIdentity
	bundleSuite
	bundleKeyID
	bundlePublicKey
	bundleType
	bundleScope
	bundleEpoch
	bundleAudience
	bundleSerial
	bundleNotBefore
	bundleNotAfter
	bundleNonce
	bundleSuites
	bundleSignature
)

// maxSuites bounds the list of suites a bundle announces.
const maxSuites = 16

// MaxBundle is the most bytes an encoded bundle can have.
const MaxBundle = 2 << 10

var (
	// ErrExpired says that a bundle's time is over.
	ErrExpired = errors.New("key bundle has expired")
	// ErrNotYetValid says that a bundle's time has not come.
	ErrNotYetValid = errors.New("key bundle is not valid yet")
)

// Bundle is a hybrid public key with what its owner promises about it, signed
// by the owner's identity. A key is used only from such a bundle, so that who
// relays or caches it cannot put another in its place (attacks K1, K2, K6).
type Bundle struct {
	VASP      VASPID  // the owner
	Identity  *Public // who signed; the caller compares it with its pin
	Suite     Suite
	KeyID     KeyID
	PublicKey []byte // raw, Suite.PublicKeySize() bytes
	Type      KeyType
	Scope     [32]byte // what a PerAddress key is limited to; zero for reply keys and other types
	Epoch     uint64   // which of the owner's epoch secrets, PerAddress only
	Audience  VASPID   // who may use it; 0 is anyone
	Serial    uint64   // rises with every bundle the owner signs (attack K7)
	NotBefore time.Time
	NotAfter  time.Time
	Nonce     [32]byte // the requester's, echoed; zero when nobody asked
	Suites    []Suite  // all that the owner supports, rising (attack K5)
}

// SignBundle encodes and signs a bundle. It fills in VASP, Identity and
// KeyID; times are cut to milliseconds. An error names the field that does
// not fit.
func (s *Signer) SignBundle(b Bundle) ([]byte, error) {
	b.VASP, b.Identity = s.public.vasp, s.public
	b.KeyID = NewKeyID(b.Suite, b.PublicKey)
	if err := b.check(); err != nil {
		return nil, fmt.Errorf("sign key bundle: %v", err)
	}
	body := b.encode()
	sig, err := s.Sign(purposeBundle, body)
	if err != nil {
		return nil, fmt.Errorf("sign key bundle: %v", err)
	}
	return tlv.Append(body, bundleSignature, sig), nil
}

// ParseBundle reads a signed bundle: one canonical encoding, a key id that is
// the key's own, and a signature by the identity inside. It does not know
// whether that identity is the right one: compare Identity with the pin, and
// ask ValidAt.
func ParseBundle(encoded []byte) (*Bundle, error) {
	b, body, sig, err := decodeBundle(encoded)
	if err != nil {
		return nil, fmt.Errorf("key bundle: %v", err)
	}
	if err := b.check(); err != nil {
		return nil, fmt.Errorf("key bundle: %v", err)
	}
	if err := b.Identity.Verify(purposeBundle, body, sig); err != nil {
		return nil, fmt.Errorf("key bundle: %v", err)
	}
	return b, nil
}

func decodeBundle(encoded []byte) (b *Bundle, body, sig []byte, err error) {
	if len(encoded) == 0 || len(encoded) > MaxBundle || encoded[0] != formatV1 {
		return nil, nil, nil, errors.New("unknown format")
	}
	b = new(Bundle)
	d := tlv.NewDecoder(encoded[1:])
	b.VASP = VASPID(d.Uint64(bundleVASP))
	public := d.Range(bundleIdentity, publicSize, publicSize)
	b.Suite = Suite(d.Uint8(bundleSuite))
	d.Fixed(bundleKeyID, b.KeyID[:])
	b.PublicKey = slices.Clone(d.Range(bundlePublicKey, 1, MaxBundle))
	b.Type = KeyType(d.Uint8(bundleType))
	d.Fixed(bundleScope, b.Scope[:])
	b.Epoch = d.Uint64(bundleEpoch)
	b.Audience = VASPID(d.Uint64(bundleAudience))
	b.Serial = d.Uint64(bundleSerial)
	b.NotBefore = d.Time(bundleNotBefore)
	b.NotAfter = d.Time(bundleNotAfter)
	d.Fixed(bundleNonce, b.Nonce[:])
	for _, s := range d.Range(bundleSuites, 1, maxSuites) {
		b.Suites = append(b.Suites, Suite(s))
	}
	body = encoded[:len(encoded)-len(d.Rest())]
	sig = d.Range(bundleSignature, signatureSize, signatureSize)
	if err := d.Close(); err != nil {
		return nil, nil, nil, err
	}
	b.Identity, err = ParsePublic(b.VASP, public)
	return b, body, sig, err
}

func (b *Bundle) encode() []byte {
	e := []byte{formatV1}
	e = tlv.AppendUint64(e, bundleVASP, uint64(b.VASP))
	e = tlv.Append(e, bundleIdentity, b.Identity.raw)
	e = tlv.AppendUint8(e, bundleSuite, uint8(b.Suite))
	e = tlv.Append(e, bundleKeyID, b.KeyID[:])
	e = tlv.Append(e, bundlePublicKey, b.PublicKey)
	e = tlv.AppendUint8(e, bundleType, uint8(b.Type))
	e = tlv.Append(e, bundleScope, b.Scope[:])
	e = tlv.AppendUint64(e, bundleEpoch, b.Epoch)
	e = tlv.AppendUint64(e, bundleAudience, uint64(b.Audience))
	e = tlv.AppendUint64(e, bundleSerial, b.Serial)
	e = tlv.AppendTime(e, bundleNotBefore, b.NotBefore)
	e = tlv.AppendTime(e, bundleNotAfter, b.NotAfter)
	e = tlv.Append(e, bundleNonce, b.Nonce[:])
	suites := make([]byte, len(b.Suites))
	for i, s := range b.Suites {
		suites[i] = byte(s)
	}
	return tlv.Append(e, bundleSuites, suites)
}

// check is the same for bundles we sign and bundles we read, so that what is
// signed can be read.
func (b *Bundle) check() error {
	size := b.Suite.PublicKeySize()
	switch {
	case size == 0:
		return fmt.Errorf("suite %d does not seal", b.Suite)
	case len(b.PublicKey) != size:
		return fmt.Errorf("public key has %d bytes, want %d for %s", len(b.PublicKey), size, b.Suite)
	case b.KeyID != NewKeyID(b.Suite, b.PublicKey):
		return errors.New("key id is not the key's")
	case !b.Type.Valid():
		return fmt.Errorf("unknown key type %d", b.Type)
	case b.Type == PerVASP && b.Scope != [32]byte{}:
		return errors.New("a key for the whole VASP has a scope")
	case b.Serial == 0:
		return errors.New("serial is zero")
	case tlv.CheckTime(b.NotBefore) != nil || tlv.CheckTime(b.NotAfter) != nil || b.NotBefore.UnixMilli() >= b.NotAfter.UnixMilli():
		return errors.New("not before and not after enclose no time")
	}
	return b.checkSuites()
}

// checkSuites lets suites pass that this program does not know: a peer may be
// newer than we are.
func (b *Bundle) checkSuites() error {
	if len(b.Suites) == 0 || len(b.Suites) > maxSuites {
		return fmt.Errorf("%d suites announced, want 1 to %d", len(b.Suites), maxSuites)
	}
	last := SuiteClear
	for _, s := range b.Suites {
		if s <= last {
			return errors.New("announced suites do not rise from 1")
		}
		last = s
	}
	if !slices.Contains(b.Suites, b.Suite) {
		return errors.New("the key's suite is not among those announced")
	}
	return nil
}

// ValidAt returns nil when a bundle may be used now, else ErrNotYetValid or
// ErrExpired. skew is allowed at the beginning, where the owner's clock may
// be ahead of ours, and not at the end.
func (b *Bundle) ValidAt(now time.Time, skew time.Duration) error {
	if now.Add(skew).Before(b.NotBefore) {
		return ErrNotYetValid
	}
	if !now.Before(b.NotAfter) {
		return ErrExpired
	}
	return nil
}

// HashBundle is what an envelope's header says of the reply bundle inside it.
func HashBundle(encoded []byte) [32]byte { return tlv.Hash(purposeBundleHash, encoded) }

// NextSerial follows the last serial: one more, or the unix time in
// milliseconds when that is larger, so that an owner restored from a backup is
// not stuck below what its peers have seen.
func NextSerial(last uint64, now time.Time) uint64 {
	ms := uint64(max(now.UnixMilli(), 0))
	if last == math.MaxUint64 {
		return last
	}
	return max(last+1, ms)
}
