package schema

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// chain is a schema of n definitions, each of which holds body, where @ is the next one.
func chain(n int, body string) string {
	var defs []string
	for i := range n {
		defs = append(defs, fmt.Sprintf(`"d%d":%s`, i, strings.ReplaceAll(body, "@", fmt.Sprintf(`{"$ref":"#/$defs/d%d"}`, i+1))))
	}
	return `{"$ref":"#/$defs/d0","$defs":{` + strings.Join(append(defs, fmt.Sprintf(`"d%d":true`, n)), ",") + `}}`
}

// hostileSchemas try to keep whoever reads them busy, or to make him read what is not theirs.
func hostileSchemas() []string {
	var all []string
	add := func(s ...string) { all = append(all, s...) }
	for _, word := range []string{"allOf", "anyOf", "oneOf"} {
		for _, n := range []int{5, 20, 100, 300, 900} {
			add(chain(n, `{"`+word+`":[@,@]}`), chain(n, `{"`+word+`":[@,@,@]}`))
		}
	}
	for _, n := range []int{20, 100, 300} {
		add(chain(n, `{"not":@,"if":@}`), chain(n, `{"if":@,"then":@,"else":@}`), chain(n, `{"allOf":[@],"anyOf":[@],"oneOf":[@]}`),
			chain(n, `{"properties":{"a":@},"patternProperties":{"a":@,"^a":@},"additionalProperties":@}`),
			chain(n, `{"dependentSchemas":{"a":@},"properties":{"a":@}}`), chain(n, `{"allOf":[@,@],"items":@,"contains":@}`),
			chain(n, `{"propertyNames":@,"allOf":[@,@]}`), chain(n, `{"unevaluatedProperties":@,"anyOf":[@,@]}`))
	}
	// As large as may be, of references that only the library can follow, and of others.
	for _, n := range []int{MaxAddressed - 2, MaxSubschemas - 2} {
		add(`{"$dynamicAnchor":"n","allOf":[`+strings.TrimSuffix(strings.Repeat(`{"$dynamicRef":"#n"},`, n), ",")+`]}`, `{"$ref":"#a","anyOf":[`+strings.TrimSuffix(strings.Repeat(`{"not":true},`, n), ",")+`],"$defs":{"a":{"$anchor":"a"}}}`)
	}
	var tools, ids []string
	for i := range MaxSubschemas - 2 {
		tools = append(tools, fmt.Sprintf(`"p%d":{"type":["string","null"],"pattern":"^[a-z]{1,%d}$"}`, i, 1+i%9))
		ids = append(ids, fmt.Sprintf(`{"$id":"s%d"}`, i))
	}
	add(`{"properties":{`+strings.Join(tools, ",")+`}}`, `{"properties":{`+strings.Join(tools[:MaxAddressed-2], ",")+`},"$ref":"#/$defs/a%20b","$defs":{"a b":{}}}`,
		`{"allOf":[`+strings.Join(ids, ",")+`]}`, `{"allOf":[`+strings.Join(ids[:MaxAddressed-2], ",")+`]}`,
		`{"$schema":"http://json-schema.org/draft-07/schema#","enum":[`+strings.TrimSuffix(strings.Repeat("1,", MaxSchemaValues-2), ",")+`]}`)
	var numbers, wrong []string
	for i := range 10_500 {
		numbers, wrong = append(numbers, strconv.Itoa(i)), append(wrong, fmt.Sprintf(`"%x":1`, i))
	}
	add(`{"$schema":"http://json-schema.org/draft-07/schema#","enum":[`+strings.Join(numbers, ",")+`]}`, `{"required":[`+strings.Join(numbers, ",")+`]}`,
		`{"properties":{`+strings.Join(wrong[:6000], ",")+`}}`, `{"dependentRequired":{`+strings.Join(wrong[:6000], ",")+`}}`)
	// What costs the library its square, and what is written out where it is wrong.
	deep := func(n int, open, inner, closed string) string {
		return strings.Repeat(open, n) + inner + strings.Repeat(closed, n)
	}
	some := func(n int, text string) string { return strings.TrimSuffix(strings.Repeat(text+",", n), ",") }
	var chained []string
	for i := range 1500 {
		chained = append(chained, fmt.Sprintf(`"%d":{"$ref":"#/%d"}`, i, i+1))
	}
	name := strings.Repeat("N", 30_000)
	add(`{"properties":{"`+name+`":{"allOf":[`+some(6500, "true")+`]}}}`, `{"$dynamicAnchor":"a","allOf":[`+some(13_000, "true")+`]}`,
		`{"$ref":"#/0",`+strings.Join(chained, ",")+`,"1500":true}`, `{"$ref":"#/x","x":{"allOf":[`+some(2700, `{"$ref":"#/x"}`)+`]}}`,
		`{"`+name+`":`+deep(28, "[", some(5500, "1e999"), "]")+`}`, `{"properties":{"`+name+`":`+deep(24, `{"not":`, `{"allOf":[`+some(900, `{"$id":1,"$anchor":1}`)+`]}`, "}")+`}}`,
		`{"allOf":[`+some(900, `{"$id":1,"$anchor":1,"$dynamicRef":1,"$schema":1}`)+`]}`,
		`{"$schema":"http://json-schema.org/draft-07/schema#","enum":[`+strings.Join(numbers[:6000], "e300,")+`]}`, `{"multipleOf":0.`+strings.Repeat("9", 65_000)+`e-300}`,
		`{"allOf":[`+some(990, `{"pattern":"(?i)[^\\PL\\pN0][\\pL]"}`)+`]}`, `{"pattern":"(?i)[`+strings.Repeat(`\\pL`, 9000)+`]"}`, `{"pattern":"`+some(20_000, "ab|")+`"}`,
		`{"allOf":[`+some(900, `{"pattern":"^(a|b)*(x{1,30}){30}$"}`)+`]}`)
	// Schemas that refer to themselves.
	add(`{"$ref":"#"}`, `{"allOf":[{"$ref":"#"}]}`, `{"allOf":[{"$ref":"#/$defs/a"}],"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}}`,
		`{"properties":{"a":{"allOf":[{"$ref":"#"},{"$ref":"#"}]}}}`, `{"properties":{"a":{"anyOf":[{"$ref":"#"},{"$ref":"#"},{"$ref":"#"}]}},"additionalProperties":{"$ref":"#"}}`,
		`{"$dynamicAnchor":"n","properties":{"a":{"allOf":[{"$dynamicRef":"#n"},{"$dynamicRef":"#n"}]}}}`, `{"items":{"allOf":[{"$ref":"#"},{"$ref":"#"}]},"properties":{"a":{"$ref":"#"}}}`,
		`{"not":{"$ref":"#"}}`, `{"if":{"$ref":"#"},"then":{"$ref":"#"}}`, `{"$defs":{"a":{"$id":"b","$ref":"b"}},"$ref":"#/$defs/a"}`)
	// What lies elsewhere.
	for _, ref := range []string{"https://example.com/s.json", "file:///etc/passwd", "other.json", "//host/x", "http://127.0.0.1/", "../../x", "urn:uuid:0", "data:,{}", "#/nowhere", "#nowhere", "#/$defs/~", "%zz", "https://json-schema.org/nowhere"} {
		text, _ := json.Marshal(ref)
		add(`{"properties":{"a":{"$ref":`+string(text)+`}}}`, `{"$schema":`+string(text)+`}`)
	}
	// What is too large, too deep or no schema.
	add(`{"enum":[`+strings.TrimSuffix(strings.Repeat("1,", 30000), ",")+`]}`, strings.Repeat(`{"items":`, 40)+"{}"+strings.Repeat("}", 40), `{"enum":[`+strings.TrimSuffix(strings.Repeat("1,", MaxSchemaValues-2), ",")+`]}`,
		`{"allOf":[`+strings.TrimSuffix(strings.Repeat("{},", 5000), ",")+`]}`, `{"description":"`+strings.Repeat("a", 70000)+`"}`, `{"multipleOf":1e999999999}`, `{"minimum":1e-999999999}`,
		`{"const":1e400}`, `{"maxLength":-1}`, `{"maxItems":1.5}`, `{"type":"nothing"}`, `{"type":["string","string"]}`, `{"required":["a","a"]}`, `{"pattern":"("}`, `{"pattern":5}`, `{"properties":[]}`, `{"items":5}`,
		`{"$ref":5}`, `{"enum":5}`, `{"a":1,"a":2}`, `[]`, `null`, `"x"`, `{`, ``, `{"pattern":"(a+)+$"}`, `{"pattern":"(?=a)b"}`, `{"pattern":"\\1"}`, `{"pattern":"(.{1,1000}){1000}"}`, `{"pattern":"`+strings.Repeat("(a|", 2000)+`"}`,
		`{"patternProperties":{"(":{}}}`, `{"patternProperties":{"(x+x+)+y":{}}}`, `{"format":"regex","default":"("}`, `{"contentSchema":{"$ref":"#/nowhere"}}`, `{"uniqueItems":"yes"}`)
	return all
}

