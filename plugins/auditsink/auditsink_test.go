package auditsink_test

import (
	"context"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/plugins/auditsink"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
)

func open(t *testing.T, text string) (audit.Sink, error) {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if u.Scheme == "stdout" {
		return auditsink.Stdout(t.Context(), u)
	}
	return auditsink.File(t.Context(), u)
}

func TestWhatASinkIsNot(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"stdout:x":                     "takes nothing",
		"stdout:///x":                  "takes nothing",
		"file:audit.jsonl":             "begins with /",
		"file:":                        "begins with /",
		"file://host/audit.jsonl":      "begins with /",
		"file:" + dir + "/a?b":         "begins with /",
		"file:" + dir + "/none/a":      "make the directory",
		"file:" + dir:                  "not a regular file",
		"file:" + pipe:                 "not a regular file",
		"file:" + pipe + "/audit.json": "not a directory",
	} {
		if _, err := open(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	for _, text := range []string{"stdout:", "file:" + dir + "/audit.jsonl", "file://" + dir + "/audit.jsonl"} {
		if _, err := open(t, text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := os.Stat(dir + "/audit.jsonl"); err == nil {
		t.Error("a sink that was only looked at made its file")
	}
}

// The file grows, is for its user only, gets a new one when it was renamed or
// removed, and a line that was torn off goes before the next.
func TestTheFileGrows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	sink, err := open(t, "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		t.Helper()
		if err := sink.Write(context.Background(), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	want := func(path, want string) {
		t.Helper()
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want {
			t.Errorf("%s has %q, %v; want %q", filepath.Base(path), got, err, want)
		}
	}
	write("1\n")
	write("2\n3\n")
	want(path, "1\n2\n3\n")
	if other, err := open(t, "file:"+path); err != nil {
		t.Fatal(err)
	} else if err := other.Write(context.Background(), []byte("x\n")); err == nil || !strings.Contains(err.Error(), "a file of its own") {
		t.Errorf("a second enclave writes to the file: %v", err)
	}
	want(path, "1\n2\n3\n")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write("4\n")
	want(path+".1", "1\n2\n3\n")
	want(path, "4\n")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write("5\n")
	want(path, "5\n")
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
	for text, healed := range map[string]string{"5\n6\n7": "5\n6\n", "torn": "", "": "", "\n": "\n", strings.Repeat("x", 1<<20-1) + "\ny": strings.Repeat("x", 1<<20-1) + "\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		write("8\n")
		want(path, healed+"8\n")
		if err := sink.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("x", 1<<20+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := sink.Write(context.Background(), []byte("9\n")); err == nil || !strings.Contains(err.Error(), "no audit log") {
		t.Errorf("into something else: %v", err)
	}
}

// A full disk leaves no half line behind: /dev/full in place of the file would
// be no regular one, so a limit of the file's size stands for it.
func TestADiskThatFillsUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	sink, err := open(t, "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	if err := sink.Write(context.Background(), []byte("first\n")); err != nil {
		t.Fatal(err)
	}
	limited(t, 10, func() {
		if err := sink.Write(context.Background(), []byte("second line\n")); err == nil {
			t.Error("a write beyond the limit succeeded")
		}
	})
	if err := sink.Write(context.Background(), []byte("second line\n")); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(path); string(got) != "first\nsecond line\n" {
		t.Errorf("the file has %q", got)
	}
}

// limited runs f while no file of this process may be longer than n bytes.
func limited(t *testing.T, n uint64, f func()) {
	t.Helper()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: n, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
			t.Fatal(err)
		}
	}()
	f()
}
