package enclavecmd

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/plugins"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
)

func dbCommand(catalog *plugins.Catalog, environ []string) *cobra.Command {
	c := &cobra.Command{Use: "db", Short: "Look after the history file"}
	c.AddCommand(checkHistoryCommand(catalog, environ), compactCommand(catalog, environ))
	return c
}

func compactCommand(catalog *plugins.Catalog, environ []string) *cobra.Command {
	return &cobra.Command{
		Use: "compact", Short: "Rewrite the history file of a stopped enclave without what was deleted from it", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o, err := openOffline(c.Context(), catalog, environ)
			if err != nil {
				return err
			}
			before, after, err := bolt.Compact(c.Context(), o.options())
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
