package enclavecmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
)

func auditCommand(from *settings.Source) *cobra.Command {
	c := &cobra.Command{Use: "audit", Short: "The audit log: who did what, when, and how it ended; without personal data"}
	c.AddCommand(auditExportCommand(from), auditCheckpointCommand(from), auditVerifyCommand())
	return c
}

func auditExportCommand(from *settings.Source) *cobra.Command {
	var first uint64
	c := &cobra.Command{
		Use: "export FILE|-", Short: "Write the audit log of the running enclave to a new file, with a signed checkpoint at its end", Args: takes("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			o, err := newOperator(from)
			if err != nil {
				return err
			}
			if args[0] == "-" {
				return o.fetchAudit(c.Context(), first, c.OutOrStdout(), c.ErrOrStderr())
			}
			v, err := o.exportAudit(c.Context(), first, args[0], c.ErrOrStderr())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%d entries are in %s; check them anywhere with: enclave audit verify %s\n", v.Entries, args[0], args[0])
			return err
		},
	}
	c.Flags().Uint64Var(&first, "from", 1, "the first entry, such as the one after the last export's")
	return c
}

// exportAudit leaves a whole export that verifies under the name, or no file.
func (o *operator) exportAudit(ctx context.Context, from uint64, name string, stderr io.Writer) (v *audit.Verified, err error) {
	err = newFile(name, "an export", func(f *os.File) error {
		if err := o.fetchAudit(ctx, from, f, stderr); err != nil {
			return err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if v, err = audit.Verify(f, nil, nil); err != nil {
			return fmt.Errorf("the export broke off or does not verify: %w", err)
		}
		return nil
	})
	return v, err
}

// fetchAudit copies an export, and shows how far it is.
func (o *operator) fetchAudit(ctx context.Context, from uint64, w, stderr io.Writer) error {
	response, err := o.open(ctx, http.MethodGet, fmt.Sprintf("/audit?from=%d", from))
	if err != nil {
		return unreachable(err)
	}
	defer response.Body.Close()
	bar := newProgress(stderr, response.Header.Get(proxy.HeaderAuditEntries), "entries")
	defer bar.end()
	if n, err := io.Copy(w, &lineCounter{response.Body, bar}); err != nil {
		return fmt.Errorf("the export broke off after %d bytes and does not verify; the enclave's log says why: %w", n, err)
	}
	return nil
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

func auditCheckpointCommand(from *settings.Source) *cobra.Command {
	return &cobra.Command{
		Use: "checkpoint", Short: "Print a signed checkpoint of the audit log, to be kept where nobody of this machine can change it", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o, err := newOperator(from)
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
	var stream bool
	c := &cobra.Command{
		Use: "verify FILE|-", Short: "Check an export of the audit log, or what a sink has, without a key and without an enclave", Args: takes("FILE..."),
		Long: "Checks that an export of the audit log is what an enclave has signed: that no entry was changed, left out, added, put\n" +
			"elsewhere, or cut off. Checkpoints that were kept elsewhere must lie on the same chain.\n\n" +
			"With --stream the files are what a sink of VEGA_AUDIT_SINKS has taken, the oldest first.",
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
			if len(args) > 1 && !stream {
				return errors.New("an export is one file; give --stream for the files of a sink")
			}
			in, done, err := openAll(c.InOrStdin(), args)
			if err != nil {
				return configError{err}
			}
			defer done()
			verify := audit.Verify
			if stream {
				verify = audit.VerifyStream
			}
			bar := newProgress(c.ErrOrStderr(), "", "entries")
			v, err := verify(in, known, bar.step)
			bar.end()
			if err != nil {
				return fmt.Errorf("%s does not verify: %w", args[0], err)
			}
			if fingerprint != "" && digits(v.Checkpoint.Fingerprint) != digits(fingerprint) {
				return fmt.Errorf("%s is signed by another identity: %s", args[0], v.Checkpoint.Fingerprint)
			}
			return printVerified(c.OutOrStdout(), v, stream, fingerprint)
		},
	}
	c.Flags().BoolVar(&stream, "stream", false, "what a sink has taken: checkpoints now and then, entries perhaps twice, and the last ones not signed yet")
	c.Flags().StringVar(&fingerprint, "fingerprint", "", "the fingerprint, in digits, of the identity that must have signed")
	c.Flags().StringArrayVar(&checkpoints, "checkpoint", nil, "file with a checkpoint that was kept elsewhere; may be given several times")
	return c
}

// openAll reads files one after the other; - is the standard input.
func openAll(stdin io.Reader, names []string) (all io.Reader, done func(), err error) {
	var files []*os.File
	var readers []io.Reader
	done = func() {
		for _, f := range files {
			f.Close()
		}
	}
	for _, name := range names {
		if name == "-" {
			readers = append(readers, stdin)
			continue
		}
		f, err := os.Open(name)
		if err != nil {
			done()
			return nil, nil, err
		}
		files, readers = append(files, f), append(readers, f)
	}
	return io.MultiReader(readers...), done, nil
}

func printVerified(w io.Writer, v *audit.Verified, stream bool, fingerprint string) error {
	c := v.Checkpoint
	fmt.Fprintf(w, "whole: %d entries, from %d to %d, of VASP %s\n", v.Entries, v.From, v.To, c.VASP)
	if stream && v.From > 1 {
		fmt.Fprintf(w, "what comes before entry %d is not here\n", v.From)
	}
	if v.Unsigned > 0 {
		fmt.Fprintf(w, "the last %d entries follow, and no checkpoint has signed them yet\n", v.Unsigned)
	}
	if v.Entries > 0 {
		fmt.Fprintf(w, "from %s to %s, signed at %s\n", v.First.Format(time.RFC3339), v.Last.Format(time.RFC3339), c.Time.Format(time.RFC3339))
	}
	if fingerprint != "" {
		return nil
	}
	_, err := fmt.Fprintf(w, "signed by %s\nThat this is the VASP's identity its operator can tell: enclave identity show. Or give it with --fingerprint.\n", c.Fingerprint)
	return err
}
