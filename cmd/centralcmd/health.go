package centralcmd

import (
	"github.com/spf13/cobra"

	"github.com/vasp-enclave/vasp-enclave/cmd/life"
	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
)

// healthCommand asks the metrics listener, and needs no setting but its
// address.
func healthCommand(from *settings.Source) *cobra.Command {
	return life.HealthCommand("central", func() (life.Probes, error) {
		var s struct {
			MetricsListen settings.Listen `env:"CENTRAL_METRICS_LISTEN" envDefault:"127.0.0.1:9465" doc:"Where /metrics, /livez, /readyz and /startupz are."`
		}
		if _, err := from.Load("CENTRAL_METRICS_", &s); err != nil {
			return life.Probes{}, configError{err}
		}
		return life.Probes{
			Listen: string(s.MetricsListen), Else: "CENTRAL_METRICS_LISTEN is another one than central's (--env-file gives this command its settings)",
		}, nil
	})
}
