package prompt

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/schema"
)

var weather = schema.ToolSpec{Name: "weather", Description: "The weather.", InputSchema: json.RawMessage(`{"type":"object","properties":{"z":{},"a":{}}}`)}

func result(text string) schema.Message {
	return schema.Message{Role: schema.RoleTool, ToolCallID: "c", Name: "weather", Content: schema.TextContent(text)}
}

func calling(text string, arguments ...string) schema.Message {
	m := assistant(text)
	for _, a := range arguments {
		m.ToolCalls = append(m.ToolCalls, schema.ToolCall{CallID: "c", Name: "weather", Arguments: json.RawMessage(a)})
	}
	return m
}

func TestWithTools(t *testing.T) {
	without := []schema.Message{user("a"), result("b")}
	same, err := WithTools(without, nil)
	require.NoError(t, err)
	require.Equal(t, without, same)

	got, err := WithTools([]schema.Message{
		user("Rain?"), calling("Let me see.", `{"z":1,"a":2}`, `{}`), result("yes"), result("no"), calling("", `{}`), result("maybe"), assistant("So so."),
	}, []schema.ToolSpec{weather})
	require.NoError(t, err)
	require.Equal(t, schema.RoleSystem, got[0].Role)
	require.Contains(t, got[0].Content.Text(), `{"type":"function","function":{"name":"weather","description":"The weather.","parameters":{"type":"object","properties":{"z":{},"a":{}}}}}`+"\n</tools>")
	require.Equal(t, []schema.Message{
		user("Rain?"),
		assistant("Let me see.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"z\":1,\"a\":2}}\n</tool_call>\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {}}\n</tool_call>"),
		user("<tool_response>\nyes\n</tool_response>\n<tool_response>\nno\n</tool_response>"),
		assistant("<tool_call>\n{\"name\": \"weather\", \"arguments\": {}}\n</tool_call>"),
		user("<tool_response>\nmaybe\n</tool_response>"),
		assistant("So so."),
	}, got[1:])

	system := schema.Message{Role: schema.RoleSystem, Content: schema.TextContent("Be brief.")}
	got, err = WithTools([]schema.Message{system, user("a")}, []schema.ToolSpec{weather})
	require.NoError(t, err)
	require.Len(t, got, 2)
	require.Contains(t, got[0].Content.Text(), "Be brief.\n\nYou may call")

	_, err = WithTools([]schema.Message{user("a"), {Role: schema.RoleUser, Content: schema.Content{{Type: schema.PartImage}}}}, []schema.ToolSpec{weather})
	require.ErrorContains(t, err, "/messages/1/content/0")
}
