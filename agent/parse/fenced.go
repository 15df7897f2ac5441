package parse

import (
	"bytes"
	"slices"
	"strings"
)

// fenced is what models write that know no format of calls: a fenced block with a
// JSON object, or, as Gemma 3 is told, with a call in Python's form. A block is a
// call only where it names a tool that was offered.
type fenced struct {
	tools   *toolbox
	open    *tag
	closing []*tag
	object  object
	code    code
	isCode  bool
}

const fence = "```"

// fenceLabels are those of blocks that may be calls.
var fenceLabels = []string{"", "json", "tool_call", "tool_calls", "tool_code", "tool", "python", "xml"}

func newFenced(_ *tagger, tools *toolbox) dialect {
	t := textTag(fence)
	return &fenced{tools: tools, open: t}
}

func (f *fenced) opens() []*tag  { return []*tag{f.open} }
func (f *fenced) closes() []*tag { return f.closing }

func (f *fenced) begins(text []byte, at *tag, final bool) verdict {
	if at == nil {
		return bareObject(f.tools, text, final)
	}
	// A longer line is no label, whether its end is there or not.
	const most = len(fence) + maxHeldSpace
	first := text[:min(len(text), most)]
	line := bytes.IndexByte(first, '\n')
	if line < 0 {
		label := strings.TrimSpace(string(first[len(fence):]))
		if len(first) < most &&
			slices.ContainsFunc(fenceLabels, func(s string) bool { return strings.HasPrefix(s, label) }) {
			return undecided
		}
		return no
	}
	if !slices.Contains(fenceLabels, strings.TrimSpace(string(text[len(fence):line]))) {
		return no
	}
	body := text[spaceAfter(text, line):]
	if len(body) == 0 || body[0] == '{' {
		return bareObject(f.tools, body, final)
	}
	return f.begunCode(body)
}

// begunCode judges a call in Python's form, which may be within print().
func (f *fenced) begunCode(body []byte) verdict {
	const printed = "print("
	if bytes.HasPrefix([]byte(printed), body) {
		return undecided
	}
	body = bytes.TrimPrefix(body, []byte(printed))
	if len(body) > 0 && body[0] == '[' {
		return bareCode(f.tools, body)
	}
	return bareCode(f.tools, append([]byte{'['}, body...))
}

func (f *fenced) start(m *machine, at *tag) {
	from := 0
	f.closing = []*tag{f.open}
	if at != nil {
		from = spaceAfter(m.buf, bytes.IndexByte(m.buf, '\n'))
	}
	f.isCode = m.buf[from] != '{'
	f.object = newObject(from, false)
	if bytes.HasPrefix(m.buf[from:], []byte("print(")) {
		from += len("print(")
		f.closing = []*tag{f.open, textTag(")")}
	}
	f.code = code{tools: f.tools, from: from}
}

func (f *fenced) read(m *machine, final bool) bool {
	if f.isCode {
		return f.code.read(m, f.closing, final)
	}
	return f.object.read(m, f.closing, final)
}

// joint is a format whose calls have several forms.
type joint struct {
	forms  []dialect
	chosen dialect
}

func (j *joint) opens() []*tag {
	var tags []*tag
	for _, d := range j.forms {
		tags = append(tags, d.opens()...)
	}
	return tags
}

func (j *joint) closes() []*tag {
	if j.chosen == nil {
		return nil
	}
	return j.chosen.closes()
}

// begins asks the forms in their order. The first that is not sure holds the rest
// back, so that the answer does not depend on how much of the text is there.
func (j *joint) begins(text []byte, at *tag, final bool) verdict {
	for _, d := range j.forms {
		if at != nil && !slices.Contains(d.opens(), at) {
			continue
		}
		switch d.begins(text, at, final) {
		case yes:
			j.chosen = d
			return yes
		case undecided:
			return undecided
		}
	}
	return no
}

func (j *joint) start(m *machine, at *tag)        { j.chosen.start(m, at) }
func (j *joint) read(m *machine, final bool) bool { return j.chosen.read(m, final) }

func writeFenced(w *writer) form {
	const open = fence + "tool_code\n"
	call := w.pythonCalls() + " " + literal("\n"+fence)
	return form{open: open, body: call, more: w.several("\n", literal(open)+" "+call)}
}
