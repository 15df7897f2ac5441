package prompt

import (
	"fmt"
	"time"

	"harmonyd/schema"
)

// piece is a part of the object that a template reads: JSON that is ours, or, with
// a path, a string that others wrote. The path is its place in params.
type piece struct{ json, path, text string }

// variables are the object that a template reads. Its members are those that
// transformers gives to every template, so that a template may ask whether tools
// are there; the tokenizer's own tokens are added by Template.
type variables []piece

// json appends the object.
func (v variables) json(dst []byte) []byte {
	for i := range v {
		if v[i].path == "" {
			dst = append(dst, v[i].json...)
		} else {
			dst = schema.AppendString(dst, v[i].text)
		}
	}
	return dst
}

func (v *variables) raw(json string) {
	if last := len(*v) - 1; last >= 0 && (*v)[last].path == "" {
		(*v)[last].json += json
		return
	}
	*v = append(*v, piece{json: json})
}

func (v *variables) foreign(path, text string) { *v = append(*v, piece{path: path, text: text}) }

// value adds JSON that others wrote: each string in it is theirs. The order of keys
// and the form of numbers stay as they are.
func (v *variables) value(path string, json []byte) {
	from := 0
	for i := 0; i < len(json); i++ {
		if json[i] != '"' {
			continue
		}
		end := i + 1
		for end < len(json) && json[end] != '"' {
			if json[end] == '\\' {
				end++
			}
			end++
		}
		if end >= len(json) { // cut off: nobody else takes it for a string
			break
		}
		v.raw(string(json[from:i]))
		v.foreign(path, schema.Unquote(json[i:end+1]))
		i = end
		from = end + 1
	}
	v.raw(string(json[from:]))
}

// form is the shape in which a template wants what transformers has no one shape
// for.
type form struct {
	// argumentText: the arguments of calls are a string of JSON, not an object.
	argumentText bool
	// parts: content is a list of parts, not a string.
	parts bool
	// shortIDs: ids of calls have nine letters and digits, as Mistral's.
	shortIDs bool
}

// variablesOf puts a chat into the shape of transformers' apply_chat_template.
func variablesOf(c Chat, f form) variables {
	var v variables
	v.raw(`{"messages":[`)
	for i := range c.Messages {
		if i > 0 {
			v.raw(`,`)
		}
		v.message(&c.Messages[i], fmt.Sprintf("/messages/%d", i), f)
	}
	v.raw(`],"tools":`)
	if len(c.Tools) == 0 {
		v.raw(`null`)
	} else {
		for i := range c.Tools {
			v.raw([]string{"[", ","}[min(i, 1)])
			v.tool(&c.Tools[i], fmt.Sprintf("/tools/%d", i))
		}
		v.raw(`]`)
	}
	v.raw(`,"documents":null,"add_generation_prompt":true`)
	switch c.Effort {
	case EffortDefault:
	case EffortOff:
		v.raw(`,"enable_thinking":false,"thinking":false`)
	default:
		v.raw(`,"enable_thinking":true,"thinking":true,"reasoning_effort":"` + string(c.Effort) + `"`)
	}
	if c.Date != "" {
		v.raw(`,"date_string":`)
		v.foreign("/settings/conversation_start_date", longDate(c.Date))
	}
	v.raw(`}`)
	return v
}

// longDate is a date in the form in which Llama's templates show one, or as it is.
func longDate(date string) string {
	at, err := time.Parse(time.DateOnly, date)
	if err != nil {
		return date
	}
	return at.Format("02 Jan 2006")
}

// message adds one message.
func (v *variables) message(m *schema.Message, at string, f form) {
	v.raw(`{"role":"` + string(m.Role) + `","content":`)
	if f.parts {
		v.raw(`[{"type":"text","text":`)
		v.foreign(at+"/content", m.Content.Text())
		v.raw(`}]`)
	} else {
		v.foreign(at+"/content", m.Content.Text())
	}
	if reasoning := m.Content.Reasoning(); reasoning != "" {
		v.raw(`,"reasoning_content":`)
		v.foreign(at+"/content", reasoning)
	}
	for i := range m.ToolCalls {
		call := &m.ToolCalls[i]
		v.raw([]string{`,"tool_calls":[{"type":"function","id":`, `,{"type":"function","id":`}[min(i, 1)])
		v.foreign(at+"/toolCalls", f.id(call.CallID))
		v.raw(`,"function":{"name":`)
		v.foreign(at+"/toolCalls", call.Name)
		v.raw(`,"arguments":`)
		if f.argumentText {
			v.foreign(at+"/toolCalls", string(call.Arguments))
		} else {
			v.value(at+"/toolCalls", call.Arguments)
		}
		v.raw(`}}`)
	}
	if len(m.ToolCalls) > 0 {
		v.raw(`]`)
	}
	if m.Name != "" {
		v.raw(`,"name":`)
		v.foreign(at+"/name", m.Name)
	}
	if m.ToolCallID != "" {
		v.raw(`,"tool_call_id":`)
		v.foreign(at+"/toolCallId", f.id(m.ToolCallID))
	}
	v.raw(`}`)
}

// id is a call's id in the form that the template takes.
func (f form) id(id string) string {
	if !f.shortIDs {
		return id
	}
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	sum := uint64(14695981039346656037) // FNV-1a: the same call has the same id in every round
	for _, c := range []byte(id) {
		sum = (sum ^ uint64(c)) * 1099511628211
	}
	short := make([]byte, 9)
	for i := range short {
		short[i] = letters[sum%uint64(len(letters))]
		sum /= uint64(len(letters))
	}
	return string(short)
}

// tool adds one tool.
func (v *variables) tool(t *schema.ToolSpec, at string) {
	v.raw(`{"type":"function","function":{"name":`)
	v.foreign(at+"/name", t.Name)
	v.raw(`,"description":`)
	v.foreign(at+"/description", t.Description)
	v.raw(`,"parameters":`)
	if len(t.InputSchema) == 0 {
		v.raw(`{"type":"object","properties":{}}`)
	} else {
		v.value(at+"/inputSchema", t.InputSchema)
	}
	v.raw(`}}`)
}

// Context returns the object that a template reads for a chat, in the shape that
// transformers' apply_chat_template gives it.
func Context(c Chat) []byte { return variablesOf(c, form{}).json(nil) }
