package enclavecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
)

func demoCommand() *cobra.Command {
	var keep, own bool
	var dir, acme string
	c := &cobra.Command{
		Use: "demo", Short: "Run a whole alliance on this machine and show one verification, step by step", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
			defer stop()
			err := demo(ctx, c.OutOrStdout(), dir, acme, keep, own)
			if errors.Is(err, context.Canceled) {
				return errors.New("interrupted; everything was stopped")
			}
			return err
		},
	}
	c.Flags().BoolVar(&keep, "keep", false, "leave everything running until Ctrl-C, and print curl lines to play on")
	c.Flags().BoolVar(&own, "own-backend", false, "with --keep, make room for a backend of your own in the receiver's place")
	c.Flags().StringVar(&acme, "acme", "", "path of Pebble, a certificate authority for tests: the enclaves get their certificates from it")
	c.Flags().StringVar(&dir, "dir", "", "keep the files in this directory (default: a temporary one, removed at the end)")
	return c
}

func demo(ctx context.Context, w io.Writer, dir, acme string, keep, own bool) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	binaries, err := sandbox.BinariesIn(filepath.Dir(self))
	if err != nil {
		return err
	}
	kept := dir != ""
	if !kept {
		if dir, err = os.MkdirTemp("", "vasp-enclave-demo-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	alliance, err := sandbox.New(dir, binaries, sandbox.Options{Record: true, PreferUsualPorts: true, ACME: acme})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, alliance.Stop()) }()
	s := &story{w: w, ctx: ctx, alliance: alliance, sender: alliance.VASPs[0], receiver: alliance.VASPs[1]}
	if err := s.tell(); err != nil {
		return err
	}
	if !keep {
		return nil
	}
	s.playOn(self, kept)
	if own {
		if err := s.makeRoom(); err != nil {
			return err
		}
	}
	<-ctx.Done()
	fmt.Fprintln(w, "\nStopping everything.")
	return nil
}

// story tells one verification to a person who has never heard of the Travel
// Rule. Everything it prints was read from the running parties.
type story struct {
	w                io.Writer
	ctx              context.Context
	alliance         *sandbox.Alliance
	sender, receiver *sandbox.VASP
}

func (s *story) say(format string, args ...any) { fmt.Fprintf(s.w, format+"\n", args...) }

// step prints a heading of the end-to-end flow.
func (s *story) step(number, title string) { s.say("\n%s  %s", number, title) }

// show prints a text indented, long lines as they are.
func (s *story) show(label, text string) { s.say("     %s\n       %s", label, text) }

func (s *story) tell() error {
	s.say(`The Travel Rule in one minute

  Before crypto moves from one exchange to another, the law wants the sending exchange to tell
  the receiving one who sends and who receives, and to hear whether that customer is theirs.
  Exchanges are called VASPs. Names are private: only the two VASPs may read them.

      %-43s %s
      backend <--> ENCLAVE <==sealed==> central <==sealed==> ENCLAVE <--> backend
                  %-9s            %-9s           %-9s
      plain JSON on one machine     reads nothing    plain JSON on one machine`,
		s.sender.Name, s.receiver.Name, s.sender.Address, "127.0.0.4", s.receiver.Address)
	s.say("\nStarting five programs, each on an address of its own, with real TLS and real files in\n  %s", s.alliance.Dir)
	start := time.Now()
	if err := s.alliance.Start(s.ctx); err != nil {
		return err
	}
	s.say("  central, two enclaves and two backends are up after %s", time.Since(start).Round(time.Millisecond))
	if authority := s.alliance.Authority; authority != nil {
		s.say("  the enclaves have got their certificates from %s by themselves, past their own allowlists", authority.Directory)
	}
	if err := s.verified(); err != nil {
		return err
	}
	if err := s.denied(); err != nil {
		return err
	}
	s.say("\nDone. Two transfers were judged before any coin moved; central saw sealed bytes only.")
	return nil
}

// verified is a transfer to a customer the receiver has.
func (s *story) verified() error {
	request := sandbox.Request(s.receiver.ID)
	s.say("\n== A transfer to a customer of %s ==", s.receiver.Name)
	s.step("1", fmt.Sprintf("%s's backend asks its own enclave, in plain JSON on this machine", s.sender.Name))
	s.show("POST "+s.sender.API+"/v1/verifications", string(request))
	accepted, err := s.sender.Verify(s.ctx, request)
	if err != nil {
		return err
	}
	s.show("200, at once: the request is safe on disk, the answer will follow", fmt.Sprintf(`{"verificationUuid":%q,"createdAt":%q}`, accepted.VerificationUUID, accepted.CreatedAt))
	row, callback, err := s.await(accepted.VerificationUUID)
	if err != nil {
		return err
	}
	relayed, err := s.alliance.Relayed()
	if err != nil {
		return err
	}
	if err := s.relayedSteps(relayed, sandbox.PersonalData); err != nil {
		return err
	}
	return s.outcome(accepted.VerificationUUID, row, callback)
}

// relayedSteps shows what central relayed: the key's journey and the sealed
// question and answer.
func (s *story) relayedSteps(relayed []sandbox.Relayed, names []string) error {
	key, sealed := sandbox.FirstKeyExchange(relayed), sandbox.LastVerification(relayed)
	if key == nil || sealed == nil {
		return errors.New("central did not relay a key request and a verification")
	}
	s.step("2", fmt.Sprintf("%s's enclave asks %s's enclave for its public key, through central", s.sender.Name, s.receiver.Name))
	s.show("what central sees", key.Question.Describe())
	s.step("3", fmt.Sprintf("%s's enclave makes a key if it has none, and returns the public half, signed", s.receiver.Name))
	s.show("what central sees", key.Answer.Describe())
	s.say("     %s's enclave checks the signature against the identity it has pinned for %s:\n     central cannot slip in a key of its own.", s.sender.Name, s.receiver.Name)
	s.step("4", fmt.Sprintf("%s's enclave seals the names to that key (X-Wing: post-quantum and classical), and signs", s.sender.Name))
	s.show("the sealed message", sealed.Question.Describe())
	s.step("5", "central relays the bytes; this is all it ever holds")
	s.show(fmt.Sprintf("%d bytes, beginning with", len(sealed.Question.Bytes)), sandbox.HexDump(sealed.Question.Bytes, 48))
	if err := s.searched("names, addresses and birth dates looked for in everything central relayed", relayed, names); err != nil {
		return err
	}
	asked, err := s.receiver.LastAsked(s.ctx, "/verify/user")
	if err != nil {
		return err
	}
	s.step("6", fmt.Sprintf("%s's enclave opens it with its private key and asks its own backend", s.receiver.Name))
	s.show(asked.Method+" "+asked.Path+"   with the header "+asked.Header, asked.Body)
	s.say("     The answer is sealed to %s's key, which came inside the sealed question.", s.sender.Name)
	s.step("7", "central relays the sealed answer")
	s.show(fmt.Sprintf("%d bytes, beginning with", len(sealed.Answer.Bytes)), sandbox.HexDump(sealed.Answer.Bytes, 48))
	return nil
}

func (s *story) searched(what string, relayed []sandbox.Relayed, names []string) error {
	found, size := sandbox.Search(relayed, names)
	if len(found) > 0 {
		return fmt.Errorf("central relayed personal data in clear: %d of %d names", len(found), len(names))
	}
	s.show(what, fmt.Sprintf("0 of %d found in %d bytes (plain, hex, base64)", len(names), size))
	return nil
}

// outcome shows what the sender's side has at the end.
func (s *story) outcome(id string, row *sandbox.Row, callback string) error {
	s.step("8", fmt.Sprintf("%s's enclave opens the answer, keeps it encrypted, and calls its backend back", s.sender.Name))
	s.show("POST "+s.sender.RobotURL+"/callback", callback)
	stored, err := storedRow(s.sender.Database, id)
	if err != nil {
		return err
	}
	s.show("the row in "+filepath.Base(s.sender.Database)+" as stored: id, time and state in clear, the rest sealed",
		fmt.Sprintf("%s ... (%d bytes)", sandbox.HexDump(stored, 48), len(stored)))
	s.show("the same row as the enclave reads it: GET /v1/verifications/"+id,
		fmt.Sprintf(`{"result":%q,"reason":%q,"beneficiaryAccountNumber":%q,"ivms101Beneficiary":%q, ...}`, row.Result, row.Reason, row.BeneficiaryAccount, row.Beneficiary))
	if row.Result != "VERIFIED" {
		return fmt.Errorf("the verification ended as %s/%s", row.Result, row.Reason)
	}
	s.say("\n  => VERIFIED: %s may send the coins.", s.sender.Name)
	return s.reported(id)
}

// reported is what happens once the coins have moved.
func (s *story) reported(id string) error {
	report := fmt.Sprintf(`{"verificationUuid":%q,"txHash":"0x9fc76417374aa880d4449a1f7f31ec597f00b1f6f3dd2d66f4c9c6c445836d8b"}`, id)
	s.step("9", fmt.Sprintf("The coins have moved: %s's backend says in which transaction", s.sender.Name))
	s.show("POST "+s.sender.API+"/v1/verifications/tx", report)
	if err := s.sender.ReportTransaction(s.ctx, []byte(report)); err != nil {
		return err
	}
	told, err := s.receiver.AwaitCallback(s.ctx, id)
	if err != nil {
		return err
	}
	s.show(fmt.Sprintf("sealed, through central; then %s's enclave calls its backend back, which can tell the deposit by it", s.receiver.Name), told)
	return nil
}

// denied is a transfer to an account nobody has.
func (s *story) denied() error {
	s.say("\n== A transfer to an address that %s does not know ==", s.receiver.Name)
	accepted, err := s.sender.Verify(s.ctx, sandbox.RequestFor(s.receiver.ID, "0x000000000000000000000000000000000000dEaD"))
	if err != nil {
		return err
	}
	row, callback, err := s.await(accepted.VerificationUUID)
	if err != nil {
		return err
	}
	s.show("callback to "+s.sender.Name+"'s backend", callback)
	if row.Result != "DENIED" {
		return fmt.Errorf("the verification ended as %s/%s", row.Result, row.Reason)
	}
	s.say("\n  => DENIED (%s): %s stops the withdrawal before the coins are lost.", row.Reason, s.sender.Name)
	return nil
}

// await waits for the final state and its callback.
func (s *story) await(id string) (*sandbox.Row, string, error) {
	callback, err := s.sender.AwaitCallback(s.ctx, id)
	if err != nil {
		return nil, "", err
	}
	row, err := s.sender.Row(s.ctx, id)
	return row, callback, err
}

// playOn says what can be typed while all runs: self is this program, and kept
// tells whether the files stay at the end.
func (s *story) playOn(self string, kept bool) {
	files := "until the end"
	if kept {
		files = "which stay"
	}
	s.say(`
Everything keeps running until Ctrl-C. Play on, as %s's backend:

  curl -s %[2]s/v1/vasps
  curl -s %[2]s/v1/verifications/account -d '{"keyType":"PerVasp","beneficiaryVaspId":"%[3]s","symbol":"ETH","payload":{"version":"1.0","ivms101":{"beneficiary":{"accountNumber":["%[4]s"]}}}}'
  curl -s %[2]s/v1/verifications -d '%[5]s'
  curl -s '%[2]s/v1/verifications?rpp=5'
  id=$(curl -s '%[2]s/v1/verifications?result=VERIFIED&rpp=1' | grep -o '"verificationUuid":"[^"]*"' | cut -d '"' -f 4); curl -s %[2]s/v1/verifications/tx -d "{\"verificationUuid\":\"$id\",\"txHash\":\"0xabc\"}"
  curl -s %[2]s/openapi.json | grep operationId     # what there is to call
  curl -s %[6]s/metrics | grep ^enclave_
  curl -s %[7]s/requests        # what %[8]s's backend was asked
  curl -s %[10]s/callbacks       # what %[1]s's backend was told
  curl -s %[7]s/v1.0/action/verifications -d '{"beneficiaryVaspId":"%[11]s","address":"%[4]s","amount":"2.5"}'     # %[8]s's backend sends to you

As its operator:

  VEGA_OPERATOR_SOCKET=%[12]s %[13]s peers list

What a backend does, step by step: docs/integrate.md. What the pretended ones can be made to do: docs/robot.md.

Files and logs, %[14]s: %[9]s`,
		s.sender.Name, s.sender.API, s.receiver.ID, sandbox.Account, sandbox.Request(s.receiver.ID),
		s.sender.Metrics, s.receiver.RobotURL, s.receiver.Name, s.alliance.Dir, s.sender.RobotURL,
		s.sender.ID, s.sender.OperatorSocket, self, files)
}

// makeRoom ends the receiver's pretended backend, and says how another one
// takes its place.
func (s *story) makeRoom() error {
	if err := s.receiver.Robot.Stop(); err != nil {
		return err
	}
	s.say(`
%s's backend has ended. Put yours in its place, or the example:

  BACKEND_LISTEN=%s BACKEND_TOKEN_FILE=%s BACKEND_ENCLAVE=%s go run -C deploy/examples/backend .`,
		s.receiver.Name, strings.TrimPrefix(s.receiver.RobotURL, "http://"), s.receiver.TokenFile, s.receiver.API)
	return nil
}
