package deploytest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The units under systemd itself, installed as docs/deploy.md says and with its
// env file: ready when they are active, reloaded, killed and started again with
// the same identity, not started again with wrong settings, and stopped
// cleanly.
func TestUnitsUnderSystemd(t *testing.T) {
	if inNamespaces(t, func(string) {}) == "" {
		return
	}
	for _, address := range []string{"172.28.5.10/32", "172.28.5.20/32"} {
		if out, err := exec.Command("ip", "address", "add", address, "dev", "lo").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	secrets := makeSecrets(t, "/run/secrets")
	env := envOfThePage(t)
	for i, line := range env {
		for name, value := range map[string]string{"VEGA_ENCLAVE_PUBLIC_ENDPOINT": "https://alpha.example:8443", "VEGA_CENTRAL_ALLOWLIST": "172.28.5.10", "VEGA_NETWORK_ID": "sandbox"} {
			if strings.HasPrefix(line, name+"=") {
				env[i] = name + "=" + value
			}
		}
	}
	env = append(env, "VEGA_API_ROOTS_FILE=/etc/enclave/authority.pem", "VEGA_PUBLIC_LISTEN=172.28.5.20:8443")
	files := map[string]string{
		"/etc/enclave/env": strings.Join(env, "\n") + "\n",
		"/etc/central/env": strings.Join([]string{
			"CENTRAL_LISTEN=172.28.5.10:8443", "CENTRAL_TLS_CERT_FILE=/etc/central/tls.crt", "CENTRAL_TLS_KEY_FILE=/etc/central/tls.key",
			"CENTRAL_ROOTS_FILE=/etc/central/authority.pem", "CENTRAL_MEMBERS_FILE=/etc/central/members.yaml",
			"CENTRAL_SOURCE_ADDRESS=172.28.5.10", "CENTRAL_UNSAFE_PRIVATE_MEMBERS=true",
		}, "\n") + "\n",
		// On one machine the enclave calls from the address that it calls.
		"/etc/central/members.yaml": strings.ReplaceAll(secrets["members.yaml"], "172.28.5.20", "172.28.5.10"),
	}
	for path, secret := range map[string]string{
		"enclave/tls.crt": "alpha.crt", "enclave/tls.key": "alpha.key", "enclave/authority.pem": "authority.pem", "enclave/backend.token": "alpha-backend.token",
		"enclave/database.key": "alpha-database.key", "enclave/alliance.key": "alpha-alliance.key",
		"central/tls.crt": "central.crt", "central/tls.key": "central.key", "central/authority.pem": "authority.pem",
		"central/alpha-alliance.key": "alpha-alliance.key", "central/bravo-alliance.key": "bravo-alliance.key",
	} {
		files["/etc/"+path] = secrets[secret]
	}
	for _, program := range []string{"enclave", "central"} {
		files["/etc/systemd/system/"+program+".service"] = readUnit(t, program).text
		files["/etc/systemd/system/"+program+".service.d/log.conf"] = "[Service]\nStandardError=append:/run/" + program + ".log\nWatchdogSec=5\nRestartSec=1\n" // so that it does not take minutes
	}
	m := bootMachine(t, files)
	t.Cleanup(func() {
		if t.Failed() {
			for _, file := range []string{"/run/console", "/run/central.log", "/run/enclave.log"} {
				text, _ := os.ReadFile(file)
				t.Logf("%s:\n%s", file, text)
			}
		}
	})
	// Credentials are for systemd to read, and not for the service.
	m.run(t, "chmod", "0600", "/etc/enclave/database.key", "/etc/enclave/alliance.key")

	m.run(t, "systemctl", "start", "central", "enclave")
	for _, program := range []string{"central", "enclave"} {
		m.wants(t, program, "ActiveState", "active")
		m.wants(t, program, "StatusText", "ready")
		m.run(t, program, "healthcheck", "--env-file", "/etc/"+program+"/env")
		m.checkLockedDown(t, program)
	}
	says(t, "enclave", "registered with central")
	identity := m.identity(t)

	env = append(env, "VEGA_LOG_LEVEL=debug")
	m.write(t, "/etc/enclave/env", strings.Join(env, "\n")+"\n")
	m.run(t, "systemctl", "reload", "enclave", "central")
	says(t, "enclave", "settings changed and are in force")

	before := m.property(t, "enclave", "MainPID")
	m.run(t, "kill", "-9", before)
	m.wants(t, "enclave", "NRestarts", "1")
	m.wants(t, "enclave", "ActiveState", "active")
	if after := m.property(t, "enclave", "MainPID"); after == before || after == "0" {
		t.Errorf("killed as process %s, it is process %s", before, after)
	}
	if now := m.identity(t); now != identity {
		t.Errorf("after kill -9 it is another:\n%s\nbefore:\n%s", now, identity)
	}

	// One that hangs is no better than one that is dead. Go then ends with 2,
	// which is for wrong settings, unless it is told to end with a signal.
	hung := m.property(t, "enclave", "MainPID")
	m.run(t, "kill", "-STOP", hung)
	m.wants(t, "enclave", "NRestarts", "2")
	m.wants(t, "enclave", "ActiveState", "active")

	m.run(t, "systemctl", "stop", "enclave", "central")
	for _, program := range []string{"central", "enclave"} {
		m.wants(t, program, "ActiveState", "inactive")
		m.wants(t, program, "Result", "success")
		m.wants(t, program, "ExecMainStatus", "0")
	}

	m.write(t, "/etc/enclave/env", strings.Join(append(env, "VEGA_VASP_ID=none"), "\n")+"\n")
	if out, err := m.try("systemctl", "start", "enclave"); err == nil {
		t.Errorf("it starts with wrong settings: %s", out)
	}
	m.wants(t, "enclave", "ActiveState", "failed")
	m.wants(t, "enclave", "ExecMainStatus", "2")
}
