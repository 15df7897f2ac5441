package prompt

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"harmonyd/schema"
)

// GPT-OSS has learnt to read tools as declarations in TypeScript, in the exact form
// that openai-harmony gives them: its line breaks, its indents and what it leaves
// out of a JSON Schema are all part of the format.

// maxSchemaDepth is how deep registered schemas may nest.
const maxSchemaDepth = 128

// member returns the first member of a JSON object with this name, or nil.
func member(object []byte, name string) (value []byte) {
	if len(object) == 0 || object[0] != '{' {
		return nil
	}
	// A schema was found sound when it was registered.
	_ = schema.Scan(object, maxSchemaDepth, func(key string, v []byte) {
		if key == name && value == nil {
			value = v
		}
	})
	return value
}

// textMember returns a member that is a string.
func textMember(object []byte, name string) (text string, ok bool) {
	v := member(object, name)
	if len(v) == 0 || v[0] != '"' {
		return "", false
	}
	return schema.Unquote(v), true
}

// items returns the elements of a JSON array, none of anything else.
func items(array []byte) []json.RawMessage {
	var all []json.RawMessage
	if len(array) > 0 && array[0] == '[' {
		_ = json.Unmarshal(array, &all) // sound, as above
	}
	return all
}

// texts returns the strings among the elements of a JSON array.
func texts(array []byte) []string {
	var all []string
	for _, v := range items(array) {
		if v[0] == '"' {
			all = append(all, schema.Unquote(v))
		}
	}
	return all
}

// declareTools appends the section on the tools.
func declareTools(b *strings.Builder, tools []schema.ToolSpec) {
	b.WriteString("# Tools\n\n## functions\n\nnamespace functions {\n\n")
	for i := range tools {
		for _, line := range lines(tools[i].Description) {
			b.WriteString("// " + line + "\n")
		}
		b.WriteString("type " + tools[i].Name)
		if len(tools[i].InputSchema) == 0 {
			b.WriteString(" = () => any;\n\n")
			continue
		}
		b.WriteString(" = (_: ")
		typeOf(b, tools[i].InputSchema, "")
		b.WriteString(") => any;\n\n")
	}
	b.WriteString("} // namespace functions")
}

// lines are the lines of text; one that is empty at the end is none.
func lines(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		all = append(all, strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"))
	}
	return all
}

// typeOf writes the type of a JSON Schema.
func typeOf(b *strings.Builder, s []byte, indent string) {
	if variants := member(s, "oneOf"); len(variants) > 0 && variants[0] == '[' {
		for _, v := range items(variants) {
			b.WriteString("\n" + indent + " | ")
			variant(b, v, indent+"   ", "", false, false)
		}
		return
	}
	kind := member(s, "type")
	if kinds := texts(kind); len(kinds) > 0 {
		for i, k := range kinds {
			if k == "integer" {
				kinds[i] = "number"
			}
		}
		b.WriteString(strings.Join(kinds, " | "))
		return
	}
	switch string(kind) {
	case `"object"`:
		objectType(b, s, indent)
	case `"string"`:
		if values := texts(member(s, "enum")); len(values) > 0 {
			b.WriteString(`"` + strings.Join(values, `" | "`) + `"`)
			return
		}
		b.WriteString("string")
	case `"number"`, `"integer"`:
		b.WriteString("number")
	case `"boolean"`:
		b.WriteString("boolean")
	case `"array"`:
		element := member(s, "items")
		if element == nil {
			b.WriteString("Array<any>")
			return
		}
		typeOf(b, element, indent)
		b.WriteString("[]")
	default:
		b.WriteString("any")
	}
}

// nullableType writes a type with null where the schema has OpenAPI's nullable.
func nullableType(b *strings.Builder, s []byte, indent string) {
	var t strings.Builder
	typeOf(&t, s, indent)
	b.WriteString(t.String())
	if string(member(s, "nullable")) == "true" && !strings.Contains(t.String(), "null") {
		b.WriteString(" | null")
	}
}

