package wirejson_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/vasp-enclave/vasp-enclave/proxy/wirejson"
)

// deep is n objects inside each other.
func deep(n int) string {
	return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n)
}

// long is a JSON string of n bytes between its quotes.
func long(n int) string { return `"` + strings.Repeat("x", n) + `"` }

// Attacks P1 and P2: what every edge refuses, and what it must not refuse.
func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name, text string
		pointer    string
		problem    string // "" when accepted
	}{
		{"object", `{"a":[1,"x",null,true,{}]}`, "", ""},
		{"white space around", " \n{}\t", "", ""},
		{"scalar", `"x"`, "", ""},
		{"Hangul", `{"name":"김철수"}`, "", ""},
		{"escaped", `{"name":"\uae40"}`, "", ""},
		{"names in two cases", `{"name":1,"NAME":2}`, "", ""},
		{"same name at two places", `{"name":{"name":1}}`, "", ""},
		{"escaped backslash before u0000", `"\\u0000"`, "", ""},
		{"depth 32", deep(32), "", ""},
		{"10,000 parts", "[" + strings.Repeat("1,", 9997) + "1]", "", ""},
		{"64 KiB string", long(64 << 10), "", ""},

		{"empty", "", "", "empty; send one value"},
		{"only white space", " \n", "", "empty; send one value"},
		{"not JSON", "hello", "", "not JSON at byte 0"},
		{"single quotes", `{'name':1}`, "", "not JSON at byte 1"},
		{"cut off", `{"name":"x`, "/name", "ends too early; send the whole value"},
		{"byte order mark", "\ufeff{}", "", "not JSON at byte 0"},
		{"duplicate", `{"payload":{"version":"1","version":"2"}}`, "/payload/version", "the same member twice; send it once"},
		{"duplicate spelt by escapes", `{"name":1,"\u006eame":2}`, "/name", "the same member twice; send it once"},
		{"trailing value", `{} {}`, "", "more data after the value; send one value"},
		{"trailing garbage", `{}x`, "", "more data after the value; send one value"},
		{"invalid UTF-8", "{\"name\":\"\xff\"}", "/name", "not UTF-8; encode text as UTF-8"},
		{"lone surrogate", `{"name":"\ud800"}`, "/name", "not JSON at byte 9"},
		{"bare NUL", "{\"name\":\"\x00\"}", "/name", "not JSON at byte 9"},
		{"escaped NUL", `{"name":["x\u0000y"]}`, "/name/0", `the character NUL (\u0000) is in a string; remove it`},
		{"escaped NUL in a name", `{"\u0000":1}`, "/?", `the character NUL (\u0000) is in a string; remove it`},
		{"depth 33", deep(33), strings.Repeat("/?", 32), "nested deeper than 32; send a flatter value"},
		{"depth 200,000", strings.Repeat("[", 200_000), strings.Repeat("/0", 32), "nested deeper than 32; send a flatter value"},
		{"10,001 parts", "[" + strings.Repeat("1,", 9998) + "1]", "/9998", "more than 10000 parts; send fewer"},
		{"long string", `{"name":` + long(64<<10+1) + "}", "/name", "text longer than 65536 bytes; send less"},
		{"long name", "{" + long(64<<10+1) + ":1}", "/?", "text longer than 65536 bytes; send less"},
		{"long number", strings.Repeat("1", 70_000), "", "text longer than 65536 bytes; send less"},
		{"long text", long(1 << 20), "", "longer than 1048576 bytes; send less"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := wirejson.Check([]byte(c.text), wirejson.Limits{})
			if c.problem == "" {
				if err != nil {
					t.Fatalf("Check = %v, want nil", err)
				}
				return
			}
			var refused *wirejson.Error
			if !errors.As(err, &refused) {
				t.Fatalf("Check = %v, want an *Error", err)
			}
			if refused.Pointer != c.pointer || refused.Problem != c.problem {
				t.Errorf("Check = %q %q, want %q %q", refused.Pointer, refused.Problem, c.pointer, c.problem)
			}
		})
	}
}

