package keyring

import (
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/internal/tlv"
)

// issue signs what we promise about a key of ours: valid from now on, under
// the next serial. What differs by type of key is the caller's to fill in.
func (o *Own) issue(now time.Time, life time.Duration, k *envelope.PublicKey, b identity.Bundle) (encoded []byte, notAfter time.Time, err error) {
	now = tlv.Round(now)
	b.Suite, b.PublicKey, b.Suites = k.Suite(), k.Bytes(), o.c.Suites
	b.Serial = o.nextSerial(now)
	b.NotBefore, b.NotAfter = now, now.Add(life)
	encoded, err = o.signer.Load().SignBundle(b)
	return encoded, b.NotAfter, err
}

// nextSerial never gives one serial twice (attack K7).
func (o *Own) nextSerial(now time.Time) uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.serial = identity.NextSerial(o.serial, now)
	return o.serial
}

// deleteAfter is when nothing can arrive any more that was sealed before
// notAfter.
func (o *Own) deleteAfter(notAfter time.Time) time.Time {
	return notAfter.Add(o.c.MaxEnvelopeLife + o.c.Skew)
}
