package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/schema"
)

// box is a toolbox with a fixed set of tools.
type box struct {
	noTools
	tools []schema.Tool
	gone  []string
}

func (b *box) Resolve(string, *[]schema.ToolRef) ([]schema.Tool, error) { return b.tools, nil }

func (b *box) List(string) schema.ToolsListResult {
	var r schema.ToolsListResult
	for _, t := range b.tools {
		r.Tools = append(r.Tools, t.ToolInfo)
	}
	return r
}

func (b *box) Unregister(_ string, names []string) error {
	b.gone = append(b.gone, names...)
	return nil
}

// newBox compiles tools. All take a string named q.
func newBox(t *testing.T, specs ...schema.ToolSpec) *box {
	t.Helper()
	b := &box{}
	for _, s := range specs {
		s.InputSchema = json.RawMessage(`{"type":"object","properties":{"q":{"type":"string"}},"additionalProperties":false}`)
		v, bad := schema.Compile(s.InputSchema)
		require.Empty(t, bad)
		tool := schema.Tool{ToolInfo: schema.ToolInfo{ToolSpec: s, Source: schema.SourceClient, Digest: s.Name + s.Description}, Input: v}
		if s.OutputSchema != nil {
			tool.Output, bad = schema.Compile(s.OutputSchema)
			require.Empty(t, bad)
		}
		b.tools = append(b.tools, tool)
	}
	return b
}

// fakeHost is a client. Without call it answers with the tool's name.
type fakeHost struct {
	mu      sync.Mutex
	called  []schema.ToolCallParams
	asked   []schema.ToolApproveParams
	call    func(ctx context.Context, p schema.ToolCallParams) (schema.ToolResult, error)
	approve func(ctx context.Context, p schema.ToolApproveParams) (schema.ToolApproveResult, error)
}

func (h *fakeHost) CallTool(ctx context.Context, p schema.ToolCallParams) (schema.ToolResult, error) {
	h.mu.Lock()
	h.called = append(h.called, p)
	h.mu.Unlock()
	if h.call != nil {
		return h.call(ctx, p)
	}
	return schema.ToolResult{Content: schema.TextContent("result of " + p.Name)}, nil
}

func (h *fakeHost) Approve(ctx context.Context, p schema.ToolApproveParams) (schema.ToolApproveResult, error) {
	h.mu.Lock()
	h.asked = append(h.asked, p)
	h.mu.Unlock()
	return h.approve(ctx, p)
}

// counting is a client whose results are never the same, so that no turn ends as a loop.
func counting() *fakeHost {
	n := 0
	return &fakeHost{call: func(context.Context, schema.ToolCallParams) (schema.ToolResult, error) {
		n++
		return schema.ToolResult{Content: schema.TextContent(fmt.Sprint("result ", n))}, nil
	}}
}

// toolScript is a model that writes what to each text that its prompt has, the
// first that fits.
func toolScript(replies ...string) string {
	var list []string
	for i := 0; i < len(replies); i += 2 {
		text, _ := json.Marshal(replies[i+1])
		contains, _ := json.Marshal(replies[i])
		list = append(list, fmt.Sprintf(`{"contains": %s, "text": %s}`, contains, text))
	}
	return `{"models": [{"id": "m", "contextLength": 16000, "replies": [` + strings.Join(list, ",") + `]}]}`
}

func callText(name, arguments string) string {
	return `<tool_call>{"name":"` + name + `","arguments":` + arguments + `}</tool_call>`
}

// toolTurn is a turn that has its calls answered by the client.
func toolTurn(text string) schema.GenerateParams {
	p := chat(text)
	p.ToolMode = schema.ToolCallback
	return p
}

// statuses lists what became of the calls: "call status", in order.
func (r *recorder) became() (all []string) {
	for _, c := range r.calls {
		all = append(all, c.CallID+" "+string(c.Status))
	}
	return all
}

