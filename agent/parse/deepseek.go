package parse

import (
	"bytes"
	"fmt"
	"strings"
)

// sections is a format in which a mark stands around all calls, one around each,
// and one between a call's name and its arguments.
//
//	<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>name<｜tool▁sep｜>{…}<｜tool▁call▁end｜><｜tool▁calls▁end｜>
//
// DeepSeek V3 and R1 write the word function for the name, and behind the mark the
// name and a fenced block with the arguments.
type sections struct {
	begin, call, sep *tag // of all calls, of one, of its arguments
	closing          []*tag
	prefix           string // of names
	state            sectionState
	at               int
	problem          string // with the call, once it has one
	object           object
}

type sectionState int

const (
	inSection sectionState = iota
	inHead
	inFence
	inArguments
	noCall
)

func newDeepSeek(tags *tagger, _ *toolbox) dialect {
	return &sections{
		begin: tags.tag("<｜tool▁calls▁begin｜>"), call: tags.tag("<｜tool▁call▁begin｜>"), sep: tags.tag("<｜tool▁sep｜>"),
		closing: []*tag{tags.tag("<｜tool▁call▁end｜>"), tags.tag("<｜tool▁calls▁end｜>"), textTag("```")},
	}
}

// newKimi is the format of Kimi K2, whose names are functions.name:0.
func newKimi(tags *tagger, _ *toolbox) dialect {
	return &sections{
		begin: tags.tag("<|tool_calls_section_begin|>"), call: tags.tag("<|tool_call_begin|>"), sep: tags.tag("<|tool_call_argument_begin|>"),
		closing: []*tag{tags.tag("<|tool_call_end|>"), tags.tag("<|tool_calls_section_end|>")},
		prefix:  "functions.",
	}
}

func (s *sections) opens() []*tag                            { return []*tag{s.begin, s.call} }
func (s *sections) closes() []*tag                           { return s.closing }
func (s *sections) begins(_ []byte, at *tag, _ bool) verdict { return atMark(at) }

func (s *sections) start(m *machine, at *tag) {
	s.state, s.at, s.problem = inSection, len(at.literal), ""
	if at == s.call {
		s.state = inHead
	}
}

// ends are the marks at which a bad call ends.
func (s *sections) ends() []*tag { return append(s.closing[:2:2], s.call) }

func (s *sections) read(m *machine, final bool) bool {
	for s.problem == "" {
		ok := false
		problem := "it has no " + s.sep.literal + " behind its name"
		switch s.state {
		case inSection:
			problem = s.begin.literal + " is not followed by " + s.call.literal
			ok = s.expect(m, s.call, inHead)
		case inHead:
			ok = s.head(m)
		case inFence:
			problem = "the name is not followed by a JSON object"
			ok = s.fence(m)
		case inArguments:
			return s.object.read(m, s.ends(), final)
		}
		switch {
		case ok:
		case s.state == noCall || final || len(m.buf) >= maxCall:
			s.problem = problem
		default:
			return false
		}
	}
	return m.fail(Call{Problem: s.problem}, s.at, s.ends(), final)
}

// expect takes white space and a mark. Where something else comes, the state is noCall.
func (s *sections) expect(m *machine, t *tag, next sectionState) bool {
	at := spaceAfter(m.buf, s.at)
	if m.isAt(t, at) {
		s.at, s.state = at+len(t.literal), next
		return true
	}
	if rest := m.buf[at:]; len(rest) > 0 && (t.isToken() || !bytes.HasPrefix([]byte(t.literal), rest)) {
		s.state = noCall
	}
	return false
}

// head reads the name, or the word in its place, and the mark behind it.
func (s *sections) head(m *machine) bool {
	at, _ := m.find([]*tag{s.sep}, s.at)
	if end, _ := m.find(s.ends(), s.at); at < 0 || end >= 0 && end < at {
		if end >= 0 {
			s.state = noCall
		}
		return false
	}
	next := spaceAfter(m.buf, at+len(s.sep.literal))
	if next == len(m.buf) {
		return false
	}
	name := strings.TrimPrefix(strings.TrimSpace(string(m.buf[s.at:at])), s.prefix)
	if i := strings.LastIndexByte(name, ':'); i > 0 && s.prefix != "" {
		name = name[:i]
	}
	if m.buf[next] != '{' && name == "function" {
		s.at, s.state = next, inFence
		return true
	}
	s.arguments(name, next)
	return true
}

// fence reads a name that stands on a line and the beginning of a fenced block.
func (s *sections) fence(m *machine) bool {
	brace := bytes.IndexByte(m.buf[s.at:], '{')
	if end, _ := m.find(s.ends(), s.at); end >= 0 && (brace < 0 || end < s.at+brace) {
		s.state = noCall
		return false
	}
	if brace < 0 {
		return false
	}
	name, _, _ := strings.Cut(string(m.buf[s.at:s.at+brace]), "\n")
	name, _, _ = strings.Cut(name, "```")
	s.arguments(strings.TrimSpace(name), s.at+brace)
	return true
}

func (s *sections) arguments(name string, at int) {
	s.state, s.object = inArguments, newObject(at, true)
	s.object.name = name
}

// writeDeepSeek writes the arguments behind the name, as from V3.1 on.
func writeDeepSeek(w *writer) form {
	return w.sections("<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>", func(c *Callable) string {
		return fmt.Sprintf("%s %s %s", literal(c.Name), w.mark("<｜tool▁sep｜>"), w.json(c.Schema))
	})
}

// writeDeepSeek3 writes what V3 and R1 do.
func writeDeepSeek3(w *writer) form {
	return w.sections("<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>", func(c *Callable) string {
		return fmt.Sprintf("%s %s %s %s %s", literal("function"), w.mark("<｜tool▁sep｜>"), literal(c.Name+"\n```json\n"), w.json(c.Schema), literal("\n```"))
	})
}

func writeKimi(w *writer) form {
	return w.sections("<|tool_calls_section_begin|>", "<|tool_call_begin|>", "<|tool_call_end|>", "<|tool_calls_section_end|>", func(c *Callable) string {
		return fmt.Sprintf("%s /[0-9]{1,2}/ %s %s", literal("functions."+c.Name+":"), w.mark("<|tool_call_argument_begin|>"), w.json(c.Schema))
	})
}

func (w *writer) sections(open, begin, end, sectionEnd string, inner func(c *Callable) string) form {
	call := fmt.Sprintf("%s %s %s", w.mark(begin), w.each(inner), w.mark(end))
	return form{open: open, body: strings.Join([]string{call, w.several("", call), w.mark(sectionEnd)}, " ")}
}
