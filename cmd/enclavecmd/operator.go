package enclavecmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy"
)

// The operator's commands speak to the running enclave through a socket file
// that only its own user may open: the history has one writer.

// operator is the client of that socket.
type operator struct{ client *http.Client }

func newOperator(from *settings.Source) (*operator, error) {
	path, err := operatorSocket(from)
	if err != nil {
		return nil, configError{err}
	}
	return operatorAt(path), nil
}

func operatorAt(path string) *operator {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	return &operator{&http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DialContext: dial, DisableCompression: true}}}
}

// operatorSocket reads the two settings that say where the socket is.
func operatorSocket(from *settings.Source) (string, error) {
	var s struct {
		DatabaseFile   string `env:"VEGA_DATABASE_FILE" envDefault:"enclave.db" group:"-" doc:"The history."`
		OperatorSocket string `env:"VEGA_OPERATOR_SOCKET" doc:"Socket of the operator's commands."`
	}
	if _, err := from.Load("VEGA_OPERATOR_", &s); err != nil {
		return "", err
	}
	return socketPath(s.OperatorSocket, s.DatabaseFile), nil
}

func socketPath(configured, database string) string {
	if configured != "" {
		return configured
	}
	return database + ".sock"
}

// call asks the running enclave; its refusals come back as sentences.
func (o *operator) call(ctx context.Context, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://enclave"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	response, err := o.client.Do(request)
	if err != nil {
		return unreachable(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 64<<20))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return refusalOf(response.StatusCode, answer)
	}
	return json.Unmarshal(answer, out)
}

// open asks the running enclave for what is as long as it is, and has no limit
// of time. A refusal is an error that says why; when nobody answers, see nobody.
func (o *operator) open(ctx context.Context, method, path string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://enclave"+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := (&http.Client{Transport: o.client.Transport}).Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode == http.StatusOK {
		return response, nil
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return nil, err
	}
	return nil, refusalOf(response.StatusCode, answer)
}

// nobody says whether there is no enclave to ask.
func nobody(err error) bool { return errors.Is(err, os.ErrNotExist) || isRefusedConnection(err) }

// unreachable says what to do when nobody answers.
func unreachable(err error) error {
	if nobody(err) {
		return fmt.Errorf("no enclave is running here: start it, or set VEGA_DATABASE_FILE or VEGA_OPERATOR_SOCKET as it has them (%w)", err)
	}
	return err
}

// refusalOf is the sentence of an answer that is none.
func refusalOf(status int, answer []byte) error {
	var problem struct{ Code, Message string }
	if json.Unmarshal(answer, &problem) == nil && problem.Message != "" {
		return errors.New(problem.Message)
	}
	return fmt.Errorf("the enclave answered status %d", status)
}

func isRefusedConnection(err error) bool {
	var failed *net.OpError
	var u *url.Error
	return errors.As(err, &u) && errors.As(u.Err, &failed) && failed.Op == "dial"
}

func peersCommand(from *settings.Source) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "peers", Short: "Whom this enclave exchanges with, and how far it believes them"}
	c.PersistentFlags().BoolVar(&asJSON, "json", false, "print JSON")
	one := func(use, short, action string, args cobra.PositionalArgs) *cobra.Command {
		return &cobra.Command{Use: use, Short: short, Args: args, RunE: func(c *cobra.Command, args []string) error {
			id, err := identity.ParseVASPID(args[0])
			if err != nil {
				return err
			}
			o, err := newOperator(from)
			if err != nil {
				return err
			}
			method := http.MethodPost
			if action == "" {
				method = http.MethodGet
			}
			var view proxy.PeerView
			path := strings.TrimSuffix("/peers/"+id.String()+"/"+action, "/")
			if err := o.call(c.Context(), method, path, map[string]string{"digits": strings.Join(args[1:], " ")}, &view); err != nil {
				return err
			}
			return printPeer(c.OutOrStdout(), view, asJSON)
		}}
	}
	c.AddCommand(
		&cobra.Command{Use: "list", Short: "All counterparties met so far", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
			o, err := newOperator(from)
			if err != nil {
				return err
			}
			var views []proxy.PeerView
			if err := o.call(c.Context(), http.MethodGet, "/peers", nil, &views); err != nil {
				return err
			}
			return printPeers(c.OutOrStdout(), views, asJSON)
		}},
		one("show VASP-ID", "One counterparty, with the safety number to compare on a call", "", takes("VASP-ID")),
		one("verify VASP-ID DIGITS...", "Make a counterparty verified: type the safety number that its operator reads to you", "verify", takes("VASP-ID", "DIGITS...")),
		one("accept VASP-ID FINGERPRINT...", "Take a counterparty off hold, or unblock it, without a safety number: give the fingerprint of the identity to believe, as show prints it", "accept", fingerprintToo),
		one("block VASP-ID", "Stop every exchange with a counterparty at once", "block", takes("VASP-ID")),
		peerHistoryCommand(from, &asJSON),
	)
	return c
}

