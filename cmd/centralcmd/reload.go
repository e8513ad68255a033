package centralcmd

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vasp-enclave/vasp-enclave/cmd/reload"
	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
	"github.com/vasp-enclave/vasp-enclave/proxy/central"
)

// reloading is what can change while central runs, and where it comes from.
type reloading struct {
	options runOptions
	from    *settings.Source
	start   *Settings
	told    settings.News
	parts   *parts
	level   *slog.LevelVar
	log     *slog.Logger
	server  *central.Server
	secrets []string // the files that the members file named last
}

// group has a source for each kind of file.
func (r *reloading) group(metrics prometheus.Registerer) *reload.Group {
	r.secrets = central.SecretKeyFiles(r.start.MembersFile)
	return reload.New(reload.Config{
		Sources: []reload.Source{
			{Name: "settings", Files: r.settingsFiles, Load: r.settings},
			{Name: "certificates", Files: r.parts.certificates.Files, Load: r.certificates},
			{Name: "members", Files: r.membersFiles, Load: r.members},
		},
		Namespace: "central", Metrics: metrics, Log: r.log, Now: time.Now,
	})
}

func (r *reloading) settingsFiles() []string { return r.from.Files(r.start) }

// settings reads them all again: the log's level can change, the others are
// named when they did.
func (r *reloading) settings() error {
	var s Settings
	warnings, err := r.from.Load(Prefix, &s)
	if err != nil {
		return err
	}
	r.level.Set(levelOf(s.LogLevel))
	if _, restart := settings.Changes(r.start, &s); len(restart) > 0 {
		r.log.Warn("settings changed that need a restart", "settings", strings.Join(restart, ", "))
	}
	r.told.Log(r.log, warnings)
	return nil
}

func (r *reloading) certificates() error {
	if err := r.parts.certificates.Reload(time.Now(), ""); err != nil {
		return fmt.Errorf("CENTRAL_TLS_CERT_FILE, CENTRAL_TLS_KEY_FILE: %w", err)
	}
	return nil
}

// membersFiles are the members file and the secret key files it named when it
// was loaded last.
func (r *reloading) membersFiles() []string {
	return append(r.secrets[:len(r.secrets):len(r.secrets)], r.start.MembersFile)
}

func (r *reloading) members() error {
	members, err := central.ReadMembers(r.start.MembersFile)
	if err == nil {
		err = r.server.SetMembers(members)
	}
	if err != nil {
		return fmt.Errorf("CENTRAL_MEMBERS_FILE: %w", err)
	}
	r.secrets = central.SecretKeyFiles(r.start.MembersFile)
	return nil
}
