package sandbox_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
)

const (
	rulesFile      = "../../deploy/prometheus/rules.yaml"
	ruleTestsFiles = "../../deploy/prometheus/rules*_test.yaml"
	dashboards     = "../../deploy/grafana/*.json"
	runbooks       = "../../docs/runbooks"
	runbooksOnline = "https://github.com/vasp-enclave/vasp-enclave/blob/main/docs/runbooks/"
)

// rule is an alerting or a recording rule.
type rule struct {
	Alert, Record, Expr, For string
	Labels, Annotations      map[string]string
}

func readRules(t *testing.T) (all []rule) {
	t.Helper()
	var file struct{ Groups []struct{ Rules []rule } }
	if err := yaml.Unmarshal(read(t, rulesFile), &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// promtool runs Prometheus's own judge.
func promtool(t *testing.T, stdin io.Reader, args ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "promtool", args...)
	command.Stdin = stdin
	if out, err := command.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 && args[1] == "metrics" {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// The rules are Prometheus's, each alert is tested both ways, and has its page
// with commands that there are.
func TestRules(t *testing.T) {
	promtool(t, nil, "check", "rules", rulesFile)
	type ruleTests struct {
		Tests []struct {
			AlertRuleTest []struct {
				Alertname string            `json:"alertname"`
				ExpAlerts []json.RawMessage `json:"exp_alerts"`
			} `json:"alert_rule_test"`
		}
	}
	fires, quiet := map[string]bool{}, map[string]bool{}
	files, err := filepath.Glob(ruleTestsFiles)
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		promtool(t, nil, "test", "rules", name)
		var file ruleTests
		if err := yaml.Unmarshal(read(t, name), &file); err != nil {
			t.Fatal(err)
		}
		for _, test := range file.Tests {
			for _, c := range test.AlertRuleTest {
				if len(c.ExpAlerts) > 0 {
					fires[c.Alertname] = true
				} else {
					quiet[c.Alertname] = true
				}
			}
		}
	}
	pages, err := filepath.Glob(runbooks + "/[CE]*.md") // not the README
	if err != nil {
		t.Fatal(err)
	}
	alerts := 0
	for _, r := range readRules(t) {
		if r.Alert == "" {
			continue
		}
		alerts++
		if !fires[r.Alert] || !quiet[r.Alert] {
			t.Errorf("%s: fires in a test: %t, is quiet in a test: %t", r.Alert, fires[r.Alert], quiet[r.Alert])
		}
		if !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s has no severity, summary or description", r.Alert)
		}
		page := filepath.Join(runbooks, r.Alert+".md")
		if r.Annotations["runbook_url"] != runbooksOnline+r.Alert+".md" || !slices.Contains(pages, page) {
			t.Errorf("%s leads to no page: %s", r.Alert, r.Annotations["runbook_url"])
			continue
		}
		pages = slices.DeleteFunc(pages, func(p string) bool { return p == page })
		if text := string(read(t, page)); !strings.Contains(text, "`"+r.Expr+"`") {
			t.Errorf("%s has another rule than %s", page, r.Expr)
		}
	}
	if len(pages) > 0 {
		t.Errorf("pages of no alert: %q", pages)
	}
	t.Logf("%d alerts, each tested both ways", alerts)
}

var mentioned = regexp.MustCompile("`(enclave|central) ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?[^`]*`")

// What the handbook says an alert is on has one.
func TestEveryMarkOfAnAlertHasARule(t *testing.T) {
	var all strings.Builder
	for _, r := range readRules(t) {
		all.WriteString(r.Expr + "\n")
	}
	marks := 0
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)`.*\\*\\*Alert\\*\\*").FindAllStringSubmatch(string(read(t, "../../docs/operations/watching.md")), -1) {
		marks++
		if !strings.Contains(all.String(), row[1]) {
			t.Errorf("%s is marked, and no rule asks for it", row[1])
		}
	}
	if marks < 25 {
		t.Errorf("only %d marks", marks)
	}
}

// Every command that a page names is one.
func TestRunbooksNameCommandsThatThereAre(t *testing.T) {
	a := prepare(t, sandbox.Options{})
	programs := map[string]string{"enclave": a.VASPs[0].Enclave.Path, "central": a.Central.Path}
	pages, err := filepath.Glob(runbooks + "/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	named := map[string]bool{}
	for _, page := range pages {
		for _, m := range mentioned.FindAllStringSubmatch(string(read(t, page)), -1) {
			named[strings.TrimSpace(m[1]+" "+m[2]+" "+m[3])] = true
		}
	}
	for command := range named {
		words := strings.Fields(command)
		code, said := run(t, programs[words[0]], []string{}, append(words[1:], "--help")...)
		if code != 0 || strings.Contains(said, "unknown command") || len(words) == 3 && !strings.Contains(said, strings.Join(words, " ")) {
			t.Errorf("%s: exit %d, %.200s", command, code, said)
		}
	}
	t.Logf("%d commands", len(named))
}

// expressions are all that dashboards and rules ask of Prometheus.
func expressions(t *testing.T) (all []string) {
	t.Helper()
	for _, r := range readRules(t) {
		all = append(all, r.Expr)
	}
	files, err := filepath.Glob(dashboards)
	if err != nil || len(files) != 2 {
		t.Fatalf("%d dashboards, %v", len(files), err)
	}
	for _, file := range files {
		var board struct {
			Title, UID string
			Panels     []struct {
				Type, Title string
				Datasource  struct{ UID string }
				Targets     []struct{ Expr string }
			}
		}
		if err := json.Unmarshal(read(t, file), &board); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, p := range board.Panels {
			if p.Type != "row" && (p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 || p.Title == "") {
				t.Errorf("%s: panel %q asks %q and %d things", file, p.Title, p.Datasource.UID, len(p.Targets))
			}
			for _, target := range p.Targets {
				all = append(all, strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*").Replace(target.Expr))
			}
		}
	}
	return all
}

var (
	selector = regexp.MustCompile(`\b([a-z][a-z0-9_:]*)\{([^}]+)\}`)
	matcher  = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)\s*"[^"]*"`)
)