// TestToolLoop: the model calls, is given the result, and answers.
func TestToolLoop(t *testing.T) {
	a := New(newScripted(t, toolScript(
		"result of grep", "It is there.",
		"result of read", "Now this. "+callText("grep", `{"q":"x"}`),
		"find it", "Let me see. "+callText("read", `{"q":"a"}`),
	)), newBox(t, schema.ToolSpec{Name: "read"}, schema.ToolSpec{Name: "grep"}), Options{})
	h, r := &fakeHost{}, &recorder{}
	res, err := a.Generate(t.Context(), toolTurn("find it"), r, h)
	require.NoError(t, err)
	require.Equal(t, schema.StopEndTurn, res.StopReason)
	require.Equal(t, "It is there.", res.Message.Content.Text())
	require.Equal(t, "Let me see.Now this.It is there.", r.all(), "marks are no text, and neither is the space around them")
	require.Equal(t, []string{"g.0 pending", "g.0 running", "g.0 completed", "g.1 pending", "g.1 running", "g.1 completed"}, r.became())
	require.Equal(t, 3, res.Usage.Rounds)
	require.Equal(t, []schema.Message{
		{Role: schema.RoleAssistant, Content: schema.TextContent("Let me see."), ToolCalls: []schema.ToolCall{{CallID: "g.0", Name: "read", Arguments: json.RawMessage(`{"q":"a"}`)}}},
		{Role: schema.RoleTool, ToolCallID: "g.0", Name: "read", Content: schema.TextContent("result of read")},
		{Role: schema.RoleAssistant, Content: schema.TextContent("Now this."), ToolCalls: []schema.ToolCall{{CallID: "g.1", Name: "grep", Arguments: json.RawMessage(`{"q":"x"}`)}}},
		{Role: schema.RoleTool, ToolCallID: "g.1", Name: "grep", Content: schema.TextContent("result of grep")},
		{Role: schema.RoleAssistant, Content: schema.TextContent("It is there.")},
	}, res.Messages)
	require.Equal(t, []schema.ToolCallParams{
		{CallID: "g.0", GenerationID: "g", Name: "read", Arguments: json.RawMessage(`{"q":"a"}`), Batch: 1},
		{CallID: "g.1", GenerationID: "g", Name: "grep", Arguments: json.RawMessage(`{"q":"x"}`), Batch: 1},
	}, h.called)
	rounds := map[int]bool{}
	for _, s := range r.statuses {
		rounds[s.Round] = true
	}
	require.Len(t, rounds, 3)
	require.Equal(t, []schema.GenerateState{
		schema.StateQueued, schema.StatePrefill, schema.StateDecoding, schema.StateTool,
		schema.StateQueued, schema.StatePrefill, schema.StateDecoding, schema.StateTool,
		schema.StateQueued, schema.StatePrefill, schema.StateDecoding, schema.StateDone,
	}, slices.DeleteFunc(r.states(), func(s schema.GenerateState) bool { return s == schema.StateLoading }))
}

