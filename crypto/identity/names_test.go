package identity_test

import (
	"encoding/json"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
)

func TestVASPIDHasOneSpelling(t *testing.T) {
	for _, s := range []string{"1", "42", "1234567890", "18446744073709551615"} {
		id, err := identity.ParseVASPID(s)
		if err != nil || id.String() != s {
			t.Errorf("ParseVASPID(%q) = %v, %v", s, id, err)
		}
	}
	for _, s := range []string{"", "0", "00", "01", "+1", "-1", " 1", "1 ", "1_000", "0x1", "1e3", "18446744073709551616", "١", "1\x00"} {
		if id, err := identity.ParseVASPID(s); err == nil {
			t.Errorf("ParseVASPID(%q) = %v, want refusal", s, id)
		}
	}
}

func TestVASPIDIsAStringInJSON(t *testing.T) {
	b, err := json.Marshal(struct{ ID identity.VASPID }{18446744073709551615})
	if err != nil || string(b) != `{"ID":"18446744073709551615"}` {
		t.Errorf("Marshal = %s, %v", b, err)
	}
	var got struct{ ID identity.VASPID }
	if err := json.Unmarshal(b, &got); err != nil || got.ID != 18446744073709551615 {
		t.Errorf("Unmarshal(%s) = %v, %v", b, got.ID, err)
	}
	for _, bad := range []string{`{"ID":"0"}`, `{"ID":"007"}`, `{"ID":7}`} {
		if err := json.Unmarshal([]byte(bad), &got); err == nil {
			t.Errorf("Unmarshal(%s) = %v, want refusal", bad, got.ID)
		}
	}
}

func TestKeyTypesAreTheContracts(t *testing.T) {
	for s, want := range map[string]identity.KeyType{
		"PerVasp": identity.PerVASP, "PerAddress": identity.PerAddress,
		"PerEoa": identity.PerAddress, "PerVerification": identity.PerVerification,
	} {
		if got, err := identity.ParseKeyType(s); err != nil || got != want {
			t.Errorf("ParseKeyType(%q) = %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "pervasp", "PerVASP", "KeyType(0)", "PerVasp "} {
		if got, err := identity.ParseKeyType(s); err == nil {
			t.Errorf("ParseKeyType(%q) = %v, want refusal", s, got)
		}
	}
}

func TestSuitesThatSeal(t *testing.T) {
	for s, want := range map[string]identity.Suite{"x-wing": identity.SuiteXWing, "x25519": identity.SuiteX25519} {
		if got, err := identity.ParseSuite(s); err != nil || got != want || got.String() != s {
			t.Errorf("ParseSuite(%q) = %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "clear", "X-Wing", "p-256"} {
		if got, err := identity.ParseSuite(s); err == nil {
			t.Errorf("ParseSuite(%q) = %v, want refusal", s, got)
		}
	}
}

func FuzzParseVASPID(f *testing.F) {
	f.Add("1")
	f.Add("01")
	f.Add("99999999999999999999")
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := identity.ParseVASPID(s); err == nil && (id.String() != s || id == 0) {
			t.Errorf("ParseVASPID(%q) = %v", s, id)
		}
	})
}
