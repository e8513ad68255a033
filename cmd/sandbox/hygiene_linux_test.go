package sandbox_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
)

// L2: an enclave that is made to crash leaves no core, though the limit that
// it was started with allows one.
func TestAnEnclaveLeavesNoCore(t *testing.T) {
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &before); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{Cur: before.Max, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Setrlimit(syscall.RLIMIT_CORE, &before) })
	a := prepare(t, sandbox.Options{})
	v := a.VASPs[0]
	v.Enclave.Env = append(v.Enclave.Env, "GOTRACEBACK=crash")
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	pid := v.Enclave.PID()
	proc := fmt.Sprintf("/proc/%d/", pid)
	limits, err := os.ReadFile(proc + "limits")
	if err != nil || !regexp.MustCompile(`Max core file size\s+0\s+0\s`).Match(limits) {
		t.Errorf("core limits: %v\n%s", err, limits)
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Signal(syscall.SIGABRT); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "it has ended", func() bool { _, err := os.Stat(proc + "limits"); return err != nil })
	if cores, _ := filepath.Glob(filepath.Join(filepath.Dir(v.Enclave.Log), "core*")); len(cores) > 0 {
		t.Errorf("it left %s", strings.Join(cores, ", "))
	}
	if log := read(t, v.Enclave.Log); !bytes.Contains(log, []byte("SIGABRT")) {
		t.Error("it did not crash: this test tests nothing")
	}
	if err := v.Enclave.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Whether a process is dumpable is in no file, so strace says that the enclave
// asks for it, before it reads a setting. (Of a process of root the kernel
// hides nothing from root: only another user could see the difference.)
func TestAnEnclaveHidesItsMemoryBeforeItHasAKey(t *testing.T) {
	out, err := exec.Command("strace", "-f", "-e", "trace=prctl,prlimit64", built.Enclave, "run").CombinedOutput()
	if err == nil {
		t.Fatal("the enclave ran without settings")
	}
	hidden := bytes.Index(out, []byte("PR_SET_DUMPABLE, SUID_DUMP_DISABLE) = 0"))
	refused := bytes.Index(out, []byte("VEGA_"))
	if hidden < 0 || refused < hidden {
		t.Errorf("strace says %s", out)
	}
}
