package deploytest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// driver drives a robot as the lines of docs/deploy.md do.
type driver struct {
	url, token, request string
}

func (e *podman) driver(t *testing.T, vasp string) *driver {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(e.secrets, vasp+"-driver.token"))
	if err != nil {
		t.Fatal(err)
	}
	port := e.project.Services[vasp].Ports[0]
	return &driver{
		url: "http://" + port.HostIP + ":" + port.Published, token: strings.TrimSpace(string(token)),
		request: `{"beneficiaryVaspId":"16384656509591635927","address":"0xFa230E9cCAF5e382539147294d7965Eeccbbfa5c","amount":"1.25"}`,
	}
}

func (d *driver) call(method, path, body string) (status int, answer []byte, err error) {
	r, err := http.NewRequest(method, d.url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Authorization", "Bearer "+d.token)
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(response.Body)
	return response.StatusCode, answer, err
}

// verified has one transfer verified, and gives its id.
func (d *driver) verified(t *testing.T) string {
	t.Helper()
	var accepted struct {
		UUID string `json:"verificationUuid"`
	}
	await(t, "a verification is accepted", func() error {
		status, answer, err := d.call(http.MethodPost, "/v1.0/action/verifications", d.request)
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("status %d: %s", status, answer)
		}
		if err != nil {
			return err
		}
		return json.Unmarshal(answer, &accepted)
	})
	await(t, "it is VERIFIED", func() error {
		_, answer, err := d.call(http.MethodGet, "/v1.0/verifications", "")
		if err != nil {
			return err
		}
		var list struct {
			Verifications []struct {
				UUID   string `json:"verificationUuid"`
				Result string `json:"result"`
			} `json:"verifications"`
		}
		if err := json.Unmarshal(answer, &list); err != nil {
			return err
		}
		for _, v := range list.Verifications {
			if v.UUID == accepted.UUID && v.Result == "VERIFIED" {
				return nil
			}
		}
		return fmt.Errorf("the robot knows %s", answer)
	})
	return accepted.UUID
}

// await tries until try succeeds, for a minute.
func await(t *testing.T, what string, try func() error) {
	t.Helper()
	var err error
	begin := time.Now()
	for ; time.Since(begin) < time.Minute; time.Sleep(100 * time.Millisecond) {
		if err = try(); err == nil {
			t.Logf("%s after %v", what, time.Since(begin).Round(time.Millisecond))
			return
		}
	}
	t.Fatalf("waited a minute and not yet: %s: %v", what, err)
}
