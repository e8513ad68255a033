package acme

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"time"

	"go.uber.org/zap/zapcore"
)

// Renew makes it time to renew, and returns when the new certificate is shown.
// It is what Run does when the time has come by itself.
func (a *Certificates) Renew(ctx context.Context) error {
	old := a.current().Hash()
	usual := a.magic.RenewalWindowRatio
	a.magic.RenewalWindowRatio = 1
	if err := a.cache.RenewManagedCertificates(ctx); err != nil {
		return err
	}
	for a.current().Hash() == old {
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), errors.New(*a.problem.Load()))
		case <-time.After(5 * time.Millisecond):
		}
	}
	a.magic.RenewalWindowRatio = usual
	return nil
}

// Chain is the certificate in use, PEM.
func (a *Certificates) Chain(ctx context.Context) ([]byte, error) {
	return a.storage.Load(ctx, a.folder()+"/"+a.host+".crt")
}

// Rewrite changes a file of the storage as who has the key can.
func (a *Certificates) Rewrite(ctx context.Context, suffix string, change func([]byte) []byte) error {
	key := a.folder() + "/" + a.host + suffix
	text, err := a.storage.Load(ctx, key)
	if err != nil {
		return err
	}
	return a.storage.Store(ctx, key, change(text))
}

// Pending tells whether an authorization is, in either way.
func (a *Certificates) Pending() bool {
	return a.Challenge() || a.http != nil && a.http.pending()
}

// BePatient makes the challenge listener wait for its callers for longer than
// a test takes.
func (a *Certificates) BePatient() { a.http.patience = time.Hour }

// HTTPAddress is where HTTP-01 is answered.
func (a *Certificates) HTTPAddress() string { return a.http.listener.Addr().String() }

var ServerName = serverName

// ProfileOf is the profile that would be ordered.
func ProfileOf(c Config) string { return c.profile() }

// StoredKey opens a private key of the storage.
func (a *Certificates) StoredKey(ctx context.Context, key string) (*ecdsa.PrivateKey, error) {
	text, err := a.storage.Load(ctx, key)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM")
	}
	return x509.ParseECPrivateKey(block.Bytes)
}

var OpenStorage = openStorage

// NewZapLog is the core that certmagic's lines go through.
func NewZapLog(l *slog.Logger) zapcore.Core { return &zapLog{log: l} }

// TryToRenew makes it time to renew from now on, and lets one attempt begin.
func (a *Certificates) TryToRenew(ctx context.Context) error {
	a.magic.RenewalWindowRatio = 1
	return a.cache.RenewManagedCertificates(ctx)
}
