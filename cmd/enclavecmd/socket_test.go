package enclavecmd

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

// The log names the operator's socket by the listener's address: it must be
// where one can connect.
func TestTheOperatorsSocketIsWhereItSays(t *testing.T) {
	dir, err := os.MkdirTemp("", "ve-") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "operator")
	listener, err := listenOperator(path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if got := listener.Addr().String(); got != path {
		t.Errorf("the socket says %s, it was asked for at %s", got, path)
	}
	c, err := net.Dial(listener.Addr().Network(), listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}
