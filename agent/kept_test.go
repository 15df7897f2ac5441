package agent

import (
	"context"
	"os"
	"path/filepath"
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

// TestAProfileIsKept with the file that it stands in, behind what the conversation was given
// instead, and while it is gone.
func TestAProfileIsKept(t *testing.T) {
	dir, configs := t.TempDir(), t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(configs, name), []byte(text), 0o600))
	}
	write("mine.json", `{"one": {"model": "a", "prompt_config": "p.json"}, "bare": {"model": "a"}}`)
	write("profiles.json", `{"one": {"model": "b", "prompt_config": "wrong.json"}}`)
	write("p.json", `{"top_k": 5}`)
	write("q.json", `{"top_k": 6}`)
	ctx := t.Context()
	use := func(f func(e *spy, a *Agent)) {
		store, err := conversation.OpenStore(dir)
		require.NoError(t, err)
		e := &spy{scripted: newScripted(t, `{"models": [{"id": "a"}, {"id": "b"}]}`)}
		a := New(e, noTools{}, Options{Conversations: store, Configs: []string{configs}})
		defer a.Close()
		f(e, a)
	}
	turn := func(e *spy, a *Agent, id, model string, topK int) {
		t.Helper()
		generate(t, a, on(id, "hi"))
		require.Equal(t, model, e.asked[len(e.asked)-1].Model)
		require.Equal(t, topK, e.asked[len(e.asked)-1].Sampling.TopK)
	}
	var plain, other string
	use(func(e *spy, a *Agent) {
		s, err := a.NewSession(ctx, schema.SessionNewParams{Profile: "one", ProfilesFile: "mine.json", Keep: true})
		require.NoError(t, err)
		plain = s.SessionID
		turn(e, a, plain, "a", 5)
		s, err = a.NewSession(ctx, schema.SessionNewParams{Profile: "one", ProfilesFile: "mine.json", Model: "b", PromptConfig: "q.json", Keep: true})
		require.NoError(t, err)
		other = s.SessionID
		turn(e, a, other, "b", 6)
	})
	load := func(a *Agent, p schema.SessionLoadParams) schema.SessionLoadResult {
		t.Helper()
		r, err := a.LoadSession(ctx, p)
		require.NoError(t, err)
		return r
	}
	use(func(e *spy, a *Agent) {
		require.Empty(t, load(a, schema.SessionLoadParams{SessionID: plain}).Warnings)
		turn(e, a, plain, "a", 5)
		load(a, schema.SessionLoadParams{SessionID: other})
		turn(e, a, other, "b", 6)
	})
	require.NoError(t, os.Rename(filepath.Join(configs, "mine.json"), filepath.Join(configs, "away.json")))
	use(func(e *spy, a *Agent) {
		require.Contains(t, load(a, schema.SessionLoadParams{SessionID: plain}).Warnings[0], "the conversation's profile one counts no more: ")
		turn(e, a, plain, "a", 5)
	})
	require.NoError(t, os.Rename(filepath.Join(configs, "away.json"), filepath.Join(configs, "mine.json")))
	require.NoError(t, os.Remove(filepath.Join(configs, "q.json")))
	use(func(e *spy, a *Agent) {
		require.Empty(t, load(a, schema.SessionLoadParams{SessionID: plain}).Warnings, "it is there again")
		// A new profile changes nothing about the file of then, which is gone.
		r := load(a, schema.SessionLoadParams{SessionID: other, Profile: "bare", ProfilesFile: "mine.json"})
		require.Contains(t, r.Warnings[0], "q.json")
		turn(e, a, other, "a", 6) // the hyperparameters are the conversation's own
	})
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

// TestNoRoomLeavesNothing on the disk of a session that was refused.
func TestNoRoomLeavesNothing(t *testing.T) {
	store, err := conversation.OpenStore(t.TempDir())
	require.NoError(t, err)
	a := New(newScripted(t, `{"models": [{"id": "m"}]}`), noTools{}, Options{Conversations: store, MaxSessions: 1})
	t.Cleanup(a.Close)
	s, err := a.NewSession(t.Context(), schema.SessionNewParams{Keep: true})
	require.NoError(t, err)
	_, err = a.NewSession(t.Context(), schema.SessionNewParams{Keep: true})
	requireKind(t, err, schema.KindOverloaded)
	_, err = a.ForkSession(t.Context(), schema.SessionParams{SessionID: s.SessionID})
	requireKind(t, err, schema.KindOverloaded)
	list, err := a.ListSessions(t.Context(), schema.SessionListParams{})
	require.NoError(t, err)
	require.Len(t, list.Sessions, 1)
}
