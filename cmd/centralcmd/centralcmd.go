// Package centralcmd is the central server program as a library: its commands
// and settings, and the wiring of proxy/central.
package centralcmd

import (
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/central"
)

// Version is what `central version` prints; the build sets it.
var Version = "dev"

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // it ran and failed
	exitConfig = 2 // it did not start: the settings or their files are wrong
)

// configError is a failure that another setting, or another text in a file
// that a setting names, would mend.
type configError struct{ error }

func (e configError) Unwrap() error { return e.error }

// Main runs one command and returns the process's exit code. It reads no
// global state but the process's signals.
func Main(args, environ []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:   "central",
		Short: "The central server of a Travel Rule alliance",
		Long: "Central knows an alliance's members, lets each in from its own addresses, and relays\n" +
			"sealed messages between their enclaves. It can neither read, forge nor keep them.\n\nSettings come from the environment and from --env-file; see `central run --help`.",
		SilenceUsage: true, SilenceErrors: true,
	}
	from := &settings.Source{Own: environ}
	root.PersistentFlags().StringVar(&from.File, "env-file", "", settings.FileHelp)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(runCommand(from), checkCommand(from), forgetCommand(from), healthCommand(from), versionCommand())
	err := root.Execute()
	var wrong configError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &wrong):
		fmt.Fprintf(stderr, "central: %v\n", err)
		return exitConfig
	default:
		fmt.Fprintf(stderr, "central: %v\n", err)
		return exitFailed
	}
}

// withSettings gives a command the reference of all settings as its help.
func withSettings(c *cobra.Command) *cobra.Command {
	c.SetHelpFunc(func(c *cobra.Command, _ []string) {
		w := c.OutOrStdout()
		fmt.Fprintf(w, "%s.\n\nUsage:\n  %s\n\n%s\nSettings, from the environment:\n", c.Short, c.UseLine(), c.LocalFlags().FlagUsages()+c.InheritedFlags().FlagUsages())
		_ = settings.WriteHelp(w, &Settings{})
	})
	return c
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(c.OutOrStdout(), "central %s %s %s/%s\n", Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

// checkCommand is as strict as can be: what `run` warns about, an unknown
// variable, is an error here, and every file that a setting names is read.
func checkCommand(from *settings.Source) *cobra.Command {
	return withSettings(&cobra.Command{
		Use: "check-config", Short: "Say whether run would start with these settings, without starting", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var s Settings
			warnings, unknown, err := from.Judge(Prefix, &s)
			for _, warning := range warnings {
				fmt.Fprintf(c.ErrOrStderr(), "warning: %s\n", warning)
			}
			problems := []error{err, unknown}
			var p *parts
			if err == nil {
				p, err = readParts(&s)
				problems = append(problems, err)
			}
			if err := errors.Join(problems...); err != nil {
				return configError{err}
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "ok: the settings would start a central with %d members\n", p.members.Len())
			return err
		},
	})
}

// forgetCommand is for the day that a member has lost its identity for good.
func forgetCommand(from *settings.Source) *cobra.Command {
	return &cobra.Command{
		Use:   "forget-identity VASPID",
		Short: "Forget a member's identity, so that the next one it registers is taken",
		Long: "Removes a member's identity and registration from the state file (CENTRAL_STATE_FILE),\n" +
			"for a member that has lost its identity for good. Central must not be running.\n\n" +
			"Make sure by other means that it is the member who asks: whoever registers next is\n" +
			"believed. The other members' enclaves refuse the new identity until each has accepted it.",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("want one argument, the VASPID; write: %s", c.UseLine())
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			var s struct {
				StateFile string `env:"CENTRAL_STATE_FILE" required:"true" doc:"File that central keeps members' identities and registrations in."`
			}
			if _, err := from.Load("CENTRAL_STATE_", &s); err != nil {
				return configError{err}
			}
			id, err := identity.ParseVASPID(args[0])
			if err != nil {
				return configError{err}
			}
			if err := central.ForgetIdentity(s.StateFile, id); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "forgotten: the next identity that VASP %s registers is taken as its first\n", id)
			return err
		},
	}
}
