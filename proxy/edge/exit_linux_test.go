package edge_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
)

// What the kernel has accepted and the server has not yet is served before the
// listener closes; a connection that begins later finds nobody.
func TestADrainServesWhatTheKernelAccepted(t *testing.T) {
	for _, address := range []string{"127.0.0.2:0", "[::1]:0", ":0"} {
		tcp, err := edge.ListenTCP(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		var exit edge.Exit
		here := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "here") })
		server := &http.Server{Handler: exit.Wrap(here), ConnState: exit.Track}
		slow := &slowAccept{Listener: tcp, hold: make(chan struct{})}
		served := make(chan error, 1)
		go func() { served <- server.Serve(slow) }()
		var waiting []net.Conn
		for range 20 {
			c, err := net.Dial("tcp", tcp.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			waiting = append(waiting, c)
		}
		drained := make(chan error, 1)
		go func() { drained <- exit.Drain("test", server, tcp, time.Minute) }()
		time.Sleep(50 * time.Millisecond) // the drain is waiting for the accepts
		close(slow.hold)
		for _, c := range waiting {
			response, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Errorf("%s: a connection that was accepted got no answer: %v", address, err)
				continue
			}
			if response.StatusCode != http.StatusOK || !response.Close {
				t.Errorf("%s: %d, close %t; want 200 and Connection: close", address, response.StatusCode, response.Close)
			}
			response.Body.Close()
		}
		if err := <-drained; err != nil {
			t.Errorf("Drain = %v", err)
		}
		<-served
		if c, err := net.DialTimeout("tcp", tcp.Addr().String(), 10*time.Second); err == nil {
			c.Close()
			t.Errorf("%s: the port is open after the drain", address)
		}
	}
}

// slowAccept accepts nothing until hold is closed.
type slowAccept struct {
	net.Listener
	hold chan struct{}
}

func (s *slowAccept) Accept() (net.Conn, error) {
	<-s.hold
	return s.Listener.Accept()
}
