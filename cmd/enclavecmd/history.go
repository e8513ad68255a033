package enclavecmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/export"
	"github.com/vasp-enclave/vasp-enclave/storage/files"
)

func historyCommand(from *settings.Source) *cobra.Command {
	c := &cobra.Command{Use: "history", Short: "The verifications that this enclave keeps: look, export, hold, erase"}
	c.AddCommand(
		historyListCommand(from), historyShowCommand(from), historyExportCommand(from), historyVerifyCommand(),
		historyEraseCommand(from), historyHoldCommand(from), historyReleaseCommand(from), historyHoldsCommand(from),
	)
	return c
}

// historyFilter are the filters of the contract's list, as flags.
type historyFilter struct{ values map[string]*string }

func (f *historyFilter) flags(c *cobra.Command) {
	f.values = map[string]*string{}
	for _, flag := range []struct{ name, parameter, usage string }{
		{"from", "fromDate", "created on or after this day, YYYY-MM-DD, or time"},
		{"to", "toDate", "created on or before this day or time"},
		{"result", "result", "VERIFIED, DENIED or ERROR"},
		{"action", "actionType", "SEND or RECEIVE"},
		{"vasp", "oppositeVaspId", "VASP id of the counterparty"},
		{"symbol", "symbol", "symbol of the asset"},
		{"network", "network", "network of the asset"},
		{"tx-hash", "txHash", "transaction hash"},
	} {
		f.values[flag.parameter] = c.Flags().String(flag.name, "", flag.usage)
	}
}

func (f *historyFilter) query() url.Values {
	q := url.Values{}
	for name, value := range f.values {
		if *value != "" {
			q.Set(name, *value)
		}
	}
	return q
}

// rowView is what the commands print of a row.
type rowView struct {
	UUID        string `json:"verificationUuid"`
	Result      string `json:"result"`
	Reason      string `json:"reason"`
	Originating string `json:"originatingVaspId"`
	Beneficiary string `json:"beneficiaryVaspId"`
	CreatedAt   string `json:"createdAt"`
	Asset       struct {
		Symbol string `json:"symbol"`
		Amount string `json:"amount"`
	} `json:"assetInfo"`
}

func historyListCommand(from *settings.Source) *cobra.Command {
	var filter historyFilter
	var page, rows int
	var asJSON bool
	c := &cobra.Command{Use: "list", Short: "Verifications, newest first, without their personal data", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		o, err := newOperator(from)
		if err != nil {
			return err
		}
		q := filter.query()
		q.Set("page", fmt.Sprint(page))
		q.Set("rpp", fmt.Sprint(rows))
		var raw json.RawMessage
		if err := o.call(c.Context(), http.MethodGet, "/history?"+q.Encode(), nil, &raw); err != nil {
			return err
		}
		if asJSON {
			return printJSON(c.OutOrStdout(), raw)
		}
		var list struct {
			Count         int       `json:"count"`
			Verifications []rowView `json:"verifications"`
		}
		if err := json.Unmarshal(raw, &list); err != nil {
			return err
		}
		t := tabwriter.NewWriter(c.OutOrStdout(), 0, 4, 2, ' ', 0)
		fmt.Fprintln(t, "CREATED\tVERIFICATION\tRESULT\tREASON\tORIGINATING\tBENEFICIARY\tAMOUNT")
		for _, v := range list.Verifications {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", v.CreatedAt, v.UUID, v.Result, printable(v.Reason), v.Originating, v.Beneficiary, printable(v.Asset.Amount+" "+v.Asset.Symbol))
		}
		if err := t.Flush(); err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.ErrOrStderr(), "%d of %d verifications\n", len(list.Verifications), list.Count)
		return err
	}}
	filter.flags(c)
	c.Flags().IntVar(&page, "page", 1, "which page")
	c.Flags().IntVar(&rows, "rows", 20, "rows of a page, at most 1000")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// printable keeps a counterparty's text from steering a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, text)
}

func historyShowCommand(from *settings.Source) *cobra.Command {
	var originating string
	c := &cobra.Command{Use: "show UUID", Short: "One verification with its personal data, as JSON; that it was read is written to the audit log", Args: takes("UUID"), RunE: func(c *cobra.Command, args []string) error {
		o, err := newOperator(from)
		if err != nil {
			return err
		}
		var raw json.RawMessage
		q := url.Values{"originatingVaspId": {originating}}
		if err := o.call(c.Context(), http.MethodGet, "/history/"+url.PathEscape(args[0])+"?"+q.Encode(), nil, &raw); err != nil {
			return err
		}
		return printJSON(c.OutOrStdout(), raw)
	}}
	c.Flags().StringVar(&originating, "originating", "", "whose verification, when two VASPs have chosen the same UUID")
	return c
}

