package enclavecmd

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
)

// healthCommand is the probe for a pod: the image has no shell and no curl,
// and the admin listener is on loopback.
func healthCommand(from *settings.Source) *cobra.Command {
	var live, startup bool
	c := &cobra.Command{
		Use: "healthcheck", Short: "Ask the enclave on this machine whether it is ready; exit 0 when it is", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			path, good := "/readyz", "ready"
			switch {
			case live && startup:
				return errors.New("--live and --startup are two questions; ask one")
			case live:
				path, good = "/livez", "alive"
			case startup:
				path, good = "/startupz", "started"
			}
			var s struct {
				AdminListen settings.Listen `env:"VEGA_ADMIN_LISTEN" envDefault:"127.0.0.1:21118" doc:"Loopback address for /livez, /readyz and /startupz."`
			}
			if _, err := from.Load("VEGA_ADMIN_", &s); err != nil {
				return configError{err}
			}
			if err := probe("http://"+string(s.AdminListen)+path, good); err != nil {
				return err
			}
			_, err := fmt.Fprintln(c.OutOrStdout(), good)
			return err
		},
	}
	c.Flags().BoolVar(&live, "live", false, "ask whether it is alive instead: whether a restart would help")
	c.Flags().BoolVar(&startup, "startup", false, "ask whether its start is over instead")
	return c
}

// probe wants status 200.
func probe(url, good string) error {
	client := &http.Client{Timeout: 3 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		return fmt.Errorf("not alive, or VEGA_ADMIN_LISTEN is another one than the enclave's (--env-file gives this command its settings): %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("not %s: status %d", good, response.StatusCode)
	}
	return nil
}
