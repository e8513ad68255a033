package sandbox_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
)

// An idle connection of the backend is closed after the time that is set: one
// with a short time is, and one with a long time outlives the default of 5 s.
func TestAnIdleConnectionIsClosedAfterItsTime(t *testing.T) {
	a := prepare(t, sandbox.Options{})
	for i, time := range []string{"50", "600000"} {
		a.VASPs[i].Enclave.Env = append(a.VASPs[i].Enclave.Env, "VEGA_SERVER_KEEPALIVE_TIMEOUT_MS="+time)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	short, long := connect(t, a.VASPs[0]), connect(t, a.VASPs[1])
	short.ask(t)
	long.ask(t)
	if err := short.idle(time.Minute); !errors.Is(err, io.EOF) {
		t.Errorf("after a short time: %v, want the end of the connection", err)
	}
	if err := long.idle(6 * time.Second); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("before a long time is over: %v, want nothing to come", err)
	}
	long.ask(t)
}

type kept struct {
	net.Conn
	answers *bufio.Reader
}

func connect(t *testing.T, v *sandbox.VASP) *kept {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(v.API, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &kept{c, bufio.NewReader(c)}
}

// ask makes a request and reads the answer, which leaves the connection open.
func (k *kept) ask(t *testing.T) {
	t.Helper()
	if err := k.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(k, "GET /healthcheck HTTP/1.1\r\nHost: enclave\r\n\r\n")
	answer, err := http.ReadResponse(k.answers, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil || answer.Close || answer.StatusCode != http.StatusOK {
		t.Errorf("%s, to be closed: %v, %v", answer.Status, answer.Close, err)
	}
}

// idle waits for what comes unasked.
func (k *kept) idle(atMost time.Duration) error {
	if err := k.SetDeadline(time.Now().Add(atMost)); err != nil {
		return err
	}
	_, err := k.answers.ReadByte()
	return err
}
