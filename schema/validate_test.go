package schema

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func first[A, B any](a A, _ B) A { return a }

func second[A, B any](_ A, b B) B { return b }

func TestCompileTakesRealSchemas(t *testing.T) {
	for _, s := range []string{
		`{}`,
		`{"type":"object"}`,
		`{"type":"object","properties":{"path":{"type":"string","minLength":1},"pattern":{"type":"string"},"$ref":{"type":"string"}},"required":["path"],"additionalProperties":false}`,
		`{"$schema":"http://json-schema.org/draft-07/schema#","type":"object","properties":{"a":{"$ref":"#/definitions/a"}},"definitions":{"a":{"type":["string","null"],"format":"date"}}}`,
		`{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","$defs":{"tree":{"type":"object","properties":{"kids":{"type":"array","items":{"$ref":"#/$defs/tree"}}}}},"$ref":"#/$defs/tree"}`,
		`{"type":"object","properties":{"n":{"type":"number","multipleOf":0.01,"maximum":1e10,"exclusiveMinimum":-1.5e-3},"e":{"enum":["a",1,null,{"$ref":"http://example.com/not-a-reference"}]}}}`,
		`{"$ref":"https://json-schema.org/draft/2020-12/schema"}`,
		`{"$id":"https://example.com/a","$ref":"b","$defs":{"b":{"$id":"b","type":"object"}}}`,
		`{"items":[{"$dynamicRef":"of a later draft"}],"$schema":"http://json-schema.org/draft-07/schema"}`,
		`{"$id":"https://example.com/tool","type":"object","properties":{"a":{"$ref":"#anchor"}},"$defs":{"x":{"$anchor":"anchor","const":1}}}`,
	} {
		v, places := Compile(json.RawMessage(s))
		require.Empty(t, places, s)
		require.Empty(t, second(v.library()), s)
		require.Empty(t, v.Unchecked, s)
	}
}

func TestCompileRefusesBadSchemas(t *testing.T) {
	deep := strings.Repeat(`{"not":`, 32) + `{}` + strings.Repeat(`}`, 32)
	many := `{"allOf":[` + strings.Repeat(`{},`, MaxSubschemas) + `{}]}`
	for _, c := range []struct{ schema, path, message string }{
		{`{`, "", "no JSON"},
		{`{} {}`, "", "no JSON"},
		{`{"type":"object","type":"object"}`, "", "twice"},
		{`true`, "", "got true, want an object"},
		{`[]`, "", "got [], want an object"},
		{deep, "", "deep"},
		{many, "", "has more than 1000 subschemas"},
		{`{"x":"` + strings.Repeat("y", MaxSchemaBytes) + `"}`, "", "bytes, want at most 65536"},
		{`{"enum":[` + strings.TrimSuffix(strings.Repeat("1,", MaxSchemaValues+1), ",") + `]}`, "", "has 16384 members and items or more, want fewer"},
		{`{"type":"string"}`, "/type", "got string, want object"},
		{`{"type":["object","null"]}`, "/type", "got [object null], want object"},
		{`{"$schema":"http://json-schema.org/draft-04/schema#"}`, "/$schema", "want draft 2020-12 or draft-07"},
		{`{"$schema":7}`, "/$schema", "want draft 2020-12 or draft-07"},
		{`{"$schema":"json-schema.org/draft-07/schema"}`, "/$schema", "want draft 2020-12 or draft-07"},
		{`{"$ref":"http://example.com/x"}`, "/$ref", `got "http://example.com/x", want a reference into this schema`},
		{`{"properties":{"a/b":{"$ref":"file:///etc/passwd"}}}`, "/properties/a~1b/$ref", "want a reference into this schema"},
		{`{"items":{"$dynamicRef":"x"}}`, "/items/$dynamicRef", "want a reference"},
		{`{"$id":"https://example.com/a/b","properties":{"x":{"$ref":"../c#/d"},"y":{"$ref":"b"}}}`, "/properties/x/$ref", "want a reference"},
		{`{"x":{"$ref":"http://example.com/x"},"$ref":"#/x"}`, "", "references to other documents are not followed"},
		{`{"$ref":"#/$defs/none"}`, "", "none"},
		{`{"$ref":"#nowhere"}`, "", "nowhere"},
		{`{"properties":{"a":{"type":"strnig"}}}`, "/properties/a/type", "got strnig, want one of array, boolean"},
		{`{"required":"a"}`, "/required", "got string, want array"},
		{`{"properties":{"a":{"minLength":-1}}}`, "/properties/a/minLength", "got -1, want a whole number, 0 or more"},
		{`{"maximum":1e999999}`, "/maximum", "got a number with exponent 999999, want at most 308"},
		{`{"properties":{"a":{"enum":[1E-99999999999999999999]}}}`, "/properties/a/enum/0", "exponent"},
		{`{"$defs":{"a":{"$id":"x"},"b":{"$id":"x"}}}`, "", "x"},
		{`{"properties":{"a":{"$id":"http://example.com/%zz"}}}`, "", ""},
		{`{"$id":"#a#b"}`, "/$id", "does not match pattern"},
	} {
		v, places := Compile(json.RawMessage(c.schema))
		require.Nil(t, v, "%.80s", c.schema)
		require.NotEmpty(t, places, "%.80s", c.schema)
		require.LessOrEqual(t, len(places), maxFieldErrors)
		require.Equal(t, c.path, places[0].InstancePath, "%.80s: %v", c.schema, places)
		require.Contains(t, places[0].Message, c.message, "%.80s", c.schema)
		require.NotContains(t, places[0].Message, "tool.invalid", "our own name for the document")
	}
}

