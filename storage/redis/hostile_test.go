package redis_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
	"github.com/vasp-enclave/vasp-enclave/storage/redis"
)

// Attack K6, from a Redis that is hostile itself: whatever it says, nothing
// panics, nothing is allocated without bound, and what comes out is a miss or
// no longer than a bundle.
func TestHostileRepliesAreMisses(t *testing.T) {
	replies := map[string]string{
		"value that overflows":     "$9223372036854775806\r\n",
		"largest value":            "$9223372036854775807\r\n",
		"huge value":               "$536870912\r\nbegin",
		"long value":               fmt.Sprintf("$%d\r\n%s\r\n", redis.MaxBulk, strings.Repeat("v", redis.MaxBulk)),
		"longer value":             fmt.Sprintf("$%d\r\n%s\r\n", redis.MaxBulk+1, strings.Repeat("v", redis.MaxBulk+1)),
		"bundle and a byte":        fmt.Sprintf("$%d\r\n%s\r\n", identity.MaxBundle+1, strings.Repeat("v", identity.MaxBundle+1)),
		"empty value":              "$0\r\n\r\n",
		"negative value":           "$-2\r\n",
		"length that is no number": "$ten\r\n",
		"value cut off":            "$5\r\nab",
		"verbatim":                 "=9223372036854775806\r\n",
		"long error":               "!9223372036854775806\r\n",
		"huge list":                "*2147483647\r\n",
		"huge map":                 "%2147483647\r\n",
		"huge set":                 "~2147483647\r\n",
		"huge attribute":           "|2147483647\r\n",
		"push":                     ">2147483647\r\n",
		"lists of lists":           strings.Repeat("*1\r\n", 1<<20),
		"lists of many":            strings.Repeat("*10000\r\n", 1<<12),
		"attributes of attributes": strings.Repeat("|1\r\n", 1<<18),
		"list of much":             "*60000\r\n" + strings.Repeat("$98\r\n"+strings.Repeat("x", 98)+"\r\n", 60_000),
		"line without end":         "+" + strings.Repeat("x", 1<<22),
		"error without end":        "-" + strings.Repeat("x", 1<<22),
		"many lines":               strings.Repeat("+x\r\n", 1<<20),
		"empty line":               "\r\n",
		"bare newline":             "\n",
		"garbage":                  "HTTP/1.1 400 Bad Request\r\n\r\n",
		"other type":               ":7\r\n",
		"moved":                    "-MOVED 1 127.0.0.1:1\r\n",
		"ask":                      "-ASK 1 127.0.0.1:1\r\n",
		"wrong type":               "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
		"loading":                  "-LOADING Redis is loading the dataset in memory\r\n",
		"read-only":                "-READONLY You can't write against a read only replica.\r\n",
		"busy":                     "-BUSY Redis is busy running a script.\r\n",
		"nobody":                   "-NOAUTH Authentication required.\r\n",
	}
	short := func(c *redis.Config) { c.Budget = 50 * time.Millisecond }
	for name, reply := range replies {
		for where, s := range map[string]script{
			"as an answer":     old(reply),
			"as the handshake": func([]string) []byte { return []byte(reply) },
			"to a change": func(command []string) []byte {
				if command[0] == "get" {
					return []byte("$-1\r\n")
				}
				return old(reply)(command)
			},
		} {
			o := open(t, serve(t, s, ""), short)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got, err := o.PeerKey(ctx, address(1))
			_ = o.PutPeerKey(ctx, address(1), []byte("bundle"), time.Hour)
			_ = o.DropPeerKey(ctx, address(1))
			runtime.ReadMemStats(&after)
			if err == nil && (len(got) == 0 || len(got) > identity.MaxBundle) || err != nil && err != keyring.ErrNotFound {
				t.Errorf("%s, %s: PeerKey = %d bytes, %v", name, where, len(got), err)
			}
			if grown := (after.TotalAlloc - before.TotalAlloc) >> 20; grown > 64 {
				t.Errorf("%s, %s: %d MiB allocated", name, where, grown)
			}
		}
	}
}

// A Redis that never answers costs one budget, and after a while, which grows,
// another one; whoever else looks up in the meantime does not wait.
func TestHungRedisCostsABudgetNowAndThen(t *testing.T) {
	url := serve(t, func([]string) []byte { return nil }, "")
	o := open(t, url, func(c *redis.Config) { c.Budget = 20 * time.Millisecond })
	lookups := func(count int) {
		t.Helper()
		var all sync.WaitGroup
		for n := range count {
			all.Go(func() { wantMiss(t, o, address(n)) })
		}
		all.Wait()
	}
	wantCalls := func(want int) {
		t.Helper()
		if got := o.calls(t); got != want {
			t.Fatalf("%d calls of Redis, want %d", got, want)
		}
	}
	lookups(10) // the end of each counts once for all
	first := o.calls(t)
	for n, cool := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		wantCalls(first + n)
		o.advance(cool*time.Second - 1)
		lookups(50)
		wantCalls(first + n)
		o.advance(1)
		lookups(50) // one of them tries
	}
	if got := o.counted(t, "redis", "error"); got != 10+7*100 {
		t.Errorf("%d errors counted, want %d", got, 10+7*100)
	}
	// The log does not grow with the lookups.
	if lines := strings.Count(o.log.String(), "reason=timeout"); lines < 1 || lines > 3 {
		t.Errorf("%d lines in a minute and a half:\n%s", lines, o.log)
	}
}

// A caller that gave up says nothing about Redis.
func TestCallersEndIsNoFailure(t *testing.T) {
	canceled, cancel := context.WithCancel(ctx)
	o := open(t, serve(t, func([]string) []byte {
		cancel()
		return []byte("\n") // ends the connection
	}, ""))
	if _, err := o.PeerKey(canceled, address(1)); err != keyring.ErrNotFound {
		t.Errorf("PeerKey = %v", err)
	}
	for n := range 3 {
		if _, err := o.PeerKey(canceled, address(1)); err != keyring.ErrNotFound || o.calls(t) != n+2 {
			t.Errorf("PeerKey = %v, %d calls: Redis is left alone", err, o.calls(t))
		}
	}
}

// The user of the package's description is enough for newer servers too, which
// know more commands that a library may send by itself.
func TestOnlyTheseCommandsAreSent(t *testing.T) {
	var mu sync.Mutex
	sent := map[string]bool{}
	o := open(t, serve(t, func(command []string) []byte {
		mu.Lock()
		defer mu.Unlock()
		sent[command[0]] = true
		switch command[0] {
		case "hello":
			return []byte("%1\r\n+server\r\n+redis\r\n")
		case "get":
			return []byte("$-1\r\n")
		case "set":
			return []byte("+OK\r\n")
		}
		return []byte(":1\r\n")
	}, "user:pw@"))
	put(t, o, address(1), "bundle")
	wantMiss(t, o, address(1))
	if err := errors.Join(o.DropPeerKey(ctx, address(1)), o.Probe(ctx)); err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if want := (map[string]bool{"hello": true, "get": true, "set": true, "del": true}); !maps.Equal(sent, want) {
		t.Errorf("sent %v, want %v", sent, want)
	}
}
