package parse

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"harmonyd/schema"
)

// Answer says what a constrained answer may be.
type Answer struct {
	// Tools are those that may be called, at least one.
	Tools []Callable
	// Must says that the answer calls, and says nothing else but what the model thinks.
	// Otherwise it may call.
	Must bool
	// Several says that there may be more than one call.
	Several bool
	// Response is the JSON Schema that an answer in words is held to. Without one it is
	// any text.
	Response json.RawMessage
	// Prompt is what the answer follows, as in Options.
	Prompt []int32
	// Thought says that the model has thought enough.
	Thought bool
	// Stops are the tokens that end an answer. The engine knows them; they are in no
	// grammar.
	Stops []int32
}

// Callable is a tool as a grammar sees it.
type Callable struct {
	Name string
	// Schema is what the grammar holds the arguments to.
	Schema json.RawMessage
	// Strict says that the grammar has to hold all of Schema.
	Strict bool
}

// Constrain returns a grammar, in llguidance's kind of Lark, of the answers that a
// describes, and the format that they are in: f itself, or that of Hermes where f
// has no way to hold what a tool's arguments must be, or the model learnt none.
func (f Format) Constrain(t Tokenizer, a Answer) (lark string, written Format, err error) {
	lark, open, err := f.grammar(t, a)
	if lark == "" && err == nil {
		f = f.asHermes()
		lark, open, err = f.grammar(t, a)
	}
	f.exact = &open
	return lark, f, err
}

// grammar is Constrain in f itself, or nothing where that cannot be, and the mark of calls.
func (f Format) grammar(t Tokenizer, a Answer) (lark, open string, err error) {
	w := &writer{tags: &tagger{tokenizer: t}, answer: a}
	for _, c := range a.Tools {
		w.tools.specs = append(w.tools.specs, schema.ToolSpec{Name: c.Name, InputSchema: c.Schema})
	}
	var start string
	switch {
	case f.harmony:
		start = w.harmony()
	case f.write != nil:
		calls := f.write(w)
		start, open = w.start(f, calls), calls.open
	}
	if start == "" || w.refused || w.tags.err != nil {
		return "", "", w.tags.err
	}
	return strings.Join(append([]string{"start: " + start}, w.rules...), "\n") + "\n", open, nil
}

// Respond returns a grammar of answers in words that the body of a rule in Lark holds, for
// models that think before they answer, or name what they say: the text for people is
// held. For others it is empty.
func (f Format) Respond(t Tokenizer, a Answer, rule string) (lark string, err error) {
	w := &writer{tags: &tagger{tokenizer: t}, answer: a}
	start := ""
	if f.harmony {
		start = fmt.Sprintf(`%s%s "final" %s `, w.before("analysis"), w.mark("<|channel|>"), w.mark("<|message|>"))
	} else {
		start = w.reasoning(f)
	}
	if start == "" || w.tags.err != nil {
		return "", w.tags.err
	}
	w.rules = append(w.rules, "response: "+rule)
	return strings.Join(append([]string{"start: " + start + "response"}, w.rules...), "\n") + "\n", nil
}

// asHermes is the format of Hermes with the reasoning of f.
func (f Format) asHermes() Format {
	h, _ := Named("hermes")
	if f.thinking[0] != "" {
		h.thinking = f.thinking
	}
	return h
}

// form is how a format writes calls.
type form struct {
	// open is the mark at which calls begin, body an expression for what stands behind it,
	// up to the end of the call, and more one for the calls that may follow. Without a mark
	// they begin an answer.
	open, body, more string
	// bare is the character, as in a regular expression, at which a call without a mark
	// begins; an answer in words does not begin with it.
	bare string
	// like is a regular expression of what is taken for the mark, too, and is not in words.
	like string
}

// writer writes a grammar.
type writer struct {
	tags    *tagger
	tools   toolbox
	answer  Answer
	rules   []string
	refused bool // the format cannot hold what it must
}

// refuse says that the format cannot hold what it must, and stands for any expression.
func (w *writer) refuse() string {
	w.refused = true
	return `""`
}

// rule adds a rule, or a terminal where the prefix is of capitals, and returns its name.
func (w *writer) rule(prefix, body string) string {
	name := fmt.Sprint(prefix, len(w.rules))
	w.rules = append(w.rules, name+": "+body)
	return name
}