// hostileValues are what a model may write.
func hostileValues() []string {
	deep := func(n int, open, inner, closed string) string {
		return strings.Repeat(open, n) + inner + strings.Repeat(closed, n)
	}
	var many []string
	for i := range 3000 {
		many = append(many, fmt.Sprintf(`"a%d":%d`, i, i))
	}
	return []string{`{}`, deep(100, `{"a":`, `1`, `}`), deep(100, `[`, `1`, `]`), deep(50, `{"a":[`, `{}`, `]}`), "{" + strings.Join(many, ",") + "}",
		`{"a":"` + strings.Repeat("x", 50000) + `"}`, `[` + strings.TrimSuffix(strings.Repeat("1,", 5000), ",") + `]`}
}

// TestP7HostileSchemas refuses or takes each at once, and holds values to those that it
// takes without ever going on for long: neither is a matter of the schema's author alone.
func TestP7HostileSchemas(t *testing.T) {
	schemas, values := hostileSchemas(), hostileValues()
	require.GreaterOrEqual(t, len(schemas), 100)
	require.Len(t, slices.Compact(slices.Sorted(slices.Values(schemas))), len(schemas))
	taken, refused, stopped := 0, 0, 0
	var slowest time.Duration
	slow := ""
	for _, s := range schemas {
		var v *Validator
		var bad []FieldError
		var took []time.Duration
		for range 3 {
			begin := time.Now()
			v, bad = Compile(json.RawMessage(s))
			took = append(took, time.Since(begin))
		}
		if slices.Sort(took); took[1] > slowest {
			slowest, slow = took[1], s
		}
		if v == nil {
			refused++
			require.NotEmpty(t, bad)
			require.NotEmpty(t, bad[0].Message, "%.200s", s)
			require.Less(t, len(bad[0].Message), 1000, "%.200s", s)
			continue
		}
		taken++
		for _, value := range values {
			if bad := v.Check(json.RawMessage(value)); len(bad) == 1 && strings.Contains(bad[0].Message, "steps") {
				stopped++
			}
		}
	}
	require.Positive(t, stopped)
	t.Logf("%d schemas: %d refused, %d taken; %d of their checks would not have ended; reading one took at most %v (the median of three), with a goal of 10 ms: %.60s…", len(schemas), refused, taken, stopped, slowest, slow)
}

