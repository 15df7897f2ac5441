package parse

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"harmonyd/schema"
)

// The marks of Qwen-Coder's format. They are text: the vocabulary has no tokens
// for them.
const (
	functionOpen   = "<function="
	functionClose  = "</function>"
	parameterOpen  = "<parameter="
	parameterClose = "</parameter>"
)

// markup is how a format of elements writes its marks. Behind an opening one stands a
// name, which may be quoted and have attributes behind it, and then >.
type markup struct {
	call, callEnd           string
	parameter, parameterEnd string
	// broken says that line breaks next to the marks of a value are not part of it.
	broken bool
}

var coderMarkup = markup{functionOpen, functionClose, parameterOpen, parameterClose, true}

// elements reads a call in a format like Qwen-Coder's:
//
//	<function=name>
//	<parameter=key>
//	value
//	</parameter>
//	</function>
//
// A value is raw text without a type, which the tool's schema gives it; the line
// breaks next to its marks are not part of it. Models leave out </parameter>, so a
// value ends at the next parameter as well, and at the function's end where none
// comes before the end of the call.
type elements struct {
	tools *toolbox
	markup
	from  int // where the call's function begins
	at    int // what is read
	seen  int // how much behind at was searched
	name  string
	key   string
	typed string // the attribute that says whether the value is a string, if any
	state element
	args  members
	twice string // a parameter that stands twice
}

// element is what is read next.
type element int

const (
	inName element = iota
	inBody
	inKey
	inValue
	atEnd
)

// maxElement is how many bytes the name of a function or parameter may have.
const maxElement = 256

// begins judges whether text, which begins with the mark of a call, is one.
func (e *elements) begins(text []byte, final bool) verdict {
	head, _, whole := strings.Cut(string(text[len(e.call):]), ">")
	name, _ := elementName(head)
	switch {
	case whole && e.tools.offers(name):
		return yes
	case !whole && !final && e.tools.mayOffer(name):
		return undecided
	}
	return no
}

// elementName reads the name behind a mark, and the attributes behind it.
func elementName(head string) (name, attributes string) {
	head = strings.TrimSpace(head)
	if quoted, ok := strings.CutPrefix(head, `"`); ok {
		name, attributes, _ = strings.Cut(quoted, `"`)
		return name, attributes
	}
	return head, ""
}

func (e *elements) start(from int) {
	*e = elements{tools: e.tools, markup: e.markup, from: from, at: from + len(e.call)}
}

// read goes on with m's call, which ends at its own end or before one of ends. Only
// tokens end it within a value.
func (e *elements) read(m *machine, ends []*tag, final bool) bool {
	limit, over := len(m.buf), final
	if at, _ := m.find(tokensOf(ends), e.from); at >= 0 {
		limit, over = at, true
	}
	if limit >= maxCall {
		limit, over = maxCall, true
	}
	for {
		n, ok := e.next(m, m.buf[e.at:limit], over)
		switch {
		case n < 0:
			return m.fail(Call{Name: e.name, Problem: e.problem()}, e.at, ends, final)
		case !ok:
			return false
		}
		e.at += n
		e.seen = 0
		if e.state == atEnd {
			c := Call{Name: e.name, Arguments: e.args.object()}
			if e.twice != "" {
				c.Problem = fmt.Sprintf("the parameter %q stands twice", e.twice)
			}
			m.finish(e.at, c, 0)
			return true
		}
	}
}

// problem says what is wrong at the place that is read.
func (e *elements) problem() string {
	switch e.state {
	case inName:
		return e.call + " is not followed by a name and >"
	case inKey:
		return e.parameter + " is not followed by a name and >"
	case inValue:
		return fmt.Sprintf("the parameter %q has no %s", e.key, e.parameterEnd)
	}
	return fmt.Sprintf("byte %d of the call is neither %sNAME> nor %s", e.at-e.from, e.parameter, e.callEnd)
}

