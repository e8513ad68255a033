package settings_test

import (
	"slices"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
)

// Changes tells what can be taken over from what needs a restart, by name.
func TestChanges(t *testing.T) {
	type mixed struct {
		Level  string          `env:"T_LEVEL" reload:"true" doc:"A level."`
		Token  settings.Secret `env:"T_TOKEN" reload:"true" secret:"true" doc:"A token."`
		Port   int             `env:"T_PORT" doc:"A port."`
		Key    settings.Secret `env:"T_KEY" secret:"true" doc:"A key."`
		Target settings.URL    `env:"T_URL" doc:"A URL."`
	}
	read := func(environ ...string) *mixed {
		t.Helper()
		m := new(mixed)
		if _, err := settings.Load("T_", m, environ); err != nil {
			t.Fatal(err)
		}
		return m
	}
	before := read("T_LEVEL=info", "T_TOKEN=a", "T_PORT=1", "T_KEY=k", "T_URL=https://a.example")
	for _, c := range []struct {
		after           *mixed
		reload, restart []string
	}{
		{read("T_LEVEL=info", "T_TOKEN=a", "T_PORT=1", "T_KEY=k", "T_URL=https://a.example"), nil, nil},
		{read("T_LEVEL=debug", "T_PORT=1", "T_KEY=k", "T_URL=https://a.example"), []string{"T_LEVEL", "T_TOKEN"}, nil},
		{read("T_LEVEL=info", "T_TOKEN=b", "T_PORT=2", "T_KEY=l", "T_URL=https://b.example"), []string{"T_TOKEN"}, []string{"T_PORT", "T_KEY", "T_URL"}},
	} {
		reload, restart := settings.Changes(before, c.after)
		if !slices.Equal(reload, c.reload) || !slices.Equal(restart, c.restart) {
			t.Errorf("Changes = %v, %v; want %v, %v", reload, restart, c.reload, c.restart)
		}
	}
	files := settings.SecretFiles(before, []string{"T_TOKEN_FILE=/run/token", "T_KEY_FILE=/run/key", "T_LEVEL_FILE=/x"})
	if !slices.Equal(files, []string{"/run/token"}) {
		t.Errorf("SecretFiles = %v, want that of the secret that can change", files)
	}
}