// TestToolAnswers: whatever comes back is something that the model can read.
func TestToolAnswers(t *testing.T) {
	long := strings.Repeat("é", maxResultBytes)
	for _, c := range []struct {
		name   string
		spec   schema.ToolSpec
		result schema.ToolResult
		err    error
		status schema.CallStatus
		want   string
	}{
		{"text", schema.ToolSpec{}, schema.ToolResult{Content: schema.Content{{Type: schema.PartText, Text: "a"}, {Type: schema.PartText, Text: "b"}}}, nil, schema.CallCompleted, "a\nb"},
		{"structured", schema.ToolSpec{}, schema.ToolResult{StructuredContent: json.RawMessage(`{"z":1}`)}, nil, schema.CallCompleted, `{"z":1}`},
		{"error of the tool", schema.ToolSpec{}, schema.ToolResult{Content: schema.TextContent("no such file"), IsError: true}, nil, schema.CallFailed, "Error: no such file"},
		{"error of the client", schema.ToolSpec{}, schema.ToolResult{}, &schema.Error{Code: 7, Message: "broken"}, schema.CallFailed, "Error: broken"},
		{"other error", schema.ToolSpec{}, schema.ToolResult{}, errors.New("lost"), schema.CallFailed, "Error: lost"},
		{"image and resources", schema.ToolSpec{}, schema.ToolResult{Content: schema.Content{{Type: schema.PartImage, MimeType: "image/png"},
			{Type: schema.PartResource, Resource: &schema.Resource{URI: "file:///a", Text: "body"}}, {Type: schema.PartResource, Resource: &schema.Resource{URI: "file:///b"}}}}, nil, schema.CallCompleted, "[image image/png]\nbody\n[resource file:///b]"},
		{"promised and kept", schema.ToolSpec{OutputSchema: json.RawMessage(`{"required":["a"]}`)}, schema.ToolResult{StructuredContent: json.RawMessage(`{"a":1}`)}, nil, schema.CallCompleted, `{"a":1}`},
		{"promised and broken", schema.ToolSpec{OutputSchema: json.RawMessage(`{"required":["a"]}`)}, schema.ToolResult{StructuredContent: json.RawMessage(`{}`)}, nil, schema.CallFailed, "Error: The tool f returned an invalid result: missing property 'a'"},
		{"promised and absent", schema.ToolSpec{OutputSchema: json.RawMessage(`{}`)}, schema.ToolResult{Content: schema.TextContent("x")}, nil, schema.CallFailed, "Error: The tool f returned no structured result, which it promises."},
		{"too long", schema.ToolSpec{}, schema.ToolResult{Content: schema.TextContent(long)}, nil, schema.CallCompleted, long[:maxResultBytes/2] + fmt.Sprintf("\n[… %d bytes left out …]\n", maxResultBytes) + long[:maxResultBytes/2]},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.spec.Name = "f"
			script := strings.Replace(toolScript("<tool_response>\n", "done", "go", callText("f", `{}`)), `16000`, `1000000`, 1)
			a := New(newScripted(t, script), newBox(t, c.spec), Options{})
			r := &recorder{}
			h := &fakeHost{call: func(context.Context, schema.ToolCallParams) (schema.ToolResult, error) { return c.result, c.err }}
			res, err := a.Generate(t.Context(), toolTurn("go"), r, h)
			require.NoError(t, err)
			require.Equal(t, schema.StopEndTurn, res.StopReason)
			require.Equal(t, "done", res.Message.Content.Text())
			last := r.calls[len(r.calls)-1]
			require.Equal(t, c.status, last.Status)
			require.Equal(t, c.want, res.Messages[1].Content.Text())
			own := c.err == nil && (c.status == schema.CallCompleted || c.result.IsError)
			require.Equal(t, own, last.Result == nil, "the client is told what it did not say itself")
		})
	}
}

// TestUnknownToolIsUnregistered: a client that answers -32601 has forgotten it.
func TestUnknownToolIsUnregistered(t *testing.T) {
	b := newBox(t, schema.ToolSpec{Name: "f"})
	a := New(newScripted(t, toolScript("<tool_response>\n", "done", "go", callText("f", `{}`))), b, Options{})
	h := &fakeHost{call: func(context.Context, schema.ToolCallParams) (schema.ToolResult, error) {
		return schema.ToolResult{}, &schema.Error{Code: -32601, Message: "no method"}
	}}
	_, err := a.Generate(t.Context(), toolTurn("go"), &recorder{}, h)
	require.NoError(t, err)
	require.Equal(t, []string{"f"}, b.gone)
}

// TestMistakes: a call that makes no sense is a message to the model, and too many
// of them are the end.
func TestMistakes(t *testing.T) {
	for _, c := range []struct {
		name, answer, told string
		rounds             int
	}{
		{"unknown tool", callText("h", `{}`), `Error: There is no tool named "h". The tools are: f, g.`, 3},
		{"wrong arguments", callText("f", `{"q":7,"x":1}`), "Error: Invalid arguments for f: ", 3},
		{"malformed", `<tool_call>f(1)</tool_call>`, "Error: this is no call of a tool: it is no JSON object", 3},
		{"cut off", `<tool_call>{"name":`, "Error: this is no call of a tool: it has no end", 3},
		{"all at once", callText("f", `[]`) + callText("g", `{"q":1}`) + callText("h", `{}`) + callText("i", `{}`) + callText("j", `{}`) + callText("k", `{}`), "Error: this is no call", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := New(newScripted(t, toolScript("go", c.answer)), newBox(t, schema.ToolSpec{Name: "f"}, schema.ToolSpec{Name: "g"}), Options{})
			h := &fakeHost{}
			res, err := a.Generate(t.Context(), toolTurn("go"), &recorder{}, h)
			require.NoError(t, err)
			require.Equal(t, schema.StopToolLoop, res.StopReason)
			require.Equal(t, c.rounds, res.Usage.Rounds)
			require.Contains(t, res.Messages[1].Content.Text(), c.told)
			require.Empty(t, h.called)
		})
	}
	// One that is mended is forgiven.
	a := New(newScripted(t, toolScript("result of f", "done", "no tool named", callText("f", `{}`), "go", callText("h", `{}`))), newBox(t, schema.ToolSpec{Name: "f"}), Options{})
	res, err := a.Generate(t.Context(), toolTurn("go"), &recorder{}, &fakeHost{})
	require.NoError(t, err)
	require.Equal(t, schema.StopEndTurn, res.StopReason)
}

