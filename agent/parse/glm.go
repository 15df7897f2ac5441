package parse

import (
	"fmt"
	"strings"
)

// pairs reads a call in the format of GLM 4.5 and later: the name, then a pair of
// marks around each key and each value.
//
//	name
//	<arg_key>key</arg_key>
//	<arg_value>value</arg_value>
//
// Its end is that of the <tool_call> around it.
type pairs struct {
	tools                                  *toolbox
	keyOpen, keyClose, valueOpen, valueEnd *tag
	from                                   int
	named                                  bool
}

func newPairs(tags *tagger, tools *toolbox) pairs {
	return pairs{
		tools: tools, keyOpen: tags.tag("<arg_key>"), keyClose: tags.tag("</arg_key>"),
		valueOpen: tags.tag("<arg_value>"), valueEnd: tags.tag("</arg_value>"),
	}
}

func (p *pairs) start(from int) { p.from, p.named = from, false }

// read goes on with m's call. What is within a value counts as its end only where
// it is a token, or where no pair follows.
func (p *pairs) read(m *machine, ends []*tag, final bool) bool {
	if !p.named {
		end := p.from
		for end < len(m.buf) && isNameByte(m.buf[end]) {
			end++
		}
		if end == len(m.buf) && !final {
			return false
		}
		p.named = true
		m.named(string(m.buf[p.from:end]))
	}
	at, t := m.find(ends, p.from)
	for at >= 0 && !t.isToken() && p.within(m, at) {
		at, t = m.find(ends, at+1)
	}
	if at >= 0 && at+len(t.literal) > maxCall {
		at = -1
	}
	switch {
	case at < 0 && len(m.buf) < maxCall && !final:
		return false
	case at < 0 && len(m.buf) >= maxCall:
		return m.fail(Call{Problem: fmt.Sprintf("it has more than %d bytes", maxCall)}, p.from, ends, final)
	case at < 0:
		return m.fail(Call{Problem: "it has no end"}, p.from, nil, final)
	}
	m.finish(at, p.call(string(m.buf[p.from:at])), 0)
	return true
}

// within reports whether a place is inside of a value that is not over before it.
func (p *pairs) within(m *machine, at int) bool {
	text := string(m.buf[p.from:at])
	return strings.LastIndex(text, p.valueOpen.literal) > strings.LastIndex(text, p.valueEnd.literal)
}

// call reads a whole call.
func (p *pairs) call(text string) Call {
	end := 0
	for end < len(text) && isNameByte(text[end]) {
		end++
	}
	c := Call{Name: text[:end]}
	if end < len(text) && text[end] != '<' && !isSpace(text[end]) {
		c.Name, c.Problem = "", fmt.Sprintf("it is no JSON object, and no name with %s pairs", p.keyOpen.literal)
		return c
	}
	var args members
	for rest := strings.TrimSpace(text[end:]); rest != ""; rest = strings.TrimSpace(rest) {
		key, after, ok := cutBetween(rest, p.keyOpen.literal, p.keyClose.literal)
		if !ok {
			c.Problem = fmt.Sprintf("byte %d of the call is no %s with its end", len(text)-len(rest), p.keyOpen.literal)
			return c
		}
		after = strings.TrimSpace(after)
		value, after, ok := cutBetween(after, p.valueOpen.literal, p.valueEnd.literal)
		if !ok {
			c.Problem = fmt.Sprintf("the argument %q has no %s with its end", key, p.valueOpen.literal)
			return c
		}
		if key = strings.TrimSpace(key); !args.add(key, p.tools.value(c.Name, key, value)) {
			c.Problem = fmt.Sprintf("the argument %q stands twice", key)
			return c
		}
		rest = after
	}
	c.Arguments = args.object()
	return c
}

// cutBetween returns what stands between two marks, of which text begins with the
// first, and what follows.
func cutBetween(text, open, end string) (inner, after string, ok bool) {
	if !strings.HasPrefix(text, open) {
		return "", "", false
	}
	return strings.Cut(text[len(open):], end)
}

func writeGLM(w *writer) form {
	canWrite := func(name string) bool {
		return name != "" && strings.TrimSpace(name) == name && !strings.Contains(name, "<")
	}
	call := w.each(func(c *Callable) string {
		expr := literal(c.Name + "\n")
		for _, p := range w.parameters(c, canWrite) {
			value := fmt.Sprintf("%s %s %s %s %s %s %s", w.mark("<arg_key>"), literal(p.name), w.mark("</arg_key>"), literal("\n"),
				w.mark("<arg_value>"), w.raw(c, p.schema, "</arg_value>", "", "</arg_value>"), literal("\n"))
			if p.optional {
				value = "(" + value + ")?"
			}
			expr += " " + value
		}
		return expr + " " + w.mark(HermesClose)
	})
	return form{open: HermesOpen, body: call, more: w.several("\n", w.mark(HermesOpen)+" "+call)}
}
