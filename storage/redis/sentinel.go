package redis

import (
	"context"
	"errors"
	"net"

	goredis "github.com/redis/go-redis/v9"
)

var errNoMaster = errors.New("no sentinel names a master")

// dialMaster asks all sentinels where the master is, and connects to the one
// that is named first. A connection to what is no longer the master ends by
// itself, as READONLY or closed, and the next one is dialed anew; so nothing
// listens to the sentinels in between. (The library's own client does, and a
// hostile sentinel can make it panic.)
func (d *dialer) dialMaster(ctx context.Context, _, _ string) (net.Conn, error) {
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan string, len(d.server.addrs))
	for _, addr := range d.server.addrs {
		go func() { answers <- d.ask(asking, addr) }()
	}
	for range d.server.addrs {
		if master := <-answers; master != "" {
			return d.dial(ctx, "tcp", master)
		}
	}
	return nil, errNoMaster
}

// ask gives the address that a sentinel names, or nothing.
func (d *dialer) ask(ctx context.Context, addr string) string {
	o := d.server.options(d.budget).Simple()
	o.Addr, o.DB, o.Dialer, o.PoolSize = addr, 0, d.dial, 1
	o.Username, o.Password = d.server.sentinelUser, d.server.sentinelPassword
	s := goredis.NewSentinelClient(o)
	defer s.Close()
	pair, err := s.GetMasterAddrByName(ctx, d.server.master).Result()
	if err != nil || len(pair) != 2 {
		return ""
	}
	return net.JoinHostPort(pair[0], pair[1])
}
