package atrest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
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

// formatV2 is the record's: its keys have numbers. A record of formatV1 is
// read, and never written any more.
const formatV2 = 0x02

const (
	maxName    = 40
	maxKeyset  = 1 << 10
	maxKeysets = 4 << 20
	maxKeys    = 2 + 1 + 2*maxPeriods
	proofSize  = 24 + 16
)

// WrapRecord encrypts the keysets under a KEK, as one record, but for those
// without which it is wanted. The id of the KEK stands in clear in front.
// Wrapping under a new KEK is all that it takes to change the KEK.
func (k *Keys) WrapRecord(kek *KEK, without ...uint32) ([]byte, error) {
	keysets, err := k.wrapKeysets(kek, without)
	if err != nil {
		return nil, fmt.Errorf("wrap data keys: %v", err)
	}
	b := []byte{formatV2}
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

// wrapKeysets lists the next free number, and then name, time of making and
// wrapped keyset of every key, with rising numbers.
func (k *Keys) wrapKeysets(kek *KEK, without []uint32) ([]byte, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	b := tlv.AppendUint64(nil, 1, uint64(k.next))
	tag := uint16(2)
	for _, d := range k.stored(without...) {
		wrapped, err := onekey.Wrap(d.handle, kek.wrap, keysetPlace(k.instance, d.name()))
		if err != nil {
			return nil, err
		}
		created := uint64(0)
		if !d.Created.IsZero() {
			created = uint64(d.Created.UnixMilli())
		}
		b = tlv.Append(b, tag, []byte(d.name()))
		b = tlv.AppendUint64(b, tag+1, created)
		b = tlv.Append(b, tag+2, wrapped)
		tag += 3
	}
	return b, nil
}

// name is purpose, period and number.
func (i *KeyInfo) name() string {
	if i.Purpose == Personal {
		return fmt.Sprintf("%s/%d/%d", Personal, i.Period, i.ID)
	}
	return fmt.Sprintf("%s/%d", i.Purpose, i.ID)
}

func parseName(name string) (i KeyInfo, err error) {
	purpose, numbers, _ := strings.Cut(name, "/")
	i.Purpose = Purpose(purpose)
	switch i.Purpose {
	case Personal:
		period, id, _ := strings.Cut(numbers, "/")
		i.Period, err = parseNumber(period)
		numbers = id
	case Private, Index, Wrap:
	default:
		return i, errors.New("unknown keyset name")
	}
	id, idErr := parseNumber(numbers)
	if i.ID = id; err != nil || idErr != nil || i.name() != name {
		return i, errors.New("unknown keyset name")
	}
	return i, nil
}

func parseNumber(digits string) (uint32, error) {
	n, err := strconv.ParseUint(digits, 10, 32)
	return uint32(n), err
}

func (i *KeyInfo) parameters() key.Parameters {
	if i.Purpose == Index {
		return indexParameters()
	}
	return valueParameters()
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
	format   byte
	body     []byte // all that the proof covers
	kek      [kekIDSize]byte
	instance [16]byte
	period   time.Duration
	keysets  []byte
	proof    []byte
}

func decodeRecord(record []byte) (r recordFields, err error) {
	if len(record) == 0 || record[0] != formatV1 && record[0] != formatV2 {
		return r, errors.New("unknown format")
	}
	r.format = record[0]
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
	if r.format == formatV1 {
		keys, err := list.readV1()
		if err != nil {
			return nil, err
		}
		return assemble(r.instance, r.period, uint32(len(keys))+1, keys)
	}
	next, keys, err := list.read()
	if err != nil {
		return nil, err
	}
	return assemble(r.instance, r.period, next, keys)
}

// keysetList reads names and wrapped keysets in their order.
type keysetList struct {
	kek      *KEK
	instance [16]byte
	d        *tlv.Decoder
	tag      uint16
}

func (l *keysetList) nextTag() uint16 {
	l.tag++
	return l.tag
}

func (l *keysetList) name() string { return string(l.d.Range(l.nextTag(), 1, maxName)) }

func (l *keysetList) keyset(name string, want key.Parameters) (*keyset.Handle, error) {
	wrapped := l.d.Range(l.nextTag(), 1, maxKeyset)
	if err := l.d.Err(); err != nil {
		return nil, err
	}
	h, err := onekey.Unwrap(wrapped, l.kek.wrap, keysetPlace(l.instance, name), want)
	if err != nil {
		return nil, fmt.Errorf("keyset %q: %v", name, err)
	}
	return h, nil
}

func (l *keysetList) read() (next uint32, keys []*dataKey, err error) {
	n := l.d.Uint64(l.nextTag())
	for last := uint32(0); l.d.More(); {
		d, err := l.key()
		if err != nil {
			return 0, nil, err
		}
		if d.ID <= last || uint64(d.ID) >= n || n > math.MaxUint32 {
			return 0, nil, errors.New("numbers of keys do not rise")
		}
		last = d.ID
		keys = append(keys, d)
	}
	return uint32(n), keys, l.d.Close()
}

func (l *keysetList) key() (*dataKey, error) {
	name := l.name()
	created := l.d.Uint64(l.nextTag())
	if err := l.d.Err(); err != nil {
		return nil, err
	}
	info, err := parseName(name)
	if err != nil {
		return nil, err
	}
	if created > 0 {
		info.Created = time.UnixMilli(int64(min(created, math.MaxInt64))).UTC()
	}
	h, err := l.keyset(name, info.parameters())
	return &dataKey{KeyInfo: info, handle: h}, err
}

// readV1 reads a record of the first format: private, index, and then the
// periods in order. The private key was the wrapping key, too.
func (l *keysetList) readV1() (keys []*dataKey, err error) {
	private, err := l.named(string(Private), valueParameters())
	if err != nil {
		return nil, err
	}
	index, err := l.named(string(Index), indexParameters())
	if err != nil {
		return nil, err
	}
	keys = []*dataKey{
		{KeyInfo: KeyInfo{ID: 1, Purpose: Private}, handle: private},
		{KeyInfo: KeyInfo{ID: 2, Purpose: Index}, handle: index},
		{KeyInfo: KeyInfo{ID: 3, Purpose: Wrap}, handle: private},
	}
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
		h, err := l.keyset(name, valueParameters())
		if err != nil {
			return nil, err
		}
		keys = append(keys, &dataKey{KeyInfo: KeyInfo{ID: uint32(len(keys)) + 1, Purpose: Personal, Period: n}, handle: h})
	}
	return keys, l.d.Close()
}

func (l *keysetList) named(want string, parameters key.Parameters) (*keyset.Handle, error) {
	if got := l.name(); got != want {
		return nil, fmt.Errorf("keyset %q is missing", want)
	}
	return l.keyset(want, parameters)
}

func parsePeriodName(name string) (uint32, error) {
	digits, ok := strings.CutPrefix(name, string(Personal)+"/")
	n, err := parseNumber(digits)
	if !ok || err != nil || fmt.Sprintf("%s/%d", Personal, n) != name {
		return 0, errors.New("unknown keyset name")
	}
	return n, nil
}

// RecordKEK tells which KEK a record is wrapped under: its id in hex.
func RecordKEK(record []byte) (string, error) {
	r, err := decodeRecord(record)
	if err != nil {
		return "", fmt.Errorf("%w: %v", ErrCorruptRecord, err)
	}
	return hex.EncodeToString(r.kek[:]), nil
}

// Outdated says that a record is of a format that is not written any more: it
// should be wrapped again before anything is sealed.
func Outdated(record []byte) bool { return len(record) > 0 && record[0] != formatV2 }
