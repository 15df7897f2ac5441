package parse

import (
	"bytes"
	"fmt"
	"strings"
)

// objects is a format in which JSON follows a mark: one object, a list of them, or,
// in Mistral's later models, a name and the arguments alone.
//
//	[TOOL_CALLS][{"name": "f", "arguments": {}}, …]
//	[TOOL_CALLS]f[CALL_ID]abcdefghi[ARGS]{}
type objects struct {
	open, closing []*tag
	id, args      *tag // nil where the format has no names outside of objects
	lines         bool // objects may follow each other without a list
	state         listState
	list          bool
	object        object
	at            int
}

// listState is what comes next.
type listState int

const (
	atOpen listState = iota
	inObject
	between
)

func newMistral(tags *tagger, _ *toolbox) dialect {
	return &objects{open: []*tag{tags.tag("[TOOL_CALLS]")}, id: tags.tag("[CALL_ID]"), args: tags.tag("[ARGS]")}
}

// newCohere is the format of Command R7B and Command A.
func newCohere(tags *tagger, _ *toolbox) dialect {
	return &objects{open: []*tag{tags.tag("<|START_ACTION|>")}, closing: []*tag{tags.tag("<|END_ACTION|>")}}
}

// newGranite is the format of Granite 3 and Phi 4: a list behind a mark.
func newGranite(tags *tagger, _ *toolbox) dialect {
	return &objects{
		open:    []*tag{tags.tag("<|tool_call|>")},
		closing: []*tag{tags.tag("<|/tool_call|>")},
	}
}

func (j *objects) opens() []*tag                            { return j.open }
func (j *objects) closes() []*tag                           { return j.closing }
func (j *objects) begins(_ []byte, at *tag, _ bool) verdict { return atMark(at) }
func (j *objects) start(m *machine, at *tag)                { j.state, j.list, j.at = atOpen, false, len(at.literal) }
func (j *objects) follow(m *machine, n int, list bool) {
	j.state, j.list, j.object = inObject, list, newObject(n, false)
}

func (j *objects) read(m *machine, final bool) bool {
	for {
		switch j.state {
		case atOpen:
			if !j.choose(m, final) {
				return false
			}
		case inObject:
			ends := append(j.open[:len(j.open):len(j.open)], j.closing...)
			if !j.object.read(m, ends, final) {
				return false
			}
			if !j.list && !j.lines {
				return true
			}
			j.state = between
		case between:
			if n := spaceAfter(m.buf, 0); n < len(m.buf) {
				switch m.buf[n] {
				case '{':
					m.emit(Markup, n)
					j.follow(m, 0, j.list)
				case ',':
					m.emit(Markup, n+1)
				case ']':
					m.emit(Markup, n+1)
					return true
				default: // the list was not closed
					return true
				}
			} else {
				return final
			}
		}
	}
}

// choose finds out what follows the mark.
func (j *objects) choose(m *machine, final bool) bool {
	at := spaceAfter(m.buf, j.at)
	switch {
	case at == len(m.buf) && !final:
		return false
	case at == len(m.buf) || m.markAt(at) != nil:
	case m.buf[at] == '[':
		at = spaceAfter(m.buf, at+1)
		switch {
		case at == len(m.buf) && !final:
			return false
		case at < len(m.buf) && m.buf[at] == ']': // a list without calls
			m.emit(Markup, at)
			j.state = between
			return true
		}
		j.follow(m, at, true)
		return true
	case j.args != nil && isNameByte(m.buf[at]):
		return j.chooseNamed(m, at, final)
	}
	j.follow(m, at, false)
	return true
}

// chooseNamed reads a name and what may stand between it and the arguments. Only
// maxElement bytes count for that, so that it does not depend on how much is there.
func (j *objects) chooseNamed(m *machine, from int, final bool) bool {
	head := m.buf[:min(len(m.buf), from+maxElement)]
	if bytes.IndexByte(head[from:], '{') < 0 && len(head) < from+maxElement && !final {
		return false
	}
	nameEnd := func(i int) int {
		for i < len(head) && isNameByte(head[i]) && m.markAt(i) == nil {
			i++
		}
		return i
	}
	end := nameEnd(from)
	name := string(head[from:end])
	for _, t := range []*tag{j.id, j.args} {
		at := spaceAfter(head, end)
		if next := at + len(t.literal); next <= len(head) && m.isAt(t, at) {
			end = next
			if t == j.id {
				end = nameEnd(next)
			}
		}
	}
	j.follow(m, end, false)
	j.object.nameless, j.object.name = true, name
	return true
}

// writeMistral writes a name and the arguments where the vocabulary has the mark that
// stands between them, and else a list of objects.
func writeMistral(w *writer) form {
	const open, args = "[TOOL_CALLS]", "[ARGS]"
	if !w.tags.tag(args).isToken() {
		return form{open: open, body: `" "? ` + w.list(w.objects(`{"name": "`, `", "arguments": `, "}"), ", ")}
	}
	call := w.each(func(c *Callable) string {
		return literal(c.Name) + " " + w.mark(args) + " " + w.json(c.Schema)
	})
	return form{open: open, body: call, more: w.several("", w.mark(open)+" "+call)}
}

// list is a list of calls.
func (w *writer) list(call, between string) string {
	return strings.TrimSpace(fmt.Sprintf(`"[" %s %s`, call, w.several(between, call))) + ` "]"`
}

func writeCohere(w *writer) form {
	call := w.each(func(c *Callable) string {
		return fmt.Sprintf("%s /[0-9]{1,2}/ %s %s %s", literal("\n    {\"tool_call_id\": \""), literal(`", "tool_name": "`+c.Name+`", "parameters": `),
			w.json(c.Schema), literal("}"))
	})
	return form{open: "<|START_ACTION|>", body: strings.Join([]string{`"["`, call, w.several(",", call), literal("\n]"), w.mark("<|END_ACTION|>")}, " ")}
}

func writeGranite(w *writer) form {
	body := w.list(w.objects(`{"name": "`, `", "arguments": `, "}"), ", ")
	if w.tags.tag("<|/tool_call|>").isToken() {
		body += " " + w.mark("<|/tool_call|>")
	}
	return form{open: "<|tool_call|>", body: body}
}
