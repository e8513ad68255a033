package proxy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/ivms101"
	"github.com/vasp-enclave/vasp-enclave/proxy/ivms101/ivms101test"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
)

// askedUser is what B's backend was asked, its payload as the text it is.
type askedUser struct {
	UUID                    string          `json:"verificationUuid"`
	RequiredBeneficiaryInfo string          `json:"requiredBeneficiaryInfo"`
	Version                 string          `json:"version"`
	IVMS101                 json.RawMessage `json:"ivms101"`
}

// calledBack is what A's backend is called back with, its payload as the text
// it is.
type calledBack struct {
	Type string `json:"callbackType"`
	Data struct {
		UUID    string          `json:"verificationUuid"`
		Result  string          `json:"verificationResult"`
		IVMS101 json.RawMessage `json:"ivms101"`
	} `json:"data"`
}

// Whatever a payload looks like, B's backend gets the text that A's backend
// sent, and both histories give it back, byte for byte: but for A's own part,
// which is put in where it is lacking, and what B's backend answers beyond
// what was asked for, which is taken away. A's backend is called back with the
// beneficiary as its history has it, and with nothing else.
func TestPayloadsTravelByteForByte(t *testing.T) {
	total := 400
	if os.Getenv("TORTURE") != "" {
		total = 10_000
	}
	const round = 1000 // so many in one world: it remembers all it has seen
	var bytes atomic.Int64
	for first := 0; first < total; first += round {
		bytes.Add(payloadsTravel(t, first, min(first+round, total)))
	}
	t.Logf("%d payloads of %d bytes on average", total, bytes.Load()/int64(total))
}

// payloadsTravel sends the payloads of some numbers, many at once.
func payloadsTravel(t *testing.T, first, last int) (bytes int64) {
	w := proxytest.NewWorld(t, quiet, func(c *proxy.Config) { c.Validator = ivms101.Strict{} })
	var asked sync.Map // *askedUser by verification
	w.B.Backend.OnUser(func(_ context.Context, body []byte) (*vasp.UserAnswer, error) {
		q := new(askedUser)
		if err := json.Unmarshal(body, q); err != nil {
			return nil, err
		}
		asked.Store(q.UUID, q)
		answer := &vasp.UserAnswer{Result: "VERIFIED", Reason: "OK"}
		if echoes(q.UUID) {
			var ivms struct {
				Beneficiary json.RawMessage `json:"beneficiary"`
			}
			if err := json.Unmarshal(q.IVMS101, &ivms); err != nil {
				return nil, err
			}
			answer.Beneficiary = ivms.Beneficiary
		}
		return answer, nil
	})
	var called atomic.Int64
	var told sync.Map // *calledBack by verification
	w.A.Backend.OnCallback(func(body []byte) error {
		c := new(calledBack)
		if err := json.Unmarshal(body, c); err != nil {
			return err
		}
		told.Store(c.Data.UUID, c)
		called.Add(1)
		return nil
	})
	sent := make([]string, last-first) // ids
	var next atomic.Int64
	var workers sync.WaitGroup
	for range 4 * runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(sent) && !t.Failed(); i = int(next.Add(1)) - 1 {
				body := ivms101test.New(uint64(first + i)).Request(w.B.ID.String())
				status, answer := w.A.Call(http.MethodPost, "/v1/verifications", body)
				var accepted struct{ VerificationUUID string }
				if err := json.Unmarshal(answer, &accepted); err != nil || status != http.StatusOK {
					t.Errorf("seed %d: POST /v1/verifications = %d %s\n%s", first+i, status, answer, body)
					return
				}
				sent[i] = accepted.VerificationUUID
			}
		})
	}
	workers.Wait()
	if t.Failed() {
		t.FailNow()
	}
	w.AwaitWithin(5*time.Minute, "A's backend is called back about each", func() bool { return called.Load() >= int64(len(sent)) })
	for i, id := range sent {
		p := ivms101test.New(uint64(first + i))
		if err := arrived(w, p, id, &asked, &told); err != nil {
			t.Fatalf("seed %d: %v", p.Seed, err)
		}
		bytes += int64(len(p.Text()))
	}
	w.A.Stop()
	w.B.Stop()
	return bytes
}

// echoes says for which verifications B's backend answers with the beneficiary
// it was asked about, whatever was required.
func echoes(id string) bool { return id[0] < '8' }

// arrived compares what was sent with what both backends and both histories
// have.
func arrived(w *proxytest.World, p *ivms101test.Payload, id string, asked, told *sync.Map) error {
	found, _ := asked.Load(id)
	q, ok := found.(*askedUser)
	if !ok {
		return fmt.Errorf("B's backend was not asked")
	}
	found, _ = told.Load(id)
	c, ok := found.(*calledBack)
	if !ok {
		return fmt.Errorf("A's backend was not called back")
	}
	beneficiary := p.Beneficiary
	if echoes(id) {
		codes, err := ivms101.ParseRequired(p.Required)
		if err != nil {
			return err
		}
		kept, _, err := ivms101.Strip([]byte(p.Beneficiary), codes)
		if err != nil {
			return err
		}
		beneficiary = string(kept)
	}
	same := []struct{ what, got, want string }{
		{"what B's backend is asked", string(q.IVMS101), p.WithOriginatingVASP(proxytest.LegalPerson(w.A.ID))},
		{"version at B", q.Version, "1.0"},
		{"required at B", q.RequiredBeneficiaryInfo, p.Required},
		{"callback to A", c.Type + " " + c.Data.Result, "VERIFICATION_RESULT VERIFIED"},
		{"what A's backend is called back with", string(c.Data.IVMS101), `{"beneficiary":` + beneficiary + `}`},
	}
	for _, party := range []*proxytest.Party{w.A, w.B} {
		var row struct{ Result, IVMS101Originator, IVMS101Beneficiary string }
		if _, answer := party.Call(http.MethodGet, "/v1/verifications/"+id, nil); json.Unmarshal(answer, &row) != nil {
			return fmt.Errorf("row %s", answer)
		}
		same = append(same, []struct{ what, got, want string }{
			{"result at " + party.ID.String(), row.Result, "VERIFIED"},
			{"originator at " + party.ID.String(), row.IVMS101Originator, p.Originator},
			{"beneficiary at " + party.ID.String(), row.IVMS101Beneficiary, beneficiary},
		}...)
	}
	for _, s := range same {
		if s.got != s.want {
			return fmt.Errorf("%s\n got %q\nwant %q", s.what, s.got, s.want)
		}
	}
	if !strings.Contains(string(q.IVMS101), p.Originator) {
		return fmt.Errorf("the originator is not in what B's backend is asked")
	}
	return nil
}