func TestCompileNamesAllPlaces(t *testing.T) {
	_, places := Compile(json.RawMessage(`{"properties":{"a":{"type":1},"b":{"minimum":"x"},"c":{"required":[1]}}}`))
	var at []string
	for _, p := range places {
		at = append(at, p.InstancePath)
	}
	require.Subset(t, at, []string{"/properties/a/type", "/properties/b/minimum", "/properties/c/required/0"})
	many := make([]string, 100)
	for i := range many {
		many[i] = fmt.Sprintf(`"p%d":{"type":7}`, i)
	}
	_, places = Compile(json.RawMessage(`{"properties":{` + strings.Join(many, ",") + `}}`))
	require.Len(t, places, maxFieldErrors)
}

// TestPatternsThatRE2CannotHold are left out, and nothing that they would have
// let through is refused for that.
func TestPatternsThatRE2CannotHold(t *testing.T) {
	v, places := Compile(json.RawMessage(`{"type":"object","properties":{"a":{"type":"string","pattern":"^(?=x)"},"b":{"pattern":"^y$"}},
		"patternProperties":{"(?!z)":{"type":"integer"},"^k":{"type":"integer"}},"additionalProperties":false}`))
	require.Empty(t, places)
	require.Len(t, v.Unchecked, 2)
	require.Equal(t, "/patternProperties/(?!z)", v.Unchecked[0].InstancePath)
	require.Equal(t, "/properties/a/pattern", v.Unchecked[1].InstancePath)
	require.Contains(t, v.Unchecked[0].Message, "is not checked: error parsing regexp: invalid or unsupported Perl syntax")
	require.NoError(t, first(v.library()).Validate(map[string]any{"a": "anything", "other": "x"}))
	require.Error(t, first(v.library()).Validate(map[string]any{"b": "n"}))
	require.Error(t, first(v.library()).Validate(map[string]any{"k": "n"}))
}

