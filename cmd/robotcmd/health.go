package robotcmd

import (
	"net/http"

	"github.com/spf13/cobra"

	"github.com/vasp-enclave/vasp-enclave/cmd/life"
	"github.com/vasp-enclave/vasp-enclave/cmd/settings"
)

// addProbes has the robot answer probes where it answers everything, without a
// token. It has nothing to wait for: who can ask it finds it ready.
func addProbes(mux *http.ServeMux) {
	readiness := new(life.Readiness)
	readiness.Started()
	for pattern, probe := range readiness.Routes() {
		mux.Handle(pattern, probe)
	}
}

// healthCommand needs no settings but those of the listener.
func healthCommand(environ []string) *cobra.Command {
	return life.HealthCommand("robot", func() (life.Probes, error) {
		var s struct {
			Listen      settings.Listen `env:"ROBOT_LISTEN" envDefault:"127.0.0.1:8081" doc:"Where to listen for the enclave."`
			TLSCertFile string          `env:"ROBOT_TLS_CERT_FILE" doc:"With it the robot speaks https."`
		}
		if _, err := settings.Load("ROBOT_LISTEN", &s, environ); err != nil {
			return life.Probes{}, configError{err}
		}
		return life.Probes{Listen: string(s.Listen), TLS: s.TLSCertFile != "", Else: "ROBOT_LISTEN or ROBOT_TLS_CERT_FILE is another one than the robot's"}, nil
	})
}
