package prompt

import (
	"slices"
	"strings"

	"harmonyd/schema"
)

// Templates differ in what they can show, and none says so: what it cannot show it
// leaves out or refuses. So a template is tried, once, on small chats of words that
// nothing else has in it. What it lacks is then put into what it has:
//
//   - no system messages: the text stands in front of the next message of the user;
//   - system messages at the beginning only: later ones do so;
//   - roles that must alternate: neighbours of one role become one message;
//   - no tools, calls or results: WithTools puts them into texts, in Hermes' format;
//   - one call a message at most: each call has a message of its own, followed by
//     its result;
//   - arguments as a string, content as parts, ids of nine characters: that shape.
//
// A message of the developer is one of the system: no template of those that come
// through here knows the difference.

// abilities are what a template can show.
type abilities struct {
	form
	system, laterSystem, repeated bool
	tools                         bool // with calls and results
	parallel                      bool
}

// The words of the trial chats.
const (
	tried      = "zquser"
	triedFirst = "zqsystem"
	triedLater = "zqlater"
	triedTool  = "zqtool"
	triedKey   = "zqkey"
	triedValue = "zqvalue"
)

func said(role schema.Role, text string) schema.Message {
	return schema.Message{Role: role, Content: schema.TextContent(text)}
}

// abilities tries the template.
func (r *Renderer) abilities() abilities {
	r.once.Do(func() { r.able = r.try() })
	return r.able
}

// shows reports whether the template renders a chat with all of words in it.
func (r *Renderer) shows(f form, c Chat, words ...string) bool {
	text, err := r.render(variablesOf(c, f), c.Now)
	return err == nil && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) })
}

func (r *Renderer) try() (a abilities) {
	user := said(schema.RoleUser, tried)
	plain := Chat{Messages: []schema.Message{user}}
	a.parts = !r.shows(form{}, plain, tried) && r.shows(form{parts: true}, plain, tried)
	answer := said(schema.RoleAssistant, "zqanswer")
	messages := func(m ...schema.Message) Chat { return Chat{Messages: m} }
	a.system = r.shows(a.form, messages(said(schema.RoleSystem, triedLater), user), tried, triedLater)
	a.laterSystem = a.system && r.shows(a.form,
		messages(said(schema.RoleSystem, triedFirst), user, answer, said(schema.RoleSystem, triedLater), user), tried, triedFirst, triedLater)
	a.repeated = r.shows(a.form, messages(user, said(schema.RoleUser, triedLater)), tried, triedLater)
	for _, f := range []form{a.form, {a.argumentText, a.parts, true}} {
		if a.tools = r.tryCalls(&f, 1); a.tools {
			a.form = f
			a.parallel = r.tryCalls(&f, 2)
			break
		}
	}
	return a
}

// tryCalls reports whether the template shows tools, n calls of one answer and their
// results, and finds out how it wants the arguments.
func (r *Renderer) tryCalls(f *form, n int) bool {
	tool := schema.ToolSpec{
		Name: triedTool, Description: "Tries.",
		InputSchema: []byte(`{"type":"object","properties":{"` + triedKey + `":{"type":"string","description":"A word."}},"required":["` + triedKey + `"]}`),
	}
	c := Chat{Tools: []schema.ToolSpec{tool}, Messages: []schema.Message{said(schema.RoleUser, tried), {Role: schema.RoleAssistant}}}
	words := []string{tried, triedTool}
	for i := range n {
		id, digit := "zqcall.", string(rune('1'+i))
		call := schema.ToolCall{CallID: id + digit, Name: triedTool, Arguments: []byte(`{"` + triedKey + `":"` + triedValue + digit + `"}`)}
		c.Messages[1].ToolCalls = append(c.Messages[1].ToolCalls, call)
		result := said(schema.RoleTool, "zqresult"+digit)
		result.Name, result.ToolCallID = triedTool, call.CallID
		c.Messages = append(c.Messages, result)
		words = append(words, triedValue+digit, "zqresult"+digit)
	}
	if !r.shows(*f, Chat{Tools: c.Tools, Messages: c.Messages[:1]}, tried, triedTool) {
		return false
	}
	// A template that writes an object as Python does wants a string.
	if r.shows(*f, c, words...) && !r.shows(*f, c, "'"+triedKey+"'") {
		return true
	}
	text := *f
	text.argumentText = true
	if r.shows(text, c, words...) {
		*f = text
		return true
	}
	return false
}

