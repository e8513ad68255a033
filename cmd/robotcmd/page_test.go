package robotcmd_test

import (
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
)

var example = regexp.MustCompile(`(?m)^curl (?:-X (\S+) )?(?:-d '([^']*)' )?'?http://127\.0\.0\.[56]:8081(/[^\s']*)'?$`)

// What the page tells a reader to type works, from top to bottom.
func TestThePagesExamplesWork(t *testing.T) {
	page, err := os.ReadFile("../../docs/robot.md")
	if err != nil {
		t.Fatal(err)
	}
	_, url := newFakeEnclave(t)
	robot := start(t, "ROBOT_ENCLAVE_URL="+url)
	examples := example.FindAllStringSubmatch(string(page), -1)
	if n := strings.Count(string(page), "\ncurl "); n != len(examples) || n < 14 {
		t.Fatalf("%d of %d examples can be read", len(examples), n)
	}
	for _, e := range examples {
		method, body, path := e[1], strings.ReplaceAll(e[2], `"ID"`, `"`+id+`"`), e[3]
		if method == "" {
			method = map[bool]string{true: http.MethodGet, false: http.MethodPost}[body == ""]
		}
		if status, answer := send(t, method, robot+path, body); status != 200 {
			t.Errorf("%s = %d %s", e[0], status, answer)
		}
		if path == "/v1.0/action/verifications" {
			call200(t, robot, "VERIFICATION_RESULT", `{"verificationUuid":"`+id+`","verificationResult":"VERIFIED","reason":"OK"}`)
		}
	}
}

// Each customer and reason in the page's tables is the robot's.
func TestThePagesCustomersAreTheRobots(t *testing.T) {
	page, err := os.ReadFile("../../docs/robot.md")
	if err != nil {
		t.Fatal(err)
	}
	robot := start(t)
	rows := regexp.MustCompile("(?m)^\\| [^|]+ \\| `(0x[0-9A-Za-z]+)` \\| ([0-9]+) \\| `([A-Z-]+)`").FindAllStringSubmatch(string(page), -1)
	if len(rows) != 6 {
		t.Fatalf("the page has %d customers, want 6", len(rows))
	}
	for _, row := range rows {
		want := row[3]
		if want == "VERIFIED" || want == "NOT-ALLOWED" {
			want = ""
		}
		for _, body := range []string{accountBody("ETH", "", row[1], ""), accountBody("XRP", "", "rGFFufDwabHuPur9927p1EgBTcCBfsjtEU:"+row[2], "")} {
			_, got := ask(t, robot+"/verify/account", body)
			if reason, _ := got["reason"].(string); reason != want {
				t.Errorf("%s: the robot says %v, the page %s", body, got, row[3])
			}
		}
	}
}
