package export_test

import (
	"bytes"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/export"
)

func row(n int, message string) []byte {
	text, err := json.Marshal(map[string]any{
		"verificationId": fmt.Sprint(n), "verificationUuid": fmt.Sprintf("%036d", n), "message": message,
		"assetInfo": map[string]any{"symbol": "BTC", "isExceedingThreshold": true}, "txHash": nil,
	})
	if err != nil {
		panic(err)
	}
	return text
}

func newSigner(t *testing.T) *identity.Signer {
	t.Helper()
	s, err := identity.NewSigner(7)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// write makes an export of these rows, as a client of an enclave does.
func write(t *testing.T, by *identity.Signer, formats []string, rows ...[]byte) (dir string) {
	t.Helper()
	dir = t.TempDir()
	sums, err := export.NewSums(formats)
	if err != nil {
		t.Fatal(err)
	}
	w, err := export.NewWriter(formats, func(file string) (io.Writer, error) {
		f, err := os.Create(filepath.Join(dir, file))
		t.Cleanup(func() { f.Close() })
		return f, err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if err := w.Row(r); err != nil {
			t.Fatal(err)
		}
		if err := sums.Row(r); err != nil {
			t.Fatal(err)
		}
	}
	m := export.Manifest{ID: "id", CreatedAt: time.Now(), Filters: map[string]string{"symbol": "BTC"}}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := sums.Fill(&m); err != nil {
		t.Fatal(err)
	}
	text, signature, err := m.Sign(by)
	if err != nil {
		t.Fatal(err)
	}
	put(t, dir, export.ManifestFile, text)
	put(t, dir, export.SignatureFile, []byte(base64.StdEncoding.EncodeToString(signature)+"\n"))
	return dir
}

func put(t *testing.T, dir, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAnExportVerifies(t *testing.T) {
	by := newSigner(t)
	for _, formats := range [][]string{{"jsonl"}, {"csv"}, {"jsonl", "csv"}} {
		for _, n := range []int{0, 1, 50} {
			var rows [][]byte
			for i := range n {
				rows = append(rows, row(i, strings.Repeat("line\r\n\"quoted\", é ", i)))
			}
			m, err := export.Verify(write(t, by, formats, rows...))
			if err != nil || m.Rows != n || m.VASP != 7 || m.Fingerprint != identity.FingerprintDigits(by.Public()) || len(m.Files) != len(formats) {
				t.Errorf("%v, %d rows: Verify = %+v, %v", formats, n, m, err)
			}
		}
	}
}

// flipSpare changes one of the four bits of a base64 character that the last
// one before == has to spare.
func flipSpare(c, bit byte) byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	return alphabet[strings.IndexByte(alphabet, c)^1<<bit]
}

// No byte of any file can be changed, no row left out, added or moved, and no
// file exchanged, also not by who signs with an identity of his own.
func TestAChangedExportIsRefused(t *testing.T) {
	by := newSigner(t)
	rows := [][]byte{row(1, "a"), row(2, "b"), row(3, "c")}
	files := []string{export.JSONLFile, export.CSVFile, export.ManifestFile, export.SignatureFile}
	original := write(t, by, export.Formats, rows...)
	for range 500 {
		name := files[rand.IntN(len(files))]
		b := get(t, original, name)
		at, bit := rand.IntN(len(b)), byte(1)<<rand.IntN(8)
		bad := bytes.Clone(b)
		switch rand.IntN(3) {
		case 0:
			bad[at] ^= bit
		case 1:
			bad = bad[:at]
		case 2:
			bad = append(bad[:at:at], append([]byte{'x'}, bad[at:]...)...)
		}
		if name == export.SignatureFile && string(bytes.TrimSpace(bad)) == string(bytes.TrimSpace(b)) {
			continue // its last line end
		}
		put(t, original, name, bad)
		if _, err := export.Verify(original); err == nil {
			t.Fatalf("%s, changed at byte %d of %d, verifies", name, at, len(b))
		}
		put(t, original, name, b)
	}
	// Each other spelling of the same signature: the spare bits of the last
	// character, a line end inside.
	signature := get(t, original, export.SignatureFile)
	last := bytes.IndexByte(signature, '=') - 1
	for bit := range 4 {
		for _, spelling := range [][]byte{
			slices.Concat(signature[:last], []byte{flipSpare(signature[last], byte(bit))}, signature[last+1:]),
			slices.Insert(bytes.Clone(signature), last, '\n'),
		} {
			put(t, original, export.SignatureFile, spelling)
			if _, err := export.Verify(original); err == nil && !bytes.Equal(spelling, signature) {
				t.Errorf("the signature spelt %q verifies as %q does", spelling, signature)
			}
		}
	}
	put(t, original, export.SignatureFile, signature)
	if _, err := export.Verify(original); err != nil {
		t.Fatalf("as it was: %v", err)
	}
	for name, other := range map[string]string{
		"a row less":       write(t, by, export.Formats, rows[0], rows[1]),
		"a row more":       write(t, by, export.Formats, append(rows, row(4, "d"))...),
		"another order":    write(t, by, export.Formats, rows[1], rows[0], rows[2]),
		"another identity": write(t, newSigner(t), export.Formats, rows...),
	} {
		for _, file := range []string{export.ManifestFile, export.SignatureFile} {
			mixed := write(t, by, export.Formats, rows...)
			put(t, mixed, file, get(t, other, file))
			if _, err := export.Verify(mixed); err == nil {
				t.Errorf("%s: with its %s it verifies", name, file)
			}
		}
	}
	for _, file := range files {
		missing := write(t, by, export.Formats, rows...)
		if err := os.Remove(filepath.Join(missing, file)); err != nil {
			t.Fatal(err)
		}
		if _, err := export.Verify(missing); err == nil {
			t.Errorf("without %s it verifies", file)
		}
	}
}

// Who signs a manifest of files that do not belong together is found out too.
func TestACSVOfOtherRowsIsRefused(t *testing.T) {
	by := newSigner(t)
	dir, other := write(t, by, export.Formats, row(1, "a")), write(t, by, export.Formats, row(1, "b"))
	var m, of export.Manifest
	if err := json.Unmarshal(get(t, dir, export.ManifestFile), &m); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(get(t, other, export.ManifestFile), &of); err != nil {
		t.Fatal(err)
	}
	m.Files[1] = of.Files[1]
	text, signature, err := m.Sign(by)
	if err != nil {
		t.Fatal(err)
	}
	put(t, dir, export.CSVFile, get(t, other, export.CSVFile))
	put(t, dir, export.ManifestFile, text)
	put(t, dir, export.SignatureFile, []byte(base64.StdEncoding.EncodeToString(signature)))
	if _, err := export.Verify(dir); err == nil || !strings.Contains(err.Error(), export.CSVFile) {
		t.Errorf("Verify = %v, want that the CSV has other rows", err)
	}
}

// A cell that a spreadsheet would take for a formula is shown as text.
func TestNoCellIsAFormula(t *testing.T) {
	for _, text := range []string{`=HYPERLINK("http://x")`, "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＋1", "－1", "＠1"} {
		if got := message(t, text); got != "'"+strings.ReplaceAll(text, "\r", "") && got != "'"+text {
			t.Errorf("%q is the cell %q", text, got)
		}
	}
	for _, text := range []string{"", "0.1", "a=1", "'=1", "é"} {
		if got := message(t, text); got != text {
			t.Errorf("%q is the cell %q", text, got)
		}
	}
}

func message(t *testing.T, text string) string {
	t.Helper()
	dir := write(t, newSigner(t), []string{"csv"}, row(1, text))
	b := get(t, dir, export.CSVFile)
	if !bytes.HasPrefix(b, []byte(strings.Join(export.Columns, ",")+"\r\n")) {
		t.Errorf("the first line is not the columns and CRLF: %q", b)
	}
	records, err := csv.NewReader(bytes.NewReader(b)).ReadAll()
	if err != nil || len(records) != 2 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	for i, column := range export.Columns {
		if column == "message" {
			return records[1][i]
		}
	}
	return "no such column"
}

func TestParseFormats(t *testing.T) {
	for list, want := range map[string]string{"": "[jsonl csv]", "csv": "[csv]", "csv,jsonl": "[csv jsonl]"} {
		if got, err := export.ParseFormats(list); err != nil || fmt.Sprint(got) != want {
			t.Errorf("ParseFormats(%q) = %v, %v", list, got, err)
		}
	}
	for _, list := range []string{"xml", "csv,", "csv,csv", " csv"} {
		if _, err := export.ParseFormats(list); err == nil {
			t.Errorf("ParseFormats(%q) succeeds", list)
		}
	}
}
