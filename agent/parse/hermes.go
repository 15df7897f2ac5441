package parse

import (
	"bytes"
	"strings"
)

// The marks of the Hermes format.
const (
	HermesOpen  = "<tool_call>"
	HermesClose = "</tool_call>"
)

// Hermes is the format of Nous Hermes, Qwen and many others: a JSON object with
// name and arguments behind a <tool_call> mark. The same marks are around other
// bodies in the formats of Qwen-Coder and GLM; which body a call has shows in its
// first byte, and a model that mixes them up is understood.
//
// A call is over where its body is: models forget the closing mark, and may write
// it inside of a string.
type hermes struct {
	open, function *tag   // the latter is Qwen-Coder's, which it also writes alone
	ends           []*tag // of a call without an end of its own
	body           body
	at             int // where the body is looked for
	object         object
	xml            elements
	pairs          pairs
}

// body is what stands between the marks.
type body int

const (
	unknown body = iota
	jsonBody
	xmlBody
	pairBody
)

func newHermes(tags *tagger, tools *toolbox) dialect {
	open, end := tags.tag(HermesOpen), tags.tag(HermesClose)
	return &hermes{
		open: open, ends: []*tag{end, open}, function: textTag(functionOpen),
		xml: elements{tools: tools, markup: coderMarkup}, pairs: newPairs(tags, tools),
	}
}

func (h *hermes) opens() []*tag  { return []*tag{h.open, h.function} }
func (h *hermes) closes() []*tag { return h.ends[:1] }

// begins takes <function= for a call only where a tool's name follows.
func (h *hermes) begins(text []byte, at *tag, final bool) verdict {
	switch at {
	case h.open:
		return yes
	case h.function:
		return h.xml.begins(text, final)
	}
	return no
}

func (h *hermes) start(m *machine, at *tag) {
	h.body, h.at = unknown, len(h.open.literal)
	if at == h.function {
		h.body = xmlBody
		h.xml.start(0)
	}
}

func (h *hermes) read(m *machine, final bool) bool {
	if h.body == unknown && !h.choose(m, final) {
		return false
	}
	switch h.body {
	case xmlBody:
		return h.xml.read(m, h.ends, final)
	case pairBody:
		return h.pairs.read(m, h.ends, final)
	}
	return h.object.read(m, h.ends, final)
}

// choose finds out which body the call has.
func (h *hermes) choose(m *machine, final bool) bool {
	at := spaceAfter(m.buf, h.at)
	rest := m.buf[at:]
	if !final && len(rest) < len(functionOpen) && strings.HasPrefix(functionOpen, string(rest)) {
		return false
	}
	h.body = jsonBody
	h.object = newObject(at, false)
	switch {
	case len(rest) == 0 || m.markAt(at) != nil:
	case bytes.HasPrefix(rest, []byte(functionOpen)):
		h.body = xmlBody
		h.xml.start(at)
	case isNameByte(rest[0]):
		h.body = pairBody
		h.pairs.start(at)
	}
	return true
}

// isNameByte reports whether a tool's name may have this byte.
func isNameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.'
}

func writeHermes(w *writer) form {
	call := literal("\n") + " " + w.objects(`{"name": "`, `", "arguments": `, "}\n") + " " + w.mark(HermesClose)
	return form{open: HermesOpen, body: call, more: w.several("\n", w.mark(HermesOpen)+" "+call)}
}
