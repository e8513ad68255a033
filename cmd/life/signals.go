package life

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Stopped is the cause of a context that a signal ended.
type Stopped struct{ Signal syscall.Signal }

func (s Stopped) Error() string { return "stopped by " + s.Signal.String() }

// Waits tells whether a program that ends for this cause goes on taking work
// for a while, so that whoever sends it hears first that it is leaving. That
// is for SIGTERM, which a supervisor sends; a person at a terminal, who sends
// SIGINT, and a part that failed do not wait.
func Waits(cause error) bool {
	var stopped Stopped
	return errors.As(cause, &stopped) && stopped.Signal == syscall.SIGTERM
}

// Watch gives a context that SIGTERM or SIGINT ends with a Stopped as cause. A
// second one ends the process at once, with 128 and its number, which is what
// a shell says of a process that a signal killed. SIGHUP arrives on the
// channel, and is taken from the beginning, so that an early one kills nobody.
// release gives the signals back.
func Watch(parent context.Context, program string, w io.Writer) (ctx context.Context, hangup <-chan os.Signal, release func()) {
	ctx, cancel := context.WithCancelCause(parent)
	ends, reload := make(chan os.Signal, 2), make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGTERM, syscall.SIGINT)
	signal.Notify(reload, syscall.SIGHUP)
	released := make(chan struct{})
	go func() {
		select {
		case s := <-ends:
			cancel(Stopped{s.(syscall.Signal)})
		case <-released:
			return
		}
		select {
		case s := <-ends:
			fmt.Fprintf(w, "%s: a second signal (%s): ending at once; what is undelivered is in the history\n", program, s)
			os.Exit(128 + int(s.(syscall.Signal)))
		case <-released:
		}
	}()
	return ctx, reload, func() {
		signal.Stop(ends)
		signal.Stop(reload)
		close(released)
		cancel(nil)
	}
}
