package parse

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// dialect is how a family of models writes calls. A value is for one parser.
type dialect interface {
	// opens are the marks at which a call may begin.
	opens() []*tag
	// closes are the marks that may follow a call. They say nothing.
	closes() []*tag
	// begins judges whether a call begins with text. At is the mark that text
	// begins with, or nil for the first text of an answer.
	begins(text []byte, at *tag, final bool) verdict
	// start is told that m's input now begins with a call, at a mark or nil.
	start(m *machine, at *tag)
	// read goes on with the call and reports whether it is over; otherwise it
	// needs more input. Where final is set there is no more.
	read(m *machine, final bool) bool
}

// verdict is what is known of a text.
type verdict int

const (
	no verdict = iota
	yes
	undecided
)

// thinking are the marks around reasoning; nil where a model has none.
type thinking struct{ open, close *tag }

// machine is the Parser of all formats but Harmony: prose, which is text or
// reasoning, with calls in it.
type machine struct {
	input
	parts   []Part
	dialect dialect // nil where there are no calls
	think   thinking
	initial Kind // Reasoning where the prompt ends inside of it
	// exact is the mark of calls where a grammar writes the answer; empty where they have
	// none.
	exact *string

	prose   Kind // Text or Reasoning
	fresh   bool // the answer, or its text behind reasoning, has no text yet
	eating  bool // what is only white space or a closing mark is markup
	calling bool
	calls   int
	begun   bool // the call has a CallBegun part
	called  bool // what is eaten follows a call
	closed  bool // a fence that closes it was eaten
}

func (m *machine) reset() {
	m.prose, m.fresh, m.eating, m.calling = m.initial, true, m.initial == Reasoning, false
	m.calls, m.begun, m.called, m.closed = 0, false, false, false
}

// Next implements Parser.
func (m *machine) Next(text []byte) []Part { return m.Token(-1, text) }

// Token implements Parser.
func (m *machine) Token(id int32, text []byte) []Part {
	m.parts = m.parts[:0]
	m.push(id, text)
	for m.step(false) {
	}
	return m.parts
}

// Reasons implements Parser.
func (m *machine) Reasons() bool { return !m.calling && m.prose == Reasoning }

// Flush implements Parser.
func (m *machine) Flush() []Part {
	m.parts = m.parts[:0]
	for len(m.buf) > 0 {
		if !m.step(true) && len(m.buf) > 0 {
			m.emit(m.prose, len(m.buf))
		}
	}
	m.reset()
	return m.parts
}

// step does one thing and reports whether there may be another one to do.
func (m *machine) step(final bool) bool {
	switch {
	case m.calling:
		if !m.dialect.read(m, final) {
			return false
		}
		m.calling, m.eating, m.called, m.fresh, m.closed = false, true, true, true, false
		return true
	case m.eating:
		return m.eat(final)
	}
	return m.say(final)
}

// eat drops white space and the marks that close what is over.
func (m *machine) eat(final bool) bool {
	if n := spaceAfter(m.buf, 0); n > 0 {
		m.emit(Markup, n)
	}
	if len(m.buf) == 0 {
		return false
	}
	var tags []*tag
	if m.called {
		tags = m.dialect.closes()
	}
	if m.closed { // what looks like the same mark again opens the next call
		tags = slices.DeleteFunc(slices.Clone(tags), func(t *tag) bool { return t.literal == fence })
	}
	if at, t := m.find(tags, 0); at == 0 {
		m.closed = m.closed || t.literal == fence
		m.emit(Markup, len(t.literal))
		return true
	}
	if !final && m.input.begun(tags) == len(m.buf) {
		return false
	}
	m.eating = false
	return true
}

// marksOf are the tags that count in prose.
func (m *machine) marksOf() []*tag {
	var tags []*tag
	if m.think.open != nil {
		// A closing mark without an opening one is markup where it is a token: a
		// model that talks of the characters means them.
		if m.prose == Reasoning || m.think.close.isToken() {
			tags = append(tags, m.think.close)
		}
		if m.prose == Text && (m.fresh || m.think.open.isToken()) {
			tags = append(tags, m.think.open)
		}
	}
	if m.dialect != nil {
		for _, t := range m.dialect.opens() {
			// Models call while they reason. Only tokens are sure to be meant.
			if t.isToken() || m.prose == Text && m.mayOpen(t) {
				tags = append(tags, t)
			}
		}
	}
	return tags
}

// mayOpen reports whether characters may be a mark at which a call begins: where a grammar
// writes the answer only the one of the grammar is, and behind a call others.
func (m *machine) mayOpen(t *tag) bool {
	return m.exact == nil || *m.exact != "" && strings.HasPrefix(*m.exact, t.literal) || m.called && m.fresh
}

