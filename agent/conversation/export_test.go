package conversation

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/schema"
)

func TestExport(t *testing.T) {
	s := tempStore(t)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	l, err := s.Create(Header{ID: "a", Created: at, ForkedFrom: &Ref{"b", "m7"}})
	require.NoError(t, err)
	entry := func(id, parent string, m schema.Message) Entry {
		return Entry{ID: id, Parent: parent, Time: at, Message: m}
	}
	answer := entry("3", "2", schema.Message{Role: schema.RoleAssistant, Content: schema.Content{
		{Type: schema.PartReasoning, Text: "First,\nlook."}, {Type: schema.PartText, Text: "I look.\n"}, {Type: schema.PartText},
	}, ToolCalls: []schema.ToolCall{{CallID: "c1", Name: "read", Arguments: json.RawMessage(`{"path":"a.md"}`)}}})
	answer.Turn = &Turn{Model: "m", StopReason: schema.StopToolCalls, Usage: &schema.Usage{PromptTokens: 12, CompletionTokens: 3}}
	_, err = l.Append(
		entry("1", Root, schema.Message{Role: schema.RoleSystem, Content: schema.TextContent("Be brief.")}),
		entry("2", "1", schema.Message{Role: schema.RoleUser, Content: schema.Content{{Type: schema.PartText, Text: "What is in a.md?"}, {Type: schema.PartImage, MimeType: "image/png"}}}),
		entry("x", "1", schema.Message{Role: schema.RoleUser, Content: schema.TextContent("another branch")}),
		answer,
		entry("4", "3", schema.Message{Role: schema.RoleTool, Name: "read", ToolCallID: "c1", Content: schema.TextContent("# A\n```\ncode\n```\n````")}),
	)
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, l.ExportMarkdown(&b, ""))
	require.Equal(t, "# What is in a.md?\n\nConversation a, begun 2026-01-02 03:04:05 UTC.\nForked from b after message m7.\n"+
		"\n## System\n\n*2026-01-02 03:04:05 UTC*\n\nBe brief.\n"+
		"\n## User\n\n*2026-01-02 03:04:05 UTC*\n\nWhat is in a.md?\n\n*(an image, image/png)*\n"+
		"\n## Assistant\n\n*2026-01-02 03:04:05 UTC · m · tool_calls · 12 + 3 tokens*\n\n> First,\n> look.\n\nI look.\n\nCalls `read` (c1):\n\n```json\n{\"path\":\"a.md\"}\n```\n"+
		"\n## Tool read\n\n*2026-01-02 03:04:05 UTC · answers c1*\n\n`````\n# A\n```\ncode\n```\n````\n`````\n", b.String())
	b.Reset()
	require.NoError(t, l.ExportMarkdown(&b, "x"))
	require.Contains(t, b.String(), "# another branch\n")
	require.NotContains(t, b.String(), "a.md")
	require.Error(t, l.ExportMarkdown(&b, "nobody"))

	b.Reset()
	require.NoError(t, l.ExportJSON(&b))
	var x exported
	var compact bytes.Buffer
	require.NoError(t, json.Compact(&compact, b.Bytes()))
	require.NoError(t, json.Unmarshal(compact.Bytes(), &x))
	all, err := l.Entries()
	require.NoError(t, err)
	require.Equal(t, exported{Format: "harmonyd conversation", Header: l.Header(), Leaf: "4", Entries: all}, x)
	require.NoError(t, l.Close())
}