// once is rule for what may be there already.
func (w *writer) once(prefix, body string) string {
	for _, r := range w.rules {
		if name, same, _ := strings.Cut(r, ": "); same == body && strings.HasPrefix(name, prefix) {
			return name
		}
	}
	return w.rule(prefix, body)
}

// literal is text as a grammar writes it.
func literal(text string) string { return string(quote(text)) }

// mark is a mark of the format: a token where the vocabulary has it, else its characters.
// A token that is a part of the mark is one there too.
func (w *writer) mark(text string) string {
	if t := w.tags.tag(text); t.isToken() {
		return w.token(t)
	}
	return w.mixed(text)
}

// mixed is text in which a token may stand that is a part of a mark.
func (w *writer) mixed(text string) string {
	before, t, after := w.around(text)
	if t == nil {
		return literal(text)
	}
	return fmt.Sprintf("%s %s %s", literal(before), w.token(t), w.mixed(after))
}

// around finds the token that is a part of a mark.
func (w *writer) around(text string) (before string, t *tag, after string) {
	if before, after, found := strings.Cut(text, dsml); found {
		if t := w.tags.tag(dsml); t.isToken() {
			return before, t, after
		}
	}
	return text, nil, ""
}

func (w *writer) token(t *tag) string { return fmt.Sprintf("<[%d]>", t.id) }

// without is what terminals need in order not to hold a text.
func (w *writer) without(texts ...string) string {
	var b strings.Builder
	for _, text := range texts {
		b.WriteString(" & ~" + w.once("HAS", "/(?s:.*)/ "+literal(text)+" /(?s:.*)/"))
	}
	return b.String()
}

// until is text of least to most characters, or any number where most is negative, and
// then a mark, which the text does not hold; and is a condition that it must meet too. Its
// characters are text where the mark is a token: to exclude them takes a walk through the
// whole vocabulary for each mask.
func (w *writer) until(end string, least, most int, and string) string {
	to := ""
	if most >= 0 {
		to = fmt.Sprint(most)
	}
	before, inner, after := w.around(end)
	if !w.tags.tag(end).isToken() {
		and = w.without(end) + and
	}
	text := func(least int) string { return fmt.Sprintf("/(?s:.{%d,%s})/%s", least, to, and) }
	switch {
	case w.tags.tag(end).isToken() && most == 0:
		return w.mark(end)
	case w.tags.tag(end).isToken() && least == 0:
		return w.once("TEXT", text(1)) + "? " + w.mark(end)
	case w.tags.tag(end).isToken():
		return w.once("TEXT", text(least)) + " " + w.mark(end)
	case inner != nil:
		return fmt.Sprintf("%s %s %s", w.once("TEXT", "("+text(least)+") "+literal(before)), w.token(inner), literal(after))
	}
	// The first place where the mark stands ends it.
	body := text(least)
	name := fmt.Sprint("until", len(w.rules))
	w.rules = append(w.rules, fmt.Sprintf("%s[suffix=%s]: %s", name, literal(end), body))
	return name
}

// guidance are the options of llguidance for a schema: objects without white space
// that a small model could go on with for ever, and with one spelling of what stands
// between members, so that more tokens are forced.
const (
	guidance = `"x-guidance":{"whitespace_flexible":false,"item_separator":", ","key_separator":": "}`
	compact  = `"x-guidance":{"whitespace_flexible":false,"item_separator":",","key_separator":":"}`
)

// Guided is a JSON Schema as it is given to llguidance, with options for how JSON is
// written. They come last: of two members of a name the grammar takes the later one,
// and a schema's own are not its author's to give.
func Guided(source []byte) string { return guided(source, guidance) }

func guided(source []byte, options string) string {
	source = bytes.TrimSpace(source)
	inner := bytes.TrimSpace(bytes.TrimPrefix(source, []byte("{")))
	if !bytes.HasPrefix(source, []byte("{")) || bytes.Equal(inner, []byte("}")) { // true, or empty
		return "{" + options + "}"
	}
	return string(source[:len(source)-1]) + "," + options + "}"
}

