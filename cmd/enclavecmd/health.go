package enclavecmd

import (
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
)

// healthCommand is the probe for a pod: the image has no shell and no curl,
// and the admin listener is on loopback.
func healthCommand(environ []string) *cobra.Command {
	return &cobra.Command{
		Use: "healthcheck", Short: "Ask the enclave on this machine whether it is ready; exit 0 when it is", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var s struct {
				AdminListen settings.Listen `env:"VEGA_ADMIN_LISTEN" envDefault:"127.0.0.1:21118" doc:"Loopback address for /livez and /readyz."`
			}
			if _, err := settings.Load("VEGA_ADMIN_", &s, environ); err != nil {
				return configError{err}
			}
			client := &http.Client{Timeout: 3 * time.Second}
			response, err := client.Get("http://" + string(s.AdminListen) + "/readyz")
			if err != nil {
				return fmt.Errorf("not alive: %w", err)
			}
			defer response.Body.Close()
			if response.StatusCode != http.StatusOK {
				return fmt.Errorf("not ready: status %d", response.StatusCode)
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), "ready")
			return err
		},
	}
}
