package schema

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/invopop/jsonschema"
)

// typeScript is the protocol as a TypeScript module.
func (d *document) typeScript() ([]byte, error) {
	t := typeScriptTypes()
	var b bytes.Buffer
	fmt.Fprintf(&b, "// %s\n\n/** The version of the protocol. */\nexport const protocolVersion = %d;\n",
		generatedBy(LanguageTypeScript), Version)
	b.WriteString("\n/** What the server answers errors with, by data.kind. */\nexport const errors = {\n")
	for _, e := range ErrorCodes {
		wrapped(&b, "  // ", e.Meaning)
		fmt.Fprintf(&b, "  %s: { code: %d, retryable: %t },\n", e.Kind, e.Code, e.Retryable)
	}
	b.WriteString("} as const;\n")
	for _, dir := range directions {
		fmt.Fprintf(&b, "\n/** %s */\nexport interface %s {\n", dir.doc, dir.name)
		for _, m := range dir.of(d.methods) {
			typ := t.expr(m.Params)
			if dir.answered {
				typ = fmt.Sprintf("{ params: %s; result: %s }", typ, t.expr(m.Result))
			}
			t.comment(&b, "  ", m.Description)
			fmt.Fprintf(&b, "  %q: %s;\n", m.Method, typ)
		}
		b.WriteString("}\n")
	}
	for _, name := range d.names() {
		t.define(&b, name, d.defs[name])
	}
	return b.Bytes(), nil
}

// typeScriptWriter writes definitions of TypeScript.
type typeScriptWriter struct{ types }

func typeScriptTypes() *typeScriptWriter {
	return &typeScriptWriter{types{
		any: "unknown", null: "null", truth: "boolean", number: "number", integer: "number",
		// What an editor completes the values of, though others are taken.
		open: "(string & {})",
		bar:  " | ", objects: "Record<string, unknown>",
		object: func(members []member) string {
			var all []string
			for _, m := range members {
				all = append(all, property(m))
			}
			return "{ " + strings.Join(all, "; ") + " }"
		},
	}}
}

func property(m member) string {
	if m.required {
		return m.name + ": " + m.typ
	}
	return m.name + "?: " + m.typ
}

// define writes a type with its name. An object is an interface, unless it is
// one of several.
func (t *typeScriptWriter) define(b *bytes.Buffer, name string, s *jsonschema.Schema) {
	b.WriteByte('\n')
	t.comment(b, "", s.Description)
	if s.Type != "object" || s.Properties == nil || s.Properties.Len() == 0 {
		fmt.Fprintf(b, "export type %s = %s;\n", name, t.expr(s))
		return
	}
	common, alternatives := t.alternatives(s)
	if alternatives == nil {
		fmt.Fprintf(b, "export interface %s {\n", name)
		t.properties(b, "  ", common)
		b.WriteString("}\n")
		return
	}
	fmt.Fprintf(b, "export type %s =", name)
	if common != nil {
		b.WriteString(" {\n")
		t.properties(b, "  ", common)
		b.WriteString("} & (")
	}
	for _, members := range alternatives {
		b.WriteString("\n  | {\n")
		t.properties(b, "    ", members)
		b.WriteString("  }")
	}
	if common != nil {
		b.WriteString("\n)")
	}
	b.WriteString(";\n")
}

// alternatives are the members of an object that say nothing of each other, and
// for each of those of which there is exactly one all of them.
func (t *typeScriptWriter) alternatives(s *jsonschema.Schema) (common []member, alternatives [][]member) {
	var chosen []string
	for _, a := range s.OneOf {
		chosen = append(chosen, a.Required...)
	}
	all := t.members(s)
	for _, a := range s.OneOf {
		var members []member
		for _, m := range all {
			switch {
			case slices.Contains(a.Required, m.name):
				m.required = true
				if a.Properties != nil {
					if p, ok := a.Properties.Get(m.name); ok {
						m.typ = t.expr(p)
					}
				}
			case slices.Contains(chosen, m.name):
				m.typ, m.doc = "undefined", ""
			default:
				continue
			}
			members = append(members, m)
		}
		alternatives = append(alternatives, members)
	}
	for _, m := range all {
		if !slices.Contains(chosen, m.name) {
			common = append(common, m)
		}
	}
	return common, alternatives
}

func (t *typeScriptWriter) properties(b *bytes.Buffer, indent string, members []member) {
	for _, m := range members {
		if m.doc != "" {
			t.comment(b, indent, m.doc)
		}
		fmt.Fprintf(b, "%s%s;\n", indent, property(m))
	}
}

func (t *typeScriptWriter) comment(b *bytes.Buffer, indent, text string) {
	if len(indent)+len(text) < 90 && !strings.Contains(text, "\n") {
		fmt.Fprintf(b, "%s/** %s */\n", indent, text)
		return
	}
	fmt.Fprintf(b, "%s/**\n", indent)
	wrapped(b, indent+" * ", text)
	fmt.Fprintf(b, "%s */\n", indent)
}