var metricName = regexp.MustCompile(`\b(?:enclave|central|process|go)[_:][a-zA-Z0-9_:]+|\bup\b`)

// A real Prometheus that scrapes a pair of enclaves at work, and central, knows
// every series that a dashboard or a rule names, and takes every expression.
func TestPrometheusSeesWhatDashboardsName(t *testing.T) {
	a := prepare(t, sandbox.Options{ACME: pebbleProgram(t)})
	witness := t.TempDir()
	v := a.VASPs[0]
	v.Enclave.Env = append(v.Enclave.Env, "VEGA_DATABASE_ANCHOR_FILE="+witness+"/anchor", "VEGA_AUDIT_SINKS=file:"+witness+"/audit.jsonl",
		"VEGA_VERIFICATION_RETENTION_DAYS=30", "VEGA_METRICS_VASP_LABELS=true", "VEGA_REDIS_URL=unix://"+startRedis(t, t.TempDir()).socket)
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{a.VASPs[0].Metrics, a.VASPs[1].Metrics, a.CentralMetrics} {
		promtool(t, strings.NewReader(metrics(t, url)), "check", "metrics")
	}
	p := startPrometheus(t, a)
	var ids []string
	for range 5 {
		accepted, err := v.Verify(t.Context(), sandbox.Request(a.VASPs[1].ID))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, accepted.VerificationUUID)
		time.Sleep(time.Second) // a rate needs two scrapes
	}
	finish(t, a, ids)
	if code, said := operate(t, a.VASPs[1], "identity", "rotate"); code != 0 { // which is nothing to be alarmed at
		t.Fatalf("identity rotate: exit %d, said %q", code, said)
	}
	accepted, err := v.Verify(t.Context(), sandbox.Request(a.VASPs[1].ID))
	if err != nil {
		t.Fatal(err)
	}
	finish(t, a, []string{accepted.VerificationUUID})
	isReference(t, metrics(t, v.Metrics)+metrics(t, a.VASPs[1].Metrics)+metrics(t, a.CentralMetrics))
	names := map[string]bool{}
	for _, e := range expressions(t) {
		p.query(e)
		for _, name := range metricName.FindAllString(e, -1) {
			names[name] = true
		}
	}
	for name := range names {
		eventually(t, time.Minute, "there is a series "+name, func() bool { return p.query(name) > 0 })
	}
	eventually(t, time.Minute, "verifications are counted", func() bool {
		return p.query(`enclave_verifications_total{direction="sent",result="VERIFIED"} >= 5`) > 0
	})
	eventually(t, time.Minute, "exchanges are counted by counterparty, where asked for", func() bool {
		return p.query(`enclave_peer_exchanges_total{vasp="`+a.VASPs[1].ID+`",outcome="ok"} > 0`) > 0
	})
	if p.query(`enclave_peer_exchanges_total{vasp="`+v.ID+`"}`) != 0 {
		t.Error("an enclave that was not asked to names its counterparties")
	}
	labelled := 0
	for _, e := range expressions(t) { // with the labels that rules and dashboards choose by
		for _, s := range selector.FindAllStringSubmatch(e, -1) {
			labelled++
			if has := s[1] + "{" + matcher.ReplaceAllString(s[2], `$1!=""`) + "}"; p.query(has) == 0 {
				t.Errorf("no series has the labels of %s", s[0])
			}
		}
	}
	for _, alert := range p.alerts() {
		t.Errorf("all is well, and %s", alert)
	}
	t.Logf("%d series names, %d selections by label, %d expressions", len(names), labelled, len(expressions(t)))
}

