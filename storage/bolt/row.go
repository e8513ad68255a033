package bolt

import (
	"encoding/binary"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// rowKey is created (u64 milliseconds) ‖ record (u64): rows lie in the order
// of time, so a page of the history is a piece of the file.
type rowKey [16]byte

func newRowKey(created time.Time, record uint64) rowKey {
	return rowKeyOf(uint64(created.UnixMilli()), record)
}

func rowKeyOf(milliseconds, record uint64) (k rowKey) {
	binary.BigEndian.PutUint64(k[:8], milliseconds)
	binary.BigEndian.PutUint64(k[8:], record)
	return k
}

func (k rowKey) milliseconds() uint64 { return binary.BigEndian.Uint64(k[:8]) }

func (k rowKey) created() time.Time { return time.UnixMilli(int64(k.milliseconds())).UTC() }

func (k rowKey) record() uint64 { return binary.BigEndian.Uint64(k[8:]) }

// rowHead is the extra header of a row: what a filter can see without
// opening it.
//
//	result u8 ‖ flags u8 ‖ 3 tags of 16 bytes ‖ opposite tag (8 bytes)
type rowHead struct {
	result         storage.Result
	sent, received bool
	tags           [3]tag // in the order of the tag indexes
	opposite       short
}

const rowExtra = 1 + 1 + 3*16 + 8

const (
	flagSent     = 1
	flagReceived = 2
)

func (h *rowHead) bytes() []byte {
	b := make([]byte, 2, rowExtra)
	b[0], b[1] = byte(h.result), h.flags()
	for _, tag := range h.tags {
		b = append(b, tag[:]...)
	}
	return binary.BigEndian.AppendUint64(b, uint64(h.opposite))
}

func (h *rowHead) flags() (b byte) {
	if h.sent {
		b |= flagSent
	}
	if h.received {
		b |= flagReceived
	}
	return b
}

// parseRowHead reads the extra header, whose length parseCell has checked.
func parseRowHead(b []byte) (h rowHead) {
	h.result = storage.Result(b[0])
	h.sent, h.received = b[1]&flagSent != 0, b[1]&flagReceived != 0
	for i := range h.tags {
		copy(h.tags[i][:], b[2+16*i:])
	}
	h.opposite = short(binary.BigEndian.Uint64(b[2+16*len(h.tags):]))
	return h
}

func headOf(keys *atrest.Keys, v *storage.Verification) rowHead {
	return rowHead{
		result: v.Result, sent: v.Sent, received: v.Received,
		tags: [3]tag{
			newTag(keys, tagIndexes[0], v.OriginatorAccount),
			newTag(keys, tagIndexes[1], v.BeneficiaryAccount),
			newTag(keys, tagIndexes[2], v.TxHash),
		},
		opposite: oppositeTag(keys, oppositeOf(v)),
	}
}
