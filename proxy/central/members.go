package central

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/allow"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
	"github.com/vasp-enclave/vasp-enclave/proxy/wirejson"
)

// Member is one VASP of the alliance, as its operator wrote it down.
type Member struct {
	VASPID         identity.VASPID
	Name           string
	LegalName      string
	Country        string
	CountryCode    string // ISO 3166-1 alpha-2
	Jurisdiction   string
	LicensedStatus string // Regulated, Unregulated or ""
	Active         bool   // false: known, and let in no more
	CreatedAt      time.Time
	Allow          *allow.List // where its enclave calls from
	Keys           []relay.Key // one, or two for the time of a change

	connections map[identity.VASPID]bool // nil: everybody
}

// Members is the alliance. It does not change once read.
type Members struct{ list []*Member }

// connected tells whether both want to deal with each other. Everybody deals
// with itself.
func (m *Member) connected(other *Member) bool {
	return m.VASPID == other.VASPID || m.wants(other) && other.wants(m)
}

func (m *Member) wants(other *Member) bool {
	return m.connections == nil || m.connections[other.VASPID]
}

func (m *Members) active() []*Member {
	return slices.DeleteFunc(slices.Clone(m.list), func(m *Member) bool { return !m.Active })
}

func (m *Members) keys() (all []relay.Key) {
	for _, member := range m.active() {
		all = append(all, member.Keys...)
	}
	return all
}

func (m *Members) allowed() *allow.List {
	var lists []*allow.List
	for _, member := range m.active() {
		lists = append(lists, member.Allow)
	}
	return allow.Union(lists...)
}

// Len is the number of members, active or not.
func (m *Members) Len() int { return len(m.list) }

// maxMembersFile bounds the file, in bytes.
const maxMembersFile = 8 << 20

// ReadMembers reads a members file. Secret key files that it names are looked
// for beside it.
func ReadMembers(path string) (*Members, error) {
	text, err := readSmall(path, maxMembersFile)
	if err != nil {
		return nil, fmt.Errorf("read members file: %w", err)
	}
	members, err := ParseMembers(text, func(name string) (string, error) {
		secret, err := readSmall(beside(path, name), 64<<10)
		return strings.TrimSuffix(strings.TrimSuffix(string(secret), "\n"), "\r"), err
	})
	if err != nil {
		return nil, fmt.Errorf("members file %s:\n%w", path, err)
	}
	return members, nil
}

// SecretKeyFiles are the files that a members file names for secret keys, none
// when it cannot be read.
func SecretKeyFiles(path string) []string {
	text, err := readSmall(path, maxMembersFile)
	if err != nil {
		return nil
	}
	var file membersFile
	if yaml.Unmarshal(text, &file) != nil {
		return nil
	}
	var names []string
	for i := range file.Members {
		for _, pair := range file.Members[i].Keys {
			if pair.SecretKeyFile != "" {
				names = append(names, beside(path, pair.SecretKeyFile))
			}
		}
	}
	return names
}

// beside is where a file lies that another one names.
func beside(path, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(path), name)
}

func readSmall(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, most)
	}
	return text, err
}

// membersFile is the file's form.
type membersFile struct {
	Members []entry `json:"members"`
}

type entry struct {
	VASPID         string    `json:"vaspId"`
	Name           string    `json:"vaspName"`
	LegalName      string    `json:"legalName"`
	Country        string    `json:"country"`
	CountryCode    string    `json:"countryCode"`
	Jurisdiction   string    `json:"jurisdiction"`
	LicensedStatus string    `json:"licensedStatus"`
	Active         *bool     `json:"active"` // absent: true
	CreatedAt      string    `json:"createdAt"`
	Allow          []string  `json:"allow"`
	Keys           []keyPair `json:"keys"`
	Connections    *[]string `json:"connections"` // absent: everybody
}

type keyPair struct {
	AccessKey     string       `json:"accessKey"`
	SecretKey     relay.Secret `json:"secretKey"`
	SecretKeyFile string       `json:"secretKeyFile"`
}

// ParseMembers reads YAML or JSON. The error joins everything that is wrong,
// one line each with member, field and remedy. Secrets are in none of them.
func ParseMembers(text []byte, readSecret func(file string) (string, error)) (*Members, error) {
	asJSON, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return nil, explainYAML(err)
	}
	var file membersFile
	limits := wirejson.WithLimits(wirejson.Limits{Bytes: 2 * maxMembersFile, Tokens: 1 << 22})
	if err := wirejson.Unmarshal(asJSON, &file, wirejson.RefuseUnknown(), wirejson.ShowNames(), limits); err != nil {
		return nil, fmt.Errorf("%w (numbers, dates and words such as NO that are meant as text need quotes)", err)
	}
	if len(file.Members) == 0 {
		return nil, errors.New("no members: list them under members")
	}
	r := &reading{readSecret: readSecret, ids: make(map[identity.VASPID]bool), access: make(map[string]string), secrets: make(map[string]string)}
	members := new(Members)
	for i := range file.Members {
		members.list = append(members.list, r.member(i, &file.Members[i]))
	}
	for i, m := range members.list {
		r.connections(i, m, &file.Members[i])
	}
	if err := errors.Join(r.errs...); err != nil {
		return nil, err
	}
	return members, nil
}

// explainYAML keeps the line of a YAML error and not the text in it, which
// may be a secret.
func explainYAML(err error) error {
	for _, word := range strings.Fields(err.Error()) {
		if n := strings.TrimSuffix(word, ":"); n != word && strings.Trim(n, "0123456789") == "" && n != "" {
			return fmt.Errorf("not YAML at line %s: mind the indentation, and that no name comes twice in one member", n)
		}
	}
	return errors.New("not YAML: mind the indentation, and that no name comes twice in one member")
}

