// Package enclavecmd is the enclave program as a library: its commands, its
// settings, and the wiring of every part that proxy only names.
package enclavecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
	"github.com/vasp-enclave/vasp-enclave/plugins"
)

// Version is what `enclave version` prints and peers see; the build sets it.
var Version = "dev"

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // it ran and failed
	exitConfig = 2 // it did not start: the settings or their files are wrong
)

// configError is a failure that another setting would mend.
type configError struct{ error }

func (e configError) Unwrap() error { return e.error }

// Main runs one command and returns the process's exit code. The catalog is
// what this build can plug in. It reads no global state but the process's
// signals.
func Main(catalog *plugins.Catalog, args, environ []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:   "enclave",
		Short: "The Travel Rule enclave of one VASP",
		Long: "The enclave seals Travel Rule messages end to end, keeps their history encrypted,\n" +
			"and talks to the VASP's backend in plain JSON on localhost.\n\nSettings come from the environment and from --env-file; see `enclave run --help`.",
		SilenceUsage: true, SilenceErrors: true,
	}
	from := &settings.Source{Own: environ}
	root.PersistentFlags().StringVar(&from.File, "env-file", "", settings.FileHelp)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(runCommand(catalog, from), demoCommand(), peersCommand(from), identityCommand(from), keysCommand(from), historyCommand(from), auditCommand(from), backupCommand(from), restoreCommand(catalog, from), dbCommand(catalog, from), ivms101Command(catalog), configCommand(from), checkCommand(catalog, from), doctorCommand(catalog, from), healthCommand(from), versionCommand())
	err := root.ExecuteContext(context.Background())
	var wrong configError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &wrong):
		fmt.Fprintf(stderr, "enclave: %v\n", err)
		return exitConfig
	default:
		fmt.Fprintf(stderr, "enclave: %v\n", err)
		return exitFailed
	}
}

// takes wants the arguments of these names, and says which one is missing. A
// last name that ends in dots stands for one or more.
func takes(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch n := len(names); {
		case len(args) < n:
			return fmt.Errorf("%s is missing; write: %s", strings.TrimSuffix(names[len(args)], "..."), c.UseLine())
		case len(args) > n && !strings.HasSuffix(names[n-1], "..."):
			return fmt.Errorf("there is more than %s; write: %s", strings.Join(names, " "), c.UseLine())
		}
		return nil
	}
}

// withSettings gives a command the reference of all settings as its help.
func withSettings(c *cobra.Command, lead string) *cobra.Command {
	c.SetHelpFunc(func(c *cobra.Command, _ []string) {
		w := c.OutOrStdout()
		fmt.Fprintf(w, "%s\n\nUsage:\n  %s\n\n%s\nSettings, from the environment:\n", lead, c.UseLine(), c.LocalFlags().FlagUsages()+c.InheritedFlags().FlagUsages())
		_ = settings.WriteHelp(w, &Settings{})
	})
	return c
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(c.OutOrStdout(), "enclave %s %s %s/%s\n", Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

func configCommand(from *settings.Source) *cobra.Command {
	var markdown bool
	c := &cobra.Command{
		Use: "config", Short: "Print the effective settings, secrets masked", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if markdown {
				return settings.WriteMarkdown(c.OutOrStdout(), &Settings{})
			}
			var s Settings
			warnings, err := from.Load(Prefix, &s)
			printWarnings(c.ErrOrStderr(), warnings)
			if err != nil {
				return configError{err}
			}
			return settings.WriteEffective(c.OutOrStdout(), &s)
		},
	}
	c.Flags().BoolVar(&markdown, "markdown", false, "print the reference of all settings as a Markdown table")
	return c
}

func printWarnings(w io.Writer, warnings []string) {
	for _, warning := range warnings {
		fmt.Fprintf(w, "warning: %s\n", warning)
	}
}

func checkCommand(catalog *plugins.Catalog, from *settings.Source) *cobra.Command {
	return &cobra.Command{
		Use: "check-config", Short: "Say whether `run` would start with these settings, without starting", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkConfig(c.Context(), catalog, c.ErrOrStderr(), from); err != nil {
				return configError{err}
			}
			_, err := fmt.Fprintln(c.OutOrStdout(), "ok: the settings would start an enclave")
			return err
		},
	}
}

// checkConfig is as strict as can be: what `run` warns about, an unknown
// variable, is an error here, and every file that a setting names is read.
func checkConfig(ctx context.Context, catalog *plugins.Catalog, stderr io.Writer, from *settings.Source) error {
	var s Settings
	warnings, unknown, err := from.Judge(Prefix, &s)
	printWarnings(stderr, warnings)
	problems := []error{err, unknown}
	switch {
	case err == nil:
		p, err := readParts(ctx, catalog, &s)
		if err == nil {
			if nobody := p.emptyAllowlist(); nobody != nil {
				printWarnings(stderr, []string{nobody.Error()})
			}
		}
		problems = append(problems, err)
	case s.Validator != "": // it can be judged by itself
		_, err := catalog.PayloadValidators.Open(ctx, s.Validator)
		problems = append(problems, named("VEGA_PAYLOAD_VALIDATOR", err))
	}
	return errors.Join(problems...)
}
