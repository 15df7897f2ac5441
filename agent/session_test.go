package agent

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/schema"
)

// on is a turn of a session.
func on(id, text string) schema.GenerateParams {
	p := chat(text)
	p.SessionID = id
	return p
}

func newSession(t *testing.T, a *Agent, p schema.SessionNewParams) string {
	t.Helper()
	s, err := a.NewSession(t.Context(), p)
	require.NoError(t, err)
	return s.SessionID
}

// TestSessions keep what was said, and no more.
func TestSessions(t *testing.T) {
	a := newAgent(t, `{"models": [{"id": "m", "replies": [{"contains": "bad", "text": "abc", "failAt": 1, "fail": "lost"}]}, {"id": "other"}]}`)
	id := newSession(t, a, schema.SessionNewParams{System: "Be brief.", Model: "other"})
	first, _ := generate(t, a, on(id, "one"))
	require.Equal(t, "one", first.Message.Content.Text(), "the echo of the last message")
	require.Equal(t, "other", first.Model)
	second, _ := generate(t, a, on(id, "two"))
	stateless := func(texts ...string) int {
		p := schema.TokensCountParams{Model: "other", Messages: []schema.Message{{Role: schema.RoleSystem, Content: schema.TextContent("Be brief.")}}}
		for i, text := range texts {
			role := []schema.Role{schema.RoleUser, schema.RoleAssistant}[i%2]
			p.Messages = append(p.Messages, schema.Message{Role: role, Content: schema.TextContent(text)})
		}
		n, err := a.CountTokens(t.Context(), p)
		require.NoError(t, err)
		return n.Tokens
	}
	require.Equal(t, stateless("one", "one", "two"), second.Usage.PromptTokens)

	// A fork goes its own way.
	fork, err := a.ForkSession(t.Context(), schema.SessionParams{SessionID: id})
	require.NoError(t, err)
	require.NotEqual(t, id, fork.SessionID)
	generate(t, a, on(fork.SessionID, "three"))
	third, _ := generate(t, a, on(id, "four"))
	require.Equal(t, stateless("one", "one", "two", "two", "four"), third.Usage.PromptTokens)

	// A turn that fails is none.
	p := on(id, "bad")
	p.Model = "m"
	_, err = a.Generate(t.Context(), p, &recorder{}, nil)
	require.Error(t, err)
	again, _ := generate(t, a, on(id, "five"))
	require.Equal(t, stateless("one", "one", "two", "two", "four", "four", "five"), again.Usage.PromptTokens)

	_, err = a.CloseSession(t.Context(), schema.SessionParams{SessionID: id})
	require.NoError(t, err)
	for _, err := range []error{
		func() error { _, err := a.CloseSession(t.Context(), schema.SessionParams{SessionID: id}); return err }(),
		func() error { _, err := a.ForkSession(t.Context(), schema.SessionParams{SessionID: id}); return err }(),
		func() error { _, err := a.Generate(t.Context(), on(id, "x"), &recorder{}, nil); return err }(),
		func() error { _, err := a.ListTools(t.Context(), schema.ToolsListParams{SessionID: id}); return err }(),
		func() error {
			_, err := a.RegisterTools(t.Context(), schema.ToolRegisterParams{SessionID: id})
			return err
		}(),
		func() error {
			_, err := a.UnregisterTools(t.Context(), schema.ToolsUnregisterParams{SessionID: id})
			return err
		}(),
	} {
		var wire *schema.Error
		require.ErrorAs(t, err, &wire)
		require.Equal(t, schema.KindSessionNotFound, wire.Data.Kind)
	}
}

// TestCancelledTurnIsKept, and marked: the model is to know what it was saying.
func TestCancelledTurnIsKept(t *testing.T) {
	a := newAgent(t, `{"models": [{"id": "m", "replies": [{"contains": "for ever", "text": "and ever ", "endless": true}]}]}`)
	id := newSession(t, a, schema.SessionNewParams{})
	ctx, cancel := context.WithCancel(t.Context())
	r := &recorder{text: func(context.Context) { cancel() }}
	res, err := a.Generate(ctx, on(id, "for ever"), r, nil)
	require.NoError(t, err)
	require.Equal(t, schema.StopCancelled, res.StopReason)
	require.True(t, res.Message.Interrupted)
	s, err := a.session(id)
	require.NoError(t, err)
	require.Equal(t, append(chat("for ever").Messages, res.Message), s.conversation(nil))
}

// TestTurnsOfASessionAreInLine: the second one sees what the first one said.
func TestTurnsOfASessionAreInLine(t *testing.T) {
	a := newAgent(t, `{"models": [{"id": "m", "tokensPerSecond": 2000}]}`)
	id := newSession(t, a, schema.SessionNewParams{})
	done := make(chan int, 8)
	for range 8 {
		go func() {
			res, err := a.Generate(context.Background(), on(id, "hello"), &recorder{}, nil)
			if err != nil {
				res.Usage.PromptTokens = -1
			}
			done <- res.Usage.PromptTokens
		}()
	}
	seen := map[int]bool{}
	for range 8 {
		seen[<-done] = true
	}
	require.Len(t, seen, 8, "each prompt is longer than the one before")
	// One that waits for its turn can be cancelled.
	s, err := a.session(id)
	require.NoError(t, err)
	require.NoError(t, s.enter(t.Context()))
	defer s.leave()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	res, err := a.Generate(ctx, on(id, "x"), &recorder{}, nil)
	require.NoError(t, err)
	require.Equal(t, schema.StopCancelled, res.StopReason)
}

func TestSessionLimit(t *testing.T) {
	a := newAgent(t, "")
	for range schema.DefaultLimits().MaxSessions {
		newSession(t, a, schema.SessionNewParams{})
	}
	_, err := a.NewSession(t.Context(), schema.SessionNewParams{})
	var wire *schema.Error
	require.ErrorAs(t, err, &wire)
	require.Equal(t, schema.KindOverloaded, wire.Data.Kind)
	_, err = a.CloseSession(t.Context(), schema.SessionParams{SessionID: "s7"})
	require.NoError(t, err)
	newSession(t, a, schema.SessionNewParams{})
}
