package agent

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/schema"
)

// TestContextOverflow asks with more messages than the model has room for. What may be
// left out is left out until the answer has room, and the client is told.
func TestContextOverflow(t *testing.T) {
	p := schema.GenerateParams{GenerationID: "g", MaxTokens: 20}
	say := func(role schema.Role, text string) {
		p.Messages = append(p.Messages, schema.Message{Role: role, Content: schema.TextContent(text)})
	}
	say(schema.RoleSystem, "rules")
	for i := range 10 {
		say(schema.RoleUser, fmt.Sprintf("question %d %s", i, strings.Repeat("x", 20)))
		say(schema.RoleAssistant, fmt.Sprintf("answer %d %s", i, strings.Repeat("y", 20)))
	}
	say(schema.RoleUser, "the last question")
	script := `{"models": [{"id": "m", "contextLength": 300, "replies": [{"text": "fine"}]}]}`
	for policy, first := range map[schema.ContextOverflow]bool{
		schema.OverflowTruncateMiddle: true, schema.OverflowRollingWindow: false,
	} {
		p.ContextOverflow = policy
		a := newAgent(t, script)
		res, _ := generate(t, a, p)
		require.Equal(t, "fine", res.Message.Content.Text())
		require.Positive(t, res.Usage.OmittedMessages, policy)
		require.Zero(t, res.Usage.OmittedMessages%2, "a question goes with its answer")
		require.LessOrEqual(t, res.Usage.PromptTokens, 300-20)
		require.Greater(t, res.Usage.PromptTokens, 150, "no more goes than has to")
		m, err := a.open(t.Context(), "m")
		require.NoError(t, err)
		turn := &turn{agent: a, params: &p, model: m, history: p.Messages}
		ids, err := turn.encode()
		require.NoError(t, err)
		var text []byte
		for _, id := range ids {
			text = append(text, m.Tokenizer.TokenBytes(id)...)
		}
		require.Contains(t, string(text), "rules")
		require.Contains(t, string(text), "the last question")
		require.Equal(t, first, strings.Contains(string(text), "question 0"), policy)
	}
	p.ContextOverflow = schema.OverflowError
	_, err := newAgent(t, script).Generate(t.Context(), p, &recorder{}, nil)
	requireKind(t, err, schema.KindContextOverflow)
	p.ContextOverflow, p.Messages = schema.OverflowRollingWindow, nil
	say(schema.RoleUser, strings.Repeat("x", 400))
	_, err = newAgent(t, script).Generate(t.Context(), p, &recorder{}, nil)
	requireKind(t, err, schema.KindContextOverflow)
}

func requireKind(t *testing.T, err error, kind schema.Kind) {
	t.Helper()
	var wire *schema.Error
	require.ErrorAs(t, err, &wire)
	require.Equal(t, kind, wire.Data.Kind)
}
