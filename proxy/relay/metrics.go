package relay

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
)

// reason is why a request was refused: a metric's label, from a closed set.
type reason string

const (
	reasonUnsigned  reason = "unsigned"
	reasonMalformed reason = "malformed" // signature headers not in the form of this wire
	reasonDirection reason = "direction" // signed for the other way
	reasonKey       reason = "unknown-key"
	reasonStale     reason = "stale" // or from the future
	reasonTooLarge  reason = "too-large"
	reasonBody      reason = "body" // the body did not arrive
	reasonDigest    reason = "digest"
	reasonSignature reason = "signature"
	reasonReplay    reason = "replay"
	reasonRecipient reason = "recipient" // signed for somebody else
	reasonFull      reason = "replay-memory-full"
)

var reasons = []reason{
	reasonUnsigned, reasonMalformed, reasonDirection, reasonKey, reasonStale, reasonTooLarge, reasonBody, reasonDigest,
	reasonSignature, reasonReplay, reasonRecipient, reasonFull,
}

// unauthenticated says whether nothing is known of who made the request.
func (r reason) unauthenticated() bool {
	return r != reasonTooLarge && r != reasonBody && r != reasonFull && r != reasonRecipient
}

// write answers a refused request. Only the size of a body is explained; all
// that concerns keys and signatures looks alike.
func (r reason) write(w http.ResponseWriter) {
	switch r {
	case reasonTooLarge:
		WriteError(w, http.StatusRequestEntityTooLarge, CodeTooLarge, "The body is larger than this wire carries.")
	case reasonBody:
		WriteError(w, http.StatusBadRequest, invalidPrefix+"BODY", "The body did not arrive whole.")
	default:
		WriteError(w, http.StatusUnauthorized, CodeUnauthenticated, "The request's signature is refused.")
	}
}

func newRefused(c VerifierConfig) map[reason]prometheus.Counter {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: c.Namespace, Name: "relay_refused_total", Help: "Requests refused before they were looked into, by reason.",
	}, []string{"reason"})
	refused := make(map[reason]prometheus.Counter)
	for _, r := range reasons {
		refused[r] = vec.WithLabelValues(string(r))
	}
	if c.Metrics != nil {
		c.Metrics.MustRegister(vec)
	}
	return refused
}

func newImpolite(c VerifierConfig) prometheus.Counter {
	counter := prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: c.Namespace, Name: "relay_throttled_total",
		Help: "Requests without a valid signature that were answered 429: their address had made too many.",
	})
	if c.Metrics != nil {
		c.Metrics.MustRegister(counter)
	}
	return counter
}
