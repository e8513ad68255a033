package outwardtest

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Lure is servers that send their callers elsewhere, and elsewhere itself:
// servers that count whoever comes. All their certificates are of Roots, so
// that a caller who follows does arrive.
type Lure struct {
	t     testing.TB
	forge *forge
	Roots *x509.CertPool

	strayed atomic.Int32
	plain   []string // host:port of who counts
	secure  []string
}

// NewLure starts the servers that count: http and https, at the same host as
// origins and at others.
func NewLure(t testing.TB) *Lure {
	t.Helper()
	l := &Lure{t: t, forge: newForge(t, "127.0.0.8")}
	l.Roots = l.forge.pool
	trap := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, "{}")
	})
	for _, host := range []string{"127.0.0.8", "127.0.0.9"} {
		l.plain = append(l.plain, l.start(host, false, true, trap))
		l.secure = append(l.secure, l.start(host, true, true, trap))
	}
	return l
}

// Strayed counts the connections that came where none should.
func (l *Lure) Strayed() int { return int(l.strayed.Load()) }

// Stray counts one that h saw.
func (l *Lure) Stray() { l.strayed.Add(1) }

// Origin starts a server that is called on purpose. What is asked of it below
// any other path than those of h counts as strayed.
func (l *Lure) Origin(secure bool, h http.Handler) *url.URL {
	l.t.Helper()
	scheme := "http"
	if secure {
		scheme = "https"
	}
	return &url.URL{Scheme: scheme, Host: l.start("127.0.0.8", secure, false, h)}
}

func (l *Lure) start(host string, secure, trap bool, h http.Handler) string {
	l.t.Helper()
	listener, err := net.Listen("tcp", host+":0")
	if err != nil {
		l.t.Fatal(err)
	}
	address := listener.Addr().String()
	if secure {
		listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{l.forge.leaf(l.forge.root, host, nil)}})
	}
	server := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
	if trap {
		server.ConnState = func(_ net.Conn, s http.ConnState) {
			if s == http.StateNew {
				l.Stray()
			}
		}
	}
	var done sync.WaitGroup
	done.Go(func() { _ = server.Serve(listener) })
	l.t.Cleanup(func() { server.Close(); done.Wait() })
	return address
}

// Answer is one way to send a caller elsewhere.
type Answer struct {
	Name   string
	Status int
	Header http.Header
	Body   string
}

// Write answers with it.
func (a Answer) Write(w http.ResponseWriter) {
	for name, values := range a.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(a.Status)
	_, _ = io.WriteString(w, a.Body)
}

// Answers are all ways away from an origin: the five redirects to the same and
// other paths, ports, hosts and schemes, in every spelling, and other answers
// that ask for the request again.
func (l *Lure) Answers(origin *url.URL) (list []Answer) {
	places := []string{
		"/stolen", "stolen", "./stolen", "../stolen", "?stolen=1", "", "#stolen", "//" + l.plain[1] + "/", "//" + l.secure[1] + "/",
		origin.Scheme + "://" + origin.Host + "/stolen", strings.ToUpper(origin.Scheme) + "://" + origin.Host + "/stolen",
		"http://user:password@" + l.plain[1] + "/", `\\` + l.plain[1] + `\`, "http:" + l.plain[1], "javascript:alert(1)", "file:///etc/passwd", "://", "%zz",
	}
	for _, host := range l.plain {
		places = append(places, "http://"+host+"/", "HTTP://"+host)
	}
	for _, host := range l.secure {
		places = append(places, "https://"+host+"/", "https://"+host+"/account?a=b#c")
	}
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, place := range places {
			list = append(list, Answer{Name: http.StatusText(status) + " to " + place, Status: status, Header: http.Header{"Location": {place}}})
		}
		list = append(list,
			Answer{Name: http.StatusText(status) + " to nowhere", Status: status},
			Answer{Name: http.StatusText(status) + " twice", Status: status, Header: http.Header{"Location": {"http://" + l.plain[0] + "/", "https://" + l.secure[1] + "/"}}})
	}
	elsewhere := http.Header{
		"Location": {"https://" + l.secure[1] + "/"}, "Content-Location": {"https://" + l.secure[1] + "/"}, "Refresh": {"0; url=https://" + l.secure[1] + "/"},
		"Alt-Svc": {`h2="` + l.secure[1] + `"; ma=3600, http/1.1="` + l.secure[1] + `"`}, "Link": {"<https://" + l.secure[1] + "/>; rel=preload"},
		"Uri": {"https://" + l.secure[1] + "/"}, "X-Accel-Redirect": {"/stolen"}, "Retry-After": {"0"}, "Proxy-Connection": {"keep-alive"},
		"Www-Authenticate":   {`Basic realm="x"`, `Digest realm="x", nonce="y", algorithm=MD5, qop="auth"`, "Negotiate", `Bearer realm="https://` + l.secure[1] + `/token"`},
		"Proxy-Authenticate": {`Basic realm="x"`}, "Strict-Transport-Security": {"max-age=3600"}, "Set-Cookie": {"a=b; Domain=127.0.0.9"},
	}
	for _, status := range []int{201, 202, 204, 205, 206, 226, 300, 304, 305, 306, 401, 402, 403, 404, 407, 408, 409, 418, 421, 425, 426, 428, 429, 451, 500, 502, 503, 504, 511} {
		list = append(list, Answer{Name: http.StatusText(status), Status: status, Header: elsewhere})
	}
	page := `<meta http-equiv="refresh" content="0; url=https://` + l.secure[1] + `/"><script>location="https://` + l.secure[1] + `/"</script>`
	html := elsewhere.Clone()
	html.Set("Content-Type", "text/html")
	return append(list, Answer{Name: "a page that moves on", Status: 200, Header: html, Body: page})
}
