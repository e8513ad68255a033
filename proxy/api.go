package proxy

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/vasp-enclave/vasp-enclave/crypto/identity"
	"github.com/vasp-enclave/vasp-enclave/proxy/audit"
	"github.com/vasp-enclave/vasp-enclave/proxy/edge"
	"github.com/vasp-enclave/vasp-enclave/proxy/openapi"
	"github.com/vasp-enclave/vasp-enclave/proxy/relay"
	"github.com/vasp-enclave/vasp-enclave/storage"
)

// API is the HTTP surface for the VASP's own backend (contract section 2).
// A non-empty token must then come as a bearer; the listener is loopback
// unless its setting says unsafe.
func (e *Enclave) API(token string) http.Handler {
	api := &api{Enclave: e, want: sha256.Sum256([]byte(token)), tokenless: token == ""}
	return api.routes().Handler()
}

func (a *api) routes() edge.Routes {
	routes := edge.Routes{"/": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { writeError(w, noSuchPath()) })}
	for path, m := range a.open() {
		routes[path] = a.serve(m)
	}
	for path, m := range a.closed() {
		routes[path] = a.guarded(a.serve(m))
	}
	return routes
}

// APIRoutes are the methods and paths that API serves.
func APIRoutes() []string {
	a := &api{Enclave: new(Enclave)}
	var all []string
	for _, paths := range []map[string]methods{a.open(), a.closed()} {
		for path, m := range paths {
			for method := range m {
				all = append(all, method+" "+path)
			}
		}
	}
	slices.Sort(all)
	return all
}

type api struct {
	*Enclave
	want      [32]byte
	tokenless bool
}

// open are the paths that need no token.
func (a *api) open() map[string]methods {
	return map[string]methods{
		"/healthcheck":      {http.MethodGet: a.health},
		openapi.EnclavePath: {http.MethodGet: document(openapi.Enclave)},
		openapi.VASPPath:    {http.MethodGet: document(openapi.VASP)},
	}
}

// closed are the paths that need the token, when there is one.
func (a *api) closed() map[string]methods {
	return map[string]methods{
		"/v1/vasps/self":            {http.MethodGet: a.self},
		"/v1/vasps":                 {http.MethodGet: a.directory},
		"/v1/verifications/account": {http.MethodPost: post(readAccountRequest, a.checkAccount)},
		"/v1/verifications":         {http.MethodPost: post(readVerificationRequest, a.verify), http.MethodGet: a.history},
		"/v1/verifications/{uuid}":  {http.MethodGet: a.verification},

		"/v1/verifications/tx":         {http.MethodPost: post(readTxReport, a.reportTransaction)},
		"/v1/verifications/error":      {http.MethodPost: post(readErrorReport, a.reportError)},
		"/v1/verifications/tx/inquiry": {http.MethodPost: post(readInquiry, a.inquire)},
	}
}

// handler is a handler that returns its error; one place writes it.
type handler func(w http.ResponseWriter, r *http.Request) error

// methods are the handlers of one path.
type methods map[string]handler

// serve answers by the method, and leaves a line in the log where a caller is
// told to look there.
func (a *api) serve(m methods) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, ok := m[r.Method]
		if !ok {
			h = m.others
		}
		err := h(w, r)
		if err == nil {
			return
		}
		if kind := kindOf(err); kind == Internal || kind == Storage {
			a.Logger.Error("a request of the backend failed", "method", r.Method, "path", r.Pattern, "err", err)
		}
		writeError(w, err)
	})
}

// others answers a method that a path does not have.
func (m methods) others(w http.ResponseWriter, r *http.Request) error {
	if id := r.PathValue("uuid"); id != "" && uuid.Validate(id) != nil {
		return noSuchPath() // no verification's path, but one that looks like it
	}
	allowed := slices.Sorted(maps.Keys(m))
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	return &Error{Op: "route", Kind: MethodNotAllowed, Message: "Use " + strings.Join(allowed, " or ") + "."}
}

func noSuchPath() error {
	return &Error{Op: "route", Kind: NotFound, Message: "No such path; the enclave's paths begin with /v1/."}
}

