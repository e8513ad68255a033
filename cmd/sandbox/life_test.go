package sandbox_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
)

// A certificate is replaced again and again while verifications run at 50 a
// second and handshakes without a pause: each new one is shown, no handshake
// fails and no verification does.
func TestCertificatesAreReplacedUnderLoad(t *testing.T) {
	swaps := 10
	if torture() {
		swaps = 100
	}
	a := start(t, sandbox.Options{})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var load sync.WaitGroup
	var ids []string
	load.Go(func() { ids = verifyAtFifty(ctx, t, a) })
	var handshakes atomic.Int64
	for _, v := range a.VASPs {
		load.Go(func() {
			for ctx.Err() == nil {
				if _, err := shown(a, v); err != nil {
					t.Errorf("a handshake with the enclave of %s failed: %v", v.Name, err)
				}
				handshakes.Add(1)
				time.Sleep(time.Millisecond)
			}
		})
	}
	for i := range swaps {
		v := a.VASPs[i%2]
		before, err := shown(a, v)
		if err == nil {
			err = a.Renew(v)
		}
		if err == nil && i < swaps-2 { // the last two are found by looking at the files
			err = v.Enclave.Signal(syscall.SIGHUP)
		}
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, time.Minute, "the new certificate is shown", func() bool {
			now, err := shown(a, v)
			return err == nil && now != before
		})
	}
	stop()
	load.Wait()
	finish(t, a, ids)
	t.Logf("%d swaps, %d handshakes, %d verifications", swaps, handshakes.Load(), len(ids))
	page := metrics(t, a.VASPs[0].Metrics)
	if got := sample(page, `enclave_config_last_reload_successful{source="certificates"}`); got != "1" {
		t.Errorf("the reload's metric is %q:\n%s", got, grep(page, "config_last"))
	}
}

// verifyAtFifty sends verifications, one every 20 ms, until ctx ends.
func verifyAtFifty(ctx context.Context, t *testing.T, a *sandbox.Alliance) (ids []string) {
	var mu sync.Mutex
	var sending sync.WaitGroup
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			sending.Wait()
			return ids
		case <-tick.C:
		}
		sending.Go(func() {
			accepted, err := a.VASPs[0].Verify(t.Context(), sandbox.Request(a.VASPs[1].ID))
			if err != nil {
				t.Errorf("a verification was not accepted: %v", err)
				return
			}
			mu.Lock()
			ids = append(ids, accepted.VerificationUUID)
			mu.Unlock()
		})
	}
}

// finish wants every verification to end well.
func finish(t *testing.T, a *sandbox.Alliance, ids []string) {
	t.Helper()
	if len(ids) == 0 {
		t.Error("no verification was accepted")
	}
	for _, id := range ids {
		eventually(t, time.Minute, "verification "+id+" has its final state", func() bool {
			row, err := a.VASPs[0].Row(t.Context(), id)
			if err == nil && row.Result != "WAIT" && row.Result != "VERIFIED" {
				t.Errorf("verification %s is %s/%s", id, row.Result, row.Reason)
			}
			return err == nil && row.Result != "WAIT"
		})
	}
}

