package schema

import (
	"bytes"
	"encoding/json"
)

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
		return marshal(t.Spec)
	}
	return marshal(t.Name)
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
		return marshal(t.Mode)
	}
	type plain ToolChoice
	return marshal(plain(t))
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
	return marshal(plain(s))
}

// marshal is json.Marshal without the escapes that HTML needs.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
