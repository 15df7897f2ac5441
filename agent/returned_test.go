package agent

import (
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/schema"
)

// TestReturnedCallsAreSound: where the client carries out calls it gets none that the
// tool's schema refuses: the model is told, as often as elsewhere.
func TestReturnedCallsAreSound(t *testing.T) {
	p := toolTurn("go")
	p.ToolMode = schema.ToolReturn
	box := newBox(t, schema.ToolSpec{Name: "f"}, schema.ToolSpec{Name: "g"})
	wrong := callText("f", `{"q":1}`) + callText("g", `{}`)
	a := New(newScripted(t, toolScript("Invalid arguments", callText("f", `{"q":"x"}`), "go", wrong)), box, Options{})
	r := &recorder{}
	res, err := a.Generate(t.Context(), p, r, nil)
	require.NoError(t, err)
	require.Equal(t, schema.StopToolCalls, res.StopReason)
	require.Equal(t, 2, res.Usage.Rounds)
	require.Len(t, res.ToolCalls, 1)
	require.JSONEq(t, `{"q":"x"}`, string(res.ToolCalls[0].Arguments))
	require.Equal(t, []string{"g.0 pending", "g.1 pending", "g.0 failed", "g.1 failed", "g.2 pending"}, r.became())
	require.Contains(t, res.Messages[1].Content.Text(), "Invalid arguments for f: /q")
	require.Contains(t, res.Messages[2].Content.Text(), "another call of the same answer was wrong")
	// What is no call at all goes back too.
	a = New(newScripted(t, toolScript("this is no call", callText("f", `{}`), "go", "<tool_call>{]</tool_call>")), box, Options{})
	res, err = a.Generate(t.Context(), p, &recorder{}, nil)
	require.NoError(t, err)
	require.Equal(t, schema.StopToolCalls, res.StopReason)
	// A model that does not mend it ends the turn.
	a = New(newScripted(t, toolScript("go", wrong)), box, Options{})
	res, err = a.Generate(t.Context(), p, &recorder{}, nil)
	require.NoError(t, err)
	require.Equal(t, schema.StopToolLoop, res.StopReason)
	require.Empty(t, res.ToolCalls)
	require.Equal(t, maxInvalid+1, res.Usage.Rounds)
}
