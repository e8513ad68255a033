package sandbox_test

import (
	"bytes"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
	"github.com/vasp-enclave/vasp-enclave/crypto/atrest"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/export"
	"github.com/vasp-enclave/vasp-enclave/storage"
	"github.com/vasp-enclave/vasp-enclave/storage/bolt"
)

// openHistory opens the history of an enclave that does not run.
func openHistory(t *testing.T, v *sandbox.VASP) *bolt.DB {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(v.EncryptionKey)
	if err != nil {
		t.Fatal(err)
	}
	kek, err := atrest.NewKEK(raw)
	if err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(bolt.Options{Path: v.Database, KEK: kek})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// fillHistory writes n verifications of the past days before the enclave's
// first start, of the size that real ones have.
func fillHistory(t *testing.T, v *sandbox.VASP, n int, newest time.Time) []uuid.UUID {
	t.Helper()
	self, err := identity.ParseVASPID(v.ID)
	if err != nil {
		t.Fatal(err)
	}
	db := openHistory(t, v)
	ids := make([]uuid.UUID, n)
	var writers sync.WaitGroup
	for w := range 64 {
		writers.Go(func() {
			for i := w; i < n; i += 64 {
				ids[i] = uuid.New()
				err := db.Apply(t.Context(), &storage.Change{Verification: &storage.Verification{
					UUID: ids[i], Originating: self, Beneficiary: 7, Sent: true, Result: storage.Verified, Reason: "OK",
					Message:   "=1+1, said the \"counterparty\"\r\n",
					Asset:     storage.Asset{Symbol: "ETH", Network: "Ethereum", Amount: "1.25"},
					IVMS101:   storage.Parts{Originator: bytes.Repeat([]byte(`{"name":"Camille Moreau"}`), 36), Beneficiary: bytes.Repeat([]byte(" "), 900)},
					CreatedAt: newest.Add(-time.Duration(i) * time.Second),
				}})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return ids
}

// G1, L4: a long history is exported while the enclave serves, checked by a
// program that knows nothing of it, and neither overwritten nor readable by
// others.
func TestAHistoryIsExported(t *testing.T) {
	rows := 2_000
	if torture() {
		rows = 100_000
	}
	a := prepare(t, sandbox.Options{})
	alpha, bravo := a.VASPs[0], a.VASPs[1]
	fillHistory(t, alpha, rows, time.Now().Add(-time.Minute))
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "export")
	begun := time.Now()
	code, said := operate(t, alpha, "history", "export", dir, "--symbol", "eth")
	took := time.Since(begun)
	if code != 0 || !strings.Contains(said, "personal data in clear") {
		t.Fatalf("export: exit %d, said %q", code, said)
	}
	t.Logf("%d verifications in %v", rows, took)
	if torture() && took > 2*time.Minute {
		t.Errorf("the export took %v", took)
	}
	if n := len(said); n > 4000 {
		t.Errorf("the export said %d bytes to a pipe", n)
	}
	// Another program, with an empty environment.
	code, fingerprint := operate(t, alpha, "identity", "show", "--json")
	var own struct{ Fingerprint string }
	if err := json.Unmarshal([]byte(fingerprint), &own); code != 0 || err != nil {
		t.Fatal(fingerprint, err)
	}
	verify := func(args ...string) (int, string) {
		return run(t, bravo.Enclave.Path, nil, append([]string{"history", "verify", dir}, args...)...)
	}
	if code, said := verify("--fingerprint", own.Fingerprint); code != 0 || !strings.Contains(said, "ok: ") {
		t.Errorf("verify: exit %d, said %q", code, said)
	}
	if code, said := verify("--fingerprint", strings.Repeat("1", 60)); code == 0 || !strings.Contains(said, "NOT a good export") {
		t.Errorf("verify with another fingerprint: exit %d, said %q", code, said)
	}
	checkExport(t, dir, rows)
	before := read(t, dir, export.CSVFile)
	if code, said := operate(t, alpha, "history", "export", dir); code == 0 || !strings.Contains(said, "there already") {
		t.Errorf("export to the same directory: exit %d, said %q", code, said)
	}
	if !bytes.Equal(before, read(t, dir, export.CSVFile)) {
		t.Error("an export was overwritten")
	}
	lines := read(t, dir, export.JSONLFile)
	if err := os.WriteFile(filepath.Join(dir, export.JSONLFile), bytes.Replace(lines, []byte("1.25"), []byte("1.26"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, said := verify(); code == 0 || !strings.Contains(said, "NOT a good export") {
		t.Errorf("verify of a changed file: exit %d, said %q", code, said)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(dir), ".export-*")); err != nil || len(left) > 0 {
		t.Errorf("there is left %v, %v", left, err)
	}
	if err := alpha.Enclave.Stop(); err != nil {
		t.Fatal(err)
	}
	db := openHistory(t, alpha)
	defer db.Close()
	log, err := db.Audit(t.Context(), 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	var exports []storage.AuditEntry
	for _, e := range log {
		if strings.HasPrefix(e.Verb, "history.export") {
			exports = append(exports, e)
		}
	}
	if len(exports) != 2 || exports[0].Object != exports[1].Object || !strings.Contains(exports[0].Reason, "uid ") || !strings.HasSuffix(exports[1].Reason, " rows") {
		t.Errorf("audit entries of the export are %+v", exports)
	}
}

func checkExport(t *testing.T, dir string, rows int) {
	t.Helper()
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory has mode %v, %v", info.Mode(), err)
	}
	for _, name := range []string{export.JSONLFile, export.CSVFile, export.ManifestFile, export.SignatureFile} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v, want mode 0600", name, info, err)
		}
	}
	if n := bytes.Count(read(t, dir, export.JSONLFile), []byte("\n")); n != rows {
		t.Errorf("%d JSON lines, want %d", n, rows)
	}
	records, err := csv.NewReader(bytes.NewReader(read(t, dir, export.CSVFile))).ReadAll()
	if err != nil || len(records) != rows+1 {
		t.Fatalf("%d CSV records, %v, want %d and the header", len(records), err, rows)
	}
	if got := records[1][4]; !strings.HasPrefix(got, "'=1+1") {
		t.Errorf("the message is the cell %q", got)
	}
	last := ""
	for _, r := range records[1:] {
		if at := r[len(r)-1]; at < last {
			t.Fatalf("%s comes after %s", at, last)
		} else {
			last = at
		}
	}
}

// On a terminal an export has a progress bar.
func TestAnExportOnATerminalShowsABar(t *testing.T) {
	script, err := exec.LookPath("script")
	if err != nil {
		t.Fatalf("script (util-linux) makes the terminal: %v", err)
	}
	a := prepare(t, sandbox.Options{})
	fillHistory(t, a.VASPs[0], 500, time.Now().Add(-time.Minute))
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "export")
	v := a.VASPs[0]
	env := append([]string{"PATH=" + os.Getenv("PATH"), "SHELL=/bin/sh"}, v.Enclave.Env...)
	code, said := run(t, script, env, "-qec", v.Enclave.Path+" history export "+dir, "/dev/null")
	if code != 0 || !strings.Contains(said, "\r[##############################] 100 %  500 of 500") {
		t.Errorf("exit %d, said %q", code, said)
	}
}

// A hold keeps a verification, an operator erases another, with a proof, and
// old ones are erased by age; what is held stays.
func TestVerificationsAreHeldAndErased(t *testing.T) {
	a := prepare(t, sandbox.Options{Enclave: []string{"VEGA_VERIFICATION_RETENTION_DAYS=30"}})
	alpha, bravo := a.VASPs[0], a.VASPs[1]
	old := fillHistory(t, alpha, 20, time.Now().AddDate(0, -6, 0))
	young := fillHistory(t, alpha, 5, time.Now().Add(-time.Hour))
	alpha.Enclave.Env = append(alpha.Enclave.Env, "VEGA_VERIFICATION_RETENTION_DAYS=")
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	say := func(wantCode int, want string, args ...string) string {
		t.Helper()
		code, said := operate(t, alpha, append([]string{"history"}, args...)...)
		if (code == 0) != (wantCode == 0) || !strings.Contains(said, want) {
			t.Errorf("history %v: exit %d, said %q, want %q", args, code, said, want)
		}
		return said
	}
	say(0, "20 of 25 verifications", "list")
	if said := say(0, young[0].String(), "list", "--rows", "100", "--from", time.Now().AddDate(0, 0, -1).Format(time.DateOnly), "--json"); strings.Contains(said, "Camille") {
		t.Errorf("list shows personal data: %s", said)
	}
	say(0, "Camille Moreau", "show", young[0].String())
	say(1, "is not found", "show", uuid.NewString())
	say(1, "reason must be a code", "hold", old[0].String())
	say(1, "give the UUID of a verification, or --period", "hold", "--reason", "CASE-7")
	say(0, old[0].String(), "hold", old[0].String(), "--reason", "CASE-7")
	say(1, "legal hold keeps", "erase", old[0].String(), "--reason", "GDPR-17")
	say(1, "must not tell of a person", "erase", young[0].String(), "--reason", "Camille asked for it")
	if said := say(0, "was erased", "erase", young[0].String(), "--reason", "GDPR-17"); !strings.Contains(said, "GDPR-17 sha256:") {
		t.Errorf("erase says no proof: %q", said)
	}
	say(1, "is not found", "erase", young[0].String(), "--reason", "GDPR-17")
	day := time.Now().Format(time.DateOnly)
	say(0, "all from", "hold", "--period", day, "--reason", "CASE-8")
	say(1, "legal hold keeps", "erase", young[1].String(), "--reason", "GDPR-17")
	say(0, "CASE-7", "release", "--period", day)
	say(1, "no such hold", "release", "--period", day)
	if err := alpha.Enclave.Stop(); err != nil {
		t.Fatal(err)
	}
	alpha.Enclave.Env = append(alpha.Enclave.Env, "VEGA_VERIFICATION_RETENTION_DAYS=30")
	if err := alpha.Enclave.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "old verifications are erased", func() bool {
		_, said := operate(t, alpha, "history", "list")
		return strings.Contains(said, "5 of 5 verifications")
	})
	say(0, "Camille Moreau", "show", old[0].String())
	if got := sample(metrics(t, alpha.Metrics), "enclave_retention_erased_total"); got != "19" {
		t.Errorf("enclave_retention_erased_total is %s, want 19", got)
	}
	// It goes on as ever, and the audit log holds.
	accepted, err := alpha.Verify(t.Context(), sandbox.Request(bravo.ID))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := alpha.AwaitCallback(t.Context(), accepted.VerificationUUID); err != nil {
		t.Error(err)
	}
	if err := alpha.Enclave.Stop(); err != nil {
		t.Fatal(err)
	}
	db := openHistory(t, alpha)
	defer db.Close()
	if err := db.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
	verbs := map[string]int{}
	log, err := db.Audit(t.Context(), 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range log {
		verbs[e.Verb]++
		if strings.Contains(e.Reason, "Camille") {
			t.Errorf("an audit entry tells of a person: %+v", e)
		}
	}
	for verb, want := range map[string]int{"history.hold": 2, "history.release": 1, "history.erase": 1, "history.erase-old": 1, "history.show": 2} {
		if verbs[verb] != want {
			t.Errorf("%d audit entries %s, want %d: %v", verbs[verb], verb, want, verbs)
		}
	}
}
