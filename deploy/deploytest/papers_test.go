package deploytest

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// Every file of deploy that the page names is there.
func TestThePageNamesFilesThatAreThere(t *testing.T) {
	page, err := os.ReadFile("../../docs/deploy.md")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`\bdeploy/[-\w./]*\w`).FindAllString(string(page), -1)
	if len(names) < 10 {
		t.Fatalf("the page names %q", names)
	}
	for _, name := range names {
		if strings.HasPrefix(name, "deploy/secrets") {
			continue // made by compose-secrets
		}
		if _, err := os.Stat("../../" + name); err != nil {
			t.Errorf("docs/deploy.md names %s: %v", name, err)
		}
	}
}

// The image is what chart and compose file take it for: its user, program and
// place of the history.
func TestTheImageFits(t *testing.T) {
	dockerfile, err := os.ReadFile(deploy + "/image/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, shape := range shapes {
		rendered, err := render(loadChart(t), valuesOf(t, shape))
		if err != nil {
			t.Fatal(err)
		}
		c := enclaveOf(t, shape, decode(t, rendered))
		env := environment(t, c)
		for _, line := range []string{
			`ENTRYPOINT ["` + c.ReadinessProbe.Exec.Command[0] + `"]`,
			"ENV VEGA_DATABASE_FILE=" + env["VEGA_DATABASE_FILE"],
			"COPY --chown=65532:65532 --chmod=0700 state/ " + c.VolumeMounts[0].MountPath + "/",
			"USER 65532:65532",
		} {
			if !strings.Contains(string(dockerfile), "\n"+line+"\n") {
				t.Errorf("the Dockerfile lacks the line %s", line)
			}
		}
	}
}
