package proxy

import (
	"errors"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vasp-enclave/vasp-enclave/crypto/envelope"
	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/crypto/keyring"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// metrics are what an SRE sees of the exchange. Label values come from closed
// sets; no address or text is ever a label, and VASP ids are in byPeer alone,
// which is for who asks for it (attack L1).
type metrics struct {
	exchanges   *prometheus.CounterVec   // by direction, message, outcome
	seconds     *prometheus.HistogramVec // by direction, message
	results     *prometheus.CounterVec   // final results by direction, result
	refused     *prometheus.CounterVec   // by reason
	objections  *prometheus.CounterVec   // by direction
	outbox      *prometheus.GaugeVec     // waiting entries by destination
	attempts    *prometheus.CounterVec   // by destination, outcome
	callback    prometheus.Histogram     // from acceptance to the callback's 200
	pins        *prometheus.CounterVec   // pin events by event
	directory   prometheus.Gauge         // when the kept directory was fetched
	lease       prometheus.Gauge         // 1 while registered with central
	reached     prometheus.Gauge         // 1 while central says that it reaches us
	misnamed    prometheus.Gauge         // 1 while central shows another identity for us
	peerKeys    *prometheus.CounterVec   // by event
	drained     *prometheus.CounterVec   // by key type
	conflicts   prometheus.Counter
	enumeration prometheus.Counter
	late        prometheus.Counter
	unverified  prometheus.Counter
	undelivered *prometheus.CounterVec // by message, reason
	overBudget  *prometheus.CounterVec // by message
	tooFast     prometheus.Counter
	tokenless   prometheus.Counter
	envelopes   *prometheus.HistogramVec // by operation
	retention   *retentionMetrics
	byPeer      *prometheus.CounterVec // by vasp, direction, outcome; nil unless asked for
}

var secondsBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 120, 600}

var envelopeBuckets = []float64{.00005, .0001, .0002, .0005, .001, .002, .005, .01, .02, .05, .1, .5}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		reg.MustRegister(c)
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
		reg.MustRegister(g)
		return g
	}
	m := &metrics{
		retention:   newRetentionMetrics(reg),
		exchanges:   counter("enclave_exchanges_total", "Messages exchanged with counterparties.", "direction", "message", "outcome"),
		results:     counter("enclave_verifications_total", "Verifications that reached a final result.", "direction", "result"),
		refused:     counter("enclave_refused_total", "Envelopes refused, by the inner reason; outside there is one.", "reason"),
		objections:  counter("enclave_payloads_refused_total", "Payloads that the validator refused.", "direction"),
		attempts:    counter("enclave_outbox_attempts_total", "Deliveries tried.", "destination", "outcome"),
		pins:        counter("enclave_peer_pin_events_total", "Identities believed, followed or put on hold.", "event"),
		peerKeys:    counter("enclave_peer_key_lookups_total", "Lookups of counterparties' keys, by what happened.", "event"),
		drained:     counter("enclave_keys_exhausted_total", "Key requests of counterparties over their budget, by key type.", "key_type"),
		enumeration: counterOne(reg, "enclave_account_checks_refused_total", "Account checks of counterparties over their budget: somebody may be collecting addresses."),
		conflicts:   counterOne(reg, "enclave_verification_conflicts_total", "Verification ids that came again with another content."),
		late:        counterOne(reg, "enclave_late_answers_total", "Answers that came after the final state."),
		unverified:  counterOne(reg, "enclave_tx_reports_unverified_total", "Transaction reports, of our backend or of a counterparty, whose verification is not VERIFIED."),
		undelivered: counter("enclave_reports_undelivered_total", "Reports that a counterparty did not take: not until their deadline, or it has no such verification.", "message", "reason"),
		overBudget:  counter("enclave_over_budget_total", "Reports and inquiries of counterparties over their budget.", "message"),
		tooFast:     counterOne(reg, "enclave_peer_messages_refused_total", "Messages refused with 429: their counterparty sends faster than VEGA_PEER_MESSAGES_PER_SECOND."),
		tokenless:   counterOne(reg, "enclave_backend_unauthenticated_total", "Requests at the backend's listener without the token of VEGA_SERVER_TOKEN."),
		directory:   gauge("enclave_directory_fetched_timestamp_seconds", "When the kept directory was last fetched from central."),
		reached:     gauge("enclave_reached_by_central", "1 while central's directory says that this enclave is up."),
		misnamed:    gauge("enclave_identity_misrepresented", "1 while central shows others another identity for this VASP than ours."),
		lease:       gauge("enclave_central_registered", "1 while central holds a lease for this enclave."),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "enclave_exchange_duration_seconds",
			Help: "Time of one exchange with a counterparty.", Buckets: secondsBuckets}, []string{"direction", "message"}),
		callback: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "enclave_verification_duration_seconds",
			Help: "Time from the backend's request to the 200 of its callback.", Buckets: secondsBuckets}),
		outbox: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "enclave_outbox_entries", Help: "Deliveries waiting."}, []string{"destination"}),
		envelopes: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "enclave_envelope_seconds",
			Help: "Time to seal and sign an envelope, or to open one, by operation: seal, open.", Buckets: envelopeBuckets}, []string{"operation"}),
	}
	reg.MustRegister(m.seconds, m.callback, m.outbox, m.envelopes)
	m.begin()
	return m
}

