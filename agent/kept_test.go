package agent

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/agent/conversation"
	"harmonyd/schema"
)

// keeping is an agent over a folder of conversations.
func keeping(t *testing.T, dir, script string) *Agent {
	t.Helper()
	store, err := conversation.OpenStore(dir)
	require.NoError(t, err)
	a := New(newScripted(t, script), noTools{}, Options{Conversations: store})
	t.Cleanup(a.Close)
	return a
}

func texts(messages []schema.Message) (all []string) {
	for _, m := range messages {
		all = append(all, string(m.Role)+": "+m.Content.Text())
	}
	return all
}

// TestForksWhileTurnsEnd: what a fork knows is what is written down of it, whenever a
// turn ends.
func TestForksWhileTurnsEnd(t *testing.T) {
	dir := t.TempDir()
	a := keeping(t, dir, `{"models": [{"id": "m"}]}`)
	s, err := a.NewSession(t.Context(), schema.SessionNewParams{Keep: true})
	require.NoError(t, err)
	ended := make(chan error)
	go func() {
		var err error
		for i := 0; i < 40 && err == nil; i++ {
			p := chat("again")
			p.SessionID = s.SessionID
			_, err = a.Generate(t.Context(), p, &recorder{}, nil)
		}
		ended <- err
	}()
	store, err := conversation.OpenStore(dir)
	require.NoError(t, err)
	forks := 0
	for running := true; running; forks++ {
		select {
		case err := <-ended:
			require.NoError(t, err)
			running = false
		default:
		}
		r, err := a.ForkSession(t.Context(), schema.SessionParams{SessionID: s.SessionID})
		require.NoError(t, err)
		fork, err := a.session(r.SessionID)
		require.NoError(t, err)
		written, err := store.Load(r.SessionID)
		require.NoError(t, err)
		require.Equal(t, len(fork.messages), written.Len())
		require.NoError(t, written.Close())
		_, err = a.CloseSession(t.Context(), schema.SessionParams{SessionID: r.SessionID})
		require.NoError(t, err)
	}
	require.Greater(t, forks, 5)
}

// TestKeptSessions goes on with a conversation in another process, forks it, and finds
// all in the list.
func TestKeptSessions(t *testing.T) {
	dir, script := t.TempDir(), `{"models": [{"id": "m", "replies": [{"contains": "two", "text": "second"}, {"text": "first"}]}]}`
	ctx := t.Context()
	a := keeping(t, dir, script)
	s, err := a.NewSession(ctx, schema.SessionNewParams{System: "rules", Model: "m", Keep: true})
	require.NoError(t, err)
	ask := func(a *Agent, id, text string) schema.GenerateResult {
		p := chat(text)
		p.SessionID = id
		res, err := a.Generate(ctx, p, &recorder{}, nil)
		require.NoError(t, err)
		return res
	}
	ask(a, s.SessionID, "one")
	_, err = keeping(t, dir, script).LoadSession(ctx, schema.SessionLoadParams{SessionID: s.SessionID})
	requireKind(t, err, schema.KindRequestFailed) // it is in use
	a.Close()

	b := keeping(t, dir, script)
	list, err := b.ListSessions(ctx, schema.SessionListParams{})
	require.NoError(t, err)
	require.Len(t, list.Sessions, 1)
	require.Equal(t, s.SessionID, list.Sessions[0].SessionID)
	require.Equal(t, 3, list.Sessions[0].Messages)
	loaded, err := b.LoadSession(ctx, schema.SessionLoadParams{SessionID: s.SessionID})
	require.NoError(t, err)
	require.Equal(t, []string{"system: rules", "user: one", "assistant: first"}, texts(loaded.Messages))
	require.Equal(t, "m", loaded.Model)
	ask(b, s.SessionID, "two")
	again, err := b.LoadSession(ctx, schema.SessionLoadParams{SessionID: s.SessionID})
	require.NoError(t, err)
	require.Len(t, again.Messages, 5, "one that is open stays as it is")

	fork, err := b.ForkSession(ctx, schema.SessionParams{SessionID: s.SessionID})
	require.NoError(t, err)
	ask(b, fork.SessionID, "two")
	b.Close()
	c := keeping(t, dir, script)
	for id, n := range map[string]int{s.SessionID: 5, fork.SessionID: 7} {
		loaded, err := c.LoadSession(ctx, schema.SessionLoadParams{SessionID: id})
		require.NoError(t, err)
		require.Len(t, loaded.Messages, n)
	}
	list, err = c.ListSessions(ctx, schema.SessionListParams{Limit: 1})
	require.NoError(t, err)
	require.Len(t, list.Sessions, 1)
	require.Equal(t, s.SessionID, list.Sessions[0].ForkedFrom)
}

// TestKeptSessionsThatCannotBe are refused, and a cancelled turn stays a part of its
// conversation.
func TestKeptSessionsThatCannotBe(t *testing.T) {
	ctx := t.Context()
	none := newAgent(t, model("", "x"))
	_, err := none.NewSession(ctx, schema.SessionNewParams{Keep: true})
	requireKind(t, err, schema.KindUnsupported)
	_, err = none.LoadSession(ctx, schema.SessionLoadParams{SessionID: "x"})
	requireKind(t, err, schema.KindSessionNotFound)
	dir := t.TempDir()
	a := keeping(t, dir, model("", "x"))
	for _, id := range []string{"x", "../x", "/etc/passwd", ""} {
		_, err = a.LoadSession(ctx, schema.SessionLoadParams{SessionID: id})
		requireKind(t, err, schema.KindSessionNotFound)
	}
	s, err := a.NewSession(ctx, schema.SessionNewParams{Keep: true})
	require.NoError(t, err)
	gone, cancel := context.WithCancel(ctx)
	cancel()
	p := chat("stopped")
	p.SessionID = s.SessionID
	res, err := a.Generate(gone, p, &recorder{}, nil)
	require.NoError(t, err)
	require.Equal(t, schema.StopCancelled, res.StopReason)
	_, err = a.CloseSession(ctx, schema.SessionParams{SessionID: s.SessionID})
	require.NoError(t, err)
	loaded, err := a.LoadSession(ctx, schema.SessionLoadParams{SessionID: s.SessionID})
	require.NoError(t, err)
	require.Equal(t, "user: stopped", texts(loaded.Messages)[0])
}
