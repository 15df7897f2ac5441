package parse

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"harmonyd/schema"
)

// parameter is a property of a tool's arguments, for formats that write them one by one.
type parameter struct {
	name     string
	schema   json.RawMessage
	optional bool
}

// annotations are keywords that hold nothing to anything.
var annotations = []string{"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment", "$schema", "$id", "$defs", "definitions"}

// only refuses a schema of a strict tool that has other keywords than those that are
// given and annotations.
func (w *writer) only(c *Callable, s map[string]json.RawMessage, known ...string) {
	for name := range s {
		if c.Strict && !slices.Contains(known, name) && !slices.Contains(annotations, name) {
			w.refuse()
		}
	}
}

// parameters are those of a tool whose names a format can write.
func (w *writer) parameters(c *Callable, canWrite func(name string) bool) []parameter {
	s := membersOf(c.Schema)
	w.only(c, s, "type", "properties", "required", "additionalProperties")
	var required []string
	_ = json.Unmarshal(s["required"], &required) // a sound schema has a list of strings
	var all []parameter
	_ = schema.Scan(s["properties"], maxDepth, func(name string, property []byte) {
		at := slices.Index(required, name)
		if at >= 0 {
			required = slices.Delete(required, at, at+1)
		}
		switch never := string(property) == "false"; {
		case never && at < 0:
		case never || !canWrite(name):
			w.refuse()
		default:
			all = append(all, parameter{name, property, at < 0})
		}
	})
	if len(required) > 0 {
		w.refuse()
	}
	return all
}

// part is a schema within the arguments of c, as one that stands alone.
func (w *writer) part(c *Callable, s []byte) []byte {
	if s[0] != '{' { // true
		return []byte("{}")
	}
	var defs []byte
	root := membersOf(c.Schema)
	for _, name := range []string{"$defs", "definitions"} {
		if root[name] != nil && bytes.Contains(s, []byte(`"#/`+name+`/`)) {
			defs = append(append(append(append(defs, ',', '"'), name...), '"', ':'), root[name]...)
		}
	}
	elsewhere := bytes.Count(s, []byte(`"$ref"`)) - bytes.Count(s, []byte(`"#/$defs/`)) - bytes.Count(s, []byte(`"#/definitions/`))
	if elsewhere > 0 {
		if c.Strict {
			w.refuse()
		}
		return []byte("{}")
	}
	if defs == nil {
		return s
	}
	body := bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(s), []byte("}")))
	return slices.Concat(body, defs, []byte("}"))
}

// raw is the value of a parameter in a format that writes strings as they are, up to
// a mark. They meet a condition, and hold none of some texts.
func (w *writer) raw(c *Callable, s []byte, end, and string, none ...string) string {
	if !document(c.Schema).allowsString(s, maxHops) {
		return w.json(w.part(c, s)) + " " + w.mark(end)
	}
	return w.text(c, s, func(words []string, least, most int) string {
		if words == nil {
			return w.until(end, least, most, w.without(none...)+and)
		}
		options := make([]string, len(words))
		for i, word := range words {
			options[i] = literal(word) + " " + w.mark(end)
			held := slices.ContainsFunc(append(none, end, "\r"), func(text string) bool { return strings.Contains(word, text) })
			if held || and != "" && strings.Trim(word, "\n") != word {
				w.refuse()
			}
		}
		return "(" + strings.Join(options, " | ") + ")"
	})
}

// text finds out which strings a schema allows, as far as formats with strings of their
// own can hold that: some words, or those of a length.
func (w *writer) text(c *Callable, s []byte, write func(words []string, least, most int) string) string {
	doc := document(c.Schema)
	m := membersOf(doc.follow(s))
	for range maxHops {
		list := slices.Concat(m["anyOf"], m["oneOf"])
		var options []json.RawMessage
		if json.Unmarshal(list, &options) != nil {
			break
		}
		options = slices.DeleteFunc(options, func(o json.RawMessage) bool { return !doc.allowsString(o, maxHops) })
		if len(options) != 1 {
			break
		}
		w.only(c, m, "anyOf", "oneOf")
		m = membersOf(doc.follow(options[0]))
	}
	w.only(c, m, "type", "enum", "const", "minLength", "maxLength")
	least, most := 0, -1
	_ = json.Unmarshal(m["minLength"], &least)
	_ = json.Unmarshal(m["maxLength"], &most)
	var values []any
	if m["enum"] != nil {
		_ = json.Unmarshal(m["enum"], &values)
	} else if m["const"] != nil {
		_ = json.Unmarshal(slices.Concat([]byte("["), m["const"], []byte("]")), &values)
	}
	var words []string
	for _, v := range values {
		if word, ok := v.(string); ok {
			words = append(words, word)
		}
	}
	if values != nil && words == nil {
		return w.refuse()
	}
	return write(words, least, most)
}

// membersOf are the members of a JSON object; of anything else there are none.
func membersOf(object []byte) map[string]json.RawMessage {
	var m map[string]json.RawMessage
	_ = json.Unmarshal(object, &m) // nil where it is no object
	return m
}

// document is a schema to which references within it belong.
type document []byte

// pointerEscapes undoes those of RFC 6901.
var pointerEscapes = strings.NewReplacer("~1", "/", "~0", "~")

// maxHops is how many references are followed in a row, and how deep alternatives are
// looked into.
const maxHops = 16

// follow returns the schema that s is, behind references into the document.
func (d document) follow(s []byte) []byte {
	for range maxHops {
		var ref string
		if json.Unmarshal(membersOf(s)["$ref"], &ref) != nil || !strings.HasPrefix(ref, "#/") {
			return s
		}
		target := json.RawMessage(d)
		for _, step := range strings.Split(ref[2:], "/") {
			target = membersOf(target)[pointerEscapes.Replace(step)]
		}
		if target == nil {
			return s
		}
		s = target
	}
	return s
}

// allowsString reports whether a schema, as far as types and alternatives tell, has
// strings among its values.
func (d document) allowsString(s []byte, hops int) bool {
	m := membersOf(d.follow(s))
	switch {
	case hops == 0:
		return true
	case m["type"] != nil:
		return bytes.Contains(m["type"], []byte(`"string"`))
	case m["enum"] != nil:
		var values []json.RawMessage
		_ = json.Unmarshal(m["enum"], &values)
		return slices.ContainsFunc(values, func(v json.RawMessage) bool { return v[0] == '"' })
	case m["const"] != nil:
		return m["const"][0] == '"'
	}
	for _, name := range []string{"anyOf", "oneOf", "allOf"} {
		var options []json.RawMessage
		if json.Unmarshal(m[name], &options) != nil {
			continue
		}
		allows := func(o json.RawMessage) bool { return d.allowsString(o, hops-1) }
		if name == "allOf" {
			return !slices.ContainsFunc(options, func(o json.RawMessage) bool { return !allows(o) })
		}
		return slices.ContainsFunc(options, allows)
	}
	return true
}
