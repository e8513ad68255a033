// Package outwardtest makes the bad company that calls outward may meet: a
// name server whose answers change, and servers with certificates that nobody
// should believe. Everything listens on loopback and ends with its test.
package outwardtest

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
)

// DNS is a name server that answers each question with the next of a list of
// answers, and with the last one from then on.
type DNS struct {
	conn net.PacketConn

	mu    sync.Mutex
	names map[string]*zone
}

type zone struct {
	answers [][]netip.Addr
	asked   int // complete questions: for addresses of both kinds
	half    bool
}

// NewDNS starts one.
func NewDNS(t testing.TB) *DNS {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &DNS{conn: conn, names: map[string]*zone{}}
	done := make(chan struct{})
	go func() { defer close(done); d.serve() }()
	t.Cleanup(func() { conn.Close(); <-done })
	return d
}

// Answer lets a name resolve to one list of addresses after the other.
func (d *DNS) Answer(name string, answers ...[]netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names[name+"."] = &zone{answers: answers}
}

// Asked counts how often a name was resolved.
func (d *DNS) Asked(name string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.names[name+"."].asked
}

// Resolver asks this server and nobody else.
func (d *DNS) Resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", d.conn.LocalAddr().String())
	}}
}

func (d *DNS) serve() {
	question := make([]byte, 1500)
	for {
		n, from, err := d.conn.ReadFrom(question)
		if err != nil {
			return
		}
		if reply := d.reply(question[:n]); reply != nil {
			_, _ = d.conn.WriteTo(reply, from)
		}
	}
}

// Numbers of RFC 1035 and 3596.
const (
	typeA       = 1
	typeAAAA    = 28
	headerSize  = 12
	namePointer = 0xc000 | headerSize
)

// reply answers one question of RFC 1035. The resolver asks for A and AAAA at
// once, so the answer moves on after both.
func (d *DNS) reply(q []byte) []byte {
	name, end := readName(q)
	if end == 0 || len(q) < end+4 {
		return nil
	}
	kind := binary.BigEndian.Uint16(q[end:])
	reply := append([]byte{q[0], q[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, q[headerSize:end+4]...)
	addresses, known := d.next(name, kind)
	if !known {
		reply[3] |= 3 // no such name
		return reply
	}
	for _, a := range addresses {
		if a.Is4() != (kind == typeA) {
			continue
		}
		reply[7]++
		reply = binary.BigEndian.AppendUint16(reply, namePointer)
		reply = binary.BigEndian.AppendUint16(reply, kind)
		reply = append(reply, 0, 1, 0, 0, 0, 0) // class IN, to be forgotten at once
		reply = binary.BigEndian.AppendUint16(reply, uint16(a.BitLen()/8))
		reply = append(reply, a.AsSlice()...)
	}
	return reply
}

func (d *DNS) next(name string, kind uint16) ([]netip.Addr, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	z := d.names[strings.ToLower(name)]
	if z == nil || kind != typeA && kind != typeAAAA {
		return nil, z != nil
	}
	answer := z.answers[min(z.asked, len(z.answers)-1)]
	if z.half = !z.half; !z.half {
		z.asked++
	}
	return answer, true
}

// readName reads the question's name, and says where it ends.
func readName(q []byte) (string, int) {
	var name strings.Builder
	for i := headerSize; i < len(q); {
		n := int(q[i])
		if n == 0 {
			return name.String(), i + 1
		}
		if i+1+n > len(q) {
			return "", 0
		}
		name.Write(q[i+1 : i+1+n])
		name.WriteByte('.')
		i += 1 + n
	}
	return "", 0
}
