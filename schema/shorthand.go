package schema

import "bytes"

// The types of this file have a short form on the wire. Each implements
// decoder.wire for Decode; encoding/json comes to the same code through
// UnmarshalJSON.

// UnmarshalJSON decodes a string or a list of parts.
func (c *Content) UnmarshalJSON(data []byte) error { return Decode(data, c) }

func (c *Content) wire(d *decoder) {
	if d.peek() == '"' {
		*c = TextContent(d.text())
		return
	}
	d.value((*[]Part)(c), "a string or an array")
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

// MarshalJSON is the inverse of UnmarshalJSON.
func (s StreamPolicy) MarshalJSON() ([]byte, error) {
	if s.Off {
		return []byte("false"), nil
	}
	type plain StreamPolicy
	return Encode(plain(s))
}

// UnmarshalJSON takes a string or an integer.
func (t *ProgressToken) UnmarshalJSON(data []byte) error { return Decode(data, t) }

func (t *ProgressToken) wire(d *decoder) {
	if !d.expect(`"0`, "a string or an integer") {
		return
	}
	if *t = bytes.Clone(d.skip()); (*t)[0] != '"' && bytes.ContainsAny(*t, ".eE") {
		d.fail("got %s, want a string or an integer", clip(string(*t)))
	}
}

// MarshalJSON is the inverse of UnmarshalJSON.
func (t ProgressToken) MarshalJSON() ([]byte, error) {
	if len(t) == 0 {
		return []byte("null"), nil
	}
	return t, nil
}

// Rules that no single member tells. Decode asks for them once a value is
// decoded.

func (p *GenerateParams) broken() string {
	return oneOf("messages", p.Messages, "prompt", p.Prompt)
}

func (p *TokensCountParams) broken() string {
	return oneOf("messages", p.Messages, "text", p.Text)
}

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

func (p *CancelParams) broken() string {
	switch {
	case p.GenerationID == "" && !p.All:
		return "neither generationId nor all:true is given"
	case p.GenerationID != "" && p.All:
		return "generationId and all:true are both given, want one"
	}
	return ""
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

func (t *ToolCall) broken() string {
	if len(t.Arguments) == 0 || t.Arguments[0] != '{' {
		return "arguments are no object"
	}
	return ""
}

func (t *ToolSpec) broken() string {
	if len(t.InputSchema) == 0 || t.InputSchema[0] != '{' {
		return "inputSchema is no object"
	}
	return ""
}
