package parse

import (
	"bytes"
	"fmt"
	"strings"
)

// The marks of Qwen-Coder's format. They are text: the vocabulary has no tokens
// for them.
const (
	functionOpen   = "<function="
	functionClose  = "</function>"
	parameterOpen  = "<parameter="
	parameterClose = "</parameter>"
)

// elements reads a call in Qwen-Coder's format:
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
	from  int // where the call's function begins
	at    int // what is read
	seen  int // how much behind at was searched
	name  string
	key   string
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

// begins judges whether text, which begins with <function=, is a call.
func (e *elements) begins(text []byte, final bool) verdict {
	name, _, whole := strings.Cut(string(text[len(functionOpen):]), ">")
	switch {
	case whole && e.tools.offers(name):
		return yes
	case !whole && !final && e.tools.mayOffer(name):
		return undecided
	}
	return no
}

func (e *elements) start(from int) {
	*e = elements{tools: e.tools, from: from, at: from + len(functionOpen)}
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
		return functionOpen + " is not followed by a name and >"
	case inKey:
		return parameterOpen + " is not followed by a name and >"
	case inValue:
		return fmt.Sprintf("the parameter %q has no %s", e.key, parameterClose)
	}
	return fmt.Sprintf("byte %d of the call is neither %sNAME> nor %s", e.at-e.from, parameterOpen, functionClose)
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
		name := strings.TrimSpace(string(rest[:end]))
		if e.state == inKey {
			e.key, e.state = name, inValue
		} else {
			e.name, e.state = name, inBody
			m.named(name)
		}
		return end + 1, true
	case inValue:
		return e.value(rest, over)
	}
	n = spaceAfter(rest, 0)
	trimmed := string(rest[n:min(len(rest), n+len(functionClose)+1)])
	switch {
	case strings.HasPrefix(trimmed, functionClose):
		e.state = atEnd
		return n + len(functionClose), true
	case strings.HasPrefix(trimmed, parameterOpen):
		e.state = inKey
		return n + len(parameterOpen), true
	case !over && (strings.HasPrefix(functionClose, trimmed) || strings.HasPrefix(parameterOpen, trimmed)):
		return 0, false
	}
	return -1, false
}

// value reads a value and the mark behind it. What was searched before is not
// searched again.
func (e *elements) value(rest []byte, over bool) (n int, ok bool) {
	from := max(0, e.seen-len(parameterClose))
	e.seen = len(rest)
	find := func(mark string, from int) int {
		if at := bytes.Index(rest[from:], []byte(mark)); at >= 0 {
			return from + at
		}
		return -1
	}
	end, mark := find(parameterClose, from), len(parameterClose)
	if other := find("\n"+parameterOpen, from); other >= 0 && (end < 0 || other < end) {
		end, mark = other, 1
	}
	if end < 0 && over {
		end, mark = find(functionClose, 0), 0
	}
	switch {
	case end < 0 && over:
		return -1, false
	case end < 0:
		return 0, false
	}
	text := strings.TrimPrefix(strings.TrimPrefix(string(rest[:end]), "\r"), "\n")
	text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	if !e.args.add(e.key, e.tools.value(e.name, e.key, text)) && e.twice == "" {
		e.twice = e.key
	}
	e.state = inBody
	return end + mark, true
}
