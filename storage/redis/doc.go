// Package redis caches the public keys of other VASPs in a Redis that several
// runs of a program share, behind the cache in process.
//
// Redis is trusted for nothing (attack K6). It holds signed bundles, and the
// keyring verifies each one that it is given; it holds no VASP id and no
// scope, for entries are named by a keyed hash. Whoever owns it can delete
// entries and watch how often each is used. When it is slow, hung, full, gone,
// flushed or hostile, a lookup costs at most one budget of time now and then,
// and ends as a miss: the counterparty is asked.
//
// What was read from Redis does not enter the cache in process. GET does not
// tell how long an entry has to live, so a copy could outlive it.
//
// # Where Redis is
//
//	redis://[user:password@]host[:6379][/db]
//	unix://[user:password@]/path/of/redis.sock[?db=0]
//	redis+sentinel://[user:password@]host[:26379][/db]?master_name=mymaster[&addr=host:port ...]
//	redis+cluster://[user:password@]host[:6379][?addr=host:port ...]
//
// rediss, rediss+sentinel and rediss+cluster are the same through TLS, 1.2 or
// newer. Each server's certificate must hold the name or address that it is
// reached by; server_name=... names another. Further servers of a cluster, or
// further sentinels, are added by addr=..., once for each. sentinel_username
// and sentinel_password are for the sentinels, which get no credentials
// otherwise. Characters of a password that mean something in a URL are
// written as %xx. There are no other parameters.
//
// # What it needs
//
// Only GET, SET with a time to live, and DEL are sent, beside HELLO and AUTH, so this user
// is enough:
//
//	user enclave on >password resetkeys ~vasp-enclave:peer-key:* resetchannels -@all +get +set +del
//
// A database other than 0 needs +select as well, a cluster +cluster|slots
// (+cluster before Redis 7). A maxmemory with the policy volatile-ttl keeps
// Redis from filling up: every entry has a time to live, half an hour at most
// unless VEGA_PUBLIC_KEY_TTL says otherwise, and at most 2 KiB.
package redis