// fingerprintToo wants the identity to be named: another one may be shown by
// the time it is accepted.
func fingerprintToo(_ *cobra.Command, args []string) error {
	if len(args) < 2 {
		return errors.New("say which identity: enclave peers show VASP-ID prints the whole command, with the fingerprint that would be accepted")
	}
	return nil
}

func peerHistoryCommand(from *settings.Source, asJSON *bool) *cobra.Command {
	return &cobra.Command{Use: "history VASP-ID", Short: "Every change of a counterparty's identity, from the audit log", Args: takes("VASP-ID"), RunE: func(c *cobra.Command, args []string) error {
		o, err := newOperator(from)
		if err != nil {
			return err
		}
		var events []proxy.PeerEvent
		if err := o.call(c.Context(), http.MethodGet, "/peers/"+url.PathEscape(args[0])+"/history", nil, &events); err != nil {
			return err
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), events)
		}
		t := tabwriter.NewWriter(c.OutOrStdout(), 0, 4, 2, ' ', 0)
		fmt.Fprintln(t, "TIME\tWHAT\tBY\tIDENTITY")
		for _, event := range events {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", event.Time.Format(time.RFC3339), event.Verb, event.By, event.Identity)
		}
		return t.Flush()
	}}
}

func printPeers(w io.Writer, views []proxy.PeerView, asJSON bool) error {
	if asJSON {
		return printJSON(w, views)
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "VASP\tNAME\tSTATE\tSINCE")
	for _, v := range views {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", v.VASP, v.Name, v.State, v.Since.Format(time.RFC3339))
	}
	return t.Flush()
}

func printPeer(w io.Writer, v proxy.PeerView, asJSON bool) error {
	if asJSON {
		return printJSON(w, v)
	}
	fmt.Fprintf(w, "VASP           %s  %s\nstate          %s since %s\nfingerprint    %s\nsafety number  %s\n",
		v.VASP, v.Name, v.State, v.Since.Format(time.RFC3339), v.Fingerprint, v.SafetyNumber)
	if v.Pending != "" {
		fmt.Fprintf(w, "\nIt shows ANOTHER identity now. Ask its operator, on a call, whether it was changed on purpose.\nfingerprint    %s\nsafety number  %s\n", v.Pending, v.PendingSafetyNumber)
	}
	if v.Acceptable != "" {
		fmt.Fprintf(w, "\nTo exchange with it again, compared on a call:  enclave peers verify %s DIGITS, as its operator reads them to you\nor without:  enclave peers accept %s %s\n", v.VASP, v.VASP, v.Acceptable)
	}
	return nil
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func identityCommand(from *settings.Source) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "identity", Short: "Who this enclave is to others"}
	c.PersistentFlags().BoolVar(&asJSON, "json", false, "print JSON")
	ask := func(method, path string) func(*cobra.Command, []string) error {
		return func(c *cobra.Command, _ []string) error {
			o, err := newOperator(from)
			if err != nil {
				return err
			}
			var v proxy.IdentityView
			if err := o.call(c.Context(), method, path, nil, &v); err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), v)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "VASP         %s\nfingerprint  %s\nin hex       %s\nstatements   %d\n", v.VASP, v.Fingerprint, v.Hex, v.Statements)
			return err
		}
	}
	var replace bool
	renew := &cobra.Command{Use: "new --replace", Short: "Make an identity without continuity: every counterparty holds us until its operator accepts it", Args: cobra.NoArgs, RunE: func(c *cobra.Command, args []string) error {
		if !replace {
			return errors.New("this stops every exchange until each counterparty has accepted the new identity; say --replace if that is meant, or use: enclave identity rotate")
		}
		return ask(http.MethodPost, "/identity/replace")(c, args)
	}}
	renew.Flags().BoolVar(&replace, "replace", false, "yes, replace the identity that counterparties have pinned")
	c.AddCommand(
		&cobra.Command{Use: "show", Short: "The fingerprint of our identity, in digits", Args: cobra.NoArgs, RunE: ask(http.MethodGet, "/identity")},
		&cobra.Command{Use: "rotate", Short: "Make a new identity, signed for by the present one; counterparties follow by themselves", Args: cobra.NoArgs, RunE: ask(http.MethodPost, "/identity/rotate")},
		renew,
	)
	return c
}
