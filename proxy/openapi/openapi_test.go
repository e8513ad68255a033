package openapi_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/vasp-enclave/vasp-enclave/proxy/openapi"
)

var update = flag.Bool("update", false, "write the JSON that is served")

// What is served is what a person wrote.
func TestTheJSONIsTheYAML(t *testing.T) {
	for name, served := range map[string][]byte{"enclave": openapi.Enclave, "vasp": openapi.VASP} {
		source, err := os.ReadFile(name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		text, err := yaml.YAMLToJSONStrict(source)
		if err != nil {
			t.Fatalf("%s.yaml: %v", name, err)
		}
		var want bytes.Buffer
		if err := json.Indent(&want, text, "", " "); err != nil {
			t.Fatal(err)
		}
		want.WriteByte('\n')
		if *update {
			if err := os.WriteFile(name+".json", want.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if !bytes.Equal(served, want.Bytes()) {
			t.Errorf("%s.json is behind %s.yaml: run go test ./proxy/openapi -update", name, name)
		}
	}
}
