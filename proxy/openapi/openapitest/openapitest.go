// Package openapitest holds calls against the OpenAPI documents. Schemas of
// OpenAPI 3.1 are JSON Schema 2020-12, which a library compiles once and then
// checks in microseconds, so every call of every test can be checked; which
// schema a call belongs to is found here.
package openapitest

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/vasp-enclave/vasp-enclave/proxy/openapi"
)

// The documents, compiled once.
var (
	Enclave = sync.OnceValue(func() *Document { return mustLoad(openapi.Enclave) })
	VASP    = sync.OnceValue(func() *Document { return mustLoad(openapi.VASP) })
)

// Document is an OpenAPI document that calls are held against. Its methods may
// be called concurrently.
type Document struct {
	// Operations are in the order of their paths and methods.
	Operations []*Operation
	// What any other path, and any other method of a known path, answers; nil
	// when the document does not say.
	NoSuchPath, NoSuchMethod *Response

	paths *http.ServeMux // finds a path as the enclave's own does
}

// Operation is one method of one path.
type Operation struct {
	Path, Method, ID string
	Guarded          bool // asks for the token, if there is one
	Parameters       []Parameter
	Body             *Body // nil: none
	Responses        map[int]*Response
}

// Parameter is one of the query or the path.
type Parameter struct {
	Name, In string
	Examples map[string]any

	required bool
	schema   *jsonschema.Schema
	integer  bool
	empty    bool // may be there without a value
}

// Body is what is sent one way, and the examples of it.
type Body struct {
	Examples map[string]any

	schema *jsonschema.Schema
}

// Response is the answer of one status.
type Response struct {
	Body

	headers map[string]*jsonschema.Schema
}

// Request says how a request differs from the document, nil when it does not.
// What the enclave refuses may differ.
func (d *Document) Request(method, target string, body []byte) error {
	u, err := url.Parse(target)
	if err != nil {
		return err
	}
	o, _ := d.find(method, u)
	if o == nil {
		return fmt.Errorf("%s %s is not in the document", method, u.Path)
	}
	for _, p := range o.Parameters {
		if err := p.check(o.Path, u); err != nil {
			return fmt.Errorf("%s %s: parameter %s: %w", o.Method, o.Path, p.Name, err)
		}
	}
	if o.Body == nil {
		return nil
	}
	if err := o.Body.check(body); err != nil {
		return fmt.Errorf("%s %s: request: %w", o.Method, o.Path, err)
	}
	return nil
}

// Answer says how an answer differs from the document: path, method, status,
// headers, type and body. Nil when it does not.
func (d *Document) Answer(method, target string, status int, header http.Header, body []byte) error {
	u, err := url.Parse(target)
	if err != nil {
		return err
	}
	o, others := d.find(method, u)
	var want *Response
	switch allow := header.Get("Allow"); {
	case o != nil:
		want = o.Responses[status]
	case status == http.StatusNotFound:
		want = d.NoSuchPath
	case status == http.StatusUnauthorized && len(others) > 0: // the token is asked for first
		want = others[0].Responses[status]
	case status == http.StatusMethodNotAllowed && len(others) > 0:
		if methods := methodsOf(others); allow != methods {
			return fmt.Errorf("%s: Allow is %q, and the document has %s", u.Path, allow, methods)
		}
		want = d.NoSuchMethod
	}
	if want == nil {
		return fmt.Errorf("%s %s: status %d is not in the document", method, u.Path, status)
	}
	if err := want.check(header, body); err != nil {
		return fmt.Errorf("%s %s: status %d: %w", method, u.Path, status, err)
	}
	return nil
}

// find gives the operation of a call, or those that its path has instead.
func (d *Document) find(method string, u *url.URL) (o *Operation, others []*Operation) {
	r := &http.Request{Method: method, URL: u, Host: "enclave"}
	_, pattern := d.paths.Handler(r)
	if pattern == "" {
		return nil, nil
	}
	for _, o := range d.Operations {
		switch {
		case o.Path != pattern:
		case o.Method == method:
			return o, nil
		default:
			others = append(others, o)
		}
	}
	return nil, others
}

// methodsOf is the Allow header of operations, which are in order.
func methodsOf(operations []*Operation) string {
	var methods []string
	for _, o := range operations {
		methods = append(methods, o.Method)
	}
	return strings.Join(methods, ", ")
}

func (p *Parameter) check(path string, u *url.URL) error {
	values := u.Query()[p.Name]
	if p.In == "path" {
		values = segmentOf(path, u.Path, p.Name)
	}
	switch {
	case len(values) == 0 && p.required:
		return errors.New("is missing")
	case len(values) == 0:
		return nil
	case len(values) > 1:
		return errors.New("is there more than once")
	case p.empty && values[0] == "":
		return nil
	}
	var value any = values[0]
	if p.integer {
		number, err := jsonschema.UnmarshalJSON(strings.NewReader(values[0]))
		if err != nil {
			return err
		}
		value = number
	}
	return p.schema.Validate(value)
}

// segmentOf gives the segment of a path that a pattern calls {name}.
func segmentOf(pattern, path, name string) []string {
	given := strings.Split(path, "/")
	for i, part := range strings.Split(pattern, "/") {
		if part == "{"+name+"}" {
			return given[i : i+1]
		}
	}
	return nil
}

func (b *Body) check(body []byte) error {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return err
	}
	return b.schema.Validate(value)
}

func (r *Response) check(header http.Header, body []byte) error {
	kind, parameters, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil || kind != mediaType || len(parameters) > 0 && parameters["charset"] != "utf-8" {
		return fmt.Errorf("Content-Type is %q", header.Get("Content-Type"))
	}
	for name, schema := range r.headers {
		var value any = header.Get(name)
		if number, err := jsonschema.UnmarshalJSON(strings.NewReader(header.Get(name))); err == nil {
			value = number
		}
		if err := schema.Validate(value); err != nil {
			return fmt.Errorf("header %s: %w", name, err)
		}
	}
	return r.Body.check(body)
}