// objectType writes the type of an object, a line for each property with comments
// above it.
func objectType(b *strings.Builder, s []byte, indent string) {
	if text, ok := textMember(s, "description"); ok {
		b.WriteString(indent + "// " + text + "\n")
	}
	b.WriteString("{\n")
	required := texts(member(s, "required"))
	if properties := member(s, "properties"); len(properties) > 0 && properties[0] == '{' {
		_ = schema.Scan(properties, maxSchemaDepth, func(name string, p []byte) {
			mark := "?"
			if slices.Contains(required, name) {
				mark = ""
			}
			property(b, name+mark, p, indent)
		})
	}
	b.WriteString(indent + "}")
}

// property writes one property.
func property(b *strings.Builder, name string, p []byte, indent string) {
	if text, ok := textMember(p, "title"); ok {
		b.WriteString(indent + "// " + text + "\n" + indent + "//\n")
	}
	variants := member(p, "oneOf")
	description, described := textMember(p, "description")
	if described && variants == nil {
		b.WriteString(indent + "// " + description + "\n")
	}
	if examples := member(p, "examples"); len(items(examples)) > 0 {
		b.WriteString(indent + "// Examples:\n")
		for _, text := range texts(examples) {
			b.WriteString(indent + `// - "` + text + "\"\n")
		}
	}
	if len(variants) > 0 && variants[0] == '[' {
		choice(b, name, p, items(variants), indent)
		return
	}
	b.WriteString(indent + name + ": ")
	nullableType(b, p, indent+"    ")
	b.WriteByte(',')
	if value := member(p, "default"); value != nil && variants == nil {
		b.WriteString(" // default: " + defaultOf(p, value, true))
	}
	b.WriteByte('\n')
}

// choice writes a property of one of several types, a line for each.
func choice(b *strings.Builder, name string, p []byte, variants []json.RawMessage, indent string) {
	description, described := textMember(p, "description")
	above := described
	if len(variants) > 0 && described {
		first, ok := textMember(variants[0], "description")
		above = !ok || first != description
	}
	if above {
		b.WriteString(indent + "// " + description + "\n")
	}
	if value := member(p, "default"); value != nil {
		b.WriteString(indent + "// default: " + defaultOf(p, value, true) + "\n")
	}
	b.WriteString(indent + name + ":\n")
	for i, v := range variants {
		b.WriteString(indent + " | ")
		said := ""
		if described {
			said = description
		}
		variant(b, v, indent+"   ", said, i == 0 && above, true)
		b.WriteByte('\n')
	}
	b.WriteString(indent + ",\n")
}

// variant writes one of several types with its comments behind it. A description
// that was said above is not repeated, and a silent one has none. The default of an
// enum is bare in a property only.
func variant(b *strings.Builder, s []byte, indent, said string, silent, bare bool) {
	nullableType(b, s, indent)
	var comments []string
	if text, ok := textMember(s, "description"); ok && !silent && (said == "" || text != said) {
		comments = append(comments, text)
	}
	if value := member(s, "default"); value != nil {
		comments = append(comments, "default: "+defaultOf(s, value, bare))
	}
	if len(comments) > 0 {
		b.WriteString(" // " + strings.Join(comments, " "))
	}
}

// defaultOf writes a default value. One of an enum has no quotes where bare is set.
func defaultOf(s, value []byte, bare bool) string {
	if value[0] == '"' {
		if text := schema.Unquote(value); len(items(member(s, "enum"))) == 0 {
			return `"` + text + `"`
		} else if bare {
			return text
		}
	}
	return compactJSON(value)
}

// compactJSON writes JSON without white space, numbers as serde_json does.
func compactJSON(value []byte) string {
	var b bytes.Buffer
	if json.Compact(&b, value) != nil {
		return string(value)
	}
	if c := value[0]; c != '-' && (c < '0' || c > '9') {
		return b.String()
	}
	if !bytes.ContainsAny(value, ".eE") {
		return b.String()
	}
	f, err := strconv.ParseFloat(b.String(), 64)
	if err != nil {
		return b.String()
	}
	text := strconv.FormatFloat(f, 'g', -1, 64)
	if f == float64(int64(f)) && f < 1e16 && f > -1e16 {
		text = strconv.FormatFloat(f, 'f', 1, 64)
	}
	return strings.Replace(text, "e+", "e", 1)
}
