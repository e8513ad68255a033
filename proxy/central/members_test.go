package central_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/proxy/central"
)

const twoMembers = `
members:
  - vaspId: "17104899575711305197"
    vaspName: Alpha
    legalName: Alpha Ltd
    country: Singapore
    countryCode: SG
    jurisdiction: Singapore
    licensedStatus: Regulated
    active: true
    createdAt: "2024-01-02T03:04:05.000Z"
    allow: [192.0.2.1, "198.51.100.0/28"]
    keys:
      - {accessKey: alpha-1, secretKey: the first secret key of alpha}
      - {accessKey: alpha-2, secretKeyFile: alpha-2.secret}
  - vaspId: "2"
    vaspName: Beta
    createdAt: 2024-01-02T03:04:05Z
    allow: ["2001:db8::1"]
    connections: ["17104899575711305197"]
    keys: [{accessKey: beta-1, secretKey: the secret key of beta}]
`

func secretFile(name string) (string, error) {
	if name == "alpha-2.secret" {
		return "the second secret key of alpha", nil
	}
	return "", errors.New("open " + name + ": no such file or directory")
}

func TestParseMembers(t *testing.T) {
	m, err := central.ParseMembers([]byte(twoMembers), secretFile)
	if err != nil || m.Len() != 2 {
		t.Fatalf("%v, %v", m, err)
	}
	asJSON := `{"members":[{"vaspId":"1","vaspName":"A","createdAt":"2024-01-02T03:04:05Z","allow":["192.0.2.1"],"keys":[{"accessKey":"a","secretKey":"sixteen letters."}]}]}`
	if m, err := central.ParseMembers([]byte(asJSON), secretFile); err != nil || m.Len() != 1 {
		t.Errorf("JSON: %v, %v", m, err)
	}
}

// Every error names member and field and says what to do, and none of them
// shows a secret.
func TestParseMembersRefuses(t *testing.T) {
	change := func(old, new string) string {
		if !strings.Contains(twoMembers, old) {
			t.Fatalf("the file has no %q", old)
		}
		return strings.Replace(twoMembers, old, new, 1)
	}
	const alpha, beta = `members[0] (vaspId "17104899575711305197"), `, `members[1] (vaspId "2"), `
	for want, text := range map[string]string{
		"no members":            "",
		"no members: list them": "members: []",
		"/members":              "members: 1",
		"/member: unknown":      "member: []",
		"not YAML at line":      "members:\n  - vaspId: x\n bad",
		"no name comes twice":   change("vaspName: Beta", "vaspName: Beta\n    vaspName: Gamma"),
		"/members/1/nickname":   change("vaspName: Beta", "vaspName: Beta\n    nickname: B"),
		"/members/1/VaspName":   change("vaspName: Beta", "VaspName: Beta"),
		"/members/1/vaspId: got a number, want a string": change(`vaspId: "2"`, "vaspId: 2"),
		"need quotes":             change("countryCode: SG", "countryCode: NO"),
		"/members/0/keys/0/extra": change("{accessKey: alpha-1,", "{extra: 1, accessKey: alpha-1,"),

		`members[1] (vaspId "x2"), vaspId: VASP id is not a decimal`: change(`vaspId: "2"`, `vaspId: "x2"`),
		`members[1] (vaspId "0"), vaspId`:                            change(`vaspId: "2"`, `vaspId: "0"`),
		`members[1] (vaspId "02"), vaspId`:                           change(`vaspId: "2"`, `vaspId: "02"`),
		`members[1] (vaspId ""), vaspId`:                             change(`vaspId: "2"`, `legalName: x`),
		`vaspId: there is another member with this id`:               change(`vaspId: "2"`, `vaspId: "17104899575711305197"`),
		beta + "vaspName: is missing":                                change("vaspName: Beta", `vaspName: ""`),
		beta + "vaspName: must have at most":                         change("vaspName: Beta", "vaspName: "+strings.Repeat("B", 300)),
		alpha + "legalName: must have at most":                       change("Alpha Ltd", strings.Repeat("B", 300)),
		alpha + "licensedStatus: must be Regulated":                  change("licensedStatus: Regulated", "licensedStatus: regulated"),
		alpha + "countryCode: must be two":                           change("countryCode: SG", "countryCode: sg"),
		alpha + "createdAt: must be a time such as":                  change(`"2024-01-02T03:04:05.000Z"`, `"2024-01-02"`),

		alpha + `allow: "enclave.alpha.example": domain names are refused`: change("192.0.2.1,", "enclave.alpha.example,"),
		alpha + `allow: "198.51.100.0/8": bits after`:                      change("198.51.100.0/28", "198.51.100.0/8"),
		alpha + `allow: "10.0.0.0/8": wider than /24`:                      change("198.51.100.0/28", "10.0.0.0/8"),
		beta + `allow: is empty`:                                           change(`["2001:db8::1"]`, "[]"),

		alpha + "keys, pair 2: secretKeyFile: open other: no such file": change("secretKeyFile: alpha-2.secret", "secretKeyFile: other"),
		alpha + "keys, pair 1: secretKey and secretKeyFile are both":    change("secretKey: the first", "secretKeyFile: alpha-2.secret, secretKey: the first"),
		beta + "keys, pair 1: secretKey is missing":                     change(", secretKey: the secret key of beta", ""),
		beta + "keys, pair 1: access key is empty":                      change("accessKey: beta-1,", ""),
		beta + "keys, pair 1: access key must be":                       change("accessKey: beta-1,", "accessKey: beta one,"),
		beta + "keys, pair 1: secret key has 5 bytes":                   change("the secret key of beta", "short"),
		beta + "keys: must hold one pair":                               change("[{accessKey: beta-1, secretKey: the secret key of beta}]", "[]"),
		beta + "keys, pair 1: accessKey is also that of members[0]":     change("accessKey: beta-1", "accessKey: alpha-1"),
		beta + "keys, pair 1: secretKey is also that of members[0]":     change("the secret key of beta", "the first secret key of alpha"),
		alpha + "keys, pair 2: secretKey is also that of members[0]":    change("the first secret key of alpha", "the second secret key of alpha"),
		beta + `connections: "3" is the vaspId of no member`:            change(`connections: ["17104899575711305197"]`, `connections: ["3"]`),
		beta + `connections: "Alpha" is the vaspId of no member`:        change(`connections: ["17104899575711305197"]`, `connections: [Alpha]`),
	} {
		m, err := central.ParseMembers([]byte(text), secretFile)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v, %v", want, m, err)
			continue
		}
		for _, secret := range []string{"secret key of alpha", "secret key of beta", ": short"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the error about %q shows a secret: %v", want, err)
			}
		}
	}
}

