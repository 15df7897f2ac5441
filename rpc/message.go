package rpc

import (
	"bytes"
	"strings"

	"harmonyd/schema"
)

// message is a request or notification as it came.
type message struct {
	id     []byte // JSON text of the id, to be answered byte for byte; nil for none
	key    string // the id as requests in flight are told apart by it
	method string
	params []byte // part of the body: JSON text; nil for none, and once it is decoded
	size   int    // of the body, in bytes
	// response marks an answer to a request of ours. It must never be answered
	// itself.
	response       bool
	result, failed []byte        // of a response: part of the body; nil for none
	problem        *schema.Error // of a response that breaks a rule
}

// members are the root members of a message that count.
type members struct {
	version, id, method, params, result, err []byte
	ids                                      int
}

func (m *members) add(name string, value []byte) {
	switch name {
	case "jsonrpc":
		m.version = value
	case "id":
		m.id = value
		m.ids++
	case "method":
		m.method = value
	case "params":
		m.params = value
	case "result":
		m.result = value
	case "error":
		m.err = value
	}
}

// parse reads a body. A problem is answered with m.id, which is nil where the
// id is not known.
func parse(body []byte, limits schema.Limits) (m message, problem *schema.Error) {
	m.size = len(body)
	var raw members
	// The message itself is one level around params.
	problem = schema.Scan(body, limits.MaxDepth+1, raw.add)
	if problem != nil && problem.Data.Kind == schema.KindParse {
		return m, problem
	}
	if first := firstByte(body); first == '[' {
		return m, invalid("batches are not served: send each message by itself")
	} else if first != '{' {
		return m, invalid("the message is %s, want an object", describe(body))
	}
	m.response = raw.method == nil && (raw.result != nil || raw.err != nil)
	idProblem := m.setID(raw, limits)
	if m.response {
		m.result, m.problem = raw.result, problem
		if firstByte(raw.err) != 'n' { // null is none
			m.failed = raw.err
		}
		return m, nil
	}
	for _, p := range []*schema.Error{problem, idProblem, raw.check()} {
		if p != nil {
			return m, p
		}
	}
	m.method = schema.Unquote(raw.method)
	if firstByte(raw.params) != 'n' { // null is none
		m.params = raw.params
	}
	return m, nil
}

// check finds what makes an object no request.
func (m *members) check() *schema.Error {
	switch {
	case m.version == nil:
		return invalid("the message has no member jsonrpc")
	case schema.Unquote(m.version) != "2.0" || firstByte(m.version) != '"':
		return invalid(`the member jsonrpc is %s, want "2.0"`, clip(string(m.version)))
	case m.method == nil:
		return invalid("the message has no method")
	case m.result != nil:
		return invalid("the message has a method and a result")
	case m.err != nil:
		return invalid("the message has a method and an error")
	case firstByte(m.method) != '"':
		return invalid("the method is no string")
	}
	switch firstByte(m.params) {
	case '{', '[', 'n', 0:
		return nil
	}
	return invalid("params is %s, want an object", describe(m.params))
}

// setID takes the id if it is one that can be answered.
func (m *message) setID(raw members, limits schema.Limits) *schema.Error {
	switch {
	case raw.id == nil:
		return nil
	case raw.ids > 1: // which one is meant?
		return nil
	// An id of ours comes back as the client writes it, maybe all in escapes.
	case len(raw.id) > limits.MaxIDBytes && !m.response:
		return invalid("the id is longer than %d bytes", limits.MaxIDBytes)
	}
	key, ok := idKey(raw.id)
	if !ok {
		return invalid("the id is %s, want a string or an integer", describe(raw.id))
	}
	// A copy: the id is needed until the answer, the body is not.
	m.id, m.key = bytes.Clone(raw.id), key
	return nil
}

// idKey returns what an id and its other spellings have in common: "a" and
// "\u0061" are the same, and so are 0 and -0.
func idKey(id []byte) (key string, ok bool) {
	if firstByte(id) == '"' {
		return "s" + schema.Unquote(id), true
	}
	for i, c := range id {
		if (c < '0' || c > '9') && (c != '-' || i > 0) {
			return "", false
		}
	}
	if len(id) == 0 {
		return "", false
	}
	if string(id) == "-0" {
		id = id[1:]
	}
	return "n" + string(id), true
}

// firstByte is the first byte of a value, 0 where there is none.
func firstByte(value []byte) byte {
	for _, c := range value {
		switch c {
		case ' ', '\t', '\r', '\n':
			continue
		}
		return c
	}
	return 0
}

// describe names a value that is not what it should be.
func describe(value []byte) string {
	switch firstByte(value) {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f', 'n':
		return strings.TrimSpace(string(value))
	}
	return "the number " + clip(strings.TrimSpace(string(value)))
}

func invalid(format string, args ...any) *schema.Error {
	return schema.Errorf(schema.KindInvalidRequest, format, args...)
}