// Expression is a regular expression as a grammar writes it.
func Expression(source string) string {
	if source == "" {
		return literal("")
	}
	out := []byte{'/'}
	for i := 0; i < len(source); i++ {
		switch {
		case source[i] == '\\' && i+1 < len(source):
			out = append(out, '\\')
			i++
		case source[i] == '/':
			out = append(out, '\\')
		}
		out = append(out, source[i])
	}
	return string(append(out, '/'))
}

// Nested is a grammar within another one.
func Nested(source string) string { return "%lark {\n" + source + "\n}" }

// json is a value that the schema allows.
func (w *writer) json(source []byte) string {
	return w.once("json", "%json "+Guided(source))
}

// each is an alternative for each tool.
func (w *writer) each(write func(c *Callable) string) string {
	options := make([]string, len(w.answer.Tools))
	for i := range w.answer.Tools {
		options[i] = write(&w.answer.Tools[i])
	}
	return w.rule("call", strings.Join(options, " | "))
}

// objects are calls as JSON objects, with text around the name and behind the arguments.
func (w *writer) objects(before, between, after string) string {
	return w.each(func(c *Callable) string {
		return literal(before+c.Name+between) + " " + w.json(c.Schema) + " " + literal(after)
	})
}

// several is what may follow a call: the same again behind a text, where there may be
// more than one.
func (w *writer) several(between, call string) string {
	switch {
	case !w.answer.Several:
		return ""
	case between == "":
		return "(" + call + ")*"
	}
	return fmt.Sprintf("(%s %s)*", literal(between), call)
}

// sequence is items in their order, with a text between them, of which those that are
// optional may be left out.
func (w *writer) sequence(items []item, between string) string {
	first, rest := `""`, `""` // of those behind the ith, without and with one before
	for _, it := range slices.Backward(items) {
		led := it.expr
		if between != "" {
			led = literal(between) + " " + it.expr
		}
		if it.optional {
			first = w.rule("first", fmt.Sprintf("%s %s | %s", it.expr, rest, first))
			rest = w.rule("rest", fmt.Sprintf("(%s)? %s", led, rest))
		} else {
			first = w.rule("first", it.expr+" "+rest)
			rest = w.rule("rest", led+" "+rest)
		}
	}
	return first
}

// item is one of a sequence.
type item struct {
	expr     string
	optional bool
}

// start is the grammar's beginning in all formats but Harmony.
func (w *writer) start(f Format, calls form) string {
	call := strings.TrimSpace(calls.body + " " + calls.more)
	marked := call
	if calls.open != "" {
		marked = w.mark(calls.open) + " " + call
	}
	thoughts := w.reasoning(f)
	switch {
	case w.answer.Must:
		return thoughts + marked
	case w.answer.Response != nil:
		return fmt.Sprintf("%s(%s | %s)", thoughts, marked, w.json(w.answer.Response))
	}
	switch {
	case calls.open == "":
		words := w.rule("WORDS", "/(?s:.+)/ & ~/\\s*["+calls.bare+"](?s:.*)/")
		return fmt.Sprintf("%s(%s | %s)", thoughts, words, marked)
	case w.tags.tag(calls.open).isToken():
		words := w.rule("WORDS", "/(?s:.+)/")
		return fmt.Sprintf("%s(%s | %s? %s)", thoughts, words, words, marked)
	}
	and := ""
	if calls.like != "" {
		and = " & ~" + w.rule("LIKE", "/(?s:.*"+calls.like+".*)/")
	}
	words := w.rule("WORDS", "/(?s:.+)/"+w.without(calls.open)+and)
	return fmt.Sprintf("%s(%s | %s %s)", thoughts, words, w.until(calls.open, 0, -1, and), call)
}

// reasoning is what the model may think, or goes on to think, before it answers.
func (w *writer) reasoning(f Format) string {
	if f.thinking[0] == "" || w.answer.Thought {
		return ""
	}
	open, end := w.tags.tag(f.thinking[0]), w.tags.tag(f.thinking[1])
	thoughts := func() string { return w.until(f.thinking[1], 0, -1, "") + " /[ \\n]{1,3}/?" }
	switch {
	case w.tags.endsWith(w.answer.Prompt, open):
		return thoughts() + " "
	case !open.isToken() || !end.isToken() || w.tags.endsWith(w.answer.Prompt, end):
		return ""
	}
	return fmt.Sprintf("(%s %s)? ", w.mark(f.thinking[0]), thoughts())
}
