package vasp

import (
	"context"
	"net"
	"time"
)

// Deadline is how long a call of one API may take.
func Deadline(api string) time.Duration { return deadlines[api] }

// Hang lets every connection that the client makes take for ever.
func Hang(c *Client) {
	c.transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
}

// Dials are how the client connects for http and for https.
func Dials(c *Client) (plain, secure func(context.Context, string, string) (net.Conn, error)) {
	return c.transport.DialContext, c.transport.DialTLSContext
}

// IdleTimeout is how long the client keeps an idle connection.
func IdleTimeout(c *Client) time.Duration { return c.transport.IdleConnTimeout }
