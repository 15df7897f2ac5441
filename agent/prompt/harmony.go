package prompt

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"harmonyd/schema"
)

// Harmony renders chats in the format of GPT-OSS. It composes token ids: nothing
// that others wrote can become a control token, because only this file writes
// those.
//
// The messages at the beginning of role system and developer are the developer
// message, with the tools; the system message is the format's own. An answer that
// calls says its text as a preamble on commentary, one that does not on final.
// Reasoning is shown to the model while it works on an answer, between its calls,
// and dropped once that is there: the model was trained so.
type Harmony struct {
	tokenizer Tokenizer
	options   HarmonyOptions

	start, message, channel, constrain, end, call int32
}

// HarmonyOptions are what the system message says.
type HarmonyOptions struct {
	// Identity is its first line; empty is what the model was trained with. Who
	// the model is to be stands better in the developer message.
	Identity string
	// KnowledgeCutoff is a month; empty is the model's own.
	KnowledgeCutoff string
	// Now is the clock of the current date; nil leaves the date out.
	Now func() time.Time
}

// The default system message of openai-harmony.
const (
	harmonyIdentity = "You are ChatGPT, a large language model trained by OpenAI."
	harmonyCutoff   = "2024-06"
)

// NewHarmony returns a Harmony over a tokenizer, which must have the tokens of the
// format.
func NewHarmony(tokenizer Tokenizer, o HarmonyOptions) (*Harmony, error) {
	if o.Identity == "" {
		o.Identity = harmonyIdentity
	}
	if o.KnowledgeCutoff == "" {
		o.KnowledgeCutoff = harmonyCutoff
	}
	h := &Harmony{tokenizer: tokenizer, options: o}
	for literal, id := range map[string]*int32{
		"<|start|>": &h.start, "<|message|>": &h.message, "<|channel|>": &h.channel,
		"<|constrain|>": &h.constrain, "<|end|>": &h.end, "<|call|>": &h.call,
	} {
		if !slices.Contains(tokenizer.SpecialLiterals(), literal) {
			return nil, fmt.Errorf("harmony: the vocabulary has no token %s", literal)
		}
		ids, err := tokenizer.Encode(literal, true)
		if err != nil {
			return nil, fmt.Errorf("harmony: token %s: %w", literal, err)
		}
		if len(ids) != 1 {
			return nil, fmt.Errorf("harmony: %s is %d tokens, want 1", literal, len(ids))
		}
		*id = ids[0]
	}
	return h, nil
}

// harmonyMessage is one message of the format. A header without a recipient or a
// channel has none.
type harmonyMessage struct {
	author, recipient, channel string
	json                       bool // the content is constrained to JSON
	content                    string
}

// RenderChat implements ChatRenderer.
func (h *Harmony) RenderChat(c Chat) ([]int32, error) {
	messages, err := h.messages(c)
	if err != nil {
		return nil, err
	}
	w := harmonyWriter{h: h}
	for i := range messages {
		w.write(&messages[i])
	}
	w.ids = append(w.ids, h.start)
	w.text("assistant")
	return w.ids, w.err
}

// Render is RenderChat without tools.
func (h *Harmony) Render(messages []schema.Message) ([]int32, error) {
	return h.RenderChat(Chat{Messages: messages})
}

