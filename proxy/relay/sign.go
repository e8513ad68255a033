package relay

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"

	"github.com/remitly-oss/httpsig-go"
)

// label names our signature among those a request might carry.
const label = "relay"

var (
	covered  = httpsig.Fields("@method", "@path", "content-digest", "relay-recipient")
	metadata = []httpsig.Metadata{httpsig.MetaCreated, httpsig.MetaNonce, httpsig.MetaKeyID, httpsig.MetaTag}
)

// Signer signs requests of one direction. It may be used concurrently.
type Signer struct{ signer *httpsig.Signer }

// NewSigner signs with one key.
func NewSigner(k Key, d Direction) (*Signer, error) {
	if err := k.Check(); err != nil {
		return nil, err
	}
	mac, err := k.mac(d)
	if err != nil {
		return nil, fmt.Errorf("derive the signing key: %w", err)
	}
	// The library's nonce is 32 bytes of crypto/rand, whatever its constant's
	// name says; its time of creation is the system clock's.
	signer, err := httpsig.NewSigner(httpsig.SigningProfile{
		Algorithm: httpsig.Algo_HMAC_SHA256, Fields: covered, Metadata: metadata, Label: label,
	}, httpsig.SigningKey{Secret: mac, MetaKeyID: k.Access, MetaTag: string(d)})
	if err != nil {
		return nil, fmt.Errorf("make a request signer: %w", err)
	}
	return &Signer{signer}, nil
}

// Sign adds digest, recipient and signature to the headers of r, which must
// not be sent twice. The path is the one below the registered base and body is
// what r's Body will give.
func (s *Signer) Sign(r *http.Request, path, recipient string, body []byte) error {
	r.Header.Set(HeaderRecipient, recipient)
	r.Header.Set(headerDigest, digest(body))
	r.Header.Del(headerInput)
	r.Header.Del(headerSignature)
	relative := &http.Request{Method: r.Method, URL: &url.URL{Path: path}, Header: r.Header}
	if err := s.signer.Sign(relative); err != nil {
		return fmt.Errorf("sign request: %w", err)
	}
	return nil
}

// digest is a Content-Digest header (RFC 9530).
func digest(body []byte) string {
	sum := sha256.Sum256(body)
	return digestPrefix + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

const digestPrefix = "sha-256=:"
