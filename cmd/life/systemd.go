package life

import (
	"context"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// The messages of the sd_notify protocol (systemd's sd_notify(3)). Without
// NOTIFY_SOCKET in the process's environment each of them does nothing; one
// that is lost is no reason to stop.

// NotifyReady says that the start is over, or that a reload is.
func NotifyReady() { notify(daemon.SdNotifyReady, "STATUS=ready") }

// NotifyReloading says that settings are being read again. The service manager
// waits for NotifyReady (Type=notify-reload).
func NotifyReloading() { notify(daemon.SdNotifyReloading, daemon.SdNotifyMonotonicUsec()) }

// AroundReload tells the service manager of a reload that it asked for.
func AroundReload(load func()) {
	NotifyReloading()
	load()
	NotifyReady()
}

// NotifyStopping says that the program ends.
func NotifyStopping() { notify(daemon.SdNotifyStopping, "STATUS=draining") }

func notify(lines ...string) {
	_, _ = daemon.SdNotify(false, strings.Join(lines, "\n"))
}

// Watchdog says that the program is alive, twice in the time that the service
// manager allows (WatchdogSec=), until ctx ends. Each time alive is asked
// first: a program that can no longer do its work stays silent and is
// restarted. Without a watchdog it returns at once.
func Watchdog(ctx context.Context, alive func(context.Context) bool) {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil || limit <= 0 {
		return
	}
	tick := time.NewTicker(limit / 2)
	defer tick.Stop()
	for {
		ask, cancel := context.WithTimeout(ctx, limit/4)
		if alive(ask) {
			notify(daemon.SdNotifyWatchdog)
		}
		cancel()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
