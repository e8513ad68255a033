package acme_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/vasp-enclave/vasp-enclave/proxy/edge/acme"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge/acme/pebble"
)

// files are the paths below the storage, of files and of directories.
func files(t *testing.T, dir string) (files, dirs []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			dirs = append(dirs, path)
		default:
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files, dirs
}

// find is the one stored file that ends so.
func find(t *testing.T, dir, end string) string {
	t.Helper()
	all, _ := files(t, dir)
	for _, f := range all {
		if strings.HasSuffix(f, end) {
			return f
		}
	}
	t.Fatalf("no file %s among %q", end, all)
	return ""
}

// No private key stands in a file in clear, whichever way one looks for it,
// nor does anything else; and only this user may read (attack S1).
func TestStoredKeysAreSealed(t *testing.T) {
	w := start(t, server, acme.TLSALPN01, pebble.Options{})
	keys := map[string]*ecdsa.PrivateKey{}
	for _, end := range []string{server + ".key", "default.key"} { // of the certificate, of the account
		key, err := w.certificates.StoredKey(t.Context(), strings.TrimPrefix(find(t, w.config.Storage, end), w.config.Storage+"/"))
		if err != nil {
			t.Fatal(err)
		}
		keys[end] = key
	}
	all, dirs := files(t, w.config.Storage)
	if len(all) < 6 {
		t.Fatalf("only %q are stored", all)
	}
	for _, path := range all {
		text := readFile(t, path)
		for of, key := range keys {
			scalar, err := key.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			secrets := forms(scalar)
			secrets["PEM"] = pemLine(t, key)
			for form, secret := range secrets {
				if bytes.Contains(text, secret) {
					t.Errorf("%s holds the key of %s, %s", path, of, form)
				}
			}
		}
		if block, _ := pem.Decode(text); block != nil || bytes.Contains(text, []byte("-----BEGIN")) || bytes.Contains(text, []byte(`"`+server)) {
			t.Errorf("%s is in clear", path)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", path, info.Mode(), err)
		}
	}
	for _, path := range dirs {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %v, %v", path, info.Mode(), err)
		}
	}
}

// pemLine is the line of the key's PEM that holds the most of it.
func pemLine(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Split(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), []byte("\n"))[1]
}

// A file that was edited, moved from another place, or cut is refused, and no
// certificate is ordered in its place behind the operator's back (attack S2).
func TestATamperedFileIsRefused(t *testing.T) {
	for title, tamper := range map[string]func(dir, key string){
		"a bit flipped": func(_, key string) {
			text := readFile(t, key)
			text[len(text)/2] ^= 1
			write(t, key, text)
		},
		"another key in its place": func(dir, key string) { write(t, key, readFile(t, find(t, dir, "default.key"))) },
		"cut":                      func(_, key string) { write(t, key, readFile(t, key)[:20]) },
		"empty":                    func(_, key string) { write(t, key, nil) },
	} {
		w := start(t, server, acme.TLSALPN01, pebble.Options{})
		w.stop()
		key := find(t, w.config.Storage, server+".key")
		tamper(w.config.Storage, key)
		w.startEnclave()
		w.eventually("the log names the file", func() bool {
			return strings.Contains(w.log.String(), key+" does not open: it was edited or moved") && strings.Contains(w.log.String(), "see VEGA_ACME_STORAGE")
		})
		if err := w.usable(); err == nil {
			t.Errorf("%s: the certificate is in use", title)
		}
		if n := w.orders(); n != 1 {
			t.Errorf("%s: %d orders, want 1", title, n)
		}
	}
}

// Files sealed by another database are told as such.
func TestAnotherKeySaysSo(t *testing.T) {
	w := start(t, server, acme.TLSALPN01, pebble.Options{})
	w.stop()
	w.config.AEAD, w.config.Metrics = newKey(t).PrivateAEAD(), nil
	_, err := acme.Open(t.Context(), w.config)
	if err == nil || !strings.Contains(err.Error(), "VEGA_ACME_STORAGE") || !strings.Contains(err.Error(), "sealed under the key of another database file") {
		t.Errorf("Open = %v", err)
	}
}

