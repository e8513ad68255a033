package identity

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/internal/tlv"
)

// Fields of a statement, in order; never renumber.
const (
	statementVASP uint16 = iota + 1
	statementPublic
	statementPrevious
	statementSerial
	statementCreated
	statementSignature   // by the identity it introduces
	statementPredecessor // by the identity before; empty in the first
)

const (
	maxStatements = 64
	maxStatement  = 512
)

// MaxChain is the most bytes an encoded chain can have.
const MaxChain = 1 + maxStatements*(6+maxStatement)

// Chain is the list of a VASP's identities, each introduced by the one before
// it, so that a peer who pinned any of them may follow to the current one.
type Chain struct {
	statements []statement
}

type statement struct {
	public   *Public
	previous Fingerprint
	serial   uint64
	created  time.Time
}

// NewChain starts a chain: the identity's statement about itself.
func NewChain(s *Signer, now time.Time) ([]byte, error) {
	return appendStatement([]byte{formatV1}, 1, statement{
		public: s.public, serial: NextSerial(0, now), created: now,
	}, s, nil)
}

// ExtendChain adds the next identity of the same VASP, signed by itself and
// by the current one. An identity that was there before is refused.
func ExtendChain(chain []byte, old, next *Signer, now time.Time) ([]byte, error) {
	c, err := ParseChain(chain)
	if err != nil {
		return nil, fmt.Errorf("extend: %v", err)
	}
	last := c.statements[len(c.statements)-1]
	switch {
	case last.public.fingerprint != old.public.fingerprint:
		return nil, errors.New("extend identity chain: it does not end with the old identity")
	case next.public.vasp != old.public.vasp:
		return nil, errors.New("extend identity chain: the next identity is another VASP's")
	case c.Contains(next.public.fingerprint):
		return nil, errors.New("extend identity chain: the next identity was used before")
	case len(c.statements) == maxStatements:
		return nil, fmt.Errorf("extend identity chain: it has %d statements, the most there can be", maxStatements)
	}
	if now.Before(last.created) {
		now = last.created // a clock that was set back does not break the order
	}
	return appendStatement(slices.Clip(chain), uint16(len(c.statements)+1), statement{
		public: next.public, previous: last.public.fingerprint,
		serial: NextSerial(last.serial, now), created: now,
	}, next, old)
}

func appendStatement(chain []byte, position uint16, st statement, self, predecessor *Signer) ([]byte, error) {
	if err := tlv.CheckTime(st.created); err != nil {
		return nil, fmt.Errorf("identity statement: %v", err)
	}
	body := st.encode()
	own, err := self.Sign(purposeStatement, body)
	if err != nil {
		return nil, err
	}
	var before []byte
	if predecessor != nil {
		if before, err = predecessor.Sign(purposeSuccession, body); err != nil {
			return nil, err
		}
	}
	body = tlv.Append(body, statementSignature, own)
	body = tlv.Append(body, statementPredecessor, before)
	return tlv.Append(chain, position, body), nil
}

func (st *statement) encode() []byte {
	b := tlv.AppendUint64(nil, statementVASP, uint64(st.public.vasp))
	b = tlv.Append(b, statementPublic, st.public.raw)
	b = tlv.Append(b, statementPrevious, st.previous[:])
	b = tlv.AppendUint64(b, statementSerial, st.serial)
	return tlv.AppendTime(b, statementCreated, st.created)
}

// ParseChain reads a chain and verifies every link: each statement is signed
// by the identity it introduces and, after the first, by the identity before;
// serials rise, times do not fall, no identity comes twice, all are of one
// VASP.
func ParseChain(encoded []byte) (*Chain, error) {
	if len(encoded) == 0 || len(encoded) > MaxChain || encoded[0] != formatV1 {
		return nil, errors.New("identity chain: unknown format")
	}
	c := new(Chain)
	d := tlv.NewDecoder(encoded[1:])
	for d.More() && len(c.statements) < maxStatements {
		position := len(c.statements) + 1
		body := d.Range(uint16(position), 1, maxStatement)
		if d.Err() != nil {
			break // told below
		}
		if err := c.follow(body); err != nil {
			return nil, fmt.Errorf("identity chain: statement %d: %v", position, err)
		}
	}
	if err := d.Close(); err != nil {
		return nil, fmt.Errorf("identity chain: %v", err)
	}
	if len(c.statements) == 0 {
		return nil, errors.New("identity chain: empty")
	}
	return c, nil
}

// follow adds the next statement when it follows from the ones before.
func (c *Chain) follow(encoded []byte) error {
	st, body, own, before, err := decodeStatement(encoded)
	if err != nil {
		return err
	}
	if err := st.public.Verify(purposeStatement, body, own); err != nil {
		return fmt.Errorf("its own %v", err)
	}
	if len(c.statements) == 0 {
		if !st.previous.IsZero() || len(before) != 0 {
			return errors.New("the first one names one before it")
		}
	} else if err := c.succeeds(st, body, before); err != nil {
		return err
	}
	c.statements = append(c.statements, st)
	return nil
}

func (c *Chain) succeeds(st statement, body, before []byte) error {
	last := c.statements[len(c.statements)-1]
	switch {
	case st.public.vasp != last.public.vasp:
		return errors.New("another VASP's")
	case st.previous != last.public.fingerprint:
		return errors.New("does not name the one before it")
	case st.serial <= last.serial:
		return errors.New("serial does not rise")
	case st.created.Before(last.created):
		return errors.New("created before the one before it")
	case c.Contains(st.public.fingerprint):
		return errors.New("identity comes twice")
	}
	if err := last.public.Verify(purposeSuccession, body, before); err != nil {
		return fmt.Errorf("predecessor's %v", err)
	}
	return nil
}

func decodeStatement(encoded []byte) (st statement, body, own, before []byte, err error) {
	d := tlv.NewDecoder(encoded)
	vasp := VASPID(d.Uint64(statementVASP))
	public := d.Range(statementPublic, publicSize, publicSize)
	d.Fixed(statementPrevious, st.previous[:])
	st.serial = d.Uint64(statementSerial)
	st.created = d.Time(statementCreated)
	body = encoded[:len(encoded)-len(d.Rest())]
	own = d.Range(statementSignature, signatureSize, signatureSize)
	before = d.Range(statementPredecessor, 0, signatureSize)
	if err = d.Close(); err != nil {
		return
	}
	if st.serial == 0 {
		err = errors.New("serial is zero")
		return
	}
	st.public, err = ParsePublic(vasp, public)
	return
}

// Current is the newest identity.
func (c *Chain) Current() *Public { return c.statements[len(c.statements)-1].public }

// Contains says whether an identity is or was the VASP's.
func (c *Chain) Contains(f Fingerprint) bool {
	return slices.ContainsFunc(c.statements, func(st statement) bool { return st.public.fingerprint == f })
}

// Len is how many identities there have been.
func (c *Chain) Len() int { return len(c.statements) }
