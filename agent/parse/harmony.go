package parse

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// harmony parses the format of GPT-OSS. An answer is a row of messages:
//
//	<|start|>assistant to=functions.f<|channel|>commentary<|constrain|>json<|message|>{…}<|call|>
//
// The first one's <|start|>assistant stands in the prompt already. Channel final is
// text and analysis reasoning; commentary is text too, what the model says before
// it calls. A message to a recipient is a call, on whatever channel.
//
// About one answer in twenty of the real model breaks the format, so much is
// understood that the specification does not have: the recipient stands in either
// part of the header; the channel is missing, doubled, or has more words behind it;
// <|message|> is missing. Only the tokens are marks: their characters are text.
type harmony struct {
	machine
	tags harmonyTags
	// prompted is the header that the prompt begins, promptedBody says that it ends
	// in the message's content.
	prompted     header
	promptedBody bool

	inHeader bool
	opened   bool // the header began with <|start|>, so its first word is a role
	header   header
	kind     Kind
	object   object // of a message that is a call
}

type harmonyTags struct {
	start, message, channel, constrain, end, ret, call *tag
	all, ends                                          []*tag
}

// header is what stands before a message's content.
type header struct {
	role, channel, recipient string
}

// maxHeader is how many bytes a header may have. What is longer has no <|message|>
// and is content: real ones have fewer than 100.
const maxHeader = 256

func newHarmony(tags *tagger, o Options) (*harmony, error) {
	t := harmonyTags{
		start: tags.tag("<|start|>"), message: tags.tag("<|message|>"), channel: tags.tag("<|channel|>"),
		constrain: tags.tag("<|constrain|>"), end: tags.tag("<|end|>"), ret: tags.tag("<|return|>"), call: tags.tag("<|call|>"),
	}
	t.ends = []*tag{t.end, t.ret, t.call, t.start}
	t.all = append([]*tag{t.message, t.channel, t.constrain}, t.ends...)
	h := &harmony{tags: t}
	h.known = tags.known
	for _, t := range t.all {
		if tags.err == nil && !t.isToken() {
			tags.err = fmt.Errorf("harmony: the model's vocabulary has no token %s", t.literal)
		}
	}
	if tags.err != nil {
		return nil, tags.err
	}
	h.readPrompt(tags, o.Prompt)
	h.reset()
	return h, nil
}

// readPrompt finds the header that the prompt leaves open.
func (h *harmony) readPrompt(tags *tagger, prompt []int32) {
	h.prompted = header{role: "assistant"}
	from := -1
	for i := len(prompt) - 1; i >= 0 && i >= len(prompt)-maxHeader; i-- {
		if prompt[i] == h.tags.start.id {
			from = i + 1
			break
		}
	}
	if from < 0 {
		return
	}
	var in input
	in.known = tags.known
	for _, id := range prompt[from:] {
		in.push(id, tags.tokenizer.TokenBytes(id))
	}
	at, _ := in.find([]*tag{h.tags.message}, 0)
	h.promptedBody = at >= 0
	if at < 0 {
		at = len(in.buf)
	}
	h.prompted = h.readHeader(&in, at, true)
}

func (h *harmony) reset() {
	h.machine.reset()
	h.inHeader, h.opened = true, false
	h.header = h.prompted
	if h.promptedBody {
		h.content()
	}
}

// Next implements Parser.
func (h *harmony) Next(text []byte) []Part { return h.Token(-1, text) }

// Token implements Parser.
func (h *harmony) Token(id int32, text []byte) []Part {
	h.parts = h.parts[:0]
	h.push(id, text)
	for h.step(false) {
	}
	return h.parts
}

// Reasons implements Parser.
func (h *harmony) Reasons() bool { return !h.inHeader && !h.calling && h.kind == Reasoning }

// Flush implements Parser. A call that the end of the answer ends is whole: the
// token for that is one of those that no parser sees.
func (h *harmony) Flush() []Part {
	h.parts = h.parts[:0]
	for h.step(true) {
	}
	if h.calling {
		h.give(len(h.buf))
	}
	h.reset()
	return h.parts
}

