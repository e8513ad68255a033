package sandbox_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The demo ends with 0 and tells all nine steps of the flow, with what each
// party saw.
func TestTheDemoTellsTheWholeStory(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, built.Enclave, "demo").CombinedOutput()
	if err != nil {
		t.Fatalf("demo: %v\n%s", err, out)
	}
	for i := 1; i <= 9; i++ {
		if !regexp.MustCompile(`(?m)^` + string(rune('0'+i)) + `  `).Match(out) {
			t.Errorf("step %d is missing", i)
		}
	}
	for _, want := range []string{"Authorization: Bearer", "VERIFICATION_RESULT", "TX_REPORT", "=> VERIFIED", "=> DENIED (UNKNOWN-ADDRESS)", "0 of 10 found"} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("the demo does not show %q", want)
		}
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}

// runningIn are the processes that work in a directory.
func runningIn(t *testing.T, dir string) (pids []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil || len(all) == 0 {
		t.Fatalf("no processes to look at: %v", err)
	}
	for _, link := range all {
		if to, err := os.Readlink(link); err == nil && to == dir {
			pids = append(pids, link)
		}
	}
	return pids
}

// With --keep everything runs until Ctrl-C, the printed lines to type work, and
// nothing is left afterwards.
func TestTheDemoKeepsRunningUntilCtrlC(t *testing.T) {
	dir := t.TempDir()
	demo := exec.Command(built.Enclave, "demo", "--keep", "--dir", dir)
	pipe, err := demo.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := demo.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = demo.Process.Kill() }()
	var curls []string
	lines := bufio.NewScanner(pipe)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "curl ") || strings.HasPrefix(line, "id=$(curl ") || strings.HasPrefix(line, "VEGA_OPERATOR_SOCKET=") {
			curls = append(curls, line)
		}
		if strings.HasPrefix(line, "Files and logs") {
			break
		}
	}
	go func() { _, _ = io.Copy(io.Discard, pipe) }()
	if found := runningIn(t, dir); len(found) != 5 {
		t.Fatalf("%d processes work in the demo's directory, want 5", len(found))
	}
	if len(curls) < 11 {
		t.Fatalf("only %d lines to type were printed", len(curls))
	}
	for _, line := range curls {
		out, err := exec.CommandContext(t.Context(), "sh", "-ec", line).CombinedOutput()
		if err != nil || len(out) == 0 || bytes.Contains(out, []byte(`"code"`)) {
			t.Errorf("%s\n%v: %s", line, err, out)
		}
	}
	if err := demo.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := demo.Wait(); err != nil {
		t.Errorf("after Ctrl-C: %v", err)
	}
	eventually(t, 10*time.Second, "no process is left", func() bool { return len(runningIn(t, dir)) == 0 })
}