// guarded asks for the bearer token, when one is set. Digests are compared,
// so that the time taken says nothing of the token.
func (a *api) guarded(next http.Handler) http.Handler {
	if a.tokenless {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		got := sha256.Sum256([]byte(given))
		if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(got[:], a.want[:]) != 1 {
			a.metrics.tokenless.Inc()
			a.aloud.Do(func() {
				a.Logger.Warn("a caller of the backend's listener does not have the token of VEGA_SERVER_TOKEN", "address", r.RemoteAddr, "method", r.Method, "path", r.Pattern)
			})
			w.Header().Set("WWW-Authenticate", "Bearer")
			writeError(w, &Error{Op: "authenticate", Kind: Unauthenticated, Message: "Send `Authorization: Bearer` with the token of VEGA_SERVER_TOKEN."})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// writeError is the one writer of error bodies: code and message only.
func writeError(w http.ResponseWriter, err error) {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Kind: Internal}
	}
	if e.Kind == Unavailable || e.Kind == Storage {
		w.Header().Set("Retry-After", relay.FormatRetryAfter(e.RetryAfter))
	}
	writeJSON(w, e.Kind.Status(), newText().str("code", e.code()).str("message", e.message()).end())
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return nil, &Error{Op: "read body", Kind: UnsupportedMedia, Message: "Send the body without Content-Encoding."}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxRequest))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, &Error{Op: "read body", Kind: TooLarge, Message: "The body is longer than " + strconv.Itoa(MaxRequest) + " bytes."}
	case err != nil:
		return nil, invalid("BAD-REQUEST", "The body ended early.")
	}
	return body, nil
}

func (a *api) health(w http.ResponseWriter, _ *http.Request) error {
	writeJSON(w, http.StatusOK, []byte(`{"status":"UP"}`))
	return nil
}

// document answers one of the OpenAPI documents.
func document(text []byte) handler {
	return func(w http.ResponseWriter, _ *http.Request) error {
		writeJSON(w, http.StatusOK, text)
		return nil
	}
}

func (a *api) self(w http.ResponseWriter, _ *http.Request) error {
	writeJSON(w, http.StatusOK, newText().str("vaspId", a.Self.String()).end())
	return nil
}

func (a *api) directory(w http.ResponseWriter, r *http.Request) error {
	query, err := readQuery(r)
	if err != nil {
		return err
	}
	protocol := query.Get("protocol")
	switch protocol {
	case "", "ALL", "VERIFYVASP", "CODE":
	default:
		return invalid("INVALID-PROTOCOL", "`protocol` is invalid value: use VERIFYVASP, CODE or ALL.")
	}
	list := []byte{'['}
	for _, m := range a.members(r.Context()) {
		if protocol != "" && protocol != "ALL" && m.Protocol != protocol {
			continue
		}
		if len(list) > 1 {
			list = append(list, ',')
		}
		list = append(list, memberText(m)...)
	}
	writeJSON(w, http.StatusOK, newText().raw("vasps", append(list, ']')).end())
	return nil
}

// memberText is one VASP as the contract shows it (2.2): the identity and
// other words between enclaves stay inside.
func memberText(m relay.Member) []byte {
	t := newText().str("health", m.Health).str("vaspId", m.VASPID.String()).str("vaspName", m.VASPName)
	for _, field := range []struct{ name, value string }{
		{"legalName", m.LegalName}, {"jurisdiction", m.Jurisdiction}, {"country", m.Country}, {"countryCode", m.CountryCode},
	} {
		if field.value != "" {
			t.str(field.name, field.value)
		}
	}
	return t.bool("isAlliance", m.IsAlliance).str("protocol", m.Protocol).orNull("licensedStatus", m.LicensedStatus).
		str("vaspStatus", m.VASPStatus).str("createdAt", m.CreatedAt).str("updatedAt", m.UpdatedAt).end()
}

// post answers a POST: what read makes of the body, act answers with a text.
func post[T any](read func([]byte) (T, error), act func(context.Context, T) ([]byte, error)) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		body, err := readBody(w, r)
		if err != nil {
			return err
		}
		request, err := read(body)
		if err != nil {
			return err
		}
		answer, err := act(r.Context(), request)
		if err != nil {
			return err
		}
		writeJSON(w, http.StatusOK, answer)
		return nil
	}
}

