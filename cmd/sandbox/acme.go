package sandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy/edge/acme/pebble"
)

// prepareAuthority makes the local certificate authority, whose validators
// call every enclave at one port, as the world's call port 443.
func (a *Alliance) prepareAuthority(port uint16) error {
	path, err := filepath.Abs(a.options.ACME)
	if err != nil {
		return err
	}
	authority, err := pebble.New(a.Dir, pebble.Options{TLSPort: int(port), HTTPPort: 80, Lifetime: a.options.ACMELifetime})
	if err != nil {
		return fmt.Errorf("make a local certificate authority: %w", err)
	}
	a.Authority = authority
	a.issuer = &Program{
		Name: "certificate authority", Path: path, Args: authority.Args, Env: authority.Env, Log: authority.Log,
		ReadyLine: "ACME directory available",
	}
	return nil
}

// startAuthority starts it, if there is one, and gives its root to central.
func (a *Alliance) startAuthority(ctx context.Context) error {
	if a.issuer == nil {
		return nil
	}
	if err := a.issuer.Start(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		root, err := a.Authority.IssuingRoot(ctx)
		if err == nil {
			return os.WriteFile(a.enclaveRoots(), root, 0o644)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the certificate authority does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// enclaveRoots is the file of the roots that vouch for the enclaves.
func (a *Alliance) enclaveRoots() string {
	if a.Authority != nil {
		return filepath.Join(a.Dir, "acme-root.pem")
	}
	return a.rootFile
}

// certificate are the settings of an enclave's certificate: files with one of
// the sandbox's own, or where to ask for one.
func (a *Alliance) certificate(name string, v *VASP) ([]string, error) {
	if a.Authority != nil {
		settings := []string{
			"VEGA_ACME_TERMS_AGREED=true", "VEGA_ACME_DIRECTORY=" + a.Authority.Directory, "VEGA_ACME_ROOTS_FILE=" + a.Authority.RootsFile,
		}
		if a.options.ACMELifetime > 0 {
			settings = append(settings, "VEGA_ACME_PROFILE="+pebble.Short)
		}
		return settings, nil
	}
	var err error
	v.CertFile, v.KeyFile, err = a.authority.issue(a.Dir, name, v.Address)
	return []string{"VEGA_TLS_CERT_FILE=" + v.CertFile, "VEGA_TLS_KEY_FILE=" + v.KeyFile}, err
}
