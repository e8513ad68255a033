// Package sandbox is a whole alliance on one machine: a central server, VASPs
// each with an enclave and a robot backend, real processes with real TLS and
// real files, each party on a loopback address of its own so that the
// allowlists really judge. The demo, the benchmark and the tests live in it.
//
// It writes ordinary files and sets ordinary settings; no program knows that
// it runs in a sandbox.
package sandbox

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy/edge/acme/pebble"
)

// Binaries says where the programs are.
type Binaries struct{ Enclave, Central, Robot string }

// BinariesIn finds the programs in one directory.
func BinariesIn(dir string) (Binaries, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Binaries{}, err
	}
	b := Binaries{filepath.Join(dir, "enclave"), filepath.Join(dir, "central"), filepath.Join(dir, "robotvasp")}
	for _, file := range []string{b.Enclave, b.Central, b.Robot} {
		if _, err := os.Stat(file); err != nil {
			return b, fmt.Errorf("%w: build the programs first, with: make build", err)
		}
	}
	return b, nil
}

// Options of an alliance. The zero value is two VASPs with default settings.
type Options struct {
	// Enclave, Central and Robot are settings NAME=value that are added to
	// every process of the kind; the last one of a name counts.
	Enclave, Central, Robot []string
	// Record keeps everything that central relays, in Alliance.Record.
	Record bool
	// PreferUsualPorts takes the documented default ports where they are
	// free, for a person who reads along.
	PreferUsualPorts bool
	// ACME is the path of a Pebble, a local certificate authority: the
	// enclaves' certificates come from it, and not from files. They last for
	// ACMELifetime, zero being ninety days.
	ACME         string
	ACMELifetime time.Duration
}

// VASP is one member: its backend, its enclave, and what a backend engineer
// would know of them.
type VASP struct {
	Name, ID       string
	Address        netip.Addr // of the enclave
	API            string     // base URL of the enclave for its backend
	Metrics, Admin string     // base URLs
	RobotURL       string     // base URL of the robot backend
	PublicEndpoint string
	Database       string // the history's file
	OperatorSocket string // the enclave's VEGA_OPERATOR_SOCKET
	Token          string // that the enclave shows to the backend
	TokenFile      string // where it stands
	EncryptionKey  string // of the history, base64
	CertFile       string // of the public endpoint; "" when it is automatic
	KeyFile        string
	AccessKey      string
	SecretKey      string
	Enclave, Robot *Program
	publicListen   string
	backendHost    string
	backendPort    string
	metricsListen  string
	adminListen    string
	robotListen    string
}

// Alliance is everything together. Make it with New.
type Alliance struct {
	Dir             string
	Central         *Program
	CentralEndpoint string
	CentralMetrics  string
	Record          string // file with what central relayed, when recorded
	VASPs           []*VASP
	Roots           *x509.CertPool
	Authority       *pebble.Authority // with Options.ACME; else nil

	issuer    *Program // the Authority's
	options   Options
	binaries  Binaries
	sockets   string // a directory with a short name: a socket's path has little room
	authority *authority
	rootFile  string
}

// The parties' addresses. The enclaves' are what central's members file
// allows, central's what the enclaves allow.
var (
	centralAddr = netip.MustParseAddr("127.0.0.4")
	vaspAddrs   = []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3")}
	robotAddrs  = []netip.Addr{netip.MustParseAddr("127.0.0.5"), netip.MustParseAddr("127.0.0.6")}
)

// Two members with ids beyond the signed range, as real ones are.
var members = []struct{ name, id, legal, country, code string }{
	{"Alpha Exchange", "15952089931162058999", "Alpha Exchange Pte. Ltd.", "Singapore", "SG"},
	{"Bravo Coin", "16384656509591635927", "Bravo Coin Inc.", "Korea, Republic of", "KR"},
}

