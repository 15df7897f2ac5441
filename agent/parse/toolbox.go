package parse

import (
	"encoding/json"
	"slices"
	"strings"

	"harmonyd/schema"
)

// toolbox is what the tools' schemas say of arguments.
type toolbox struct {
	specs []schema.ToolSpec
}

// offers reports whether a tool has this name.
func (b *toolbox) offers(name string) bool {
	return slices.ContainsFunc(b.specs, func(s schema.ToolSpec) bool { return s.Name == name })
}

// mayOffer reports whether a tool's name begins with this.
func (b *toolbox) mayOffer(prefix string) bool {
	return slices.ContainsFunc(b.specs, func(s schema.ToolSpec) bool { return strings.HasPrefix(s.Name, prefix) })
}

// properties calls yield for each property of a tool's arguments, in order.
func (b *toolbox) properties(tool string, yield func(name string, property []byte)) {
	for i := range b.specs {
		if b.specs[i].Name != tool {
			continue
		}
		// Registration has found the schema sound; what is not is as if it were empty.
		_ = schema.Scan(b.specs[i].InputSchema, maxDepth, func(member string, value []byte) {
			if member == "properties" {
				_ = schema.Scan(value, maxDepth, yield)
			}
		})
		return
	}
}

// isString reports whether a parameter is a string by the tool's schema. One that
// no schema knows is.
func (b *toolbox) isString(tool, parameter string) bool {
	at := slices.IndexFunc(b.specs, func(s schema.ToolSpec) bool { return s.Name == tool })
	is := true
	b.properties(tool, func(name string, property []byte) {
		if name == parameter {
			is = document(b.specs[at].InputSchema).allowsString(property, maxHops)
		}
	})
	return is
}

// value turns what a model wrote for a parameter, in a format that does not mark
// types, into JSON. Where the schema wants no string it is read as JSON or as
// Python writes true, false and None; what is neither stays a string, for the
// validation of the arguments to complain of.
func (b *toolbox) value(tool, parameter, text string) json.RawMessage {
	if !b.isString(tool, parameter) {
		trimmed := strings.TrimSpace(text)
		switch trimmed {
		case "True", "False":
			return json.RawMessage(strings.ToLower(trimmed))
		case "None":
			return json.RawMessage("null")
		}
		if schema.Scan([]byte(trimmed), maxDepth, nil) == nil {
			return json.RawMessage(trimmed)
		}
		if v, rest, err := pythonValue(trimmed, maxDepth); err == nil && strings.TrimSpace(rest) == "" {
			return v
		}
	}
	return quote(text)
}

// quote returns text as a JSON string.
func quote(text string) json.RawMessage {
	return schema.AppendString(nil, text)
}

// members builds a JSON object.
type members struct {
	json  []byte
	names []string
}

// add adds a member and reports whether its name is new.
func (o *members) add(name string, value json.RawMessage) bool {
	if slices.Contains(o.names, name) {
		return false
	}
	o.names = append(o.names, name)
	if len(o.json) > 0 {
		o.json = append(o.json, ", "...)
	}
	o.json = append(append(append(o.json, quote(name)...), ": "...), value...)
	return true
}

// object is the whole object.
func (o *members) object() json.RawMessage {
	return slices.Concat([]byte("{"), o.json, []byte("}"))
}
