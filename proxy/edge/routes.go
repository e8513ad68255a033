package edge

import (
	"maps"
	"net/http"
	"slices"
)

// Routes are the handlers of one listener, by the pattern of http.ServeMux.
// Every listener is made of them, so that a test can ask for each route of
// each listener and none is forgotten.
type Routes map[string]http.Handler

// Handler serves them, and 404 for the rest.
func (r Routes) Handler() *http.ServeMux {
	mux := http.NewServeMux()
	for pattern, h := range r {
		mux.Handle(pattern, h)
	}
	return mux
}

// Patterns lists them in order.
func (r Routes) Patterns() []string { return slices.Sorted(maps.Keys(r)) }