// shown is the serial number of the certificate that an enclave shows now.
func shown(a *sandbox.Alliance, v *sandbox.VASP) (serial string, err error) {
	c, err := tls.DialWithDialer(from("127.0.0.4"), "tcp", strings.TrimPrefix(v.PublicEndpoint, "https://"), &tls.Config{RootCAs: a.Roots})
	if err != nil {
		return "", err
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}

// caller calls again and again and counts how it ends: any end but an answer
// or a closed port is a failure, since the request was sent.
type caller struct {
	name    string
	call    func(context.Context) (status int, err error)
	good    func(status int) bool
	answers atomic.Int64
	refused atomic.Int64
}

func (c *caller) run(ctx context.Context, t *testing.T) {
	for ctx.Err() == nil {
		status, err := c.call(t.Context())
		switch {
		case err == nil && c.good(status):
			c.answers.Add(1)
		case err == nil:
			t.Errorf("%s: answered %d", c.name, status)
		case errors.Is(err, syscall.ECONNREFUSED):
			c.refused.Add(1)
			time.Sleep(10 * time.Millisecond)
		default:
			t.Errorf("%s: a request failed that was sent: %v", c.name, err)
		}
	}
}

// SIGTERM under load: the enclave says that it is not ready and goes on
// answering, then closes its ports, and no request that it took fails: not of
// the backend, not of central over HTTP/1.1, not over HTTP/2, with connections
// that are kept and with new ones. Nothing acknowledged is lost.
func TestSIGTERMUnderLoadFailsNoRequest(t *testing.T) {
	rounds := 2
	if torture() {
		rounds = 20
	}
	a := start(t, sandbox.Options{Enclave: []string{"VEGA_SHUTDOWN_DELAY_MS=1000"}})
	for range rounds {
		endUnderLoad(t, a, a.VASPs[0])
	}
}

func endUnderLoad(t *testing.T, a *sandbox.Alliance, v *sandbox.VASP) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var mu sync.Mutex
	var ids []string
	callers := []*caller{
		backendCaller(t, "backend, kept connections", a, false, func(id string) { mu.Lock(); ids = append(ids, id); mu.Unlock() }),
		backendCaller(t, "backend, new connections", a, true, func(id string) { mu.Lock(); ids = append(ids, id); mu.Unlock() }),
		centralCaller(t, "central, HTTP/1.1", a, v, false, false),
		centralCaller(t, "central, new connections", a, v, false, true),
		centralCaller(t, "central, HTTP/2", a, v, true, false),
	}
	var load sync.WaitGroup
	for _, c := range callers {
		for range 2 {
			load.Go(func() { c.run(ctx, t) })
		}
	}
	eventually(t, time.Minute, "every caller is answered", func() bool {
		return !slices.ContainsFunc(callers, func(c *caller) bool { return c.answers.Load() < 5 })
	})
	if err := v.Enclave.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "it is not ready", func() bool { return ready(t, v) == http.StatusServiceUnavailable })
	atSignal := map[*caller]int64{}
	for _, c := range callers {
		atSignal[c] = c.answers.Load()
	}
	code, err := v.Enclave.Wait(t.Context())
	if code != 0 || err != nil {
		t.Errorf("it ended with %d, %v; want 0, since nothing was cut off", code, err)
	}
	for _, c := range callers {
		if c.answers.Load() == atSignal[c] {
			t.Errorf("%s: no request was answered between the signal and the end", c.name)
		}
		eventually(t, time.Minute, c.name+" finds the port closed", func() bool { return c.refused.Load() > 0 })
	}
	stop()
	load.Wait()
	if err := v.Enclave.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	finish(t, a, ids)
	for _, c := range callers {
		t.Logf("%s: %d answers, %d after the signal", c.name, c.answers.Load(), c.answers.Load()-atSignal[c])
	}
}

// ready is the status of /readyz.
func ready(t *testing.T, v *sandbox.VASP) int {
	status, _, err := sandbox.Call(t.Context(), http.MethodGet, v.Admin+"/readyz", nil)
	if err != nil {
		t.Log(err)
	}
	return status
}

func ok(status int) bool { return status == http.StatusOK }

func backendCaller(t *testing.T, name string, a *sandbox.Alliance, fresh bool, accepted func(id string)) *caller {
	transport := &http.Transport{DisableKeepAlives: fresh, MaxIdleConnsPerHost: 16}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	return &caller{name: name, good: ok, call: func(ctx context.Context) (int, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, a.VASPs[0].API+"/v1/verifications", bytes.NewReader(sandbox.Request(a.VASPs[1].ID)))
		if err != nil {
			return 0, err
		}
		response, err := client.Do(r)
		if err != nil {
			return 0, err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if _, rest, found := strings.Cut(string(body), `"verificationUuid":"`); found {
			id, _, _ := strings.Cut(rest, `"`)
			accepted(id)
		}
		return response.StatusCode, err
	}}
}

