package atrest

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
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

var (
	// ErrNoPeriod says that there is no key for a retention period: it has not
	// begun (AddPeriod, then store WrapRecord again) or it was erased.
	ErrNoPeriod = errors.New("no key for the retention period")
	// ErrNoKey says that there is no data key of a number, or not for the
	// purpose: it was replaced and deleted, or erased.
	ErrNoKey = errors.New("no data key of this number")
)

// minPeriod keeps period numbers within 32 bits until the year 2106.
const minPeriod = time.Second

// maxPeriods bounds the record: more than eight hundred years of months.
const maxPeriods = 10000

// Purpose is what a data key is for.
type Purpose string

const (
	// Private seals values that protect keys rather than people.
	Private Purpose = "private"
	// Personal seals the personal data of one retention period.
	Personal Purpose = "personal"
	// Index makes blind indexes and MACs. It is never replaced: every index
	// and every receipt would have to be made anew from its content.
	Index Purpose = "index"
	// Wrap wraps our own private keys before they are sealed under a Private
	// key. It is never replaced: what it wraps lies inside such a value only.
	Wrap Purpose = "wrap"
)

// KeyInfo is what can be told of a data key. Numbers rise, and none is ever
// given twice. Created is zero for a key that is older than numbers are.
type KeyInfo struct {
	ID      uint32
	Purpose Purpose
	Period  uint32 // of a Personal key
	Created time.Time
	Current bool // new values are sealed under it; else a successor has taken over
}

// slot is what one current key is for.
type slot struct {
	purpose Purpose
	period  uint32
}

// Keys are the data keysets of one database. They print as [redacted] and
// are safe for concurrent use.
type Keys struct {
	secret
	instance [16]byte
	period   time.Duration
	index    prfKey
	wrap     Cipher

	mu      sync.RWMutex
	next    uint32
	keys    map[uint32]*dataKey
	current map[slot]uint32
}

// dataKey is a keyset of one key, beside the cipher built from it.
type dataKey struct {
	KeyInfo
	handle  *keyset.Handle
	cipher  Cipher    // of all but an Index key
	retired time.Time // not zero: no record has it any more, reads that have begun may need it
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
	wrap, err := onekey.New(valueParameters())
	if err != nil {
		return nil, fmt.Errorf("make data keys: %v", err)
	}
	now := tlv.Round(time.Now())
	return assemble(instance, period, 4, []*dataKey{
		{KeyInfo: KeyInfo{ID: 1, Purpose: Private, Created: now}, handle: private},
		{KeyInfo: KeyInfo{ID: 2, Purpose: Index, Created: now}, handle: index},
		{KeyInfo: KeyInfo{ID: 3, Purpose: Wrap, Created: now}, handle: wrap},
	})
}

func checkPeriod(period time.Duration) error {
	if period < minPeriod || period%time.Millisecond != 0 {
		return fmt.Errorf("retention period %v is not a whole number of milliseconds of at least %v", period, minPeriod)
	}
	return nil
}

// assemble builds the ciphers once, so that using a key costs no parsing. Of
// the keys of one slot, the last one is the current one.
func assemble(instance [16]byte, period time.Duration, next uint32, list []*dataKey) (*Keys, error) {
	k := &Keys{instance: instance, period: period, next: next, keys: map[uint32]*dataKey{}, current: map[slot]uint32{}}
	for _, d := range list {
		if (d.Purpose == Index || d.Purpose == Wrap) && k.current[d.slot()] != 0 {
			return nil, fmt.Errorf("keyset %q is there twice", d.Purpose)
		}
		if err := k.add(d); err != nil {
			return nil, err
		}
		k.promote(d.ID)
	}
	index, err := k.one(Index)
	if err != nil {
		return nil, err
	}
	if k.index, err = newPRFKey(index.handle); err != nil {
		return nil, fmt.Errorf("index key: %v", err)
	}
	wrap, err := k.one(Wrap)
	if err != nil {
		return nil, err
	}
	k.wrap = wrap.cipher
	_, err = k.one(Private)
	return k, err
}

func (k *Keys) one(p Purpose) (*dataKey, error) {
	d := k.keys[k.current[slot{p, 0}]]
	if d == nil {
		return nil, fmt.Errorf("keyset %q is missing", p)
	}
	return d, nil
}

func (k *Keys) add(d *dataKey) (err error) {
	if d.Purpose != Index {
		if d.cipher, err = newCipher(k.instance, d.ID, d.handle); err != nil {
			return fmt.Errorf("cipher of key %d: %v", d.ID, err)
		}
	}
	k.keys[d.ID] = d
	return nil
}