func TestLimitsCanBeSet(t *testing.T) {
	for text, lim := range map[string]wirejson.Limits{
		`[1,2]`:  {Bytes: 4},
		`[[1]]`:  {Depth: 1},
		`[1]`:    {Tokens: 2},
		`"four"`: {String: 3},
	} {
		if err := wirejson.Check([]byte(text), lim); err == nil {
			t.Errorf("Check(%s, %+v) = nil, want refusal", text, lim)
		}
		if err := wirejson.Check([]byte(text), wirejson.Limits{}); err != nil {
			t.Errorf("Check(%s) = %v, want nil", text, err)
		}
	}
}

type report struct {
	Result  string         `json:"result"`
	Count   int            `json:"count"`
	Special bool           `json:"special"`
	Parts   []string       `json:"parts"`
	Rest    jsontext.Value `json:"rest"`
	Inner   *struct {
		Odd word   `json:"odd"`
		ID  number `json:"id"`
	} `json:"inner"`
}

// number is written as a string, as VASP ids are.
type number uint64

func (n *number) UnmarshalText(b []byte) error { return fmt.Errorf("bad number %q", b) }

// word is a type whose own parser quotes what it was given.
type word string

func (w *word) UnmarshalText(b []byte) error { return fmt.Errorf("bad word %q", b) }

func TestUnmarshalReadsTolerantly(t *testing.T) {
	var got report
	text := `{"result":"ok","RESULT":"evil","new":{"x":1},"count":3,"rest":{"b":1, "a":2}}`
	if err := wirejson.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	// Attack P2: the member in other letters is another member.
	if got.Result != "ok" || got.Count != 3 || string(got.Rest) != `{"b":1, "a":2}` {
		t.Errorf("Unmarshal gave %+v", got)
	}
}

func TestUnmarshalSaysWhatToChange(t *testing.T) {
	for _, c := range []struct {
		text string
		opts []wirejson.Option
		want string
	}{
		{`{"result":1}`, nil, "json at /result: got a number, want a string"},
		{`{"count":"1"}`, nil, "json at /count: got a string, want a number"},
		{`{"count":1.5}`, nil, "json at /count: not a valid value"},
		{`{"special":[]}`, nil, "json at /special: got an array, want true or false"},
		{`{"parts":["a",{}]}`, nil, "json at /parts/1: got an object, want a string"},
		{`{"inner":{"odd":"Escobar"}}`, nil, "json at /inner/odd: not a valid value"},
		{`{"inner":{"id":"7"}}`, nil, "json at /inner/id: not a valid value"},
		{`{"inner":{"id":7}}`, nil, "json at /inner/id: got a number, want a string"},
		{`[]`, nil, "json: got an array, want an object"},
		{`{"result":"a","result":"b"}`, nil, "json at /result: the same member twice; send it once"},
		{`{"Escobar":1}`, []wirejson.Option{wirejson.RefuseUnknown()}, "json at /?: unknown member; remove it"},
		{`{"reslt":1}`, []wirejson.Option{wirejson.RefuseUnknown(), wirejson.ShowNames()}, "json at /reslt: unknown member; remove it"},
		{`{"a":[1]}`, []wirejson.Option{wirejson.WithLimits(wirejson.Limits{Depth: 1})}, "json at /?: nested deeper than 1; send a flatter value"},
	} {
		err := wirejson.Unmarshal([]byte(c.text), new(report), c.opts...)
		if err == nil || err.Error() != c.want {
			t.Errorf("Unmarshal(%s) = %v, want %s", c.text, err, c.want)
		}
	}
}

