package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What would let in more than meant, or is misspelt, is refused.
func TestConfigurationsAreRefused(t *testing.T) {
	w := newWorld(t)
	text, err := os.ReadFile(filepath.Join(w.dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	w.write("short.token", []byte("hunter2"))
	w.write("blank.token", []byte(strings.Repeat("hunter2 ", 10)))
	caller := func(change func(map[string]any)) func(map[string]any) {
		return func(c map[string]any) { change(c["callers"].([]any)[0].(map[string]any)) }
	}
	for name, c := range map[string]struct {
		change func(map[string]any)
		want   string
	}{
		"misspelt":          {func(c map[string]any) { c["caller"] = 1 }, "caller"},
		"no listen":         {func(c map[string]any) { delete(c, "listen") }, "listen: must be"},
		"no certificate":    {func(c map[string]any) { delete(c, "tlsCertFile") }, "by https only"},
		"no keys":           {func(c map[string]any) { delete(c, "keys") }, "keys: must name"},
		"odd label":         {func(c map[string]any) { c["keys"] = []string{"a b"} }, "is no label"},
		"no pin":            {func(c map[string]any) { delete(c, "pinFile") }, "pinFile: must be set"},
		"no callers":        {func(c map[string]any) { delete(c, "callers") }, "callers: there must be"},
		"no rate":           {func(c map[string]any) { c["perMinute"] = 0 }, "perMinute"},
		"two of one name":   {caller(func(c map[string]any) { c["name"] = "bravo" }), "number 2 has no name, or one that is taken"},
		"shows nothing":     {caller(func(c map[string]any) { delete(c, "tokenFile") }), "everybody would be let in"},
		"may nothing":       {caller(func(c map[string]any) { delete(c, "may") }), "may: is empty"},
		"may odd things":    {caller(func(c map[string]any) { c["may"] = []string{"all"} }), "must be unwrap or wrap"},
		"no instances":      {caller(func(c map[string]any) { delete(c, "instances") }), "instances: is empty"},
		"a pattern":         {caller(func(c map[string]any) { c["instances"] = []string{"*"} }), "is no name"},
		"odd pin":           {caller(func(c map[string]any) { c["certificatePins"] = []string{"ab"} }), "certificatePins"},
		"short token":       {caller(func(c map[string]any) { c["tokenFile"] = "short.token" }), "32 or more"},
		"token with blanks": {caller(func(c map[string]any) { c["tokenFile"] = "blank.token" }), "without blanks"},
		"another's token":   {caller(func(c map[string]any) { c["tokenFile"] = "bravo.token" }), "has the token of alpha"},
		"absent token":      {caller(func(c map[string]any) { c["tokenFile"] = "absent" }), "no such file"},
		"names without a CA": {func(c map[string]any) {
			delete(c, "clientCAFile")
			caller(func(c map[string]any) { c["certificateNames"] = []string{"x"} })(c)
		}, "clientCAFile is not set"},
	} {
		var changed map[string]any
		if err := json.Unmarshal(text, &changed); err != nil {
			t.Fatal(err)
		}
		c.change(changed)
		b, err := json.Marshal(changed)
		if err != nil {
			t.Fatal(err)
		}
		w.write("changed.json", b)
		if _, err := readConfig(filepath.Join(w.dir, "changed.json")); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// A value is read as it was written, and nothing else is one.
func FuzzParseValue(f *testing.F) {
	v := value{label: "kek", instance: "alpha", nonce: make([]byte, nonceSize), sealed: make([]byte, keySize+tagSize)}
	f.Add(v.text())
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		if v, err := parseValue(text); err == nil && v.text() != text {
			t.Errorf("%q was read as %q", text, v.text())
		}
	})
}