// messages puts a chat into the format.
func (h *Harmony) messages(c Chat) ([]harmonyMessage, error) {
	out := []harmonyMessage{{author: "system", content: h.system(c)}}
	rest, instructions := c.Messages, []string(nil)
	for len(rest) > 0 && (rest[0].Role == schema.RoleSystem || rest[0].Role == schema.RoleDeveloper) {
		text, err := textOf(&rest[0], len(c.Messages)-len(rest))
		if err != nil {
			return nil, err
		}
		instructions, rest = append(instructions, text), rest[1:]
	}
	if len(instructions) > 0 || len(c.Tools) > 0 {
		out = append(out, harmonyMessage{author: "developer", content: developer(instructions, c.Tools)})
	}
	// Reasoning before the last final is dropped.
	final := 0
	for i, m := range c.Messages {
		if m.Role == schema.RoleAssistant && len(m.ToolCalls) == 0 {
			final = i + 1
		}
	}
	for i := len(c.Messages) - len(rest); i < len(c.Messages); i++ {
		var err error
		if out, err = h.add(out, c.Messages[:i+1], i >= final); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// add adds the last of messages.
func (h *Harmony) add(out []harmonyMessage, messages []schema.Message, reasons bool) ([]harmonyMessage, error) {
	i := len(messages) - 1
	m := &messages[i]
	text, err := textOf(m, i)
	if err != nil {
		return nil, err
	}
	switch m.Role {
	case schema.RoleSystem, schema.RoleDeveloper:
		return append(out, harmonyMessage{author: "developer", content: developer([]string{text}, nil)}), nil
	case schema.RoleUser:
		return append(out, harmonyMessage{author: "user", content: text}), nil
	case schema.RoleTool:
		name := toolOf(messages)
		if name == "" {
			return nil, schema.InvalidParam(fmt.Sprintf("/messages/%d/name", i), "is empty, and no call before has the toolCallId %q", m.ToolCallID)
		}
		return append(out, harmonyMessage{author: "functions." + name, recipient: "assistant", channel: "commentary", content: text}), nil
	}
	if reasoning := m.Content.Reasoning(); reasoning != "" && reasons {
		out = append(out, harmonyMessage{author: "assistant", channel: "analysis", content: reasoning})
	}
	if len(m.ToolCalls) == 0 {
		return append(out, harmonyMessage{author: "assistant", channel: "final", content: text}), nil
	}
	if text != "" {
		out = append(out, harmonyMessage{author: "assistant", channel: "commentary", content: text})
	}
	for _, call := range m.ToolCalls {
		out = append(out, harmonyMessage{
			author: "assistant", recipient: "functions." + call.Name, channel: "commentary", json: true, content: string(call.Arguments),
		})
	}
	return out, nil
}

// textOf returns the text of the ith message, which may have reasoning beside it.
func textOf(m *schema.Message, i int) (string, error) {
	at := fmt.Sprintf("/messages/%d", i)
	switch m.Role {
	case schema.RoleSystem, schema.RoleDeveloper, schema.RoleUser, schema.RoleAssistant, schema.RoleTool:
	default:
		return "", schema.InvalidParam(at+"/role", "got %q, want system, developer, user, assistant or tool", m.Role)
	}
	for j := range m.Content {
		t := m.Content[j].Type
		if t != schema.PartText && (t != schema.PartReasoning || m.Role != schema.RoleAssistant) {
			return "", schema.Unsupported("content part "+string(t), "%s/content/%d: parts of type %q are not supported by this model", at, j, t)
		}
	}
	return m.Content.Text(), nil
}

// toolOf returns the tool whose result the last of messages is, by its own name or
// that of the call that it answers.
func toolOf(messages []schema.Message) string {
	last := &messages[len(messages)-1]
	if last.Name != "" {
		return last.Name
	}
	for _, m := range slices.Backward(messages) {
		for _, c := range m.ToolCalls {
			if c.CallID == last.ToolCallID {
				return c.Name
			}
		}
	}
	return ""
}

// system is the content of the system message.
func (h *Harmony) system(c Chat) string {
	var b strings.Builder
	b.WriteString(cmp.Or(c.Identity, h.options.Identity) + "\nKnowledge cutoff: " + cmp.Or(c.KnowledgeCutoff, h.options.KnowledgeCutoff))
	date := c.Date
	if date == "" && h.options.Now != nil {
		date = h.options.Now().Format(time.DateOnly)
	}
	if date != "" {
		b.WriteString("\nCurrent date: " + date)
	}
	effort := c.Effort
	switch effort {
	case EffortDefault:
		effort = EffortMedium
	case EffortOff: // these models cannot but reason
		effort = EffortLow
	}
	b.WriteString("\n\nReasoning: " + string(effort))
	b.WriteString("\n\n# Valid channels: analysis, commentary, final. Channel must be included for every message.")
	if len(c.Tools) > 0 {
		b.WriteString("\nCalls to these tools must go to the commentary channel: 'functions'.")
	}
	return b.String()
}

// developer is the content of the developer message.
func developer(instructions []string, tools []schema.ToolSpec) string {
	var b strings.Builder
	if len(instructions) > 0 {
		b.WriteString("# Instructions\n\n" + strings.Join(instructions, "\n\n"))
	}
	if len(tools) > 0 {
		if b.Len() > 0 {
			b.WriteString("\n\n")
		}
		declareTools(&b, tools)
	}
	return b.String()
}

// harmonyWriter writes messages as ids, and keeps the first error.
type harmonyWriter struct {
	h   *Harmony
	ids []int32
	err error
}

// text writes ordinary text. Openai-harmony encodes each piece of a header alone,
// and so does this: together they could become other tokens.
func (w *harmonyWriter) text(s string) {
	if w.err != nil || s == "" {
		return
	}
	ids, err := w.h.tokenizer.Encode(s, false)
	w.ids, w.err = append(w.ids, ids...), err
}

func (w *harmonyWriter) write(m *harmonyMessage) {
	w.ids = append(w.ids, w.h.start)
	w.text(m.author)
	if m.recipient != "" {
		w.text(" to=" + m.recipient)
	}
	if m.channel != "" {
		w.ids = append(w.ids, w.h.channel)
		w.text(m.channel)
	}
	if m.json {
		w.text(" ")
		w.ids = append(w.ids, w.h.constrain)
		w.text("json")
	}
	w.ids = append(w.ids, w.h.message)
	w.text(m.content)
	if m.author == "assistant" && m.recipient != "" {
		w.ids = append(w.ids, w.h.call)
	} else {
		w.ids = append(w.ids, w.h.end)
	}
}
