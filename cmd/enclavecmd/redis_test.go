package enclavecmd_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy"
	"github.com/vasp-enclave/vasp-enclave/proxy/proxytest"
	"github.com/vasp-enclave/vasp-enclave/proxy/vasp"
	"github.com/vasp-enclave/vasp-enclave/storage/memory"
	"github.com/vasp-enclave/vasp-enclave/storage/redis"
	"github.com/vasp-enclave/vasp-enclave/storage/redis/redistest"
)

// redisWorld is two enclaves that keep each other's keys in Redis as the
// program has it, but for the size of the cache in front, and for the clock of
// the caches, which the test moves so that it need not wait.
type redisWorld struct {
	*proxytest.World
	t      *testing.T
	caches *proxytest.Clock

	mu   sync.Mutex
	told map[string]chan string // what a backend was told, by verification
}

// torture asks for the long forms.
var torture = os.Getenv("TORTURE") != ""

// redisBudget makes a paused Redis cheap to test.
const redisBudget = 100 * time.Millisecond

// newRedisWorld makes one. A front of so few entries is asked before Redis;
// none is for a test that counts what Redis is asked for. now is the clock of
// all else.
func newRedisWorld(t *testing.T, url string, front int, budget time.Duration, now func() time.Time) *redisWorld {
	t.Helper()
	w := &redisWorld{t: t, caches: proxytest.NewClock(now()), told: map[string]chan string{}}
	w.World = proxytest.NewWorldAt(t, now, func(c *proxy.Config) {
		config := redis.Config{URL: url, MAC: c.History.MAC, Budget: budget, Now: w.caches.Now, Metrics: c.Metrics, Logger: c.Logger}
		if front > 0 {
			m := memory.New(front, w.caches.Now)
			t.Cleanup(func() { _ = m.Close() })
			config.Front = m
		}
		cache, err := redis.Open(config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cache.Close() })
		c.Cache = cache
	})
	for _, p := range []*proxytest.Party{w.A, w.B} {
		p.Backend.OnUser(knowsEverybody)
		p.Backend.OnCallback(w.hear)
	}
	return w
}

// knowsEverybody is a backend's answer that has the account it was asked for.
func knowsEverybody(_ context.Context, body []byte) (*vasp.UserAnswer, error) {
	var asked struct {
		IVMS101 struct {
			Beneficiary struct{ AccountNumber []string }
		}
	}
	if err := json.Unmarshal(body, &asked); err != nil {
		return nil, err
	}
	accounts := asked.IVMS101.Beneficiary.AccountNumber
	if len(accounts) != 1 {
		return nil, errors.New("no account was asked for")
	}
	return &vasp.UserAnswer{Result: "VERIFIED", Reason: "OK", Version: "1.0", Beneficiary: []byte(receiver(accounts[0]))}, nil
}

func receiver(account string) string {
	return `{"beneficiaryPersons":[{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":"Doe","secondaryIdentifier":"Joe","nameIdentifierType":"LEGL"}]}}}],"accountNumber":["` + account + `"]}`
}

func (w *redisWorld) hear(body []byte) error {
	var callback struct {
		Data struct{ VerificationUUID, VerificationResult string }
	}
	if err := json.Unmarshal(body, &callback); err != nil {
		return err
	}
	select {
	case w.about(callback.Data.VerificationUUID) <- callback.Data.VerificationResult:
	default: // told again
	}
	return nil
}

func (w *redisWorld) about(id string) chan string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.told[id] == nil {
		w.told[id] = make(chan string, 1)
	}
	return w.told[id]
}

// transfer is what a verification is about.
type transfer struct {
	from, to         *proxytest.Party
	keyType, account string
}

