package bolt

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// peerRecord is the JSON object of a pin, which lies under the VASP id; its
// sections are the pinned identity and the pending one.
type peerRecord struct {
	State  uint8  `json:"state"`
	Serial uint64 `json:"serial,omitzero"`
	Since  int64  `json:"since,omitzero"`
}

func encodePeer(p *storage.Peer) ([]byte, error) {
	return encodeRecord(&peerRecord{uint8(p.State), p.Serial, millis(p.Since)}, p.Identity, p.Pending)
}

func decodePeer(plaintext []byte) (*storage.Peer, error) {
	var r peerRecord
	sections, err := decodeRecord(plaintext, &r, 2)
	if err != nil {
		return nil, err
	}
	return &storage.Peer{
		State: storage.PeerState(r.State), Serial: r.Serial, Since: fromMillis(r.Since),
		Identity: sections[0], Pending: sections[1],
	}, nil
}

func preparePeer(p *storage.Peer) (putCell, error) {
	plaintext, err := encodePeer(p)
	if err != nil {
		return putCell{}, fmt.Errorf("peer: %w", err)
	}
	return putCell{bucket: peers, key: vaspKey(p.VASP), plaintext: plaintext}, nil
}

// Peer gives the pin of one counterparty.
func (db *DB) Peer(ctx context.Context, id identity.VASPID) (p *storage.Peer, err error) {
	err = db.read(ctx, "peer", func(t *txn) error {
		_, plaintext, err := t.get(peers, vaspKey(id))
		if err != nil {
			return err
		}
		p, err = openPeer(id, plaintext)
		return err
	})
	return p, err
}

func openPeer(id identity.VASPID, plaintext []byte) (*storage.Peer, error) {
	p, err := decodePeer(plaintext)
	if err != nil {
		return nil, corrupt(err)
	}
	p.VASP = id
	return p, nil
}

// Peers gives all pins, in the order of VASP ids.
func (db *DB) Peers(ctx context.Context) (all []*storage.Peer, err error) {
	err = db.read(ctx, "peers", func(t *txn) error {
		return t.each(peers, func(key []byte, _ header, plaintext []byte) error {
			p, err := openPeer(identity.VASPID(binary.BigEndian.Uint64(key)), plaintext)
			all = append(all, p)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}
