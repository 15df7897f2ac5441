package agent

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/schema"
)

// TestReasoningThatEndsWithinItsBudget is not ended again, wherever the budget ends within
// the model's own mark.
func TestReasoningThatEndsWithinItsBudget(t *testing.T) {
	for _, harmony := range []bool{false, true} {
		text, last := "<think>hmm</think>fine", len("hmm</think>")
		if harmony {
			text, last = "<|channel|>analysis<|message|>hmm<|end|><|start|>assistant<|channel|>final<|message|>fine", len("hmm")+1
		}
		w := newWorld(t, harmony)
		defer w.agent.Close()
		w.engine.scripted = newScripted(t, model(`"vocabulary": ["<|start|>", "<|message|>", "<|channel|>", "<|constrain|>", "<|end|>", "<|call|>", "<|return|>"]`, text))
		w.open("", fmt.Sprintf(`{"reasoning_budget": %d}`, last))
		got := w.ask("hi")
		require.Equal(t, "hmm", got.Message.Content.Reasoning())
		require.Equal(t, "fine", got.Message.Content.Text())
		require.Len(t, w.engine.asked, 1, "the model ended it with the last token of the budget")
	}
}

// TestReasoningUpToTheLastToken of an answer leaves none for another part of it.
func TestReasoningUpToTheLastToken(t *testing.T) {
	w := newWorld(t, false)
	defer w.agent.Close()
	w.open("", `{"reasoning_budget": 13, "max_tokens": 20, "max_resume_attempts": 0}`)
	got := w.ask("think long")
	require.Equal(t, 20, got.Usage.CompletionTokens, "7 of them are the mark")
	require.Equal(t, schema.StopMaxTokens, got.StopReason)
	require.Len(t, w.engine.asked, 1)
}

// TestALoopAtTheEnd of an answer that had ended before anybody read it.
func TestALoopAtTheEnd(t *testing.T) {
	w := newWorld(t, false)
	defer w.agent.Close()
	w.engine.scripted = newScripted(t, model("", strings.Repeat("abcdefgh", 41)))
	w.open("", `{"max_resume_attempts": 0}`)
	p := on(w.session.SessionID, "hi")
	got, err := w.agent.Generate(t.Context(), p, &recorder{status: func(s schema.GenerateStatus) {
		if s.State == schema.StateDecoding {
			time.Sleep(50 * time.Millisecond)
		}
	}}, nil)
	require.NoError(t, err)
	require.Equal(t, 328, got.Usage.CompletionTokens)
	require.Equal(t, schema.StopLoop, got.StopReason)
}

// TestWhatIsHeldBackWhereReasoningIsCut is said where there is no way to go on: the context
// is full, or nobody waits any more.
func TestWhatIsHeldBackWhereReasoningIsCut(t *testing.T) {
	const text = "<|channel|>final<|message|>ab<|end|><|start|>assistant<|channel|>analysis<|message|>on and on and on"
	for _, cancelled := range []bool{false, true} {
		w := newWorld(t, true)
		defer w.agent.Close()
		vocabulary := `"vocabulary": ["<|start|>", "<|message|>", "<|channel|>", "<|constrain|>", "<|end|>", "<|call|>", "<|return|>"]`
		w.engine.scripted = newScripted(t, model(`"contextLength": 8195, `+vocabulary, text))
		w.open("", `{"max_resume_attempts": 0}`)
		w.ask("hi")
		// The whole answer would fit, and the end of its reasoning does not.
		room := len(w.last().Prompt) + len("final") + len("ab") + len("assistant") + len("analysis") + 7 + len("on and") + 3
		if cancelled {
			room = 8195
		}
		w.engine.scripted = newScripted(t, model(fmt.Sprintf(`"contextLength": %d, `, room)+vocabulary, text))
		w.engine.asked = nil
		w.open("", `{"stop": ["abc"], "max_resume_attempts": 0, "reasoning_budget": 6, "context_overflow": "error"}`)
		p := on(w.session.SessionID, "hi")
		p.ToolMode = schema.ToolNone
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r := recorder{}
		r.text = func(context.Context) {
			if cancelled && strings.HasSuffix(r.thoughts, "on and") {
				cancel()
			}
		}
		got, err := w.agent.Generate(ctx, p, &r, nil)
		require.NoError(t, err)
		require.Equal(t, "on and", got.Message.Content.Reasoning())
		require.Equal(t, "ab", got.Message.Content.Text())
		require.Len(t, w.engine.asked, 1)
		require.Equal(t, map[bool]schema.StopReason{true: schema.StopCancelled, false: schema.StopContextFull}[cancelled], got.StopReason)
	}
}

// TestSettingsFillTheContext of a turn that has called tools: what it did stays, as where
// the model itself holds no more, and nobody asks again for an answer that was not begun.
func TestSettingsFillTheContext(t *testing.T) {
	w := newWorld(t, false)
	defer w.agent.Close()
	w.open("", `{"context_overflow": "error", "max_context_tokens": 1200, "max_tool_iterations": 100}`)
	got := w.ask("use a tool")
	require.Equal(t, schema.StopContextFull, got.StopReason)
	require.Greater(t, got.Usage.Rounds, 1)
	require.Len(t, w.engine.asked, got.Usage.Rounds)
	require.NotContains(t, w.log.String(), "asked for again")
	require.NotEmpty(t, got.Messages)
	require.Equal(t, schema.RoleTool, got.Messages[len(got.Messages)-1].Role)
}
