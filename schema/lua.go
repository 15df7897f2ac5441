package schema

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/invopop/jsonschema"
)

// lua is the protocol as a Lua module whose types are LuaCATS annotations.
// Where an object has exactly one of several members, which LuaCATS cannot say,
// its description does.
func (d *document) lua() ([]byte, error) {
	t := luaTypes()
	var b bytes.Buffer
	fmt.Fprintf(&b, "-- %s\n\nlocal M = {}\n\n--- The version of the protocol.\nM.protocol_version = %d\n",
		generatedBy(LanguageLua), Version)
	b.WriteString("\n--- What the server answers errors with, by data.kind.\n" +
		"---@type table<string, { code: integer, retryable: boolean }>\nM.errors = {\n")
	for _, e := range ErrorCodes {
		wrapped(&b, "  -- ", e.Meaning)
		fmt.Fprintf(&b, "  %s = { code = %d, retryable = %t },\n", e.Kind, e.Code, e.Retryable)
	}
	b.WriteString("}\n")
	for _, dir := range directions {
		fmt.Fprintf(&b, "\n--- %s\n---@class %s%s\n", dir.doc, t.prefix, dir.name)
		for _, m := range dir.of(d.methods) {
			typ := t.expr(m.Params)
			if dir.answered {
				typ = fmt.Sprintf("{ params: %s, result: %s }", typ, t.expr(m.Result))
			}
			wrapped(&b, "--- ", m.Description)
			fmt.Fprintf(&b, "---@field [%q] %s\n", m.Method, typ)
		}
	}
	for _, name := range d.names() {
		t.define(&b, name, d.defs[name])
	}
	b.WriteString("\nreturn M\n")
	return b.Bytes(), nil
}

// luaWriter writes definitions of LuaCATS.
type luaWriter struct{ types }

func luaTypes() *luaWriter {
	return &luaWriter{types{
		any: "any", null: "nil", truth: "boolean", number: "number", integer: "integer",
		open: "string", prefix: "harmonyd.", bar: "|", objects: "table<string, any>",
		object: func(members []member) string {
			var all []string
			for _, m := range members {
				all = append(all, optional(m)+": "+m.typ)
			}
			return "{ " + strings.Join(all, ", ") + " }"
		},
	}}
}

func optional(m member) string {
	if m.required {
		return m.name
	}
	return m.name + "?"
}

// define writes a type with its name.
func (t *luaWriter) define(b *bytes.Buffer, name string, s *jsonschema.Schema) {
	b.WriteByte('\n')
	wrapped(b, "--- ", s.Description)
	if s.Type != "object" || s.Properties == nil || s.Properties.Len() == 0 {
		fmt.Fprintf(b, "---@alias %s%s %s\n", t.prefix, name, t.expr(s))
		return
	}
	fmt.Fprintf(b, "---@class %s%s\n", t.prefix, name)
	for _, m := range t.members(s) {
		wrapped(b, "--- ", m.doc)
		fmt.Fprintf(b, "---@field %s %s\n", optional(m), m.typ)
	}
}
