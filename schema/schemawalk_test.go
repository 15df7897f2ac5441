package schema

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
)

// everyKeyword is what the two drafts speak of, and 2019-09 between them.
var everyKeyword = strings.Fields(`$anchor $comment $defs $dynamicAnchor $dynamicRef $id $recursiveAnchor $recursiveRef $ref $schema $vocabulary
	additionalItems additionalProperties allOf anyOf const contains contentEncoding contentMediaType contentSchema default definitions dependencies
	dependentRequired dependentSchemas deprecated description else enum examples exclusiveMaximum exclusiveMinimum format if items maxContains maxItems maxLength
	maxProperties maximum minContains minItems minLength minProperties minimum multipleOf not oneOf pattern patternProperties prefixItems properties
	propertyNames readOnly required then title type unevaluatedItems unevaluatedProperties uniqueItems writeOnly`)

// author writes schemas at random, of which most keywords have a value that their draft
// wants and some do not.
type author struct {
	*rand.Rand
	draft map[string]keyword
	names []string
}

func one[T any](a *author, of ...T) T { return of[a.IntN(len(of))] }

// schema has at most depth schemas in one another.
func (a *author) schema(depth int) any {
	if depth == 0 || a.IntN(12) == 0 {
		return one[any](a, true, false, map[string]any{})
	}
	if a.IntN(60) == 0 {
		return a.junk()
	}
	s := map[string]any{}
	for range a.IntN(4) {
		name := one(a, a.names...)
		s[name] = a.value(name, depth-1)
	}
	if a.IntN(4) == 0 {
		s["$ref"] = a.reference()
	}
	return s
}

func (a *author) junk() any {
	return one[any](a, nil, true, "x", "object", json.Number("1"), json.Number("-3"), json.Number("2.0"), json.Number("0.5"), json.Number("1e2"),
		[]any{}, []any{"a", "b"}, []any{"a", "a"}, []any{json.Number("1"), json.Number("1.0")}, map[string]any{}, map[string]any{"a": []any{}}, map[string]any{"a": json.Number("1")})
}

func (a *author) reference() any {
	return one[any](a, "#", "#", "#/$defs/a", "#/$defs/b", "#/definitions/a", "#/properties/a", "#/properties/a/items", "#/items", "#/items/0", "#/allOf/0", "#/allOf/00",
		"#/nowhere", "#/properties", "#/enum/0", "#/dependencies/a", "#/additionalItems", "#/prefixItems/0", "#/then", "#anchor", "other", "#/%24defs/a", "#/$defs/a~1b", "#/$defs/List[int]", "#/$defs/n:T", "#/$defs/%61", "#/$defs/b%20c", "#/~", "#/", "#/%zz", "#/$defs/a b",
		"", "http://json-schema.org/draft-07/schema#", json.Number("7"))
}

func (a *author) value(name string, depth int) any {
	if a.IntN(30) == 0 {
		return a.junk()
	}
	list := func() any {
		all := make([]any, a.IntN(3))
		for i := range all {
			all[i] = a.schema(depth)
		}
		return all
	}
	switch k := a.draft[name]; k.part {
	case onePart:
		return a.schema(depth)
	case listPart:
		return list()
	case oneOrListPart:
		return one(a, list(), a.schema(depth))
	case mapPart, dependentPart:
		m := map[string]any{}
		for range a.IntN(3) {
			m[one(a, "a", "b", "a/b", "0", "(", "$ref", "", "List[int]", "n:T", "b c")] = a.schema(depth)
		}
		if k.part == dependentPart && a.IntN(2) == 0 {
			m["c"] = one[any](a, []any{}, []any{"a"}, []any{"a", "a"})
		}
		return m
	}
	switch name {
	case "type":
		return one[any](a, "object", "string", "integer", []any{"null", "array"}, []any{}, []any{"null", "null"}, "strnig")
	case "required":
		return one[any](a, []any{}, []any{"a"}, []any{"a", "b"}, []any{"a", json.Number("1")})
	case "dependentRequired":
		return map[string]any{"a": one[any](a, []any{"b"}, []any{}, []any{"b", "b"}, "b")}
	case "enum", "examples":
		return one[any](a, []any{}, []any{"a", nil}, []any{"a", "a"}, []any{json.Number("1")}, []any{json.Number("1"), json.Number("1.0")}, []any{json.Number("-0"), json.Number("0")},
			[]any{json.Number("10"), json.Number("1e1")}, []any{json.Number("0.1"), json.Number("0.10"), "0.1"}, []any{true, "true", nil, "null", false},
			[]any{map[string]any{"a": json.Number("1"), "b": "c"}, map[string]any{"b": "c", "a": json.Number("1.0")}}, []any{[]any{"a", "b"}, []any{"a,b"}, []any{}},
			[]any{map[string]any{}, []any{}, "{}"}, []any{[]any{nil}, []any{"null"}})
	case "pattern":
		return one[any](a, "a", "(", "(?=a)")
	case "$id":
		return one[any](a, "https://example.com/tool", "https://example.com:80/a?b=c#", "urn:x:y", "#a", "/a/b.json", "a b", "http://%zz", "a#b#c", "https://json-schema.org/draft-07/schema")
	case "$ref", "$dynamicRef", "$recursiveRef":
		return a.reference()
	case "$schema":
		return one[any](a, "https://json-schema.org/draft/2020-12/schema", "http://json-schema.org/draft-07/schema#", "http://json-schema.org/draft-06/schema#", "x")
	case "$anchor", "$dynamicAnchor":
		return one[any](a, "anchor", "1", "b")
	}
	return one[any](a, json.Number("0"), json.Number("3"), json.Number("2.0"), json.Number("-1"), json.Number("1e2"), true, "text")
}