func (a *api) checkAccount(ctx context.Context, r *accountRequest) ([]byte, error) {
	answer, err := a.CheckAccount(ctx, r)
	if err != nil {
		return nil, err
	}
	return accountText(answer), nil
}

func (a *api) verify(ctx context.Context, r *verificationRequest) ([]byte, error) {
	row, err := a.Accept(ctx, r)
	if err != nil {
		return nil, err
	}
	return newText().str("verificationUuid", row.UUID.String()).str("createdAt", timestamp(row.CreatedAt)).end(), nil
}

func (a *api) reportTransaction(ctx context.Context, r *txReport) ([]byte, error) {
	return reportAnswerText(true), a.ReportTransaction(ctx, r)
}

func (a *api) reportError(ctx context.Context, r *errorReport) ([]byte, error) {
	return reportAnswerText(true), a.ReportError(ctx, r)
}

func (a *api) inquire(ctx context.Context, id uuid.UUID) ([]byte, error) {
	answer, err := a.Inquire(ctx, id)
	if err != nil {
		return nil, err
	}
	return answer.text(newText().str("verificationUuid", id.String())), nil
}

func (a *api) verification(w http.ResponseWriter, r *http.Request) error {
	given := r.PathValue("uuid")
	notFound := &Error{Op: "find verification", Kind: NotFound, Code: "VERIFICATION-NOT-FOUND", Message: "Verification is not found"}
	id, err := uuid.Parse(given)
	if err != nil || len(given) != 36 {
		return notFound
	}
	notFound.Message = "Verification(" + id.String() + ") is not found"
	rows, err := a.History.Lookup(r.Context(), id)
	switch {
	case errors.Is(err, storage.ErrNotFound), err == nil && len(rows) == 0:
		return notFound
	case err != nil:
		return fail("find verification", Storage, err)
	}
	if err := a.noteRead(r.Context(), audit.Read, id.String(), ""); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, rowText(rows[0]))
	return nil
}

func (a *api) history(w http.ResponseWriter, r *http.Request) error {
	query, err := readQuery(r)
	if err != nil {
		return err
	}
	filter, page, err := readFilter(query)
	if err != nil {
		return err
	}
	rows, count, err := a.History.List(r.Context(), filter)
	if err != nil {
		return fail("list verifications", Storage, err)
	}
	if err := a.noteRead(r.Context(), audit.List, "", strconv.Itoa(len(rows))); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, listText(rows, count, page, filter.Limit))
	return nil
}

// noteRead writes down that the backend reads rows. They are not shown if that
// fails (attack G1). Filters are not written: they may name an account.
func (a *api) noteRead(ctx context.Context, verb, object, reason string) error {
	entry := storage.AuditEntry{Time: a.Now(), Actor: audit.Backend, Verb: verb, Object: object, Outcome: audit.OK, Reason: reason}
	if err := a.record(ctx, entry); err != nil {
		return &Error{Op: "write the audit entry", Kind: Storage, Err: err, Message: "The audit log cannot be written now; nothing was shown."}
	}
	return nil
}

// listText is one page of count rows as the contract shows it.
func listText(rows []*storage.Verification, count, page, limit int) []byte {
	list := []byte{'['}
	for i, row := range rows {
		if i > 0 {
			list = append(list, ',')
		}
		list = append(list, rowText(row)...)
	}
	return newText().
		raw("count", strconv.AppendInt(nil, int64(count), 10)).
		raw("page", strconv.AppendInt(nil, int64(page), 10)).
		raw("rpp", strconv.AppendInt(nil, int64(limit), 10)).
		raw("verifications", append(list, ']')).end()
}

// rowText is one row as the contract shows it (2.5): ids and amounts are
// strings, the four parts are strings that hold JSON.
func rowText(v *storage.Verification) []byte {
	t := newText().
		str("verificationId", strconv.FormatUint(v.Record, 10)).
		str("verificationUuid", v.UUID.String()).
		str("result", v.Result.String()).str("reason", v.Reason).str("message", v.Message).
		object("assetInfo", assetText(v.Asset)).
		orNull("txHash", v.TxHash).orNull("vout", v.VOut).
		str("originatingVaspId", v.Originating.String()).
		str("originatorAccountNumber", v.OriginatorAccount).
		str("beneficiaryVaspId", v.Beneficiary.String()).
		str("beneficiaryAccountNumber", v.BeneficiaryAccount)
	return t.
		orNull("ivms101Originator", string(v.IVMS101.Originator)).
		orNull("ivms101OriginatingVasp", string(v.IVMS101.OriginatingVASP)).
		orNull("ivms101Beneficiary", string(v.IVMS101.Beneficiary)).
		orNull("ivms101BeneficiaryVasp", string(v.IVMS101.BeneficiaryVASP)).
		orNull("verifiedAt", timestamp(v.VerifiedAt)).
		orNull("orderedAt", timestamp(v.OrderedAt)).
		str("createdAt", timestamp(v.CreatedAt)).end()
}

