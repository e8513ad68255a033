package central_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/allow"
	"github.com/vasp-enclave/vasp-enclave/proxy/central"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge/edgetest"
	"github.com/vasp-enclave/vasp-enclave/proxy/outward"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const centralAddress = "127.0.0.2"

// world is a central server and the enclaves of its members, all over real TLS
// and each at an address of its own.
type world struct {
	t         testing.TB
	authority *edgetest.Authority
	config    central.Config
	registry  *prometheus.Registry
	log       *lockedBuffer
	offset    atomic.Int64 // of central's clock
	server    *central.Server
	endpoint  string
	stop      func() error // ends central and gives what Run returned

	alpha, beta, gamma *party
}

// party is one member: its keys, and an enclave that can be told how to behave.
type party struct {
	w       *world
	id      identity.VASPID
	address string
	keys    []relay.Key
	signer  *identity.Signer
	chain   []byte
	client  *relay.Client

	endpoint string
	stop     func()

	mu       sync.Mutex
	instance string
	health   http.HandlerFunc // nil: up
	message  func(http.ResponseWriter, *http.Request, *relay.Verified)
}

// newWorld starts it. The members file may be changed; so may central's
// configuration.
func newWorld(t testing.TB, change func(*world)) *world {
	t.Helper()
	w := &world{t: t, authority: edgetest.NewAuthority(t), registry: prometheus.NewRegistry(), log: new(lockedBuffer)}
	w.config = central.Config{
		BasePath: "/alliance", Roots: w.authority.Pool(), SourceAddress: netip.MustParseAddr(centralAddress), PollEvery: time.Hour,
		Reach: outward.Global | outward.Loopback,
		Now:   w.now, Metrics: w.registry, Log: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	w.alpha, w.beta, w.gamma = w.party(101, "127.0.0.3"), w.party(102, "127.0.0.4"), w.party(103, "127.0.0.5")
	w.config.Members = w.members("")
	if change != nil {
		change(w)
	}
	w.start()
	return w
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.offset.Load())) }

func (w *world) party(id identity.VASPID, address string) *party {
	p := &party{w: w, id: id, address: address, instance: uuid.NewString()}
	for i := range 2 {
		p.keys = append(p.keys, relay.Key{Access: fmt.Sprintf("key-%s-%d", id, i), Secret: relay.NewSecret(fmt.Sprintf("secret key %d of VASP %s", i, id))})
	}
	p.signer, p.chain = newIdentity(w.t, id)
	p.message = echo
	p.listen()
	return p
}

