package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
)

// The keys do not leave the token, and a key that could is refused.
func TestKeysCannotLeaveTheToken(t *testing.T) {
	w := newWorld(t)
	w.start()
	handle := w.token.handles[w.config.Keys[0]]
	got, err := w.token.library.GetAttributeValue(w.token.session, handle, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VALUE, nil)})
	if err == nil && len(got[0].Value) > 0 {
		t.Error("the token gave the key's value")
	}
	wrapping, err := w.token.library.GenerateKey(w.token.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false), pkcs11.NewAttribute(pkcs11.CKA_WRAP, true),
	})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := w.token.library.WrapKey(w.token.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_WRAP, nil)}, wrapping, handle); err == nil {
		t.Errorf("the token wrapped the key for us: %d bytes", len(out))
	}
	for name, attributes := range map[string][2]bool{"extractable": {true, true}, "readable": {false, false}} {
		label := "weak-" + name
		_, err := w.token.library.GenerateKey(w.token.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
			pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
			pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, attributes[0]), pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, attributes[1]), pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true),
		})
		if err != nil {
			t.Fatal(err)
		}
		keys := w.token.keys
		w.token.keys = []string{label}
		if err := w.token.find(); err == nil || !strings.Contains(err.Error(), "can leave the token") {
			t.Errorf("%s: %v", name, err)
		}
		w.token.keys = keys
	}
	if err := w.token.find(); err != nil {
		t.Error(err)
	}
}

// A session that ended, a library that was shut, a token that is away for a
// while: the next use opens it anew, or says that the token is in trouble.
func TestTheTokenIsOpenedAnew(t *testing.T) {
	w := newWorld(t).start()
	value := w.wrapped("alpha")
	unwrap := func() int {
		status, _ := w.post("/v1/decrypt", secret("alpha"), map[string]any{"inputKey": value})
		return status
	}
	slot, err := w.token.slot()
	if err != nil {
		t.Fatal(err)
	}
	for name, harm := range map[string]func() error{
		"sessions closed":   func() error { return w.token.library.CloseAllSessions(slot) },
		"logged out":        func() error { return w.token.library.Logout(w.token.session) },
		"library shut":      func() error { return w.token.library.Finalize() },
		"library restarted": func() error { return errors.Join(w.token.library.Finalize(), w.token.library.Initialize()) },
	} {
		if err := harm(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if status := unwrap(); status != http.StatusOK {
			t.Errorf("%s: status %d, want the key all the same\n%s", name, status, w.log)
		}
	}
	aside := tokens + "-aside"
	if err := os.Rename(tokens, aside); err != nil {
		t.Fatal(err)
	}
	_ = w.token.library.Finalize()
	if status := unwrap(); status != http.StatusServiceUnavailable {
		t.Errorf("without the token: status %d, want 503", status)
	}
	if err := w.token.healthy(); err == nil {
		t.Error("healthy without the token")
	}
	_ = os.Remove(tokens)
	if err := os.Rename(aside, tokens); err != nil {
		t.Fatal(err)
	}
	if status := unwrap(); status != http.StatusOK {
		t.Errorf("with the token again: status %d\n%s", status, w.log)
	}
	if err := w.token.healthy(); err != nil {
		t.Error(err)
	}
}

// A wrong PIN is tried once: a token locks itself after a few.
func TestAWrongPINIsTriedOnce(t *testing.T) {
	w := newWorld(t).start()
	w.write("pin", []byte("000000"))
	_ = w.token.library.Finalize()
	for range 3 {
		if err := w.token.healthy(); !errors.Is(err, errPIN) {
			t.Fatalf("%v, want errPIN", err)
		}
	}
	w.write("pin", []byte(pin))
	if err := w.token.healthy(); !errors.Is(err, errPIN) {
		t.Errorf("tried again: %v", err)
	}
}

// The program from its command line: a key, a value, an answer, an end; and
// exit codes that tell a supervisor whether to try again.
func TestTheProgram(t *testing.T) {
	w := newWorld(t)
	file := filepath.Join(w.dir, "config.json")
	do := func(stdin string, args ...string) (int, string) {
		var out, log bytes.Buffer
		code := run(t.Context(), args, strings.NewReader(stdin), &out, &log)
		return code, out.String() + log.String()
	}
	if code, said := do("", "keys", "init", "--config", file); code != exitFailed || !strings.Contains(said, "already") {
		t.Errorf("a key that is there: exit %d, %q", code, said)
	}
	if code, said := do("", "keys", "init", "--config", file, "--label", w.config.Keys[0]+"-next"); code != 0 {
		t.Errorf("another key: exit %d, %q", code, said)
	}
	own := base64.StdEncoding.EncodeToString(random(t, 32))
	code, said := do(own+"\n", "keys", "wrap", "--config", file, "--instance", "alpha", "--key-file", "-")
	if code != 0 || strings.Contains(said, own) {
		t.Fatalf("wrap: exit %d, %q", code, said)
	}
	value := strings.TrimSpace(said)
	for name, args := range map[string][]string{
		"nothing": {}, "no config": {"serve"}, "absent config": {"serve", "--config", file + "x"}, "more": {"serve", "--config", file, "x"},
		"no instance": {"keys", "wrap", "--config", file}, "odd label": {"keys", "init", "--config", file, "--label", "a b"},
	} {
		if code, said := do("", args...); code != exitConfig || said == "" {
			t.Errorf("%s: exit %d, %q", name, code, said)
		}
	}
	if code, said := do("short", "keys", "wrap", "--config", file, "--instance", "alpha", "--key-file", "-"); code == 0 || strings.Contains(said, "short") {
		t.Errorf("a short key: exit %d, %q", code, said)
	}
	w.write("pin", []byte("000000"))
	if code, said := do("", "serve", "--config", file); code != exitConfig || !strings.Contains(said, "PIN") {
		t.Errorf("a wrong PIN: exit %d, %q", code, said)
	}
	w.write("pin", []byte(pin+"\n"))

	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, []string{"serve", "--config", file}, nil, w.log, w.log) }()
	w.url = "https://" + w.awaitReady()
	status, answer := w.post("/v1/decrypt", secret("alpha"), map[string]any{"inputKey": value})
	if status != http.StatusOK || answer["outputKey"] != own {
		t.Errorf("status %d, %d members", status, len(answer))
	}
	stop()
	if code := <-ended; code != 0 {
		t.Errorf("exit %d", code)
	}
}

// awaitReady waits for the line that names the address.
func (w *world) awaitReady() string {
	w.t.Helper()
	for range 1000 {
		for _, r := range w.log.records(w.t) {
			if r["msg"] == "decryptapi ready" {
				return r["listen"].(string)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.t.Fatalf("not ready:\n%s", w.log)
	return ""
}
