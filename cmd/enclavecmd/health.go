package enclavecmd

import (
	"github.com/spf13/cobra"

	"github.com/vasp-enclave/vasp-enclave/cmd/life"
	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
)

// healthCommand asks the admin listener, and needs no setting but its address.
func healthCommand(from *settings.Source) *cobra.Command {
	return life.HealthCommand("enclave", func() (life.Probes, error) {
		var s struct {
			AdminListen settings.Listen `env:"VEGA_ADMIN_LISTEN" envDefault:"127.0.0.1:21118" doc:"Loopback address for /livez, /readyz and /startupz."`
		}
		if _, err := from.Load("VEGA_ADMIN_", &s); err != nil {
			return life.Probes{}, configError{err}
		}
		return life.Probes{
			Listen: string(s.AdminListen), Else: "VEGA_ADMIN_LISTEN is another one than the enclave's (--env-file gives this command its settings)",
		}, nil
	})
}