// TestToolModes: who runs tools, and whether there are any.
func TestToolModes(t *testing.T) {
	script := toolScript("<tools>", "a "+callText("f", `{"q":"x"}`)+callText("g", `{}`)+" b", "go", "plain")
	a := New(newScripted(t, script), newBox(t, schema.ToolSpec{Name: "f"}, schema.ToolSpec{Name: "g"}), Options{})
	for _, mode := range []schema.ToolMode{schema.ToolReturn, ""} {
		p, r := toolTurn("go"), &recorder{}
		p.ToolMode = mode
		res, err := a.Generate(t.Context(), p, r, nil)
		require.NoError(t, err)
		require.Equal(t, schema.StopToolCalls, res.StopReason)
		require.Equal(t, res.Message.ToolCalls, res.ToolCalls)
		require.Equal(t, []string{"f", "g"}, []string{res.ToolCalls[0].Name, res.ToolCalls[1].Name})
		require.Equal(t, "ab", r.all())
		require.Equal(t, []string{"g.0 pending", "g.1 pending"}, r.became())
	}
	for _, off := range []func(*schema.GenerateParams){
		func(p *schema.GenerateParams) { p.ToolMode = schema.ToolNone },
		func(p *schema.GenerateParams) { p.ToolChoice = &schema.ToolChoice{Mode: schema.ToolChoiceNone} },
	} {
		p := toolTurn("go")
		off(&p)
		res, err := a.Generate(t.Context(), p, &recorder{}, nil)
		require.NoError(t, err)
		require.Equal(t, "plain", res.Message.Content.Text())
	}
	// One call at a time ends the answer behind the first.
	p, r := toolTurn("go"), &recorder{}
	p.ParallelToolCalls, p.ToolMode = ptr(false), schema.ToolReturn
	p.Stop = []string{"a?"} // which holds the text back until the end
	res, err := a.Generate(t.Context(), p, r, nil)
	require.NoError(t, err)
	require.Equal(t, schema.StopToolCalls, res.StopReason)
	require.Len(t, res.ToolCalls, 1)
	require.Equal(t, "a", r.all())
	// Nobody to call them is something that the model is told.
	res, err = a.Generate(t.Context(), func() schema.GenerateParams { p := toolTurn("go"); p.MaxRounds = 1; return p }(), &recorder{}, nil)
	require.NoError(t, err)
	require.Equal(t, schema.StopMaxRounds, res.StopReason)
	require.Contains(t, res.Messages[1].Content.Text(), "Nobody is there")
}

// TestToolBounds: rounds, tokens and context end a loop.
func TestToolBounds(t *testing.T) {
	call := callText("f", `{}`)
	a := New(newScripted(t, toolScript("go", call)), newBox(t, schema.ToolSpec{Name: "f"}), Options{})
	for _, c := range []struct {
		name   string
		change func(*schema.GenerateParams)
		reason schema.StopReason
		rounds int
	}{
		{"rounds", func(p *schema.GenerateParams) { p.MaxRounds = 4 }, schema.StopMaxRounds, 4},
		{"default", func(*schema.GenerateParams) {}, schema.StopMaxRounds, defaultMaxRounds},
		{"tokens behind a call", func(p *schema.GenerateParams) { p.MaxTokens = len(call) }, schema.StopMaxTokens, 1},
		{"tokens inside of one", func(p *schema.GenerateParams) { p.MaxTokens = len(call) + 20 }, schema.StopMaxTokens, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, r := toolTurn("go"), &recorder{}
			c.change(&p)
			res, err := a.Generate(t.Context(), p, r, counting())
			require.NoError(t, err)
			require.Equal(t, c.reason, res.StopReason)
			require.Equal(t, c.rounds, res.Usage.Rounds)
			if p.MaxTokens > 0 {
				require.Equal(t, p.MaxTokens, res.Usage.CompletionTokens)
				require.Equal(t, call[:p.MaxTokens-len(call)], r.all(), "what is no call after all is text")
			}
		})
	}
	small := strings.Replace(toolScript("go", call), "16000", "1200", 1)
	res, err := New(newScripted(t, small), newBox(t, schema.ToolSpec{Name: "f"}), Options{}).Generate(t.Context(), toolTurn("go"), &recorder{}, counting())
	require.NoError(t, err)
	require.Equal(t, schema.StopContextFull, res.StopReason)
	require.Greater(t, res.Usage.Rounds, 1)
}