// next reads one mark or value of rest and returns how many bytes that took. It is
// not ok where more is needed, and n is below 0 where nothing that comes will fit.
func (e *elements) next(m *machine, rest []byte, over bool) (n int, ok bool) {
	switch e.state {
	case inName, inKey:
		end := bytes.IndexAny(rest[:min(len(rest), maxElement)], "><\n")
		switch {
		case end < 0 && !over && len(rest) < maxElement:
			return 0, false
		case end <= 0 || rest[end] != '>':
			return -1, false
		}
		name, attributes := elementName(string(rest[:end]))
		if e.state == inKey {
			e.key, e.typed, e.state = name, attributes, inValue
		} else {
			e.name, e.state = name, inBody
			m.named(name)
		}
		return end + 1, true
	case inValue:
		return e.value(rest, over)
	}
	n = spaceAfter(rest, 0)
	trimmed := string(rest[n:min(len(rest), n+max(len(e.callEnd), len(e.parameter)))])
	switch {
	case strings.HasPrefix(trimmed, e.callEnd):
		e.state = atEnd
		return n + len(e.callEnd), true
	case strings.HasPrefix(trimmed, e.parameter):
		e.state = inKey
		return n + len(e.parameter), true
	case !over && (strings.HasPrefix(e.callEnd, trimmed) || strings.HasPrefix(e.parameter, trimmed)):
		return 0, false
	}
	return -1, false
}

// value reads a value and the mark behind it. What was searched before is not
// searched again.
func (e *elements) value(rest []byte, over bool) (n int, ok bool) {
	from := max(0, e.seen-max(len(e.parameterEnd), len(e.parameter)+1))
	e.seen = len(rest)
	find := func(mark string, from int) int {
		if at := bytes.Index(rest[from:], []byte(mark)); at >= 0 {
			return from + at
		}
		return -1
	}
	end, mark := find(e.parameterEnd, from), len(e.parameterEnd)
	if other := find("\n"+e.parameter, from); other >= 0 && (end < 0 || other < end) {
		end, mark = other, 1
	}
	if end < 0 && over {
		end, mark = find(e.callEnd, 0), 0
	}
	switch {
	case end < 0 && over:
		return -1, false
	case end < 0:
		return 0, false
	}
	text := string(rest[:end])
	if e.broken {
		text = strings.TrimPrefix(strings.TrimPrefix(text, "\r"), "\n")
		text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	}
	if !e.args.add(e.key, e.typedValue(text)) && e.twice == "" {
		e.twice = e.key
	}
	e.state = inBody
	return end + mark, true
}

// typedValue turns the text of a value into JSON. An attribute that says whether it is
// a string counts for more than the schema.
func (e *elements) typedValue(text string) json.RawMessage {
	switch {
	case strings.Contains(e.typed, `string="true"`):
		return quote(text)
	case strings.Contains(e.typed, `string="false"`) && schema.Scan([]byte(strings.TrimSpace(text)), maxDepth, nil) == nil:
		return json.RawMessage(strings.TrimSpace(text))
	}
	return e.tools.value(e.name, e.key, text)
}

func writeCoder(w *writer) form {
	call := w.elements("\n", coderMarkup, "\n") + " " + w.mark(HermesClose)
	return form{open: HermesOpen, body: call, more: w.several("\n", w.mark(HermesOpen)+" "+call)}
}

// elements are calls in a format like Qwen-Coder's, between texts. Values stand on lines
// of their own where names have no quotes.
func (w *writer) elements(before string, m markup, after string) string {
	quote, broken := "", "\n"
	if strings.HasSuffix(m.parameter, "name=") {
		quote, broken = `"`, ""
	}
	canWrite := func(name string) bool {
		return name != "" && len(name) < maxElement/2 && strings.TrimSpace(name) == name && !strings.ContainsAny(name, "<>\"\n\r")
	}
	condition := ""
	switch {
	case broken != "":
		condition = ` & /[^\r]*/`
	case m.broken:
		condition = ` & ~/[\r\n](?s:.*)/ & ~/(?s:.*)[\r\n]/`
	}
	return w.each(func(c *Callable) string {
		expr := w.mixed(before + m.call + quote + c.Name + quote + ">\n")
		for _, p := range w.parameters(c, canWrite) {
			head := m.parameter + quote + p.name + quote
			if !m.broken {
				head += fmt.Sprintf(` string="%t"`, document(c.Schema).allowsString(p.schema, maxHops))
			}
			value := w.mixed(head+">"+broken) + " " + w.raw(c, p.schema, broken+m.parameterEnd+"\n", condition, m.parameterEnd, m.parameter)
			if p.optional {
				value = "(" + value + ")?"
			}
			expr += " " + value
		}
		return expr + " " + w.mixed(m.callEnd+after)
	})
}