// TestTheWalkSaysWhatTheLibrarySays of random schemas in both drafts: what it takes the
// library takes, and what it refuses the library refuses.
func TestTheWalkSaysWhatTheLibrarySays(t *testing.T) {
	for _, draft := range []map[string]keyword{draft07, draft2020} {
		for name := range draft {
			require.Contains(t, everyKeyword, name)
		}
	}
	a := &author{Rand: rand.New(rand.NewPCG(7, 12))}
	taken, refused, left := 0, 0, 0
	for i := range 6_000 {
		version := one(a, "http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft/2020-12/schema")
		a.draft = draftOf(version)
		a.names = slices.Concat(everyKeyword, []string{"unknown"})
		if i%4 > 0 {
			// Without those that leave everything to the library.
			a.names = slices.DeleteFunc(a.names, func(n string) bool {
				return strings.HasPrefix(n, "$") && !strings.HasSuffix(n, "defs") && !strings.HasSuffix(n, "nchor")
			})
		}
		doc, ok := a.schema(4).(map[string]any)
		if !ok {
			continue
		}
		doc["$schema"] = version
		if a.IntN(6) == 0 {
			doc["$id"] = a.value("$id", 0)
		}
		w := schemaWalk{}
		w.document(doc)
		text, err := json.Marshal(doc)
		require.NoError(t, err)
		_, wrong := compileLibrary(doc, nil)
		switch {
		case len(w.bad) > 0:
			refused++
			require.NotEmpty(t, wrong, "refused: %v\n%s", w.bad, text)
		case w.left != nil:
			left++
		default:
			taken++
			require.Empty(t, wrong, "taken: %s", text)
		}
	}
	t.Logf("%d taken, %d refused, %d left to the library", taken, refused, left)
	require.Greater(t, min(taken, refused, left), 500)
}

// TestReferencesThatTheWalkFollows: most schemas refer to their own parts, and the library
// is only asked once a value is there to check.
func TestReferencesThatTheWalkFollows(t *testing.T) {
	for _, c := range []struct {
		schema string
		left   bool
	}{
		{`{"$ref":"#/$defs/a","$defs":{"a":{}}}`, false},
		{`{"$id":"https://example.com/tool.json","$ref":"#/$defs/a","$defs":{"a":true}}`, false},
		{`{"allOf":[{"$ref":"#"},{"$ref":"#/allOf/0"}],"properties":{"x-1":{"items":{"$ref":"#/properties/x-1"}}}}`, false},
		{`{"$schema":"http://json-schema.org/draft-07/schema#","items":[{},{"$ref":"#/items/0"}],"definitions":{"a":{"$ref":"#/dependencies/b"}},"dependencies":{"b":{}}}`, false},
		{`{"$schema":"http://json-schema.org/draft-07/schema#","properties":{"a":{"$ref":"#/$defs/a"}},"$defs":{"a":{}}}`, false},
		{`{"$schema":"http://json-schema.org/draft-07/schema#","$anchor":7}`, false},
		{`{"$id":"https://example.com:8080/tool?v=1#","$ref":"#a","$defs":{"a":{"$anchor":"a"}}}`, false},
		{`{"$ref":"#/$defs/a%20b","allOf":[{"$ref":"#/$defs/n:T"},{"$ref":"#/$defs/List[int]"},{"$ref":"#/$defs/a~1b"}],"$defs":{"a b":{},"n:T":{},"List[int]":{},"a/b":{}}}`, false},
		{`{"$schema":"http://json-schema.org/draft-07/schema#","properties":{"a":{"$ref":"#/$defs/a"}},"$defs":{"a":{"type":7}}}`, true},
		{`{"$ref":"#/nowhere"}`, true},
		{`{"properties":{"a":{"$ref":"#/properties"}}}`, true},
		{`{"properties":{"a":{"$id":"b"}}}`, true},
		{`{"properties":{"a":{"$id":"b","$schema":"http://json-schema.org/draft-07/schema#","items":[{}]}}}`, true},
		{`{"$dynamicRef":"#a","$defs":{"a":{"$dynamicAnchor":"a"}}}`, true},
		{`{"$ref":"http://json-schema.org/draft-07/schema#"}`, true},
	} {
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(c.schema))
		require.NoError(t, err)
		w := schemaWalk{}
		w.document(doc)
		require.Empty(t, w.bad, c.schema)
		require.Equal(t, c.left, w.left != nil, c.schema)
	}
}

