package export

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// Verify checks an export's directory: the manifest's signature, that each
// file is what the manifest says, that there are as many rows, and that the CSV
// has what the JSON lines have. It needs no key and no enclave, reads the files
// once, a row at a time, and changes nothing.
func Verify(dir string) (*Manifest, error) {
	text, err := os.ReadFile(filepath.Join(dir, ManifestFile))
	if err != nil {
		return nil, err
	}
	encoded, err := os.ReadFile(filepath.Join(dir, SignatureFile))
	if err != nil {
		return nil, err
	}
	signature, err := parseSignature(encoded)
	if err != nil {
		return nil, fmt.Errorf("%s %w", SignatureFile, err)
	}
	m, err := ParseManifest(text, signature)
	if err != nil {
		return nil, err
	}
	known := 0
	for _, f := range m.Files {
		if f.Name != JSONLFile && f.Name != CSVFile {
			return nil, fmt.Errorf("the manifest names a file that no export has: %.60q", f.Name)
		}
		if err := f.verify(dir); err != nil {
			return nil, err
		}
		known++
	}
	if known == 0 {
		return nil, errors.New("the manifest names no file")
	}
	return m, m.verifyRows(dir)
}

// parseSignature reads what SignatureFile has. One signature has one spelling:
// the spare bits of its last character are zero, and no line end is inside.
func parseSignature(encoded []byte) ([]byte, error) {
	text := string(bytes.TrimSpace(encoded))
	signature, err := base64.StdEncoding.DecodeString(text)
	if err != nil || base64.StdEncoding.EncodeToString(signature) != text {
		return nil, errors.New("is not base64 as an enclave writes it")
	}
	return signature, nil
}

func (f *File) verify(dir string) error {
	in, err := os.Open(filepath.Join(dir, f.Name))
	if err != nil {
		return err
	}
	defer in.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, in)
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	if n != f.Bytes || hex.EncodeToString(sum.Sum(nil)) != f.SHA256 {
		return fmt.Errorf("%s is not the file that was exported: it has %d bytes, the manifest says %d, and their SHA-256 differ", f.Name, n, f.Bytes)
	}
	return nil
}

func (m *Manifest) has(name string) *File {
	i := slices.IndexFunc(m.Files, func(f File) bool { return f.Name == name })
	if i < 0 {
		return nil
	}
	return &m.Files[i]
}

// verifyRows counts the rows, and makes the CSV anew from the JSON lines.
func (m *Manifest) verifyRows(dir string) error {
	if m.has(JSONLFile) == nil {
		return nil
	}
	in, err := os.Open(filepath.Join(dir, JSONLFile))
	if err != nil {
		return err
	}
	defer in.Close()
	formats := []string{"jsonl"}
	if m.has(CSVFile) != nil {
		formats = Formats
	}
	sums, err := NewSums(formats)
	if err != nil {
		return err
	}
	if err := EachLine(in, sums.Row); err != nil {
		return fmt.Errorf("%s: %w", JSONLFile, err)
	}
	var again Manifest
	if err := sums.Fill(&again); err != nil {
		return err
	}
	if again.Rows != m.Rows {
		return fmt.Errorf("%s has %d rows, the manifest says %d", JSONLFile, again.Rows, m.Rows)
	}
	if f := m.has(CSVFile); f != nil && *again.has(CSVFile) != *f {
		return fmt.Errorf("%s does not have what %s has", CSVFile, JSONLFile)
	}
	return nil
}

// MaxLine bounds a row, in bytes: four parts of an envelope's size at most, as
// JSON within JSON.
const MaxLine = 8 << 20

// EachLine calls fn with every line, without its end.
func EachLine(r io.Reader, fn func([]byte) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), MaxLine)
	for lines.Scan() {
		if err := fn(lines.Bytes()); err != nil {
			return err
		}
	}
	return lines.Err()
}
