package enclavecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/plugins"
	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
)

func backupCommand(from *settings.Source) *cobra.Command {
	return &cobra.Command{
		Use: "backup FILE|-", Short: "Copy the history of the running enclave, encrypted, to a new file or to standard output", Args: takes("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			o, err := newOperator(from)
			if err != nil {
				return err
			}
			if args[0] == "-" {
				if isTerminal(c.OutOrStdout()) {
					return errors.New("a backup is not for a terminal: name a file, or send the output somewhere")
				}
				_, err := o.fetchBackup(c.Context(), c.OutOrStdout(), c.ErrOrStderr())
				return err
			}
			head, size, err := o.backupTo(c.Context(), args[0], c.ErrOrStderr())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: %d bytes, the history of %s\nIt opens with the database key of this moment, %s. Keep that key elsewhere.\n",
				args[0], size, head.Time.Format(time.RFC3339), head.KEK)
			return err
		},
	}
}

// fetchBackup writes a whole backup to w, or fails, and says meanwhile how far it is.
func (o *operator) fetchBackup(ctx context.Context, w, stderr io.Writer) (int64, error) {
	response, err := o.open(ctx, http.MethodPost, "/backup")
	if nobody(err) {
		return 0, fmt.Errorf("no enclave is running here: start it, or set VEGA_DATABASE_FILE or VEGA_OPERATOR_SOCKET as it has them; of a stopped enclave copy the file itself (%w)", err)
	}
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	bar := newProgress(stderr, "", "MiB")
	n, err := io.Copy(w, &mebibytes{Reader: response.Body, bar: bar})
	bar.end()
	if err != nil {
		return n, fmt.Errorf("the backup broke off after %d bytes and is of no use; the enclave's log says why: %w", n, err)
	}
	return n, nil
}

// backupTo leaves a whole backup under the name, or no file.
func (o *operator) backupTo(ctx context.Context, name string, stderr io.Writer) (head bolt.BackupHead, size int64, err error) {
	err = newFile(name, "a backup", func(f *os.File) error {
		if size, err = o.fetchBackup(ctx, f, stderr); err != nil {
			return err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		head, _, err = bolt.ReadBackupHead(f)
		return err
	})
	return head, size, err
}

func restoreCommand(catalog *plugins.Catalog, from *settings.Source) *cobra.Command {
	return &cobra.Command{
		Use: "restore BACKUP|-", Short: "Make VEGA_DATABASE_FILE, which must not be there, of a backup", Args: takes("BACKUP"),
		RunE: func(c *cobra.Command, args []string) error {
			o, err := openOffline(c.Context(), catalog, from)
			if err != nil {
				return err
			}
			in := c.InOrStdin()
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			bar := newProgress(c.ErrOrStderr(), "", "values checked")
			restored, err := bolt.Restore(c.Context(), in, o.checkedBy(bar))
			bar.end()
			if err != nil {
				return explainRestore(err)
			}
			return printRestored(c.OutOrStdout(), o.path, restored)
		},
	}
}

// onNetwork adds what to do to a refusal of the filesystem.
func onNetwork(err error) error {
	if !errors.Is(err, bolt.ErrNetworkFilesystem) {
		return err
	}
	return configError{fmt.Errorf("VEGA_DATABASE_FILE: %w; use a disk of this machine, or a block device that is attached to it alone, or set VEGA_UNSAFE_DATABASE_NETWORK_FILESYSTEM=true to allow it", err)}
}

// explainRestore adds what to do to what went wrong.
func explainRestore(err error) error {
	switch {
	case errors.Is(err, atrest.ErrWrongKEK):
		return configError{fmt.Errorf("VEGA_ENCRYPTION_KEY_BASE64 (or what VEGA_KEY_SOURCE names) must be the key of the time of the backup: %w", err)}
	case errors.Is(err, atrest.ErrCorrupt), errors.Is(err, storage.ErrCorrupt):
		return fmt.Errorf("the backup is damaged or was cut short, nothing was restored; take another one: %w", err)
	}
	return onNetwork(err)
}

func printRestored(w io.Writer, path string, r *bolt.Restored) error {
	fmt.Fprintf(w, "%s is the history of %s, whole and checked\n", path, r.Time.Format(time.RFC3339))
	if r.Identity != nil {
		chain, err := identity.ParseChain(r.Identity)
		if err != nil {
			return err
		}
		us := chain.Current()
		fmt.Fprintf(w, "VASP             %s\nidentity         %s\n", us.VASP(), identity.FingerprintDigits(us))
	}
	fmt.Fprintf(w, "verifications    %d\ncounterparties   %d\nundelivered      %d\naudit entries    %d",
		r.Rows, r.Peers, r.Undelivered, r.AuditEntries)
	if !r.Latest.IsZero() {
		fmt.Fprintf(w, ", the last of %s", r.Latest.Format(time.RFC3339))
	}
	_, err := fmt.Fprint(w, `

What to do next:
1. Make sure that no other enclave of this VASP runs, with this or a newer history.
2. If the identity was changed after the backup, central and counterparties know a newer one. Restore a later backup, or start
   once with: enclave run --replace-identity, after which each counterparty has to accept this one again.
3. If VEGA_DATABASE_ANCHOR_FILE is set and knows a newer history, start once with: enclave run --accept-rollback
4. Start, compare with the backend's records what came after the backup, and look through: enclave peers list
   Counterparties blocked or verified after the backup are not so here.
`)
	return err
}