// verify takes one verification from a backend's request to its callback, and
// gives the result.
func (w *redisWorld) verify(x transfer) string {
	status, answer := x.from.Call(http.MethodPost, "/v1/verifications", fmt.Appendf(nil,
		`{"keyType":%q,"beneficiaryVaspId":%q,"assetInfo":{"symbol":"BTC","network":"Bitcoin","amount":"0.5","isExceedingThreshold":true,"tradePrice":"45000000","tradeCurrency":"KRW","tradeISODatetime":"2025-03-04T05:06:07.000Z"},"requiredBeneficiaryInfo":"ACCOUNT_NUMBER,NATURAL_PERSON_NAME","payload":{"version":"1.0","ivms101":{"originator":{"originatorPersons":[{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":"Roe","secondaryIdentifier":"Ann","nameIdentifierType":"LEGL"}]}}}],"accountNumber":["bc1qsender"]},"beneficiary":%s}}}`,
		x.keyType, x.to.ID, receiver(x.account)))
	var accepted struct{ VerificationUUID string }
	if err := json.Unmarshal(answer, &accepted); err != nil || status != http.StatusOK {
		return fmt.Sprintf("not accepted: %d %s", status, answer)
	}
	late := time.NewTimer(time.Minute)
	defer late.Stop()
	select {
	case result := <-w.about(accepted.VerificationUUID):
		return result
	case <-late.C:
		return "no callback"
	}
}

// run takes n verifications, several at once, and ends the test when one is
// not VERIFIED. When a third of them has ended, and others are under way,
// something may happen.
func (w *redisWorld) run(n int, of func(n int) transfer, happens func()) {
	w.t.Helper()
	const atOnce = 16
	next, ended := make(chan int, n), make(chan struct{}, n)
	for i := range n {
		next <- i
	}
	close(next)
	var underway atomic.Int64
	var failed atomic.Bool
	var all sync.WaitGroup
	for range atOnce {
		all.Go(func() {
			for i := range next {
				if x := of(i); !failed.Load() {
					underway.Add(1)
					if result := w.verify(x); result != "VERIFIED" {
						w.t.Errorf("a verification with a %s key: %s", x.keyType, result)
						failed.Store(true)
					}
					underway.Add(-1)
				}
				ended <- struct{}{}
			}
		})
	}
	for range n / 3 {
		<-ended
	}
	if happens != nil {
		if underway.Load() == 0 {
			w.t.Error("it happens while no verification is under way")
		}
		happens()
	}
	all.Wait()
	if failed.Load() {
		w.t.FailNow()
	}
}

// mixed is verifications of all three key types, in both directions, to more
// addresses than a small front remembers.
func (w *redisWorld) mixed(n int) transfer {
	x := w.only([]string{"PerVasp", "PerAddress", "PerVerification"}[n%3])(n / 3)
	if n/3%2 == 1 {
		x.from, x.to = x.to, x.from
	}
	return x
}

// only is verifications of A with B of one key type.
func (w *redisWorld) only(keyType string) func(n int) transfer {
	return func(n int) transfer { return transfer{w.A, w.B, keyType, fmt.Sprintf("bc1q%dreceiver", n%60)} }
}

// redis counts what both enclaves' lookups in Redis ended as.
func (w *redisWorld) redis(result string) int {
	sum := 0
	for _, p := range []*proxytest.Party{w.A, w.B} {
		sum += int(p.Metric("enclave_peer_key_cache_total", "redis", result))
	}
	return sum
}

// failedAttempts counts the envelopes that did not arrive at once, from either
// side.
func (w *redisWorld) failedAttempts() int {
	const attempts = "enclave_outbox_attempts_total"
	failed := 0.0
	for _, p := range []*proxytest.Party{w.A, w.B} {
		failed += p.Metric(attempts, "peer") - p.Metric(attempts, "peer", "ok")
	}
	return int(failed)
}

// forget ends what the caches in front hold, and the time for which a Redis
// that failed is left alone.
func (w *redisWorld) forget() { w.caches.Advance(time.Hour) }

// uses waits until keys of both types that are cached come from Redis.
func (w *redisWorld) uses() {
	w.t.Helper()
	for _, keyType := range []string{"PerVasp", "PerAddress"} {
		w.Await(keyType+" keys come from Redis", func() bool {
			w.forget()
			before := w.redis("hit")
			w.run(30, w.only(keyType), nil)
			return w.redis("hit") >= before+10
		})
	}
}

