package parse

import (
	"bytes"
	"strings"
)

// invokes is a format in which a mark stands around all calls, and each is an element
// with a name and parameters.
//
//	<minimax:tool_call>
//	<invoke name="f">
//	<parameter name="key">value</parameter>
//	</invoke>
//	</minimax:tool_call>
//
// The models leave out the outer marks at times.
type invokes struct {
	open, invoke *tag
	ends         []*tag // of all calls: the closing mark first
	xml          elements
	at           int // behind the mark, while the element is looked for
	looking      bool
}

var miniMaxMarkup = markup{"<invoke name=", "</invoke>", "<parameter name=", parameterClose, true}

// newMiniMax is the format of MiniMax M2. M1, and Hunyuan, write objects of JSON between
// marks of another name.
func newMiniMax(tags *tagger, tools *toolbox) dialect {
	return &joint{forms: []dialect{
		newInvokes(tags, tools, "<minimax:tool_call>", "</minimax:tool_call>", miniMaxMarkup),
		&objects{open: []*tag{tags.tag("<tool_calls>")}, closing: []*tag{tags.tag("</tool_calls>")}, lines: true},
	}}
}

func newInvokes(tags *tagger, tools *toolbox, open, end string, m markup) *invokes {
	i := &invokes{open: tags.tag(open), invoke: textTag(m.call), xml: elements{tools: tools, markup: m}}
	i.ends = []*tag{tags.tag(end), i.open}
	return i
}

func (i *invokes) opens() []*tag  { return []*tag{i.open, i.invoke} }
func (i *invokes) closes() []*tag { return i.ends[:1] }

// begins takes an element alone for a call only where a tool's name follows.
func (i *invokes) begins(text []byte, at *tag, final bool) verdict {
	if at == i.invoke {
		return i.xml.begins(text, final)
	}
	return atMark(at)
}

func (i *invokes) start(m *machine, at *tag) {
	i.looking = at == i.open
	if i.at = len(i.open.literal); !i.looking {
		i.xml.start(0)
	}
}

func (i *invokes) read(m *machine, final bool) bool {
	if i.looking {
		at := spaceAfter(m.buf, i.at)
		rest := m.buf[at:]
		switch {
		case bytes.HasPrefix(rest, []byte(i.invoke.literal)):
			i.looking = false
			i.xml.start(at)
		case bytes.HasPrefix([]byte(i.invoke.literal), rest) && !final && m.markAt(at) == nil:
			return false
		default:
			return m.fail(Call{Problem: i.open.literal + " is not followed by " + i.invoke.literal}, at, i.ends, final)
		}
	}
	return i.xml.read(m, i.ends, final)
}

func writeMiniMax(w *writer) form {
	return w.invokes("<minimax:tool_call>", "</minimax:tool_call>", miniMaxMarkup)
}

func (w *writer) invokes(open, end string, m markup) form {
	call := w.elements("", m, "\n")
	return form{open: open, body: strings.Join([]string{literal("\n"), call, w.several("", call), w.mark(end)}, " ")}
}
