package robotcmd_test

import (
	"os"
	"regexp"
	"testing"
)

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
