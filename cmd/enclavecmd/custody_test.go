package enclavecmd_test

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/cmd/enclavecmd"
	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/plugins/standard"
)

// Contract 9.4: unset, empty and what is no number erase nothing, the last
// with a warning; less than 1 is 1.
func TestRetentionDays(t *testing.T) {
	const day = 24 * time.Hour
	for value, c := range map[string]struct {
		want  time.Duration
		warns string
	}{
		"": {0, ""}, "30": {30 * day, ""}, "1": {day, ""}, " 7 ": {7 * day, ""},
		"0": {day, "counts as 1"}, "-5": {day, "counts as 1"},
		"x": {0, "nothing is erased"}, "1.5": {0, "nothing is erased"}, "30d": {0, "nothing is erased"},
		"99999999999999999999": {0, "nothing is erased"}, "40000": {0, "nothing is erased"},
	} {
		s, warnings, err := load("VEGA_VERIFICATION_RETENTION_DAYS=" + value)
		if err != nil {
			t.Errorf("%q: %v", value, err)
			continue
		}
		if got := s.Retention(); got != c.want {
			t.Errorf("%q keeps verifications for %v, want %v", value, got, c.want)
		}
		warned := slices.ContainsFunc(warnings, func(w string) bool {
			return strings.Contains(w, "VEGA_VERIFICATION_RETENTION_DAYS") && strings.Contains(w, c.warns)
		})
		if warned != (c.warns != "") {
			t.Errorf("%q: warnings are %v", value, warnings)
		}
	}
}

func kekOf(t *testing.T, fill byte) (value, id string) {
	t.Helper()
	raw := bytes.Repeat([]byte{fill}, 32)
	kek, err := atrest.NewKEK(raw)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(raw), kek.ID()
}

// The other key that the history may be under is of the same source, or, where
// that is a file, the key itself.
func TestThePreviousKey(t *testing.T) {
	value, id := kekOf(t, 9)
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, bytes.Repeat([]byte{1}, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{"plain:", "file:" + file} {
		s, warnings, err := load("VEGA_ENCRYPTION_KEY_BASE64_PREVIOUS="+value, "VEGA_KEY_SOURCE="+source)
		if err != nil {
			t.Fatal(err)
		}
		keks, err := s.PreviousKEK(t.Context(), standard.Catalog())
		if err != nil || len(keks) != 1 || keks[0].ID() != id {
			t.Errorf("%s: the previous keys are %v, %v", source, keks, err)
		}
		if !slices.ContainsFunc(warnings, func(w string) bool { return strings.Contains(w, "VEGA_ENCRYPTION_KEY_BASE64_PREVIOUS_FILE") }) {
			t.Errorf("%s: no word about the environment in %v", source, warnings)
		}
	}
	s, _, err := load("VEGA_ENCRYPTION_KEY_BASE64_PREVIOUS=c2hvcnQ=")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.PreviousKEK(t.Context(), standard.Catalog()); err == nil || !strings.Contains(err.Error(), "VEGA_ENCRYPTION_KEY_BASE64_PREVIOUS: ") {
		t.Errorf("a short key: %v", err)
	}
	if s, _, err = load(""); err != nil {
		t.Fatal(err)
	}
	if keks, err := s.PreviousKEK(t.Context(), standard.Catalog()); len(keks) != 0 || err != nil {
		t.Errorf("without the setting: %v, %v", keks, err)
	}
}

// A new key comes as a value, from a source, or is the one of the settings.
func TestANewKeyIsOpened(t *testing.T) {
	value, id := kekOf(t, 9)
	present, presentID := kekOf(t, 1)
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(value), 0o600); err != nil {
		t.Fatal(err)
	}
	s, _, err := load("VEGA_ENCRYPTION_KEY_BASE64=" + present)
	if err != nil {
		t.Fatal(err)
	}
	open := enclavecmd.KEKOpener(s, standard.Catalog())
	for _, c := range []struct{ source, value, want string }{
		{"", value, id}, {"plain:", value, id}, {"file:" + file, "", id}, {"", "", presentID},
	} {
		if kek, err := open(t.Context(), c.source, c.value); err != nil || kek.ID() != c.want {
			t.Errorf("source %q: %v, %v, want %s", c.source, kek, err, c.want)
		}
	}
	for _, c := range []struct{ source, value, want string }{
		{"plain:", "", "--value-file"}, {"plain:", "c2hvcnQ=", "5 bytes"}, {"file:" + file + ".not", "", "no such file"}, {"vault:x", "", "VEGA_KEY_SOURCE"},
	} {
		if _, err := open(t.Context(), c.source, c.value); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("source %q: %v, want %q", c.source, err, c.want)
		}
	}
}

func TestProgress(t *testing.T) {
	for _, c := range []struct {
		total, done int
		terminal    bool
		want        string
	}{
		{100, 50, true, `^\[#{15}\.{15}\]  50 %  50 of 100  [0-9]+/s$`},
		{100, 130, true, `^\[#{30}\] 100 %`},
		{100, 0, false, `^0 of 100 verifications \(0 %\), 0/s$`},
		{0, 7, true, `^7 verifications, [0-9]+/s$`},
	} {
		if got := enclavecmd.ProgressText(c.total, c.done, c.terminal); !regexp.MustCompile(c.want).MatchString(got) {
			t.Errorf("%d of %d: %q, want %s", c.done, c.total, got, c.want)
		}
	}
}
