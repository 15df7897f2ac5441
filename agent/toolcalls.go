package agent

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"harmonyd/schema"
)

// Host asks the client on behalf of a turn. Its methods may be called from several
// goroutines and block until there is an answer or ctx is done.
type Host interface {
	// CallTool runs a tool. A *schema.Error is one that the tool reports, with the
	// code of method_not_found where the client does not know the tool.
	CallTool(ctx context.Context, p schema.ToolCallParams) (schema.ToolResult, error)
	// Approve asks a person. Any error means that nobody allowed anything.
	Approve(ctx context.Context, p schema.ToolApproveParams) (schema.ToolApproveResult, error)
}

// Bounds of a turn with tools.
const (
	defaultMaxRounds = 25
	maxCalls         = 64 // of one answer
	// maxInvalid is how many calls of a tool in a row may make no sense, and
	// maxRepairs how many of a turn: the model is told what is wrong with each.
	maxInvalid = 2
	maxRepairs = 5
	// maxSame is how often within sameSteps rounds a call may be made with the same
	// arguments and the same result.
	maxSame   = 5
	sameSteps = 10
	// maxResultBytes of a result reach the model.
	maxResultBytes = 256 << 10
)

// callID gives out the next id of a call. It is unique as long as the ids of
// generations are.
func (t *turn) callID() string {
	id := t.params.GenerationID
	if len(id) > 96 { // ids have 128 bytes at most
		sum := sha256.Sum256([]byte(id))
		id = hex.EncodeToString(sum[:])
	}
	t.calls++
	return fmt.Sprintf("%s.%d", id, t.calls-1)
}

// act carries out what the answer calls and adds both to the conversation. It
// returns why the turn ends with that, or nothing.
func (t *turn) act(ctx context.Context) schema.StopReason {
	t.add(schema.StopToolCalls)
	callback := t.params.ToolMode == schema.ToolCallback
	if callback {
		t.status(schema.GenerateStatus{State: schema.StateTool})
	}
	for _, c := range t.called {
		t.report(schema.GenerateToolCall{CallID: c.CallID, Name: c.Name, Arguments: c.Arguments, Status: schema.CallPending})
	}
	if !callback && t.sound() {
		return schema.StopToolCalls
	}
	hopeless := false
	for _, problem := range t.problems {
		hopeless = t.mistake("") || hopeless
		t.added = append(t.added, schema.Message{Role: schema.RoleTool, Content: schema.TextContent("Error: this is no call of a tool: " + problem)})
	}
	call := t.callTools
	if !callback {
		call = t.sendBack
	}
	results, mistaken := call(ctx)
	for i, c := range t.called {
		t.added = append(t.added, schema.Message{Role: schema.RoleTool, ToolCallID: c.CallID, Name: c.Name, Content: schema.TextContent(resultText(results[i]))})
	}
	hopeless = t.stuck(results) || mistaken || hopeless
	switch {
	case ctx.Err() != nil:
		return schema.StopCancelled
	case hopeless:
		return schema.StopToolLoop
	case t.round+1-t.retried >= cmp.Or(t.params.MaxRounds, defaultMaxRounds):
		return schema.StopMaxRounds
	}
	return ""
}

// stuck reports whether the model makes the same call again and again and learns nothing
// by it.
func (t *turn) stuck(results []schema.ToolResult) bool {
	step := make([][sha256.Size]byte, len(t.called)) // a result may be large
	for i, c := range t.called {
		step[i] = sha256.Sum256([]byte(c.Name + "\x00" + string(c.Arguments) + "\x00" + resultText(results[i])))
	}
	t.steps = append(t.steps, step)
	t.steps = t.steps[max(0, len(t.steps)-sameSteps):]
	count := map[[sha256.Size]byte]int{}
	for _, call := range slices.Concat(t.steps...) {
		count[call]++
		if count[call] > maxSame {
			return true
		}
	}
	return false
}

// mistake counts a call that makes no sense and reports whether that is enough.
func (t *turn) mistake(tool string) bool {
	t.invalid[tool]++
	t.repairs++
	return t.invalid[tool] > maxInvalid || t.repairs > maxRepairs
}

// report tells the sink of a call.
func (t *turn) report(u schema.GenerateToolCall) {
	u.GenerationID, u.Round = t.params.GenerationID, t.round
	t.sink.ToolCall(u)
}

// outcome is what became of a call, or that it got further.
type outcome struct {
	index  int
	status schema.CallStatus
	result schema.ToolResult
	// ours says that the result is not the tool's own answer.
	ours bool
}