// reading is one call of ParseMembers: what was seen so far, and what was
// wrong with it.
type reading struct {
	readSecret func(string) (string, error)
	ids        map[identity.VASPID]bool
	access     map[string]string // by access key: whose
	secrets    map[string]string // by secret: whose
	errs       []error
}

// fail notes a problem with a field of one member.
func (r *reading) fail(who, field, format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf("%s, %s: %w", who, field, fmt.Errorf(format, args...)))
}

func name(i int, e *entry) string { return fmt.Sprintf("members[%d] (vaspId %.20q)", i, e.VASPID) }

func (r *reading) member(i int, e *entry) *Member {
	who := name(i, e)
	m := &Member{
		Name: e.Name, LegalName: e.LegalName, Country: e.Country, CountryCode: e.CountryCode, Jurisdiction: e.Jurisdiction,
		LicensedStatus: e.LicensedStatus, Active: e.Active == nil || *e.Active,
	}
	var err error
	if m.VASPID, err = identity.ParseVASPID(e.VASPID); err != nil {
		r.fail(who, "vaspId", "%w; give the id that the VASP has in the alliance", err)
	} else if r.ids[m.VASPID] {
		r.fail(who, "vaspId", "there is another member with this id; remove one")
	}
	r.ids[m.VASPID] = true
	if m.CreatedAt, err = time.Parse(time.RFC3339, e.CreatedAt); err != nil {
		r.fail(who, "createdAt", "must be a time such as 2026-01-02T03:04:05.000Z")
	}
	r.texts(who, e)
	m.Allow = r.allow(who, e.Allow, m.Active)
	m.Keys = r.keys(who, e.Keys)
	return m
}

func (r *reading) texts(who string, e *entry) {
	if e.Name == "" {
		r.fail(who, "vaspName", "is missing; give the name that the other members see")
	}
	if e.LicensedStatus != "" && e.LicensedStatus != "Regulated" && e.LicensedStatus != "Unregulated" {
		r.fail(who, "licensedStatus", "must be Regulated or Unregulated, or left out")
	}
	if e.CountryCode != "" && (len(e.CountryCode) != 2 || strings.Trim(e.CountryCode, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "") {
		r.fail(who, "countryCode", "must be two capital letters (ISO 3166-1 alpha-2), or left out")
	}
	for field, text := range map[string]string{"vaspName": e.Name, "legalName": e.LegalName, "country": e.Country, "jurisdiction": e.Jurisdiction} {
		if len(text) > 256 {
			r.fail(who, field, "must have at most 256 bytes")
		}
	}
}

func (r *reading) allow(who string, entries []string, active bool) *allow.List {
	list, err := allow.ParseList(strings.Join(entries, ", "))
	switch {
	case err != nil:
		r.fail(who, "allow", "%w", err)
	case list.Len() == 0 && active:
		r.fail(who, "allow", "is empty, so that its enclave could never connect; give the addresses that it calls from, or set active: false")
	}
	return list
}

func (r *reading) keys(who string, pairs []keyPair) (keys []relay.Key) {
	if len(pairs) == 0 || len(pairs) > 2 {
		r.fail(who, "keys", "must hold one pair of accessKey and secretKey, or two for the time of a change")
	}
	for i, pair := range pairs {
		field := fmt.Sprintf("keys, pair %d", i+1)
		k, err := r.key(pair)
		if err == nil {
			err = k.Check()
		}
		if err != nil {
			r.fail(who, field, "%w", err)
			continue
		}
		r.unique(who, field, k)
		keys = append(keys, k)
	}
	return keys
}

func (r *reading) key(pair keyPair) (relay.Key, error) {
	k := relay.Key{Access: pair.AccessKey, Secret: pair.SecretKey}
	given := pair.SecretKey.Reveal() != ""
	switch {
	case given && pair.SecretKeyFile != "":
		return k, errors.New("secretKey and secretKeyFile are both given; keep one")
	case !given && pair.SecretKeyFile == "":
		return k, errors.New("secretKey is missing; give it, or name its file in secretKeyFile")
	case given:
		return k, nil
	}
	secret, err := r.readSecret(pair.SecretKeyFile)
	if err != nil {
		return k, fmt.Errorf("secretKeyFile: %w", err)
	}
	k.Secret = relay.NewSecret(secret)
	return k, nil
}

// unique refuses a key pair that has a part in common with another: the access
// key says who calls, and the secret proves it.
func (r *reading) unique(who, field string, k relay.Key) {
	if other, ok := r.access[k.Access]; ok {
		r.fail(who, field, "accessKey is also that of %s; each pair needs its own", other)
	}
	if other, ok := r.secrets[k.Secret.Reveal()]; ok {
		r.fail(who, field, "secretKey is also that of %s; each pair needs its own", other)
	}
	r.access[k.Access], r.secrets[k.Secret.Reveal()] = who, who
}

func (r *reading) connections(i int, m *Member, e *entry) {
	if e.Connections == nil {
		return
	}
	m.connections = make(map[identity.VASPID]bool)
	for _, text := range *e.Connections {
		id, err := identity.ParseVASPID(text)
		if err != nil || !r.ids[id] {
			r.fail(name(i, e), "connections", "%.20q is the vaspId of no member; remove it, or list that member", text)
			continue
		}
		m.connections[id] = true
	}
}
