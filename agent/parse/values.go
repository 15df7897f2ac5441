package parse

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"harmonyd/schema"
)

// gemmaValue is a value in the format of Gemma that a schema allows, as far as it goes
// by types: strings with marks of their own and keys without quotes are no JSON.
func (w *writer) gemmaValue(c *Callable, s []byte, quote string, hops int) string {
	doc := document(c.Schema)
	m := membersOf(doc.follow(s))
	switch {
	case w.refused:
		return ""
	case hops == 0:
		return w.refuse()
	}
	if m["enum"] != nil || m["const"] != nil {
		return w.gemmaWords(c, m, quote)
	}
	for _, name := range []string{"anyOf", "oneOf"} {
		var options []json.RawMessage
		if json.Unmarshal(m[name], &options) != nil {
			continue
		}
		w.only(c, m, name)
		exprs := make([]string, len(options))
		for i, o := range options {
			exprs[i] = w.gemmaValue(c, o, quote, hops-1)
		}
		return "(" + strings.Join(exprs, " | ") + ")"
	}
	var types []string
	if json.Unmarshal(m["type"], &types) != nil {
		types = []string{""}
		_ = json.Unmarshal(m["type"], &types[0])
	}
	w.only(c, m, "type", "items", "minItems", "maxItems", "properties", "required", "additionalProperties", "minLength", "maxLength",
		"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
	exprs := make([]string, len(types))
	for i, t := range types {
		exprs[i] = w.gemmaTyped(c, t, s, m, quote, hops)
	}
	return "(" + strings.Join(exprs, " | ") + ")"
}

// gemmaTyped is gemmaValue for one type of values.
func (w *writer) gemmaTyped(c *Callable, of string, s []byte, m map[string]json.RawMessage, quote string, hops int) string {
	switch of {
	case "string":
		return w.mark(quote) + " " + w.text(c, s, func(_ []string, least, most int) string { return w.until(quote, least, most, w.without(quote)) })
	case "array":
		return w.gemmaList(c, m, quote, hops)
	case "object":
		return w.gemmaObject(c, document(c.Schema).follow(s), quote, hops)
	case "boolean":
		return `("true" | "false")`
	case "null":
		return `"null"`
	case "integer", "number":
		number := map[string]json.RawMessage{"type": json.RawMessage(`"` + of + `"`)}
		for _, name := range []string{"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"} {
			if m[name] != nil {
				number[name] = m[name]
			}
		}
		text, err := json.Marshal(number)
		if err != nil {
			return w.refuse()
		}
		return w.json(text)
	}
	return w.refuse()
}

// gemmaWords is one of the values that a schema lists.
func (w *writer) gemmaWords(c *Callable, m map[string]json.RawMessage, quote string) string {
	w.only(c, m, "type", "enum", "const")
	values := []json.RawMessage{m["const"]}
	if m["enum"] != nil {
		_ = json.Unmarshal(m["enum"], &values)
	}
	options := make([]string, len(values))
	for i, v := range values {
		switch word := schema.Unquote(v); {
		case v[0] == '"' && strings.Contains(word, quote), v[0] == '{' || v[0] == '[':
			return w.refuse()
		case v[0] == '"':
			options[i] = strings.TrimSpace(fmt.Sprintf("%s %s %s", w.mark(quote), literal(word), w.mark(quote)))
		default:
			options[i] = literal(string(v))
		}
	}
	return "(" + strings.Join(options, " | ") + ")"
}

// gemmaList is an array.
func (w *writer) gemmaList(c *Callable, m map[string]json.RawMessage, quote string, hops int) string {
	if m["items"] == nil || m["items"][0] != '{' {
		return w.refuse()
	}
	least, most := 0, -1
	_ = json.Unmarshal(m["minItems"], &least)
	_ = json.Unmarshal(m["maxItems"], &most)
	if most == 0 {
		return `"[]"`
	}
	one := w.rule("item", w.gemmaValue(c, m["items"], quote, hops-1))
	to := ""
	if most > 0 {
		to = fmt.Sprint(most - 1)
	}
	several := fmt.Sprintf(`%s ("," %s){%d,%s}`, one, one, max(least-1, 0), to)
	if least == 0 {
		several = "(" + several + ")?"
	}
	return `"[" ` + several + ` "]"`
}

// gemmaObject is an object without other members than the properties of its schema.
func (w *writer) gemmaObject(c *Callable, s []byte, quote string, hops int) string {
	inner := Callable{Name: c.Name, Schema: s, Strict: c.Strict}
	parameters := w.parameters(&inner, isGemmaKey)
	items := make([]item, len(parameters))
	for i, p := range parameters {
		items[i] = item{literal(p.name+":") + " " + w.gemmaValue(c, p.schema, quote, hops-1), p.optional}
	}
	return fmt.Sprintf(`"{" %s "}"`, w.sequence(items, ","))
}

// isGemmaKey reports whether a name can be a key without marks.
func isGemmaKey(name string) bool {
	return name != "" && !slices.ContainsFunc([]byte(name), func(b byte) bool { return !isNameByte(b) })
}