// say passes prose on up to the next mark.
func (m *machine) say(final bool) bool {
	if len(m.buf) == 0 {
		return false
	}
	if m.dialect != nil && m.prose == Text && m.fresh && (m.exact == nil || *m.exact == "" || m.called) {
		n := spaceAfter(m.buf, 0)
		switch m.judge(n, nil, final) {
		case undecided:
			return false
		case yes:
			m.call(n, nil)
			return true
		}
	}
	tags := m.marksOf()
	at, t := m.find(tags, 0)
	if t == nil {
		n := len(m.buf)
		if !final {
			n -= m.input.begun(tags)
			n -= spaceBefore(m.buf[:n])
		}
		m.emit(m.prose, max(0, n))
		return false
	}
	space := spaceBefore(m.buf[:at])
	switch t {
	case m.think.open:
		if !t.isToken() && spaceAfter(m.buf, 0) < at { // characters in a text
			m.emit(m.prose, at+len(t.literal))
			return true
		}
		m.turn(at, space, t, Reasoning)
	case m.think.close:
		m.turn(at, space, t, Text)
	default:
		return m.mayCall(at, space, t, final)
	}
	return true
}

// turn goes from one kind of prose to the other at a mark.
func (m *machine) turn(at, space int, t *tag, to Kind) {
	m.emit(m.prose, at-space)
	m.emit(Markup, space+len(t.literal))
	m.prose, m.eating, m.called, m.fresh = to, true, false, m.fresh || to == Text
}

// mayCall asks the dialect whether a mark is one.
func (m *machine) mayCall(at, space int, t *tag, final bool) bool {
	m.emit(m.prose, at-space)
	switch m.judge(space, t, final) {
	case undecided:
		return false
	case yes:
		m.call(space, t)
	default:
		m.emit(m.prose, space+len(t.literal))
	}
	return true
}

// judge asks the dialect whether a call begins behind n bytes. The answer depends
// on the first maxUndecided bytes alone.
func (m *machine) judge(n int, t *tag, final bool) verdict {
	text := m.buf[n:]
	if len(text) >= maxUndecided {
		text, final = text[:maxUndecided], true
	}
	v := m.dialect.begins(text, t, final)
	if final && v == undecided {
		return no
	}
	return v
}

// call begins a call behind n bytes of white space.
func (m *machine) call(n int, t *tag) {
	m.emit(Markup, n)
	m.calling, m.begun, m.fresh = true, false, false
	m.dialect.start(m, t)
}

// emit gives the first n bytes out and drops them.
func (m *machine) emit(k Kind, n int) {
	if n <= 0 {
		return
	}
	text := string(m.buf[:n])
	if last := len(m.parts) - 1; last >= 0 && m.parts[last].Kind == k {
		m.parts[last].Text += text
	} else {
		m.parts = append(m.parts, Part{Kind: k, Text: text})
	}
	if k == Text && m.fresh && spaceAfter(m.buf[:n], 0) < n {
		m.fresh = false
	}
	m.drop(n)
}

// named gives out the beginning of a call.
func (m *machine) named(name string) {
	if m.begun || checkName(name) != "" {
		return
	}
	m.begun = true
	m.parts = append(m.parts, Part{Kind: CallBegun, Call: &Call{Index: m.calls, Name: name}})
}

// argue gives out more of the arguments of a call that has begun.
func (m *machine) argue(text string) {
	if m.begun && text != "" {
		m.parts = append(m.parts, Part{Kind: CallArguments, Text: text})
	}
}

// finish gives out a call, of which n bytes are the raw text. A good one has
// given out sent bytes of its arguments.
func (m *machine) finish(n int, c Call, sent int) {
	c.Index, c.Raw = m.calls, string(m.buf[:n])
	if c.Problem == "" {
		c.Problem = checkName(c.Name)
	}
	if c.Problem == "" {
		m.named(c.Name)
		m.argue(string(c.Arguments[min(sent, len(c.Arguments)):]))
	} else {
		c.Arguments = nil
	}
	m.parts = append(m.parts, Part{Kind: CallFinished, Call: &c})
	m.calls++
	m.begun = false
	m.drop(n)
}

// fail ends a call that is none, where one of ends follows behind from, or else at
// the end of the answer or of what is bearable. It reports whether the end is
// there.
func (m *machine) fail(c Call, from int, ends []*tag, final bool) bool {
	at, t := m.find(ends, from)
	switch {
	case at >= 0 && at+len(t.literal) <= maxCall:
		m.finish(at, c, 0)
	case len(m.buf) >= maxCall:
		m.finish(wholeRunes(m.buf[:maxCall]), c, 0)
	case final:
		m.finish(len(m.buf), c, 0)
	default:
		return false
	}
	return true
}

// wholeRunes is the length of text without a character that it cuts.
func wholeRunes(text []byte) int {
	for n := len(text) - 1; n >= max(0, len(text)-utf8.UTFMax); n-- {
		if utf8.RuneStart(text[n]) {
			if utf8.FullRune(text[n:]) {
				break
			}
			return n
		}
	}
	return len(text)
}

// checkName says what is wrong with a tool's name.
func checkName(name string) string {
	switch n := utf8.RuneCountInString(name); {
	case n == 0:
		return "it has no name"
	case n > 64:
		return fmt.Sprintf("its name has %d characters, at most 64 are allowed", n)
	case !utf8.ValidString(name):
		return "its name is not UTF-8"
	}
	return ""
}

// atMark is the verdict of a format whose calls all begin with a mark.
func atMark(at *tag) verdict {
	if at == nil {
		return no
	}
	return yes
}
