package enclavecmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/plugins"
	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
)

func backupCommand(environ []string) *cobra.Command {
	return &cobra.Command{
		Use: "backup FILE|-", Short: "Copy the history of the running enclave, encrypted, to a new file or to standard output", Args: takes("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			path, err := operatorSocket(environ)
			if err != nil {
				return configError{err}
			}
			if args[0] == "-" {
				if isTerminal(c.OutOrStdout()) {
					return errors.New("a backup is not for a terminal: name a file, or send the output somewhere")
				}
				_, err := fetchBackup(c.Context(), path, c.OutOrStdout())
				return err
			}
			head, size, err := backupTo(c.Context(), path, args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: %d bytes, the history of %s\nIt opens with the database key of this moment, %s. Keep that key elsewhere.\n",
				args[0], size, head.Time.Format(time.RFC3339), head.KEK)
			return err
		},
	}
}

// fetchBackup writes a whole backup to w, or fails.
func fetchBackup(ctx context.Context, socket string, w io.Writer) (int64, error) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	transport := &http.Transport{DialContext: dial, DisableCompression: true}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://enclave/backup", nil)
	if err != nil {
		return 0, err
	}
	response, err := (&http.Client{Transport: transport}).Do(request) // no limit: it takes as long as the history is large
	if errors.Is(err, os.ErrNotExist) || isRefusedConnection(err) {
		return 0, fmt.Errorf("no enclave is running here: start it, or set VEGA_DATABASE_FILE or VEGA_OPERATOR_SOCKET as it has them; of a stopped enclave copy the file itself (%w)", err)
	}
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return 0, refusal(response)
	}
	n, err := io.Copy(w, response.Body)
	if err != nil {
		return n, fmt.Errorf("the backup broke off after %d bytes and is of no use; the enclave's log says why: %w", n, err)
	}
	return n, nil
}

func refusal(response *http.Response) error {
	var problem struct{ Code, Message string }
	answer, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err == nil && json.Unmarshal(answer, &problem) == nil && problem.Message != "" {
		return errors.New(problem.Message)
	}
	return fmt.Errorf("the enclave answered status %d", response.StatusCode)
}

// backupTo leaves a whole backup under the name, readable by this user only,
// or no file.
func backupTo(ctx context.Context, socket, name string) (head bolt.BackupHead, size int64, err error) {
	if _, err := os.Lstat(name); err == nil {
		return head, 0, fmt.Errorf("%s is there already; a backup replaces nothing", name)
	}
	dir := filepath.Dir(name)
	f, err := os.CreateTemp(dir, "."+filepath.Base(name)+".*.part") // mode 0600
	if err != nil {
		return head, 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if size, err = fetchBackup(ctx, socket, f); err != nil {
		return head, size, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return head, size, err
	}
	if head, _, err = bolt.ReadBackupHead(f); err != nil {
		return head, size, err
	}
	if err := errors.Join(f.Sync(), f.Close(), os.Rename(f.Name(), name)); err != nil {
		return head, size, err
	}
	return head, size, syncDir(dir)
}

// offline is what commands need that open the history of a stopped enclave.
type offline struct {
	path    string
	network bool
	keks    []*atrest.KEK // that it may be under, the present one first
}

func (o *offline) options() bolt.Options {
	return bolt.Options{Path: o.path, KEK: o.keks[0], Others: o.keks[1:], UnsafeNetwork: o.network}
}

// openOffline reads the settings of the history and of its key, and no others.
// A remote source is asked once.
func openOffline(ctx context.Context, catalog *plugins.Catalog, environ []string) (*offline, error) {
	var s struct {
		DatabaseFile       string          `env:"VEGA_DATABASE_FILE" envDefault:"enclave.db" group:"-" doc:"The history."`
		UnsafeNetwork      bool            `env:"VEGA_UNSAFE_DATABASE_NETWORK_FILESYSTEM" envDefault:"false" doc:"Wherever it lies."`
		EncryptionKey      settings.Secret `env:"VEGA_ENCRYPTION_KEY_BASE64" secret:"true" doc:"Its key."`
		PreviousKey        settings.Secret `env:"VEGA_ENCRYPTION_KEY_BASE64_PREVIOUS" secret:"true" doc:"Another key that it may have."`
		KeySource          string          `env:"VEGA_KEY_SOURCE" envDefault:"plain:" doc:"Where that key comes from."`
		DecryptAPI         settings.URL    `env:"VEGA_DECRYPT_API_ENDPOINT" doc:"Or from here."`
		DecryptToken       settings.Secret `env:"VEGA_DECRYPT_API_TOKEN" secret:"true" doc:"Who asks there."`
		DecryptRoots       string          `env:"VEGA_DECRYPT_API_ROOTS_FILE" doc:"Whom to believe."`
		DecryptCertFile    string          `env:"VEGA_DECRYPT_API_CLIENT_CERT_FILE" doc:"Who asks there."`
		DecryptKeyFile     string          `env:"VEGA_DECRYPT_API_CLIENT_KEY_FILE" doc:"Who asks there."`
		DecryptSealed      bool            `env:"VEGA_DECRYPT_API_SEALED" envDefault:"false" doc:"How."`
		UnsafeDecrypt      bool            `env:"VEGA_UNSAFE_DECRYPT_API_HTTP" envDefault:"false" doc:"How."`
		AuthorizationToken settings.Secret `env:"VEGA_VERIFICATION_AUTHORIZATION_TOKEN" secret:"true" doc:"Who asks there."`
		AuthorizationKey   string          `env:"VEGA_VERIFICATION_AUTHORIZATION_KEY" doc:"In which header."`
	}
	if _, err := settings.Load("VEGA_OPERATOR_", &s, environ); err != nil {
		return nil, configError{err}
	}
	all := Settings{
		EncryptionKey: s.EncryptionKey, PreviousKey: s.PreviousKey, KeySource: s.KeySource,
		DecryptAPI: s.DecryptAPI, DecryptToken: s.DecryptToken, DecryptRoots: s.DecryptRoots,
		DecryptCertFile: s.DecryptCertFile, DecryptKeyFile: s.DecryptKeyFile, DecryptSealed: s.DecryptSealed, UnsafeDecrypt: s.UnsafeDecrypt,
		AuthorizationToken: s.AuthorizationToken, AuthorizationKey: s.AuthorizationKey,
	}
	kek, err := openKEK(ctx, &all, catalog)
	if err != nil {
		return nil, configError{err}
	}
	others, err := all.previousKEK(ctx, catalog)
	if err != nil {
		return nil, configError{err}
	}
	return &offline{s.DatabaseFile, s.UnsafeNetwork, append([]*atrest.KEK{kek}, others...)}, nil
}

func restoreCommand(catalog *plugins.Catalog, environ []string) *cobra.Command {
	return &cobra.Command{
		Use: "restore BACKUP|-", Short: "Make VEGA_DATABASE_FILE, which must not be there, of a backup", Args: takes("BACKUP"),
		RunE: func(c *cobra.Command, args []string) error {
			o, err := openOffline(c.Context(), catalog, environ)
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
			restored, err := bolt.Restore(c.Context(), in, o.options())
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
