package schema

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"

	"github.com/invopop/jsonschema"
)

// The types of this file have a short form on the wire. Each implements
// decoder.wire for Decode; encoding/json comes to the same code through
// UnmarshalJSON. JSONSchemaExtend says the same in the published schema.

// UnmarshalJSON decodes a string or a list of parts.
func (c *Content) UnmarshalJSON(data []byte) error { return Decode(data, c) }

func (c *Content) wire(d *decoder) {
	if d.peek() == '"' {
		*c = TextContent(d.text())
		return
	}
	d.maxItems = maxParts
	d.value((*[]Part)(c), "a string or an array")
}

// JSONSchemaExtend publishes a string or a list of parts.
func (Content) JSONSchemaExtend(s *jsonschema.Schema) {
	parts := &jsonschema.Schema{Type: s.Type, Items: s.Items, MaxItems: count(maxParts)}
	eitherForm(s, &jsonschema.Schema{Type: "string"}, parts)
}

// eitherForm makes s, the schema of a type with two forms, one of both.
func eitherForm(s, short, long *jsonschema.Schema) {
	*s = jsonschema.Schema{Description: s.Description, AnyOf: []*jsonschema.Schema{short, long}}
}

// members is the part of s that is about an object's members.
func members(s *jsonschema.Schema) *jsonschema.Schema {
	return &jsonschema.Schema{Type: s.Type, Properties: s.Properties, Required: s.Required}
}

// UnmarshalJSON decodes the name of a registered tool or a ToolSpec.
func (t *ToolRef) UnmarshalJSON(data []byte) error { return Decode(data, t) }

func (t *ToolRef) wire(d *decoder) {
	if d.peek() == '"' {
		if t.Name = d.text(); t.Name == "" {
			d.fail("got an empty name")
		}
		return
	}
	t.Spec = new(ToolSpec)
	d.value(t.Spec, "a string or an object")
}

// JSONSchemaExtend publishes a name or a ToolSpec.
func (ToolRef) JSONSchemaExtend(s *jsonschema.Schema) {
	spec, _ := s.Properties.Get("Spec")
	eitherForm(s, &jsonschema.Schema{Type: "string", MinLength: count(1)}, &jsonschema.Schema{Ref: spec.Ref})
}

func count(n uint64) *uint64 { return &n }

// MarshalJSON is the inverse of UnmarshalJSON.
func (t ToolRef) MarshalJSON() ([]byte, error) {
	if t.Spec != nil {
		return Encode(t.Spec)
	}
	return Encode(t.Name)
}

// UnmarshalJSON decodes auto, required, none or an object with a name.
func (t *ToolChoice) UnmarshalJSON(data []byte) error { return Decode(data, t) }

func (t *ToolChoice) wire(d *decoder) {
	if d.peek() != '"' {
		type plain ToolChoice
		d.value((*plain)(t), "a string or an object")
		return
	}
	switch t.Mode = ToolChoiceMode(d.text()); t.Mode {
	case ToolChoiceAuto, ToolChoiceRequired, ToolChoiceNone:
	default:
		d.fail("got %q, want auto, required, none or an object", clip(string(t.Mode)))
	}
}

// JSONSchemaExtend publishes auto, required, none or an object with a name.
func (ToolChoice) JSONSchemaExtend(s *jsonschema.Schema) {
	modes := []any{ToolChoiceAuto, ToolChoiceRequired, ToolChoiceNone}
	eitherForm(s, &jsonschema.Schema{Type: "string", Enum: modes}, members(s))
}

// MarshalJSON is the inverse of UnmarshalJSON.
func (t ToolChoice) MarshalJSON() ([]byte, error) {
	if t.Mode != "" {
		return Encode(t.Mode)
	}
	type plain ToolChoice
	return Encode(plain(t))
}

// UnmarshalJSON decodes false or an object.
func (s *StreamPolicy) UnmarshalJSON(data []byte) error { return Decode(data, s) }

func (s *StreamPolicy) wire(d *decoder) {
	type plain StreamPolicy
	if d.peek() != 'f' {
		d.value((*plain)(s), "false or an object")
		return
	}
	d.skip()
	*s = StreamPolicy{Off: true}
}

