package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// Every command of docs/operations.md, from make build to the end, in a copy of the
// source: two enclaves, central, Redis and Prometheus. The addresses are others,
// so that nothing else of this machine is in the way.
func TestByHand(t *testing.T) {
	source := copyOfTheSource(t)
	var script strings.Builder
	script.WriteString("set -euo pipefail\n")
	blocks := shellBlock.FindAllStringSubmatch(string(read(t, "../../docs/operations.md")), -1)
	for _, block := range blocks {
		script.WriteString(block[1])
	}
	if len(blocks) < 11 || strings.Contains(script.String(), "sudo") {
		t.Fatalf("%d blocks of commands", len(blocks))
	}
	network := fmt.Sprintf("127.%d.%d.", 100+rand.IntN(100), rand.IntN(256))
	text := strings.ReplaceAll(script.String(), "127.0.0.", network)
	file, log := filepath.Join(source, "by-hand.sh"), filepath.Join(source, "by-hand.log")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, "bash", file)
	command.Dir, command.Stdout, command.Stderr = source, out, out
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	err = command.Run()
	_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL) // what a failure has left
	said := string(read(t, log))
	if err != nil {
		for _, name := range []string{"central", "alpha", "bravo"} {
			text, _ := os.ReadFile(filepath.Join(source, "by-hand", name+".log"))
			said += "\n" + name + ": " + string(text)
		}
		t.Fatalf("%v\n%s", err, said)
	}
	for _, want := range []string{
		"ok: the settings would start an enclave", "COUNTERPARTY-NOT-TRUSTED", "says that our enclave is up", `"result":"VERIFIED"`, "Min-jun",
		" rules found", "alpha/enclave.db:0", "bravo/enclave.db:0", "central.state:0", "central.log:0", "alpha.log:0", "bravo.log:0", "whole: ", "the history of the running enclave is whole", `"job":"enclave"`,
	} {
		if !strings.Contains(said, want) {
			t.Errorf("nobody says %q", want)
		}
	}
	if strings.Contains(said, "\nFAIL ") || t.Failed() {
		t.Error(said)
	}
}

// copyOfTheSource is this repository as git has it, and what is not committed
// yet, in another folder.
func copyOfTheSource(t *testing.T) string {
	t.Helper()
	list := exec.CommandContext(t.Context(), "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = "../.."
	names, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "hand") // short: the operator's socket is below it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for name := range strings.SplitSeq(strings.Trim(string(names), "\x00"), "\x00") {
		text, err := os.ReadFile(filepath.Join("../..", name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		mode := fs.FileMode(0o644)
		if info, err := os.Stat(filepath.Join("../..", name)); err == nil {
			mode = info.Mode().Perm()
		}
		to := filepath.Join(dir, name)
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, text, mode)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
