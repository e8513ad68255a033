package sandbox

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
)

// Message is one envelope as central held it.
type Message struct {
	Bytes  []byte
	Header envelope.Header
}

// Relayed is one exchange that central relayed.
type Relayed struct{ Question, Answer Message }

// Relayed reads the record of everything central relayed so far.
func (a *Alliance) Relayed() ([]Relayed, error) {
	file, err := os.Open(a.Record)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var all []Relayed
	lines := bufio.NewReader(file)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return all, nil // a line that is being written does not count yet
		}
		var entry struct{ Bytes, Reply []byte }
		if err := json.Unmarshal(line, &entry); err != nil {
			return nil, fmt.Errorf("read what central relayed: %w", err)
		}
		question, err := parseMessage(entry.Bytes)
		if err != nil {
			return nil, err
		}
		answer, err := parseMessage(entry.Reply)
		if err != nil {
			continue // central got no envelope back
		}
		all = append(all, Relayed{question, answer})
	}
}

func parseMessage(b []byte) (Message, error) {
	parsed, err := envelope.Parse(b)
	if err != nil {
		return Message{}, fmt.Errorf("read what central relayed: %w", err)
	}
	return Message{b, parsed.Header}, nil
}

// Describe is what anybody who holds the bytes can tell.
func (m Message) Describe() string {
	h := m.Header
	sealed := "sealed with " + h.Suite.String()
	if h.Suite == 0 {
		sealed = "signed, holds no personal data"
	}
	return fmt.Sprintf("%s from VASP %s to VASP %s, %d bytes, %s", h.Type, h.Sender, h.Recipient, len(m.Bytes), sealed)
}

// FirstKeyExchange is the first key request and its answer, nil when there is
// none.
func FirstKeyExchange(all []Relayed) *Relayed {
	for i := range all {
		if all[i].Question.Header.Type == envelope.KeyRequest {
			return &all[i]
		}
	}
	return nil
}

// LastVerification is the last answered verification, nil when there is none.
func LastVerification(all []Relayed) *Relayed {
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Answer.Header.Type == envelope.VerificationAnswer {
			return &all[i]
		}
	}
	return nil
}

// HexDump is the beginning of b, in hex.
func HexDump(b []byte, n int) string {
	var groups []string
	for _, chunk := range chunks(b[:min(n, len(b))], 4) {
		groups = append(groups, hex.EncodeToString(chunk))
	}
	return strings.Join(groups, " ")
}

func chunks(b []byte, n int) (all [][]byte) {
	for len(b) > 0 {
		all, b = append(all, b[:min(n, len(b))]), b[min(n, len(b)):]
	}
	return all
}

// Search looks for texts in everything that was relayed, plain and in the
// encodings that a careless program would use.
func Search(all []Relayed, texts []string) (found []string, size int) {
	var everything []byte
	for _, r := range all {
		everything = append(append(everything, r.Question.Bytes...), r.Answer.Bytes...)
	}
	lower := bytes.ToLower(everything)
	for _, text := range texts {
		for _, form := range Encodings(text) {
			if bytes.Contains(lower, bytes.ToLower(form)) {
				found = append(found, text)
				break
			}
		}
	}
	return found, len(everything)
}

// Encodings are the forms in which a text may hide in bytes: plain, UTF-16 of
// both orders, hex, URL, JSON-escaped, and base64 at its three offsets. They
// are to be compared without case.
func Encodings(text string) [][]byte {
	forms := [][]byte{[]byte(text), utf16(text, false), utf16(text, true), []byte(hex.EncodeToString([]byte(text))), percent(text), escaped(text)}
	for offset := range 3 {
		for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
			if form := encodedAt(encoding, text, offset); len(form) >= 6 {
				forms = append(forms, form)
			}
		}
	}
	return forms
}

// encodedAt is what base64 makes of the text when offset bytes stand before
// it, less the characters that its neighbours have a part in.
func encodedAt(e *base64.Encoding, text string, offset int) []byte {
	padded := append(make([]byte, offset), text...)
	encoded := e.WithPadding(base64.NoPadding).EncodeToString(padded)
	skip := []int{0, 2, 3}[offset]
	whole := len(padded) / 3 * 4
	return []byte(encoded[min(skip, whole):whole])
}

func utf16(text string, big bool) []byte {
	var b []byte
	for _, r := range text {
		if r > 0xffff {
			continue
		}
		if big {
			b = append(b, byte(r>>8), byte(r))
		} else {
			b = append(b, byte(r), byte(r>>8))
		}
	}
	return b
}

func percent(text string) []byte {
	var b []byte
	for _, c := range []byte(text) {
		if c == '-' || c == '.' || c == '_' || c == '~' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' {
			b = append(b, c)
			continue
		}
		b = fmt.Appendf(b, "%%%02x", c)
	}
	return b
}

func escaped(text string) []byte {
	var b []byte
	for _, r := range text {
		if r < 0x80 {
			b = append(b, byte(r))
			continue
		}
		b = fmt.Appendf(b, `\u%04x`, r)
	}
	return b
}

// Asked is one request as a robot backend got it.
type Asked struct{ Method, Path, Header, Body string }

// LastAsked is the last request to a path of the VASP's backend.
func (v *VASP) LastAsked(ctx context.Context, path string) (*Asked, error) {
	var all []struct {
		Method        string          `json:"method"`
		Path          string          `json:"path"`
		Authorization string          `json:"authorization"`
		Body          json.RawMessage `json:"body"`
	}
	if err := fetch(ctx, http.MethodGet, v.RobotURL+"/requests", nil, &all); err != nil {
		return nil, err
	}
	for i := len(all) - 1; i >= 0; i-- {
		if r := all[i]; r.Path == path {
			return &Asked{r.Method, r.Path, r.Authorization, string(r.Body)}, nil
		}
	}
	return nil, errors.New("the backend was not asked")
}

// TimesAsked counts, by verification, the requests to a path of the VASP's
// backend.
func (v *VASP) TimesAsked(ctx context.Context, path string) (map[string]int, error) {
	var all []struct {
		Path string
		Body struct{ VerificationUUID string }
	}
	if err := fetch(ctx, http.MethodGet, v.RobotURL+"/requests", nil, &all); err != nil {
		return nil, err
	}
	times := map[string]int{}
	for _, r := range all {
		if r.Path == path {
			times[r.Body.VerificationUUID]++
		}
	}
	return times, nil
}

// AwaitCallback waits until the VASP's backend was called back about a
// verification, and gives the callback's body.
func (v *VASP) AwaitCallback(ctx context.Context, id string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		var all []json.RawMessage
		if err := fetch(ctx, http.MethodGet, v.RobotURL+"/callbacks", nil, &all); err != nil {
			return "", err
		}
		for i := len(all) - 1; i >= 0; i-- {
			if bytes.Contains(all[i], []byte(id)) {
				return string(all[i]), nil
			}
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("no callback about verification %s: %w", id, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}