// Whatever becomes of Redis while verifications of all three key types are
// under way, one Redis or a cluster, none of them fails or has even to be
// delivered twice (target 10, K6).
func TestRedisInTroubleFailsNoVerification(t *testing.T) {
	rounds, n := 1, 96
	if torture {
		rounds, n = 3, 600
	}
	for name, start := range map[string]func(testing.TB) (string, []*redistest.Server){
		"alone": func(t testing.TB) (string, []*redistest.Server) {
			s := redistest.Start(t)
			return s.URL(), []*redistest.Server{s}
		},
		"cluster": func(t testing.TB) (string, []*redistest.Server) {
			nodes := redistest.StartCluster(t)
			return redistest.ClusterURL(nodes), nodes
		},
	} {
		t.Run(name, func(t *testing.T) {
			url, nodes := start(t)
			w := newRedisWorld(t, url, 8, redisBudget, time.Now)
			w.run(n, w.mixed, nil)
			w.uses()
			for range rounds {
				w.survives(n, nodes)
			}
			for _, one := range nodes[1:] { // of a cluster
				if w.survives(n, nodes, one); !torture {
					break
				}
			}
			if n := w.failedAttempts(); n > 0 {
				t.Errorf("%d deliveries had to be tried again for want of Redis", n)
			}
			t.Logf("in Redis: %d hits, %d misses, %d errors", w.redis("hit"), w.redis("miss"), w.redis("error"))
		})
	}
}

// survives flushes, pauses and kills servers, all or those that are named,
// each time under load.
func (w *redisWorld) survives(n int, all []*redistest.Server, some ...*redistest.Server) {
	t := w.t
	t.Helper()
	if some == nil {
		some = all
	}
	each := func(do func(*redistest.Server, testing.TB)) func() {
		return func() {
			for _, s := range some {
				do(s, t)
			}
		}
	}
	w.Await("what was flushed is looked for in Redis", func() bool { // again if a busy machine made it look broken
		w.forget()
		before := w.redis("miss")
		w.run(n, w.mixed, each(func(s *redistest.Server, t testing.TB) { s.Tell(t, "flushall") }))
		return w.redis("miss") > before
	})
	w.uses()
	for _, trouble := range []struct {
		begin, end func(*redistest.Server, testing.TB)
	}{
		{(*redistest.Server).Pause, (*redistest.Server).Resume},
		{(*redistest.Server).Kill, (*redistest.Server).Restart},
	} {
		before := w.redis("error")
		for _, happens := range []func(*redistest.Server, testing.TB){trouble.begin, trouble.end} {
			w.forget()
			w.run(n, w.mixed, each(happens))
		}
		if w.redis("error") == before {
			t.Error("no lookup met the trouble")
		}
		if len(all) > 1 {
			redistest.AwaitCluster(t, all)
		}
		w.uses()
	}
}

// Attack K6, target 9: poisoned values of 12 kinds lie in Redis while
// verifications go on, 10,000 in the long form. Each is read once, refused,
// counted and replaced; no envelope is sealed to a key in one, and every
// verification succeeds.
func TestPoisonedValuesFailNoVerification(t *testing.T) {
	addresses, values := 400, 1_200
	if torture {
		addresses, values = 500, 10_000
	}
	clock := proxytest.NewClock(time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC))
	server := redistest.Start(t)
	w := newRedisWorld(t, server.URL(), 0, time.Minute, clock.Now)
	p := newPoisoning(t, w, server)
	to := func(n int) transfer { return transfer{w.A, w.B, "PerAddress", fmt.Sprintf("bc1q%dreceiver", n)} }
	w.run(addresses, to, nil)
	p.before()
	for range values / addresses {
		clock.Advance(time.Duration(addresses) * time.Second / 100) // B gives 100 keys a second
		if n := p.poison(identity.PerAddress); n != addresses {
			t.Fatalf("%d entries poisoned, want %d", n, addresses)
		}
		w.run(addresses, to, nil)
	}
	p.check(values)

	// One PerVasp key is for everything, so its entry is poisoned over and over.
	w.run(1, w.only("PerVasp"), nil)
	p.before()
	for range 2 * len(redistest.Poisons) {
		clock.Advance(time.Second)
		if n := p.poison(identity.PerVASP); n != 1 {
			t.Fatalf("%d entries poisoned, want 1", n)
		}
		w.run(1, w.only("PerVasp"), nil)
	}
	p.check(2 * len(redistest.Poisons))

	// The poison must be such that its use would be seen: what the owner signed
	// for this very place is used.
	if n := p.fill(identity.PerVASP, func(entry string, b identity.Bundle) {
		server.Tell(t, "set", entry, redistest.Sign(t, p.by.Owner, b))
	}); n != 1 {
		t.Fatalf("%d entries filled", n)
	}
	w.run(1, w.only("PerVasp"), nil)
	if p.used.Load() == 0 {
		t.Error("the attacker's key would not be seen in use")
	}
}