func TestParseMembersReportsEverythingAtOnce(t *testing.T) {
	text := strings.NewReplacer("192.0.2.1,", "a.example, b.example,", "countryCode: SG", "countryCode: sg", "vaspName: Beta", `vaspName: ""`).Replace(twoMembers)
	_, err := central.ParseMembers([]byte(text), secretFile)
	for _, want := range []string{"a.example", "b.example", "countryCode", "vaspName"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v lacks %s", err, want)
		}
	}
}

func TestReadMembersFindsSecretsBesideTheFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "members.yaml")
	write(t, path, twoMembers)
	if _, err := central.ReadMembers(path); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "alpha-2.secret")) {
		t.Errorf("without the secret's file: %v", err)
	}
	write(t, filepath.Join(dir, "alpha-2.secret"), "the second secret key of alpha\r\n")
	if m, err := central.ReadMembers(path); err != nil || m.Len() != 2 {
		t.Errorf("ReadMembers = %v, %v", m, err)
	}
	if _, err := central.ReadMembers(filepath.Join(dir, "nowhere.yaml")); err == nil || !strings.Contains(err.Error(), "read members file: open") {
		t.Errorf("no file: %v", err)
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func FuzzParseMembers(f *testing.F) {
	f.Add(twoMembers)
	f.Add(`{"members":[{"vaspId":"1","allow":["unsafe:0.0.0.0/0"],"keys":[{}],"connections":[]}]}`)
	f.Add("members: &a\n- *a\n")
	f.Add("members: [null, 1, {}]")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := central.ParseMembers([]byte(text), secretFile)
		if err == nil && m.Len() == 0 {
			t.Fatalf("%q reads as no members", text)
		}
		if err != nil && strings.Contains(err.Error(), "the second secret key of alpha") {
			t.Fatalf("%q: the error shows a secret", text)
		}
	})
}
