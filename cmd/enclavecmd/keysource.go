package enclavecmd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"

	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/plugins"
	"github.com/vasp-enclave/vasp-enclave/proxy/outward"
)

// decryptScheme is that of the key source which VEGA_DECRYPT_API_ENDPOINT
// selects.
const decryptScheme = "decrypt-api:"

// keySource is the URL of the key source: VEGA_DECRYPT_API_ENDPOINT, set alone,
// selects one.
func (s *Settings) keySource() string {
	if s.DecryptAPI.IsSet() {
		return decryptScheme + s.DecryptAPI.String()
	}
	return s.KeySource
}

// plainKey tells whether VEGA_ENCRYPTION_KEY_BASE64 holds the key itself.
func (s *Settings) plainKey() bool { return s.keySource() == defaultKeySource }

// keySourceName is the setting to name in errors about the key.
func (s *Settings) keySourceName() string {
	switch {
	case s.DecryptAPI.IsSet():
		return "VEGA_DECRYPT_API_ENDPOINT"
	case s.plainKey():
		return "VEGA_ENCRYPTION_KEY_BASE64"
	}
	return "VEGA_KEY_SOURCE"
}

// openKeySource opens the source and tells a remote one how to call. It asks
// nobody for the key.
func (s *Settings) openKeySource(ctx context.Context, c *plugins.Catalog) (plugins.KeySource, error) {
	source, err := c.KeySources.Open(ctx, s.keySource())
	if err != nil {
		name := "VEGA_KEY_SOURCE"
		if s.DecryptAPI.IsSet() {
			name = "VEGA_DECRYPT_API_ENDPOINT"
		}
		return nil, named(name, err)
	}
	remote, ok := source.(plugins.RemoteKeySource)
	if !ok {
		return source, nil
	}
	call, err := s.keyCall()
	if err != nil {
		return nil, err
	}
	if err := remote.Use(call); err != nil {
		return nil, fmt.Errorf("%s: %w, or set VEGA_UNSAFE_DECRYPT_API_HTTP=true to allow it", s.keySourceName(), err)
	}
	return remote, nil
}

// keyCall reads the files that calls of a remote key source need.
func (s *Settings) keyCall() (plugins.KeyCall, error) {
	call := plugins.KeyCall{UnsafeHTTP: s.UnsafeDecrypt, Sealed: s.DecryptSealed}
	var err error
	if call.Roots, err = outward.ReadRoots(s.DecryptRoots); err != nil {
		return call, named("VEGA_DECRYPT_API_ROOTS_FILE", err)
	}
	if s.DecryptCertFile != "" {
		call.Certificate = func() (*tls.Certificate, error) {
			certificate, err := tls.LoadX509KeyPair(s.DecryptCertFile, s.DecryptKeyFile)
			return &certificate, err
		}
		if _, err := call.Certificate(); err != nil {
			return call, named("VEGA_DECRYPT_API_CLIENT_CERT_FILE, VEGA_DECRYPT_API_CLIENT_KEY_FILE", err)
		}
	}
	token := s.DecryptToken
	if !token.IsSet() {
		token = s.AuthorizationToken
	}
	if token.IsSet() {
		call.Authorize = func(h http.Header) { authorize(h, s.AuthorizationKey, token.Reveal()) }
	}
	return call, nil
}

// authorize adds the header that every API of the VASP gets (contract 3.0).
func authorize(h http.Header, name, token string) {
	if name != "" {
		h.Set(name, token)
		return
	}
	h.Set("Authorization", "Bearer "+token)
}

// readKey gets the key that wraps all others, or what will be asked for it.
func (p *parts) readKey(ctx context.Context, catalog *plugins.Catalog, s *Settings) error {
	source, err := s.openKeySource(ctx, catalog)
	if err != nil {
		return err
	}
	if remote, ok := source.(plugins.RemoteKeySource); ok {
		p.keySource = remote
		return nil
	}
	key, err := s.kekOf(ctx, source)
	if err != nil {
		return err
	}
	if p.kek, err = atrest.NewKEK(key); err != nil {
		return err
	}
	p.otherKEKs, err = s.previousKEK(ctx, catalog)
	return err
}

// checkDecryptAPI are the rules about the decrypt API's settings.
func (s *Settings) checkDecryptAPI() []error {
	var errs []error
	rule := func(ok bool, sentence string) {
		if !ok {
			errs = append(errs, errors.New(sentence))
		}
	}
	both := s.DecryptAPI.IsSet() && s.KeySource != defaultKeySource && s.KeySource != s.keySource()
	rule(!both, "VEGA_DECRYPT_API_ENDPOINT: VEGA_KEY_SOURCE names another source for the key; unset one of the two")
	rule(s.UnsafeDecrypt || httpsOrUnset(s.DecryptAPI) || onThisMachine(s.DecryptAPI),
		"VEGA_DECRYPT_API_ENDPOINT: is http to another machine, which would show it the key; use https, or set VEGA_UNSAFE_DECRYPT_API_HTTP=true to allow it")
	rule(!s.DecryptAPI.IsSet() || s.EncryptionKey.IsSet(), "VEGA_ENCRYPTION_KEY_BASE64: is not set; with VEGA_DECRYPT_API_ENDPOINT it holds what that API is to decrypt: make it with enclave keys wrap")
	rule((s.DecryptCertFile == "") == (s.DecryptKeyFile == ""), "VEGA_DECRYPT_API_CLIENT_CERT_FILE, VEGA_DECRYPT_API_CLIENT_KEY_FILE: set both or none")
	rule(!s.DecryptToken.IsSet() || fieldValue.MatchString(s.DecryptToken.Reveal()), "VEGA_DECRYPT_API_TOKEN: must be printable ASCII")
	return errs
}

// warnOfDecryptAPI says what is seldom wise about them.
func (s *Settings) warnOfDecryptAPI() []string {
	var list []string
	warn := func(when bool, sentence string) {
		if when {
			list = append(list, sentence)
		}
	}
	warn(s.UnsafeDecrypt, "VEGA_UNSAFE_DECRYPT_API_HTTP lets the database key and the token travel in clear")
	if !s.DecryptAPI.IsSet() {
		return list
	}
	proven := s.DecryptToken.IsSet() || s.DecryptCertFile != ""
	warn(!proven && !s.AuthorizationToken.IsSet(),
		"VEGA_DECRYPT_API_ENDPOINT is asked without a token and without a client certificate: whoever can reach it can ask for the database key, too")
	warn(!proven && s.AuthorizationToken.IsSet(),
		"VEGA_DECRYPT_API_TOKEN is not set: the decrypt API is shown the backend's token, so the backend can ask for the database key, too")
	return list
}
