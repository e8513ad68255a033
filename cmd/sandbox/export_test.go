package sandbox

import "net/http"

// WrapTransport puts a transport around the one that all calls to enclaves and
// robots go through.
func WrapTransport(wrap func(http.RoundTripper) http.RoundTripper) {
	client.Transport = wrap(client.Transport)
}
