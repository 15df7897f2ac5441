package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// refusing is what a grammar would say that holds no schema with one of the keywords,
// wherever they stand, and how often it was asked.
func refusing(asked *int, keywords ...string) func(json.RawMessage) error {
	return func(s json.RawMessage) error {
		*asked++
		if i := slices.IndexFunc(keywords, func(k string) bool { return strings.Contains(string(s), `"`+k+`":`) }); i >= 0 {
			return errors.New(keywords[i])
		}
		return nil
	}
}

// TestHold: as much of a schema is held as can be, byte for byte and in order, and the
// rest is named.
func TestHold(t *testing.T) {
	for _, c := range []struct {
		schema, held string
		left         []string // keyword and path
	}{
		{`{"type": "object"}`, `{"type": "object"}`, nil},
		{`{"properties":{"b":{"type":"array","uniqueItems":true,"maxItems":3},"a":{"not":{"const":1},"type":"integer"}},"required":["a"]}`,
			`{"properties":{"b":{"type":"array","maxItems":3},"a":{"type":"integer"}},"required":["a"]}`,
			[]string{"uniqueItems /properties/b/uniqueItems", "not /properties/a/not"}},
		{`{"properties":{"a/b":{"oneOf":[{"type":"string","format":"odd"},{"not":{}}]}}}`, `{"properties":{"a/b":{"anyOf":[{"type":"string"},{}]}}}`,
			[]string{"oneOf /properties/a~1b/oneOf", "format /properties/a~1b/oneOf/0/format", "not /properties/a~1b/oneOf/1/not"}},
		{`{"oneOf":[{}],"anyOf":[{"minLength":1}]}`, `{"anyOf":[{"minLength":1}]}`, []string{"oneOf /oneOf"}},
		{`{"not":{"uniqueItems":true}}`, `{}`, []string{"not /not"}},
		{`{"allOf":[{"if":{},"then":{"not":{}}}],"items":[{"uniqueItems":false}]}`, `{"allOf":[{"then":{}}],"items":[{}]}`,
			[]string{"if /allOf/0/if", "not /allOf/0/then/not", "uniqueItems /items/0/uniqueItems"}},
		// What a pattern would let through is not refused for want of the pattern.
		{`{"patternProperties":{"^a":{}},"additionalProperties":false}`, `{}`, []string{"patternProperties /patternProperties"}},
		{`{"prefixItems":[{}],"items":false}`, `{}`, []string{"prefixItems /prefixItems"}},
		{`{"$defs":{"x":{"not":{}}},"properties":{"p":true,"q":{"$ref":"#/$defs/x"}}}`, `{"$defs":{"x":{}},"properties":{"p":true,"q":{"$ref":"#/$defs/x"}}}`,
			[]string{"not /$defs/x/not"}},
		{`{"enum":[{"not":1}],"default":{"uniqueItems":1}}`, `{"type":"object"}`, []string{" "}}, // what cannot be taken out
	} {
		asked := 0
		held, left := Hold(json.RawMessage(c.schema), refusing(&asked, "uniqueItems", "not", "oneOf", "format", "if", "patternProperties", "prefixItems"))
		require.Equal(t, c.held, string(held), c.schema)
		var got []string
		for _, u := range left {
			got = append(got, u.Keyword+" "+u.InstancePath)
		}
		require.Equal(t, c.left, got, c.schema)
	}
}

// TestHoldIsBounded: a grammar is asked a few hundred times at most, and fewer of a large
// schema; what was not asked for is left out and named.
func TestHoldIsBounded(t *testing.T) {
	for n, most := range map[int]int{100: maxHoldChecks, 900: 2 * minHoldChecks} {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"p%d":{"minItems":%d,"uniqueItems":true,"description":%q}`, i, i, strings.Repeat("x", n/70))
		}
		raw := json.RawMessage(`{"properties":{` + b.String()[1:] + `}}`)
		v, bad := Compile(raw)
		require.Empty(t, bad)
		require.NotNil(t, v)
		asked := 0
		check := refusing(&asked, "uniqueItems")
		held, left := Hold(raw, check)
		require.LessOrEqual(t, asked, most+2)
		require.NoError(t, check(held))
		_, bad = Compile(held)
		require.Empty(t, bad)
		require.GreaterOrEqual(t, len(left), n)
	}
}
