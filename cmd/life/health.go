package life

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// Probes is where a program on this machine answers what Readiness.Routes are.
type Probes struct {
	Listen string // as the program's setting has it, such as :9465
	TLS    bool
	Else   string // what may be the matter if nobody answers there
}

// HealthCommand is the probe for a container: its image has no shell and no
// curl, and probes are answered on loopback. probes reads the settings.
func HealthCommand(program string, probes func() (Probes, error)) *cobra.Command {
	var live, startup bool
	c := &cobra.Command{
		Use: "healthcheck", Short: "Ask the " + program + " on this machine whether it is ready; exit 0 when it is", Args: cobra.NoArgs,
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
			p, err := probes()
			if err != nil {
				return err
			}
			a, err := p.Ask(c.Context(), path)
			switch {
			case err != nil:
				return fmt.Errorf("not alive, or %s: %w", p.Else, err)
			case a.Status != http.StatusOK:
				return fmt.Errorf("not %s: status %d, %s", good, a.Status, strings.TrimSpace(a.Text))
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), good)
			return err
		},
	}
	c.Flags().BoolVar(&live, "live", false, "ask whether it is alive instead: whether a restart would help")
	c.Flags().BoolVar(&startup, "startup", false, "ask whether its start is over instead")
	return c
}

// Answer is what a listener of this machine says.
type Answer struct {
	Status int
	Text   string
}

// askFor is how long a listener of this machine may take; probes of containers
// give more.
const askFor = 3 * time.Second

// Ask gets a path. No proxy of the environment stands between, and no
// certificate is judged: nothing is told, and who listens here is us.
func (p Probes) Ask(ctx context.Context, path string) (a Answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	scheme := "http://"
	if p.TLS {
		scheme = "https://"
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+thisMachine(p.Listen)+path, nil)
	if err != nil {
		return a, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	response, err := client.Do(r)
	if err != nil {
		return a, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 4<<20))
	return Answer{response.StatusCode, string(text)}, err
}

// thisMachine is where to call what listens on an address: all addresses, as
// in :9465, are no address to call.
func thisMachine(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	switch ip, _ := netip.ParseAddr(host); {
	case host == "", ip == netip.IPv4Unspecified():
		return net.JoinHostPort("127.0.0.1", port)
	case ip == netip.IPv6Unspecified():
		return net.JoinHostPort("::1", port)
	}
	return listen
}
