package keyring

import (
	"crypto/sha256"
	"slices"
	"sync"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
)

// verifiedSize bounds what is remembered: some 6 KiB each.
const verifiedSize = 512

// verified remembers bundles whose signature was checked and whose cipher was
// built, by the hash of their bytes. It says nothing about whether a bundle
// is the right one. The oldest entry makes room for a new one.
type verified struct {
	mu    sync.Mutex
	bySum map[[32]byte]*PeerKey
	order [verifiedSize][32]byte
	next  int
}

func newVerified() *verified { return &verified{bySum: map[[32]byte]*PeerKey{}} }

func (v *verified) has(bundle []byte) bool { return v.recall(sha256.Sum256(bundle)) != nil }

func (v *verified) recall(sum [32]byte) *PeerKey {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.bySum[sum]
}

// parse verifies a bundle and builds its cipher, or recalls both.
func (v *verified) parse(encoded []byte) (*PeerKey, error) {
	sum := sha256.Sum256(encoded)
	if k := v.recall(sum); k != nil {
		return k, nil
	}
	b, err := identity.ParseBundle(encoded)
	if err != nil {
		return nil, err
	}
	public, err := envelope.ParsePublicKey(b.Suite, b.PublicKey)
	if err != nil {
		return nil, err
	}
	return &PeerKey{Public: public, Bundle: b, encoded: slices.Clone(encoded), sum: sum}, nil
}

func (v *verified) remember(k *PeerKey) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, there := v.bySum[k.sum]; there {
		return
	}
	delete(v.bySum, v.order[v.next])
	v.bySum[k.sum], v.order[v.next] = k, k.sum
	v.next = (v.next + 1) % verifiedSize
}
