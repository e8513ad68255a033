package atrest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tink-crypto/tink-go/v2/key"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/vasp-enclave/vasp-enclave/crypto/internal/onekey"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/tlv"
)

var (
	// ErrWrongKEK says that a record was wrapped under another KEK. Nothing
	// may be written then (attack S11).
	ErrWrongKEK = errors.New("wrong key-encryption key")
	// ErrCorruptRecord says that the KEK is the right one and the record is
	// damaged.
	ErrCorruptRecord = errors.New("data keyset record is damaged")
)

// Fields of the record, in order; never renumber.
const (
	recordKEK uint16 = iota + 1
	recordInstance
	recordPeriod
	recordKeysets
	recordProof
)

const (
	namePrivate    = "private"
	nameIndex      = "index"
	prefixPersonal = "personal/"

	maxName    = 32
	maxKeyset  = 1 << 10
	maxKeysets = 4 << 20
	proofSize  = 24 + 16
)

// WrapRecord encrypts the keysets under a KEK, as one record. The id of the
// KEK stands in clear in front. Wrapping under a new KEK is all that it takes
// to change the KEK.
func (k *Keys) WrapRecord(kek *KEK) ([]byte, error) {
	keysets, err := k.wrapKeysets(kek)
	if err != nil {
		return nil, fmt.Errorf("wrap data keys: %v", err)
	}
	b := []byte{formatV1}
	b = tlv.Append(b, recordKEK, kek.id[:])
	b = tlv.Append(b, recordInstance, k.instance[:])
	b = tlv.Append(b, recordPeriod, periodBytes(k.period))
	b = tlv.Append(b, recordKeysets, keysets)
	// The proof covers the whole record, so that no keyset can be left out or
	// taken from an older record.
	proof, err := kek.wrap.Encrypt(nil, append(tlv.Domain(purposeRecord), b...))
	if err != nil {
		return nil, fmt.Errorf("wrap data keys: %v", err)
	}
	return tlv.Append(b, recordProof, proof), nil
}

// wrapKeysets lists name and wrapped keyset: private, index, then the periods
// in order.
func (k *Keys) wrapKeysets(kek *KEK) ([]byte, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	names := []string{namePrivate, nameIndex}
	handles := []*keyset.Handle{k.private.handle, k.index.handle}
	for _, n := range slices.Sorted(maps.Keys(k.personal)) {
		names = append(names, periodName(n))
		handles = append(handles, k.personal[n].handle)
	}
	var b []byte
	for i, name := range names {
		wrapped, err := onekey.Wrap(handles[i], kek.wrap, keysetPlace(k.instance, name))
		if err != nil {
			return nil, err
		}
		b = tlv.Append(b, uint16(2*i+1), []byte(name))
		b = tlv.Append(b, uint16(2*i+2), wrapped)
	}
	return b, nil
}

func keysetPlace(instance [16]byte, name string) []byte {
	b := tlv.AppendPart(tlv.Domain(purposeKeyset), instance[:])
	return tlv.AppendPart(b, []byte(name))
}

// OpenRecord reads what WrapRecord made. Another KEK than the record's is
// ErrWrongKEK, and the message names both ids; a damaged record is
// ErrCorruptRecord.
func OpenRecord(kek *KEK, record []byte) (*Keys, error) {
	r, err := decodeRecord(record)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrCorruptRecord, err)
	}
	if r.kek != kek.id {
		return nil, fmt.Errorf("%w: the data is wrapped under %s, the given key is %s",
			ErrWrongKEK, hex.EncodeToString(r.kek[:]), kek.ID())
	}
	if _, err := kek.wrap.Decrypt(r.proof, append(tlv.Domain(purposeRecord), r.body...)); err != nil {
		return nil, fmt.Errorf("%w: it does not authenticate", ErrCorruptRecord)
	}
	keys, err := r.unwrap(kek)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrCorruptRecord, err)
	}
	return keys, nil
}

