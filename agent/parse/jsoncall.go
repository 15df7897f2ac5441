package parse

import (
	"bytes"
	"encoding/json"
	"fmt"

	"harmonyd/schema"
)

// object reads a call that is a JSON object with a name and arguments, or, where
// nameless is set, the arguments alone. It looks at each byte once.
type object struct {
	pos  int // the next byte, in the machine's input
	from int // the object's first byte, -1 before it is there
	end  int // behind the object, 0 before it is over

	depth           int
	quoted, escaped bool
	broken          bool // what stands at pos cannot be JSON
	nameless        bool

	text         int    // where the last string began
	key          string // of the member of the outermost object
	valued       bool   // behind the colon of that member
	name         string
	argFrom      int // the arguments, -1 before they are there
	argTo, given int // their end, 0 before it is there, and what is given out of them
}

// newObject returns a reader of the object that begins at or behind pos.
func newObject(pos int, nameless bool) object {
	return object{pos: pos, from: -1, argFrom: -1, nameless: nameless}
}

// isArguments reports whether a member holds the arguments. Llama calls them
// parameters.
func isArguments(key string) bool { return key == "arguments" || key == "parameters" }

// isName reports whether a member holds the tool's name. Command R has the latter.
func isName(key string) bool { return key == "name" || key == "tool_name" }

// scan goes on to the object's end, or as far as the input goes.
func (o *object) scan(in *input) {
	for ; o.pos < min(len(in.buf), maxCall) && o.end == 0 && !o.broken; o.pos++ {
		if !o.quoted && in.markAt(o.pos) != nil {
			o.broken = true
			return
		}
		if o.see(in.buf, in.buf[o.pos]); o.broken {
			return
		}
	}
}

// see takes the byte at pos.
func (o *object) see(buf []byte, c byte) {
	switch {
	case o.escaped:
		o.escaped = false
	case o.quoted:
		if o.escaped = c == '\\'; c == '"' {
			o.quoted = false
			o.string(buf[o.text : o.pos+1])
		}
	case isSpace(c):
	case o.depth == 0:
		if o.broken = c != '{'; !o.broken {
			o.from, o.depth = o.pos, 1
			if o.nameless {
				o.argFrom = o.pos
			}
		}
	case c == '"':
		o.quoted, o.text = true, o.pos
	case c == '{' || c == '[':
		if o.depth == 1 && o.valued && c == '{' && isArguments(o.key) && o.argFrom < 0 {
			o.argFrom = o.pos
		}
		o.depth++
	case c == '}' || c == ']':
		o.depth--
		o.close()
	case c == ':' && o.depth == 1:
		o.valued = true
	case c == ',' && o.depth == 1:
		o.valued, o.key = false, ""
	default:
		o.broken = bytes.IndexByte([]byte(":,+-.0123456789Eaeflnrstu"), c) < 0
	}
}

// close ends an object or array at pos.
func (o *object) close() {
	switch o.depth {
	case 1:
		if o.argFrom >= 0 && o.argTo == 0 {
			o.argTo = o.pos + 1
		}
	case 0:
		o.end = o.pos + 1
		if o.nameless {
			o.argTo = o.end
		}
	}
}

// string takes a whole string of the outermost object.
func (o *object) string(quoted []byte) {
	switch {
	case o.depth != 1:
	case !o.valued:
		o.key = schema.Unquote(quoted)
	case isName(o.key) && o.name == "":
		o.name = schema.Unquote(quoted)
	}
}

// tell gives out what is new of the name and the arguments.
func (o *object) tell(m *machine) {
	if o.name == "" {
		return
	}
	m.named(o.name)
	if o.argFrom < 0 || !m.begun {
		return
	}
	to := o.pos
	if o.argTo > 0 {
		to = o.argTo
	}
	// No part ends within a character: those that are cut stand at the end.
	to = o.argFrom + wholeRunes(m.buf[o.argFrom:to])
	if to-o.argFrom > o.given {
		m.argue(string(m.buf[o.argFrom+o.given : to]))
		o.given = to - o.argFrom
	}
}

// problem says why the object has no end.
func (o *object) problem() string {
	switch {
	case o.pos >= maxCall:
		return fmt.Sprintf("it has more than %d bytes", maxCall)
	case o.from < 0 && !o.broken:
		return "it has no end: it stops before its JSON object begins"
	case o.from < 0:
		return "it is no JSON object"
	case o.broken:
		return fmt.Sprintf("its JSON object is malformed at byte %d, before it is closed", o.pos-o.from)
	case o.quoted:
		return fmt.Sprintf("it has no end: its JSON object stops after %d bytes, within a string", o.pos-o.from)
	}
	return fmt.Sprintf("it has no end: its JSON object stops after %d bytes", o.pos-o.from)
}

// read goes on with m's call and reports whether it is over. A call without an end
// of its own ends at one of ends, or else with the answer.
func (o *object) read(m *machine, ends []*tag, final bool) bool {
	o.scan(&m.input)
	o.tell(m)
	switch {
	case o.end > 0:
		m.finish(o.end, o.call(m.buf[o.from:o.end]), o.given)
		return true
	case o.broken || o.pos >= maxCall || final:
		return m.fail(Call{Name: o.name, Problem: o.problem()}, max(o.from, o.begin()), ends, final)
	}
	return false
}

// begin is where an end of the call can stand at the earliest.
func (o *object) begin() int {
	if o.from < 0 {
		return o.pos
	}
	return o.from + 1
}

// call reads the whole object.
func (o *object) call(raw []byte) Call {
	c := Call{Name: o.name}
	if !o.nameless {
		return readCall(raw)
	}
	if err := schema.Scan(raw, maxDepth, nil); err != nil {
		c.Problem = "its arguments are " + err.Message
		return c
	}
	c.Arguments = bytes.Clone(raw)
	return c
}

// readCall takes name and arguments out of an object. Some models write the latter
// as a string, and some the whole as OpenAI's interface has it, within a member
// named function.
func readCall(raw []byte) Call {
	var c Call
	var name, arguments, function []byte
	err := schema.Scan(raw, maxDepth, func(member string, value []byte) {
		switch {
		case isName(member) && name == nil:
			name = value
		case isArguments(member) && arguments == nil:
			arguments = value
		case member == "function":
			function = value
		}
	})
	if err != nil {
		c.Problem = err.Message
		return c
	}
	if name == nil && len(function) > 0 && function[0] == '{' {
		return readCall(function)
	}
	if len(name) < 2 || name[0] != '"' {
		c.Problem = `it has no member "name" that is a string`
		return c
	}
	c.Name = schema.Unquote(name)
	c.Arguments, c.Problem = readArguments(arguments)
	return c
}

// readArguments returns a value as arguments, or what is wrong with it.
func readArguments(value []byte) (arguments json.RawMessage, problem string) {
	if len(value) > 0 && value[0] == '"' {
		value = []byte(schema.Unquote(value))
		if len(bytes.TrimSpace(value)) == 0 {
			return json.RawMessage(`{}`), ""
		}
		if err := schema.Scan(value, maxDepth, nil); err != nil {
			return nil, "its arguments are a string that is " + err.Message
		}
		value = bytes.TrimSpace(value)
	}
	switch {
	case value == nil || string(value) == "null":
		return json.RawMessage(`{}`), ""
	case value[0] != '{':
		return nil, "its arguments are no JSON object"
	}
	return bytes.Clone(value), ""
}
