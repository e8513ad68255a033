package redis_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// script is a server that answers by rule; nil means never.
type script func(command []string) (answer []byte)

// serve runs a script on a Unix socket and gives its URL.
func serve(t testing.TB, s script, credentials string) (url string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	s.accept(t, "unix", socket)
	return "unix://" + credentials + socket
}

// serveTCP runs a script on a port and gives its address.
func serveTCP(t testing.TB, s script) (addr string) {
	t.Helper()
	return s.accept(t, "tcp", "127.0.0.1:0")
}

func (s script) accept(t testing.TB, network, at string) (addr string) {
	t.Helper()
	l, err := net.Listen(network, at)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				defer context.AfterFunc(t.Context(), func() { _ = conn.Close() })()
				s.talk(conn)
			})
		}
	})
	return l.Addr().String()
}

func (s script) talk(conn net.Conn) {
	for in := bufio.NewReader(conn); ; {
		command, err := readCommand(in)
		if err != nil {
			return
		}
		if answer := s(command); answer != nil {
			if _, err := conn.Write(answer); err != nil {
				return
			}
		}
	}
}

// readCommand reads what a client sends: a list of values.
func readCommand(in *bufio.Reader) (words []string, err error) {
	var count, size int
	if _, err := fmt.Fscanf(in, "*%d\r\n", &count); err != nil {
		return nil, err
	}
	for range count {
		if _, err := fmt.Fscanf(in, "$%d\r\n", &size); err != nil {
			return nil, err
		}
		word := make([]byte, size+2)
		if _, err := io.ReadFull(in, word); err != nil {
			return nil, err
		}
		words = append(words, strings.ToLower(string(word[:size])))
	}
	return words, nil
}

// old answers like a Redis that does not know HELLO yet, and repeats what it
// was sent; everything else is the caller's.
func old(answer string) script {
	return func(command []string) []byte {
		switch command[0] {
		case "hello":
			return []byte("-ERR unknown command `HELLO`, with args beginning with: `" + strings.Join(command[1:], "`, `") + "`\r\n")
		case "auth":
			return []byte("+OK\r\n")
		}
		return []byte(answer)
	}
}
