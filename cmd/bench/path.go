package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vasp-enclave/vasp-enclave/cmd/sandbox"
)

// concurrencies are how many verifications are under way at once.
var concurrencies = []int{1, 16, 64, 256}

// world is a running alliance whose sender's backend is this process.
type world struct {
	*sandbox.Alliance
	backend *backend
	body    func() []byte // of the next verification; nil for no more
}

// newWorld prepares an alliance; nothing runs yet. The settings are added to
// both enclaves' and to the robots'.
func newWorld(bin, dir string, enclave, robot []string) (*world, error) {
	binaries, err := sandbox.BinariesIn(bin)
	if err != nil {
		return nil, err
	}
	quiet := []string{"VEGA_LOG_LEVEL=info"}
	// The robots only answer: nobody drives them, and they inquire about nothing.
	answering := []string{"ROBOT_ENCLAVE_URL=", "ROBOT_INQUIRE_AFTER_MS=0"}
	alliance, err := sandbox.New(dir, binaries, sandbox.Options{Enclave: append(quiet, enclave...), Robot: append(answering, robot...)})
	if err != nil {
		return nil, err
	}
	b, err := newBackend()
	if err != nil {
		return nil, err
	}
	sender := alliance.VASPs[0]
	sender.Enclave.Env = append(sender.Enclave.Env, "VEGA_VERIFICATION_CALLBACK_API_PATH=http://"+b.listener.Addr().String()+"/callback")
	body := sandbox.Request(alliance.VASPs[1].ID)
	return &world{alliance, b, func() []byte { return body }}, nil
}

// backend takes the sender's callbacks and wakes who waits for them.
type backend struct {
	listener net.Listener
	mu       sync.Mutex
	waiting  map[string]chan string
	early    map[string]string // results that came before their POST returned
}