// New writes the files of an alliance of two VASPs into dir and prepares its
// processes; nothing runs yet.
func New(dir string, b Binaries, o Options) (*Alliance, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	a := &Alliance{Dir: dir, options: o, binaries: b}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if found, err := os.ReadDir(dir); err != nil || len(found) > 0 {
		return nil, errors.Join(fmt.Errorf("%s is not empty: a sandbox makes its keys anew, give it a new directory", dir), err)
	}
	if a.sockets, err = os.MkdirTemp("", "ve-"); err != nil {
		return nil, err
	}
	if a.authority, err = newAuthority(); err != nil {
		return nil, err
	}
	a.Roots = a.authority.pool()
	if a.rootFile, err = a.authority.write(dir); err != nil {
		return nil, err
	}
	if err := a.prepare(); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *Alliance) prepare() error {
	port := ports{usual: a.options.PreferUsualPorts}
	central := port.take(centralAddr, 8443)
	centralMetrics := port.take(centralAddr, 9465)
	a.CentralEndpoint, a.CentralMetrics = "https://"+central, "http://"+centralMetrics
	public := port.takeSame(vaspAddrs, 8443)
	for i, m := range members {
		v := &VASP{
			Name: m.name, ID: m.id, Address: vaspAddrs[i],
			Token: random(), AccessKey: random()[:16], SecretKey: random(), EncryptionKey: base64.StdEncoding.EncodeToString(bytes32()),
			publicListen: public[i], metricsListen: port.take(vaspAddrs[i], 9464),
			adminListen: port.take(vaspAddrs[i], 21118), robotListen: port.take(robotAddrs[i], 8081),
		}
		backend := port.take(vaspAddrs[i], 21117)
		v.backendHost, v.backendPort, _ = net.SplitHostPort(backend)
		v.API, v.PublicEndpoint = "http://"+backend, "https://"+v.publicListen
		v.Metrics, v.Admin, v.RobotURL = "http://"+v.metricsListen, "http://"+v.adminListen, "http://"+v.robotListen
		a.VASPs = append(a.VASPs, v)
	}
	if port.err != nil {
		return fmt.Errorf("find free ports on loopback addresses 127.0.0.2 to 127.0.0.6: %w", port.err)
	}
	if a.options.ACME != "" {
		if err := a.prepareAuthority(netip.MustParseAddrPort(public[0]).Port()); err != nil {
			return err
		}
	}
	if err := a.prepareCentral(central, centralMetrics); err != nil {
		return err
	}
	for i, v := range a.VASPs {
		if err := a.prepareVASP(v, members[i].legal, members[i].code); err != nil {
			return err
		}
	}
	return nil
}

func (a *Alliance) prepareCentral(listen, metrics string) error {
	certFile, keyFile, err := a.authority.issue(a.Dir, "central", centralAddr)
	if err != nil {
		return err
	}
	var file strings.Builder
	file.WriteString("members:\n")
	for i, m := range members {
		v := a.VASPs[i]
		fmt.Fprintf(&file, "  - vaspId: %q\n    vaspName: %q\n    legalName: %q\n    country: %q\n    countryCode: %q\n    jurisdiction: %q\n",
			m.id, m.name, m.legal, m.country, m.code, m.country)
		fmt.Fprintf(&file, "    licensedStatus: Regulated\n    active: true\n    createdAt: \"2026-01-02T03:04:05.000Z\"\n")
		fmt.Fprintf(&file, "    allow: [%q]\n    keys:\n      - accessKey: %q\n        secretKey: %q\n", v.Address, v.AccessKey, v.SecretKey)
	}
	membersFile := filepath.Join(a.Dir, "members.yaml")
	if err := os.WriteFile(membersFile, []byte(file.String()), 0o600); err != nil {
		return err
	}
	env := []string{
		"CENTRAL_LISTEN=" + listen, "CENTRAL_METRICS_LISTEN=" + metrics,
		"CENTRAL_MEMBERS_FILE=" + membersFile, "CENTRAL_STATE_FILE=" + filepath.Join(a.Dir, "central-state.json"),
		"CENTRAL_TLS_CERT_FILE=" + certFile, "CENTRAL_TLS_KEY_FILE=" + keyFile,
		"CENTRAL_SHUTDOWN_DELAY_MS=0", "CENTRAL_ROOTS_FILE=" + a.enclaveRoots(), "CENTRAL_SOURCE_ADDRESS=" + centralAddr.String(),
		"CENTRAL_UNSAFE_LOOPBACK_MEMBERS=true",
	}
	if a.options.Record {
		a.Record = filepath.Join(a.Dir, "relayed.jsonl")
		env = append(env, "CENTRAL_UNSAFE_RECORD_FILE="+a.Record)
	}
	a.Central = &Program{
		Name: "central", Path: a.binaries.Central, Args: []string{"run"}, ReadyLine: "central ready",
		Env: append(env, a.options.Central...), Log: filepath.Join(a.Dir, "central.log"),
	}
	return nil
}

