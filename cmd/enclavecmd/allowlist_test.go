package enclavecmd

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/proxy/allow"
)

// A file is read again while the enclave runs; what cannot be read leaves the
// list of before, and the error names setting, entry and remedy (attack N2).
func TestTheAllowlistsFileIsReadAgain(t *testing.T) {
	s := &Settings{AllowlistFile: filepath.Join(t.TempDir(), "list")}
	proxies, err := allow.ParseList("192.0.2.7")
	if err != nil {
		t.Fatal(err)
	}
	p := &parts{allowed: new(allow.Current), proxies: proxies}
	load := func(text string) error {
		t.Helper()
		if err := os.WriteFile(s.AllowlistFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p.loadAllowlist(s)
	}
	if err := p.loadAllowlist(s); err == nil || !strings.HasPrefix(err.Error(), "VEGA_CENTRAL_ALLOWLIST_FILE: open ") {
		t.Errorf("no file: %v", err)
	}
	if err := load("# central\n192.0.2.10\n2001:db8::10 # its other address\n"); err != nil || p.allowed.Len() != 2 {
		t.Fatalf("a good file: %v, %d entries", err, p.allowed.Len())
	}
	for text, want := range map[string]string{
		"192.0.2.11\ncentral.example": `VEGA_CENTRAL_ALLOWLIST_FILE: line 2, "central.example": domain names are refused`,
		"192.0.2.0/28":                `VEGA_CENTRAL_ALLOWLIST_FILE: "192.0.2.0/28": holds a trusted proxy`,
		strings.Repeat(" ", 2<<20):    "VEGA_CENTRAL_ALLOWLIST_FILE: longer than",
		"192.0.2.11 \x00":             "VEGA_CENTRAL_ALLOWLIST_FILE: ",
	} {
		if err := load(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.30q: %v, want %q", text, err, want)
		}
		if !p.allowed.Contains(netip.MustParseAddr("192.0.2.10")) || p.allowed.Len() != 2 {
			t.Errorf("%.30q changed who may connect", text)
		}
	}
	if err := p.emptyAllowlist(); err != nil {
		t.Errorf("a list with entries is said to be empty: %v", err)
	}
	if err := load("# nobody\n"); err != nil || p.allowed.Contains(netip.MustParseAddr("192.0.2.10")) {
		t.Errorf("an empty file: %v, and central may connect", err)
	}
	if err := p.emptyAllowlist(); err == nil || !strings.Contains(err.Error(), "nobody may connect") {
		t.Errorf("an empty list: %v, want a warning", err)
	}
	s = &Settings{CentralAllowlist: "192.0.2.12"}
	if err := p.loadAllowlist(s); err != nil || !p.allowed.Contains(netip.MustParseAddr("192.0.2.12")) {
		t.Errorf("a list in the settings: %v", err)
	}
}