// TestParallelCalls run at the same time; their results are in the order of the
// calls.
func TestParallelCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(newScripted(t, toolScript("<tool_response>\n", "done", "go", callText("f", `{"q":"3"}`)+callText("f", `{"q":"1"}`)+callText("f", `{"q":"2"}`))), newBox(t, schema.ToolSpec{Name: "f"}), Options{})
		h := &fakeHost{call: func(_ context.Context, p schema.ToolCallParams) (schema.ToolResult, error) {
			time.Sleep(time.Duration(p.Arguments[6]-'0') * time.Second)
			return schema.ToolResult{Content: schema.TextContent(string(p.Arguments))}, nil
		}}
		begin := time.Now()
		res, err := a.Generate(t.Context(), toolTurn("go"), &recorder{}, h)
		require.NoError(t, err)
		require.Less(t, time.Since(begin), 4*time.Second)
		require.Equal(t, []string{`{"q":"3"}`, `{"q":"1"}`, `{"q":"2"}`},
			[]string{res.Messages[1].Content.Text(), res.Messages[2].Content.Text(), res.Messages[3].Content.Text()})
		require.Equal(t, 3, h.called[0].Batch)
	})
}

// TestCancelReachesTools, and approvals; nobody waits for their answers.
func TestCancelReachesTools(t *testing.T) {
	for _, approval := range []schema.Approval{schema.ApprovalNever, schema.ApprovalAsk} {
		a := New(newScripted(t, toolScript("go", "Wait. "+callText("f", `{}`)+callText("f", `{}`))), newBox(t, schema.ToolSpec{Name: "f", Approval: approval}), Options{})
		ctx, cancel := context.WithCancel(t.Context())
		var begun sync.WaitGroup
		begun.Add(2)
		go func() { begun.Wait(); cancel() }()
		block := func(ctx context.Context) error { begun.Done(); <-ctx.Done(); return ctx.Err() }
		h := &fakeHost{
			call: func(ctx context.Context, _ schema.ToolCallParams) (schema.ToolResult, error) {
				return schema.ToolResult{}, block(ctx)
			},
			approve: func(ctx context.Context, _ schema.ToolApproveParams) (schema.ToolApproveResult, error) {
				return schema.ToolApproveResult{}, block(ctx)
			},
		}
		r := &recorder{}
		res, err := a.Generate(ctx, toolTurn("go"), r, h)
		require.NoError(t, err)
		require.Equal(t, schema.StopCancelled, res.StopReason)
		require.Equal(t, "Wait.", res.Message.Content.Text())
		require.Equal(t, "Error: Cancelled.", res.Messages[2].Content.Text())
		all := r.became()
		require.Contains(t, all, "g.0 cancelled")
		require.Contains(t, all, "g.1 cancelled")
	}
}

// TestToolTimeout ends a call, and not the turn.
func TestToolTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(newScripted(t, toolScript("Timed out after 1500 ms.", "too slow", "go", callText("f", `{}`))), newBox(t, schema.ToolSpec{Name: "f", TimeoutMS: 1500}), Options{})
		h := &fakeHost{call: func(ctx context.Context, _ schema.ToolCallParams) (schema.ToolResult, error) {
			<-ctx.Done()
			return schema.ToolResult{}, ctx.Err()
		}}
		begin := time.Now()
		res, err := a.Generate(t.Context(), toolTurn("go"), &recorder{}, h)
		require.NoError(t, err)
		require.Equal(t, "too slow", res.Message.Content.Text())
		require.InDelta(t, 1500, time.Since(begin).Milliseconds(), 100)
	})
}