// Over is s with what common says where s says nothing.
func (s StreamPolicy) Over(common StreamPolicy) StreamPolicy {
	switch {
	case s == StreamPolicy{}:
		return common
	case s.Off:
		return s
	}
	s.IntervalMS = cmp.Or(s.IntervalMS, common.IntervalMS)
	s.MaxTokens = cmp.Or(s.MaxTokens, common.MaxTokens)
	s.MaxBytes = cmp.Or(s.MaxBytes, common.MaxBytes)
	s.ToolArguments = cmp.Or(s.ToolArguments, common.ToolArguments)
	return s
}

// JSONSchemaExtend publishes false or an object.
func (StreamPolicy) JSONSchemaExtend(s *jsonschema.Schema) {
	eitherForm(s, &jsonschema.Schema{Const: false}, members(s))
}

// MarshalJSON is the inverse of UnmarshalJSON.
func (s StreamPolicy) MarshalJSON() ([]byte, error) {
	if s.Off {
		return []byte("false"), nil
	}
	type plain StreamPolicy
	return Encode(plain(s))
}

// UnmarshalJSON decodes an object or an empty array.
func (o *InitializationOptions) UnmarshalJSON(data []byte) error { return Decode(data, o) }

func (o *InitializationOptions) wire(d *decoder) {
	if d.peek() == '[' {
		if text := d.skip(); len(bytes.TrimSpace(text[1:len(text)-1])) > 0 {
			d.fail("got an array, want an object")
		}
		return
	}
	if d.expect("{", "an object") {
		d.object(reflect.ValueOf(o).Elem())
	}
}

func (o *InitializationOptions) broken() string {
	if o.MCPServers != nil && o.MCPServers[0] != '{' {
		return "mcpServers is no object"
	}
	return ""
}

// Servers is the number of MCP servers.
func (o *InitializationOptions) Servers() int {
	var servers map[string]json.RawMessage
	_ = json.Unmarshal(o.MCPServers, &servers) // an object, or nothing
	return len(servers)
}

// JSONSchemaExtend publishes an object or an empty array.
func (InitializationOptions) JSONSchemaExtend(s *jsonschema.Schema) {
	extendObject(s, "mcpServers")
	eitherForm(s, &jsonschema.Schema{Type: "array", MaxItems: count(0)}, members(s))
}

// UnmarshalJSON takes a string or an integer.
func (t *ProgressToken) UnmarshalJSON(data []byte) error { return Decode(data, t) }

func (t *ProgressToken) wire(d *decoder) {
	if !d.expect(`"0`, "a string or an integer") {
		return
	}
	text := d.skip()
	var problem string
	if text[0] == '"' {
		problem = (&rules{maxLength: maxTokenLength}).checkString(Unquote(text))
	} else if i, err := strconv.ParseInt(string(text), 10, 64); err != nil || max(i, -i) > maxTokenInteger {
		problem = fmt.Sprintf("got %s, want a string or an integer of 53 bits", clip(string(text)))
	}
	if problem != "" {
		d.fail("%s", problem)
		return
	}
	*t = bytes.Clone(text)
}

// Bounds of a token: each report repeats it.
const (
	maxTokenLength  = 128
	maxTokenInteger = 1<<53 - 1
)

// JSONSchemaExtend publishes a string or an integer, with their bounds.
func (ProgressToken) JSONSchemaExtend(s *jsonschema.Schema) {
	eitherForm(s, &jsonschema.Schema{Type: "string", MaxLength: count(maxTokenLength)},
		&jsonschema.Schema{
			Type:    "integer",
			Minimum: json.Number(strconv.Itoa(-maxTokenInteger)), Maximum: json.Number(strconv.Itoa(maxTokenInteger)),
		})
}

// JSONSchemaExtend publishes an id as a string or an integer.
func (CancelRequestParams) JSONSchemaExtend(s *jsonschema.Schema) {
	id, _ := s.Properties.Get("id")
	eitherForm(id, &jsonschema.Schema{Type: "string"}, &jsonschema.Schema{Type: "integer"})
}

// JSONSchemaExtend publishes the null that LSP clients without a process send.
func (InitializeParams) JSONSchemaExtend(s *jsonschema.Schema) {
	id, _ := s.Properties.Get("processId")
	plain := *id
	plain.Description = ""
	eitherForm(id, &plain, &jsonschema.Schema{Type: "null"})
}

// MarshalJSON is the inverse of UnmarshalJSON.
func (t ProgressToken) MarshalJSON() ([]byte, error) {
	if len(t) == 0 {
		return []byte("null"), nil
	}
	return t, nil
}

// Rules that no single member tells. Decode asks for them once a value is
// decoded; JSONSchemaExtend publishes them.