// callTools carries out all calls of the answer at once and returns their results
// in its order, and whether the model has made too many mistakes.
func (t *turn) callTools(ctx context.Context) (results []schema.ToolResult, hopeless bool) {
	results = make([]schema.ToolResult, len(t.called))
	outcomes := make(chan outcome)
	running := 0
	for i := range t.called {
		tool, problem := t.find(i)
		if problem != "" {
			hopeless = t.mistake(t.called[i].Name) || hopeless
			results[i] = t.refuse(i, problem)
			continue
		}
		delete(t.invalid, tool.Name)
		running++
		go func() { outcomes <- t.call(ctx, i, tool, outcomes) }()
	}
	for running > 0 {
		o := <-outcomes
		if t.settle(o); o.status != schema.CallRunning {
			results[o.index] = o.result
			running--
		}
	}
	return results, hopeless
}

// sound reports whether all that the answer calls can be called.
func (t *turn) sound() bool {
	for i := range t.called {
		if _, problem := t.find(i); problem != "" {
			return false
		}
	}
	return len(t.problems) == 0
}

// sendBack is callTools where the client carries out calls by itself, and gets no call
// that is none: the model calls again.
func (t *turn) sendBack(context.Context) (results []schema.ToolResult, hopeless bool) {
	results = make([]schema.ToolResult, len(t.called))
	for i := range t.called {
		_, problem := t.find(i)
		if problem != "" {
			hopeless = t.mistake(t.called[i].Name) || hopeless
		} else {
			problem = "Not called, because another call of the same answer was wrong. Call again."
		}
		results[i] = t.refuse(i, problem)
	}
	return results, hopeless
}

// refuse is the result of the ith call where nobody makes it.
func (t *turn) refuse(i int, problem string) schema.ToolResult {
	r := failure(problem)
	t.settle(outcome{i, schema.CallFailed, r, true})
	return r
}

// settle tells the sink of an outcome.
func (t *turn) settle(o outcome) {
	u := schema.GenerateToolCall{CallID: t.called[o.index].CallID, Name: t.called[o.index].Name, Status: o.status}
	if o.ours {
		u.Result = &o.result
	}
	t.report(u)
}

// find returns the tool of the ith call, or what the model is to be told.
func (t *turn) find(i int) (tool *schema.Tool, problem string) {
	c := &t.called[i]
	at := slices.IndexFunc(t.tools, func(tool schema.Tool) bool { return tool.Name == c.Name })
	switch {
	case i >= maxCalls:
		return nil, fmt.Sprintf("Not called: one answer can call %d tools.", maxCalls)
	case at < 0:
		names := make([]string, len(t.tools))
		for i := range t.tools {
			names[i] = t.tools[i].Name
		}
		return nil, fmt.Sprintf("There is no tool named %q. The tools are: %s.", c.Name, strings.Join(names, ", "))
	}
	tool = &t.tools[at]
	if bad := tool.Input.Check(c.Arguments); len(bad) > 0 {
		return nil, "Invalid arguments for " + c.Name + ": " + places(bad)
	}
	return tool, ""
}

func places(bad []schema.FieldError) string {
	texts := make([]string, len(bad))
	for i, b := range bad {
		texts[i] = strings.TrimPrefix(b.InstancePath+": "+b.Message, ": ")
	}
	return strings.Join(texts, "; ")
}

func failure(text string) schema.ToolResult {
	return schema.ToolResult{Content: schema.TextContent(text), IsError: true}
}