type recordFields struct {
	body     []byte // all that the proof covers
	kek      [kekIDSize]byte
	instance [16]byte
	period   time.Duration
	keysets  []byte
	proof    []byte
}

func decodeRecord(record []byte) (r recordFields, err error) {
	if len(record) == 0 || record[0] != formatV1 {
		return r, errors.New("unknown format")
	}
	d := tlv.NewDecoder(record[1:])
	d.Fixed(recordKEK, r.kek[:])
	d.Fixed(recordInstance, r.instance[:])
	ms := d.Uint64(recordPeriod)
	r.keysets = d.Range(recordKeysets, 1, maxKeysets)
	r.body = record[:len(record)-len(d.Rest())]
	r.proof = d.Range(recordProof, proofSize, proofSize)
	if err := d.Close(); err != nil {
		return r, err
	}
	if ms > uint64(math.MaxInt64/time.Millisecond) {
		return r, errors.New("retention period is too long")
	}
	r.period = time.Duration(ms) * time.Millisecond
	return r, checkPeriod(r.period)
}

func (r *recordFields) unwrap(kek *KEK) (*Keys, error) {
	list := keysetList{kek: kek, instance: r.instance, d: tlv.NewDecoder(r.keysets)}
	private, err := list.next(namePrivate, valueParameters())
	if err != nil {
		return nil, err
	}
	index, err := list.next(nameIndex, indexParameters())
	if err != nil {
		return nil, err
	}
	personal, err := list.periods()
	if err != nil {
		return nil, err
	}
	return assemble(r.instance, r.period, private, index, personal)
}

// keysetList reads names and wrapped keysets in their order.
type keysetList struct {
	kek      *KEK
	instance [16]byte
	d        *tlv.Decoder
	tag      uint16
}

func (l *keysetList) name() string {
	l.tag++
	return string(l.d.Range(l.tag, 1, maxName))
}

func (l *keysetList) keyset(name string, want key.Parameters) (*keyset.Handle, error) {
	l.tag++
	wrapped := l.d.Range(l.tag, 1, maxKeyset)
	if err := l.d.Err(); err != nil {
		return nil, err
	}
	h, err := onekey.Unwrap(wrapped, l.kek.wrap, keysetPlace(l.instance, name), want)
	if err != nil {
		return nil, fmt.Errorf("keyset %q: %v", name, err)
	}
	return h, nil
}

func (l *keysetList) next(want string, parameters key.Parameters) (*keyset.Handle, error) {
	if got := l.name(); got != want {
		return nil, fmt.Errorf("keyset %q is missing", want)
	}
	return l.keyset(want, parameters)
}

func (l *keysetList) periods() (map[uint32]*keyset.Handle, error) {
	personal := map[uint32]*keyset.Handle{}
	for last := -1; l.d.More(); {
		name := l.name()
		n, err := parsePeriodName(name)
		if err != nil {
			return nil, err
		}
		if int(n) <= last {
			return nil, errors.New("retention periods do not rise")
		}
		last = int(n)
		if personal[n], err = l.keyset(name, valueParameters()); err != nil {
			return nil, err
		}
	}
	return personal, l.d.Close()
}

func parsePeriodName(name string) (uint32, error) {
	digits, ok := strings.CutPrefix(name, prefixPersonal)
	n, err := strconv.ParseUint(digits, 10, 32)
	if !ok || err != nil || periodName(uint32(n)) != name {
		return 0, errors.New("unknown keyset name")
	}
	return uint32(n), nil
}

// RecordKEK tells which KEK a record is wrapped under: its id in hex.
func RecordKEK(record []byte) (string, error) {
	r, err := decodeRecord(record)
	if err != nil {
		return "", fmt.Errorf("%w: %v", ErrCorruptRecord, err)
	}
	return hex.EncodeToString(r.kek[:]), nil
}
