package redis_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/storage/redis"
)

func TestBoundsOfReplies(t *testing.T) {
	value := func(n int) string { return fmt.Sprintf("$%d\r\n%s\r\n", n, strings.Repeat("v", n)) }
	list := func(n int) string { return fmt.Sprintf("*%d\r\n", n) }
	for name, c := range map[string]struct {
		said string
		ok   bool
	}{
		"longest value":         {value(redis.MaxBulk), true},
		"longer value":          {value(redis.MaxBulk + 1), false},
		"longest line":          {"+" + strings.Repeat("x", redis.MaxLine-2) + "\r\n", true},
		"longer line":           {"+" + strings.Repeat("x", redis.MaxLine-1) + "\r\n", false},
		"longest list":          {list(redis.MaxItems), true},
		"longer list":           {list(redis.MaxItems + 1), false},
		"two lists":             {list(redis.MaxItems/2) + list(redis.MaxItems/2), true},
		"two longer lists":      {list(redis.MaxItems/2) + list(redis.MaxItems/2+1), false},
		"no value and no lists": {strings.Repeat("$-1\r\n*-1\r\n", 3) + list(redis.MaxItems), true},
		"lines in a value":      {"$9\r\n*2000000\n\r\n+OK\r\n", true},
		"longest reply":         {strings.Repeat("+OK\r\n", redis.MaxReply/5), true},
		"longer reply":          {strings.Repeat("+OK\r\n", redis.MaxReply/5+1), false},
	} {
		pass, restart := redis.Replies()
		for n := range 2 {
			if err := pass([]byte(c.said)); (err == nil) != c.ok || err != nil && !errors.Is(err, redis.ErrReply) {
				t.Fatalf("%s, question %d: %v", name, n+1, err)
			}
			restart()
			if !c.ok {
				break // the connection has ended
			}
		}
	}
}

// Whatever a server says in whatever pieces, it is judged the same, and no
// length is let through that its reader would allocate.
func FuzzReplies(f *testing.F) {
	for _, seed := range []string{"$3\r\nabc\r\n", "$-1\r\n*2\r\n:1\r\n$1\r\n*\r\n", "$9223372036854775806\r\n", "*1\r\n*1\r\n", "%70000\r\n", "*40000\r\n*40000\r\n", "+OK\r\n-ERR\r\n", "$16384\r\n"} {
		f.Add([]byte(seed), uint8(3))
	}
	f.Fuzz(func(t *testing.T, said []byte, piece uint8) {
		pass, _ := redis.Replies()
		whole := pass(said)
		pass, _ = redis.Replies()
		size := int(piece) + 1
		var pieces error
		for at := 0; at < len(said) && pieces == nil; at += size {
			pieces = pass(said[at:min(at+size, len(said))])
		}
		if (whole == nil) != (pieces == nil) {
			t.Fatalf("%q: at once %v, in pieces of %d %v", said, whole, size, pieces)
		}
		if whole == nil {
			wantWithinBounds(t, said)
		}
	})
}

// wantWithinBounds reads as go-redis does.
func wantWithinBounds(t *testing.T, said []byte) {
	t.Helper()
	items := 0
	for rest := string(said); rest != ""; {
		line, after, ended := strings.Cut(rest, "\n")
		if !ended {
			return
		}
		rest = after
		switch n, err := strconv.Atoi(strings.TrimSuffix(line[1:], "\r")); line[0] {
		case '$', '=', '!':
			if err != nil || n > redis.MaxBulk {
				t.Fatalf("value of %d bytes passed (%v)", n, err)
			}
			if n >= 0 {
				rest = rest[min(n+2, len(rest)):]
			}
		case '*', '~', '>', '%', '|':
			if items += max(n, 0); err != nil || items > redis.MaxItems {
				t.Fatalf("%d items passed (%v)", items, err)
			}
		}
	}
}
