package plugins_test

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/plugins"
)

func path(_ context.Context, u *url.URL) (string, error) { return u.Path, nil }

func TestOpenPicksByScheme(t *testing.T) {
	var p plugins.Point[string]
	p.Register("a", path)
	p.Register("b", func(context.Context, *url.URL) (string, error) { return "b's own", nil })
	for rawURL, want := range map[string]string{"a:/x": "/x", "A:/x": "/x", "a://h/y": "/y", "b:/x": "b's own"} {
		if got, err := p.Open(t.Context(), rawURL); err != nil || got != want {
			t.Errorf("Open(%s) = %q, %v, want %q", rawURL, got, err, want)
		}
	}
}

func TestOpenNamesTheKnownSchemes(t *testing.T) {
	var p plugins.Point[string]
	p.Register("b", path)
	p.Register("a", path)
	for _, rawURL := range []string{"", "hunter2:/x", "/hunter2", "hunter2", "a", "%zzhunter2", "a\x00hunter2:"} {
		_, err := p.Open(t.Context(), rawURL)
		if err == nil || !strings.Contains(err.Error(), "schemes known: a:, b:") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Open(%q) = %v, want an error with the schemes and without the URL", rawURL, err)
		}
	}
}

func TestOpenMissesTheColon(t *testing.T) {
	var p plugins.Point[string]
	p.Register("a", path)
	for rawURL, want := range map[string]bool{"a": true, "A": true, "a?hunter2": true, "b": false, "/a": false} {
		_, err := p.Open(t.Context(), rawURL)
		if err == nil || strings.Contains(err.Error(), "did you mean a:?") != want || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Open(%s) = %v, want it asked whether a: was meant: %t", rawURL, err, want)
		}
	}
}

func TestRegisterTwicePanics(t *testing.T) {
	var p plugins.Point[string]
	p.Register("a", path)
	defer func() {
		if recover() == nil {
			t.Error("Register did not panic")
		}
	}()
	p.Register("a", path)
}