func (p *GenerateParams) broken() string {
	if problem := oneOf("messages", p.Messages, "prompt", p.Prompt); problem != "" {
		return problem
	}
	if p.Prompt != nil && p.SessionID != "" {
		return "prompt and sessionId are both given: a session takes messages"
	}
	return ""
}

// JSONSchemaExtend publishes that exactly one of messages and prompt is given,
// and that prompt has no session.
func (GenerateParams) JSONSchemaExtend(s *jsonschema.Schema) {
	extendOneOf(s, "messages", "prompt")
	s.Not = &jsonschema.Schema{Required: []string{"prompt", "sessionId"}}
}

func (p *TokensCountParams) broken() string {
	return oneOf("messages", p.Messages, "text", p.Text)
}

// JSONSchemaExtend publishes that exactly one of messages and text is given.
func (TokensCountParams) JSONSchemaExtend(s *jsonschema.Schema) { extendOneOf(s, "messages", "text") }

func oneOf(list string, messages []Message, single string, text *string) string {
	switch {
	case messages == nil && text == nil:
		return "neither " + list + " nor " + single + " is given"
	case messages != nil && text != nil:
		return list + " and " + single + " are both given, want one"
	case messages != nil && len(messages) == 0:
		return list + " is empty"
	}
	return ""
}

func extendOneOf(s *jsonschema.Schema, list, single string) {
	messages, _ := s.Properties.Get(list)
	messages.MinItems = count(1)
	s.OneOf = []*jsonschema.Schema{{Required: []string{list}}, {Required: []string{single}}}
}

func (p *CancelParams) broken() string {
	given := 0
	for _, is := range []bool{p.GenerationID != "", p.SessionID != "", p.All} {
		if is {
			given++
		}
	}
	switch given {
	case 0:
		return "none of generationId, sessionId and all:true is given"
	case 1:
		return ""
	}
	return "generationId, sessionId and all:true exclude one another"
}

// JSONSchemaExtend publishes that exactly one of generationId, sessionId and
// all:true is given.
func (CancelParams) JSONSchemaExtend(s *jsonschema.Schema) {
	s.OneOf = []*jsonschema.Schema{
		{Required: []string{"generationId"}},
		{Required: []string{"sessionId"}},
		having("all", &jsonschema.Schema{Const: true}, "all"),
	}
}

// having is the schema of an object whose member, where it is there, is value.
func having(member string, value *jsonschema.Schema, required ...string) *jsonschema.Schema {
	p := jsonschema.NewProperties()
	p.Set(member, value)
	return &jsonschema.Schema{Properties: p, Required: required}
}

func (f *ResponseFormat) broken() string {
	switch f.Type {
	case FormatJSONSchema:
		if f.Schema == nil {
			return "type json_schema needs schema"
		}
	case FormatRegex, FormatLark:
		if f.Source == "" {
			return "type " + string(f.Type) + " needs source"
		}
	}
	return ""
}

// JSONSchemaExtend publishes which types need a schema and which a source.
func (ResponseFormat) JSONSchemaExtend(s *jsonschema.Schema) {
	needs := func(member string, value *jsonschema.Schema, types ...any) *jsonschema.Schema {
		return &jsonschema.Schema{
			If:   having("type", &jsonschema.Schema{Enum: types}),
			Then: having(member, value, member),
		}
	}
	s.AllOf = []*jsonschema.Schema{
		needs("schema", jsonschema.TrueSchema, FormatJSONSchema),
		needs("source", &jsonschema.Schema{MinLength: count(1)}, FormatRegex, FormatLark),
	}
}

func (t *ToolCall) broken() string {
	if len(t.Arguments) == 0 || t.Arguments[0] != '{' {
		return "arguments are no object"
	}
	return ""
}

// JSONSchemaExtend publishes that arguments are an object.
func (ToolCall) JSONSchemaExtend(s *jsonschema.Schema) { extendObject(s, "arguments") }

func (t *ToolSpec) broken() string {
	if len(t.InputSchema) == 0 || t.InputSchema[0] != '{' {
		return "inputSchema is no object"
	}
	return ""
}

// JSONSchemaExtend publishes that inputSchema is an object.
func (ToolSpec) JSONSchemaExtend(s *jsonschema.Schema) { extendObject(s, "inputSchema") }

func extendObject(s *jsonschema.Schema, member string) {
	m, _ := s.Properties.Get(member)
	m.Type = "object"
}
