package agent

import (
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/schema"
)

// TestToolArgumentsAreStreamed: who asks for them sees the arguments of calls come,
// piece by piece and to the byte, and nothing else is different for that. What turns
// out to be no call is text.
func TestToolArgumentsAreStreamed(t *testing.T) {
	a := New(newScripted(t, toolScript(
		"result of f", "Done.",
		"go", "Both. "+callText("f", `{"q": "é😀 "}`)+callText("g", `{}`)+callText("f", `{"q":`),
	)), newBox(t, schema.ToolSpec{Name: "f"}, schema.ToolSpec{Name: "g"}), Options{})
	turn := func(streamed *bool) (schema.GenerateResult, *recorder) {
		p, r := toolTurn("go"), &recorder{}
		p.Stream.ToolArguments = streamed
		res, err := a.Generate(t.Context(), p, r, &fakeHost{})
		require.NoError(t, err)
		checkResult(t, schema.GenerateResult{
			GenerationID: res.GenerationID, Usage: res.Usage,
			Message: schema.Message{Role: schema.RoleAssistant, Content: schema.TextContent(r.all())},
		}, r)
		return res, r
	}
	plain, silent := turn(nil)
	require.Empty(t, silent.arguments)
	_, silent = turn(ptr(false))
	require.Empty(t, silent.arguments)

	streamed, r := turn(ptr(true))
	require.Equal(t, plain.Messages, streamed.Messages)
	require.Equal(t, silent.all(), r.all())
	require.ElementsMatch(t, silent.became(), r.became(), "the calls run at the same time")
	require.Equal(t, "f", r.written["g.0"])
	require.Equal(t, "g", r.written["g.1"])
	for _, c := range r.calls {
		if c.Status == schema.CallPending {
			require.Equal(t, string(c.Arguments), r.arguments[c.CallID])
		}
	}
	require.Equal(t, "f", r.written["g.2"], "the call that has no end")
	require.Contains(t, r.all(), `{"name":"f","arguments":{"q":`)
	require.Len(t, r.arguments, 3)
	require.Greater(t, r.argued, 10, "pieces")
}

// TestToolArgumentsOfAnEnd: a turn that ends within a call has streamed what there is.
func TestToolArgumentsOfAnEnd(t *testing.T) {
	a := New(newScripted(t, toolScript("go", callText("f", `{"q":"0123456789"}`))), newBox(t, schema.ToolSpec{Name: "f"}), Options{})
	p, r := toolTurn("go"), &recorder{}
	p.Stream.ToolArguments, p.MaxTokens = ptr(true), len(`<tool_call>{"name":"f","arguments":{"q":"0123`)
	res, err := a.Generate(t.Context(), p, r, &fakeHost{})
	require.NoError(t, err)
	require.Equal(t, schema.StopMaxTokens, res.StopReason)
	require.Equal(t, `{"q":"0123`, r.arguments["g.0"])
	require.Empty(t, r.calls)
	require.Contains(t, res.Message.Content.Text(), "0123", "what was cut off is text")

	p, r = toolTurn("go"), &recorder{}
	p.Stream.ToolArguments, p.ToolMode, p.Logprobs = ptr(true), schema.ToolReturn, 1
	res, err = a.Generate(t.Context(), p, r, nil)
	require.NoError(t, err)
	require.Equal(t, string(res.ToolCalls[0].Arguments), r.arguments["g.0"])
	require.Greater(t, r.tokens, 10, "tokens count with the arguments that they make")
	require.Len(t, r.logprobs, r.tokens)
}
