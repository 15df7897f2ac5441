package parse

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"harmonyd/schema"
)

// gemma is the format of FunctionGemma and Gemma 4: something like JSON, whose
// keys have no quotes and whose strings have a mark of their own on both sides.
//
//	<|tool_call>call:name{key:<|"|>text<|"|>,other:[1,2]}<tool_call|>
//	<start_function_call>call:name{key:<escape>text<escape>}<end_function_call>
type gemma struct {
	open, closing []*tag
	quotes        []*tag
	from, at      int
	depth         int
	quote         *tag // of the string that at is in
	named, bad    bool
}

const gemmaCall = "call:"

func newGemma(tags *tagger, _ *toolbox) dialect {
	return &gemma{
		open:    []*tag{tags.tag("<|tool_call>"), tags.tag("<start_function_call>")},
		closing: []*tag{tags.tag("<tool_call|>"), tags.tag("<end_function_call>")},
		quotes:  []*tag{tags.tag(`<|"|>`), tags.tag("<escape>")},
	}
}

func (g *gemma) opens() []*tag                            { return g.open }
func (g *gemma) closes() []*tag                           { return g.closing }
func (g *gemma) begins(_ []byte, at *tag, _ bool) verdict { return atMark(at) }

func (g *gemma) start(m *machine, at *tag) {
	n := len(at.literal)
	g.from, g.at, g.depth, g.quote, g.named, g.bad = n, n, 0, nil, false, false
}

func (g *gemma) read(m *machine, final bool) bool {
	text := m.buf[:min(len(m.buf), maxCall)]
	for g.at < len(text) && !g.bad {
		next, ok := g.see(m, text, final || len(text) == maxCall)
		if !ok {
			return false
		}
		if g.at = next; g.named && g.depth == 0 && !g.bad {
			m.finish(g.at, g.call(string(text[g.from:g.at])), 0)
			return true
		}
	}
	switch {
	case g.bad:
		return m.fail(Call{Problem: "it is not of the form call:name{key:value,…}"}, g.from, g.closing, final)
	case final || len(text) == maxCall:
		return m.fail(Call{Problem: "it is not closed with }"}, g.from, g.closing, final)
	}
	return false
}

// see takes what stands at g.at and returns the place behind it. It is not ok where
// that is not clear yet.
func (g *gemma) see(m *machine, text []byte, over bool) (next int, ok bool) {
	for _, q := range g.quotes {
		if m.isAt(q, g.at) {
			switch g.quote {
			case nil:
				g.quote = q
			case q:
				g.quote = nil
			}
			return g.at + len(q.literal), true
		}
		if !q.isToken() && !over && text[g.at] == q.literal[0] && strings.HasPrefix(q.literal, string(text[g.at:])) {
			return 0, false
		}
	}
	switch c := text[g.at]; {
	case g.quote != nil:
	case c == '{' || c == '[':
		g.depth++
		g.name(m, text)
	case c == '}' || c == ']':
		g.depth--
		g.bad = g.depth < 0 || !g.named
	case m.markAt(g.at) != nil, g.depth == 0 && g.at-g.from > maxElement:
		g.bad = true
	}
	return g.at + 1, true
}

// name reads the name in front of the first brace.
func (g *gemma) name(m *machine, text []byte) {
	if g.named {
		return
	}
	g.named = true
	name, ok := strings.CutPrefix(strings.TrimSpace(string(text[g.from:g.at])), gemmaCall)
	if g.bad = !ok || text[g.at] != '{'; g.bad {
		return
	}
	m.named(strings.TrimSpace(name))
}

// call reads a whole call.
func (g *gemma) call(text string) Call {
	head, _, _ := strings.Cut(text, "{")
	c := Call{Name: strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(head), gemmaCall))}
	r := gemmaReader{g, text, len(head)}
	value, err := r.value(maxDepth)
	if err != nil {
		c.Problem = fmt.Sprintf("byte %d of the call: %v", r.at, err)
		return c
	}
	c.Arguments = value
	return c
}

// gemmaReader reads the values of a call.
type gemmaReader struct {
	*gemma
	text string
	at   int
}

// string reads a marked string, if one is there.
func (r *gemmaReader) string() (s string, ok bool) {
	for _, q := range r.quotes {
		if inner, after, ok := cutBetween(r.text[r.at:], q.literal, q.literal); ok {
			r.at = len(r.text) - len(after)
			return inner, true
		}
	}
	return "", false
}

func (r *gemmaReader) space() { r.at = spaceAfter([]byte(r.text), r.at) }

// word reads up to one of the bytes that end a key or value.
func (r *gemmaReader) word(ends string) string {
	n := strings.IndexAny(r.text[r.at:], ends)
	if n < 0 {
		n = len(r.text) - r.at
	}
	w := r.text[r.at : r.at+n]
	r.at += n
	return strings.TrimSpace(w)
}

func (r *gemmaReader) value(depth int) (json.RawMessage, error) {
	r.space()
	if s, ok := r.string(); ok {
		return quote(s), nil
	}
	switch {
	case r.at >= len(r.text):
		return nil, fmt.Errorf("a value is missing")
	case r.text[r.at] == '{' || r.text[r.at] == '[':
		if depth == 0 {
			return nil, fmt.Errorf("it nests deeper than %d levels", maxDepth)
		}
		return r.list(depth-1, r.text[r.at] == '{')
	}
	word := r.word(",]}")
	if word == "" {
		return nil, fmt.Errorf("a value is missing")
	}
	if schema.Scan([]byte(word), maxDepth, nil) == nil {
		return json.RawMessage(word), nil
	}
	return quote(word), nil // a string that lacks its marks
}

// list reads an object or an array.
func (r *gemmaReader) list(depth int, keyed bool) (json.RawMessage, error) {
	var object members
	array, end := []byte{'['}, byte(']')
	if keyed {
		end = '}'
	}
	r.at++
	for {
		if r.space(); r.at < len(r.text) && r.text[r.at] == end {
			break
		}
		var key string
		if keyed {
			var ok bool
			if key, ok = r.string(); !ok {
				key = r.word(":,{}[]")
			}
			if r.space(); r.at >= len(r.text) || r.text[r.at] != ':' {
				return nil, fmt.Errorf("the key %.40q is not followed by a colon", key)
			}
			r.at++
		}
		value, err := r.value(depth)
		switch {
		case err != nil:
			return nil, err
		case !keyed:
			if len(array) > 1 {
				array = append(array, ", "...)
			}
			array = append(array, value...)
		case !object.add(key, value):
			return nil, fmt.Errorf("the key %.40q stands twice", key)
		}
		r.space()
		switch {
		case r.at < len(r.text) && r.text[r.at] == ',':
			r.at++
		case r.at >= len(r.text) || r.text[r.at] != end:
			return nil, fmt.Errorf("neither a comma nor %c stands behind a value", end)
		}
	}
	r.at++
	if keyed {
		return object.object(), nil
	}
	return append(bytes.Clone(array), ']'), nil
}

func writeGemma(w *writer) form {
	open, end, quote := "<|tool_call>", "<tool_call|>", `<|"|>`
	if w.tags.tag("<start_function_call>").isToken() {
		open, end, quote = "<start_function_call>", "<end_function_call>", "<escape>"
	}
	call := w.each(func(c *Callable) string {
		return fmt.Sprintf("%s %s %s", literal(gemmaCall+c.Name), w.gemmaObject(c, c.Schema, quote, maxHops), w.mark(end))
	})
	return form{open: open, body: call, more: w.several("", w.mark(open)+" "+call)}
}