// centralCaller posts, since that is never sent twice by itself. What it posts
// is no envelope, and refused for just that.
func centralCaller(t *testing.T, name string, a *sandbox.Alliance, v *sandbox.VASP, http2, fresh bool) *caller {
	signer, err := relay.NewSigner(relay.Key{Access: v.AccessKey, Secret: relay.NewSecret(v.SecretKey)}, relay.CentralToEnclave)
	if err != nil {
		t.Fatal(err)
	}
	base, err := relay.ParseEndpoint(v.PublicEndpoint)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, host string) (net.Conn, error) {
			return from("127.0.0.4").DialContext(ctx, network, host)
		},
		TLSClientConfig: &tls.Config{RootCAs: a.Roots}, ForceAttemptHTTP2: http2, DisableKeepAlives: fresh, MaxIdleConnsPerHost: 16,
	}
	t.Cleanup(transport.CloseIdleConnections)
	endpoint := &relay.Endpoint{Base: base, Signer: signer, Transport: transport}
	return &caller{name: name, good: func(status int) bool { return status == http.StatusBadRequest }, call: func(ctx context.Context) (int, error) {
		reply, err := endpoint.Do(ctx, relay.Call{
			Method: http.MethodPost, Path: relay.MessagesPath, Recipient: v.ID, MediaType: relay.MediaType, Body: []byte("no envelope"), MaxReply: 1 << 20,
		})
		if err != nil {
			return 0, err
		}
		return reply.Status, nil
	}}
}

