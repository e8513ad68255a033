package enclavecmd

import (
	"context"

	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/plugins"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
)

// offline is what commands need that open the history of a stopped enclave.
type offline struct {
	path    string
	network bool
	keks    []*atrest.KEK // that it may be under, the present one first
}

// checkedBy is for what checks the whole file, and shows how far it has come.
func (o *offline) checkedBy(bar *progress) bolt.Options {
	return bolt.Options{Path: o.path, KEK: o.keks[0], Others: o.keks[1:], UnsafeNetwork: o.network, Tell: bar.at}
}

// openOffline reads the settings of the history and of its key, and no others.
// A remote source is asked once.
func openOffline(ctx context.Context, catalog *plugins.Catalog, from *settings.Source) (*offline, error) {
	var s struct {
		DatabaseFile       string          `env:"VEGA_DATABASE_FILE" envDefault:"enclave.db" group:"-" doc:"The history."`
		UnsafeNetwork      bool            `env:"VEGA_UNSAFE_DATABASE_NETWORK_FILESYSTEM" envDefault:"false" doc:"Wherever it lies."`
		EncryptionKey      settings.Secret `env:"VEGA_ENCRYPTION_KEY_BASE64" secret:"true" doc:"Its key."`
		PreviousKey        settings.Secret `env:"VEGA_ENCRYPTION_KEY_BASE64_PREVIOUS" secret:"true" doc:"Another key that it may have."`
		KeySource          string          `env:"VEGA_KEY_SOURCE" envDefault:"plain:" doc:"Where that key comes from."`
		DecryptAPI         settings.URL    `env:"VEGA_DECRYPT_API_ENDPOINT" doc:"Or from here."`
		DecryptToken       settings.Secret `env:"VEGA_DECRYPT_API_TOKEN" secret:"true" doc:"Who asks there."`
		DecryptRoots       string          `env:"VEGA_DECRYPT_API_ROOTS_FILE" doc:"Whom to believe."`
		DecryptCertFile    string          `env:"VEGA_DECRYPT_API_CLIENT_CERT_FILE" doc:"Who asks there."`
		DecryptKeyFile     string          `env:"VEGA_DECRYPT_API_CLIENT_KEY_FILE" doc:"Who asks there."`
		DecryptSealed      bool            `env:"VEGA_DECRYPT_API_SEALED" envDefault:"false" doc:"How."`
		UnsafeDecrypt      bool            `env:"VEGA_UNSAFE_DECRYPT_API_HTTP" envDefault:"false" doc:"How."`
		AuthorizationToken settings.Secret `env:"VEGA_VERIFICATION_AUTHORIZATION_TOKEN" secret:"true" doc:"Who asks there."`
		AuthorizationKey   string          `env:"VEGA_VERIFICATION_AUTHORIZATION_KEY" doc:"In which header."`
	}
	if _, err := from.Load("VEGA_OPERATOR_", &s); err != nil {
		return nil, configError{err}
	}
	all := Settings{
		EncryptionKey: s.EncryptionKey, PreviousKey: s.PreviousKey, KeySource: s.KeySource,
		DecryptAPI: s.DecryptAPI, DecryptToken: s.DecryptToken, DecryptRoots: s.DecryptRoots,
		DecryptCertFile: s.DecryptCertFile, DecryptKeyFile: s.DecryptKeyFile, DecryptSealed: s.DecryptSealed, UnsafeDecrypt: s.UnsafeDecrypt,
		AuthorizationToken: s.AuthorizationToken, AuthorizationKey: s.AuthorizationKey,
	}
	kek, err := openKEK(ctx, &all, catalog)
	if err != nil {
		return nil, configError{err}
	}
	others, err := all.previousKEK(ctx, catalog)
	if err != nil {
		return nil, configError{err}
	}
	return &offline{s.DatabaseFile, s.UnsafeNetwork, append([]*atrest.KEK{kek}, others...)}, nil
}
