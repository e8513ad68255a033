package enclavecmd

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
	"github.com/vasp-enclave/vasp-enclave/proxy"
)

func keyRotationCommands(from *settings.Source) []*cobra.Command {
	return []*cobra.Command{
		keysView(from, "status", "Which key the history is under, and whether data keys are being replaced", printKeyStatus),
		keysView(from, "list", "All data keys, and what they are for", printKeys),
		rotateKEKCommand(from),
		rotateDataCommand(from),
	}
}

func keysView(from *settings.Source, use, short string, show func(io.Writer, proxy.KeysView) error) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		o, err := newOperator(from)
		if err != nil {
			return err
		}
		var v proxy.KeysView
		if err := o.call(c.Context(), http.MethodGet, "/keys", nil, &v); err != nil {
			return err
		}
		if asJSON {
			return printJSON(c.OutOrStdout(), v)
		}
		return show(c.OutOrStdout(), v)
	}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printKeyStatus(w io.Writer, v proxy.KeysView) error {
	periods, erased := 0, uint64(0)
	for _, k := range v.Keys {
		if k.Purpose == "personal" && k.Current {
			periods++
		}
		erased += k.Erased
	}
	since := "since when is not known"
	if v.KEKSince != nil {
		since = "since " + v.KEKSince.Format(time.RFC3339)
	}
	fmt.Fprintf(w, "key-encryption key  %s, %s\ndata keys           %d, of %d periods\n", v.KEK, since, len(v.Keys), periods)
	if erased > 0 {
		fmt.Fprintf(w, "erased rows         %d whose data key is still there: copies of them in backups open until it is deleted\n", erased)
	}
	r := v.Rotation
	switch {
	case r == nil:
		_, err := fmt.Fprintln(w, "rotation            none under way: no value is under a replaced key")
		return err
	case r.Problem != "":
		_, err := fmt.Fprintf(w, "rotation            STOPPED, and the old keys are kept: %s\n", r.Problem)
		return err
	case r.Checking:
		_, err := fmt.Fprintf(w, "rotation            since %s: %d values are moved, all are being looked at once more\n", r.Since.Format(time.RFC3339), r.Moved)
		return err
	}
	_, err := fmt.Fprintf(w, "rotation            since %s: %d values are moved\n", r.Since.Format(time.RFC3339), r.Moved)
	return err
}

func printKeys(w io.Writer, v proxy.KeysView) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "KEY\tPURPOSE\tFROM\tTO\tMADE\tSTATE\tERASED ROWS")
	for _, k := range v.Keys {
		state := "replaced, being emptied"
		if k.Current {
			state = "current"
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%d\n", k.ID, k.Purpose, dateOf(k.From), dateOf(k.To), dateOf(k.Created), state, k.Erased)
	}
	return t.Flush()
}

func dateOf(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.Format(time.DateOnly)
}

func rotateKEKCommand(from *settings.Source) *cobra.Command {
	var source, valueFile string
	c := &cobra.Command{
		Use: "rotate-kek [--value-file FILE] [--source URL]", Short: "Wrap the data keys under another key-encryption key", Args: cobra.NoArgs,
		Long: "Wraps the data keys under another key-encryption key, in one commit, while the enclave serves.\n\n" +
			"--value-file names a file with what VEGA_ENCRYPTION_KEY_BASE64 is going to be: for plain: the base64 of 32 bytes, for a\n" +
			"decrypt API what that decrypts. --source names another key source, such as file:/run/secrets/new.key, which the running\n" +
			"enclave opens. Without either it is the key that the running enclave was started with, when the history is still under\n" +
			"the one of VEGA_ENCRYPTION_KEY_BASE64_PREVIOUS.\n\n" +
			"Before you begin, set the new key for the next start and VEGA_ENCRYPTION_KEY_BASE64_PREVIOUS to the old one: whenever the\n" +
			"enclave is killed, it then starts with the one that fits.",
		RunE: func(c *cobra.Command, _ []string) error {
			in := map[string]string{"source": source}
			if valueFile != "" {
				value, err := readValueFile(valueFile, c.InOrStdin())
				if err != nil {
					return named("--value-file", err)
				}
				in["value"] = value
			}
			o, err := newOperator(from)
			if err != nil {
				return err
			}
			var v proxy.KeysView
			if err := o.call(c.Context(), http.MethodPost, "/keys/kek", in, &v); err != nil {
				return err
			}
			_, err = io.WriteString(c.OutOrStdout(), kekAdvice(v.KEK))
			return err
		},
	}
	c.Flags().StringVar(&valueFile, "value-file", "", "file with the new value, - for stdin; never on the command line, which others can see")
	c.Flags().StringVar(&source, "source", "", "key source of the new key, as in VEGA_KEY_SOURCE")
	return c
}

// maxValue is the longest value of a key in bytes; those of an HSM are long.
const maxValue = 16 << 10

func readValueFile(name string, stdin io.Reader) (string, error) {
	in := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxValue+1))
	if err != nil {
		return "", err
	}
	if len(text) > maxValue {
		return "", fmt.Errorf("has more than %d bytes and is no key", maxValue)
	}
	value := strings.TrimSpace(string(text))
	if value == "" {
		return "", errors.New("is empty")
	}
	return value, nil
}

func rotateDataCommand(from *settings.Source) *cobra.Command {
	var all bool
	var period string
	c := &cobra.Command{
		Use: "rotate-data [--all | --period YYYY-MM-DD]", Short: "Replace data keys: new ones at once, the values in the background", Args: cobra.NoArgs,
		Long: "Replaces the data keys that values are still sealed under: the private one and those of the running periods. All values\n" +
			"under them are sealed anew in the background, at a pace that leaves the enclave free to serve; when none is left the old\n" +
			"keys are deleted. It goes on after a restart by itself; enclave keys status says how far it is. The keys of blind indexes\n" +
			"and of the wrapping of private keys stay: docs/operations/keys.md says why.",
		RunE: func(c *cobra.Command, _ []string) error {
			if all && period != "" {
				return errors.New("give --all or --period, not both")
			}
			o, err := newOperator(from)
			if err != nil {
				return err
			}
			var v proxy.KeysView
			if err := o.call(c.Context(), http.MethodPost, "/keys/data", map[string]any{"all": all, "period": period}, &v); err != nil {
				return err
			}
			n := 0
			if v.Rotation != nil {
				n = len(v.Rotation.Keys)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%d data keys are being replaced; new values are under the new ones already. enclave keys status says when the old ones are gone.\n", n)
			return err
		},
	}
	c.Flags().BoolVar(&all, "all", false, "the keys of all periods, which seals the whole history anew")
	c.Flags().StringVar(&period, "period", "", "only the key of the period that this day is in, as after an erasure that must reach backups")
	return c
}