// call carries out the ith call: it has it approved where that is to be, says that
// it runs, and waits for its end. Whatever happens is a result for the model.
func (t *turn) call(ctx context.Context, i int, tool *schema.Tool, say chan<- outcome) (o outcome) {
	defer func() {
		if p := recover(); p != nil {
			t.agent.log.Error("call of a tool", "tool", tool.Name, "panic", p)
			o = outcome{i, schema.CallFailed, failure("The call failed inside of the server."), true}
		}
	}()
	end := func(status schema.CallStatus, format string, args ...any) outcome {
		return outcome{i, status, failure(fmt.Sprintf(format, args...)), true}
	}
	if t.host == nil {
		return end(schema.CallFailed, "Nobody is there to call tools.")
	}
	if tool.Approval == schema.ApprovalAsk && !t.approved(ctx, i, tool) {
		if ctx.Err() != nil {
			return end(schema.CallCancelled, "Cancelled.")
		}
		return end(schema.CallRejected, "The user did not allow this call.")
	}
	say <- outcome{index: i, status: schema.CallRunning}
	limited, stop := ctx, func() {}
	if tool.TimeoutMS > 0 {
		limited, stop = context.WithTimeout(ctx, time.Duration(tool.TimeoutMS)*time.Millisecond)
	}
	defer stop()
	c := &t.called[i]
	r, err := t.host.CallTool(limited, schema.ToolCallParams{
		CallID: c.CallID, GenerationID: t.params.GenerationID, SessionID: t.params.SessionID,
		Name: c.Name, Arguments: c.Arguments, Index: i, Batch: len(t.called),
	})
	var wire *schema.Error
	switch {
	case err != nil && ctx.Err() != nil:
		return end(schema.CallCancelled, "Cancelled.")
	case err != nil && limited.Err() != nil:
		return end(schema.CallFailed, "Timed out after %d ms.", tool.TimeoutMS)
	case errors.As(err, &wire):
		if wire.Code == schema.Errorf(schema.KindMethodNotFound, "").Code {
			t.agent.unknown(t.params.SessionID, tool)
		}
		return end(schema.CallFailed, "%s", wire.Message)
	case err != nil:
		return end(schema.CallFailed, "%v", err)
	case r.IsError:
		return outcome{i, schema.CallFailed, r, false}
	}
	if problem := checkOutput(tool, r); problem != "" {
		return end(schema.CallFailed, "%s", problem)
	}
	return outcome{i, schema.CallCompleted, r, false}
}

// checkOutput holds a result to its tool's own description.
func checkOutput(tool *schema.Tool, r schema.ToolResult) string {
	switch {
	case tool.Output == nil:
		return ""
	case r.StructuredContent == nil:
		return "The tool " + tool.Name + " returned no structured result, which it promises."
	}
	if bad := tool.Output.Check(r.StructuredContent); len(bad) > 0 {
		return "The tool " + tool.Name + " returned an invalid result: " + places(bad)
	}
	return ""
}

// approved asks a person whether the ith call may be made. Only a plain yes is one.
func (t *turn) approved(ctx context.Context, i int, tool *schema.Tool) bool {
	key := allowance{t.params.SessionID, tool.Digest}
	if t.agent.isAllowed(key) {
		return true
	}
	c, title := &t.called[i], tool.Title
	if title == "" {
		title = tool.Name
	}
	answer, err := t.host.Approve(ctx, schema.ToolApproveParams{
		CallID: c.CallID, GenerationID: t.params.GenerationID, SessionID: t.params.SessionID,
		Name: c.Name, Source: tool.Source, Arguments: c.Arguments, Title: title, Kind: tool.Kind,
		Options: []schema.ApproveOption{
			{OptionID: string(schema.AllowOnce), Name: "Allow", Kind: schema.AllowOnce},
			{OptionID: string(schema.AllowAlways), Name: "Always allow", Kind: schema.AllowAlways},
			{OptionID: string(schema.RejectOnce), Name: "Reject", Kind: schema.RejectOnce},
		},
	})
	if err != nil || answer.Outcome != schema.OutcomeSelected || ctx.Err() != nil {
		return false
	}
	switch schema.ApproveKind(answer.OptionID) {
	case schema.AllowAlways:
		t.agent.allow(key)
		return true
	case schema.AllowOnce:
		return true
	}
	return false
}

// resultText is what a model reads of a result.
func resultText(r schema.ToolResult) string {
	var b strings.Builder
	for i := range r.Content {
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		switch p := &r.Content[i]; {
		case p.Type == schema.PartText:
			b.WriteString(p.Text)
		case p.Resource != nil && p.Resource.Text != "":
			b.WriteString(p.Resource.Text)
		case p.Resource != nil:
			fmt.Fprintf(&b, "[%s %s]", p.Type, p.Resource.URI)
		default:
			fmt.Fprintf(&b, "[%s %s]", p.Type, p.MimeType)
		}
	}
	text := b.String()
	if text == "" {
		text = string(r.StructuredContent)
	}
	if r.IsError {
		text = "Error: " + text
	}
	return shortened(text)
}

// shortened leaves out the middle of what is too long, at characters.
func shortened(text string) string {
	if len(text) <= maxResultBytes {
		return text
	}
	head, tail := maxResultBytes/2, len(text)-maxResultBytes/2
	for !utf8.RuneStart(text[head]) {
		head--
	}
	for tail < len(text) && !utf8.RuneStart(text[tail]) {
		tail++
	}
	return fmt.Sprintf("%s\n[… %d bytes left out …]\n%s", text[:head], tail-head, text[tail:])
}
