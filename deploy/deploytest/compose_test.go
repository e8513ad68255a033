package deploytest

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

// project reads compose.yaml as Docker does: the schema, then the types.
func project(t *testing.T, content []byte) (*types.Project, error) {
	t.Helper()
	dir, err := filepath.Abs(deploy)
	if err != nil {
		t.Fatal(err)
	}
	return loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir: dir, ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(dir, "compose.yaml"), Content: content}},
		Environment: types.Mapping{"VERSION": "v1"},
	}, func(o *loader.Options) { o.SetProjectName("vasp-sandbox", true) })
}

// The alliance of compose.yaml: every service locked down alike, every variable
// one of its program, every file a secret that compose-secrets makes, and every
// address the one that the others expect. The programs themselves say that they
// would start so.
func TestCompose(t *testing.T) {
	content, err := os.ReadFile(deploy + "/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p, err := project(t, content)
	if err != nil {
		t.Fatal(err)
	}
	secrets := makeSecrets(t, filepath.Join(t.TempDir(), "secrets"))
	want := map[string]string{"central": "central", "alpha": "enclave", "bravo": "enclave", "alpha-robot": "robotvasp", "bravo-robot": "robotvasp"}
	if got := slices.Sorted(maps.Keys(p.Services)); !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
		t.Fatalf("services %q", got)
	}
	for name, s := range p.Services {
		t.Run(name, func(t *testing.T) {
			program := want[name]
			checkContainer(t, program, s)
			env, files := map[string]string{}, map[string]string{}
			for variable, value := range s.Environment {
				env[variable] = *value
			}
			for _, secret := range s.Secrets {
				source := p.Secrets[secret.Source]
				if filepath.Dir(source.File) != filepath.Join(p.WorkingDir, "secrets") {
					t.Errorf("secret %s is %s, which compose-secrets does not make", secret.Source, source.File)
				}
				target := secretTarget(secret)
				text, ok := secrets[filepath.Base(source.File)]
				if !ok {
					t.Errorf("compose-secrets makes no %s", source.File)
				}
				files[target] = text
			}
			checkSettings(t, program, env)
			if program == "robotvasp" {
				checkRobot(t, env, files)
				return
			}
			checkConfig(t, program, env, files, name+".example")
			volume := map[string]string{"central": env["CENTRAL_STATE_FILE"], "enclave": env["VEGA_DATABASE_FILE"]}[program]
			if len(s.Volumes) != 1 || s.Volumes[0].Type != types.VolumeTypeVolume || s.Volumes[0].Target != path.Dir(volume) {
				t.Errorf("%s is not on the one volume: %+v", volume, s.Volumes)
			}
			if _, ok := p.Volumes[s.Volumes[0].Source]; !ok || s.Volumes[0].Source == "" {
				t.Errorf("volume %q has no name", s.Volumes[0].Source)
			}
		})
	}
	checkAddresses(t, p, secrets["members.yaml"])
}

// secretTarget is where a container finds a secret.
func secretTarget(s types.ServiceSecretConfig) string {
	target := s.Target
	if target == "" {
		target = s.Source
	}
	if !path.IsAbs(target) {
		target = "/run/secrets/" + target
	}
	return target
}

func checkContainer(t *testing.T, program string, s types.ServiceConfig) {
	t.Helper()
	if s.User != "65532:65532" || !s.ReadOnly || s.Privileged || !slices.Equal(s.CapDrop, []string{"ALL"}) || len(s.CapAdd) > 0 || !slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) {
		t.Errorf("it is not locked down: %q %t %q %q", s.User, s.ReadOnly, s.CapDrop, s.SecurityOpt)
	}
	images := map[string]string{"enclave": "vasp-enclave:v1", "central": "vasp-central:v1", "robotvasp": "robotvasp:v1"}
	if s.Image != images[program] || s.PullPolicy != types.PullPolicyNever {
		t.Errorf("image %s, pulled %s", s.Image, s.PullPolicy)
	}
	if s.StopGracePeriod == nil || time.Duration(*s.StopGracePeriod) <= 12*time.Second {
		t.Errorf("killed after %v; stopping takes 12 s", s.StopGracePeriod)
	}
	if h := s.HealthCheck; h == nil || !slices.Equal(h.Test, []string{"CMD", "/usr/local/bin/" + program, "healthcheck"}) || h.Interval == nil || time.Duration(*h.Interval) > 5*time.Second {
		t.Errorf("it is not asked how it is, soon: %+v", h)
	}
	for on, d := range s.DependsOn {
		if d.Condition != types.ServiceConditionHealthy {
			t.Errorf("it waits until %s has %s", on, d.Condition)
		}
	}
	for _, port := range s.Ports {
		if port.HostIP != "127.0.0.1" {
			t.Errorf("port %s is open to other machines", port.Published)
		}
	}
}

