package redis

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	goredis "github.com/redis/go-redis/v9"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
)

// Prefix begins the name of every entry, for the ACL.
const Prefix = "vasp-enclave:peer-key:"

// purpose tells names of entries from other keyed hashes.
const purpose = "peer-key-cache"

// defaultBudget is how long Redis may take for one call of ours, connecting
// included.
const defaultBudget = 150 * time.Millisecond

// errBudget ends a call that Redis took too long for.
var errBudget = errors.New("redis took too long")

// errCooling stands for a call that was not made.
var errCooling = errors.New("redis failed a moment ago")

// Config says where Redis is and what to use it with.
type Config struct {
	URL          string                // a secret; see the package's description
	Roots        *x509.CertPool        // to trust rediss servers with; nil: the system's
	Certificates []tls.Certificate     // to show to rediss servers that ask for one
	Front        keyring.PeerCache     // asked first; nil: none
	Budget       time.Duration         // for one call of a method; zero: 150 ms
	Now          func() time.Time      // for cooling down and for metrics
	Metrics      prometheus.Registerer // nil: none
	Logger       *slog.Logger

	// MAC is a keyed hash that names entries, such as atrest.Keys.MAC. Who
	// has another key has other entries.
	MAC func(purpose string, value []byte) [32]byte
}

// Cache is a keyring.PeerCache on Redis behind one in process. None of its
// methods fails for want of Redis. They may be called concurrently.
type Cache struct {
	config  Config
	client  goredis.UniversalClient
	breaker breaker
	owed    debts
	metrics *metrics
	log     complaints
}

var _ keyring.PeerCache = (*Cache)(nil)

// Open makes a Cache. It does not connect, so that a Redis that is away keeps
// nobody from starting. Errors are about the URL and never repeat it.
func Open(c Config) (*Cache, error) {
	if c.MAC == nil || c.Now == nil || c.Logger == nil {
		return nil, errors.New("open redis: MAC, Now and Logger are needed")
	}
	if c.Budget <= 0 {
		c.Budget = defaultBudget
	}
	at, err := parse(c.URL)
	if err != nil {
		return nil, fmt.Errorf("open redis: %w", err)
	}
	if at.password != "" && at.inClear() {
		c.Logger.Warn("the password of Redis travels in clear to another machine: use rediss")
	}
	m := newMetrics()
	if err := m.register(c.Metrics); err != nil {
		return nil, fmt.Errorf("open redis: register metrics: %w", err)
	}
	return &Cache{
		config: c, client: at.client(c.Roots, c.Certificates, c.Budget), metrics: m,
		breaker: breaker{now: c.Now}, log: complaints{now: c.Now, logger: c.Logger},
	}, nil
}

// Validate says what is wrong with a URL, without repeating any of it.
func Validate(url string) error {
	_, err := parse(url)
	return err
}

// PeerKey gives what was put, from the front or from Redis. Any trouble with
// Redis is a miss, keyring.ErrNotFound. What it gives is not verified.
func (c *Cache) PeerKey(ctx context.Context, ref keyring.Ref) ([]byte, error) {
	if bundle := c.fromFront(ctx, ref); bundle != nil {
		return bundle, nil
	}
	ctx, cancel := c.budget(ctx)
	defer cancel()
	name := c.name(ref)
	if c.owed.has(name) { // what Redis has was dropped
		c.delete(ctx, name)
		c.metrics.redis(miss)
		return nil, keyring.ErrNotFound
	}
	if bundle := c.fromRedis(ctx, name); bundle != nil {
		return bundle, nil
	}
	return nil, keyring.ErrNotFound
}

func (c *Cache) fromFront(ctx context.Context, ref keyring.Ref) []byte {
	if c.config.Front == nil {
		return nil
	}
	bundle, err := c.config.Front.PeerKey(ctx, ref)
	switch {
	case err == nil:
		c.metrics.memory(hit)
		return bundle
	case errors.Is(err, keyring.ErrNotFound):
		c.metrics.memory(miss)
	default:
		c.metrics.memory(failed)
	}
	return nil
}

// fromRedis gives an entry that could be a bundle, or nil. One that could not
// is deleted.
func (c *Cache) fromRedis(ctx context.Context, name string) []byte {
	var value []byte
	err := c.do(ctx, func(ctx context.Context) (err error) {
		value, err = c.client.Get(ctx, name).Bytes()
		return err
	})
	switch {
	case errors.Is(err, goredis.Nil):
		c.metrics.redis(miss)
	case isBad(err), err == nil && (len(value) == 0 || len(value) > identity.MaxBundle):
		c.metrics.redis(bad)
		c.delete(ctx, name)
	case err != nil:
		c.failed(err)
	default:
		c.metrics.redis(hit)
		return value
	}
	return nil
}