// A request that is not done in time is cut off, counted, and makes the exit
// code 1; a second signal ends at once, with a shell's code for it; SIGHUP does
// nothing to a program that drains.
func TestTheEndOfAnEnclaveWithARequestThatNeverEnds(t *testing.T) {
	a := start(t, sandbox.Options{})
	v := a.VASPs[0]
	for _, c := range []struct {
		name, grace string
		signals     []os.Signal
		code        int
		says        string
	}{
		{"cut off", "50", []os.Signal{syscall.SIGTERM}, 1, "requests were cut off"},
		{"second signal", "600000", []os.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGTERM}, 143, "a second signal"},
		{"interrupted twice", "600000", []os.Signal{syscall.SIGINT, syscall.SIGINT}, 130, "a second signal"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := v.Enclave.Stop(); err != nil {
				t.Fatal(err)
			}
			v.Enclave.Env = append(v.Enclave.Env, "VEGA_SHUTDOWN_GRACE_MS="+c.grace)
			if err := v.Enclave.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			conn := connect(t, v)
			fmt.Fprintf(conn, "POST /v1/verifications HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
			eventually(t, time.Minute, "the request is in progress", func() bool {
				return ready(t, v) == http.StatusOK
			})
			time.Sleep(100 * time.Millisecond) // until it is read
			for i, s := range c.signals {
				if err := v.Enclave.Signal(s); err != nil {
					t.Fatal(err)
				}
				if i == 0 && len(c.signals) > 1 {
					eventually(t, time.Minute, "it drains", func() bool { return ready(t, v) == http.StatusServiceUnavailable })
				}
				if s == syscall.SIGHUP {
					time.Sleep(100 * time.Millisecond)
					if ready(t, v) != http.StatusServiceUnavailable {
						t.Error("SIGHUP ended a program that drains")
					}
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			code, err := v.Enclave.Wait(ctx)
			log := string(read(t, v.Enclave.Log))
			if code != c.code || err != nil || !strings.Contains(log, c.says) {
				t.Errorf("exit code %d, %v, want %d and a line with %q", code, err, c.code, c.says)
			}
			if err := v.Enclave.Start(t.Context()); err != nil { // the history is whole
				t.Fatal(err)
			}
		})
	}
}

// What systemd hears of an enclave: ready, alive, reloading, ready, stopping.
func TestTheServiceManagerHearsOfTheLifeOfAnEnclave(t *testing.T) {
	a := prepare(t, sandbox.Options{})
	dir, err := os.MkdirTemp("", "n") // a socket's path has little room
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	v := a.VASPs[0]
	v.Enclave.Env = append(v.Enclave.Env, "NOTIFY_SOCKET="+path, "WATCHDOG_USEC=400000")
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	hears := func(want ...string) {
		t.Helper()
		if err := socket.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		for {
			message := make([]byte, 4096)
			n, err := socket.Read(message)
			if err != nil {
				t.Fatalf("no message with %q: %v", want, err)
			}
			text := string(message[:n])
			if !slices.ContainsFunc(want, func(w string) bool { return !strings.Contains(text, w) }) {
				return
			}
			if !strings.Contains(text, "WATCHDOG=1") {
				t.Errorf("heard %q before %q", text, want)
			}
		}
	}
	hears("READY=1", "STATUS=")
	hears("WATCHDOG=1")
	hears("WATCHDOG=1")
	if err := v.Enclave.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	hears("RELOADING=1", "MONOTONIC_USEC=")
	hears("READY=1")
	if err := v.Enclave.Stop(); err != nil {
		t.Fatal(err)
	}
	hears("STOPPING=1")
}

// Settings of an env file change while the enclave runs: the backend's token,
// the allowlist, the log's level. A connection that is open stays open. A bad
// list changes nothing at all, and what needs a restart is named.
func TestSettingsChangeWithoutARestart(t *testing.T) {
	a := prepare(t, sandbox.Options{})
	v := a.VASPs[0]
	file := filepath.Join(a.Dir, "alpha.env")
	v.Enclave.Args = []string{"run", "--env-file", file}
	set := func(lines ...string) {
		t.Helper()
		if err := os.WriteFile(file+".new", []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	set("VEGA_CENTRAL_ALLOWLIST=127.0.0.4", "VEGA_LOG_LEVEL=info")
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	kept := connect(t, v)
	status := func(token string) int {
		t.Helper()
		if err := kept.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(kept, "GET /v1/vasps/self HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", token)
		response, err := http.ReadResponse(kept.answers, nil)
		if err != nil {
			t.Fatalf("the kept connection broke: %v", err)
		}
		defer response.Body.Close()
		_, _ = io.Copy(io.Discard, response.Body)
		return response.StatusCode
	}
	state := func() string {
		return sample(metrics(t, v.Metrics), `enclave_config_last_reload_successful{source="settings"}`)
	}
	if got := status("none"); got != http.StatusOK {
		t.Fatalf("without a token set: %d", got)
	}
	set("VEGA_CENTRAL_ALLOWLIST=127.0.0.4,127.0.0.9", "VEGA_LOG_LEVEL=debug", "VEGA_SERVER_TOKEN=first")
	eventually(t, time.Minute, "the token is asked for", func() bool { return status("none") == http.StatusUnauthorized })
	if got := status("first"); got != http.StatusOK {
		t.Errorf("with the new token: %d", got)
	}
	host := strings.TrimPrefix(v.PublicEndpoint, "https://")
	reaches := func() bool {
		c, err := tls.DialWithDialer(from("127.0.0.9"), "tcp", host, &tls.Config{RootCAs: a.Roots})
		if err == nil {
			c.Close()
		}
		return err == nil
	}
	if !reaches() {
		t.Error("an address that is on the list now does not reach the public listener")
	}
	eventually(t, time.Minute, "the log has debug lines", func() bool {
		if c, err := from("127.0.0.9").Dial("tcp", host); err == nil { // a failed handshake is one
			c.Close()
		}
		return bytes.Contains(read(t, v.Enclave.Log), []byte(`"level":"DEBUG"`))
	})

	set("VEGA_CENTRAL_ALLOWLIST=central.example", "VEGA_LOG_LEVEL=info", "VEGA_SERVER_TOKEN=second")
	if err := v.Enclave.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "the metric says so", func() bool { return state() == "0" })
	if status("second") != http.StatusUnauthorized || status("first") != http.StatusOK || !reaches() {
		t.Error("a refused change changed something")
	}
	set("VEGA_CENTRAL_ALLOWLIST=127.0.0.4", "VEGA_LOG_LEVEL=info", "VEGA_SERVER_TOKEN=second", "VEGA_VERIFICATION_TIMEOUT_MS=1234567", "VEGA_LOG_LEVL=debug")
	if err := v.Enclave.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "the metric says so", func() bool { return state() == "1" })
	if status("first") != http.StatusUnauthorized || status("second") != http.StatusOK || reaches() {
		t.Error("the change after it was not taken over")
	}
	if n := sample(metrics(t, v.Metrics), "enclave_unknown_settings"); n != "1" {
		t.Errorf("enclave_unknown_settings = %s", n)
	}
	log := string(read(t, v.Enclave.Log))
	for _, want := range []string{"VEGA_CENTRAL_ALLOWLIST", "need a restart", "VEGA_VERIFICATION_TIMEOUT_MS", "settings changed and are in force", "VEGA_LOG_LEVL is not a setting of this program: did you mean VEGA_LOG_LEVEL?"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not say %q", want)
		}
	}
	if strings.Contains(log, "1234567") || strings.Contains(log, "second") {
		t.Error("the log has a value of a setting")
	}
}

