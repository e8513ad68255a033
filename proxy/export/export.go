// Package export is the form in which a piece of the history leaves an
// enclave: rows as JSON lines and as CSV, with a manifest that the enclave's
// identity signs, so that anybody can check later, offline and without a key,
// that the files are what this enclave gave and that nothing is missing. The
// files are described in docs/formats.md.
package export

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Names of the files in an export's directory.
const (
	JSONLFile     = "verifications.jsonl"
	CSVFile       = "verifications.csv"
	ManifestFile  = "manifest.json"
	SignatureFile = "manifest.sig"
)

// Columns are the members of a row that a line of the CSV has, in this order;
// those of an object are named with a dot.
var Columns = []string{
	"verificationId", "verificationUuid", "result", "reason", "message",
	"assetInfo.symbol", "assetInfo.network", "assetInfo.amount", "assetInfo.isExceedingThreshold",
	"assetInfo.tradePrice", "assetInfo.tradeCurrency", "assetInfo.tradeISODatetime",
	"txHash", "vout", "originatingVaspId", "originatorAccountNumber", "beneficiaryVaspId", "beneficiaryAccountNumber",
	"ivms101Originator", "ivms101OriginatingVasp", "ivms101Beneficiary", "ivms101BeneficiaryVasp",
	"verifiedAt", "orderedAt", "createdAt",
}

// CSV writes rows as RFC 4180 has it: one header line, CRLF, quotes where they
// are needed.
type CSV struct{ w *csv.Writer }

// NewCSV writes the header line.
func NewCSV(w io.Writer) (*CSV, error) {
	c := &CSV{csv.NewWriter(w)}
	c.w.UseCRLF = true
	return c, c.w.Write(Columns)
}

// Row writes one row that is given as a JSON line.
func (c *CSV) Row(line []byte) error {
	cells, err := cellsOf(line)
	if err != nil {
		return err
	}
	return c.w.Write(cells)
}

// Flush writes what is buffered.
func (c *CSV) Flush() error {
	c.w.Flush()
	return c.w.Error()
}

func cellsOf(line []byte) ([]string, error) {
	var row map[string]any
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	if err := d.Decode(&row); err != nil {
		return nil, errors.New("a row is not a JSON object")
	}
	cells := make([]string, len(Columns))
	for i, column := range Columns {
		cells[i] = guard(cell(row, column))
	}
	return cells, nil
}

func cell(row map[string]any, column string) string {
	name, rest, nested := strings.Cut(column, ".")
	switch v := row[name].(type) {
	case map[string]any:
		if nested {
			return cell(v, rest)
		}
	case string:
		return v
	case json.Number:
		return v.String()
	case bool:
		return fmt.Sprint(v)
	}
	return ""
}

// formulaStarts are the characters with which a spreadsheet takes a cell for
// a formula: a counterparty's text must not become one (CSV injection). The
// wide ones count in some locales.
const formulaStarts = "=+-@\t\r\n＝＋－＠"

// guard puts an apostrophe before such a cell, which shows it as text.
func guard(text string) string {
	if text != "" && strings.ContainsAny(text[:first(text)], formulaStarts) {
		return "'" + text
	}
	return text
}

// first is the length of the first character.
func first(text string) int {
	for i := range text {
		if i > 0 {
			return i
		}
	}
	return len(text)
}

// Formats are the names of what may be exported.
var Formats = []string{"jsonl", "csv"}

// ParseFormats reads a list of formats with commas, "" for all.
func ParseFormats(list string) (formats []string, err error) {
	if list == "" {
		return Formats, nil
	}
	for _, f := range strings.Split(list, ",") {
		if !slices.Contains(Formats, f) || slices.Contains(formats, f) {
			return nil, fmt.Errorf("formats are %s", strings.Join(Formats, " and "))
		}
		formats = append(formats, f)
	}
	return formats, nil
}

// Writer writes rows in some formats at once.
type Writer struct {
	jsonl io.Writer // nil: not wanted
	csv   *CSV      // nil: not wanted
}

// NewWriter writes each format to where open says.
func NewWriter(formats []string, open func(file string) (io.Writer, error)) (*Writer, error) {
	w := &Writer{}
	for _, f := range formats {
		to, err := open(fileOf(f))
		if err != nil {
			return nil, err
		}
		if f == "jsonl" {
			w.jsonl = to
			continue
		}
		if w.csv, err = NewCSV(to); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func fileOf(format string) string {
	if format == "jsonl" {
		return JSONLFile
	}
	return CSVFile
}

// Row writes one row, given as a JSON text on one line without its end.
func (w *Writer) Row(line []byte) error {
	if w.jsonl != nil {
		if _, err := w.jsonl.Write(append(line[:len(line):len(line)], '\n')); err != nil {
			return err
		}
	}
	if w.csv != nil {
		return w.csv.Row(line)
	}
	return nil
}

// Close writes what is buffered.
func (w *Writer) Close() error {
	if w.csv == nil {
		return nil
	}
	return w.csv.Flush()
}
