package prompt

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/schema"
)

// lacking are templates, each with what it cannot show, and the chat that it gets
// in its place.
func TestFit(t *testing.T) {
	system := func(text string) schema.Message { return said(schema.RoleSystem, text) }
	call := func(id string) schema.ToolCall {
		return schema.ToolCall{CallID: id, Name: "weather", Arguments: json.RawMessage(`{"z": 1.0}`)}
	}
	calls := schema.Message{Role: schema.RoleAssistant, Content: schema.TextContent("Two."), ToolCalls: []schema.ToolCall{call("a"), call("b")}}
	answer := func(id, text string) schema.Message {
		return schema.Message{Role: schema.RoleTool, ToolCallID: id, Content: schema.TextContent(text)}
	}
	tools := []schema.ToolSpec{weather}
	// all shows everything as JSON.
	all := func(context []byte) (string, error) { return string(context), nil }
	without := func(what string) rawTemplate {
		return func(context []byte) (string, error) {
			if strings.Contains(string(context), what) {
				return "", errors.New("no " + what)
			}
			return all(context)
		}
	}
	for _, c := range []struct {
		name string
		tmpl rawTemplate
		chat Chat
		want string // of the messages
	}{
		{"everything is shown", all, Chat{Messages: []schema.Message{system("s"), user("u"), system("t"), user("v")}},
			`[{"role":"system","content":"s"},{"role":"user","content":"u"},{"role":"system","content":"t"},{"role":"user","content":"v"}]`},
		{"developer", all, Chat{Messages: []schema.Message{said(schema.RoleDeveloper, "d"), system("s"), user("u")}}, `[{"role":"system","content":"d\n\ns"},{"role":"user","content":"u"}]`},
		{"no system", without(`"system"`), Chat{Messages: []schema.Message{system("s"), user("u"), assistant("a"), system("t")}},
			`[{"role":"user","content":"s\n\nu"},{"role":"assistant","content":"a"},{"role":"user","content":"t"}]`},
		{"system at the beginning only", without(`},{"role":"system"`), Chat{Messages: []schema.Message{system("s"), user("u"), system("t"), user("v")}},
			`[{"role":"system","content":"s"},{"role":"user","content":"u"},{"role":"user","content":"t\n\nv"}]`},
		{"roles alternate", func(context []byte) (string, error) {
			if strings.Count(string(context), `"user"`) > 1 && !strings.Contains(string(context), "assistant") {
				return "", errors.New("no")
			}
			return all(context)
		}, Chat{Messages: []schema.Message{user("u"), user("v"), assistant("a"), assistant("b"), user("w")}},
			`[{"role":"user","content":"u\n\nv"},{"role":"assistant","content":"a\n\nb"},{"role":"user","content":"w"}]`},
		{"one call a message", func(context []byte) (string, error) {
			if strings.Contains(string(context), `},{"type":"function","id"`) {
				return "", errors.New("no")
			}
			return all(context)
		}, Chat{Tools: tools, Messages: []schema.Message{user("u"), calls, answer("b", "2"), answer("a", "1")}},
			`[{"role":"user","content":"u"},{"role":"assistant","content":"Two.","tool_calls":[{"type":"function","id":"a","function":{"name":"weather","arguments":{"z": 1.0}}}]},{"role":"tool","content":"1","tool_call_id":"a"},` +
				`{"role":"assistant","content":"","tool_calls":[{"type":"function","id":"b","function":{"name":"weather","arguments":{"z": 1.0}}}]},{"role":"tool","content":"2","tool_call_id":"b"}]`},
		{"arguments as a string", without(`"arguments":{`), Chat{Messages: []schema.Message{user("u"), calls}},
			`[{"role":"user","content":"u"},{"role":"assistant","content":"Two.","tool_calls":[{"type":"function","id":"a","function":{"name":"weather","arguments":"{\"z\": 1.0}"}},{"type":"function","id":"b","function":{"name":"weather","arguments":"{\"z\": 1.0}"}}]}]`},
		{"ids of nine characters", without(`"zqcall.`), Chat{Messages: []schema.Message{user("u"), calls, answer("a", "1")}},
			`[{"role":"user","content":"u"},{"role":"assistant","content":"Two.","tool_calls":[{"type":"function","id":"` + form{shortIDs: true}.id("a") + `","function":{"name":"weather","arguments":{"z": 1.0}}},{"type":"function","id":"` + form{shortIDs: true}.id("b") + `","function":{"name":"weather","arguments":{"z": 1.0}}}]},{"role":"tool","content":"1","tool_call_id":"` + form{shortIDs: true}.id("a") + `"}]`},
		{"content as parts", without(`"content":"`), Chat{Messages: []schema.Message{user("u")}}, `[{"role":"user","content":[{"type":"text","text":"u"}]}]`},
		{"no tools", without(`"tool_calls"`), Chat{Messages: []schema.Message{user("u"), {Role: schema.RoleAssistant, Content: schema.Content{{Type: schema.PartReasoning, Text: "r"}}, ToolCalls: calls.ToolCalls[:1]}, answer("a", "1")}},
			`[{"role":"user","content":"u"},{"role":"assistant","content":"<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"z\": 1.0}}\n</tool_call>"},{"role":"user","content":"<tool_response>\n1\n</tool_response>"}]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRenderer(t, c.tmpl)
			fitted, f, err := r.fit(c.chat)
			require.NoError(t, err)
			got, _, _ := strings.Cut(string(variablesOf(fitted, f).json(nil)), `,"tools":`)
			require.Equal(t, `{"messages":`+c.want, got)
			_, err = r.RenderChat(c.chat)
			require.NoError(t, err)
		})
	}
}

func TestContextOfTools(t *testing.T) {
	got := string(Context(Chat{
		Tools: []schema.ToolSpec{weather, {Name: "bare"}}, Effort: EffortHigh,
		Messages: []schema.Message{{Role: schema.RoleAssistant, Content: schema.Content{{Type: schema.PartReasoning, Text: "r"}, {Type: schema.PartText, Text: "t"}}}},
	}))
	require.Equal(t, `{"messages":[{"role":"assistant","content":"t","reasoning_content":"r"}],"tools":[`+
		`{"type":"function","function":{"name":"weather","description":"The weather.","parameters":{"type":"object","properties":{"z":{},"a":{}}}}},`+
		`{"type":"function","function":{"name":"bare","description":"","parameters":{"type":"object","properties":{}}}}],"documents":null,"add_generation_prompt":true,`+
		`"enable_thinking":true,"thinking":true,"reasoning_effort":"high"}`, got)
	require.Contains(t, string(Context(Chat{Effort: EffortOff})), `"enable_thinking":false,"thinking":false}`)
	var v variables
	v.value("/x", []byte(`{"a\"b": "c\\", "cut": "of`))
	require.Equal(t, `{"a\"b": "c\\", "cut": "of`, string(v.json(nil)))
}

func TestRenderChatRefuses(t *testing.T) {
	_, err := newRenderer(t, nil).RenderChat(Chat{})
	require.ErrorContains(t, err, "no chat template")
	_, err = newRenderer(t, chatML).RenderChat(Chat{Messages: []schema.Message{user("a"), {Role: "narrator"}}})
	require.ErrorContains(t, err, "/messages/1/role")
}

// TestTriedOnce: a template is tried a bounded number of times, and only once; one
// that always fails as well.
func TestTriedOnce(t *testing.T) {
	for name, tmpl := range map[string]rawTemplate{
		"shows all": func(context []byte) (string, error) { return string(context), nil },
		"fails":     func([]byte) (string, error) { return "", errors.New("out of fuel") },
		"empty":     func([]byte) (string, error) { return "", nil },
	} {
		renders := 0
		r := newRenderer(t, rawTemplate(func(context []byte) (string, error) {
			renders++
			return tmpl(context)
		}))
		for range 3 {
			_, err := r.RenderChat(Chat{Messages: []schema.Message{user("a")}, Tools: []schema.ToolSpec{weather}})
			require.Equal(t, name == "fails", err != nil)
		}
		require.LessOrEqual(t, renders, 16+3, name)
	}
}