// checkRobot starts a robot with a service's settings until it listens: it has
// no check-config.
func checkRobot(t *testing.T, env, files map[string]string) {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command(filepath.Join(programs, "robotvasp"), "run")
	for name, value := range env {
		if content, ok := files[value]; ok {
			value = filepath.Join(dir, filepath.Base(value))
			write(t, value, content)
		} else if strings.HasPrefix(value, "/") {
			t.Errorf("%s is %s, and nothing is mounted there", name, value)
		}
		if name == "ROBOT_LISTEN" {
			value = "127.0.0.1:0"
		}
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	out := &watched{until: []byte("127.0.0.1:"), seen: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-out.seen:
		_ = cmd.Process.Signal(os.Interrupt)
		<-ended
	case err := <-ended:
		t.Errorf("robotvasp ended: %v", err)
	case <-time.After(20 * time.Second):
		_ = cmd.Process.Kill()
		<-ended
		t.Error("robotvasp does not listen")
	}
	if t.Failed() {
		t.Logf("%s", out.text)
	}
}

// watched says when a program has written a text.
type watched struct {
	until, text []byte
	seen        chan struct{}
	closed      bool
}

func (w *watched) Write(p []byte) (int, error) {
	w.text = append(w.text, p...)
	if !w.closed && bytes.Contains(w.text, w.until) {
		w.closed = true
		close(w.seen)
	}
	return len(p), nil
}

// checkAddresses compares who is where with who lets in whom.
func checkAddresses(t *testing.T, p *types.Project, members string) {
	t.Helper()
	address := func(name string) string {
		n := p.Services[name].Networks["alliance"]
		if n == nil || n.Ipv4Address == "" || !slices.Equal(n.Aliases, []string{name + ".example"}) {
			t.Fatalf("%s has no place in the network: %+v", name, n)
		}
		return n.Ipv4Address
	}
	central := p.Services["central"].Environment
	if *central["CENTRAL_SOURCE_ADDRESS"] != address("central") {
		t.Errorf("central calls from %s and is at %s", *central["CENTRAL_SOURCE_ADDRESS"], address("central"))
	}
	for _, name := range []string{"alpha", "bravo"} {
		env := p.Services[name].Environment
		if *env["VEGA_CENTRAL_ALLOWLIST"] != address("central") {
			t.Errorf("%s lets in %s, central is at %s", name, *env["VEGA_CENTRAL_ALLOWLIST"], address("central"))
		}
		if host := hostOf(t, *env["VEGA_ENCLAVE_PUBLIC_ENDPOINT"]); host != name+".example" {
			t.Errorf("%s says that it is at %s", name, host)
		}
		for _, part := range []string{`"` + address(name) + `"`, `"` + *env["VEGA_VASP_ID"] + `"`, "accessKey: " + *env["VEGA_ALLIANCE_ACCESS_KEY"]} {
			if !strings.Contains(members, part) {
				t.Errorf("members.yaml lacks %s of %s", part, name)
			}
		}
		if robot := p.Services[name+"-robot"]; robot.NetworkMode != "service:"+name {
			t.Errorf("%s's robot is not beside it: %q", name, robot.NetworkMode)
		}
	}
}

// makeSecrets runs compose-secrets twice: the second time changes nothing.
func makeSecrets(t *testing.T, dir string) map[string]string {
	t.Helper()
	read := func() map[string]string {
		script, err := filepath.Abs(deploy + "/compose-secrets")
		if err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(script, dir).CombinedOutput(); err != nil {
			t.Fatalf("compose-secrets: %v\n%s", err, out)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		files := map[string]string{}
		for _, e := range entries {
			content, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			files[e.Name()] = string(content)
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			if mode := info.Mode().Perm(); mode != 0o644 && !(e.Name() == "authority.key" && mode == 0o600) {
				t.Errorf("%s has the mode %o", e.Name(), mode)
			}
		}
		return files
	}
	first := read()
	if second := read(); !maps.Equal(first, second) {
		t.Error("a second run makes other secrets, which open no history")
	}
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o700 {
		t.Errorf("the folder has the mode %o: others can read what is in it", info.Mode().Perm())
	}
	if first["alpha-database.key"] == first["bravo-database.key"] || first["alpha-alliance.key"] == first["bravo-alliance.key"] {
		t.Error("two VASPs have one key")
	}
	return first
}

// What is misspelt in a compose file is an error, so the test above would see
// it.
func TestComposeIsReadStrictly(t *testing.T) {
	content, err := os.ReadFile(deploy + "/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{{"read_only: true", "readonly: true"}, {"ipv4_address:", "ipv4:"}, {"alpha-history:\n", "alpha-histori:\n"}} {
		broken := bytes.Replace(content, []byte(change[0]), []byte(change[1]), 1)
		if bytes.Equal(broken, content) {
			t.Errorf("compose.yaml has no %q", change[0])
		}
		if _, err := project(t, broken); err == nil {
			t.Errorf("%q passes", change[1])
		}
	}
}
