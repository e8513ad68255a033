package enclavecmd_test

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/vasp-enclave/vasp-enclave/cmd/enclavecmd"
	"github.com/vasp-enclave/vasp-enclave/plugins/standard"
	"github.com/vasp-enclave/vasp-enclave/proxy/ivms101/ivms101test"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"enclave": func() {
			os.Exit(enclavecmd.Main(standard.Catalog(), os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
		},
	})
}

// The scripts in testdata/script run the real program. generated.json is a
// request as a backend sends it.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", Setup: func(e *testscript.Env) error {
		return os.WriteFile(e.WorkDir+"/generated.json", ivms101test.New(7).Request("16384656509591635927"), 0o600)
	}})
}