func newBackend() (*backend, error) {
	listener, err := net.Listen("tcp", "127.0.0.7:0")
	if err != nil {
		return nil, err
	}
	b := &backend{listener: listener, waiting: map[string]chan string{}, early: map[string]string{}}
	go func() { _ = http.Serve(listener, b) }()
	return b, nil
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var callback struct {
		Data struct{ VerificationUUID, VerificationResult string }
	}
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(body, &callback)
	}
	if err != nil {
		http.Error(w, "not a callback", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"result":true}`))
	b.mu.Lock()
	defer b.mu.Unlock()
	id := callback.Data.VerificationUUID
	if c, ok := b.waiting[id]; ok {
		delete(b.waiting, id)
		c <- callback.Data.VerificationResult
		return
	}
	b.early[id] = callback.Data.VerificationResult
}

func (b *backend) wait(ctx context.Context, id string) (string, error) {
	b.mu.Lock()
	if result, ok := b.early[id]; ok {
		delete(b.early, id)
		b.mu.Unlock()
		return result, nil
	}
	c := make(chan string, 1)
	b.waiting[id] = c
	b.mu.Unlock()
	select {
	case result := <-c:
		return result, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// sample is one measurement at one concurrency.
type sample struct {
	Concurrency int     `json:"concurrency"`
	PerSecond   float64 `json:"verificationsPerSecond"`
	P50         float64 `json:"p50Ms"`
	P99         float64 `json:"p99Ms"`
	Errors      int     `json:"errors"`
	CPU         float64 `json:"cpuMsPerVerification"`       // both enclaves and central
	CPUSender   float64 `json:"cpuMsSenderEnclave"`         //
	CPUReceiver float64 `json:"cpuMsReceiverEnclave"`       //
	CPUCentral  float64 `json:"cpuMsCentral"`               //
	CPUOthers   float64 `json:"cpuMsRobotAndLoadGenerator"` // shown apart
	Bytes       float64 `json:"bytesOnDiskPerVerificationAndNode"`
	Commits     float64 `json:"commitsPerVerification"` // of both histories
}

// load keeps n verifications under way for a while, or until there are no more.
func (w *world) load(ctx context.Context, n int, span time.Duration) (latencies []time.Duration, failed int, err error) {
	ctx, cancel := context.WithTimeout(ctx, span+time.Minute)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}
	defer client.CloseIdleConnections()
	until := time.Now().Add(span)
	var failures atomic.Int64
	var mu sync.Mutex
	var workers sync.WaitGroup
	for range n {
		workers.Go(func() {
			var mine []time.Duration
			for time.Now().Before(until) && ctx.Err() == nil {
				body := w.body()
				if body == nil {
					break
				}
				start := time.Now()
				if err := w.one(ctx, client, body); err != nil {
					failures.Add(1)
					continue
				}
				mine = append(mine, time.Since(start))
			}
			mu.Lock()
			defer mu.Unlock()
			latencies = append(latencies, mine...)
		})
	}
	workers.Wait()
	if len(latencies) == 0 {
		return nil, 0, errors.New("no verification succeeded")
	}
	return latencies, int(failures.Load()), ctx.Err()
}

// one is a verification from the POST to the callback's 200.
func (w *world) one(ctx context.Context, client *http.Client, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.VASPs[0].API+"/v1/verifications", bytes.NewReader(body))
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var accepted sandbox.Accepted
	if err := json.NewDecoder(response.Body).Decode(&accepted); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, response.Body)
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", response.StatusCode)
	}
	result, err := w.backend.wait(ctx, accepted.VerificationUUID)
	if err != nil {
		return err
	}
	if result != "VERIFIED" {
		return fmt.Errorf("result %s", result)
	}
	return nil
}

// snapshot is what the processes have used so far.
type snapshot struct {
	sender, receiver, central, robots, self time.Duration
	bytes                                   int64
	commits                                 float64
}

// before takes a snapshot whose own work is over, and after one whose own work
// is yet to come: reading /metrics costs more than a verification.
func (w *world) before(ctx context.Context) (s snapshot, err error) {
	if err := w.count(ctx, &s); err != nil {
		return s, err
	}
	return s, w.time(&s)
}

func (w *world) after(ctx context.Context) (s snapshot, err error) {
	if err := w.time(&s); err != nil {
		return s, err
	}
	return s, w.count(ctx, &s)
}

// time fills in the processor times.
func (w *world) time(s *snapshot) (err error) {
	for _, part := range []struct {
		pid  int
		into *time.Duration
	}{
		{w.VASPs[0].Enclave.PID(), &s.sender}, {w.VASPs[1].Enclave.PID(), &s.receiver}, {w.Central.PID(), &s.central},
		{w.VASPs[1].Robot.PID(), &s.robots}, {os.Getpid(), &s.self},
	} {
		if *part.into, err = cpuTime(part.pid); err != nil {
			return err
		}
	}
	return nil
}

// count fills in all else.
func (w *world) count(ctx context.Context, s *snapshot) error {
	for _, v := range w.VASPs {
		used, err := usedBytes(v.Database)
		if err != nil {
			return err
		}
		s.bytes += used
		commits, err := metric(ctx, v.Metrics, "enclave_store_commit_seconds_count")
		if err != nil {
			return err
		}
		s.commits += commits
	}
	return nil
}

// since is what was used between two snapshots.
func (s snapshot) since(before snapshot) snapshot {
	return snapshot{
		sender: s.sender - before.sender, receiver: s.receiver - before.receiver, central: s.central - before.central,
		robots: s.robots - before.robots, self: s.self - before.self,
		bytes: s.bytes - before.bytes, commits: s.commits - before.commits,
	}
}

// plus adds what two measurements used.
func (s snapshot) plus(more snapshot) snapshot {
	return snapshot{
		sender: s.sender + more.sender, receiver: s.receiver + more.receiver, central: s.central + more.central,
		robots: s.robots + more.robots, self: s.self + more.self,
		bytes: s.bytes + more.bytes, commits: s.commits + more.commits,
	}
}

func (w *world) sample(ctx context.Context, n int, span time.Duration) (sample, error) {
	before, err := w.before(ctx)
	if err != nil {
		return sample{}, err
	}
	start := time.Now()
	latencies, failed, err := w.load(ctx, n, span)
	if err != nil {
		return sample{}, err
	}
	took := time.Since(start)
	after, err := w.after(ctx)
	if err != nil {
		return sample{}, err
	}
	return w.summary(n, latencies, failed, took, after.since(before)), nil
}

// summary divides what verifications took and used by their number.
func (w *world) summary(n int, latencies []time.Duration, failed int, took time.Duration, used snapshot) sample {
	slices.Sort(latencies)
	done := float64(len(latencies))
	each := func(d time.Duration) float64 { return d.Seconds() * 1000 / done }
	s := sample{
		Concurrency: n, PerSecond: done / took.Seconds(), Errors: failed,
		P50: ms(latencies[len(latencies)/2]), P99: ms(latencies[len(latencies)*99/100]),
		CPUSender: each(used.sender), CPUReceiver: each(used.receiver), CPUCentral: each(used.central),
		CPUOthers: each(used.robots) + each(used.self),
		Bytes:     float64(used.bytes) / done / float64(len(w.VASPs)), Commits: used.commits / done,
	}
	s.CPU = s.CPUSender + s.CPUReceiver + s.CPUCentral
	return s
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }
