package compat_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// ours is the folder of package crypto, which is in another module.
const ours = ".."

// The two modules open each other's values: HPKE, signatures, PRFs, AEADs, and
// keysets in clear and wrapped, in binary and JSON; and envelopes.
func TestBothModulesOpenEachOthersValues(t *testing.T) {
	dir := t.TempDir()
	for range 2 { // offers, then what the other made of them
		startOurs(t, dir)
		trade(t, dir, "archived", "ours")
		answerLetter(t, dir)
	}
	for _, made := range []string{"ours-offer", "ours-reply", "archived-offer", "archived-reply", "letter", "letter-back"} {
		if _, err := os.Stat(filepath.Join(dir, made)); err != nil {
			t.Errorf("the trade did not come to %s", made)
		}
	}
}

func startOurs(t *testing.T, dir string) {
	t.Helper()
	cmd := exec.Command("go", "test", "-C", ours, "-count=1", "-v", "-run", "^TestTradeWithTheArchivedTink$", ".")
	cmd.Env = append(os.Environ(), "VASP_ENCLAVE_COMPAT="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestTradeWithTheArchivedTink")) {
		t.Fatalf("our side of the trade: %v\n%s", err, out)
	}
}

// The code that trades is the same on both sides.
func TestBothSidesRunTheSameCode(t *testing.T) {
	theirs, err := os.ReadFile("trade_test.go")
	must(t, err)
	b, err := os.ReadFile(ours + "/trade_test.go")
	must(t, err)
	want := strings.NewReplacer("github.com/tink-crypto/tink-go/v2", "github.com/google/tink/go", "package crypto_test", "package compat_test").Replace(string(b))
	if string(theirs) != want {
		t.Error("trade_test.go here is not the one of package crypto with the other import path")
	}
}
