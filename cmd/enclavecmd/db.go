package enclavecmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/plugins"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
)

func dbCommand(catalog *plugins.Catalog, from *settings.Source) *cobra.Command {
	c := &cobra.Command{Use: "db", Short: "Look after the history file"}
	c.AddCommand(checkHistoryCommand(catalog, from), compactCommand(catalog, from))
	return c
}

func checkHistoryCommand(catalog *plugins.Catalog, from *settings.Source) *cobra.Command {
	return &cobra.Command{
		Use: "check", Short: "Open every value of the history, and find what is damaged, missing or of before", Args: cobra.NoArgs,
		Long: "Opens and authenticates every value of the history, and compares all of them with what was written: what is damaged,\n" +
			"missing, invented or put back as it was in an older copy is found. A running enclave checks its own; do it in quiet hours.\n" +
			"That the whole file is an older one is found by VEGA_DATABASE_ANCHOR_FILE.",
		RunE: func(c *cobra.Command, _ []string) error {
			// First, for it needs no key: a decrypt API logs each use of one.
			if err := checkRunning(c.Context(), from, c.OutOrStdout(), c.ErrOrStderr()); !nobody(err) {
				return err
			}
			o, err := openOffline(c.Context(), catalog, from)
			if err != nil {
				return err
			}
			bar := newProgress(c.ErrOrStderr(), "", "values")
			contents, err := bolt.CheckFile(c.Context(), o.checkedBy(bar))
			bar.end()
			switch {
			case errors.Is(err, fs.ErrNotExist), errors.Is(err, atrest.ErrWrongKEK):
				return configError{fmt.Errorf("VEGA_DATABASE_FILE and its key must be those of the enclave: %w", err)}
			case errors.Is(err, storage.ErrCorrupt):
				return notAsWritten(strings.Split(err.Error(), "\n"))
			case err != nil:
				return onNetwork(err)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s is whole: %d verifications, %d counterparties, %d undelivered, %d audit entries\n",
				o.path, contents.Rows, contents.Peers, contents.Undelivered, contents.AuditEntries)
			return err
		},
	}
}

// checkRunning has the enclave that has the file open check it, for as long as
// it takes.
func checkRunning(ctx context.Context, from *settings.Source, w, stderr io.Writer) error {
	o, err := newOperator(from)
	if err != nil {
		return err
	}
	answer, err := o.open(ctx, http.MethodPost, "/check")
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	var found proxy.CheckView
	bar := newProgress(stderr, "", "values")
	for lines := json.NewDecoder(answer.Body); found.Problems == nil; {
		if err := lines.Decode(&found); err != nil {
			return fmt.Errorf("the check broke off: %w", err)
		}
		if found.Failed != "" {
			return fmt.Errorf("the check could not be brought to its end: %s", found.Failed)
		}
		bar.at(found.Done, found.All)
	}
	bar.end()
	if len(*found.Problems) > 0 {
		return notAsWritten(*found.Problems)
	}
	_, err = fmt.Fprintln(w, "the history of the running enclave is whole")
	return err
}

func notAsWritten(problems []string) error {
	return fmt.Errorf("the history is not as it was written:\n  %s\nStop the enclave, keep this file as evidence, and restore the newest backup that enclave restore finds whole",
		strings.Join(problems, "\n  "))
}

func compactCommand(catalog *plugins.Catalog, from *settings.Source) *cobra.Command {
	return &cobra.Command{
		Use: "compact", Short: "Rewrite the history file of a stopped enclave without what was deleted from it", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o, err := openOffline(c.Context(), catalog, from)
			if err != nil {
				return err
			}
			bar := newProgress(c.ErrOrStderr(), "", "values")
			before, after, err := bolt.Compact(c.Context(), o.checkedBy(bar))
			bar.end()
			switch {
			case errors.Is(err, fs.ErrNotExist), errors.Is(err, atrest.ErrWrongKEK):
				return configError{fmt.Errorf("VEGA_DATABASE_FILE and its key must be those of the stopped enclave: %w", err)}
			case err != nil:
				return onNetwork(err)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: from %d to %d bytes, every value checked\n", o.path, before, after)
			return err
		},
	}
}
