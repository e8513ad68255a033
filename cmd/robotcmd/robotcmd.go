// Package robotcmd is a sandbox VASP as a program: the backend of an exchange
// that does not exist, which answers its enclave by rule (contract 9.9). It
// shows what it was asked to whoever looks, so it is for tests, demos and
// benchmarks, and never for the data of people.
package robotcmd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
)

// Prefix begins the name of every setting of a robot.
const Prefix = "ROBOT_"

// Settings is everything one can tell a robot. All zero is a robot with the
// sample customers that answers everybody on this machine.
type Settings struct {
	Listen        settings.Listen `env:"ROBOT_LISTEN" envDefault:"127.0.0.1:8081" group:"Robot" doc:"Where to listen for the enclave; port 0 takes any free one."`
	TLSCertFile   string          `env:"ROBOT_TLS_CERT_FILE" doc:"PEM file with a certificate chain, leaf first; with it the robot speaks https."`
	TLSKeyFile    string          `env:"ROBOT_TLS_KEY_FILE" doc:"PEM file with the private key of that certificate."`
	Token         settings.Secret `env:"ROBOT_TOKEN" secret:"true" doc:"When set, the enclave must send it as Authorization: Bearer."`
	TokenHeader   string          `env:"ROBOT_TOKEN_HEADER" doc:"Name of the header that must carry the token instead, as it is and without Bearer."`
	CustomersFile string          `env:"ROBOT_CUSTOMERS_FILE" doc:"YAML file with customers and rules; unset, the sample ones, which robotvasp customers prints."`
	Delay         settings.Millis `env:"ROBOT_DELAY_MS" envDefault:"0" doc:"How long to wait before every answer, in ms."`
	Faults        FaultPlan       `env:"ROBOT_FAULTS" doc:"What goes wrong from the start, such as user:500:3,callback:slow:0:2000; times 0 is always. robotvasp faults lists the faults."`

	EnclaveURL   settings.URL    `env:"ROBOT_ENCLAVE_URL" group:"Driver" doc:"Where the robot's own enclave serves its backend, such as http://127.0.0.1:21117; unset, the robot only answers."`
	EnclaveToken settings.Secret `env:"ROBOT_ENCLAVE_TOKEN" secret:"true" doc:"The VEGA_SERVER_TOKEN of that enclave, when it has one."`
	InquireAfter settings.Millis `env:"ROBOT_INQUIRE_AFTER_MS" envDefault:"600000" doc:"How long after a verification without a report of its transaction the robot inquires by itself, six times at this distance, in ms; 0 is never."`
	DriverToken  settings.Secret `env:"ROBOT_DRIVER_TOKEN" secret:"true" doc:"When set, whoever drives the robot or looks at what it was asked must send it as Authorization: Bearer."`
}

var (
	_ settings.Checker = (*Settings)(nil)
	_ settings.Warner  = (*Settings)(nil)
)

// Check says what is wrong beyond single settings.
func (s *Settings) Check() (errs []error) {
	if (s.TLSCertFile == "") != (s.TLSKeyFile == "") {
		errs = append(errs, errors.New("ROBOT_TLS_CERT_FILE, ROBOT_TLS_KEY_FILE: set both, or none for http"))
	}
	return errs
}

// Warnings says what is allowed and seldom wise.
func (s *Settings) Warnings() (list []string) {
	if !s.Listen.Loopback() && !s.Token.IsSet() {
		list = append(list, "ROBOT_LISTEN: others than this machine can ask, and ROBOT_TOKEN is not set")
	}
	if !s.Listen.Loopback() && !s.DriverToken.IsSet() {
		list = append(list, "ROBOT_LISTEN: others than this machine can drive the robot and see what it was asked, and ROBOT_DRIVER_TOKEN is not set")
	}
	if s.EnclaveToken.IsSet() && !s.EnclaveURL.IsSet() {
		list = append(list, "ROBOT_ENCLAVE_TOKEN: is of no use without ROBOT_ENCLAVE_URL")
	}
	return list
}

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // it ran and failed
	exitConfig = 2 // it did not start: the settings or their files are wrong
)

// configError is a failure that another setting would mend.
type configError struct{ error }

// Main runs one command and returns the process's exit code. It reads no
// global state but the process's signals.
func Main(args, environ []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use: "robotvasp", Short: "A sandbox VASP backend that answers by rule",
		SilenceUsage: true, SilenceErrors: true,
	}
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(runCommand(environ), customersCommand(), faultsCommand(), healthCommand(environ))
	err := root.Execute()
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(stderr, "robotvasp: %v\n", err)
	if errors.As(err, new(configError)) {
		return exitConfig
	}
	return exitFailed
}

