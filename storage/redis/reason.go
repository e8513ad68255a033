package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// reason says in a word why Redis could not be used. The set is closed. The
// text of an error goes nowhere: Redis wrote it, and an old one repeats the
// password that it was sent.
type reason string

const (
	timedOut       reason = "timeout"
	unreachable    reason = "unreachable"
	certificate    reason = "certificate"
	authentication reason = "authentication"
	permission     reason = "permission" // see the package's description for the ACL
	full           reason = "full"
	clusterDown    reason = "cluster-down"
	readOnly       reason = "read-only"
	loading        reason = "loading"
	cooling        reason = "cooling-down"
	protocol       reason = "protocol" // no Redis, or a hostile one
	refusal        reason = "refused"  // any other error of Redis
)

func reasonOf(err error) reason {
	var untrusted *tls.CertificateVerificationError
	var network net.Error
	var said goredis.Error
	switch {
	case errors.Is(err, errCooling):
		return cooling
	case errors.Is(err, errReply):
		return protocol
	case errors.As(err, &untrusted):
		return certificate
	case goredis.IsAuthError(err):
		return authentication
	case goredis.IsPermissionError(err):
		return permission
	case goredis.IsOOMError(err):
		return full
	case goredis.IsClusterDownError(err):
		return clusterDown
	case goredis.IsReadOnlyError(err):
		return readOnly
	case goredis.IsLoadingError(err):
		return loading
	case errors.As(err, &said):
		return refusal
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return timedOut
	}
	return unreachable
}

// isBad tells a value that cannot be a bundle: of another type, or too long.
func isBad(err error) bool {
	return errors.Is(err, errTooLong) || err != nil && goredis.HasErrorPrefix(err, "WRONGTYPE")
}

// isPrompt tells a refusal that costs a round trip only, so that Redis need
// not be left alone: a full one can still be read.
func isPrompt(err error) bool { return goredis.IsOOMError(err) || goredis.IsPermissionError(err) }

// silence is how often the log repeats itself at most.
const silence = time.Minute

// complaints writes to the log why Redis is not used, seldom.
type complaints struct {
	now    func() time.Time
	logger *slog.Logger

	mu   sync.Mutex
	last map[reason]time.Time
}

func (c *complaints) about(r reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if last, said := c.last[r]; said && now.Sub(last) < silence {
		return
	}
	if c.last == nil {
		c.last = map[reason]time.Time{}
	}
	c.last[r] = now
	c.logger.Warn("Redis is not used: counterparties are asked for their keys", "reason", string(r))
}
