package parse

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// code reads a call in Python's form, or a list of them.
type code struct {
	tools    *toolbox
	from     int // where the list, or its name, begins
	brackets brackets
	on       bool // brackets has begun
}

// read goes on with m's call. All calls of a list are given out at its end.
func (c *code) read(m *machine, ends []*tag, final bool) bool {
	text := m.buf[:min(len(m.buf), maxCall)]
	if !c.on {
		at := c.from
		for at < len(text) && (isNameByte(text[at]) || text[at] == ' ') {
			at++
		}
		if at == len(text) && !final && at < maxCall {
			return false
		}
		if at == len(text) || text[at] != '(' && (text[at] != '[' || at != c.from) {
			return m.fail(Call{Problem: "it is not of the form name(key=value, …)"}, c.from, ends, final)
		}
		c.on, c.brackets = true, brackets{pos: at}
	}
	if c.brackets.scan(text) {
		c.give(m)
		return true
	}
	if final || len(m.buf) >= maxCall {
		return m.fail(Call{Problem: "it has no closing bracket"}, c.from, ends, final)
	}
	return false
}

// give gives out the calls up to the end of the bracket. What is wrong with one of
// a list makes the rest of it one bad call.
func (c *code) give(m *machine) {
	end := c.brackets.pos
	inList := m.buf[c.from] == '['
	from := c.from
	for first := true; ; first = false {
		if inList && (first || m.buf[from] == ',') {
			from++
		}
		from = spaceAfter(m.buf, from)
		if inList && !first && from == end-1 { // a comma behind the last one
			m.emit(Markup, end)
			return
		}
		text := string(m.buf[from:end])
		call, rest := pythonCall(c.tools, text)
		call.Name = strings.TrimSuffix(call.Name, ".call")
		n := end - len(rest)
		switch next := strings.TrimLeft(rest, " \t\r\n"); {
		case call.Problem != "":
			n = end
		case !inList:
		case strings.HasPrefix(next, ","):
			n = end - len(next)
		case next == "]":
			n = end
		default:
			call.Problem, n = fmt.Sprintf("behind the call of %s stands neither a comma nor ]", call.Name), end
		}
		m.finish(n, call, 0)
		if n == end {
			return
		}
		end, from = end-n, 0
	}
}

// pythonic is the format of Llama 3.2 and 4 and LFM2: the answer is a list of
// calls in Python's form, with or without marks around it.
type pythonic struct {
	tools         *toolbox
	open, closing []*tag
	code          code
}

func newPythonic(tags *tagger, tools *toolbox) dialect {
	return &pythonic{
		tools:   tools,
		open:    []*tag{tags.tag("<|python_start|>"), tags.tag("<|tool_call_start|>")},
		closing: []*tag{tags.tag("<|python_end|>"), tags.tag("<|tool_call_end|>")},
	}
}

func (p *pythonic) opens() []*tag  { return p.open }
func (p *pythonic) closes() []*tag { return p.closing }

func (p *pythonic) begins(text []byte, at *tag, final bool) verdict {
	if at != nil {
		return yes
	}
	return bareCode(p.tools, text)
}

// bareCode judges whether a text without a mark is a list of calls: its first name
// is that of a tool which was offered.
func bareCode(tools *toolbox, text []byte) verdict {
	if len(text) > 0 && text[0] != '[' {
		return no
	}
	from := min(spaceAfter(text, 1), len(text))
	end := from
	for end < len(text) && isNameByte(text[end]) {
		end++
	}
	name := string(text[from:end])
	switch {
	case end == len(text) && tools.mayOffer(name):
		return undecided
	case end < len(text) && text[end] == '(' && tools.offers(name):
		return yes
	}
	return no
}

func (p *pythonic) start(m *machine, at *tag) {
	p.code = code{tools: p.tools}
	if at != nil {
		p.code.from = len(at.literal)
	}
}

func (p *pythonic) read(m *machine, final bool) bool {
	if !p.code.on {
		// White space stands between a mark and its list.
		p.code.from = spaceAfter(m.buf, p.code.from)
		if p.code.from == len(m.buf) && !final {
			return false
		}
		rest := m.buf[p.code.from:]
		if len(rest) == 1 && rest[0] == '[' && !final {
			return false
		}
		if bytes.HasPrefix(rest, []byte("[]")) { // a list without calls
			m.emit(Markup, p.code.from+2)
			return true
		}
	}
	return p.code.read(m, p.closing, final)
}

func writePythonic(w *writer) form {
	list := w.list(w.pythonCalls(), ", ")
	for _, marks := range [][2]string{{"<|tool_call_start|>", "<|tool_call_end|>"}, {"<|python_start|>", "<|python_end|>"}} {
		if w.tags.tag(marks[0]).isToken() && w.tags.tag(marks[1]).isToken() {
			return form{open: marks[0], body: list + " " + w.mark(marks[1])}
		}
	}
	return form{body: list, bare: `\[`}
}

// pythonCalls are calls with named arguments.
func (w *writer) pythonCalls() string {
	canWrite := func(name string) bool {
		return name != "" && !strings.ContainsFunc(name, func(r rune) bool { return r >= utf8.RuneSelf || !isNameByte(byte(r)) || r == '.' || r == '-' })
	}
	return w.each(func(c *Callable) string {
		var items []item
		for _, p := range w.parameters(c, canWrite) {
			items = append(items, item{literal(p.name+"=") + " " + w.pythonValue(c, p.schema), p.optional})
		}
		return fmt.Sprintf("%s %s %s", literal(c.Name+"("), w.sequence(items, ", "), literal(")"))
	})
}

// pythonValue is a value as JSON, which is understood, but for the words that Python
// writes otherwise.
func (w *writer) pythonValue(c *Callable, s []byte) string {
	m := membersOf(document(c.Schema).follow(s))
	if string(m["type"]) == `"boolean"` && m["enum"] == nil && m["const"] == nil {
		w.only(c, m, "type")
		return `("True" | "False")`
	}
	return w.json(w.part(c, s))
}