// A crash between the writes of a renewal leaves a key and a certificate that
// do not belong together: a new pair is asked for.
func TestAHalfWrittenRenewalHeals(t *testing.T) {
	w := start(t, server, acme.TLSALPN01, pebble.Options{})
	before := readFile(t, find(t, w.config.Storage, server+".key"))
	w.renew()
	w.stop()
	write(t, find(t, w.config.Storage, server+".key"), before)
	write(t, filepath.Join(w.config.Storage, ".tmp-1"), []byte("half"))
	w.startEnclave()
	w.eventually("a certificate is there", func() bool { return w.usable() == nil })
	if _, err := w.shown(w.issuers()); err != nil {
		t.Error(err)
	}
	if all, _ := files(t, w.config.Storage); strings.Contains(strings.Join(all, " "), ".tmp-") {
		t.Errorf("left over: %q", all)
	}
}

// A storage that cannot be used is an error at start that names the setting.
func TestAStorageThatCannotBeUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, nil)
	w := newWorld(t, server, acme.TLSALPN01, pebble.Options{})
	for _, storage := range []string{file, filepath.Join(file, "below")} {
		w.config.Storage = storage
		if _, err := acme.Open(t.Context(), w.config); err == nil || !strings.Contains(err.Error(), "VEGA_ACME_STORAGE") || !strings.Contains(err.Error(), storage) {
			t.Errorf("Open = %v", err)
		}
	}
}

// The challenge listener's port is taken at start, or the start fails.
func TestAChallengePortInUse(t *testing.T) {
	w := newWorld(t, server, acme.HTTP01, pebble.Options{})
	first, err := acme.Open(t.Context(), w.config)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err := acme.Open(t.Context(), w.config); err == nil || !strings.Contains(err.Error(), "VEGA_ACME_HTTP_LISTEN") {
		t.Errorf("Open = %v", err)
	}
}

func TestStorageKeepsToItsDirectory(t *testing.T) {
	s, err := acme.OpenStorage(filepath.Join(t.TempDir(), "acme"), newKey(t).PrivateAEAD())
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for _, key := range []string{"", "../a", "a/../../b", "/etc/passwd", "a//b", "a/"} {
		_, loading := s.Load(ctx, key)
		if s.Store(ctx, key, []byte("x")) == nil || loading == nil || s.Delete(ctx, key) == nil {
			t.Errorf("%q is taken for a place in the storage", key)
		}
	}
	if _, err := s.Load(ctx, "a/b"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of nothing = %v", err)
	}
	if err := errors.Join(s.Store(ctx, "a/b", []byte("1")), s.Store(ctx, "a/c/d", []byte("2")), s.Store(ctx, "a/b", []byte("3"))); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Load(ctx, "a/b"); err != nil || string(got) != "3" {
		t.Errorf("Load = %q, %v", got, err)
	}
	flat, err1 := s.List(ctx, "a", false)
	deep, err2 := s.List(ctx, "a", true)
	if strings.Join(flat, " ") != "a/b a/c" || strings.Join(deep, " ") != "a/b a/c a/c/d" || err1 != nil || err2 != nil {
		t.Errorf("List = %q, %v, and %q, %v", flat, err1, deep, err2)
	}
	if _, err := s.List(ctx, "b", false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("List of nothing = %v", err)
	}
	if info, err := s.Stat(ctx, "a/b"); err != nil || !info.IsTerminal || time.Since(info.Modified) > time.Hour {
		t.Errorf("Stat = %+v, %v", info, err)
	}
	if err := errors.Join(s.Delete(ctx, "a"), s.Delete(ctx, "a")); err != nil || s.Exists(ctx, "a/c/d") {
		t.Errorf("Delete = %v, exists %v", err, s.Exists(ctx, "a/c/d"))
	}
}

func TestMetricsAreWellFormed(t *testing.T) {
	w := newWorld(t, server, acme.TLSALPN01, pebble.Options{})
	w.startEnclave()
	problems, err := testutil.GatherAndLint(w.metrics)
	if err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v, %v", problems, err)
	}
	if got := w.gauge("enclave_tls_certificate_not_after_timestamp_seconds"); got != 0 {
		t.Errorf("with no certificate its end is %v, want 0", got)
	}
	w.startAuthority()
	w.eventually("a certificate is there", func() bool { return w.usable() == nil })
	if got, want := w.gauge("enclave_tls_certificate_not_after_timestamp_seconds"), float64(w.certificates.NotAfter().Unix()); got != want || got == 0 {
		t.Errorf("the certificate's end is %v, want %v", got, want)
	}
	before := w.certificates.NotAfter()
	for w.certificates.NotAfter().Equal(before) { // the end has a second's resolution
		w.renew()
	}
	if got, want := w.gauge("enclave_tls_certificate_not_after_timestamp_seconds"), float64(w.certificates.NotAfter().Unix()); got != want {
		t.Errorf("after a renewal the certificate's end is %v, want %v", got, want)
	}
}