// TestAddressedSchemasAreSmall: where the library has to say what references mean, it is
// asked at once, and a client waits for it.
func TestAddressedSchemasAreSmall(t *testing.T) {
	of := func(n int, more string) json.RawMessage {
		return json.RawMessage(`{"allOf":[{"$dynamicRef":"#a"},` + strings.TrimSuffix(strings.Repeat("true,", n-3), ",") + `],"$defs":{"a":{"$dynamicAnchor":"a"}}` + more + `}`)
	}
	v, bad := Compile(of(MaxAddressed, ""))
	require.Empty(t, bad)
	require.Equal(t, MaxAddressed, v.Subschemas)
	for _, s := range []json.RawMessage{of(MaxAddressed+1, ""), of(9, `,"elsewhere":[`+strings.TrimSuffix(strings.Repeat("true,", 2*MaxAddressed), ",")+`]`)} {
		_, bad = Compile(s)
		require.Len(t, bad, 1)
		require.Equal(t, "/allOf/0/$dynamicRef", bad[0].InstancePath)
		require.Contains(t, bad[0].Message, "is for schemas of at most 150 subschemas; larger ones may refer to their own only")
	}
}

// TestFirstPlaces: what is wrong in thousands of places is told of the first, and of the same
// ones each time.
func TestFirstPlaces(t *testing.T) {
	var wrong []string
	for i := range 2000 {
		wrong = append(wrong, fmt.Sprintf(`"p%d":{"type":%d}`, i, i))
	}
	many := `{"properties":{` + strings.Join(wrong[:900], ",") + `},"allOf":[` + strings.TrimSuffix(strings.Repeat(`{"maxLength":-1},`, 90), ",") + `]}`
	_, first := Compile(json.RawMessage(many))
	require.Len(t, first, maxFieldErrors)
	require.Equal(t, "/allOf/0/maxLength", first[0].InstancePath)
	for range 20 {
		_, again := Compile(json.RawMessage(many))
		require.Equal(t, first, again)
	}
	_, bad := Compile(json.RawMessage(`{"properties":{` + strings.Join(wrong, ",") + `}}`))
	require.Equal(t, "/properties/p0/type", bad[0].InstancePath)
	for range 20 {
		_, bad = Compile(json.RawMessage(`{"allOf":[` + strings.Repeat(`{},`, 600) + `{"type":1}],"anyOf":[` + strings.Repeat(`{},`, 600) + `{"type":1}]}`))
		require.Equal(t, []FieldError{{Message: "has more than 1000 subschemas"}}, bad)
	}
	_, bad = Compile(json.RawMessage(`{"` + strings.Repeat("N", 1500) + `":{"` + strings.Repeat("M", 600) + `":[1e999]}}`))
	require.Equal(t, "the names of members that lie in one another have more than 2048 bytes", bad[len(bad)-1].Message)
}

// TestDecimals are the same for all spellings of a number.
func TestDecimals(t *testing.T) {
	for text, want := range map[string]decimal{
		"0": {}, "-0.000e7": {}, "10": {false, "1", 1}, "1e1": {false, "1", 1}, "0.10": {false, "1", -1}, "-12.50": {true, "125", -1},
		"1200E-2": {false, "12", 0}, "0.0012e4": {false, "12", 0}, "100200": {false, "1002", 2},
	} {
		require.Equal(t, want, decimalOf(json.Number(text)), text)
	}
}
