package openapitest

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// mediaType is the one that the documents have.
const mediaType = "application/json"

// jsonInText reads a string that holds JSON, such as a row's ivms101 parts. The
// library's own reader refuses numbers that are larger than a float64 holds,
// and such numbers travel as the text they are.
var jsonInText = &jsonschema.MediaType{
	Name: mediaType,
	Validate: func(text []byte) error {
		_, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		return err
	},
	UnmarshalJSON: func(text []byte) (any, error) { return jsonschema.UnmarshalJSON(bytes.NewReader(text)) },
}

// loading is a document being read, and where its schemas are compiled.
type loading struct {
	root     any
	compiler *jsonschema.Compiler
}

const location = "mem:///openapi.json"

func mustLoad(text []byte) *Document {
	root, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		panic(err)
	}
	l := &loading{root, jsonschema.NewCompiler()}
	l.compiler.DefaultDraft(jsonschema.Draft2020)
	l.compiler.AssertFormat()
	l.compiler.AssertContent()
	l.compiler.RegisterContentMediaType(jsonInText)
	if err := l.compiler.AddResource(location, root); err != nil {
		panic(err)
	}
	d := &Document{paths: http.NewServeMux()}
	paths := l.at("#/paths").members()
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		d.paths.Handle(path, http.NotFoundHandler())
		methods := paths[path].members()
		for _, method := range slices.Sorted(maps.Keys(methods)) {
			d.Operations = append(d.Operations, methods[method].operation(path, strings.ToUpper(method)))
		}
	}
	responses := l.at("#/components").members()["responses"].members()
	d.NoSuchPath = responses["NoSuchPath"].response()
	d.NoSuchMethod = responses["NoSuchMethod"].response()
	return d
}

// node is a place in a document. The zero node is nowhere.
type node struct {
	*loading
	pointer string // with the # in front
	value   any
}

// at gives a place by its pointer, which must lead somewhere.
func (l *loading) at(pointer string) node {
	n := node{l, "#", l.root}
	for name := range strings.SplitSeq(strings.TrimPrefix(pointer, "#/"), "/") {
		name = strings.NewReplacer("~1", "/", "~0", "~").Replace(name)
		next, ok := n.members()[name]
		if !ok {
			panic(fmt.Sprintf("the document has no %s", pointer))
		}
		n = next
	}
	return n
}

// members are what an object holds, references followed.
func (n node) members() map[string]node {
	object, _ := n.value.(map[string]any)
	all := make(map[string]node, len(object))
	for name, value := range object {
		m := node{n.loading, n.pointer + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name), value}
		all[name] = m.follow()
	}
	return all
}

// follow leads from a reference to its target. A schema stays: a reference in
// it has neighbours, and the library knows them.
func (n node) follow() node {
	object, _ := n.value.(map[string]any)
	if target, ok := object["$ref"].(string); ok && !strings.Contains(target, "/schemas/") {
		return n.at(target)
	}
	return n
}

func (n node) elements() (all []node) {
	array, _ := n.value.([]any)
	for i, value := range array {
		all = append(all, node{n.loading, n.pointer + "/" + strconv.Itoa(i), value}.follow())
	}
	return all
}

func (n node) text() string { s, _ := n.value.(string); return s }

func (n node) schema() *jsonschema.Schema {
	schema, err := n.compiler.Compile(location + n.pointer)
	if err != nil {
		panic(err)
	}
	return schema
}

// examples are the values under their names.
func (n node) examples() map[string]any {
	all := map[string]any{}
	for name, example := range n.members()["examples"].members() {
		all[name] = example.members()["value"].value
	}
	return all
}

func (n node) operation(path, method string) *Operation {
	in := n.members()
	o := &Operation{Path: path, Method: method, ID: in["operationId"].text(), Responses: map[int]*Response{}}
	_, open := in["security"]
	o.Guarded = !open
	for _, p := range in["parameters"].elements() {
		is := p.members()
		o.Parameters = append(o.Parameters, Parameter{
			Name: is["name"].text(), In: is["in"].text(), Examples: p.examples(),
			required: is["required"].value == true, schema: is["schema"].schema(),
			integer: is["schema"].members()["type"].value == "integer", empty: is["allowEmptyValue"].value == true,
		})
	}
	if body, ok := in["requestBody"]; ok {
		o.Body = body.content()
	}
	for status, response := range in["responses"].members() {
		code, err := strconv.Atoi(status)
		if err != nil {
			panic(err)
		}
		o.Responses[code] = response.response()
	}
	return o
}

func (n node) response() *Response {
	if n.value == nil {
		return nil
	}
	r := &Response{Body: *n.content(), headers: map[string]*jsonschema.Schema{}}
	for name, header := range n.members()["headers"].members() {
		r.headers[name] = header.members()["schema"].schema()
	}
	return r
}

func (n node) content() *Body {
	media := n.members()["content"].members()[mediaType]
	return &Body{Examples: media.examples(), schema: media.members()["schema"].schema()}
}
