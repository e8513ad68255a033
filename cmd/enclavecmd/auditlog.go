package enclavecmd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
)

func auditCommand(environ []string) *cobra.Command {
	c := &cobra.Command{Use: "audit", Short: "The audit log: who did what, when, and how it ended; without personal data"}
	c.AddCommand(auditExportCommand(environ), auditCheckpointCommand(environ), auditVerifyCommand())
	return c
}

func auditExportCommand(environ []string) *cobra.Command {
	var from uint64
	c := &cobra.Command{
		Use: "export FILE|-", Short: "Write the audit log of the running enclave to a new file, with a signed checkpoint at its end", Args: takes("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			o, err := newOperator(environ)
			if err != nil {
				return err
			}
			o.client.Timeout = 0 // it takes as long as the log is
			if args[0] == "-" {
				_, err := o.fetchAudit(c.Context(), from, c.OutOrStdout(), c.ErrOrStderr())
				return err
			}
			v, err := o.exportAudit(c.Context(), from, args[0], c.ErrOrStderr())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%d entries are in %s; check them anywhere with: enclave audit verify %s\n", v.Entries, args[0], args[0])
			return err
		},
	}
	c.Flags().Uint64Var(&from, "from", 1, "the first entry, such as the one after the last export's")
	return c
}

// exportAudit leaves a whole export that verifies under the name, readable by
// this user only, or no file.
func (o *operator) exportAudit(ctx context.Context, from uint64, name string, stderr io.Writer) (*audit.Verified, error) {
	if _, err := os.Lstat(name); err == nil {
		return nil, fmt.Errorf("%s is there already; an export replaces nothing", name)
	}
	dir := filepath.Dir(name)
	f, err := os.CreateTemp(dir, "."+filepath.Base(name)+".*.part") // mode 0600
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := o.fetchAudit(ctx, from, f, stderr); err != nil {
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	v, err := audit.Verify(bufio.NewReaderSize(f, 1<<20), nil, nil)
	if err != nil {
		return nil, fmt.Errorf("the export broke off or does not verify: %w", err)
	}
	return v, errors.Join(f.Sync(), f.Close(), os.Rename(f.Name(), name), syncDir(dir))
}

// fetchAudit copies an export, and shows how far it is.
func (o *operator) fetchAudit(ctx context.Context, from uint64, w, stderr io.Writer) (int64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://enclave/audit?from=%d", from), nil)
	if err != nil {
		return 0, err
	}
	response, err := o.client.Do(request)
	if err != nil {
		return 0, unreachable(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return 0, refusal(response)
	}
	bar := newProgress(stderr, response.Header.Get(proxy.HeaderAuditEntries))
	bar.of = "entries"
	defer bar.end()
	n, err := io.Copy(w, &lineCounter{response.Body, bar})
	if err != nil {
		return n, fmt.Errorf("the export broke off after %d bytes and does not verify; the enclave's log says why: %w", n, err)
	}
	return n, nil
}

// lineCounter takes a step of the bar for each line that is read.
type lineCounter struct {
	io.Reader
	bar *progress
}

func (c *lineCounter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	for range bytes.Count(p[:n], []byte{'\n'}) {
		if c.bar.done < c.bar.total { // the last line is the checkpoint
			c.bar.step()
		}
	}
	return n, err
}

func auditCheckpointCommand(environ []string) *cobra.Command {
	return &cobra.Command{
		Use: "checkpoint", Short: "Print a signed checkpoint of the audit log, to be kept where nobody of this machine can change it", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o, err := newOperator(environ)
			if err != nil {
				return err
			}
			var line json.RawMessage
			if err := o.call(c.Context(), http.MethodPost, "/audit/checkpoint", nil, &line); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s\n", line)
			return err
		},
	}
}

func auditVerifyCommand() *cobra.Command {
	var fingerprint string
	var checkpoints []string
	c := &cobra.Command{
		Use: "verify FILE|-", Short: "Check an export of the audit log, without a key and without an enclave", Args: takes("FILE"),
		Long: "Checks that an export of the audit log is what an enclave has signed: that no entry was changed, left out, added, put\n" +
			"elsewhere, or cut off. Checkpoints that were kept elsewhere must lie on the same chain.",
		RunE: func(c *cobra.Command, args []string) error {
			var known []*audit.Checkpoint
			for _, name := range checkpoints {
				text, err := os.ReadFile(name)
				if err != nil {
					return configError{err}
				}
				point, err := audit.ParseCheckpoint(bytes.TrimSuffix(text, []byte("\n")))
				if err != nil {
					return fmt.Errorf("--checkpoint %s: %w", name, err)
				}
				known = append(known, point)
			}
			in := c.InOrStdin()
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return configError{err}
				}
				defer f.Close()
				in = f
			}
			bar := newProgress(c.ErrOrStderr(), "")
			bar.of = "entries"
			v, err := audit.Verify(bufio.NewReaderSize(in, 1<<20), known, bar.step)
			if err != nil {
				return fmt.Errorf("%s does not verify: %w", args[0], err)
			}
			if fingerprint != "" && digits(v.Checkpoint.Fingerprint) != digits(fingerprint) {
				return fmt.Errorf("%s is signed by another identity: %s", args[0], v.Checkpoint.Fingerprint)
			}
			return printVerified(c.OutOrStdout(), v, fingerprint)
		},
	}
	c.Flags().StringVar(&fingerprint, "fingerprint", "", "the fingerprint, in digits, of the identity that must have signed")
	c.Flags().StringArrayVar(&checkpoints, "checkpoint", nil, "file with a checkpoint that was kept elsewhere; may be given several times")
	return c
}

func printVerified(w io.Writer, v *audit.Verified, fingerprint string) error {
	c := v.Checkpoint
	fmt.Fprintf(w, "whole: %d entries, from %d to %d, of VASP %s\n", v.Entries, c.From, c.Seq, c.VASP)
	if v.Entries > 0 {
		fmt.Fprintf(w, "from %s to %s, signed at %s\n", v.First.Format(time.RFC3339), v.Last.Format(time.RFC3339), c.Time.Format(time.RFC3339))
	}
	if fingerprint != "" {
		return nil
	}
	_, err := fmt.Fprintf(w, "signed by %s\nThat this is the VASP's identity its operator can tell: enclave identity show. Or give it with --fingerprint.\n", c.Fingerprint)
	return err
}