func historyEraseCommand(from *settings.Source) *cobra.Command {
	var reason, originating string
	c := &cobra.Command{
		Use: "erase UUID --reason CODE", Short: "Erase one verification for good, with an entry that proves it in the audit log", Args: takes("UUID"),
		RunE: func(c *cobra.Command, args []string) error {
			var proof struct{ VerificationUUID, ErasedAt, Proof string }
			in := map[string]string{"reason": reason, "originatingVaspId": originating}
			if err := custodyCall(c, from, "/history/"+url.PathEscape(args[0])+"/erase", in, &proof); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "Verification %s was erased at %s.\nThe audit log has: %s\n"+
				"Copies in backups, snapshots and free pages of the file open as long as the data key of its period is there. It is deleted\n"+
				"with the last verification of the period; sooner with: enclave keys rotate-data --period YYYY-MM-DD, a day of that period.\n",
				proof.VerificationUUID, proof.ErasedAt, proof.Proof)
			return err
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "a code or case number for the audit log; nothing about a person")
	c.Flags().StringVar(&originating, "originating", "", "whose verification, when two VASPs have chosen the same UUID")
	return c
}

func custodyCall(c *cobra.Command, from *settings.Source, path string, in map[string]string, out any) error {
	o, err := newOperator(from)
	if err != nil {
		return err
	}
	return o.call(c.Context(), http.MethodPost, path, in, out)
}

func historyHoldCommand(from *settings.Source) *cobra.Command {
	return holdCommand(from, "hold [UUID] --reason CODE", "Keep a verification, or with --period all of a period, from being erased", "")
}

func historyReleaseCommand(from *settings.Source) *cobra.Command {
	return holdCommand(from, "release [UUID]", "End a hold", "release")
}

func holdCommand(from *settings.Source, use, short, action string) *cobra.Command {
	var reason, originating, period string
	c := &cobra.Command{Use: use, Short: short, Args: cobra.MaximumNArgs(1), RunE: func(c *cobra.Command, args []string) error {
		if (len(args) == 1) == (period != "") {
			return fmt.Errorf("give the UUID of a verification, or --period YYYY-MM-DD: %s", c.UseLine())
		}
		path := strings.TrimSuffix("/history/holds/"+action, "/")
		if len(args) == 1 {
			path = "/history/" + url.PathEscape(args[0]) + "/hold"
			if action != "" {
				path = "/history/" + url.PathEscape(args[0]) + "/" + action
			}
		}
		var views []proxy.HoldView
		in := map[string]string{"reason": reason, "originatingVaspId": originating, "period": period}
		if err := custodyCall(c, from, path, in, &views); err != nil {
			return err
		}
		return printHolds(c.OutOrStdout(), views)
	}}
	c.Flags().StringVar(&reason, "reason", "", "a code or case number for the audit log")
	c.Flags().StringVar(&period, "period", "", "a day of the period, YYYY-MM-DD")
	c.Flags().StringVar(&originating, "originating", "", "whose verification, when two VASPs have chosen the same UUID")
	return c
}

func historyHoldsCommand(from *settings.Source) *cobra.Command {
	return &cobra.Command{Use: "holds", Short: "All legal holds", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		o, err := newOperator(from)
		if err != nil {
			return err
		}
		var views []proxy.HoldView
		if err := o.call(c.Context(), http.MethodGet, "/history/holds", nil, &views); err != nil {
			return err
		}
		return printHolds(c.OutOrStdout(), views)
	}}
}

func printHolds(w io.Writer, views []proxy.HoldView) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "HELD\tSINCE\tBY\tREASON")
	for _, v := range views {
		what := v.UUID
		if what == "" {
			what = "all from " + dateOf(v.From) + " to " + dateOf(v.To)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", what, v.Since.Format(time.RFC3339), v.By, v.Reason)
	}
	return t.Flush()
}

