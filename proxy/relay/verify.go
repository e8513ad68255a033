package relay

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/remitly-oss/httpsig-go"
)

// VerifierConfig is what it takes to check requests.
type VerifierConfig struct {
	Direction Direction // of the requests that come in
	Keys      []Key     // any of them may have signed
	// Recipient is the only one whose requests are let through: a VASP id, as
	// the signed header has it. Empty: any.
	Recipient string

	// MaxBody is the most bytes a body may have. Zero takes MaxMessage.
	MaxBody int64
	// ReplayLimit is how many requests of one key are remembered. Zero takes
	// 262,144, enough for 4,000 a second.
	ReplayLimit int

	Namespace string                // prefix of the metrics: enclave, central
	Metrics   prometheus.Registerer // nil: none
	Now       func() time.Time
}

// Verifier lets through requests that one of its keys signed, now and for the
// first time. It may be used concurrently. What it remembers, it remembers in
// memory: after a restart the envelope's own receipt makes a replay inert.
type Verifier struct {
	config   VerifierConfig
	verifier *httpsig.Verifier
	keys     atomic.Pointer[map[string]*knownKey]
	refused  map[reason]prometheus.Counter
	patience *patience
	impolite prometheus.Counter
}

// knownKey is one access key with what its requests are checked against.
type knownKey struct {
	spec httpsig.KeySpec
	seen *nonces
}

// KeySpec implements httpsig.KeySpecer.
func (k *knownKey) KeySpec() (httpsig.KeySpec, error) { return k.spec, nil }

// NewVerifier makes a Verifier. Two keys with one access key are an error.
func NewVerifier(c VerifierConfig) (*Verifier, error) {
	if c.MaxBody == 0 {
		c.MaxBody = MaxMessage
	}
	if c.ReplayLimit == 0 {
		c.ReplayLimit = defaultReplayLimit
	}
	v := &Verifier{config: c, refused: newRefused(c), patience: newPatience(c.Now), impolite: newImpolite(c)}
	if err := v.SetKeys(c.Keys); err != nil {
		return nil, err
	}
	var err error
	v.verifier, err = httpsig.NewVerifier(keyring{v}, httpsig.VerifyProfile{
		SignatureLabel: label, RequiredFields: covered, RequiredMetadata: metadata,
		DisallowedMetadata:     []httpsig.Metadata{httpsig.MetaAlgorithm, httpsig.MetaExpires},
		AllowedAlgorithms:      []httpsig.Algorithm{httpsig.Algo_HMAC_SHA256},
		DisableTimeEnforcement: true, // it knows only the system clock: see fresh
	})
	return v, err
}

// SetKeys makes these the keys from now on: a request signed by another is
// refused. Of a key that was known before, access key and secret alike, it is
// still known which requests it has signed. After an error nothing changed.
func (v *Verifier) SetKeys(keys []Key) error {
	before := v.known()
	known := make(map[string]*knownKey, len(keys))
	for _, k := range keys {
		key, err := v.know(k)
		if err != nil {
			return err
		}
		if _, twice := known[k.Access]; twice {
			return fmt.Errorf("access key %s is given twice", k.Access)
		}
		if was, ok := before[k.Access]; ok && sameSecret(was, key) {
			key = was
		}
		known[k.Access] = key
	}
	v.keys.Store(&known)
	return nil
}

func (v *Verifier) know(k Key) (*knownKey, error) {
	if err := k.Check(); err != nil {
		return nil, err
	}
	mac, err := k.mac(v.config.Direction)
	if err != nil {
		return nil, fmt.Errorf("derive the key of access key %s: %w", k.Access, err)
	}
	return &knownKey{
		spec: httpsig.KeySpec{KeyID: k.Access, Algo: httpsig.Algo_HMAC_SHA256, Secret: mac},
		seen: newNonces(v.config.ReplayLimit),
	}, nil
}

func sameSecret(a, b *knownKey) bool {
	return subtle.ConstantTimeCompare(a.spec.Secret, b.spec.Secret) == 1
}

// known are the keys of this moment.
func (v *Verifier) known() map[string]*knownKey {
	if keys := v.keys.Load(); keys != nil {
		return *keys
	}
	return nil
}

// keyring gives the library the key that a signature names.
type keyring struct{ of *Verifier }

var errNoKey = errors.New("no such key")

func (k keyring) FetchByKeyID(_ context.Context, _ http.Header, id string) (httpsig.KeySpecer, error) {
	if key, ok := k.of.known()[id]; ok {
		return key, nil
	}
	return nil, errNoKey
}

func (k keyring) Fetch(context.Context, http.Header, httpsig.MetadataProvider) (httpsig.KeySpecer, error) {
	return nil, errNoKey
}

// Require lets only verified requests through to next, and answers the others
// with one 401 that does not say why (attack O4); the metric does. It reads the
// body: next finds it in From, and may also read it again. The request's path
// must be the one below the registered base: see Below.
func (v *Verifier) Require(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		verified, why := v.verify(w, r)
		if why != "" {
			v.refuse(w, r, why)
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), verifiedKey{}, verified))
		r.Body = io.NopCloser(bytes.NewReader(verified.Body))
		next.ServeHTTP(w, r)
	})
}