func runCommand(environ []string) *cobra.Command {
	const lead = "Answers an enclave as a VASP's backend, until SIGTERM or SIGINT.\n\n" +
		"POST /verify/account, /verify/user, /verify/tx and /callback are for the enclave.\n" +
		"GET /requests, /callbacks and /v1.0/seen show the last 1000 of what it sent, and\n" +
		"GET /v1.0/verifications what the robot knows of each transfer.\n\n" +
		"With ROBOT_ENCLAVE_URL it can be driven, by POST to /v1.0/action/...\n" +
		"  verifications/account  check an account of another VASP\n" +
		"  verifications          have a transfer to another VASP verified\n" +
		"  withdrawal             pretend to send it, and report it or not\n" +
		"  verifications/tx       report a transaction\n" +
		"  verifications/error    report that a transfer will never come\n" +
		"  tx/inquiry             ask another VASP for a transaction\n" +
		"  tx/status              set how far a transaction is\n" +
		"GET /v1.0/testnet/balance shows what an address has. POST and DELETE\n" +
		"/v1.0/faults let answers go wrong; see robotvasp faults. docs/robot.md has examples.\n" +
		"GET /livez, /startupz and /readyz are for probes; robotvasp healthcheck asks them."
	c := &cobra.Command{
		Use: "run", Short: "Run the robot until SIGTERM or SIGINT", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			return Run(ctx, environ, c.ErrOrStderr())
		},
	}
	c.SetHelpFunc(func(c *cobra.Command, _ []string) {
		w := c.OutOrStdout()
		fmt.Fprintf(w, "%s\n\nUsage:\n  %s\n\nSettings, from the environment:\n", lead, c.UseLine())
		_ = settings.WriteHelp(w, &Settings{})
	})
	return c
}

func customersCommand() *cobra.Command {
	return &cobra.Command{
		Use: "customers", Short: "Print the sample customers, as a file to start from", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := c.OutOrStdout().Write(sampleCustomers)
			return err
		},
	}
}

func faultsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "faults", Short: "List the faults that can be planted", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "FAULT\tFOR\tWHAT THE ROBOT DOES")
			for _, f := range catalogue {
				fmt.Fprintf(w, "%s\t%s\t%s\n", f.name, f.forAPIs(), f.what)
			}
			return w.Flush()
		},
	}
}

// Run runs one robot with the settings of environ until ctx ends, and logs to
// w. It logs "robotvasp ready" with the address it listens on.
func Run(ctx context.Context, environ []string, w io.Writer) error {
	var s Settings
	warnings, err := settings.Load(Prefix, &s, environ)
	if err != nil {
		return configError{err}
	}
	logger := slog.New(slog.NewJSONHandler(w, nil))
	for _, warning := range warnings {
		logger.Warn("settings: " + warning)
	}
	known, err := s.book()
	if err != nil {
		return configError{err}
	}
	certificates, err := s.certificates()
	if err != nil {
		return configError{err}
	}
	listener, err := net.Listen("tcp", string(s.Listen))
	if err != nil {
		return err
	}
	scheme := "http"
	if certificates != nil {
		scheme, listener = "https", tls.NewListener(listener, certificates)
	}
	own := newEnclave(s.EnclaveURL.URL(), s.EnclaveToken.Reveal())
	defer own.close()
	r := newRobot(options{
		book: known, now: time.Now, ending: ctx.Done(), delay: s.Delay.Duration(),
		tokenHeader: s.TokenHeader, token: s.Token.Reveal(), driverToken: s.DriverToken.Reveal(),
		enclave: own, inquireAfter: s.InquireAfter.Duration(), faults: &faults{list: s.Faults.list},
	})
	// Inquiries end before Run does, however serving ends.
	inquiring, stop := context.WithCancel(ctx)
	var working sync.WaitGroup
	working.Go(func() { r.inquireUntil(inquiring) })
	defer working.Wait()
	defer stop()
	logger.Info("robotvasp ready", "listen", listener.Addr().String(), "scheme", scheme, "accounts", len(known.accounts))
	return serve(ctx, listener, r.handler())
}

// serve serves until ctx ends, and then what was begun.
func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	done := make(chan error, 1)
	go func() {
		<-ctx.Done()
		ending, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		done <- server.Shutdown(ending)
	}()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-done
}

func (s *Settings) book() (*book, error) {
	if s.CustomersFile == "" {
		return parseCustomers(sampleCustomers)
	}
	text, err := os.ReadFile(s.CustomersFile)
	if err != nil {
		return nil, fmt.Errorf("ROBOT_CUSTOMERS_FILE: %w", err)
	}
	b, err := parseCustomers(text)
	if err != nil {
		return nil, fmt.Errorf("ROBOT_CUSTOMERS_FILE: %w", err)
	}
	return b, nil
}

// certificates is nil for plain http.
func (s *Settings) certificates() (*tls.Config, error) {
	if s.TLSCertFile == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(s.TLSCertFile, s.TLSKeyFile)
	if err != nil {
		return nil, fmt.Errorf("ROBOT_TLS_CERT_FILE, ROBOT_TLS_KEY_FILE: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}}, nil
}
