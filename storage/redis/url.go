package redis

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// kind is how servers of Redis hang together.
type kind int

const (
	plain kind = iota
	cluster
	sentinel
)

// server is what a URL says.
type server struct {
	kind    kind
	network string   // tcp or unix
	addrs   []string // the sentinels', for kind sentinel
	db      int

	tls        bool
	serverName string // "" for the one that is dialed

	user, password string

	master                         string // what the sentinels call it
	sentinelUser, sentinelPassword string
}

// form is a scheme's meaning.
type form struct {
	kind       kind
	network    string
	tls        bool
	port       string
	parameters []string
}

var forms = map[string]form{
	"redis":           {plain, "tcp", false, "6379", []string{"db"}},
	"rediss":          {plain, "tcp", true, "6379", []string{"db", "server_name"}},
	"unix":            {plain, "unix", false, "", []string{"db"}},
	"redis+cluster":   {cluster, "tcp", false, "6379", []string{"addr"}},
	"rediss+cluster":  {cluster, "tcp", true, "6379", []string{"addr", "server_name"}},
	"redis+sentinel":  {sentinel, "tcp", false, "26379", []string{"addr", "db", "master_name", "sentinel_username", "sentinel_password"}},
	"rediss+sentinel": {sentinel, "tcp", true, "26379", []string{"addr", "db", "master_name", "sentinel_username", "sentinel_password", "server_name"}},
}

// parse reads a URL. Its errors repeat no part of it: a password with a
// character that should have been escaped may stand anywhere.
func parse(text string) (*server, error) {
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" || strings.Contains(text, "#") {
		return nil, errors.New("not a URL; write redis://host:6379, and special characters of a password as %xx")
	}
	f, known := forms[u.Scheme]
	if !known {
		return nil, errors.New("must begin with redis://, rediss://, unix://, redis+cluster://, rediss+cluster://, redis+sentinel:// or rediss+sentinel://")
	}
	s := &server{kind: f.kind, network: f.network, tls: f.tls, user: u.User.Username()}
	s.password, _ = u.User.Password()
	query, err := f.query(u)
	if err != nil {
		return nil, err
	}
	s.serverName, s.master = query.Get("server_name"), query.Get("master_name")
	s.sentinelUser, s.sentinelPassword = query.Get("sentinel_username"), query.Get("sentinel_password")
	if err := errors.Join(s.readAddrs(f, u, query["addr"]), s.readDB(f, u, query.Get("db"))); err != nil {
		return nil, err
	}
	if s.kind == sentinel && s.master == "" {
		return nil, errors.New("sentinels need ?master_name=")
	}
	return s, nil
}

// query reads the parameters that a form has, each but addr at most once.
func (f form) query(u *url.URL) (url.Values, error) {
	query, err := url.ParseQuery(u.RawQuery)
	for name, values := range query {
		if !slices.Contains(f.parameters, name) || len(values) > 1 && name != "addr" || slices.Contains(values, "") {
			err = errors.New("wrong parameter")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("after the ? may stand %s; write special characters of a password as %%xx", strings.Join(f.parameters, ", "))
	}
	return query, nil
}

func (s *server) readAddrs(f form, u *url.URL, more []string) error {
	if f.network == "unix" {
		if u.Host != "" || strings.Trim(u.Path, "/") == "" {
			return errors.New("must name a socket: unix:///path/of/redis.sock")
		}
		s.addrs = []string{u.Path}
		return nil
	}
	for _, text := range append([]string{u.Host}, more...) {
		addr, err := hostPort(text, f.port)
		if err != nil {
			return err
		}
		s.addrs = append(s.addrs, addr)
	}
	return nil
}

// hostPort reads a server's address, whose port may be missing.
func hostPort(text, port string) (string, error) {
	host, given, err := net.SplitHostPort(text)
	if err != nil {
		host, given = strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"), port
	}
	n, err := strconv.ParseUint(given, 10, 16)
	_, notIP := netip.ParseAddr(host)
	if err != nil || n == 0 || host == "" || notIP != nil && strings.ContainsAny(host, ":[]@/?,") {
		return "", errors.New("each server needs a host and at most a port: redis.example:6379")
	}
	return net.JoinHostPort(host, given), nil
}

// readDB reads the database, from the path or the parameter.
func (s *server) readDB(f form, u *url.URL, parameter string) error {
	text := parameter
	if path := strings.Trim(u.Path, "/"); f.network == "tcp" && path != "" {
		if text != "" {
			return errors.New("names its database twice")
		}
		text = path
	}
	if text == "" {
		return nil
	}
	db, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return errors.New("the database must be a number, such as /0")
	}
	if f.kind == cluster && db != 0 {
		return errors.New("a cluster has the database 0 only")
	}
	s.db = int(db)
	return nil
}

// inClear tells whether what we send can be read on a network.
func (s *server) inClear() bool {
	return !s.tls && s.network != "unix" && slices.ContainsFunc(s.addrs, func(addr string) bool {
		host, _, err := net.SplitHostPort(addr)
		ip, notIP := netip.ParseAddr(host)
		return err != nil || host != "localhost" && (notIP != nil || !ip.Unmap().IsLoopback())
	})
}