func newCipher(instance [16]byte, id uint32, h *keyset.Handle) (Cipher, error) {
	a, err := aead.New(h)
	return Cipher{instance: instance, id: id, aead: a}, err
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

// Personal is the cipher for new personal data of a period, or ErrNoPeriod.
func (k *Keys) Personal(n uint32) (Cipher, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	d := k.keys[k.current[slot{Personal, n}]]
	if d == nil {
		return Cipher{}, ErrNoPeriod
	}
	return d.cipher, nil
}

// Private is the cipher for new values that protect keys rather than people.
func (k *Keys) Private() Cipher {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.keys[k.current[slot{Private, 0}]].cipher
}

// Cipher is that of one data key, current or not, of the given purpose; else
// ErrNoKey.
func (k *Keys) Cipher(p Purpose, id uint32) (Cipher, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	d := k.keys[id]
	if d == nil || d.Purpose != p {
		return Cipher{}, ErrNoKey
	}
	return d.cipher, nil
}

// Info tells of one key, current, replaced or retired.
func (k *Keys) Info(id uint32) (KeyInfo, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	d := k.keys[id]
	if d == nil {
		return KeyInfo{}, false
	}
	info := d.KeyInfo
	info.Current = k.current[d.slot()] == id
	return info, true
}

// First is the number of the oldest key for a purpose and period, which
// sealed the values that name no key; ErrNoKey when there is none.
func (k *Keys) First(p Purpose, period uint32) (uint32, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	first := uint32(0)
	for id, d := range k.keys {
		if d.slot() == (slot{p, period}) && (first == 0 || id < first) {
			first = id
		}
	}
	if first == 0 {
		return 0, ErrNoKey
	}
	return first, nil
}

func (d *dataKey) slot() slot { return slot{d.Purpose, d.Period} }

// AddPeriod makes the key of a period, if there is none. The caller stores
// WrapRecord before anything that was sealed with the new key.
func (k *Keys) AddPeriod(n uint32) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current[slot{Personal, n}] != 0 {
		return nil
	}
	if len(k.current) >= maxPeriods+3 {
		return fmt.Errorf("make period key: there are %d, the most there can be", maxPeriods)
	}
	id, err := k.make(slot{Personal, n})
	if err == nil {
		k.promote(id)
	}
	return err
}

// make is a new key that is not the current one yet.
func (k *Keys) make(s slot) (id uint32, err error) {
	if len(k.keys) >= maxKeys {
		return 0, fmt.Errorf("make data key: there are %d, the most there can be", len(k.keys))
	}
	h, err := onekey.New(valueParameters())
	if err != nil {
		return 0, fmt.Errorf("make data key: %v", err)
	}
	d := &dataKey{KeyInfo: KeyInfo{ID: k.next, Purpose: s.purpose, Period: s.period, Created: tlv.Round(time.Now())}, handle: h}
	if err := k.add(d); err != nil {
		return 0, err
	}
	k.next++
	return d.ID, nil
}

func (k *Keys) promote(id uint32) { k.current[k.keys[id].slot()] = id }

// Succeed makes a key that is to take the place of a current Private or
// Personal one. It is not used before Promote, which the caller calls when
// WrapRecord, which has it already, is stored; or Discard, if it is not.
func (k *Keys) Succeed(id uint32) (successor uint32, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	d := k.keys[id]
	if d == nil || k.current[d.slot()] != id || d.Purpose != Private && d.Purpose != Personal {
		return 0, ErrNoKey
	}
	return k.make(d.slot())
}

// Promote makes a key the current one of its purpose and period.
func (k *Keys) Promote(id uint32) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys[id] != nil {
		k.promote(id)
	}
}

// Discard forgets a key under which nothing was sealed.
func (k *Keys) Discard(id uint32) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.keys, id)
}

// Retire takes keys out of use: no record that is wrapped from now on has
// them. Reads that have begun may still need them: see Forget. The caller has
// stored a record without them, which WrapRecord makes when it is told.
func (k *Keys) Retire(ids ...uint32) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, id := range ids {
		if d := k.keys[id]; d != nil {
			d.retired = time.Now()
			if k.current[d.slot()] == id {
				delete(k.current, d.slot())
			}
		}
	}
}

// Forget drops from memory what was retired before a time.
func (k *Keys) Forget(before time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, d := range k.keys {
		if !d.retired.IsZero() && d.retired.Before(before) {
			delete(k.keys, id)
		}
	}
}

// DropPeriod forgets every key of a period at once, or returns ErrNoPeriod.
// When the caller has stored WrapRecord and no copy of the old record is left,
// the period's personal data cannot be read by anybody.
func (k *Keys) DropPeriod(n uint32) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current[slot{Personal, n}] == 0 {
		return ErrNoPeriod
	}
	delete(k.current, slot{Personal, n})
	for id, d := range k.keys {
		if d.slot() == (slot{Personal, n}) {
			delete(k.keys, id)
		}
	}
	return nil
}

// Periods lists the periods that have a key, oldest first.
func (k *Keys) Periods() (periods []uint32) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	for s := range k.current {
		if s.purpose == Personal {
			periods = append(periods, s.period)
		}
	}
	slices.Sort(periods)
	return periods
}

// List tells of every key that a record would have, in the order of their
// numbers.
func (k *Keys) List() (all []KeyInfo) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	for _, d := range k.stored() {
		info := d.KeyInfo
		info.Current = k.current[d.slot()] == d.ID
		all = append(all, info)
	}
	return all
}

// stored are the keys that a record has, in the order of their numbers.
func (k *Keys) stored(without ...uint32) (list []*dataKey) {
	for id, d := range k.keys {
		if d.retired.IsZero() && !slices.Contains(without, id) {
			list = append(list, d)
		}
	}
	slices.SortFunc(list, func(a, b *dataKey) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// PrivateAEAD wraps our own private keysets; what it encrypts does not open in
// another database.
func (k *Keys) PrivateAEAD() identity.AEAD { return privateAEAD{cipher: k.wrap} }

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

func periodBytes(period time.Duration) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(period.Milliseconds()))
}
