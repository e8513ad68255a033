package enclavecmd

import (
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vasp-enclave/vasp-enclave/cmd/reload"
	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
	"github.com/vasp-enclave/vasp-enclave/proxy/outward"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
)

// reloading is what can change while the enclave runs, and where it comes
// from.
type reloading struct {
	options runOptions
	from    *settings.Source
	start   *Settings
	last    *Settings // in force
	told    settings.News
	unknown prometheus.Gauge // settings
	parts   *parts
	log     *slog.Logger

	level    *slog.LevelVar
	central  *relay.Client
	verifier *relay.Verifier
	backend  *vasp.Client
	enclave  *proxy.Enclave
	public   *edge.Listener
	api      *changing

	key    relay.Key // with central, in force
	expiry *time.Timer
}

// changing is a handler that may become another one between two requests.
type changing struct{ now atomic.Pointer[http.Handler] }

func (c *changing) set(h http.Handler) { c.now.Store(&h) }

func (c *changing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	(*c.now.Load()).ServeHTTP(w, r)
}

// group has a source for each kind of file.
func (r *reloading) group(metrics prometheus.Registerer) *reload.Group {
	sources := []reload.Source{{Name: "settings", Files: r.settingsFiles, Load: r.settings}}
	if files, ok := r.parts.certificates.(*edge.Files); ok {
		host := r.start.PublicEndpoint.URL().Hostname()
		sources = append(sources, reload.Source{Name: "certificates", Files: files.Files, Load: func() error {
			err := files.Reload(time.Now(), host)
			return named(r.start.pairSettings(err), err)
		}})
	}
	for _, trust := range []struct {
		name string
		of   *outward.Trust
	}{{"central-trust", r.parts.apiTrust}, {"backend-trust", r.parts.vaspTrust}} {
		sources = append(sources, reload.Source{Name: trust.name, Files: trust.of.Files().Names, Load: func() error { return trust.of.Reload(time.Now()) }})
	}
	sources = append(sources, reload.Source{Name: "central-client", Files: r.clientFiles, Load: func() error {
		auth, err := readClientAuth(r.start)
		if err == nil {
			r.public.SetClientAuth(auth)
		}
		return err
	}})
	return reload.New(reload.Config{Sources: sources, Namespace: "enclave", Metrics: metrics, Log: r.log, Now: time.Now})
}

// clientFiles are those that say which client certificates central may show.
func (r *reloading) clientFiles() []string {
	if r.start.ClientCAFile == "" {
		return nil
	}
	return []string{r.start.ClientCAFile}
}

// settingsFiles are the env file, and the files of those secrets that can
// change.
func (r *reloading) settingsFiles() []string {
	files := r.from.Files(r.start)
	if r.start.AllowlistFile != "" {
		files = append(files, r.start.AllowlistFile)
	}
	return files
}

// settings reads them all again. Those that can change are judged together and
// then taken over; those that cannot are named.
func (r *reloading) settings() error {
	environ, err := r.from.Environ()
	if err != nil {
		return err
	}
	var s Settings
	warnings, err := settings.Load(Prefix, &s, environ)
	if err != nil {
		return err
	}
	if err := r.take(&s); err != nil {
		return err
	}
	if taken, _ := settings.Changes(r.last, &s); len(taken) > 0 {
		r.log.Info("settings changed and are in force", "settings", strings.Join(taken, ", "))
	}
	r.last = &s
	if _, restart := settings.Changes(r.start, &s); len(restart) > 0 {
		r.log.Warn("settings changed that need a restart", "settings", strings.Join(restart, ", "))
	}
	r.unknown.Set(float64(len(settings.Unknown(Prefix, &s, environ))))
	r.told.Log(r.log, warnings)
	return nil
}

// take judges first and changes last, so that it is all or nothing.
func (r *reloading) take(s *Settings) error {
	list, err := r.parts.readAllowlist(s)
	if err != nil {
		return err
	}
	key := allianceKey(s)
	if err := named("VEGA_ALLIANCE_ACCESS_KEY, VEGA_ALLIANCE_SECRET_KEY", key.Check()); err != nil {
		return err
	}
	token := vasp.NewToken(s.AuthorizationToken.Reveal())
	if err := named("VEGA_VERIFICATION_AUTHORIZATION_TOKEN", r.backend.CheckToken(token)); err != nil {
		return err
	}
	if err := r.takeKey(key); err != nil {
		return err
	}
	if err := r.backend.SetToken(token); err != nil {
		return err
	}
	r.parts.allowed.Swap(list)
	if err := r.parts.emptyAllowlist(); err != nil {
		r.log.Error("settings: " + err.Error())
	}
	r.api.set(r.enclave.API(s.ServerToken.Reveal()))
	r.level.Set(levelOf(s.LogLevel))
	return nil
}

// oldKey is how long requests of central may still be signed with the key
// before: until it has seen a heartbeat with the new one, and then some.
const oldKey = 3 * time.Minute

// takeKey signs with another key from now on. Central keeps signing with the
// one of our last registration, so that both count for a while.
func (r *reloading) takeKey(key relay.Key) error {
	before := r.key
	if key.Access == before.Access && key.Secret.Reveal() == before.Secret.Reveal() {
		return nil
	}
	both := []relay.Key{key}
	if key.Access != before.Access {
		both = append(both, before)
	}
	if err := r.verifier.SetKeys(both); err != nil {
		return err
	}
	if err := r.central.SetKey(key); err != nil {
		return err
	}
	r.key = key
	if r.expiry != nil {
		r.expiry.Stop()
	}
	r.expiry = time.AfterFunc(oldKey, func() { _ = r.verifier.SetKeys([]relay.Key{key}) })
	r.enclave.RegisterSoon() // a key that central does not take is to be seen now
	return nil
}
