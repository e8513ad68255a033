package robotcmd_test

import (
	"bytes"
	"net/url"
	"strings"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/cmd/robotcmd"
)

// The probe of a container needs no token, is no request that a person would
// look for, and works over TLS too.
func TestHealthcheck(t *testing.T) {
	cert, key := certificate(t)
	for _, own := range [][]string{{"ROBOT_TOKEN=a", "ROBOT_DRIVER_TOKEN=b"}, {"ROBOT_TLS_CERT_FILE=" + cert, "ROBOT_TLS_KEY_FILE=" + key}} {
		u, err := url.Parse(start(t, own...))
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if code := robotcmd.Main([]string{"healthcheck"}, append(own, "ROBOT_LISTEN="+u.Host), &out, &out); code != 0 || out.String() != "ready\n" {
			t.Errorf("%q: healthcheck = %d %q", own[0], code, out.String())
		}
	}
	var out bytes.Buffer
	if code := robotcmd.Main([]string{"healthcheck"}, []string{"ROBOT_LISTEN=127.0.0.1:1"}, &out, &out); code != 1 || !strings.Contains(out.String(), "not alive, or ROBOT_LISTEN") {
		t.Errorf("nobody there: healthcheck = %d %q", code, out.String())
	}
}
