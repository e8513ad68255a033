package keyring

import (
	"bytes"
	"fmt"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
)

// replyKey is what is kept of the key that one answer is sealed to: its
// private part stays wrapped until the answer comes.
type replyKey struct {
	use         Use
	suite       identity.Suite
	wrapped     []byte
	deleteAfter time.Time
}

func (r replyKey) stored() OwnKey {
	return OwnKey{ID: r.use.ID, Type: r.use.Type, Wrapped: r.wrapped}
}

// NewReplyKey makes a fresh key of type PerAddress or PerVerification, to
// which a peer seals its answer to one question of ours. Its bundle, for the
// peer alone, goes inside the question; it is valid for ReplyLife and the
// clock skew, has no scope and no epoch, and echoes nothing.
//
// The key can be used at once. The caller stores it in the transaction that
// makes the question durable, so that the answer opens after a restart, and
// calls Forget when the answer is settled. Who waits for its answer in memory
// only need not store it. Answers to PerVasp questions go to the key that
// PerVASP gives.
func (o *Own) NewReplyKey(t identity.KeyType, peer identity.VASPID) (OwnKey, error) {
	if t != identity.PerAddress && t != identity.PerVerification || peer == 0 {
		return OwnKey{}, fmt.Errorf("make reply key: none of type %s for vasp %s", t, peer)
	}
	private, err := envelope.GenerateKey(o.c.Suite)
	if err != nil {
		return OwnKey{}, fmt.Errorf("make reply key: %v", err)
	}
	encoded, notAfter, err := o.issue(o.c.Now(), o.c.ReplyLife+o.c.Skew, private.Public(), identity.Bundle{Type: t, Audience: peer})
	if err != nil {
		return OwnKey{}, fmt.Errorf("make reply key: %v", err)
	}
	id := private.Public().ID()
	wrapped, err := private.Wrap(o.c.AEAD, ownPlace(id, t))
	if err != nil {
		return OwnKey{}, fmt.Errorf("make reply key: %v", err)
	}
	k := OwnKey{ID: id, Type: t, Bundle: encoded, Wrapped: wrapped, NotAfter: notAfter, DeleteAfter: o.deleteAfter(notAfter)}
	o.addReply(k, o.c.Suite, peer)
	o.recent.put(id, built{Use{ID: id, Type: t, Peer: peer}, private})
	return k, nil
}

func (o *Own) addReply(k OwnKey, suite identity.Suite, peer identity.VASPID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.replies[k.ID] = replyKey{
		use: Use{ID: k.ID, Type: k.Type, Peer: peer}, suite: suite, wrapped: bytes.Clone(k.Wrapped), deleteAfter: k.DeleteAfter,
	}
}

// Reissue gives the bundle of a reply key as our present identity signs it: the
// same one when that signed it, else another one for the same key, with the
// same promises under a new serial, for a peer that followed us takes no other.
// The private key stays what it is, in memory and in the store. A key that is
// not or no longer a reply key of ours is ErrUnknownKey.
func (o *Own) Reissue(bundle []byte) ([]byte, error) {
	b, err := identity.ParseBundle(bundle)
	if err != nil {
		return nil, fmt.Errorf("reissue reply key: %v", err)
	}
	s := o.signer.Load()
	if b.Identity.Fingerprint() == s.Public().Fingerprint() {
		return bundle, nil
	}
	if !o.holdsReply(Use{ID: b.KeyID, Type: b.Type, Peer: b.Audience, Scope: b.Scope, Epoch: b.Epoch}) {
		return nil, fmt.Errorf("reissue reply key: %w", ErrUnknownKey)
	}
	again := *b
	again.Serial = o.nextSerial(o.c.Now())
	encoded, err := s.SignBundle(again)
	if err != nil {
		return nil, fmt.Errorf("reissue reply key: %v", err)
	}
	return encoded, nil
}

func (o *Own) holdsReply(u Use) bool {
	o.mu.RLock()
	defer o.mu.RUnlock()
	r, ok := o.replies[u.ID]
	return ok && r.use == u
}

// loadReply takes back a reply key of a question that is still open. There
// may be thousands: each is unwrapped when its answer comes.
func (o *Own) loadReply(s OwnKey) error {
	b, err := o.loadBundle(s)
	if err != nil {
		return err
	}
	if b.Audience == 0 || b.Scope != [32]byte{} || b.Epoch != 0 {
		return errMixed
	}
	o.addReply(s, b.Suite, b.Audience)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.serial = max(o.serial, b.Serial)
	return nil
}

// Forget makes reply keys unusable: their questions have their answers. The
// caller deletes them from the store in the transaction that says so. Unknown
// ids are no error.
func (o *Own) Forget(ids ...identity.KeyID) {
	o.mu.Lock()
	for _, id := range ids {
		delete(o.replies, id)
	}
	o.mu.Unlock()
	for _, id := range ids {
		o.recent.drop(id)
	}
}
