package schema

import (
	"encoding/json"
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
		"#/nowhere", "#/properties", "#/enum/0", "#/dependencies/a", "#/additionalItems", "#/prefixItems/0", "#/then", "#anchor", "other", "#/%24defs/a", "#/$defs/a~1b", "#/~", "#/",
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
			m[one(a, "a", "b", "a/b", "0", "(", "$ref", "")] = a.schema(depth)
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
		return one[any](a, "https://example.com/tool", "urn:x", "#a", "tool.json", "a b", "https://json-schema.org/draft-07/schema")
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
			a.names = slices.DeleteFunc(a.names, func(n string) bool { return strings.HasPrefix(n, "$") && !strings.HasSuffix(n, "defs") })
		}
		doc, ok := a.schema(4).(map[string]any)
		if !ok {
			continue
		}
		doc["$schema"] = version
		w := schemaWalk{}
		w.document(doc)
		text, err := json.Marshal(doc)
		require.NoError(t, err)
		_, wrong := compileLibrary(doc, nil)
		switch {
		case len(w.bad) > 0:
			refused++
			require.NotEmpty(t, wrong, "refused: %v\n%s", w.bad, text)
		case len(w.left) > 0:
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
		{`{"$schema":"http://json-schema.org/draft-07/schema#","properties":{"a":{"$ref":"#/$defs/a"}},"$defs":{"a":{}}}`, true},
		{`{"$ref":"#/nowhere"}`, true},
		{`{"properties":{"a":{"$ref":"#/properties"}}}`, true},
		{`{"properties":{"a":{"$id":"b"}}}`, true},
		{`{"$ref":"#a","$defs":{"a":{"$anchor":"a"}}}`, true},
		{`{"$ref":"http://json-schema.org/draft-07/schema#"}`, true},
		{`{"$ref":"#/$defs/a%20b","$defs":{"a b":{}}}`, true},
	} {
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(c.schema))
		require.NoError(t, err)
		w := schemaWalk{}
		w.document(doc)
		require.Empty(t, w.bad, c.schema)
		require.Equal(t, c.left, len(w.left) > 0, c.schema)
	}
}

// TestAddressedSchemasAreSmall: where the library has to say what references mean, it is
// asked at once, and a client waits for it.
func TestAddressedSchemasAreSmall(t *testing.T) {
	of := func(n int) json.RawMessage {
		return json.RawMessage(`{"allOf":[{"$ref":"#a"},` + strings.TrimSuffix(strings.Repeat("{},", n-3), ",") + `],"$defs":{"a":{"$anchor":"a"}}}`)
	}
	v, bad := Compile(of(MaxAddressed))
	require.Empty(t, bad)
	require.Equal(t, MaxAddressed, v.Subschemas)
	_, bad = Compile(of(MaxAddressed + 1))
	require.Len(t, bad, 1)
	require.Equal(t, "/$defs/a/$anchor", bad[0].InstancePath)
	require.Equal(t, "a schema of more than 150 subschemas may only refer to its own, by JSON Pointers such as #/$defs/name", bad[0].Message)
}