// FuzzCompile looks for a schema that the library does not survive, or does not take.
func FuzzCompile(f *testing.F) {
	for _, s := range []string{`{}`, `{"$ref":"#"}`, `{"$id":"a","$defs":{"b":{"$id":"c","$ref":"#/d"}}}`,
		`{"$dynamicRef":"#x","$defs":{"a":{"$dynamicAnchor":"x"}}}`, `{"$schema":"http://json-schema.org/draft-07/schema#","$ref":"#/definitions/a","definitions":{"a":{"$id":"#b"}}}`,
		`{"properties":{"a":{"$schema":"x","$id":"y"}}}`, `{"$vocabulary":{"a":true},"$anchor":"","$id":""}`, `{"$schema":"json-schema.org/draft-07/schema"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		v, places := Compile(raw)
		require.Equal(t, v == nil, len(places) > 0)
		if v != nil {
			require.Empty(t, second(v.library()), "what Compile takes, the library takes")
		}
	})
}

func BenchmarkCompileLargest(b *testing.B) {
	s := []byte(`{"allOf":[` + strings.Repeat(`{},`, MaxSubschemas-2) + `{}]}`)
	for b.Loop() {
		if _, places := Compile(s); len(places) > 0 {
			b.Fatal(places)
		}
	}
}

// TestExpressionsThatNobodyWalkedBy: they stand where no schema is until a reference says so,
// or in a value.
func TestExpressionsThatNobodyWalkedBy(t *testing.T) {
	_, places := Compile(json.RawMessage(`{"$ref":"#/x","x":{"pattern":"(?=a)"}}`))
	require.Len(t, places, 1)
	require.Contains(t, places[0].Message, "(?=a)")
	v, places := Compile(json.RawMessage(`{"properties":{"p":{"format":"regex"}}}`))
	require.Empty(t, places)
	require.Empty(t, v.Check(json.RawMessage(`{"p":"a+"}`)))
	require.Len(t, v.Check(json.RawMessage(`{"p":"("}`)), 1)
}

// TestLargeExpressionsAreLeftOut: they would take their time and keep their memory.
func TestLargeExpressionsAreLeftOut(t *testing.T) {
	for _, c := range []struct{ patterns, message string }{
		{`{"pattern":"` + strings.Repeat("a", maxExpressions+1) + `"}`, "is not checked: the schema's expressions have more than 32768 bytes"},
		{strings.TrimSuffix(strings.Repeat(`{"pattern":"\\p{L}"},`, maxClasses+1), ","), "is not checked: the schema has more than 64 Unicode classes"},
		{strings.TrimSuffix(strings.Repeat(`{"pattern":"^(a{1,30}){30}$"},`, 60), ","), "is not checked: the schema's expressions are too large together"},
	} {
		v, bad := Compile(json.RawMessage(`{"allOf":[` + c.patterns + `]}`))
		require.Empty(t, bad)
		require.NotEmpty(t, v.Unchecked)
		require.Equal(t, c.message, v.Unchecked[0].Message)
	}
}

// TestUncheckedAreFew: an answer names the first places, however many there are.
func TestUncheckedAreFew(t *testing.T) {
	v, bad := Compile(json.RawMessage(`{"allOf":[` + strings.Repeat(`{"pattern":"(?!z)"},`, 500) + `{}]}`))
	require.Empty(t, bad)
	require.Len(t, v.Unchecked, 16)
}

func TestCheckNamesPlaces(t *testing.T) {
	v, places := Compile(json.RawMessage(`{"type":"object","properties":{"path":{"type":"string"},"n":{"type":"integer","minimum":1}},"required":["path"],"additionalProperties":false}`))
	require.Empty(t, places)
	require.Empty(t, v.Check(json.RawMessage(`{"path":"a","n":2}`)))
	for _, c := range []struct{ value, path, message string }{
		{`{}`, "", "missing property 'path'"},
		{`{"path":7}`, "/path", "got number, want string"},
		{`{"path":"a","n":0}`, "/n", "minimum"},
		{`{"path":"a","x":1}`, "", "additional properties 'x' not allowed"},
		{`[]`, "", "got array, want object"},
		{`{"path":"a","n":1e999999999}`, "/n", "exponent 999999999"}, // would be computed to the last digit
		{`{`, "", "EOF"},
	} {
		bad := v.Check(json.RawMessage(c.value))
		require.NotEmpty(t, bad, c.value)
		require.Equal(t, c.path, bad[0].InstancePath, c.value)
		require.Contains(t, bad[0].Message, c.message)
	}
}
