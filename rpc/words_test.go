package rpc

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/schema"
)

// hostile are values that something is wrong or remarkable about.
var hostile = []string{
	"null", "-0", "1e999", "-1", "0.5", "9007199254740993", "18446744073709551616", `"\ud800"`, `"\u0000"`, `"é"`, "\xff", "\xef\xbb\xbf",
	`"` + strings.Repeat("a", 129) + `"`, strings.Repeat("[", 200), strings.Repeat("]", 200), strings.Repeat(`{"a":`, 130),
	`"id":1,`, `"a":1,"a":2`, "[{}]", "{", "}", "[", "]", ",", ":", `"`, " ", "\t",
}

// JSONWords are the words of messages: whole ones of every method, which it
// returns by themselves too, methods, params, members, values and trouble.
func JSONWords(t testing.TB) (words, messages []string) {
	document, err := Publish(schema.LanguageJSONSchema)
	require.NoError(t, err)
	var published sampler
	require.NoError(t, json.Unmarshal(document, &published))
	var parts []string
	for i, m := range published.Methods {
		id := fmt.Sprintf(`"id":%d,`, i+2)
		if m.Kind == schema.MethodNotification {
			id = ""
		}
		parts = append(parts, fmt.Sprintf("%q", m.Method))
		for _, full := range []bool{false, true} {
			params := published.text(m.Params, full)
			parts = append(parts, params)
			messages = append(messages, fmt.Sprintf(`{"jsonrpc":"2.0",%s"method":%q,"params":%s}`, id, m.Method, params))
			if m.Result != nil && m.Side == schema.SideClient {
				messages = append(messages, fmt.Sprintf(`{"jsonrpc":"2.0",%s"result":%s}`, id, published.text(m.Result, full)))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(published.Defs)) {
		members, _ := published.Defs[name]["properties"].(map[string]any)
		for _, member := range slices.Sorted(maps.Keys(members)) {
			parts = append(parts, fmt.Sprintf("%q:", member))
			s := members[member].(map[string]any)
			for _, of := range []string{"enum", "examples"} {
				values, _ := s[of].([]any)
				for _, v := range values {
					parts = append(parts, fmt.Sprintf("%q", v))
				}
			}
		}
	}
	envelope := []string{`{"jsonrpc":"2.0",`, `"jsonrpc":"2.0",`, `"method":`, `,"params":`, `"result":{}`, `"error":{"code":1,"message":"a"}`}
	return slices.Concat(messages, parts, envelope, hostile), messages
}

// sampler is the published schema, to make values of its types.
type sampler struct {
	Methods []struct {
		Method         string
		Kind           schema.MethodKind
		Side           schema.Side
		Params, Result map[string]any
	} `json:"x-methods"`
	Defs map[string]map[string]any `json:"$defs"`
}

// text is a value of a type, with as few or as many members as it may have.
func (p *sampler) text(s map[string]any, full bool) string {
	text, err := json.Marshal(p.value(s, full, 0))
	if err != nil {
		panic(err) // made of decoded JSON
	}
	return string(text)
}

func (p *sampler) value(s map[string]any, full bool, depth int) any {
	if ref, ok := s["$ref"].(string); ok {
		return p.value(p.Defs[strings.TrimPrefix(ref, "#/$defs/")], full, depth)
	}
	if all, ok := s["anyOf"].([]any); ok {
		i := 0
		if full {
			i = len(all) - 1
		}
		return p.value(all[i].(map[string]any), full, depth)
	}
	for _, of := range []string{"enum", "examples"} {
		if values, ok := s[of].([]any); ok {
			return values[0]
		}
	}
	if c, ok := s["const"]; ok {
		return c
	}
	switch s["type"] {
	case "string":
		return "a"
	case "integer", "number":
		if least, ok := s["minimum"].(float64); ok {
			return max(least, 0)
		}
		return 1
	case "boolean":
		return true
	case "null":
		return nil
	case "array":
		if _, some := s["minItems"]; !full && !some {
			return []any{}
		}
		return []any{p.value(s["items"].(map[string]any), full, depth+1)}
	}
	return p.object(s, full, depth)
}

// object has the members that it must have, or all, and of those of which it has
// exactly one the first.
func (p *sampler) object(s map[string]any, full bool, depth int) map[string]any {
	object := map[string]any{}
	members, _ := s["properties"].(map[string]any)
	must, _ := s["required"].([]any)
	if full && depth < 6 {
		must = nil
		for member := range members {
			must = append(must, member)
		}
	}
	if alternatives, _ := s["oneOf"].([]any); alternatives != nil {
		var chosen [][]any
		for _, a := range alternatives {
			chosen = append(chosen, a.(map[string]any)["required"].([]any))
		}
		must = slices.DeleteFunc(must, func(m any) bool { return slices.Contains(slices.Concat(chosen...), m) })
		must = append(must, chosen[0]...)
	}
	for _, m := range must {
		object[m.(string)] = p.value(members[m.(string)].(map[string]any), full, depth+1)
	}
	return object
}

// TestWords: the messages made of the schema are some that the server takes.
func TestWords(t *testing.T) {
	_, messages := JSONWords(t)
	taken := map[string]int{}
	for _, text := range messages {
		m, problem := parse([]byte(text), schema.DefaultLimits())
		require.Nil(t, problem, text)
		row := byName[m.method]
		if row == nil {
			continue // the server's own
		}
		require.NoError(t, schema.Decode(m.params, reflect.New(row.params).Interface()), text)
		taken[m.method]++
	}
	for name := range byName {
		require.GreaterOrEqual(t, taken[name], 2, name)
	}
}

// TestUnknownMembersAnywhere: in the params of every method, at every depth, members
// that nobody knows are passed over, and so is _meta.
func TestUnknownMembersAnywhere(t *testing.T) {
	_, messages := JSONWords(t)
	objects := 0
	var strew func(v any) any
	strew = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			objects++
			for name, member := range v {
				v[name] = strew(member)
			}
			v["_meta"], v["unknown"], v["UNKNOWN"] = map[string]any{"id": 1}, []any{nil, "}"}, 1e300
		case []any:
			for i := range v {
				v[i] = strew(v[i])
			}
		}
		return v
	}
	for _, text := range messages {
		m, problem := parse([]byte(text), schema.DefaultLimits())
		require.Nil(t, problem, text)
		row := byName[m.method]
		if row == nil {
			continue // the server's own
		}
		var params any
		require.NoError(t, json.Unmarshal(m.params, &params))
		strewn, err := json.Marshal(strew(params))
		require.NoError(t, err)
		require.NoError(t, schema.Decode(strewn, reflect.New(row.params).Interface()), "%s", strewn)
	}
	require.Greater(t, objects, 100)
}