// refuse answers a request that may not pass, and one of too many of them in
// the fewest words.
func (v *Verifier) refuse(w http.ResponseWriter, r *http.Request, why reason) {
	v.refused[why].Inc()
	if why.unauthenticated() && !v.patience.take(r.RemoteAddr) {
		v.impolite.Inc()
		w.Header().Set("Retry-After", FormatRetryAfter(time.Second))
		w.Header().Set("Connection", "close")
		WriteError(w, http.StatusTooManyRequests, CodeBusy, "Too many requests without a valid signature.")
		return
	}
	why.write(w)
}

// RequireOr is Require, but a request without any signature goes to unsigned.
// For the health check, whose bare status every allowed address may see.
func (v *Verifier) RequireOr(next, unsigned http.Handler) http.Handler {
	signed := v.Require(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(headerInput) == "" && r.Header.Get(headerSignature) == "" {
			unsigned.ServeHTTP(w, r)
			return
		}
		signed.ServeHTTP(w, r)
	})
}

// Verified is what a request's signature proved.
type Verified struct {
	AccessKey string // whose request it is
	Recipient string // as signed; not yet checked to be a VASP id
	Body      []byte // as signed; must not be changed
}

type verifiedKey struct{}

// From is what was proved of a request that came through Require.
func From(ctx context.Context) (*Verified, bool) {
	v, ok := ctx.Value(verifiedKey{}).(*Verified)
	return v, ok
}

// verify checks the cheap things first, so that a stranger at an allowed
// address costs no hashing.
func (v *Verifier) verify(w http.ResponseWriter, r *http.Request) (*Verified, reason) {
	in, why := v.readHeaders(r)
	if why != "" {
		return nil, why
	}
	now := v.config.Now().Unix()
	key, known := v.known()[in.keyID]
	switch {
	case in.tag != string(v.config.Direction):
		return nil, reasonDirection
	case !known:
		return nil, reasonKey
	case !fresh(in.created, now):
		return nil, reasonStale
	}
	body, why := v.readBody(w, r)
	if why != "" {
		return nil, why
	}
	if why := v.checkSignature(r, body); why != "" {
		return nil, why
	}
	if why := key.seen.add(in.id(), in.created, now); why != "" {
		return nil, why
	}
	recipient := r.Header.Get(HeaderRecipient)
	if v.config.Recipient != "" && recipient != v.config.Recipient {
		return nil, reasonRecipient
	}
	return &Verified{AccessKey: in.keyID, Recipient: recipient, Body: body}, ""
}

func fresh(created, now int64) bool {
	const skew = int64(Skew / time.Second)
	return created >= now-skew && created <= now+skew
}

// readHeaders takes the signature's headers, each of which must be there once
// and in the one form that this wire writes. What the signature does not cover
// must not be there: a query, and another spelling of the path.
func (v *Verifier) readHeaders(r *http.Request) (in input, why reason) {
	if r.Header.Get(headerInput) == "" && r.Header.Get(headerSignature) == "" {
		return in, reasonUnsigned
	}
	for _, name := range []string{headerInput, headerSignature, headerDigest, HeaderRecipient} {
		if len(r.Header.Values(name)) != 1 {
			return in, reasonMalformed
		}
	}
	in, err := parseInput(r.Header.Get(headerInput))
	switch {
	case err != nil,
		!isBytes(r.Header.Get(headerSignature), label+"=:"),
		!isBytes(r.Header.Get(headerDigest), digestPrefix),
		len(r.Header.Get(HeaderRecipient)) > 20,
		r.URL.RawQuery != "" || r.URL.ForceQuery || r.URL.RawPath != "":
		return in, reasonMalformed
	}
	return in, ""
}

// isBytes tells whether a header is a prefix, 32 bytes in base64, and a colon.
func isBytes(header, prefix string) bool {
	text, ok := strings.CutPrefix(header, prefix)
	if !ok {
		return false
	}
	text, ok = strings.CutSuffix(text, ":")
	return ok && isSum(text)
}

func (v *Verifier) readBody(w http.ResponseWriter, r *http.Request) ([]byte, reason) {
	if r.ContentLength > v.config.MaxBody {
		w.Header().Set("Connection", "close") // rather than read it
		return nil, reasonTooLarge
	}
	body, err := readAll(http.MaxBytesReader(w, r.Body, v.config.MaxBody), r.ContentLength)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, reasonTooLarge
	case err != nil:
		return nil, reasonBody
	}
	return body, ""
}

// checkSignature has the library check digest and signature. It compares the
// signature in constant time; the digest is no secret.
func (v *Verifier) checkSignature(r *http.Request, body []byte) reason {
	signed := &http.Request{Method: r.Method, URL: r.URL, Header: r.Header, Body: io.NopCloser(bytes.NewReader(body))}
	_, err := v.verifier.Verify(signed)
	var refused *httpsig.SignatureError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &refused) && refused.Code == httpsig.ErrNoSigWrongDigest:
		return reasonDigest
	}
	return reasonSignature
}

// readAll reads to the end, in one piece when the length was told truly. A
// length told falsely costs at most a buffer of firstRead bytes.
func readAll(r io.Reader, length int64) ([]byte, error) {
	const firstRead = 64 << 10
	var b bytes.Buffer
	if length > 0 {
		b.Grow(int(min(length, firstRead)) + bytes.MinRead)
	}
	_, err := b.ReadFrom(r)
	return b.Bytes(), err
}
