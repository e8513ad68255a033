// Command decryptapi gives enclaves their database key, which a PKCS#11 token
// (an HSM) decrypts: VEGA_DECRYPT_API_ENDPOINT of the contract, section 3.5.
//
// The keys that decrypt stay inside the token. Who asks shows a token or a
// client certificate, gets the keys of its own instances and no others, and is
// written down with each use (attack S5).
package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
)

const usage = `decryptapi serve --config FILE                       answer enclaves until SIGTERM
decryptapi keys init --config FILE [--label LABEL]   make a key in the token that cannot leave it
decryptapi keys wrap --config FILE --instance NAME   print a VEGA_ENCRYPTION_KEY_BASE64 with a new key that nobody sees
                     [--key-file FILE]               or with this one, 32 bytes or base64; - is stdin
`

// Exit codes. With exitConfig another start would fail the same way, and with
// a wrong PIN it would lock the token: a supervisor must not try again.
const (
	exitFailed = 1
	exitConfig = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	command := func(names ...string) bool {
		for i, name := range names {
			if len(args) <= i || args[i] != name {
				return false
			}
		}
		args = args[len(names):]
		return true
	}
	var do func(*options) error
	switch {
	case command("serve"):
		do = func(o *options) error { return serve(ctx, o.config, o.log) }
	case command("keys", "init"):
		do = keysInit
	case command("keys", "wrap"):
		do = keysWrap
	default:
		fmt.Fprint(stderr, usage)
		return exitConfig
	}
	o := &options{stdin: stdin, stdout: stdout, log: slog.New(slog.NewJSONHandler(stderr, nil))}
	err := o.parse(args, stderr)
	if err == nil {
		err = do(o)
	}
	var wrong wrongConfig
	switch {
	case err == nil:
		return 0
	case errors.As(err, &wrong) || errors.Is(err, errPIN):
		fmt.Fprintf(stderr, "decryptapi: %v\n", err)
		return exitConfig
	}
	fmt.Fprintf(stderr, "decryptapi: %v\n", err)
	return exitFailed
}

// wrongConfig is an error that another start would meet again.
type wrongConfig struct{ error }

func (e wrongConfig) Unwrap() error { return e.error }

type options struct {
	config                   *config
	label, instance, keyFile string
	stdin                    io.Reader
	stdout                   io.Writer
	log                      *slog.Logger
}

func (o *options) parse(args []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("decryptapi", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage) }
	file := flags.String("config", "", "the configuration")
	flags.StringVar(&o.label, "label", "", "of the key; default the first of the configuration")
	flags.StringVar(&o.instance, "instance", "", "whose database key it is")
	flags.StringVar(&o.keyFile, "key-file", "", "an existing database key")
	if err := flags.Parse(args); err != nil {
		return wrongConfig{err}
	}
	if *file == "" || flags.NArg() > 0 {
		return wrongConfig{errors.New("--config FILE is missing, or there are arguments too many")}
	}
	var err error
	if o.config, err = readConfig(*file); err != nil {
		return wrongConfig{err}
	}
	return nil
}

func serve(ctx context.Context, c *config, log *slog.Logger) error {
	t, err := openToken(c, log)
	if err != nil {
		return err
	}
	defer t.Close()
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return err
	}
	log.Info("decryptapi ready", "listen", listener.Addr().String(), "token", c.TokenLabel, "key", c.Keys[0], "callers", len(c.Callers))
	err = newServer(c, t, log).serve(ctx, listener)
	log.Info("decryptapi stopped")
	return err
}

func keysInit(o *options) error {
	label := o.label
	if label == "" {
		label = o.config.Keys[0]
	}
	if !names.MatchString(label) {
		return wrongConfig{fmt.Errorf("%q is no label; use 1 to 64 letters, digits and ._:@/-", label)}
	}
	if err := makeKey(o.config, label, o.log); err != nil {
		return err
	}
	_, err := fmt.Fprintf(o.stdout, "made %s, an AES-256 key that cannot leave the token %s\n", label, o.config.TokenLabel)
	return err
}

func keysWrap(o *options) error {
	if !names.MatchString(o.instance) {
		return wrongConfig{errors.New("--instance NAME is missing, or not 1 to 64 letters, digits and ._:@/-")}
	}
	key, err := o.readKey()
	if err != nil {
		return err
	}
	defer clear(key)
	t, err := openToken(o.config, o.log)
	if err != nil {
		return err
	}
	defer t.Close()
	v, err := t.wrap(o.instance, key)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(o.stdout, v.text())
	return err
}

// readKey reads an existing database key, nil when none is named.
func (o *options) readKey() ([]byte, error) {
	if o.keyFile == "" {
		return nil, nil
	}
	in := o.stdin
	if o.keyFile != "-" {
		f, err := os.Open(o.keyFile)
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
	if key, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(text))); err == nil && len(key) == keySize {
		return key, nil
	}
	if len(text) == keySize {
		return text, nil
	}
	return nil, fmt.Errorf("%s holds neither %d bytes nor their base64", o.keyFile, keySize)
}
