package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"syscall"
)

// floor is the CPU that the operations take which no implementation can do
// without, in ms: two seals and opens, two signatures and checks, the HTTP of
// each hop with its TLS, and the commits' writes. The operations are the
// standard library's, on messages of the sizes that really travel.
type floor struct {
	Seal    float64 `json:"sealMs"`   // HPKE X-Wing, standard library
	Open    float64 `json:"openMs"`   //
	Sign    float64 `json:"signMs"`   // Ed25519
	Verify  float64 `json:"verifyMs"` //
	HTTPS   float64 `json:"httpsMs"`  // one exchange over kept TLS, both ends
	HTTP    float64 `json:"httpMs"`   // one exchange over kept TCP, both ends
	Sync    float64 `json:"syncMs"`   // one write of 8 KiB and fdatasync
	Commits float64 `json:"commits"`  // per verification at concurrency 64, as counted
	Total   float64 `json:"totalMs"`  //
}

const messageSize = 8 << 10

func measureFloor(dir string, commits float64) (f floor, err error) {
	key, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		return f, err
	}
	info, plain := make([]byte, 500), make([]byte, messageSize)
	kdf, aead := hpke.HKDFSHA256(), hpke.AES256GCM()
	var sealed []byte
	f.Seal = cpuOf(300, func() {
		sealed, err = hpke.Seal(key.PublicKey(), kdf, aead, info, plain)
	})
	if err != nil {
		return f, err
	}
	f.Open = cpuOf(300, func() { _, err = hpke.Open(key, kdf, aead, info, sealed) })
	if err != nil {
		return f, err
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return f, err
	}
	signature := ed25519.Sign(private, info)
	f.Sign = cpuOf(1000, func() { ed25519.Sign(private, info) })
	f.Verify = cpuOf(1000, func() { ed25519.Verify(public, info, signature) })
	f.HTTPS = exchange(httptest.NewTLSServer, 9<<10, 9<<10)
	f.HTTP = exchange(httptest.NewServer, 3<<10, 1<<10)
	if f.Sync, err = syncCost(dir); err != nil {
		return f, err
	}
	f.Commits = commits
	// Two hops, each over TLS. Three exchanges with backends, of which the
	// enclaves do one end. Two writes per commit of the store, shared as
	// counted.
	f.Total = 2*(f.Seal+f.Open+f.Sign+f.Verify) + 2*f.HTTPS + 3*f.HTTP/2 + commits*2*f.Sync
	return f, nil
}

// cpuOf is the CPU of one call in ms, the garbage's included: the median of
// five rounds.
func cpuOf(n int, call func()) float64 {
	return median(5, func() float64 {
		start := ownCPU()
		for range n {
			call()
		}
		return ms(ownCPU()-start) / float64(n)
	})
}

// exchange is the CPU of one POST and its answer on a kept connection, of
// client and server together.
func exchange(start func(http.Handler) *httptest.Server, up, down int) float64 {
	answer := make([]byte, down)
	server := start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = w.Write(answer)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	defer server.Close()
	client, question := server.Client(), make([]byte, up)
	return cpuOf(1000, func() {
		response, err := client.Post(server.URL, "application/octet-stream", bytes.NewReader(question))
		if err != nil {
			panic(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		response.Body.Close()
	})
}

func syncCost(dir string) (float64, error) {
	file, err := os.Create(filepath.Join(dir, "floor"))
	if err != nil {
		return 0, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	block := make([]byte, messageSize)
	if _, err := file.Write(bytes.Repeat(block, 64)); err != nil {
		return 0, err
	}
	i := 0
	cost := cpuOf(200, func() {
		if _, e := file.WriteAt(block, int64(i%64)*messageSize); e != nil {
			err = e
		}
		if e := syscall.Fdatasync(int(file.Fd())); e != nil {
			err = e
		}
		i++
	})
	return cost, err
}

func median(n int, measure func() float64) float64 {
	values := make([]float64, n)
	for i := range values {
		values[i] = measure()
	}
	return middle(values)
}