// step does one thing and reports whether there may be another one to do.
func (h *harmony) step(final bool) bool {
	switch {
	case len(h.buf) == 0:
		return false
	case h.inHeader:
		return h.readHead(final)
	case h.calling:
		return h.readCall()
	}
	at, t := h.find(h.tags.all, 0)
	switch {
	case t == nil:
		h.emit(h.kind, len(h.buf))
		return false
	case t == h.tags.message: // a slip without a meaning
		h.emit(h.kind, at)
		h.emit(Markup, len(t.literal))
	case slices.Contains(h.tags.ends, t):
		h.emit(h.kind, at)
		h.emit(Markup, len(t.literal))
		h.newHeader(t == h.tags.start)
	default: // the model forgot to end the message
		h.emit(h.kind, at)
		h.newHeader(false)
	}
	return true
}

// readCall goes on with a call, up to the mark that ends its message.
func (h *harmony) readCall() bool {
	at, t := h.find(h.tags.ends, 0)
	content := input{h.buf[:min(len(h.buf), maxCall)], h.marks, nil}
	if at >= 0 && at < maxCall {
		content.buf = h.buf[:at]
	}
	h.object.scan(&content)
	h.object.tell(&h.machine)
	switch n := len(content.buf); {
	case n == at:
		h.give(n)
		h.emit(Markup, len(t.literal))
		h.newHeader(t == h.tags.start)
	case n == maxCall:
		h.give(wholeRunes(content.buf))
		h.kind, h.calling = Markup, false
	default:
		return false
	}
	return true
}

// give gives out the call whose content has n bytes. A tool without arguments is
// called with none at all.
func (h *harmony) give(n int) {
	content := h.buf[:n]
	c := Call{Name: h.object.name}
	switch o := &h.object; {
	case spaceAfter(content, 0) == n:
		c.Arguments = json.RawMessage(`{}`)
	case o.end == 0:
		c.Problem = o.problem()
	case spaceAfter(content, o.end) < n:
		c.Problem = fmt.Sprintf("behind the JSON object, at byte %d, stands more", o.end)
	default:
		c = o.call(content[o.from:o.end])
	}
	h.finish(n, c, h.object.given)
}

// newHeader begins a header, behind <|start|> or where it should stand.
func (h *harmony) newHeader(opened bool) {
	h.inHeader, h.opened, h.calling = true, opened, false
	h.header = header{role: "assistant"}
}

// readHead reads a header up to <|message|>, or to where the content begins.
func (h *harmony) readHead(final bool) bool {
	at, t := h.find(append([]*tag{h.tags.message}, h.tags.ends...), 0)
	switch {
	case !h.mayBeHeader():
		h.missing(at)
	case at == 0 && t == h.tags.start:
		h.emit(Markup, len(t.literal))
		h.newHeader(true)
	case at == 0 && t != h.tags.message:
		h.emit(Markup, len(t.literal)) // an end without a message
	case t == h.tags.message && at < maxHeader:
		h.header = h.merge(h.readHeader(&h.input, at, h.opened))
		h.emit(Markup, at+len(t.literal))
		h.content()
	case at < 0 && !final && len(h.buf) < maxHeader:
		return false
	default:
		h.missing(at)
	}
	return true
}

// mayBeHeader reports whether what is there can be the beginning of a header. Text
// before any mark is a role behind <|start|>, and a recipient behind a prompt that
// has the role; else it is the content of a message without a header.
func (h *harmony) mayBeHeader() bool {
	if h.opened || len(h.marks) > 0 && h.marks[0].at == 0 {
		return true
	}
	text := h.buf
	if len(h.marks) > 0 {
		text = text[:h.marks[0].at]
	}
	words := strings.TrimLeft(string(text), " \n")
	return strings.HasPrefix(words, "to=") || strings.HasPrefix("to=", words)
}

// missing takes a header without <|message|>: what stands behind the name of the
// channel, or behind the role where there is none, is the content. End is where
// another mark ends it, or -1.
func (h *harmony) missing(end int) {
	if end < 0 {
		end = len(h.buf)
	}
	end = min(end, maxHeader)
	n := 0
	channel := len(h.tags.channel.literal)
	if at, _ := h.find([]*tag{h.tags.channel}, 0); at >= 0 && at+channel <= end {
		n = at + channel
		n += channelLen(h.buf[n:end])
	} else if h.opened {
		n = len("assistant")
		if !bytes.HasPrefix(h.buf[:end], []byte("assistant")) {
			n = 0
		}
	}
	if n == 0 && len(h.marks) > 0 && h.marks[0].at == 0 {
		n = len(h.marks[0].tag.literal)
	}
	h.header = h.merge(h.readHeader(&h.input, n, h.opened))
	h.emit(Markup, n)
	h.content()
}