// RenderChat implements ChatRenderer. What the template cannot show is put into what
// it can.
func (r *Renderer) RenderChat(c Chat) ([]int32, error) {
	if r.template == nil {
		return nil, schema.Unsupported("messages", "the model has no chat template; send prompt instead of messages")
	}
	for i := range c.Messages {
		// Places in errors are those of the messages that came.
		if _, err := textOf(&c.Messages[i], i); err != nil {
			return nil, err
		}
	}
	fitted, f, err := r.fit(c)
	if err != nil {
		return nil, err
	}
	return r.encode(variablesOf(fitted, f), c.Now)
}

// fit puts a chat into the shape of the template.
func (r *Renderer) fit(c Chat) (Chat, form, error) {
	calls := len(c.Tools) > 0 || slices.ContainsFunc(c.Messages, func(m schema.Message) bool {
		return len(m.ToolCalls) > 0 || m.Role == schema.RoleTool
	})
	a := r.abilities()
	c.Messages = slices.Clone(c.Messages)
	if c.Identity != "" {
		c.Messages = slices.Insert(c.Messages, 0, said(schema.RoleSystem, c.Identity))
	}
	for i := range c.Messages {
		if c.Messages[i].Role == schema.RoleDeveloper {
			c.Messages[i].Role = schema.RoleSystem
		}
	}
	switch {
	case calls && !a.tools:
		// Reasoning between calls has no place in texts.
		for i := range c.Messages {
			c.Messages[i].Content = schema.TextContent(c.Messages[i].Content.Text())
		}
		var err error
		if c.Messages, err = WithTools(c.Messages, c.Tools); err != nil {
			return Chat{}, form{}, err
		}
		c.Tools = nil
	case calls && !a.parallel:
		c.Messages = oneByOne(c.Messages)
	}
	c.Messages = placeSystem(c.Messages, a)
	if !a.repeated {
		c.Messages = alternate(c.Messages)
	}
	return c, a.form, nil
}

// oneByOne gives each call a message of its own, before its result. The text and
// the reasoning stand before the first.
func oneByOne(messages []schema.Message) []schema.Message {
	var out []schema.Message
	taken := map[int]bool{}
	for i, m := range messages {
		if len(m.ToolCalls) < 2 {
			if !taken[i] {
				out = append(out, m)
			}
			continue
		}
		for k, call := range m.ToolCalls {
			one := schema.Message{Role: m.Role, ToolCalls: []schema.ToolCall{call}}
			if k == 0 {
				one.Content = m.Content
			}
			out = append(out, one)
			for j := i + 1; j < len(messages) && messages[j].Role == schema.RoleTool; j++ {
				if messages[j].ToolCallID == call.CallID && !taken[j] {
					taken[j] = true
					out = append(out, messages[j])
				}
			}
		}
	}
	return out
}

// placeSystem joins the system messages at the beginning, and puts those that the
// template does not show into the next message of the user, or a new one at the end.
func placeSystem(messages []schema.Message, a abilities) []schema.Message {
	var out []schema.Message
	var waiting []string
	for _, m := range messages {
		last := len(out) - 1
		switch {
		case m.Role == schema.RoleSystem && last == 0 && out[0].Role == schema.RoleSystem && len(waiting) == 0:
			out[0] = joined(out[0], m)
			continue
		case m.Role == schema.RoleSystem && (!a.system || last >= 0 && !a.laterSystem):
			waiting = append(waiting, m.Content.Text())
			continue
		case m.Role == schema.RoleUser && len(waiting) > 0:
			m = said(schema.RoleUser, strings.Join(append(waiting, m.Content.Text()), "\n\n"))
			waiting = nil
		}
		out = append(out, m)
	}
	if len(waiting) > 0 {
		out = append(out, said(schema.RoleUser, strings.Join(waiting, "\n\n")))
	}
	return out
}

// alternate joins neighbours of the role user, and of the role assistant where
// neither calls.
func alternate(messages []schema.Message) []schema.Message {
	var out []schema.Message
	for _, m := range messages {
		last := len(out) - 1
		if last >= 0 && out[last].Role == m.Role && m.Role != schema.RoleTool && len(m.ToolCalls)+len(out[last].ToolCalls) == 0 {
			out[last] = joined(out[last], m)
			continue
		}
		out = append(out, m)
	}
	return out
}

// joined is one message with the texts of both.
func joined(a, b schema.Message) schema.Message {
	content := schema.TextContent(a.Content.Text() + "\n\n" + b.Content.Text())
	if reasoning := a.Content.Reasoning() + b.Content.Reasoning(); reasoning != "" {
		content = append(schema.Content{{Type: schema.PartReasoning, Text: reasoning}}, content...)
	}
	a.Content = content
	return a
}
