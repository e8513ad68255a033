package enclavecmd

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/vasp-enclave/vasp-enclave/cmd/life"
	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/plugins"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
	"github.com/vasp-enclave/vasp-enclave/proxy/outward"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
	"github.com/vasp-enclave/vasp-enclave/storage/memory"
	"github.com/vasp-enclave/vasp-enclave/storage/redis"
)

// doctorCommand looks at what an enclave needs around it.
func doctorCommand(catalog *plugins.Catalog, from *settings.Source) *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "Look at everything an enclave needs around it, and say what to do", Args: cobra.NoArgs,
		Long: "Reads the settings and the files they name, as check-config does, and then asks: central, with the alliance's key;\n" +
			"the backend, with the token, by a GET that changes nothing; Redis; the disk; the clock; the certificate; the public\n" +
			"endpoint, as far as it can be seen from here; and the enclave itself, when it runs. It changes nothing, stops\n" +
			"nobody, and asks no decrypt API for the key.\n\nIt exits with 1 when something must be mended.",
		RunE: func(c *cobra.Command, _ []string) error {
			d := &doctor{out: c.OutOrStdout(), now: time.Now}
			d.look(c.Context(), catalog, from)
			if d.failed > 0 {
				return fmt.Errorf("%d of what an enclave needs is not as it should be", d.failed)
			}
			return nil
		},
	}
}

// doctor prints what it finds as it goes on.
type doctor struct {
	out     io.Writer
	now     func() time.Time
	running bool // there is an enclave to look at
	failed  int
}

// examineFor is how long one look may take.
const examineFor = 10 * time.Second

func (d *doctor) say(mark, what, format string, args ...any) {
	fmt.Fprintf(d.out, "%-5s %-12s %s\n", mark, what, strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "\n                   "))
}

func (d *doctor) ok(what, format string, args ...any)   { d.say("ok", what, format, args...) }
func (d *doctor) warn(what, format string, args ...any) { d.say("warn", what, format, args...) }

func (d *doctor) fail(what, format string, args ...any) {
	d.failed++
	d.say("FAIL", what, format, args...)
}

func (d *doctor) look(ctx context.Context, catalog *plugins.Catalog, from *settings.Source) {
	var s Settings
	warnings, unknown, err := from.Judge(Prefix, &s)
	for _, w := range warnings {
		d.warn("settings", "%s", w)
	}
	if err := errors.Join(err, unknown); err != nil {
		d.fail("settings", "%v", err)
	}
	if err != nil {
		return // nothing else can be looked at
	}
	p, err := readParts(ctx, catalog, &s)
	if err != nil {
		d.fail("files", "%v\nA running enclave keeps what it took over last.", err)
		p.allowed, p.certificates = nil, nil // not judged: they may be the ones that do not load
	} else {
		d.ok("settings", "they would start an enclave of VASP %s", s.VASPID)
	}
	d.running = d.enclave(ctx, &s)
	for _, look := range []func(context.Context, *Settings, *parts){d.key, d.disk, d.allowlist, d.certificate, d.central, d.backend, d.redis} {
		within, cancel := context.WithTimeout(ctx, examineFor)
		look(within, &s, p)
		cancel()
	}
	d.endpoint(ctx, &s)
}

// enclave asks the one that runs, if one does.
func (d *doctor) enclave(ctx context.Context, s *Settings) (running bool) {
	const what = "enclave"
	answer, err := life.Probes{Listen: string(s.AdminListen)}.Ask(ctx, "/readyz")
	switch {
	case err != nil:
		d.warn(what, "does not run, or has another VEGA_ADMIN_LISTEN; start it with: enclave run")
		return false
	case answer.Status != http.StatusOK:
		d.fail(what, "runs and is not ready: %s", strings.TrimSpace(answer.Text))
		return true
	}
	d.ok(what, "runs and is ready")
	return true
}

