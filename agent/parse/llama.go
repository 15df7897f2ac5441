package parse

import "strings"

// bareObject judges whether a text without a mark is a call in JSON: an object
// that names a tool which was offered, before it has a member that calls lack.
func bareObject(tools *toolbox, text []byte, final bool) verdict {
	if len(text) == 0 {
		return undecided
	}
	in := input{buf: text}
	o := newObject(0, false)
	for o.pos < len(text) && o.end == 0 {
		o.see(text, text[o.pos])
		o.pos++
		switch {
		case o.broken:
			return no
		case o.name != "":
			if tools.offers(o.name) {
				return yes
			}
			return no
		case o.depth == 1 && !o.quoted && o.key != "" && !strings.Contains(" name tool_name arguments parameters type function id tool_call_id ", " "+o.key+" "):
			return no
		}
	}
	if o.end > 0 && tools.offers(readCall(in.buf[:o.end]).Name) {
		return yes
	}
	if o.end > 0 || final {
		return no
	}
	return undecided
}

// llama is the format of Llama 3: the answer is a JSON object with name and
// parameters, or several with semicolons between them, sometimes behind
// <|python_tag|>. Behind that mark the built-in tools are called as name.call(…),
// and <function=name>{…}</function> is a third form that the prompts of Llama 3.1
// ask for.
type llama struct {
	tools     *toolbox
	pythonTag *tag
	function  *tag
	closing   []*tag
	object    object
	code      code
	form      llamaForm
	at        int
}

type llamaForm int

const (
	formUnknown llamaForm = iota
	formObject
	formCode
	formFunction
)

func newLlama(tags *tagger, tools *toolbox) dialect {
	return &llama{
		tools: tools, pythonTag: tags.tag("<|python_tag|>"), function: textTag(functionOpen),
		closing: []*tag{textTag(";"), textTag(functionClose)},
	}
}

func (l *llama) opens() []*tag  { return []*tag{l.pythonTag, l.function} }
func (l *llama) closes() []*tag { return l.closing }

func (l *llama) begins(text []byte, at *tag, final bool) verdict {
	switch at {
	case nil:
		return bareObject(l.tools, text, final)
	case l.function:
		return (&elements{tools: l.tools, markup: coderMarkup}).begins(text, final)
	}
	return yes
}

func (l *llama) start(m *machine, at *tag) {
	l.form, l.at = formUnknown, 0
	switch at {
	case nil:
		l.form, l.object = formObject, newObject(0, false)
	case l.function:
		l.form = formFunction
	default:
		l.at = len(at.literal)
	}
}

func (l *llama) read(m *machine, final bool) bool {
	if l.form == formFunction {
		name, _, _ := strings.Cut(string(m.buf[len(functionOpen):min(len(m.buf), len(functionOpen)+maxElement)]), ">")
		l.form, l.object = formObject, newObject(len(functionOpen)+len(name)+1, true)
		l.object.name = name
	}
	if l.form == formUnknown {
		at := spaceAfter(m.buf, l.at)
		if at == len(m.buf) && !final {
			return false
		}
		l.form, l.object, l.code = formObject, newObject(at, false), code{tools: l.tools, from: at}
		if at < len(m.buf) && isNameByte(m.buf[at]) {
			l.form = formCode
		}
	}
	if l.form == formCode {
		return l.code.read(m, l.opens()[:1], final)
	}
	return l.object.read(m, l.opens()[:1], final)
}

func writeLlama(w *writer) form {
	call := w.objects(`{"name": "`, `", "parameters": `, "}")
	return form{body: call, more: w.several("; ", call), bare: `{`}
}