func (a *Alliance) prepareVASP(v *VASP, legal, code string) error {
	name := strings.ToLower(strings.Fields(v.Name)[0])
	file := func(suffix string) string { return filepath.Join(a.Dir, name+suffix) }
	certificate, err := a.certificate(name, v)
	if err != nil {
		return err
	}
	for secret, value := range map[string]string{"-encryption.key": v.EncryptionKey, "-alliance.key": v.SecretKey, "-backend.token": v.Token} {
		if err := os.WriteFile(file(secret), []byte(value+"\n"), 0o600); err != nil {
			return err
		}
	}
	person := fmt.Sprintf(`{"legalPerson":{"name":{"nameIdentifier":[{"legalPersonName":%q,"legalPersonNameIdentifierType":"LEGL"}]},"countryOfRegistration":%q}}`, legal, code)
	if err := os.WriteFile(file("-ivms101.json"), []byte(person), 0o644); err != nil {
		return err
	}
	v.Database, v.TokenFile, v.OperatorSocket = file(".db"), file("-backend.token"), filepath.Join(a.sockets, name)
	v.Robot = &Program{
		Name: "backend of " + v.Name, Path: a.binaries.Robot, Args: []string{"run"}, ReadyLine: "robotvasp ready", Log: file("-backend.log"),
		Env: append([]string{"ROBOT_LISTEN=" + v.robotListen, "ROBOT_TOKEN_FILE=" + v.TokenFile, "ROBOT_ENCLAVE_URL=" + v.API}, a.options.Robot...),
	}
	v.Enclave = &Program{
		Name: "enclave of " + v.Name, Path: a.binaries.Enclave, Args: []string{"run"}, ReadyLine: "enclave ready", Log: file("-enclave.log"),
		Env: append([]string{
			"VEGA_ENCLAVE_MODE=TR", "VEGA_VASP_ID=" + v.ID, "VEGA_NETWORK_ID=sandbox",
			"VEGA_ENCLAVE_PUBLIC_ENDPOINT=" + v.PublicEndpoint, "VEGA_API_ENDPOINT=" + a.CentralEndpoint, "VEGA_API_ROOTS_FILE=" + a.rootFile,
			"VEGA_ALLIANCE_ACCESS_KEY=" + v.AccessKey, "VEGA_ALLIANCE_SECRET_KEY_FILE=" + file("-alliance.key"),
			"VEGA_CENTRAL_ALLOWLIST=" + centralAddr.String(), "VEGA_SOURCE_ADDRESS=" + v.Address.String(),
			"VEGA_PUBLIC_LISTEN=" + v.publicListen,
			"VEGA_SERVER_HOST=" + v.backendHost, "VEGA_SERVER_PORT=" + v.backendPort,
			"VEGA_METRICS_LISTEN=" + v.metricsListen, "VEGA_ADMIN_LISTEN=" + v.adminListen,
			"VEGA_VERIFICATION_ACCOUNT_API_PATH=" + v.RobotURL + "/verify/account",
			"VEGA_VERIFICATION_API_PATH=" + v.RobotURL + "/verify/user",
			"VEGA_VERIFICATION_TRANSACTION_API_PATH=" + v.RobotURL + "/verify/tx",
			"VEGA_VERIFICATION_CALLBACK_API_PATH=" + v.RobotURL + "/callback",
			"VEGA_VERIFICATION_AUTHORIZATION_TOKEN_FILE=" + v.TokenFile,
			"VEGA_ENCRYPTION_KEY_BASE64_FILE=" + file("-encryption.key"), "VEGA_DATABASE_FILE=" + v.Database,
			"VEGA_SHUTDOWN_DELAY_MS=0", "VEGA_VASP_IVMS101_FILE=" + file("-ivms101.json"), "VEGA_OPERATOR_SOCKET=" + v.OperatorSocket,
		}, append(certificate, a.options.Enclave...)...),
	}
	return nil
}

