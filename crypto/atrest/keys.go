package atrest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	"github.com/tink-crypto/tink-go/v2/prf/hmacprf"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/onekey"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/tlv"
)

// ErrNoPeriod says that there is no key for a retention period: it has not
// begun (AddPeriod, then store WrapRecord again) or it was erased.
var ErrNoPeriod = errors.New("no key for the retention period")

// minPeriod keeps period numbers within 32 bits until the year 2106.
const minPeriod = time.Second

// maxPeriods bounds the record: more than eight hundred years of months.
const maxPeriods = 10000

// Keys are the data keysets of one database. They print as [redacted] and
// are safe for concurrent use.
type Keys struct {
	secret
	instance [16]byte
	period   time.Duration
	private  sealer
	index    prfKey

	mu       sync.RWMutex
	personal map[uint32]sealer
}

// sealer is a keyset beside the cipher built from it.
type sealer struct {
	handle *keyset.Handle
	cipher Cipher
}

type prfKey struct {
	handle *keyset.Handle
	set    *prf.Set
}

// NewKeys makes fresh keysets for a new database. instance names the database
// and period is how long one retention period lasts: whole milliseconds, a
// second or more. There is no period key yet: see AddPeriod.
func NewKeys(instance [16]byte, period time.Duration) (*Keys, error) {
	if err := checkPeriod(period); err != nil {
		return nil, err
	}
	private, err := onekey.New(valueParameters())
	if err != nil {
		return nil, fmt.Errorf("make data keys: %v", err)
	}
	index, err := onekey.New(indexParameters())
	if err != nil {
		return nil, fmt.Errorf("make data keys: %v", err)
	}
	return assemble(instance, period, private, index, nil)
}

func checkPeriod(period time.Duration) error {
	if period < minPeriod || period%time.Millisecond != 0 {
		return fmt.Errorf("retention period %v is not a whole number of milliseconds of at least %v", period, minPeriod)
	}
	return nil
}

// assemble builds the ciphers once, so that using a key costs no parsing.
func assemble(instance [16]byte, period time.Duration, private, index *keyset.Handle, personal map[uint32]*keyset.Handle) (*Keys, error) {
	k := &Keys{instance: instance, period: period, personal: map[uint32]sealer{}}
	var err error
	if k.private, err = newSealer(instance, private); err != nil {
		return nil, fmt.Errorf("private key cipher: %v", err)
	}
	if k.index, err = newPRFKey(index); err != nil {
		return nil, fmt.Errorf("index key: %v", err)
	}
	for n, h := range personal {
		if k.personal[n], err = newSealer(instance, h); err != nil {
			return nil, fmt.Errorf("period cipher: %v", err)
		}
	}
	return k, nil
}

func newSealer(instance [16]byte, h *keyset.Handle) (sealer, error) {
	a, err := aead.New(h)
	return sealer{handle: h, cipher: Cipher{instance: instance, aead: a}}, err
}

// newPRFKey also computes once, so that later calls cannot fail.
func newPRFKey(h *keyset.Handle) (prfKey, error) {
	set, err := prf.NewPRFSet(h)
	if err != nil {
		return prfKey{}, err
	}
	_, err = set.ComputePrimaryPRF(nil, 32)
	return prfKey{handle: h, set: set}, err
}

// indexParameters: HMAC-SHA256 as a pseudo-random function.
func indexParameters() *hmacprf.Parameters {
	p, err := hmacprf.NewParameters(32, hmacprf.SHA256)
	if err != nil {
		panic("atrest: " + err.Error()) // the arguments are constants
	}
	return p
}

// Instance names the database that the keys belong to.
func (k *Keys) Instance() [16]byte { return k.instance }

// PeriodLength is how long one retention period lasts.
func (k *Keys) PeriodLength() time.Duration { return k.period }

// Period is the number of the retention period that a time falls in: unix
// milliseconds divided by the period's. Times before 1970 fall in period 0.
func (k *Keys) Period(t time.Time) uint32 {
	n := max(t.UnixMilli(), 0) / k.period.Milliseconds()
	return uint32(min(n, math.MaxUint32))
}

// Personal is the cipher for personal data of a period, or ErrNoPeriod.
func (k *Keys) Personal(n uint32) (Cipher, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	s, ok := k.personal[n]
	if !ok {
		return Cipher{}, ErrNoPeriod
	}
	return s.cipher, nil
}

// AddPeriod makes the key of a period, if there is none. The caller stores
// WrapRecord before anything that was sealed with the new key.
func (k *Keys) AddPeriod(n uint32) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.personal[n]; ok {
		return nil
	}
	if len(k.personal) >= maxPeriods {
		return fmt.Errorf("make period key: there are %d, the most there can be", maxPeriods)
	}
	h, err := onekey.New(valueParameters())
	if err != nil {
		return fmt.Errorf("make period key: %v", err)
	}
	s, err := newSealer(k.instance, h)
	if err != nil {
		return fmt.Errorf("make period key: %v", err)
	}
	k.personal[n] = s
	return nil
}

// DropPeriod forgets the key of a period, or returns ErrNoPeriod. When the
// caller has stored WrapRecord and no copy of the old record is left, the
// period's personal data cannot be read by anybody.
func (k *Keys) DropPeriod(n uint32) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.personal[n]; !ok {
		return ErrNoPeriod
	}
	delete(k.personal, n)
	return nil
}

// Periods lists the periods that have a key, oldest first.
func (k *Keys) Periods() []uint32 {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return slices.Sorted(maps.Keys(k.personal))
}

// Private is the cipher for what protects keys rather than people.
func (k *Keys) Private() Cipher { return k.private.cipher }

// PrivateAEAD wraps our own private keysets; what it encrypts does not open in
// another database.
func (k *Keys) PrivateAEAD() identity.AEAD { return privateAEAD{cipher: k.private.cipher} }

// Index is a blind index: who lacks the key cannot tell which value it stands
// for, and equal values of one purpose have equal indexes (attack S9).
func (k *Keys) Index(purpose string, value []byte) [16]byte {
	sum := k.prf(purposeIndex, purpose, value)
	return [16]byte(sum[:16])
}

// MAC is a keyed hash for comparing values without keeping them.
func (k *Keys) MAC(purpose string, value []byte) [32]byte { return k.prf(purposeMAC, purpose, value) }

func (k *Keys) prf(domain, purpose string, value []byte) [32]byte {
	in := tlv.AppendPart(tlv.Domain(domain), []byte(purpose))
	out, err := k.index.set.ComputePrimaryPRF(append(in, value...), 32)
	if err != nil {
		panic("atrest: " + err.Error()) // newPRFKey computed the same length
	}
	return [32]byte(out)
}

func periodName(n uint32) string { return fmt.Sprintf("personal/%d", n) }

func periodBytes(period time.Duration) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(period.Milliseconds()))
}