func historyVerifyCommand() *cobra.Command {
	var fingerprint string
	c := &cobra.Command{
		Use: "verify DIR", Short: "Check an export: complete, unchanged, and signed; needs no key, no settings and no enclave", Args: takes("DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			m, err := export.Verify(args[0])
			if err != nil {
				return fmt.Errorf("%s is NOT a good export: %w", args[0], err)
			}
			if fingerprint != "" && digits(fingerprint) != digits(m.Fingerprint) {
				return fmt.Errorf("%s is NOT a good export: it is signed by the identity %s, and not by the one you gave", args[0], m.Fingerprint)
			}
			w := c.OutOrStdout()
			fmt.Fprintf(w, "ok: %d verifications, exported %s by VASP %s\n", m.Rows, m.CreatedAt.Format(time.RFC3339), m.VASP)
			for _, f := range m.Files {
				fmt.Fprintf(w, "  %s  %d bytes  sha256 %s\n", f.Name, f.Bytes, f.SHA256)
			}
			if fingerprint == "" {
				_, err = fmt.Fprintf(w, "signed by %s\nThat this is the VASP's identity its operator can tell: enclave identity show. Or give it with --fingerprint.\n", m.Fingerprint)
			}
			return err
		},
	}
	c.Flags().StringVar(&fingerprint, "fingerprint", "", "the fingerprint, in digits, of the identity that must have signed")
	return c
}

func digits(s string) string {
	return strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, s)
}

func historyExportCommand(from *settings.Source) *cobra.Command {
	var filter historyFilter
	var formats string
	c := &cobra.Command{
		Use: "export DIR", Short: "Write verifications with their personal data to a new directory, with a signed manifest", Args: takes("DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			o, err := newOperator(from)
			if err != nil {
				return err
			}
			list, err := export.ParseFormats(formats)
			if err != nil {
				return named("--format", err)
			}
			q := filter.query()
			q.Set("formats", strings.Join(list, ","))
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM, syscall.SIGINT) // leaves nothing half-written
			defer stop()
			rows, err := o.export(ctx, args[0], q, list, c.ErrOrStderr())
			if err != nil {
				return err
			}
			fmt.Fprintf(c.ErrOrStderr(), "warning: %s holds personal data in clear: keep it encrypted, and delete it when it has served\n", args[0])
			_, err = fmt.Fprintf(c.OutOrStdout(), "%d verifications are in %s; check them anywhere with: enclave history verify %s\n", rows, args[0], args[0])
			return err
		},
	}
	filter.flags(c)
	c.Flags().StringVar(&formats, "format", "", "jsonl, csv, or both with a comma; default both")
	return c
}

// export writes everything beside the directory's place and gives it its name
// when it is complete, verified and on the disk. What is there already stays.
func (o *operator) export(ctx context.Context, dir string, q url.Values, formats []string, stderr io.Writer) (rows int, err error) {
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		return 0, errors.Join(fmt.Errorf("%s is there already: an export overwrites nothing, give a new directory", dir), err)
	}
	temporary, err := os.MkdirTemp(filepath.Dir(filepath.Clean(dir)), ".export-*") // mode 0700
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(temporary)
	if err := o.fetch(ctx, temporary, q, formats, stderr); err != nil {
		return 0, err
	}
	m, err := export.Verify(temporary)
	if err != nil {
		return 0, fmt.Errorf("what was written is not what the enclave signed for; is this program of the enclave's version? %w", err)
	}
	if err := os.Rename(temporary, dir); err != nil { // also when somebody has made it meanwhile
		return 0, err
	}
	return m.Rows, files.Sync(filepath.Dir(filepath.Clean(dir)))
}

func (o *operator) fetch(ctx context.Context, dir string, q url.Values, formats []string, stderr io.Writer) error {
	response, err := o.open(ctx, http.MethodGet, "/history/export?"+q.Encode())
	if err != nil {
		return unreachable(err)
	}
	defer response.Body.Close()
	var written []*os.File
	defer func() {
		for _, f := range written {
			f.Close()
		}
	}()
	w, err := export.NewWriter(formats, func(name string) (io.Writer, error) {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err == nil {
			written = append(written, f)
		}
		return f, err
	})
	if err != nil {
		return err
	}
	bar := newProgress(stderr, response.Header.Get(proxy.HeaderExportRows), "verifications")
	var end *proxy.ExportEnd
	err = export.EachLine(response.Body, func(line []byte) error {
		if last, is := bytes.CutPrefix(line, []byte(proxy.ExportEndMark)); is {
			end = &proxy.ExportEnd{}
			return json.Unmarshal(last, end)
		}
		bar.step()
		return w.Row(line)
	})
	bar.end()
	switch {
	case err != nil:
		return fmt.Errorf("the export broke off: %w", err)
	case end == nil:
		return errors.New("the export broke off: the enclave has gone away; nothing is kept of it")
	case end.Error != "":
		return errors.New(end.Error)
	}
	if err := w.Close(); err != nil {
		return err
	}
	for _, f := range written {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	return errors.Join(
		writeNew(filepath.Join(dir, export.ManifestFile), end.Manifest),
		writeNew(filepath.Join(dir, export.SignatureFile), append(end.Signature, '\n')),
		files.Sync(dir),
	)
}

func writeNew(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}