// Renew replaces the certificate of a VASP's enclave in its two files, key
// first, and each at once: a reader finds the old text of a file or the new.
func (a *Alliance) Renew(v *VASP) error {
	dir, err := os.MkdirTemp(a.Dir, "renew-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	certFile, keyFile, err := a.authority.issue(dir, "new", v.Address)
	if err != nil {
		return err
	}
	return errors.Join(os.Rename(keyFile, v.KeyFile), os.Rename(certFile, v.CertFile))
}

// Programs are all processes in the order in which they start.
func (a *Alliance) Programs() []*Program {
	all := []*Program{a.Central}
	for _, v := range a.VASPs {
		all = append(all, v.Robot)
	}
	for _, v := range a.VASPs {
		all = append(all, v.Enclave)
	}
	return all
}

// Start starts every process and waits until the members see each other up.
func (a *Alliance) Start(ctx context.Context) error {
	if err := a.startAuthority(ctx); err != nil {
		return err
	}
	for _, p := range a.Programs() {
		if err := p.Start(ctx); err != nil {
			return err
		}
	}
	return a.awaitMembers(ctx)
}

// awaitMembers waits until every enclave knows every member to be up.
func (a *Alliance) awaitMembers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for _, v := range a.VASPs {
		for {
			list, err := v.Directory(ctx)
			if err == nil && list.allUp(len(a.VASPs)) {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("the enclave of %s does not see every member up: %w", v.Name, errors.Join(ctx.Err(), err))
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

// Stop ends every process in order and reports those that ended badly.
func (a *Alliance) Stop() error {
	var problems []error
	all := a.Programs()
	for i := len(all) - 1; i >= 0; i-- {
		problems = append(problems, all[i].Stop())
	}
	if a.issuer != nil {
		problems = append(problems, a.issuer.Kill()) // it knows no gentler way
	}
	problems = append(problems, os.RemoveAll(a.sockets))
	return errors.Join(problems...)
}

// ports finds free ports. They are free now; a program that finds its port
// taken says so.
type ports struct {
	usual bool
	err   error
}

func (p *ports) take(addr netip.Addr, usual uint16) string {
	if p.usual {
		if l, err := net.Listen("tcp", netip.AddrPortFrom(addr, usual).String()); err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	l, err := net.Listen("tcp", netip.AddrPortFrom(addr, 0).String())
	if err != nil {
		p.err = err
		return ""
	}
	defer l.Close()
	return l.Addr().String()
}

// takeSame finds one port that is free on every address.
func (p *ports) takeSame(addrs []netip.Addr, usual uint16) []string {
	const tries = 50 // that the first address's port is taken on another is rare
	for range tries {
		taken := []string{p.take(addrs[0], usual)}
		if p.err != nil {
			break
		}
		port := netip.MustParseAddrPort(taken[0]).Port()
		for _, addr := range addrs[1:] {
			l, err := net.Listen("tcp", netip.AddrPortFrom(addr, port).String())
			if err != nil {
				break
			}
			_ = l.Close()
			taken = append(taken, l.Addr().String())
		}
		if len(taken) == len(addrs) {
			return taken
		}
		usual = 0 // any other
	}
	p.err = errors.Join(p.err, errors.New("no port is free on all of them"))
	return make([]string, len(addrs))
}

func random() string { return hex.EncodeToString(bytes32()) }

func bytes32() []byte {
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	return b
}