// poisoning is an attacker who owns Redis, and what it achieves against A.
type poisoning struct {
	w      *redisWorld
	server *redistest.Server
	by     redistest.Poisoner
	key    *envelope.PublicKey // in all of it
	used   atomic.Int64        // envelopes sealed to that key

	turn                  int // kinds go round
	unread                int // since before
	refused, bad, fetched int // counted before
}

func newPoisoning(t *testing.T, w *redisWorld, server *redistest.Server) *poisoning {
	t.Helper()
	p := &poisoning{w: w, server: server, by: redistest.Poisoner{
		Owner: w.B.Signer, Other: stranger(t, 8), Impostor: stranger(t, w.B.ID),
	}}
	key, err := envelope.GenerateKey(identity.SuiteXWing)
	if err != nil {
		t.Fatal(err)
	}
	p.key = key.Public()
	w.Central.Tamper(func(_, _ identity.VASPID, message []byte) ([]byte, error) {
		if parsed, err := envelope.Parse(message); err != nil {
			t.Error(err)
		} else if parsed.Header.Key == p.key.ID() {
			p.used.Add(1)
		}
		return message, nil
	})
	return p
}

func stranger(t *testing.T, id identity.VASPID) *identity.Signer {
	t.Helper()
	s, err := identity.NewSigner(id)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fill puts something into every entry that holds a key of B's of one type,
// and says how many there are. What is put there may be made of the bundle
// that was there, with the attacker's key in it.
func (p *poisoning) fill(kind identity.KeyType, put func(entry string, b identity.Bundle)) (n int) {
	t, ctx := p.w.t, context.Background()
	t.Helper()
	entries, err := p.server.Admin.Keys(ctx, redis.Prefix+"*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		value, err := p.server.Admin.Get(ctx, entry).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		b, err := identity.ParseBundle(value)
		if err != nil {
			t.Fatal(err)
		}
		if b.Type != kind || b.VASP != p.w.B.ID {
			continue
		}
		b.Suite, b.PublicKey = p.key.Suite(), p.key.Bytes()
		put(entry, *b)
		n++
	}
	return n
}

// poison puts poison of every kind by turns.
func (p *poisoning) poison(kind identity.KeyType) (n int) {
	t := p.w.t
	t.Helper()
	pipe := p.server.Admin.Pipeline()
	n = p.fill(kind, func(entry string, b identity.Bundle) {
		poison := redistest.Poisons[p.turn%len(redistest.Poisons)]
		if b.Type == identity.PerVASP && poison.Name == "other scope" { // it has none
			poison = redistest.Poisons[0]
		}
		if poison.Unread {
			p.unread++
		}
		poison.Put(t, pipe, entry, p.by, b, p.turn)
		p.turn++
	})
	if _, err := pipe.Exec(context.Background()); err != nil {
		t.Fatal(err)
	}
	return n
}

func (p *poisoning) before() {
	p.unread, p.refused, p.bad, p.fetched = 0, p.lookups("cache-refused"), p.w.redis("bad"), p.lookups("fetched")
}

func (p *poisoning) lookups(event string) int {
	return int(p.w.A.Metric("enclave_peer_key_lookups_total", event))
}

// check compares what was counted since before with so many poisoned values,
// each of which was looked up once.
func (p *poisoning) check(values int) {
	t := p.w.t
	t.Helper()
	refused, bad, fetched := p.lookups("cache-refused")-p.refused, p.w.redis("bad")-p.bad, p.lookups("fetched")-p.fetched
	t.Logf("%d poisoned values: %d refused by the keyring, %d by the cache, %d keys asked for, %d used", values, refused, bad, fetched, p.used.Load())
	if refused != values-p.unread || bad != p.unread {
		t.Errorf("want %d refused by the keyring and %d by the cache", values-p.unread, p.unread)
	}
	if fetched != values {
		t.Error("want one request for each")
	}
	if p.used.Load() > 0 {
		t.Error("a poisoned value was used")
	}
	if n := p.w.redis("error"); n > 0 {
		t.Errorf("%d calls of Redis failed", n)
	}
}