// The probes before, in and after a life, as the command asks them.
func TestHealthcheckAsksEachProbe(t *testing.T) {
	a := start(t, sandbox.Options{Enclave: []string{"VEGA_SHUTDOWN_DELAY_MS=3000"}})
	v := a.VASPs[0]
	asks := func(flags ...string) (int, string) {
		return run(t, v.Enclave.Path, v.Enclave.Env, append([]string{"healthcheck"}, flags...)...)
	}
	for flag, want := range map[string]string{"--live": "alive", "--startup": "started", "--live=false": "ready"} {
		if code, out := asks(flag); code != 0 || strings.TrimSpace(out) != want {
			t.Errorf("healthcheck %s = %d %q", flag, code, out)
		}
	}
	if err := v.Enclave.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "it is not ready", func() bool { return ready(t, v) == http.StatusServiceUnavailable })
	if code, out := asks(); code != 1 || !strings.Contains(out, "not ready") {
		t.Errorf("while it leaves, healthcheck = %d %q", code, out)
	}
	for _, flag := range []string{"--live", "--startup"} {
		if code, out := asks(flag); code != 0 {
			t.Errorf("while it leaves, healthcheck %s = %d %q", flag, code, out)
		}
	}
	if code, err := v.Enclave.Wait(t.Context()); code != 0 || err != nil {
		t.Errorf("it ended with %d, %v", code, err)
	}
	if code, out := asks("--live"); code != 1 || !strings.Contains(out, "not alive") {
		t.Errorf("after its end, healthcheck --live = %d %q", code, out)
	}
}