// begin shows what has not happened yet as zero, so that a rate or an alert
// sees the first time it does.
func (m *metrics) begin() {
	for _, event := range keyring.Events() {
		m.peerKeys.WithLabelValues(string(event))
	}
	for _, d := range []string{"peer", "backend"} {
		m.outbox.WithLabelValues(d)
		m.attempts.WithLabelValues(d, audit.OK)
	}
	for _, d := range []string{"sent", "received"} {
		for _, r := range []storage.Result{storage.Verified, storage.Denied, storage.Error} {
			m.results.WithLabelValues(d, r.String())
		}
	}
	for _, d := range []string{"outbound", "inbound"} {
		m.objections.WithLabelValues(d)
		for _, t := range questions {
			m.exchanges.WithLabelValues(d, t.String(), audit.OK)
		}
	}
	for _, operation := range []string{"seal", "open"} {
		m.envelopes.WithLabelValues(operation)
	}
	for _, verb := range []string{audit.PinPeer, audit.FollowPeer, audit.ChangePeer, audit.VerifyPeer, audit.AcceptPeer, audit.BlockPeer} {
		m.pins.WithLabelValues(verb)
	}
	for _, reason := range alarming {
		m.refused.WithLabelValues(reason)
	}
	for _, t := range []identity.KeyType{identity.PerVASP, identity.PerAddress, identity.PerVerification} {
		m.drained.WithLabelValues(t.String())
	}
	for _, t := range []envelope.MessageType{envelope.TxReport, envelope.ErrorReport} {
		m.overBudget.WithLabelValues(t.String())
		for _, reason := range []string{"deadline", "unknown"} {
			m.undelivered.WithLabelValues(t.String(), reason)
		}
	}
}

// questions are the messages that somebody begins with.
var questions = []envelope.MessageType{
	envelope.KeyRequest, envelope.AccountRequest, envelope.VerificationRequest, envelope.TxReport, envelope.ErrorReport, envelope.TxInquiry,
}

// alarming are reasons of refusals that no honest counterparty and no honest
// central give, but for former-identity, which lasts seconds after a rotation.
var alarming = []string{"bad-signature", "other-identity", "recipient-identity", "conflict", "pin", "replay", "former-identity"}

// labelPeers counts exchanges by counterparty too, which is for who asks for it:
// a label for each VASP, in a system that others may read.
func (m *metrics) labelPeers(reg prometheus.Registerer) {
	m.byPeer = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "enclave_peer_exchanges_total", Help: "Messages exchanged with each counterparty, by its VASP id; with VEGA_METRICS_VASP_LABELS only.",
	}, []string{"vasp", "direction", "outcome"})
	reg.MustRegister(m.byPeer)
}

// standing are metrics that are looked up when they are asked for.
type standing struct {
	e             *Enclave
	peers, oldest *prometheus.Desc
}

func newStanding(e *Enclave) *standing {
	return &standing{
		e:      e,
		peers:  prometheus.NewDesc("enclave_peers", "Counterparties whose identity is pinned, by how far it is believed.", []string{"state"}, nil),
		oldest: prometheus.NewDesc("enclave_outbox_oldest_timestamp_seconds", "When the delivery that waits longest was stored; 0 while none waits.", []string{"destination"}, nil),
	}
}

func (s *standing) Describe(out chan<- *prometheus.Desc) {
	out <- s.peers
	out <- s.oldest
}

func (s *standing) Collect(out chan<- prometheus.Metric) {
	states := map[storage.PeerState]int{storage.PeerTOFU: 0, storage.PeerVerified: 0, storage.PeerChangePending: 0, storage.PeerBlocked: 0}
	for _, p := range s.e.pins.all() {
		states[p.peer.State]++
	}
	for state, n := range states {
		out <- prometheus.MustNewConstMetric(s.peers, prometheus.GaugeValue, float64(n), strings.ReplaceAll(state.String(), "_", "-"))
	}
	for d, since := range s.e.outbox.oldest() {
		seconds := 0.0
		if !since.IsZero() {
			seconds = float64(since.UnixMilli()) / 1000
		}
		out <- prometheus.MustNewConstMetric(s.oldest, prometheus.GaugeValue, seconds, d)
	}
}

func counterOne(reg prometheus.Registerer, name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	reg.MustRegister(c)
	return c
}

// refuse counts a refusal under its own reason and gives it back as the one
// outward error (attack O4).
func (m *metrics) refuse(op, reason string, err error) error {
	var sealed *envelope.RefusedError
	var bundle *keyring.RefusedError
	switch {
	case errors.As(err, &sealed):
		reason = string(sealed.Reason)
	case errors.As(err, &bundle):
		reason = string(bundle.Reason)
	}
	if !otherIdentity(err) { // who looks for a successor first counts it
		m.refused.WithLabelValues(reason).Inc()
	}
	return &Error{Op: op, Kind: Refused, Err: err}
}

// stranger counts a refusal because somebody else signed than was pinned, and
// nobody whom the pinned one signed for. It returns its argument.
func (m *metrics) stranger(err error) error {
	if otherIdentity(err) {
		m.refused.WithLabelValues(string(envelope.OtherIdentity)).Inc()
	}
	return err
}

func outcome(err error) string {
	if err == nil {
		return "ok"
	}
	return kindOf(err).Outcome()
}

// sealing times what the processor does for an envelope until the function it
// gives is called.
func (m *metrics) sealing(now func() time.Time, operation string) func() {
	begun := now()
	return func() { m.envelopes.WithLabelValues(operation).Observe(now().Sub(begun).Seconds()) }
}