// PutPeerKey keeps a bundle for at most ttl. It fails only when the front
// does.
func (c *Cache) PutPeerKey(ctx context.Context, ref keyring.Ref, bundle []byte, ttl time.Duration) error {
	if ttl < time.Millisecond { // Redis counts in milliseconds
		return c.DropPeerKey(ctx, ref)
	}
	var err error
	if c.config.Front != nil {
		err = c.config.Front.PutPeerKey(ctx, ref, bundle, ttl)
	}
	ctx, cancel := c.budget(ctx)
	defer cancel()
	c.set(ctx, c.name(ref), bundle, ttl)
	return err
}

// set puts an entry into Redis, or remembers that an older one may be there.
func (c *Cache) set(ctx context.Context, name string, bundle []byte, ttl time.Duration) {
	if err := c.do(ctx, func(ctx context.Context) error { return c.client.Set(ctx, name, bundle, ttl).Err() }); err != nil {
		c.owed.add(name)
		c.failed(err)
		return
	}
	c.owed.remove(name)
}

// DropPeerKey forgets an entry: what Redis may still have of it is not given
// until it could be deleted there. It fails only when the front does.
func (c *Cache) DropPeerKey(ctx context.Context, ref keyring.Ref) error {
	name := c.name(ref)
	c.owed.add(name)
	var err error
	if c.config.Front != nil {
		err = c.config.Front.DropPeerKey(ctx, ref)
	}
	ctx, cancel := c.budget(ctx)
	defer cancel()
	c.delete(ctx, name)
	return err
}

// delete takes an entry out of Redis, or remembers to.
func (c *Cache) delete(ctx context.Context, name string) {
	if err := c.do(ctx, func(ctx context.Context) error { return c.client.Del(ctx, name).Err() }); err != nil {
		c.owed.add(name)
		c.failed(err)
		return
	}
	c.owed.remove(name)
}

// Probe asks Redis once, and says in a word why it cannot be used: for the
// log of a program that starts.
func (c *Cache) Probe(ctx context.Context) error {
	ctx, cancel := c.budget(ctx)
	defer cancel()
	none := c.config.MAC(purpose, nil)
	err := c.do(ctx, func(ctx context.Context) error { return c.client.Get(ctx, Prefix+hex.EncodeToString(none[:])).Err() })
	if err == nil || errors.Is(err, goredis.Nil) {
		return nil
	}
	return fmt.Errorf("redis cannot be used: %s", reasonOf(err))
}

// Close ends the connections to Redis. The front is its owner's.
func (c *Cache) Close() error {
	c.metrics.unregister()
	return c.client.Close()
}

// name hides whose key an entry is from who can read Redis.
func (c *Cache) name(ref keyring.Ref) string {
	value := binary.BigEndian.AppendUint64(nil, uint64(ref.VASP))
	value = append(value, byte(ref.Type))
	sum := c.config.MAC(purpose, append(value, ref.Scope[:]...))
	return Prefix + hex.EncodeToString(sum[:])
}

func (c *Cache) budget(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, c.config.Budget, errBudget)
}

// do makes a call of Redis, unless Redis failed a moment ago.
func (c *Cache) do(ctx context.Context, call func(context.Context) error) error {
	round, ok := c.breaker.enter()
	if !ok {
		return errCooling
	}
	start := c.config.Now()
	err := call(ctx)
	c.metrics.seconds.Observe(c.config.Now().Sub(start).Seconds())
	if c.breaker.leave(round, verdictOn(ctx, err)) {
		c.config.Logger.Info("Redis answers again")
	}
	return err
}

// verdictOn says what the end of a call tells about Redis. One that its
// caller ended tells nothing.
func verdictOn(ctx context.Context, err error) verdict {
	switch {
	case err == nil, errors.Is(err, goredis.Nil), isBad(err), isPrompt(err):
		return healthy
	case ctx.Err() != nil && !errors.Is(context.Cause(ctx), errBudget):
		return unknown
	}
	return broken
}

// failed counts a call that did not do its work.
func (c *Cache) failed(err error) {
	c.metrics.redis(failed)
	if !errors.Is(err, errCooling) {
		c.log.about(reasonOf(err))
	}
}
