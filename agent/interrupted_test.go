package agent

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/agent/conversation"
	"harmonyd/schema"
)

// TestACancelledConversationGoesOn cancels a turn with a tool every 90 ms of its life: while
// it waits, loads, reads the prompt, writes, waits for a person, runs the tool, and the same
// of the next round. Another process then loads the conversation, finds every call with its
// result, and goes on with it.
func TestACancelledConversationGoesOn(t *testing.T) {
	const script = `{"models": [{"id": "m", "contextLength": 16000, "loadMs": 300, "prefillTokensPerSecond": 4000, "prefillChunk": 200, "tokensPerSecond": 100, "replies": [
		{"contains": "and now", "text": "going on"},
		{"contains": "result 1", "text": "<think>Good.</think>It is done."},
		{"contains": "do it", "text": "<think>Hm.</think>Let me. <tool_call>{\"name\":\"f\",\"arguments\":{\"q\":\"x\"}}</tool_call>"}]}]}`
	states := map[schema.GenerateState]int{}
	var whole time.Duration // of a turn that nobody cancels
	for after := time.Duration(0); whole == 0 || after < whole; after += 90 * time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			open := func() *Agent {
				store, err := conversation.OpenStore(dir)
				require.NoError(t, err)
				return New(newScripted(t, script), newBox(t, schema.ToolSpec{Name: "f", Approval: schema.ApprovalAsk}), Options{Conversations: store})
			}
			a := open()
			s, err := a.NewSession(t.Context(), schema.SessionNewParams{Keep: true})
			require.NoError(t, err)
			h := counting()
			slow := h.call
			h.call = func(ctx context.Context, p schema.ToolCallParams) (schema.ToolResult, error) {
				select {
				case <-time.After(300 * time.Millisecond):
					return slow(ctx, p)
				case <-ctx.Done():
					return schema.ToolResult{}, ctx.Err()
				}
			}
			h.approve = func(ctx context.Context, _ schema.ToolApproveParams) (schema.ToolApproveResult, error) {
				select {
				case <-time.After(300 * time.Millisecond):
					return schema.ToolApproveResult{Outcome: schema.OutcomeSelected, OptionID: string(schema.AllowOnce)}, nil
				case <-ctx.Done():
					return schema.ToolApproveResult{}, ctx.Err()
				}
			}
			p := on(s.SessionID, "do it")
			p.ToolMode = schema.ToolCallback
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r, begun := &recorder{}, time.Now()
			if whole > 0 {
				time.AfterFunc(after, cancel)
			}
			res, err := a.Generate(ctx, p, r, h)
			require.NoError(t, err)
			at := fmt.Sprintf("cancelled after %v", after)
			if whole == 0 {
				require.Equal(t, schema.StopEndTurn, res.StopReason)
				whole, after = time.Since(begun), -90*time.Millisecond
				return
			}
			require.Equal(t, schema.StopCancelled, res.StopReason, at)
			for i := len(r.statuses) - 1; i >= 0; i-- {
				if r.statuses[i].State != schema.StateDone {
					states[r.statuses[i].State]++
					break
				}
			}
			a.Close()

			b := open()
			defer b.Close()
			l, err := b.LoadSession(t.Context(), schema.SessionLoadParams{SessionID: s.SessionID})
			require.NoError(t, err, at)
			require.Empty(t, l.Problem)
			unanswered := map[string]bool{} // calls without a result
			for _, m := range l.Messages {
				for _, c := range m.ToolCalls {
					unanswered[c.CallID] = true
				}
				if m.Role == schema.RoleTool {
					require.True(t, unanswered[m.ToolCallID], at)
					delete(unanswered, m.ToolCallID)
				}
			}
			require.Empty(t, unanswered, at)
			next := on(s.SessionID, "and now")
			next.ToolMode = schema.ToolCallback
			res, err = b.Generate(t.Context(), next, &recorder{}, h)
			require.NoError(t, err, at)
			require.Equal(t, "going on", res.Message.Content.Text(), at)
		})
	}
	for _, state := range []schema.GenerateState{schema.StateQueued, schema.StateLoading, schema.StatePrefill, schema.StateDecoding, schema.StateTool} {
		require.Positive(t, states[state], "%s: %v", state, states)
	}
}

// TestWhatToolsDidOutlivesAFailure: the model fails behind a call of a tool. The turn is an
// error, and the conversation knows of the call all the same, in another process too.
func TestWhatToolsDidOutlivesAFailure(t *testing.T) {
	dir := t.TempDir()
	open := func() *Agent {
		store, err := conversation.OpenStore(dir)
		require.NoError(t, err)
		return New(newScripted(t, `{"models": [{"id": "m", "contextLength": 16000, "replies": [
			{"contains": "and now", "text": "going on"},
			{"contains": "result 1", "text": "It is done.", "failAt": 2, "fail": "lost"},
			{"contains": "do it", "text": "Let me. <tool_call>{\"name\":\"f\",\"arguments\":{\"q\":\"x\"}}</tool_call>"}]}]}`), newBox(t, schema.ToolSpec{Name: "f"}), Options{Conversations: store})
	}
	a := open()
	s, err := a.NewSession(t.Context(), schema.SessionNewParams{Keep: true})
	require.NoError(t, err)
	turn := func(a *Agent, text string, h *fakeHost) (schema.GenerateResult, error) {
		p := on(s.SessionID, text)
		p.ToolMode = schema.ToolCallback
		return a.Generate(t.Context(), p, &recorder{}, h)
	}
	h := counting()
	_, err = turn(a, "do it", h)
	require.Error(t, err)
	require.Len(t, h.called, 1)
	a.Close()

	b := open()
	defer b.Close()
	l, err := b.LoadSession(t.Context(), schema.SessionLoadParams{SessionID: s.SessionID})
	require.NoError(t, err)
	var said []string
	for _, m := range l.Messages {
		said = append(said, fmt.Sprintf("%s %q %d %v", m.Role, m.Content.Text(), len(m.ToolCalls), m.Interrupted))
	}
	require.Equal(t, []string{`user "do it" 0 false`, `assistant "Let me." 1 false`, `tool "result 1" 0 false`, `assistant "It" 0 true`}, said)
	res, err := turn(b, "and now", h)
	require.NoError(t, err)
	require.Equal(t, "going on", res.Message.Content.Text())
}
