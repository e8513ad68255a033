package settings

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"time"
)

// Millis is a duration written as a whole number of milliseconds.
type Millis time.Duration

// maxMillis is the largest number that fits a time.Duration.
const maxMillis = math.MaxInt64 / int64(time.Millisecond)

// Duration converts.
func (m Millis) Duration() time.Duration { return time.Duration(m) }

// String is the number of milliseconds.
func (m Millis) String() string { return strconv.FormatInt(m.Duration().Milliseconds(), 10) }

// UnmarshalText reads a whole number, zero or more.
func (m *Millis) UnmarshalText(text []byte) error {
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || n < 0 || n > maxMillis {
		return errors.New("must be a whole number of milliseconds")
	}
	*m = Millis(time.Duration(n) * time.Millisecond)
	return nil
}

// SettingType names the type in help texts.
func (Millis) SettingType() string { return "milliseconds" }

// URL is an absolute http or https URL without credentials, query or fragment.
type URL struct{ u *url.URL }

// String is the URL as it was given, empty when unset.
func (u URL) String() string {
	if u.u == nil {
		return ""
	}
	return u.u.String()
}

// IsSet tells whether there is a URL.
func (u URL) IsSet() bool { return u.u != nil }

// URL gives a copy to change at will; nil when unset.
func (u URL) URL() *url.URL {
	if u.u == nil {
		return nil
	}
	c := *u.u
	return &c
}

// UnmarshalText parses; its errors do not repeat the text, which may hold a
// password.
func (u *URL) UnmarshalText(text []byte) error {
	parsed, err := url.Parse(string(text))
	switch {
	case err != nil:
		return errors.New("is not a URL; write it as https://host/path")
	case parsed.Scheme != "https" && parsed.Scheme != "http", parsed.Hostname() == "":
		return errors.New("must begin with https:// or http:// and name a host")
	case parsed.User != nil:
		return errors.New("must not hold a user name or password: take them out of the URL")
	case parsed.RawQuery != "" || parsed.ForceQuery || parsed.Fragment != "":
		return errors.New("must not have a query or fragment: take ? or # and what follows out")
	}
	u.u = parsed
	return nil
}

// SettingType names the type in help texts.
func (URL) SettingType() string { return "URL" }

// Listen is an address to listen on, host:port or :port. The host is an IP
// address; port 0 takes any free one.
type Listen string

// UnmarshalText checks the form.
func (l *Listen) UnmarshalText(text []byte) error {
	host, port, err := net.SplitHostPort(string(text))
	if err != nil {
		return errors.New("must be an address and a port, such as 127.0.0.1:9464 or :8443")
	}
	if _, err := netip.ParseAddr(host); host != "" && err != nil {
		return errors.New("must name its host by IP address, not by name")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("must end in a port from 0 to %d", math.MaxUint16)
	}
	*l = Listen(text)
	return nil
}

// Loopback tells whether only this machine can reach the address.
func (l Listen) Loopback() bool {
	host, _, err := net.SplitHostPort(string(l))
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// Overlap tells whether two addresses, host:port, cannot both be listened on:
// they have the same port, and the same host or one of them has all.
func Overlap(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	return hostA == hostB || holds(hostA, hostB) || holds(hostB, hostA)
}

// holds tells whether to listen on host is to listen on other, too: on all
// addresses, or on all of IPv4.
func holds(host, other string) bool {
	if host == "" || host == "::" {
		return true
	}
	addr, err := netip.ParseAddr(other)
	return host == "0.0.0.0" && err == nil && addr.Unmap().Is4()
}

// SettingType names the type in help texts.
func (Listen) SettingType() string { return "address:port" }

// Address is one IP address, not a name.
type Address struct{ netip.Addr }

// UnmarshalText parses.
func (a *Address) UnmarshalText(text []byte) error {
	addr, err := netip.ParseAddr(string(text))
	if err != nil {
		return errors.New("must be an IP address, not a name, without a port")
	}
	a.Addr = addr
	return nil
}

// IsSet tells whether there is an address.
func (a Address) IsSet() bool { return a.IsValid() }

// String is the address, empty when unset.
func (a Address) String() string {
	if !a.IsValid() {
		return ""
	}
	return a.Addr.String()
}

// SettingType names the type in help texts.
func (Address) SettingType() string { return "IP address" }
