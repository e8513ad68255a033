package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"os"
)

// examine refuses a file that bbolt would die of, read back in time or write
// to, while a shared lock keeps other programs from changing it. It writes
// nothing. The guard that catches faults later cannot help here: bbolt would
// already have been wrong about which pages are free.
func examine(path string) error {
	if err := checkSize(path); err != nil {
		return err
	}
	file, err := openFile(path, true)
	if err != nil {
		return err
	}
	return errors.Join(checkFile(path), file.Close())
}

func checkSize(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is not a regular file")
	}
	if info.Size() < 4*pageSize {
		return fmt.Errorf("the file has %d bytes and is cut short: restore it from a backup", info.Size())
	}
	return nil
}

// metaPage is what bbolt writes last in a commit: where the root bucket and
// the list of free pages are, and how many pages there are. Two take turns.
type metaPage struct {
	root, freelist, pages, transaction uint64
}

const (
	pageHeader     = 16
	metaLength     = 64 // its last 8 bytes are the checksum
	metaMagic      = 0xED0CDAED
	metaVersion    = 2
	freelistFlag   = 0x10
	noFreelist     = math.MaxUint64
	manyFreePages  = 0xFFFF // the count is in the first element then
	freelistMemory = 1 << 30
)

func checkFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	var newest metaPage
	for n := range int64(2) {
		m, err := readMeta(f, n)
		if err != nil {
			return err
		}
		if m.pages > uint64(info.Size())/pageSize {
			return fmt.Errorf("the file has %d bytes, its head page says %d pages of %d: it is cut short; restore it from a backup",
				info.Size(), m.pages, pageSize)
		}
		if m.transaction >= newest.transaction {
			newest = m
		}
	}
	return checkFreelist(f, newest)
}

// readMeta insists on both pages. One bad page makes bbolt go back to the
// commit before without a word. A crash does not cause it: a head page fits
// in one sector, and the other one is not touched.
func readMeta(f io.ReaderAt, n int64) (m metaPage, err error) {
	b := make([]byte, metaLength)
	if _, err := f.ReadAt(b, n*pageSize+pageHeader); err != nil {
		return m, fmt.Errorf("read head page %d: %w", n, err)
	}
	sum := fnv.New64a()
	sum.Write(b[:metaLength-8])
	order := binary.NativeEndian
	if order.Uint32(b) != metaMagic || order.Uint32(b[4:]) != metaVersion || order.Uint32(b[8:]) != pageSize ||
		order.Uint64(b[metaLength-8:]) != sum.Sum64() {
		return m, fmt.Errorf("head page %d is damaged, the last commit may be lost: restore the file from a backup", n)
	}
	m = metaPage{order.Uint64(b[16:]), order.Uint64(b[32:]), order.Uint64(b[40:]), order.Uint64(b[48:])}
	if m.root < 2 || m.root >= m.pages || m.freelist == noFreelist || m.freelist < 2 || m.freelist >= m.pages {
		return m, fmt.Errorf("head page %d is not one that this program writes", n)
	}
	return m, nil
}

var errFreelist = errors.New("the list of free pages is damaged: restore the file from a backup")

// checkFreelist makes sure that the list names pages of the file, each once:
// otherwise the next commit would write over pages that are in use.
func checkFreelist(f io.ReaderAt, m metaPage) error {
	head := make([]byte, pageHeader+8)
	if _, err := f.ReadAt(head, int64(m.freelist)*pageSize); err != nil {
		return fmt.Errorf("read list of free pages: %w", err)
	}
	order := binary.NativeEndian
	id, flags, count, overflow := order.Uint64(head), order.Uint16(head[8:]), uint64(order.Uint16(head[10:])), uint64(order.Uint32(head[12:]))
	start := int64(m.freelist)*pageSize + pageHeader
	if count == manyFreePages {
		count, start = order.Uint64(head[pageHeader:]), start+8
	}
	if id != m.freelist || flags != freelistFlag || m.freelist+overflow >= m.pages ||
		count > m.pages || count*8 > (overflow+1)*pageSize-pageHeader || count*8 > freelistMemory {
		return errFreelist
	}
	return checkFreePages(f, start, count, m)
}

func checkFreePages(f io.ReaderAt, start int64, count uint64, m metaPage) error {
	list := make([]byte, count*8)
	if _, err := f.ReadAt(list, start); err != nil {
		return fmt.Errorf("read list of free pages: %w", err)
	}
	last := uint64(1)
	for ; len(list) > 0; list = list[8:] {
		page := binary.NativeEndian.Uint64(list)
		if page <= last || page >= m.pages || page == m.root || page == m.freelist {
			return errFreelist
		}
		last = page
	}
	return nil
}
