package sandbox

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Program is one process of an alliance: a real binary with an environment of
// its own, whose log goes to a file.
type Program struct {
	Name string   // for people: "enclave A"
	Path string   // of the binary
	Args []string // its command
	Env  []string // NAME=value; nothing is inherited
	Log  string   // file, appended to at every start

	// ReadyLine is the message of the log line that says that it is up.
	ReadyLine string

	mu      sync.Mutex
	command *exec.Cmd
	exited  chan struct{}
	result  error
}

// readyTimeout is generous: machines under test are busy.
const readyTimeout = 30 * time.Second

// Start starts the process and waits until its log says that it is ready.
func (p *Program) Start(ctx context.Context) error {
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	from, err := log.Seek(0, 2)
	if err != nil {
		return err
	}
	command := exec.Command(p.Path, p.Args...)
	command.Env, command.Stdout, command.Stderr = p.Env, log, log
	command.Dir = filepath.Dir(p.Log)
	if err := spawn()(command); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	exited := make(chan struct{})
	p.mu.Lock()
	p.command, p.exited = command, exited
	p.mu.Unlock()
	go func() {
		err := command.Wait()
		p.mu.Lock()
		p.result = err
		p.mu.Unlock()
		close(exited)
	}()
	return p.awaitReady(ctx, from, exited)
}

func (p *Program) awaitReady(ctx context.Context, from int64, exited <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-exited:
			return fmt.Errorf("%s ended before it was ready:\n%s", p.Name, p.tail(from))
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w\n%s", p.Name, ctx.Err(), p.tail(from))
		case <-look.C:
			if bytes.Contains(p.since(from), []byte(p.ReadyLine)) {
				return nil
			}
		}
	}
}

func (p *Program) since(offset int64) []byte {
	all, err := os.ReadFile(p.Log)
	if err != nil || int64(len(all)) < offset {
		return nil
	}
	return all[offset:]
}

// tail is the end of the log, for a person who wonders.
func (p *Program) tail(from int64) string {
	lines := strings.Split(strings.TrimSpace(string(p.since(from))), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// Lines are the records of the log so far, those that are JSON.
func (p *Program) Lines() []map[string]any {
	var lines []map[string]any
	scanner := bufio.NewScanner(bytes.NewReader(p.since(0)))
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		var line map[string]any
		if json.Unmarshal(scanner.Bytes(), &line) == nil {
			lines = append(lines, line)
		}
	}
	return lines
}

// PID is the process's id, 0 when it was never started.
func (p *Program) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.command == nil {
		return 0
	}
	return p.command.Process.Pid
}

// Signal sends the process a signal and waits for nothing.
func (p *Program) Signal(s os.Signal) error {
	p.mu.Lock()
	command := p.command
	p.mu.Unlock()
	if command == nil {
		return os.ErrProcessDone
	}
	return command.Process.Signal(s)
}

// Kill ends the process as a crash does, with SIGKILL, and waits for it.
func (p *Program) Kill() error { return p.signal(syscall.SIGKILL) }

// Stop asks the process to end, with SIGTERM, and waits for it; after the
// drain time it is killed. A bad exit code is an error.
func (p *Program) Stop() error {
	err := p.signal(syscall.SIGTERM)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.result != nil {
		return fmt.Errorf("%s: %w", p.Name, p.result)
	}
	return nil
}

func (p *Program) signal(s os.Signal) error {
	p.mu.Lock()
	command, exited := p.command, p.exited
	p.mu.Unlock()
	if command == nil {
		return nil
	}
	if err := command.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-exited:
	case <-time.After(20 * time.Second):
		_ = command.Process.Kill()
		<-exited
		return fmt.Errorf("%s did not end by itself", p.Name)
	}
	return nil
}

// Wait waits for the process to end by itself and gives its exit code.
func (p *Program) Wait(ctx context.Context) (code int, err error) {
	p.mu.Lock()
	command, exited := p.command, p.exited
	p.mu.Unlock()
	select {
	case <-exited:
		return command.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
