package pebble

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"time"
)

// process is a program that ends with this one at the latest.
type process struct {
	command *exec.Cmd
	log     string
	ended   chan struct{}
}

// start starts it on a thread of its own, which stays until it ends: the
// kernel's promise to end a child is about the thread that started it.
func start(path string, args, env []string, log string) (*process, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	p := &process{command: exec.Command(path, args...), log: log, ended: make(chan struct{})}
	p.command.Env, p.command.Stdout, p.command.Stderr, p.command.SysProcAttr = env, file, file, attributes()
	started := make(chan error)
	go func() {
		defer close(p.ended)
		runtime.LockOSThread()
		err := p.command.Start()
		started <- err
		if err == nil {
			_ = p.command.Wait()
		}
	}()
	return p, <-started
}

func (p *process) stop() {
	_ = p.command.Process.Kill()
	<-p.ended
}

// startTime is generous: machines under test are busy.
const startTime = 30 * time.Second

// await waits until ready says nil.
func (p *process) await(ctx context.Context, ready func() error) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			log, _ := os.ReadFile(p.log)
			return fmt.Errorf("%s ended before it was ready:\n%s", p.command.Path, log)
		case <-ctx.Done():
			p.stop()
			return errors.Join(ctx.Err(), err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Names is a name server that knows one address for every name, until Stop.
type Names struct {
	Address string // host:port
	process *process
}

// StartNames starts pebble-challtestsrv, at path, for its name server only. It
// logs into dir.
func StartNames(ctx context.Context, path, dir, answer string) (*Names, error) {
	address, err := FreePort("127.0.0.1")
	if err != nil {
		return nil, err
	}
	management, err := FreePort("127.0.0.1")
	if err != nil {
		return nil, err
	}
	p, err := start(path, []string{
		"-dnsserver", address, "-management", management, "-defaultIPv4", answer, "-defaultIPv6", "",
		"-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "",
	}, nil, dir+"/names.log")
	if err != nil {
		return nil, err
	}
	return &Names{address, p}, p.await(ctx, func() error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address) // it serves TCP and UDP
		if err == nil {
			err = conn.Close()
		}
		return err
	})
}

// Stop ends the program.
func (n *Names) Stop() { n.process.stop() }
