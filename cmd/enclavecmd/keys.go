package enclavecmd

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
	"github.com/vasp-enclave/vasp-enclave/plugins"
	"github.com/vasp-enclave/vasp-enclave/plugins/keysource"
	"github.com/vasp-enclave/vasp-enclave/proxy/outward"
)

// keysCommand is about the database key and those that it wraps.
func keysCommand(from *settings.Source) *cobra.Command {
	c := &cobra.Command{Use: "keys", Short: "The keys of the history, and their rotation while the enclave serves"}
	c.AddCommand(keysWrapCommand())
	c.AddCommand(keyRotationCommands(from)...)
	return c
}

// wrapOptions are an operator's, and not the enclave's settings: whoever may
// wrap must be somebody else than the enclave.
type wrapOptions struct {
	endpoint, instance, keyFile, header           string
	tokenFile, rootsFile, certFile, clientKeyFile string
}

func keysWrapCommand() *cobra.Command {
	var o wrapOptions
	c := &cobra.Command{
		Use: "wrap --endpoint URL --instance NAME", Short: "Make a VEGA_ENCRYPTION_KEY_BASE64 that only a decrypt API can decrypt", Args: cobra.NoArgs,
		Long: "Asks the decrypt API of deploy/decryptapi for a value that it decrypts for one instance, and prints it.\n" +
			"The database key is made in its HSM and seen by nobody, unless --key-file names one that is in use already.",
		RunE: func(c *cobra.Command, _ []string) error {
			value, err := o.wrap(c.Context(), c.InOrStdin())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), value)
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&o.endpoint, "endpoint", "", "https URL of the API's wrap endpoint, such as https://keys.example:8200/v1/wrap")
	f.StringVar(&o.instance, "instance", "", "the name that the API's configuration has for this enclave's keys")
	f.StringVar(&o.keyFile, "key-file", "", "a database key in use: a file with 32 bytes or their base64, - for stdin; without it a new one is made")
	f.StringVar(&o.tokenFile, "token-file", "", "file with the operator's token")
	f.StringVar(&o.header, "token-header", "", "header for the token; default Authorization: Bearer")
	f.StringVar(&o.rootsFile, "roots-file", "", "PEM file of the root certificates to trust the API with; default the system's")
	f.StringVar(&o.certFile, "client-cert-file", "", "PEM file with the operator's certificate")
	f.StringVar(&o.clientKeyFile, "client-key-file", "", "PEM file with the private key of that certificate")
	return c
}

func (o *wrapOptions) wrap(ctx context.Context, stdin io.Reader) (string, error) {
	if o.endpoint == "" || o.instance == "" {
		return "", configError{errors.New("--endpoint and --instance are needed; for the value of a decrypt API of another make ask its documentation")}
	}
	if o.tokenFile == "" && o.certFile == "" {
		return "", configError{errors.New("--token-file or --client-cert-file is needed: it must be proven that an operator asks")}
	}
	call, err := o.call()
	if err != nil {
		return "", configError{err}
	}
	key, err := readKeyFile(o.keyFile, stdin)
	if err != nil {
		return "", configError{named("--key-file", err)}
	}
	defer clear(key)
	value, err := keysource.Wrap(ctx, o.endpoint, call, o.instance, key)
	return value, named("--endpoint", err)
}

func (o *wrapOptions) call() (call plugins.KeyCall, err error) {
	if call.Roots, err = outward.ReadRoots(o.rootsFile); err != nil {
		return call, named("--roots-file", err)
	}
	if o.certFile != "" {
		certificate, err := tls.LoadX509KeyPair(o.certFile, o.clientKeyFile)
		if err != nil {
			return call, named("--client-cert-file, --client-key-file", err)
		}
		call.Certificate = func() (*tls.Certificate, error) { return &certificate, nil }
	}
	if o.tokenFile != "" {
		token, err := os.ReadFile(o.tokenFile)
		if err != nil {
			return call, named("--token-file", err)
		}
		text := strings.TrimRight(string(token), "\r\n")
		if !fieldValue.MatchString(text) {
			return call, errors.New("--token-file: must hold printable ASCII")
		}
		call.Authorize = func(h http.Header) { authorize(h, o.header, text) }
	}
	return call, nil
}

// readKeyFile reads a database key, nil when no file is named.
func readKeyFile(name string, stdin io.Reader) ([]byte, error) {
	if name == "" {
		return nil, nil
	}
	in := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, 4<<10))
	if err != nil {
		return nil, err
	}
	if key, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(text))); err == nil && len(key) == kekSize {
		return key, nil
	}
	if len(text) == kekSize {
		return text, nil
	}
	return nil, fmt.Errorf("holds neither %d bytes nor their base64", kekSize)
}
