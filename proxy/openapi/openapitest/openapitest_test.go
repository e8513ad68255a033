package openapitest

import (
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/vasp-enclave/vasp-enclave/proxy/openapi"
)

var documents = map[string][]byte{"enclave": openapi.Enclave, "vasp": openapi.VASP}

// The documents are OpenAPI 3.1, by the schema that its authors publish
// (testdata/openapi-3.1.json, https://spec.openapis.org/oas/3.1/schema/2022-10-07,
// Apache-2.0).
func TestDocumentsAreOpenAPI(t *testing.T) {
	text, err := os.ReadFile("testdata/openapi-3.1.json")
	if err != nil {
		t.Fatal(err)
	}
	specification := compile(t, string(text))
	for name, document := range documents {
		if err := specification.Validate(parse(t, string(document))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	broken := strings.Replace(string(openapi.Enclave), `"operationId"`, `"operationID"`, 1)
	if specification.Validate(parse(t, broken)) == nil {
		t.Error("a misspelt member passes")
	}
}

// What a generator of clients and a reader need: each operation has a name of
// its own, a summary and a description or an answer that speaks for itself,
// and every component is used.
func TestDocumentsAreComplete(t *testing.T) {
	for name, document := range documents {
		l := &loading{root: parse(t, string(document))}
		ids := map[string]bool{}
		for path, methods := range l.at("#/paths").members() {
			for method, o := range methods.members() {
				in := o.members()
				if id := in["operationId"].text(); id == "" || ids[id] || in["summary"].text() == "" || len(in["tags"].elements()) == 0 {
					t.Errorf("%s: %s %s lacks an operationId of its own, a summary or a tag", name, method, path)
				} else {
					ids[id] = true
				}
			}
		}
		for kind, components := range l.at("#/components").members() {
			for component := range components.members() {
				pointer := "#/components/" + kind + "/" + component
				spoken := kind == "securitySchemes" || component == "NoSuchPath" || component == "NoSuchMethod"
				if !spoken && !strings.Contains(string(document), `"`+pointer+`"`) {
					t.Errorf("%s: nobody refers to %s", name, pointer)
				}
			}
		}
	}
}

// Generators of clients drop what stands beside a reference, make a name that
// nobody can read of an empty value, and tell alternatives apart by a
// discriminator only.
func TestDocumentsSuitGenerators(t *testing.T) {
	for name, document := range documents {
		l := &loading{root: parse(t, string(document))}
		var walk func(at string, value any)
		walk = func(at string, value any) {
			switch v := value.(type) {
			case []any:
				for i, inner := range v {
					walk(at+"/"+strconv.Itoa(i), inner)
				}
			case map[string]any:
				for member, inner := range v {
					if _, refers := v["$ref"]; refers && member != "$ref" && member != "description" {
						t.Errorf("%s: %s: %s stands beside a reference", name, at, member)
					}
					walk(at+"/"+member, inner)
				}
				if list, _ := v["enum"].([]any); slices.Contains(list, any("")) {
					t.Errorf("%s: %s: an empty value among others", name, at)
				}
				if _, alternatives := v["oneOf"]; alternatives && v["discriminator"] == nil {
					t.Errorf("%s: %s: alternatives without a discriminator", name, at)
				}
			}
		}
		walk("#", l.root)
	}
	callback := (&loading{root: parse(t, string(openapi.VASP))}).at("#/components/schemas/Callback").members()
	for kind, schema := range callback["discriminator"].members()["mapping"].members() {
		at := (&loading{root: parse(t, string(openapi.VASP))}).at(schema.text() + "/properties/callbackType/enum")
		if all := at.elements(); len(all) != 1 || all[0].text() != kind {
			t.Errorf("%s leads to %s, which is another type", kind, schema.text())
		}
	}
}

// Every example is what its schema says, a request's when it succeeds.
func TestExamplesAreValid(t *testing.T) {
	for name, d := range map[string]*Document{"enclave": Enclave(), "vasp": VASP()} {
		n := 0
		for _, o := range d.Operations {
			succeed := o.Responses[http.StatusOK].Examples
			if o.Body != nil {
				for example, value := range o.Body.Examples {
					if _, ok := succeed[example]; ok {
						check(t, o, example, o.Body.schema, value)
						n++
					}
				}
			}
			for _, p := range o.Parameters {
				for example, value := range p.Examples {
					if _, ok := succeed[example]; ok {
						check(t, o, example, p.schema, value)
						n++
					}
				}
			}
			for _, r := range o.Responses {
				for example, value := range r.Examples {
					check(t, o, example, r.schema, value)
					n++
				}
			}
		}
		if n < 15 {
			t.Errorf("%s: %d examples, want at least 15", name, n)
		}
	}
	check(t, &Operation{}, "no-such-path", Enclave().NoSuchPath.schema, Enclave().NoSuchPath.Examples["no-such-path"])
	check(t, &Operation{}, "no-such-method", Enclave().NoSuchMethod.schema, Enclave().NoSuchMethod.Examples["no-such-method"])
}

func check(t *testing.T, o *Operation, example string, schema *jsonschema.Schema, value any) {
	t.Helper()
	if err := schema.Validate(value); err != nil {
		t.Errorf("%s: example %s: %v", o.ID, example, err)
	}
}

// The examples inside schemas, too.
func TestSchemasHoldTheirExamples(t *testing.T) {
	for name, document := range documents {
		l := &loading{parse(t, string(document)), compiler(t, string(document))}
		n := 0
		var walk func(at node)
		walk = func(at node) {
			examples := at.members()["examples"].elements()
			for _, example := range examples {
				if err := at.schema().Validate(example.value); err != nil {
					t.Errorf("%s: %s: %v", name, at.pointer, err)
				}
				n++
			}
			for member, inner := range at.members() {
				if member != "examples" && member != "example" {
					walk(inner)
				}
			}
		}
		for _, schema := range l.at("#/components/schemas").members() {
			walk(schema)
		}
		if n == 0 {
			t.Errorf("%s has no examples in schemas", name)
		}
	}
}

// The checks that all other tests rely on must be able to fail.
func TestDifferencesAreFound(t *testing.T) {
	typed := http.Header{"Content-Type": {"application/json; charset=utf-8"}}
	later := http.Header{"Content-Type": {"application/json; charset=utf-8"}, "Retry-After": {"1"}}
	allow := http.Header{"Content-Type": {"application/json; charset=utf-8"}, "Allow": {"POST"}}
	problem := func(code string) string { return `{"code":"` + code + `","message":"m"}` }
	for _, c := range []struct {
		name, method, target string
		status               int
		header               http.Header
		body                 string
		ok                   bool
	}{
		{"fits", "GET", "/healthcheck", 200, typed, `{"status":"UP"}`, true},
		{"another value", "GET", "/healthcheck", 200, typed, `{"status":"DOWN"}`, false},
		{"a new member", "GET", "/healthcheck", 200, typed, `{"status":"UP","more":1}`, false},
		{"a lost member", "GET", "/healthcheck", 200, typed, `{}`, false},
		{"no JSON", "GET", "/healthcheck", 200, typed, `UP`, false},
		{"no type", "GET", "/healthcheck", 200, http.Header{}, `{"status":"UP"}`, false},
		{"another type", "GET", "/healthcheck", 200, http.Header{"Content-Type": {"text/plain"}}, `{"status":"UP"}`, false},
		{"another status", "GET", "/healthcheck", 500, typed, problem("INTERNAL-ERROR"), false},
		{"a code", "POST", "/v1/verifications?x=1", 400, typed, problem("MISSING-AMOUNT"), true},
		{"a code of another call", "POST", "/v1/verifications", 400, typed, problem("MISSING-TX-HASH"), false},
		{"a new code", "POST", "/v1/verifications", 400, typed, problem("INVALID-MOOD"), false},
		{"a code of another status", "POST", "/v1/verifications", 503, later, problem("MISSING-AMOUNT"), false},
		{"more in an error", "POST", "/v1/verifications", 400, typed, `{"code":"MISSING-AMOUNT","message":"m","op":"x"}`, false},
		{"with its header", "POST", "/v1/verifications", 503, later, problem("OUTBOX-FULL"), true},
		{"without its header", "POST", "/v1/verifications", 503, typed, problem("OUTBOX-FULL"), false},
		{"a path with an id", "GET", "/v1/verifications/x", 404, typed, problem("VERIFICATION-NOT-FOUND"), true},
		{"no such path", "GET", "/nowhere", 404, typed, problem("NOT-FOUND"), true},
		{"an answer to no path", "GET", "/nowhere", 200, typed, `{}`, false},
		{"no such method", "GET", "/v1/verifications/tx", 405, allow, problem("METHOD-NOT-ALLOWED"), true},
		{"other methods than the document's", "GET", "/v1/vasps", 405, allow, problem("METHOD-NOT-ALLOWED"), false},
		{"an undocumented method", "DELETE", "/v1/vasps", 200, typed, `{}`, false},
	} {
		if err := Enclave().Answer(c.method, c.target, c.status, c.header, []byte(c.body)); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	const id = `"6c0b5e52-8f6c-4b8a-9d0b-7a1c3f5e2d94"`
	for _, c := range []struct {
		method, target, body string
		ok                   bool
	}{
		{"GET", "/v1/verifications?rpp=1&fromDate=2026-03-01&other=x", "", true},
		{"GET", "/v1/verifications?result=&actionType=", "", true},
		{"GET", "/v1/verifications?result=GOOD", "", false},
		{"GET", "/v1/verifications?rpp=0", "", false},
		{"GET", "/v1/verifications?rpp=x", "", false},
		{"GET", "/v1/verifications?page=1&page=2", "", false},
		{"GET", "/v1/verifications?fromDate=yesterday", "", false},
		{"GET", "/v1/verifications/" + strings.Trim(id, `"`), "", true},
		{"GET", "/v1/verifications/x", "", false},
		{"POST", "/v1/verifications/tx", `{"verificationUuid":` + id + `,"txHash":"8a"}`, true},
		{"POST", "/v1/verifications/tx", `{"verificationUuid":` + id + `}`, false},
		{"POST", "/v1/verifications/tx", `{"verificationUuid":"7","txHash":"8a"}`, false},
		{"POST", "/nowhere", `{}`, false},
	} {
		if err := Enclave().Request(c.method, c.target, []byte(c.body)); (err == nil) != c.ok {
			t.Errorf("%s %s %s: %v", c.method, c.target, c.body, err)
		}
	}
	if err := VASP().Request("POST", "/callback", []byte(`{"callbackType":"NEWS","data":{}}`)); err == nil {
		t.Error("a callback of a new type passes")
	}
}

func parse(t *testing.T, text string) any {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func compiler(t *testing.T, text string) *jsonschema.Compiler {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	if err := c.AddResource(location, parse(t, text)); err != nil {
		t.Fatal(err)
	}
	return c
}

func compile(t *testing.T, text string) *jsonschema.Schema {
	t.Helper()
	schema, err := compiler(t, text).Compile(location)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func BenchmarkAnswer(b *testing.B) {
	var row []byte
	for _, o := range Enclave().Operations {
		if o.ID == "verification" {
			row, _ = json.Marshal(o.Responses[http.StatusOK].Examples["verified"])
		}
	}
	header := http.Header{"Content-Type": {mediaType}}
	for b.Loop() {
		if err := Enclave().Answer(http.MethodGet, "/v1/verifications/x", http.StatusOK, header, row); err != nil {
			b.Fatal(err)
		}
	}
}