// TestEffortIsWhatAValidatorDoes, for schemas that people write.
func TestEffortIsWhatAValidatorDoes(t *testing.T) {
	for _, c := range []struct {
		schema, value string
		steps         int
	}{
		{`{}`, `{}`, 1},
		{`{"properties":{"a":{},"b":{}}}`, `{"a":1,"c":2}`, 2},
		{`{"items":{"type":"integer"}}`, `[1,2,3]`, 4},
		{`{"prefixItems":[{},{}],"items":{}}`, `[1,2,3]`, 4},
		{`{"allOf":[{"$ref":"#/$defs/a"},{"$ref":"#/$defs/a"}],"$defs":{"a":{}}}`, `{}`, 5},
		{`{"properties":{"child":{"$ref":"#"}}}`, `{"child":{"child":{}}}`, 5},
		{`{"$dynamicAnchor":"n","properties":{"child":{"$dynamicRef":"#n"}}}`, `{"child":{"child":{}}}`, 10},
		{`{"patternProperties":{"^a":{}},"additionalProperties":{}}`, `{"ab":1}`, 4}, // the pattern too
		{`{"patternProperties":{"^a":{},"b$":{},"^c":{}}}`, `{"ab":1,"d":2}`, 9},
		{`{"dependentSchemas":{"a":{}},"propertyNames":{}}`, `{"a":1}`, 3},
		{`{"$schema":"http://json-schema.org/draft-07/schema#","items":[{}],"additionalItems":{},"dependencies":{"a":{}}}`, `[1,2]`, 3},
		{`{"$schema":"http://json-schema.org/draft-07/schema#","dependencies":{"a":{}, "b":["c"]}}`, `{"a":1,"b":2,"c":3}`, 2},
	} {
		v, bad := Compile(json.RawMessage(c.schema))
		require.Empty(t, bad)
		var value any
		require.NoError(t, json.Unmarshal([]byte(c.value), &value))
		s := first(v.library())
		e := effort{s.anchors, map[pair]int{}}
		require.Equal(t, c.steps, e.of(s.Schema, subjectOf(value)), c.schema)
	}
	// A large value of an ordinary schema is checked.
	v, bad := Compile(json.RawMessage(`{"properties":{"rows":{"items":{"properties":{"id":{"type":"integer"},"tags":{"items":{"type":"string"}}},"required":["id"]}}}}`))
	require.Empty(t, bad)
	rows := `{"rows":[` + strings.TrimSuffix(strings.Repeat(`{"id":1,"tags":["a","b"]},`, 30000), ",") + `]}`
	require.Empty(t, v.Check(json.RawMessage(rows)))
}

// TestManyPatterns: each is tried at each name, which takes its time also where none fits.
// With patterns that are harder than these such a check took a minute and a half.
func TestManyPatterns(t *testing.T) {
	var patterns, members []string
	for i := range 900 {
		patterns = append(patterns, fmt.Sprintf(`"^x%d$": {"type": "string"}`, i))
	}
	for i := range 20_000 {
		members = append(members, fmt.Sprintf(`"name%d": 1`, i))
	}
	v, bad := Compile([]byte(`{"type": "object", "patternProperties": {` + strings.Join(patterns, ",") + `}}`))
	require.Empty(t, bad)
	require.Empty(t, v.Check([]byte("{"+strings.Join(members[:1000], ",")+"}")))
	bad = v.Check([]byte("{" + strings.Join(members, ",") + "}"))
	require.Len(t, bad, 1)
	require.Contains(t, bad[0].Message, "takes more than")
}