// isReference wants the handbook's tables to name what the programs show, no more
// and no less.
func isReference(t *testing.T, pages string) {
	t.Helper()
	shown, told := map[string]bool{}, map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE ((?:enclave|central)_\S+)`).FindAllStringSubmatch(pages, -1) {
		shown[m[1]] = true
	}
	handbook := string(read(t, "../../docs/operations/watching.md"))
	for _, row := range regexp.MustCompile("(?m)^\\| (`(?:enclave|central)_[^|]*) \\|").FindAllStringSubmatch(handbook, -1) {
		for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(row[1], -1) {
			told[m[1]] = true
		}
	}
	both := map[string]bool{"config_last_reload_successful": true, "config_last_reload_success_timestamp_seconds": true} // told of both programs at once
	for name := range shown {
		_, own, _ := strings.Cut(name, "_")
		if !told[name] && !both[own] {
			t.Errorf("%s has no row in the handbook", name)
		}
	}
	for name := range told {
		if !shown[name] && name != "enclave_key_requests_total" && !strings.HasPrefix(name, "enclave_sealed") {
			t.Errorf("the handbook has a row for %s, which nobody shows", name)
		}
	}
	if len(shown) < 90 {
		t.Errorf("only %d metrics", len(shown))
	}
}

type prometheus struct {
	t   *testing.T
	url string
}

// startPrometheus scrapes an alliance each second.
func startPrometheus(t *testing.T, a *sandbox.Alliance) *prometheus {
	t.Helper()
	dir := t.TempDir()
	rules, err := filepath.Abs(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	target := func(u string) string { return strings.TrimPrefix(u, "http://") }
	config := fmt.Sprintf(`global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [%q]
scrape_configs:
  - {job_name: enclave, static_configs: [{targets: [%q, %q]}]}
  - {job_name: central, static_configs: [{targets: [%q]}]}
`, rules, target(a.VASPs[0].Metrics), target(a.VASPs[1].Metrics), target(a.CentralMetrics))
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.%d.%d.%d:9090", 100+rand.IntN(100), rand.IntN(256), 1+rand.IntN(254)) // nobody else's
	var log bytes.Buffer
	command := exec.Command("prometheus", "--config.file="+file, "--storage.tsdb.path="+dir+"/data", "--web.listen-address="+address, "--log.level=warn")
	command.Stderr = &log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		_ = command.Wait()
		if t.Failed() {
			t.Logf("Prometheus: %s", log.String())
		}
	})
	p := &prometheus{t: t, url: "http://" + address}
	eventually(t, time.Minute, "Prometheus is ready", func() bool {
		r, err := http.Get(p.url + "/-/ready")
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
	return p
}

// alerts are those that wait or fire.
func (p *prometheus) alerts() (names []string) {
	p.t.Helper()
	r, err := http.Get(p.url + "/api/v1/alerts")
	if err != nil {
		p.t.Fatal(err)
	}
	defer r.Body.Close()
	var answer struct {
		Data struct {
			Alerts []struct{ Labels map[string]string }
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&answer); err != nil {
		p.t.Fatal(err)
	}
	for _, a := range answer.Data.Alerts {
		names = append(names, fmt.Sprint(a.Labels))
	}
	return names
}

// query gives how many series the answer has.
func (p *prometheus) query(expr string) int {
	p.t.Helper()
	r, err := http.Get(p.url + "/api/v1/query?" + url.Values{"query": {expr}}.Encode())
	if err != nil {
		p.t.Fatal(err)
	}
	defer r.Body.Close()
	var answer struct {
		Status, Error string
		Data          struct{ Result []json.RawMessage }
	}
	if err := json.NewDecoder(r.Body).Decode(&answer); err != nil || answer.Status != "success" {
		p.t.Fatalf("%s: %v %s", expr, err, answer.Error)
	}
	return len(answer.Data.Result)
}
