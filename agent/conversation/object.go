package conversation

import (
	"encoding/json"
	"fmt"
	"slices"

	"harmonyd/schema"
)

// object is a JSON object whose members keep their order and their bytes, so that what
// is not understood can be handed on.
type object []objectMember

type objectMember struct {
	name  string
	value json.RawMessage
}

// maxDepth bounds the depth of a foreign document.
const maxDepth = 128

// parseObject reads an object. What names it in errors.
func parseObject(what string, raw []byte) (object, error) {
	var o object
	if err := schema.Scan(raw, maxDepth, func(name string, value []byte) {
		o = append(o, objectMember{name, slices.Clone(value)})
	}); err != nil {
		return nil, fmt.Errorf("%s: %s", what, err.Message)
	}
	if kind(raw) != '{' {
		return nil, fmt.Errorf("%s: got %.40s, want an object", what, raw)
	}
	return o, nil
}

// kind is the first byte of a sound JSON value.
func kind(raw []byte) byte {
	for _, c := range raw {
		if c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			return c
		}
	}
	return 0
}

// get is a member's value, nil where there is none or it is null.
func (o object) get(name string) json.RawMessage {
	for _, m := range o {
		if m.name == name && kind(m.value) != 'n' {
			return m.value
		}
	}
	return nil
}

// text is a member's value where it is a string.
func (o object) text(name string) string {
	if v := o.get(name); kind(v) == '"' {
		return schema.Unquote(trimmed(v))
	}
	return ""
}

// trimmed is raw without the white space around it.
func trimmed(raw []byte) []byte {
	for len(raw) > 0 && kind(raw[:1]) == 0 {
		raw = raw[1:]
	}
	for len(raw) > 0 && kind(raw[len(raw)-1:]) == 0 {
		raw = raw[:len(raw)-1]
	}
	return raw
}

// set gives a member a value; a new one comes last.
func (o *object) set(name string, value json.RawMessage) {
	for i := range *o {
		if (*o)[i].name == name {
			(*o)[i].value = value
			return
		}
	}
	*o = append(*o, objectMember{name, value})
}

// merge sets the members of another object; what is none changes nothing.
func (o *object) merge(raw json.RawMessage) {
	if kind(raw) != '{' {
		return
	}
	other, err := parseObject("", raw)
	if err != nil {
		return
	}
	for _, m := range other {
		o.set(m.name, m.value)
	}
}

// drop removes a member.
func (o *object) drop(name string) {
	*o = slices.DeleteFunc(*o, func(m objectMember) bool { return m.name == name })
}

// raw is the object as JSON, nil where it has no members.
func (o object) raw() json.RawMessage {
	if len(o) == 0 {
		return nil
	}
	return o.json()
}

func (o object) json() json.RawMessage {
	b := []byte{'{'}
	for i, m := range o {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(schema.AppendString(b, m.name), ':'), m.value...)
	}
	return append(b, '}')
}

// jsonString is text as a JSON string.
func jsonString(text string) json.RawMessage { return schema.AppendString(nil, text) }
