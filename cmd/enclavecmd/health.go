package enclavecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
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
			answer, err := ask(c.Context(), s.AdminListen, path)
			switch {
			case err != nil:
				return fmt.Errorf("not alive, or VEGA_ADMIN_LISTEN is another one than the enclave's (--env-file gives this command its settings): %w", err)
			case answer.status != http.StatusOK:
				return fmt.Errorf("not %s: status %d, %s", good, answer.status, strings.TrimSpace(answer.text))
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), good)
			return err
		},
	}
	c.Flags().BoolVar(&live, "live", false, "ask whether it is alive instead: whether a restart would help")
	c.Flags().BoolVar(&startup, "startup", false, "ask whether its start is over instead")
	return c
}

// answer is what a listener of this machine says.
type answer struct {
	status int
	text   string
}

// askFor is how long a listener of this machine may take; probes of containers
// give more.
const askFor = 3 * time.Second

// ask asks the running enclave, at one of its plain listeners.
func ask(ctx context.Context, listen settings.Listen, path string) (a answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+string(listen)+path, nil)
	if err != nil {
		return a, err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return a, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 4<<20))
	return answer{response.StatusCode, string(text)}, err
}
