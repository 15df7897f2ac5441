package agent

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/agent/parse"
	"harmonyd/engine/job"
	"harmonyd/schema"
)

// TestRepairs ask for a bad answer again, say so, and leave nothing of it behind.
func TestRepairs(t *testing.T) {
	w := newWorld(t, false)
	defer w.agent.Close()
	w.open("", `{"seed": 5, "max_tokens": 400}`)
	var r recorder
	p := on(w.session.SessionID, "for ever")
	res, err := w.agent.Generate(t.Context(), p, &r, nil)
	require.NoError(t, err)
	require.Equal(t, schema.StopLoop, res.StopReason, "it stays a loop")
	require.Len(t, w.engine.asked, 3)
	require.Equal(t, 3, res.Usage.Rounds)
	var retries []schema.Retry
	for _, s := range r.statuses {
		if s.State == schema.StateQueued && s.PromptTokens > 0 {
			retries = append(retries, s.Retry)
			require.Equal(t, len(retries)-1, s.Round)
		}
	}
	require.Equal(t, []schema.Retry{"", schema.RetryLoop, schema.RetryLoop}, retries)
	seeds := map[uint64]bool{}
	for i, a := range w.engine.asked {
		seeds[a.Sampling.Seed] = true
		require.Equal(t, []float32{1, 1.25, 1.25}[i], a.Sampling.RepetitionPenalty)
		require.Equal(t, []int{20, 2048, 2048}[i], a.Sampling.RepetitionContext)
	}
	require.Len(t, seeds, 3)
	require.Contains(t, w.prompt(), "repeating itself")
	// The next turn knows nothing of it.
	w.ask("hi")
	next := w.engine.asked[3]
	require.NotContains(t, w.promptOf(next), "repeating itself")
	require.Equal(t, float32(1), next.Sampling.RepetitionPenalty)
	require.Equal(t, 1, strings.Count(w.promptOf(next), "<|im_start|>assistant\nabcdefgh"), "the last attempt is the answer")

	// The answer is good the second time.
	w = newWorld(t, false)
	defer w.agent.Close()
	w.engine.scripted = newScripted(t, `{"models": [{"id": "m", "replies": [{"contains": "has been dropped", "text": "good"}, {"contains": "muse", "text": "<think>well</think>"}, {"text": ""}]}]}`)
	for text, why := range map[string]string{"muse": "ended before its answer", "hush": "was empty"} {
		w.open("", `{"max_resume_attempts": 1}`)
		got := w.ask(text)
		require.Equal(t, "good", got.Message.Content.Text())
		require.Empty(t, got.Message.Content.Reasoning())
		require.Equal(t, schema.StopEndTurn, got.StopReason)
		require.Nil(t, got.Messages)
		require.Contains(t, w.prompt(), why)
	}

	// What the attempt took ends with it, also within the turn.
	w.engine.scripted = newScripted(t, `{"models": [{"id": "m", "replies": [{"contains": "result 1", "text": "good"}, {"contains": "has been dropped", "text": "<tool_call>{\"name\": \"look\", \"arguments\": {}}</tool_call>"}, {"text": ""}]}]}`)
	w.engine.asked = nil
	w.open("", `{}`)
	got := w.ask("use a tool")
	require.Equal(t, "good", got.Message.Content.Text())
	require.Len(t, w.engine.asked, 3)
	require.Equal(t, float32(1.2), w.engine.asked[1].Sampling.RepetitionPenalty)
	require.Equal(t, float32(1), w.last().Sampling.RepetitionPenalty)
	require.NotContains(t, w.prompt(), "dropped")
}

// TestReasoningBudget ends the reasoning and goes on with the answer, once for each time
// that it is too long.
func TestReasoningBudget(t *testing.T) {
	w := newWorld(t, false)
	defer w.agent.Close()
	w.open("", `{"reasoning_budget": 20}`)
	got := w.ask("think long")
	require.Equal(t, "thought", got.Message.Content.Text())
	require.Equal(t, "hmmm, one more thoug", got.Message.Content.Reasoning())
	require.Equal(t, schema.StopEndTurn, got.StopReason)
	require.Equal(t, len("<think>")+20+len("thought"), got.Usage.CompletionTokens)
	require.Equal(t, 1, got.Usage.Rounds)
	require.True(t, strings.HasSuffix(w.prompt(), "<think>hmmm, one more thoug\n</think>\n\n"), w.prompt())

	h := newWorld(t, true)
	defer h.agent.Close()
	h.engine.scripted = newScripted(t, strings.Replace(worldScript, `{"contains": "</think>", "text": "thought"}`,
		`{"contains": "<|channel|>final<|message|>", "text": "thought"}, {"contains": "ponder", "text": "<|channel|>analysis<|message|>on and on and on and on"}`, 1))
	h.open("", `{"reasoning_budget": 9}`)
	got = h.ask("ponder")
	require.Equal(t, "thought", got.Message.Content.Text())
	require.Equal(t, "on and on", got.Message.Content.Reasoning())
}

// TestReasoningIsNotBegunAgain: behind the budget the token that opens it cannot come.
func TestReasoningIsNotBegunAgain(t *testing.T) {
	w := newWorld(t, false)
	defer w.agent.Close()
	w.engine.marked = true
	w.engine.scripted = newScripted(t, `{"models": [{"id": "m", "vocabulary": ["<think>", "</think>"], "replies": [{"contains": "</think>", "text": "thought"}, {"text": "<think>on and on ", "endless": true}]}]}`)
	w.open("", `{"reasoning_budget": 9, "seed": 3, "logit_bias": [{"token": 5, "bias": 1}]}`)
	got := w.ask("hi")
	require.Equal(t, "thought", got.Message.Content.Text())
	require.Equal(t, "on and on", got.Message.Content.Reasoning())
	require.Len(t, w.engine.asked, 2)
	first, second := w.engine.asked[0].Sampling, w.engine.asked[1].Sampling
	require.Equal(t, []job.LogitBias{{ID: 5, Value: 1}}, first.LogitBias)
	require.Equal(t, []job.LogitBias{{ID: 5, Value: 1}, {ID: 259, Value: never}}, second.LogitBias)
	require.NotEqual(t, first.Seed, second.Seed, "the draws do not come again")
}

// TestEveryFormatEndsItsReasoning has the parser read what a budget writes.
func TestEveryFormatEndsItsReasoning(t *testing.T) {
	for _, name := range parse.Names() {
		f, _ := parse.Named(name)
		mark := f.EndOfReasoning(false)
		if mark == "" || name == "harmony" { // whose marks are tokens
			continue
		}
		p, err := f.New(nil, parse.Options{Prompt: nil})
		require.NoError(t, err)
		open := map[string]string{"[/THINK]": "[THINK]", "<|END_THINKING|>": "<|START_THINKING|>", "<channel|>": "<|channel>"}[strings.TrimSpace(mark)]
		if open == "" {
			open = "<think>"
		}
		p.Next([]byte(open + "so "))
		require.True(t, p.Reasons(), name)
		p.Next([]byte(mark))
		require.False(t, p.Reasons(), name)
	}
}