// TestApprovals fail closed: nothing but a selected option that allows lets a call
// happen.
func TestApprovals(t *testing.T) {
	selected := func(option schema.ApproveKind) schema.ToolApproveResult {
		return schema.ToolApproveResult{Outcome: schema.OutcomeSelected, OptionID: string(option)}
	}
	for _, c := range []struct {
		name   string
		answer schema.ToolApproveResult
		err    error
		calls  int // of three turns
		asks   int
	}{
		{"once", selected(schema.AllowOnce), nil, 3, 3},
		{"always", selected(schema.AllowAlways), nil, 3, 1},
		{"rejected", selected(schema.RejectOnce), nil, 0, 3},
		{"cancelled", schema.ToolApproveResult{Outcome: "cancelled"}, nil, 0, 3},
		{"cancelled, with an option", schema.ToolApproveResult{Outcome: "cancelled", OptionID: string(schema.AllowOnce)}, nil, 0, 3},
		{"no option", schema.ToolApproveResult{Outcome: schema.OutcomeSelected}, nil, 0, 3},
		{"another option", selected("allow"), nil, 0, 3},
		{"error", selected(schema.AllowOnce), errors.New("no window"), 0, 3},
		{"nothing", schema.ToolApproveResult{}, nil, 0, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t, schema.ToolSpec{Name: "f", Approval: schema.ApprovalAsk, Title: "Do it"})
			a := New(newScripted(t, toolScript("<tool_response>\n", "done", "go", callText("f", `{}`))), b, Options{})
			h := &fakeHost{approve: func(context.Context, schema.ToolApproveParams) (schema.ToolApproveResult, error) {
				return c.answer, c.err
			}}
			for range 3 {
				r := &recorder{}
				res, err := a.Generate(t.Context(), toolTurn("go"), r, h)
				require.NoError(t, err)
				require.Equal(t, schema.StopEndTurn, res.StopReason)
				require.Equal(t, c.calls == 0, slices.Contains(r.became(), "g.0 rejected"))
				if c.calls == 0 {
					require.Equal(t, "Error: The user did not allow this call.", res.Messages[1].Content.Text())
				}
			}
			require.Len(t, h.called, c.calls)
			require.Len(t, h.asked, c.asks)
			require.Equal(t, "Do it", h.asked[0].Title)
			// A tool that is another one now is asked about again.
			b.tools[0].Digest = "another"
			_, err := a.Generate(t.Context(), toolTurn("go"), &recorder{}, h)
			require.NoError(t, err)
			require.Len(t, h.asked, c.asks+1)
		})
	}
}

// TestPanicInTool: a host that panics fails its call and nothing else.
func TestPanicInTool(t *testing.T) {
	a := New(newScripted(t, toolScript("<tool_response>\n", "done", "go", callText("f", `{}`))), newBox(t, schema.ToolSpec{Name: "f"}), Options{})
	h := &fakeHost{call: func(context.Context, schema.ToolCallParams) (schema.ToolResult, error) { panic("planted") }}
	res, err := a.Generate(t.Context(), toolTurn("go"), &recorder{}, h)
	require.NoError(t, err)
	require.Equal(t, "done", res.Message.Content.Text())
}

// TestCallIDs are short and of one generation each.
func TestCallIDs(t *testing.T) {
	ids := map[string]bool{}
	for _, g := range []string{"a", strings.Repeat("x", 128), strings.Repeat("x", 127) + "y"} {
		turn := &turn{params: &schema.GenerateParams{GenerationID: g}}
		for range 3 {
			id := turn.callID()
			require.LessOrEqual(t, len(id), 128)
			ids[id] = true
		}
	}
	require.Len(t, ids, 9)
}

// TestReasoningIsAChannel: what a model thinks between its marks is told apart from
// its answer, and stays with the message.
func TestReasoningIsAChannel(t *testing.T) {
	a := New(newScripted(t, toolScript("", "<think>\nHm, hm.\n</think>\n\nIt is.")), noTools{}, Options{})
	r := &recorder{}
	res, err := a.Generate(t.Context(), chat("x"), r, nil)
	require.NoError(t, err)
	require.Equal(t, "It is.", res.Message.Content.Text())
	require.Equal(t, "Hm, hm.", strings.TrimSpace(res.Message.Content.Reasoning()))
	require.Equal(t, schema.PartReasoning, res.Message.Content[0].Type)
	require.Equal(t, res.Message.Content.Reasoning(), r.thoughts)
	require.Equal(t, "It is.", r.all())
	// A prompt's answer is text, whatever it looks like.
	p := raw("x")
	res, err = a.Generate(t.Context(), p, &recorder{}, nil)
	require.NoError(t, err)
	require.Contains(t, res.Message.Content.Text(), "<think>")
}