// Attack L3: an error holds neither values nor names that the sender chose,
// and a shown name cannot break a log line.
func TestErrorsHoldNothingOfTheText(t *testing.T) {
	const secret = "bc1qmarker0Escobar"
	for _, text := range []string{
		`{"` + secret + `":{"x":1,"x":2}}`, `{"` + secret + `":"\u0000"}`,
		`{"` + secret + `":` + secret + `}`, `{"result":"` + secret, secret,
		`{"result":{"` + secret + `":1}}`, `{"inner":{"odd":"` + secret + `"}}`,
		`{"count":"` + secret + `"}`, `{"` + secret + `":1,"` + secret + `":1}`,
		`{"12345678":"\u0000"}`,
	} {
		err := wirejson.Unmarshal([]byte(text), new(report), wirejson.RefuseUnknown())
		if err == nil {
			t.Errorf("Unmarshal(%s) = nil, want refusal", text)
		} else if said := fmt.Sprintf("%v %+v", err, err); strings.Contains(said, secret) || strings.Contains(said, "12345678") {
			t.Errorf("Unmarshal(%s) says %q", text, said)
		}
	}
	name := strings.Repeat("é\\n", 100)
	err := wirejson.Unmarshal([]byte(`{"`+name+`":1}`), new(report), wirejson.RefuseUnknown(), wirejson.ShowNames())
	var refused *wirejson.Error
	if !errors.As(err, &refused) || len(refused.Pointer) > 1+64 || strings.Trim(refused.Pointer, "/?") != "" {
		t.Errorf("Unmarshal of a strange name = %+q, want it short and printable", err)
	}
}

// What is accepted is JSON for the standard library too, so that no two
// readers of one text can differ on whether it is one.
func FuzzCheck(f *testing.F) {
	for _, seed := range []string{`{"a":[1,{"b":"\ud83d\ude00"}]}`, `{"a":1,"a":2}`, deep(40), `"\u0000"`, "\xff", ` [1e9, -0.5, null] `, `{"A":1,"a":1}`, `{}{}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		was := bytes.Clone(b)
		err := wirejson.Check(b, wirejson.Limits{})
		if !bytes.Equal(b, was) {
			t.Fatal("Check changed the text")
		}
		if err == nil && !json.Valid(b) {
			t.Fatalf("Check(%q) accepts what is no JSON", b)
		}
		var v report
		if got := wirejson.Unmarshal(b, &v); got == nil && err != nil {
			t.Fatalf("Unmarshal(%q) = nil, Check = %v", b, err)
		}
		for _, c := range fmt.Sprint(err) {
			if c < ' ' || c > '~' {
				t.Fatalf("error %+q is not printable ASCII", err)
			}
		}
	})
}

// body is a payload of about 3 KB in the contract's dialect.
func body() []byte {
	person := `{"naturalPerson":{"name":{"nameIdentifier":[{"primaryIdentifier":"Roe","secondaryIdentifier":"Ann","nameIdentifierType":"LEGL"}],"localNameIdentifier":[{"primaryIdentifier":"노","secondaryIdentifier":"안","nameIdentifierType":"LEGL"}]},"geographicAddress":[{"addressType":"HOME","streetName":"High Street","buildingNumber":"10","postcode":"049145","townName":"Singapore","country":"SG"}],"dateAndPlaceOfBirth":{"dateOfBirth":"1980-01-02","placeOfBirth":"Singapore"},"customerIdentification":"c-77"}}`
	return []byte(`{"version":"1.0","ivms101":{"originator":{"originatorPersons":[` + person + "," + person + "," + person +
		`],"accountNumber":["bc1qsender"]},"beneficiary":{"beneficiaryPersons":[` + person + "," + person + `],"accountNumber":["bc1qreceiver"]}}}`)
}

func BenchmarkCheck(b *testing.B) {
	text := body()
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if err := wirejson.Check(text, wirejson.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	text := body()
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		var v struct {
			Version string         `json:"version"`
			IVMS101 jsontext.Value `json:"ivms101"`
		}
		if err := wirejson.Unmarshal(text, &v); err != nil {
			b.Fatal(err)
		}
	}
}