// Whoever runs the enclave with an env file has no settings in his own
// environment: every command takes the file.
func TestCommandsTakeTheEnvFile(t *testing.T) {
	a := start(t, sandbox.Options{})
	v := a.VASPs[0]
	file := filepath.Join(a.Dir, "alpha.env")
	if err := os.WriteFile(file, []byte(strings.Join(v.Enclave.Env, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for command, says := range map[string]string{
		"healthcheck":   "ready",
		"peers list":    "VASP  NAME",
		"identity show": v.ID,
		"keys status":   "",
		"history list":  "",
		"check-config":  "ok",
		"config":        "VEGA_ADMIN_LISTEN",
		"db check":      "",
	} {
		args := append(strings.Fields(command), "--env-file", file)
		if code, out := run(t, v.Enclave.Path, []string{}, args...); code != 0 || !strings.Contains(out, says) {
			t.Errorf("enclave %s = %d %s", strings.Join(args, " "), code, out)
		}
	}
	// Without the file the commands look elsewhere, and say where.
	if code, out := run(t, v.Enclave.Path, []string{}, "healthcheck"); code != 1 || !strings.Contains(out, "VEGA_ADMIN_LISTEN") || !strings.Contains(out, "--env-file") {
		t.Errorf("healthcheck without it = %d %s", code, out)
	}
}

// A VASP's alliance key is changed with nobody's restart: central knows both
// for a while, the enclave takes the new one, central forgets the old one.
// Verifications go on all the time.
func TestTheAllianceKeyChangesWithoutARestart(t *testing.T) {
	a := prepare(t, sandbox.Options{})
	v := a.VASPs[0]
	file := filepath.Join(a.Dir, "alpha.env")
	v.Enclave.Args = []string{"run", "--env-file", file}
	// The env file counts more, and a secret may stand in one place only.
	v.Enclave.Env = slices.DeleteFunc(v.Enclave.Env, func(s string) bool { return strings.HasPrefix(s, "VEGA_ALLIANCE_SECRET_KEY") })
	const access, secret = "alpha-second-key", "0123456789abcdef0123456789abcdef"
	write := func(path, text string) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
	write(file, "VEGA_ALLIANCE_SECRET_KEY="+v.SecretKey+"\n")
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	membersFile := filepath.Join(a.Dir, "members.yaml")
	old := string(read(t, membersFile))
	line := fmt.Sprintf("      - accessKey: %q\n        secretKey: %q\n", v.AccessKey, v.SecretKey)
	second := fmt.Sprintf("      - accessKey: %q\n        secretKey: %q\n", access, secret)
	if !strings.Contains(old, line) {
		t.Fatal("the members file looks different")
	}
	reloaded := func(p *sandbox.Program, source string, want int) func() bool {
		return func() bool {
			n := want
			for _, l := range p.Lines() {
				if l["msg"] == "reloaded" && l["source"] == source {
					n--
				}
			}
			return n <= 0
		}
	}
	verify := func(when string) {
		t.Helper()
		for i, w := range a.VASPs { // both ways
			accepted, err := w.Verify(t.Context(), sandbox.Request(a.VASPs[1-i].ID))
			if err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			eventually(t, time.Minute, when+": the verification of "+w.Name+" is verified", func() bool {
				row, err := w.Row(t.Context(), accepted.VerificationUUID)
				return err == nil && row.Result == "VERIFIED"
			})
		}
	}
	verify("with the old key")
	write(membersFile, strings.Replace(old, line, line+second, 1))
	eventually(t, time.Minute, "central knows both", reloaded(a.Central, "members", 1))
	verify("with both known")
	registrations := func() string {
		return sample(metrics(t, v.Metrics), `enclave_central_request_duration_seconds_count{call="register",outcome="ok"}`)
	}
	before := registrations()
	write(file, "VEGA_ALLIANCE_SECRET_KEY="+secret+"\nVEGA_ALLIANCE_ACCESS_KEY="+access+"\n")
	eventually(t, time.Minute, "the enclave has the new one", reloaded(v.Enclave, "settings", 1))
	eventually(t, 10*time.Second, "the new one is tried before the next heartbeat", func() bool { return registrations() != before })
	verify("with the new key")
	write(membersFile, strings.Replace(old, line, second, 1))
	eventually(t, time.Minute, "central forgot the old one", reloaded(a.Central, "members", 2))
	verify("with the new key alone")
	if log := string(read(t, v.Enclave.Log)); strings.Contains(log, secret) {
		t.Error("the secret is in the log")
	}
}