// key says where the database key comes from; nobody is asked for it.
// key compares ids with the running enclave: after a rotation the settings may
// still name the key of before, and only the next start would say so.
func (d *doctor) key(ctx context.Context, s *Settings, p *parts) {
	const what = "key"
	switch {
	case p.kek == nil && p.keySource != nil:
		d.ok(what, "comes from a decrypt API, which is not asked; without it the enclave starts sealed")
		return
	case p.kek == nil:
		return
	}
	var keys proxy.KeysView
	err := operatorAt(socketPath(s.OperatorSocket, s.DatabaseFile)).call(ctx, http.MethodGet, "/keys", nil, &keys)
	switch previous := slices.ContainsFunc(p.otherKEKs, func(k *atrest.KEK) bool { return k.ID() == keys.KEK }); {
	case err != nil:
		d.ok(what, "%s gives one; whether the history is under it, the start tells", s.keySourceName())
	case keys.KEK == p.kek.ID():
		d.ok(what, "%s gives the one that the running history is under", s.keySourceName())
	case previous:
		d.warn(what, "the running history is under the previous key; change it with: enclave keys rotate-kek")
	default:
		d.fail(what, "%s gives the key %s, and the running history is under %s: the next start would fail. Set that one, or change to this one with: enclave keys rotate-kek --value-file FILE", s.keySourceName(), p.kek.ID(), keys.KEK)
	}
}

// roomAdvised is how much of a disk should be free, in bytes.
const roomAdvised = 1 << 30

func (d *doctor) disk(_ context.Context, s *Settings, _ *parts) {
	const what = "disk"
	dir := filepath.Dir(s.DatabaseFile)
	if err := bolt.CheckFilesystem(dir); err != nil {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			d.fail(what, "VEGA_DATABASE_FILE: there is no directory %s; make it, readable by this user only", dir)
			return
		case errors.Is(err, bolt.ErrNetworkFilesystem) && s.UnsafeNetworkFS:
			d.warn(what, "%v", err)
		default:
			d.fail(what, "%v", onNetwork(err))
			return
		}
	}
	probe, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		d.fail(what, "VEGA_DATABASE_FILE: %v; its directory must be writable for the enclave's user", err)
		return
	}
	if err := errors.Join(probe.Sync(), probe.Close(), os.Remove(probe.Name())); err != nil {
		d.fail(what, "%v", err)
		return
	}
	if info, err := os.Stat(dir); err == nil && openToOthers(info) {
		d.warn(what, "%s is open to others; chmod 0700 it", dir)
	}
	free, err := bolt.FreeSpace(dir)
	switch {
	case err != nil:
		d.fail(what, "%v", err)
	case free < roomAdvised:
		d.warn(what, "%s has %d MiB free; a history grows by some 5 KiB a verification", dir, free>>20)
	default:
		d.ok(what, "%s is writable and has %d GiB free", dir, free>>30)
	}
}

// openToOthers tells a directory that more than this user may enter. One of
// another owner's lets us in by its group, as volumes in pods do.
func openToOthers(dir fs.FileInfo) bool {
	stat, known := dir.Sys().(*syscall.Stat_t)
	ours := !known || int(stat.Uid) == os.Geteuid() || os.Geteuid() == 0 && stat.Uid != 0
	return dir.Mode().Perm()&0o007 != 0 || ours && dir.Mode().Perm()&0o070 != 0
}

