package parse

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"harmonyd/schema"
)

// The marks of the Hermes format, which Qwen and many others write too: between
// them stands one JSON object with a name and arguments.
const (
	HermesOpen  = "<tool_call>"
	HermesClose = "</tool_call>"
)

// maxDepth bounds the nesting of arguments, as the wire does.
const maxDepth = 128

// hermes parses the Hermes format. A call is over where its object is: models
// forget the closing mark, and may write it inside of a string.
type hermes struct {
	state  hermesState
	held   []byte // text that may be the beginning of a mark, or the call so far
	pieces []Piece

	// Of the object, as far as it is in held.
	scanned, depth   int
	quoted, escaped  bool
	unreadable, done bool
}

// hermesState is where in an answer a hermes is.
type hermesState int

const (
	inText    hermesState = iota
	inCall                // behind an opening mark
	afterCall             // behind an object: white space and a closing mark are no text
)

// NewHermes returns a parser of the Hermes format.
func NewHermes() Parser { return new(hermes) }

// Next implements Parser.
func (h *hermes) Next(text []byte) []Piece {
	h.pieces = h.pieces[:0]
	h.held = append(h.held, text...)
	for h.step() {
	}
	return h.pieces
}

// step does one thing and reports whether there may be another one to do.
func (h *hermes) step() bool {
	switch h.state {
	case inText:
		if at := bytes.Index(h.held, []byte(HermesOpen)); at >= 0 {
			h.say(at)
			h.drop(len(HermesOpen))
			h.state = inCall
			h.scanned, h.depth, h.quoted, h.escaped, h.unreadable, h.done = 0, 0, false, false, false, false
			return true
		}
		h.say(len(h.held) - begun(h.held, HermesOpen))
	case inCall:
		return h.scan()
	case afterCall:
		if n := len(h.held) - len(bytes.TrimLeft(h.held, " \t\r\n")); n > 0 {
			h.drop(n)
		}
		switch {
		case bytes.HasPrefix(h.held, []byte(HermesClose)):
			h.drop(len(HermesClose))
			return true
		case len(h.held) > 0 && !bytes.HasPrefix([]byte(HermesClose), h.held):
			h.state = inText
			return true
		}
	}
	return false
}

// scan looks for the end of a call.
func (h *hermes) scan() bool {
	for ; h.scanned < len(h.held) && !h.unreadable && !h.done; h.scanned++ {
		h.see(h.held[h.scanned])
	}
	switch {
	case h.done:
		h.call(h.held[:h.scanned], "")
		h.drop(h.scanned)
		h.state = afterCall
		return true
	case h.unreadable:
		at := bytes.Index(h.held, []byte(HermesClose))
		if at < 0 {
			return false
		}
		h.call(h.held[:at], "it is no JSON object")
		h.drop(at)
		h.state = afterCall
		return true
	}
	return false
}

// see takes one byte of a call.
func (h *hermes) see(c byte) {
	switch {
	case h.escaped:
		h.escaped = false
	case h.quoted:
		h.escaped, h.quoted = c == '\\', c != '"'
	case c == '"' && h.depth > 0:
		h.quoted = true
	case c == '{' || c == '[' && h.depth > 0:
		h.depth++
	case (c == '}' || c == ']') && h.depth > 0:
		h.depth--
		h.done = h.depth == 0
	case h.depth == 0 && c != ' ' && c != '\t' && c != '\r' && c != '\n':
		h.unreadable = true
	}
}

// Flush implements Parser. A call that was cut off is a problem with a name.
func (h *hermes) Flush() []Piece {
	h.pieces = h.pieces[:0]
	switch h.state {
	case inText:
		h.say(len(h.held))
	case inCall:
		h.call(h.held, "it has no end")
	}
	h.held, h.state = h.held[:0], inText
	return h.pieces
}

// say gives the first n bytes that are held as text.
func (h *hermes) say(n int) {
	if n > 0 {
		h.pieces = append(h.pieces, Piece{Text: string(h.held[:n])})
		h.drop(n)
	}
}

func (h *hermes) drop(n int) { h.held = append(h.held[:0], h.held[n:]...) }

// call gives a call, or what is wrong with it.
func (h *hermes) call(raw []byte, problem string) {
	c := &Call{Raw: string(raw), Problem: problem}
	if problem == "" {
		c.Problem = c.read(bytes.TrimSpace(raw))
	}
	h.pieces = append(h.pieces, Piece{Call: c})
}

// read takes name and arguments out of an object. Some models name the latter
// parameters, as Llama does, or write them as a string.
func (c *Call) read(raw []byte) (problem string) {
	var name, arguments []byte
	err := schema.Scan(raw, maxDepth, func(member string, value []byte) {
		switch member {
		case "name":
			name = value
		case "arguments", "parameters":
			arguments = value
		}
	})
	if err != nil {
		return err.Message
	}
	if len(name) < 2 || name[0] != '"' {
		return "it has no name"
	}
	c.Name = schema.Unquote(name)
	if c.Name == "" || utf8.RuneCountInString(c.Name) > 64 {
		return fmt.Sprintf("its name has %d characters, want 1 to 64", utf8.RuneCountInString(c.Name))
	}
	if len(arguments) > 0 && arguments[0] == '"' {
		arguments = []byte(schema.Unquote(arguments))
		if err := schema.Scan(arguments, maxDepth, nil); err != nil {
			return "its arguments are a string that is " + err.Message
		}
		arguments = bytes.TrimSpace(arguments)
	}
	switch {
	case arguments == nil || string(arguments) == "null":
		c.Arguments = json.RawMessage(`{}`)
	case arguments[0] != '{':
		return "its arguments are no object"
	default:
		c.Arguments = bytes.Clone(arguments)
	}
	return ""
}

// begun returns how much of the end of text may be the beginning of mark.
func begun(text []byte, mark string) int {
	for n := min(len(text), len(mark)-1); n > 0; n-- {
		if string(text[len(text)-n:]) == mark[:n] {
			return n
		}
	}
	return 0
}