// channelLen is the length of the channel's name, and of a recipient behind it,
// that text begins with.
func channelLen(text []byte) int {
	for _, name := range []string{"analysis", "commentary", "final"} {
		if !bytes.HasPrefix(text, []byte(name)) {
			continue
		}
		n := len(name)
		if rest, ok := bytes.CutPrefix(text[n:], []byte(" to=")); ok {
			n += len(" to=")
			for i := 0; i < len(rest) && isNameByte(rest[i]); i++ {
				n++
			}
		}
		return n
	}
	return 0
}

// merge fills in what the prompt has said already.
func (h *harmony) merge(read header) header {
	if read.role == "" {
		read.role = h.header.role
	}
	if read.channel == "" {
		read.channel = h.header.channel
	}
	if read.recipient == "" {
		read.recipient = h.header.recipient
	}
	return read
}

// readHeader reads the first end bytes of in as a header. Where one part stands
// twice the last counts.
func (h *harmony) readHeader(in *input, end int, opened bool) header {
	var r header
	from, part := 0, (*tag)(nil)
	take := func(to int) {
		words := strings.Fields(string(in.buf[from:to]))
		for i, word := range words {
			switch recipient, ok := strings.CutPrefix(word, "to="); {
			case ok && recipient == "" && i+1 < len(words):
				r.recipient = words[i+1]
			case ok:
				r.recipient = recipient
			case strings.HasPrefix(word, "functions.") && i > 0:
				r.recipient = word
			case i == 0 && part == nil && opened:
				r.role = word
			case i == 0 && part == h.tags.channel:
				r.channel = word
			}
		}
	}
	for _, m := range in.marks {
		if m.at < end && slices.Contains(h.tags.all, m.tag) {
			take(m.at)
			from, part = m.at+len(m.tag.literal), m.tag
		}
	}
	take(end)
	return r
}

// content begins the content of the message whose header is read.
func (h *harmony) content() {
	h.inHeader = false
	r := &h.header
	author, others := r.role, []string{"user", "system", "developer", "tool"}
	switch {
	case slices.Contains(others, author) || strings.HasPrefix(author, "functions.") || r.recipient == "assistant":
		h.kind = Markup // the model plays another's part
	case r.recipient != "" && r.recipient != "user" && r.recipient != "all":
		h.calling, h.begun = true, false
		h.object = newObject(0, true)
		h.object.name = strings.TrimPrefix(r.recipient, "functions.")
	case strings.HasPrefix(r.channel, "analysis"):
		h.kind = Reasoning
	default:
		h.kind = Text
	}
}

// harmony is the grammar's beginning in Harmony, behind a prompt that ends with the
// header's <|start|>assistant. One message is a call.
func (w *writer) harmony() string {
	channel, message := w.mark("<|channel|>"), w.mark("<|message|>")
	call := fmt.Sprintf("%s %s", channel, w.each(func(c *Callable) string {
		return fmt.Sprintf("%s %s %s %s %s", literal("commentary to=functions."+c.Name+" "), w.mark("<|constrain|>"), literal("json"), message,
			w.once("json", "%json "+guided(c.Schema, compact)))
	}))
	if t := w.tags.tag("<|call|>"); !slices.Contains(w.answer.Stops, t.id) {
		call += " " + w.mark("<|call|>")
	}
	if w.answer.Must {
		return w.before("analysis") + call
	}
	final := w.once("TEXT", "/(?s:.+)/")
	if w.answer.Response != nil {
		final = w.json(w.answer.Response)
	}
	return fmt.Sprintf(`%s(%s%s | %s "final" %s %s)`, w.before("analysis"), w.before("commentary"), call, channel, message, final)
}

// before is a message of a channel that may come first.
func (w *writer) before(channel string) string {
	if channel == "analysis" && w.answer.Thought {
		return ""
	}
	return fmt.Sprintf(`(%s "%s" %s %s %s "assistant")? `, w.mark("<|channel|>"), channel, w.mark("<|message|>"), w.until("<|end|>", 0, -1, ""), w.mark("<|start|>"))
}