func (d *doctor) allowlist(ctx context.Context, s *Settings, p *parts) {
	const what = "allowlist"
	if p.allowed == nil {
		return
	}
	if err := p.emptyAllowlist(); err != nil {
		d.fail(what, "%v", err)
		return
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", s.APIEndpoint.URL().Hostname())
	if err != nil || s.ReportOnly {
		return // the one is said by who asks central, the other by a warning
	}
	if !slices.ContainsFunc(addresses, func(a netip.Addr) bool { return p.allowed.Contains(a.Unmap()) }) {
		d.warn(what, "%d entries, and none is an address of %s: right if central calls from others than it listens on; ask its operator", p.allowed.Len(), s.APIEndpoint.URL().Hostname())
		return
	}
	d.ok(what, "%d entries, central's own address among them", p.allowed.Len())
}

func (d *doctor) certificate(ctx context.Context, s *Settings, p *parts) {
	const what, soon, soonRenewed = "certificate", 14 * 24 * time.Hour, 2 * 24 * time.Hour
	if files, ok := p.certificates.(*edge.Files); ok {
		d.ends(what, files.NotAfter(), soon, "renew it; the enclave takes the new one when the files change")
		return
	}
	switch end, known := d.shownUntil(ctx, s); {
	case s.TLSCertFile != "": // and it cannot be read, which is said
	case !d.running || !known:
		d.ok(what, "automatic, from %s; how it stands, the running enclave tells", s.ACMEDirectory.URL().Hostname())
	case end.IsZero():
		d.fail(what, "automatic, and %s has issued none yet: the enclave's log has err and remedy", s.ACMEDirectory.URL().Hostname())
	default:
		d.ends(what, end, soonRenewed, "it should have been renewed: the enclave's log has err and remedy")
	}
}

// ends judges the time that is left.
func (d *doctor) ends(what string, end time.Time, soon time.Duration, advice string) {
	if left := end.Sub(d.now()); left < soon {
		d.warn(what, "ends in %d hours, at %s: %s", int(left.Hours()), end.UTC().Format(time.RFC3339), advice)
		return
	}
	d.ok(what, "ends on %s", end.UTC().Format("2006-01-02"))
}

// shownUntil is the end of the certificate that the running enclave shows, by
// its metrics; zero when it has none.
func (d *doctor) shownUntil(ctx context.Context, s *Settings) (end time.Time, known bool) {
	page, err := life.Probes{Listen: string(s.MetricsListen)}.Ask(ctx, "/metrics")
	if err != nil {
		return end, false
	}
	for line := range strings.Lines(page.Text) {
		value, found := strings.CutPrefix(line, "enclave_tls_certificate_not_after_timestamp_seconds ")
		if seconds, err := strconv.ParseFloat(strings.TrimSpace(value), 64); found && err == nil {
			if seconds > 0 {
				end = time.Unix(int64(seconds), 0)
			}
			return end, true
		}
	}
	return end, false
}

// central asks for the directory, which proves the key, both addresses' lists
// and the trust; and looks at the clock.
func (d *doctor) central(ctx context.Context, s *Settings, p *parts) {
	const what = "central"
	if p.apiTrust == nil {
		return
	}
	d.clock(ctx, s, p)
	client, err := relay.NewClient(relay.Config{
		Endpoint: s.APIEndpoint.String(), AccessKey: s.AccessKey, SecretKey: allianceKey(s).Secret,
		Trust: p.apiTrust, SourceAddress: s.SourceAddress.Addr, Now: d.now,
	})
	if err != nil {
		d.fail(what, "%v", err)
		return
	}
	defer client.Close()
	vasps, self, err := d.members(ctx, client, s.VASPID)
	switch {
	case err != nil:
		d.fail(what, "%v\n%s", err, proxy.Advice(err))
		return
	case self == nil:
		d.fail(what, "knows the key and no VASP %s: VEGA_VASP_ID must be the id that goes with VEGA_ALLIANCE_ACCESS_KEY", s.VASPID)
		return
	}
	d.ok(what, "takes our requests; %d VASPs are connected with us", vasps-1)
	switch up := self.Health == relay.Up; {
	case up && d.running:
		d.ok(what, "says that our enclave is up")
	case up:
		d.warn(what, "has not noticed yet that our enclave does not run")
	case d.running:
		d.fail(what, "says that our enclave is down: it cannot reach %s, or is refused there. Is its address in VEGA_CENTRAL_ALLOWLIST, and the certificate one that it believes? Or did it refuse the registration? The enclave's log says why.", s.PublicEndpoint)
	default:
		d.warn(what, "says that our enclave is down, which it is")
	}
}

// firstPoll is how long central may take to call an enclave that has just
// registered.
const firstPoll = 5 * time.Second

// members gives how many VASPs central names, and what it says of us; nil if it
// does not know us. An enclave that runs is given the time to be found up.
func (d *doctor) members(ctx context.Context, client *relay.Client, id identity.VASPID) (int, *relay.Member, error) {
	for until := time.Now().Add(firstPoll); ; {
		directory, err := client.Directory(ctx)
		if err != nil {
			return 0, nil, err
		}
		i := slices.IndexFunc(directory.VASPs, func(m relay.Member) bool { return m.VASPID == id })
		if i < 0 {
			return len(directory.VASPs), nil, nil
		}
		if self := &directory.VASPs[i]; !d.running || self.Health == relay.Up || time.Now().After(until) {
			return len(directory.VASPs), self, nil
		}
		time.Sleep(firstPoll / 20)
	}
}

// clockAllowed is how far a clock may be off before it is worth a word; past
// relay.Skew nothing works.
const clockAllowed = 5 * time.Second

// clock compares with the time that central's answers carry, to the second.
func (d *doctor) clock(ctx context.Context, s *Settings, p *parts) {
	const what = "clock"
	client := &http.Client{
		Transport:     relay.NewTransportTo(outward.Config{Secure: outward.Configured, Trust: p.apiTrust, Source: s.SourceAddress.Addr}),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.APIEndpoint.String(), nil)
	if err != nil {
		return
	}
	before := d.now()
	answer, err := client.Do(r)
	if err != nil {
		return // said by who asks for the directory
	}
	defer answer.Body.Close()
	theirs, err := http.ParseTime(answer.Header.Get("Date"))
	if err != nil {
		return
	}
	ours := before.Add(d.now().Sub(before) / 2)
	off := ours.Sub(theirs.Add(time.Second / 2)).Abs()
	switch {
	case off > relay.Skew:
		d.fail(what, "%d s off central's, and more than %d s is refused: let NTP keep it", int(off.Seconds()), int(relay.Skew.Seconds()))
	case off > clockAllowed:
		d.warn(what, "%d s off central's: let NTP keep it", int(off.Seconds()))
	default:
		d.ok(what, "within %d s of central's", int(clockAllowed.Seconds()))
	}
}

func (d *doctor) backend(ctx context.Context, s *Settings, p *parts) {
	const what = "backend"
	if p.vaspTrust == nil {
		return
	}
	client, err := newBackend(s, p, nil, nil)
	if err != nil {
		return // said by readParts
	}
	problems, unsure := client.Greet(ctx)
	for _, problem := range problems {
		d.fail(what, "%v", problem)
	}
	switch {
	case len(problems) > 0:
	case unsure && s.AuthorizationToken.IsSet():
		d.warn(what, "can be reached; whether it takes the token, its answer to a GET does not tell: the first verification does")
	default:
		d.ok(what, "can be reached, and does not refuse the token")
	}
}

func (d *doctor) redis(ctx context.Context, s *Settings, p *parts) {
	const what = "redis"
	if !s.RedisURL.IsSet() {
		return
	}
	mac := func(purpose string, value []byte) [32]byte { return sha256.Sum256([]byte(purpose + string(value))) } // no key: it asks for a name that is nobody's
	cache, err := redis.Open(redis.Config{URL: s.RedisURL.Reveal(), Roots: p.redisRoots, Front: memory.New(1, d.now), MAC: mac, Now: d.now, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		d.fail(what, "VEGA_REDIS_URL: %v", err)
		return
	}
	defer cache.Close()
	if err := cache.Probe(ctx); err != nil {
		d.warn(what, "%v; keys are kept in process until it can", err)
		return
	}
	d.ok(what, "answers")
}

// endpoint looks at it from here: that it can be reached from outside, central
// alone can tell.
func (d *doctor) endpoint(ctx context.Context, s *Settings) {
	const what = "endpoint"
	ctx, cancel := context.WithTimeout(ctx, examineFor)
	defer cancel()
	u := s.PublicEndpoint.URL()
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil {
		d.fail(what, "VEGA_ENCLAVE_PUBLIC_ENDPOINT: %v; make the name known in DNS", err)
		return
	}
	for _, a := range addresses {
		if a = a.Unmap(); outward.Global.Judge(a) != nil {
			d.warn(what, "%s is no public address: central takes it only in an alliance inside one network", a)
		}
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	switch {
	case err == nil:
		_ = conn.Close()
		d.ok(what, "%s takes connections", net.JoinHostPort(u.Hostname(), port))
	case !d.running:
		d.warn(what, "takes no connection, as long as the enclave does not run")
	case errors.Is(err, syscall.ECONNREFUSED):
		d.fail(what, "%v: port %s must lead to VEGA_PUBLIC_LISTEN (%s)", err, port, s.PublicListen)
	default:
		d.warn(what, "%v; from inside a network that is often so. Central's word counts", err)
	}
}