// Pages of the history (contract 2.5): the default, and the most at once.
const (
	defaultRPP = 10
	maxRPP     = 1000
)

// readQuery refuses what cannot be read: a filter that is passed over gives
// more rows than were asked for.
func readQuery(r *http.Request) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalid("INVALID-QUERY", "The query is refused: write it as name=value&name=value, percent-encoded.")
	}
	for name, values := range q {
		if len(values) > 1 && slices.Contains(filters, name) {
			return nil, invalid("INVALID-"+kebab(name), "`%s` is invalid value: it is there more than once.", name)
		}
	}
	return q, nil
}

var filters = []string{
	"fromDate", "toDate", "symbol", "network", "txHash", "result", "actionType", "oppositeVaspId",
	"originatorAccountNumber", "beneficiaryAccountNumber", "page", "rpp", "protocol",
}

func readFilter(q url.Values) (f storage.Filter, page int, err error) {
	f = storage.Filter{
		Symbol: q.Get("symbol"), Network: q.Get("network"), TxHash: q.Get("txHash"),
		OriginatorAccount: q.Get("originatorAccountNumber"), BeneficiaryAccount: q.Get("beneficiaryAccountNumber"),
	}
	if f.From, err = readDate(q, "fromDate", 0); err != nil {
		return f, 0, err
	}
	if f.To, err = readDate(q, "toDate", 24*time.Hour); err != nil {
		return f, 0, err
	}
	if s := q.Get("result"); s != "" {
		if f.Result, err = storage.ParseResult(s); err != nil {
			return f, 0, invalid("INVALID-RESULT", "`result` should be one of `VERIFIED`, `DENIED`, `ERROR`.")
		}
	}
	switch q.Get("actionType") {
	case "":
	case "SEND":
		f.Sent = true
	case "RECEIVE":
		f.Received = true
	default:
		return f, 0, invalid("INVALID-ACTION-TYPE", "`actionType` should be one of `SEND`, `RECEIVE`.")
	}
	if s := q.Get("oppositeVaspId"); s != "" {
		if f.Opposite, err = identity.ParseVASPID(s); err != nil {
			return f, 0, invalid("INVALID-OPPOSITE-VASP-ID", "`oppositeVaspId` is invalid value: give the VASP's decimal id.")
		}
	}
	if page, err = readCount(q, "page", 1, 1_000_000_000); err != nil {
		return f, 0, err
	}
	if f.Limit, err = readCount(q, "rpp", defaultRPP, maxRPP); err != nil {
		return f, 0, err
	}
	f.Offset = (page - 1) * f.Limit
	return f, page, nil
}

// readDate reads a day, UTC, or a time. A day as an upper bound is the whole
// day: through is how far it reaches.
func readDate(q url.Values, name string, through time.Duration) (time.Time, error) {
	s := q.Get(name)
	if s == "" {
		return time.Time{}, nil
	}
	if day, err := time.Parse(time.DateOnly, s); err == nil {
		return day.Add(through), nil
	}
	if at, ok := parseTime(s); ok {
		if through > 0 {
			at = at.Add(time.Millisecond) // the bound itself is in
		}
		return at, nil
	}
	return time.Time{}, invalid("INVALID-"+kebab(name), "`%s` is invalid value: write YYYY-MM-DD.", name)
}

func readCount(q url.Values, name string, standard, most int) (int, error) {
	s := q.Get(name)
	if s == "" {
		return standard, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > most {
		return 0, invalid("INVALID-"+kebab(name), "`%s` is invalid value: write a number from 1 to %d.", name, most)
	}
	return n, nil
}