func newIdentity(t testing.TB, id identity.VASPID) (*identity.Signer, []byte) {
	t.Helper()
	signer, err := identity.NewSigner(id)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := identity.NewChain(signer, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return signer, chain
}

// members is the alliance: three VASPs, of which gamma may be restricted by
// further lines, and one that is not active.
func (w *world) members(gamma string) *central.Members {
	return w.membersOf(gamma, w.alpha, w.beta, w.gamma)
}

func (w *world) membersOf(gamma string, parties ...*party) *central.Members {
	var file strings.Builder
	file.WriteString("members:\n")
	for _, p := range parties {
		fmt.Fprintf(&file, "- vaspId: %q\n  vaspName: VASP %s\n  legalName: Ltd %s\n  country: Singapore\n  countryCode: SG\n  jurisdiction: Singapore\n", p.id.String(), p.id, p.id)
		fmt.Fprintf(&file, "  licensedStatus: Regulated\n  createdAt: '2024-01-02T03:04:05.678Z'\n  allow: [%s]\n  keys:\n", p.address)
		for _, k := range p.keys {
			fmt.Fprintf(&file, "  - {accessKey: %s, secretKey: %s}\n", k.Access, k.Secret.Reveal())
		}
	}
	file.WriteString(gamma)
	file.WriteString("- vaspId: '104'\n  vaspName: Gone\n  active: false\n  createdAt: '2024-01-02T03:04:05Z'\n  allow: [127.0.0.6]\n  keys: [{accessKey: key-104-0, secretKey: secret key 0 of VASP 104}]\n")
	m, err := central.ParseMembers([]byte(file.String()), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

// start starts central, again if need be.
func (w *world) start() {
	w.t.Helper()
	files, err := edge.FileCertificates(w.authority.Issue(centralAddress))
	if err != nil {
		w.t.Fatal(err)
	}
	w.config.Certificates, w.config.Address = files, centralAddress+":0"
	s, err := central.New(w.t.Context(), w.config)
	if err != nil {
		w.t.Fatal(err)
	}
	w.server = s
	w.endpoint = "https://" + s.Addr().String() + "/alliance"
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	w.stop = sync.OnceValue(func() error { cancel(); return <-done })
	w.t.Cleanup(func() {
		if err := w.stop(); err != nil {
			w.t.Errorf("Run = %v", err)
		}
	})
	for _, p := range []*party{w.alpha, w.beta, w.gamma} {
		p.client = p.clientWith(p.keys[0], p.address)
	}
}

func (p *party) clientWith(k relay.Key, address string) *relay.Client {
	p.w.t.Helper()
	client, err := relay.NewClient(relay.Config{
		Endpoint: p.w.endpoint, AccessKey: k.Access, SecretKey: k.Secret, Roots: p.w.authority.Pool(),
		SourceAddress: netip.MustParseAddr(address), Now: time.Now,
	})
	if err != nil {
		p.w.t.Fatal(err)
	}
	p.w.t.Cleanup(client.Close)
	return client
}

// listen starts the party's enclave: it lets central in and nobody else, and
// lies below a path.
func (p *party) listen() {
	t := p.w.t
	t.Helper()
	files, err := edge.FileCertificates(p.w.authority.Issue(p.address))
	if err != nil {
		t.Fatal(err)
	}
	allowed, err := allow.ParseList(centralAddress)
	if err != nil {
		t.Fatal(err)
	}
	l, err := edge.Listen(t.Context(), edge.Config{Address: p.address + ":0", Certificates: files, Allow: allowed, Now: time.Now, Drain: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	p.endpoint = "https://" + l.Addr().String() + "/travel/rule"
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	handler := p.handler()
	go func() { defer close(done); _ = l.Serve(ctx, handler) }()
	p.stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(p.stop)
}

func (p *party) handler() http.Handler {
	v, err := relay.NewVerifier(relay.VerifierConfig{Direction: relay.CentralToEnclave, Keys: p.keys, Now: time.Now, ReplayLimit: 1 << 30})
	if err != nil {
		p.w.t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+relay.HealthPath, p.answerHealth)
	mux.HandleFunc("POST "+relay.MessagesPath, func(w http.ResponseWriter, r *http.Request) {
		signed, _ := relay.From(r.Context())
		p.mu.Lock()
		message := p.message
		p.mu.Unlock()
		message(w, r, signed)
	})
	u, err := url.Parse(p.endpoint)
	if err != nil {
		p.w.t.Fatal(err)
	}
	return relay.Below(u, v.Require(mux))
}

func (p *party) answerHealth(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	health, instance := p.health, p.instance
	p.mu.Unlock()
	if signed, ok := relay.From(r.Context()); !ok || signed.Recipient != p.id.String() {
		p.w.t.Errorf("health poll of VASP %s: %+v", p.id, signed)
	}
	if health != nil {
		health(w, r)
		return
	}
	fmt.Fprintf(w, `{"status":"UP","version":"1.2.3","instance":%q,"more":1}`, instance)
}

func (p *party) behave(change func(*party)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

// echo answers an envelope with who it was for and itself.
func echo(w http.ResponseWriter, _ *http.Request, signed *relay.Verified) {
	w.Header().Set("Content-Type", relay.MediaType)
	fmt.Fprintf(w, "to %s: %s", signed.Recipient, signed.Body)
}

func (p *party) registration() relay.Registration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return relay.Registration{
		PublicEndpoint: p.endpoint, Version: "1.2.3", Suites: []string{"x-wing", "x25519"},
		Identity: base64.StdEncoding.EncodeToString(p.chain), Instance: p.instance,
	}
}

func (p *party) register() error {
	_, err := p.client.Register(p.w.t.Context(), p.registration())
	return err
}

func (p *party) mustRegister() {
	p.w.t.Helper()
	if err := p.register(); err != nil {
		p.w.t.Fatalf("register VASP %s: %v", p.id, err)
	}
}

// deliver sends an envelope and returns the reply, or the error's code, or the
// error.
func (p *party) deliver(to identity.VASPID, envelope string) string {
	reply, err := p.client.Deliver(p.w.t.Context(), to, []byte(envelope))
	return said(string(reply), err)
}

// said is what central said: text, or its code, or "no answer".
func said(text string, err error) string {
	switch e := err.(type) {
	case nil:
		return text
	case *relay.Error:
		return fmt.Sprintf("%d %s", e.Status, e.Code)
	}
	return "no answer: " + err.Error()
}

// sees is a member as this party's directory shows it.
func (p *party) sees(id identity.VASPID) (relay.Member, bool) {
	p.w.t.Helper()
	d, err := p.client.Directory(p.w.t.Context())
	if err != nil {
		p.w.t.Fatalf("directory for VASP %s: %v", p.id, err)
	}
	for _, m := range d.VASPs {
		if m.VASPID == id {
			return m, true
		}
	}
	return relay.Member{}, false
}

// count is a counter's value, or a histogram's count; label "" takes all.
func (w *world) count(metric, label string) float64 {
	w.t.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() != metric || label != "" && m.GetLabel()[0].GetValue() != label {
				continue
			}
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

// eventually waits for central to have noticed.
func (w *world) eventually(what string, happened func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	for !happened() {
		if ctx.Err() != nil {
			w.t.Fatalf("never happened: %s", what)
		}
	}
}

// lockedBuffer is a log that may be written and read at once.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
