package export

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
)

// Format names the manifest's; another one is refused.
const Format = "vasp-enclave/history-export/1"

// domain keeps an export's signature from counting for anything else.
const domain = "vasp-enclave/v1/history-export"

// Manifest says what an export holds. Its bytes as they stand are signed.
type Manifest struct {
	Format    string            `json:"format"`
	ID        string            `json:"id"` // the object of its entries in the audit log
	CreatedAt time.Time         `json:"createdAt"`
	VASP      identity.VASPID   `json:"vaspId"`
	Filters   map[string]string `json:"filters"`
	Rows      int               `json:"rows"`
	Files     []File            `json:"files"`
	// Identity is the enclave's public identity, base64; Fingerprint its name
	// in digits, which the enclave's operator can confirm.
	Identity    string `json:"identity"`
	Fingerprint string `json:"fingerprint"`
}

// File is one file of an export.
type File struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Sums is a Writer that keeps nothing but what a manifest says of each file.
type Sums struct {
	*Writer
	rows  int
	files []*sum
}

type sum struct {
	name  string
	bytes int64
	hash  hash.Hash
}

func (s *sum) Write(b []byte) (int, error) {
	s.bytes += int64(len(b))
	return s.hash.Write(b)
}

// NewSums counts files of these formats.
func NewSums(formats []string) (*Sums, error) {
	s := &Sums{}
	w, err := NewWriter(formats, func(file string) (io.Writer, error) {
		s.files = append(s.files, &sum{name: file, hash: sha256.New()})
		return s.files[len(s.files)-1], nil
	})
	s.Writer = w
	return s, err
}

// Row counts one row.
func (s *Sums) Row(line []byte) error {
	s.rows++
	return s.Writer.Row(line)
}

// Fill completes a manifest with what was counted.
func (s *Sums) Fill(m *Manifest) error {
	if err := s.Close(); err != nil {
		return err
	}
	m.Rows = s.rows
	for _, f := range s.files {
		m.Files = append(m.Files, File{f.name, f.bytes, hex.EncodeToString(f.hash.Sum(nil))})
	}
	return nil
}

// Sign gives a manifest's bytes and their signature.
func (m Manifest) Sign(by *identity.Signer) (text, signature []byte, err error) {
	m.Format, m.VASP = Format, by.Public().VASP()
	m.Identity, m.Fingerprint = base64.StdEncoding.EncodeToString(by.Public().Bytes()), identity.FingerprintDigits(by.Public())
	if text, err = json.MarshalIndent(m, "", "  "); err != nil {
		return nil, nil, err
	}
	text = append(text, '\n')
	signature, err = by.Sign(domain, text)
	return text, signature, err
}

// ParseManifest reads a manifest and checks its signature against the identity
// that it names. Whether that is the right one is for the caller to ask.
func ParseManifest(text, signature []byte) (*Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, errors.New("the manifest is not JSON as it should be")
	}
	if m.Format != Format {
		return nil, fmt.Errorf("the manifest's format is %.40q, this program knows %s", m.Format, Format)
	}
	public, err := identity.ParseShown(m.VASP, m.Identity, m.Fingerprint)
	if err != nil {
		return nil, fmt.Errorf("the manifest's %w", err)
	}
	if err := public.Verify(domain, text, signature); err != nil {
		return nil, errors.New("the manifest's signature does not verify: the manifest was changed, or is not this identity's")
	}
	return &m, nil
}
