// Package rpctest is the other side of the wire, for tests: clients in process
// and spawned, a runner of transcripts, a recorder for clients that others wrote
// (in the folder clients), the times that the wire takes, and an Agent that does
// as it is told. It must never be part of a server. Start with Start and with Play.
package rpctest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"harmonyd/rpc"
	"harmonyd/schema"
)

// Agent is an rpc.Agent that needs no model. What a generation does is told by
// its prompt, or by the text of its last message: a list of commands, separated
// by blanks.
//
//	say:TEXT    one token of text; _ stands for a blank
//	think:TEXT  one token of reasoning
//	repeat:N    N tokens "t0 ", "t1 ", …
//	sleep:MS    wait; a cancellation ends the wait and the generation
//	load, prefill:N, decode   report a state
//	block       wait until cancelled
//	abort       wait until cancelled, and return the context's error
//	gate        wait for Agent.Gate
//	fail:KIND   an error of that kind
//	write:NAME  begin to write a call of NAME, args:TEXT more of its arguments, a
//	            token each, for those who want to see them; ' stands for "
//	tool:NAME,NAME            call these tools at once, with no arguments
//	ask:NAME    ask whether NAME may be called
//	round       begin another round
//	again:WHY   begin another round instead of this one
//	loop        end as a text that repeats itself
//	crash, panic              an error that nobody described, a panic
//	partial     an error that carries what was generated
//	stop        end as a stop sequence does
//
// The zero value is ready for use.
type Agent struct {
	// Pace is the time that each command and each token takes besides.
	Pace time.Duration
	// Gate releases generations that wait at gate, one for each value.
	Gate chan struct{}

	mu       sync.Mutex
	sessions []string
	opened   int // sessions so far
	tools    []schema.ToolInfo
	revision int64
	running  int
}

var _ rpc.Agent = (*Agent)(nil)

// Running is the number of calls of Generate that have not returned.
func (a *Agent) Running() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.running
}

// Models lists one model.
func (a *Agent) Models(context.Context) (schema.ModelsListResult, error) {
	return schema.ModelsListResult{Models: []schema.ModelInfo{{
		ID: "scripted", Name: "Scripted", Family: "scripted", ContextLength: 1000, MaxOutputTokens: 1000,
		Capabilities: schema.ModelCapabilities{Chat: true, Tools: true},
		State:        schema.ModelReady, SizeBytes: 4096, Default: true,
	}}}, nil
}

// LoadModel reports four steps. The model "slow" waits to be cancelled.
func (a *Agent) LoadModel(ctx context.Context, p schema.ModelLoadParams, report func(done, total int64)) (schema.ModelLoadResult, error) {
	switch p.Model {
	case "slow":
		<-ctx.Done()
		return schema.ModelLoadResult{}, fmt.Errorf("load: %w", ctx.Err())
	case "huge":
		return schema.ModelLoadResult{}, fmt.Errorf("load: %w", schema.ModelLoadFailed(p.Model, "out of memory", 2000, 1000))
	case "panic":
		panic("planted")
	case "", "scripted":
	default:
		return schema.ModelLoadResult{}, schema.ModelNotFound(p.Model, []string{"scripted"})
	}
	for i := range int64(5) {
		report(i, 4)
	}
	return schema.ModelLoadResult{Model: "scripted", LoadMS: 1.5}, nil
}

// UnloadModel does nothing.
func (a *Agent) UnloadModel(context.Context, schema.ModelUnloadParams) (schema.ModelUnloadResult, error) {
	return schema.ModelUnloadResult{Model: "scripted"}, nil
}

// CountTokens counts words. The text "block" waits to be cancelled.
func (a *Agent) CountTokens(ctx context.Context, p schema.TokensCountParams) (schema.TokensCountResult, error) {
	var text string
	if p.Text != nil {
		text = *p.Text
	}
	for _, m := range p.Messages {
		text += " " + m.Content.Text()
	}
	if text == "block" {
		<-ctx.Done()
		return schema.TokensCountResult{}, ctx.Err()
	}
	return schema.TokensCountResult{Tokens: len(strings.Fields(text))}, nil
}

// RegisterTools keeps the tools.
func (a *Agent) RegisterTools(_ context.Context, p schema.ToolRegisterParams) (schema.ToolRegisterResult, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	result := schema.ToolRegisterResult{Registered: []schema.RegisteredTool{}}
	for _, t := range p.Tools {
		for _, have := range a.tools {
			if have.Name == t.Name && !p.Replace {
				return result, schema.Errorf(schema.KindToolConflict, "tool %q is registered", t.Name)
			}
		}
	}
	for i, t := range p.Tools {
		digest := fmt.Sprintf("%064x", len(t.InputSchema))
		a.tools = append(a.tools, schema.ToolInfo{ToolSpec: t, Source: schema.SourceClient, Digest: digest, Enabled: true})
		r := schema.RegisteredTool{Name: t.Name, Digest: digest}
		if bytes.Contains(t.InputSchema, []byte(`"uniqueItems"`)) {
			r.Unconstrained = []schema.Unconstrained{{Keyword: "uniqueItems", InstancePath: fmt.Sprintf("/tools/%d/inputSchema/uniqueItems", i)}}
		}
		result.Registered = append(result.Registered, r)
	}
	a.revision++
	result.Revision = a.revision
	return result, nil
}

// UnregisterTools forgets tools.
func (a *Agent) UnregisterTools(ctx context.Context, p schema.ToolsUnregisterParams) (schema.ToolsListResult, error) {
	a.mu.Lock()
	for _, name := range p.Names {
		i := slices.IndexFunc(a.tools, func(t schema.ToolInfo) bool { return t.Name == name })
		if i < 0 {
			a.mu.Unlock()
			return schema.ToolsListResult{}, schema.Errorf(schema.KindToolNotFound, "tool %q is not registered", name)
		}
		a.tools = slices.Delete(a.tools, i, i+1)
	}
	a.revision++
	a.mu.Unlock()
	return a.ListTools(ctx, schema.ToolsListParams{})
}

// SetToolsEnabled switches tools, for all sessions.
func (a *Agent) SetToolsEnabled(ctx context.Context, p schema.ToolsSetEnabledParams) (schema.ToolsListResult, error) {
	a.mu.Lock()
	for _, name := range p.Names {
		i := slices.IndexFunc(a.tools, func(t schema.ToolInfo) bool { return t.Name == name })
		if i < 0 {
			a.mu.Unlock()
			return schema.ToolsListResult{}, schema.Errorf(schema.KindToolNotFound, "tool %q is not registered", name)
		}
		a.tools[i].Enabled = p.Enabled
	}
	a.revision++
	a.mu.Unlock()
	return a.ListTools(ctx, schema.ToolsListParams{})
}

// ListTools lists the tools.
func (a *Agent) ListTools(context.Context, schema.ToolsListParams) (schema.ToolsListResult, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return schema.ToolsListResult{Tools: append([]schema.ToolInfo{}, a.tools...), Revision: a.revision}, nil
}

// Generate does what the script says.
func (a *Agent) Generate(ctx context.Context, p schema.GenerateParams, s rpc.Sink, h rpc.Host) (schema.GenerateResult, error) {
	a.count(1)
	defer a.count(-1)
	script := ""
	switch n := len(p.Messages); {
	case p.Prompt != nil:
		script = *p.Prompt
	case n > 0:
		script = p.Messages[n-1].Content.Text()
	}
	g := generating{ctx: ctx, id: p.GenerationID, sink: s, host: h, max: p.MaxTokens, top: p.Logprobs, stop: schema.StopEndTurn,
		arguments: p.Stream.ToolArguments != nil && *p.Stream.ToolArguments}
	for _, word := range strings.Fields(script) {
		if err := g.do(a, word); err != nil {
			return schema.GenerateResult{}, err
		}
		if g.done {
			break
		}
	}
	return g.result(), nil
}

func (a *Agent) count(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.running += n
}

// generating is one scripted generation.
type generating struct {
	ctx             context.Context
	id              string
	sink            rpc.Sink
	host            rpc.Host
	round, calls    int
	max             int
	arguments       bool            // are streamed
	writing         bool            // a call has begun
	written         strings.Builder // its arguments
	text, reasoning strings.Builder
	tokens          int
	top             int // logprobs to report
	logprobs        []schema.TokenLogprobs
	stop            schema.StopReason
	done            bool
}

func (g *generating) do(a *Agent, word string) error {
	if g.pause(a.Pace); g.done {
		return nil
	}
	name, arg, _ := strings.Cut(word, ":")
	n := 0
	if _, err := fmt.Sscan(arg, &n); err != nil {
		n = 0
	}
	switch name {
	case "say":
		g.say(schema.ChannelText, strings.ReplaceAll(arg, "_", " "))
	case "think":
		g.say(schema.ChannelReasoning, strings.ReplaceAll(arg, "_", " "))
	case "repeat":
		for i := 0; i < n && !g.done; i++ {
			g.say(schema.ChannelText, fmt.Sprintf("t%d ", i))
			g.pause(a.Pace)
		}
	case "load":
		g.sink.Status(schema.GenerateStatus{State: schema.StateLoading, LoadedShare: 0.5})
	case "prefill":
		g.sink.Status(schema.GenerateStatus{State: schema.StatePrefill, PromptTokens: 2 * n, ProcessedTokens: n})
	case "decode":
		g.sink.Status(schema.GenerateStatus{State: schema.StateDecoding, Round: g.round})
	case "round":
		g.round++
		g.sink.Status(schema.GenerateStatus{State: schema.StateQueued, Round: g.round})
	case "write":
		g.argue(arg, "")
	case "args":
		g.argue("", strings.ReplaceAll(arg, "'", `"`))
	case "again":
		g.again(schema.Retry(arg))
	case "tool":
		g.callTools(strings.Split(arg, ","))
	case "ask":
		g.ask(arg)
	case "sleep":
		g.wait(time.After(time.Duration(n) * time.Millisecond))
	case "block":
		g.wait(nil)
	case "gate":
		select {
		case <-a.Gate:
		case <-g.ctx.Done():
			g.cancelled()
		}
	case "fail":
		switch schema.Kind(arg) {
		case schema.KindContextOverflow:
			return fmt.Errorf("generate: %w", schema.ContextOverflowed(2000, 1000))
		case schema.KindOutOfMemory:
			return fmt.Errorf("generate: %w", schema.OutOfMemory(5000, 3000, 50_000, 30_000, false))
		}
		return fmt.Errorf("generate: %w", schema.Errorf(schema.Kind(arg), "planted"))
	case "partial":
		return schema.EngineFailed("planted", &schema.Partial{Message: g.result().Message, Usage: g.result().Usage})
	case "crash":
		return fmt.Errorf("planted")
	case "panic":
		panic("planted")
	case "abort":
		g.wait(nil)
		return g.ctx.Err()
	case "stop", "loop":
		g.stop, g.done = map[string]schema.StopReason{"stop": schema.StopStopSequence, "loop": schema.StopLoop}[name], true
	}
	return nil
}

// again takes back what was said in this round and begins another.
func (g *generating) again(why schema.Retry) {
	g.text.Reset()
	g.reasoning.Reset()
	g.round++
	g.sink.Status(schema.GenerateStatus{State: schema.StateQueued, Round: g.round, Retry: why})
}

// callTools calls tools and says what they answered.
func (g *generating) callTools(names []string) {
	g.sink.Status(schema.GenerateStatus{State: schema.StateTool, Round: g.round})
	type outcome struct {
		result schema.ToolResult
		err    error
	}
	outcomes := make([]outcome, len(names))
	ids := make([]string, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		ids[i] = fmt.Sprintf("%s.%d", g.id, g.calls)
		g.calls++
		arguments := json.RawMessage(`{}`)
		if g.written.Len() > 0 {
			arguments = json.RawMessage(g.written.String())
		}
		g.writing = false
		g.written.Reset()
		g.sink.ToolCall(schema.GenerateToolCall{CallID: ids[i], Name: name, Status: schema.CallPending, Arguments: arguments})
		started := make(chan struct{})
		all.Go(func() {
			close(started)
			outcomes[i].result, outcomes[i].err = g.host.CallTool(g.ctx, schema.ToolCallParams{
				CallID: ids[i], Name: name, Arguments: arguments, Index: i, Batch: len(names),
			})
		})
		<-started
		g.pause(time.Nanosecond) // so that they go out in order
	}
	all.Wait()
	for i, o := range outcomes {
		status, text := schema.CallCompleted, o.result.Content.Text()+string(o.result.StructuredContent)
		switch {
		case g.ctx.Err() != nil:
			status = schema.CallCancelled
		case o.err != nil:
			status, text = schema.CallFailed, o.err.Error()
		}
		g.sink.ToolCall(schema.GenerateToolCall{CallID: ids[i], Name: names[i], Status: status})
		g.say(schema.ChannelText, text)
	}
}

// ask asks whether a tool may be called and says what was answered.
func (g *generating) ask(name string) {
	answer, err := g.host.Approve(g.ctx, schema.ToolApproveParams{
		CallID: g.id + ".ask", Name: name, Title: name, Source: schema.SourceClient, Arguments: json.RawMessage(`{}`),
		Options: []schema.ApproveOption{{OptionID: "yes", Name: "Yes", Kind: schema.AllowOnce}},
	})
	if err != nil {
		g.say(schema.ChannelText, err.Error())
		return
	}
	g.say(schema.ChannelText, answer.Outcome+" "+answer.OptionID)
}

func (g *generating) say(channel schema.Channel, text string) {
	if g.ctx.Err() != nil {
		g.cancelled()
		return
	}
	g.tokens++
	if channel == schema.ChannelText {
		g.text.WriteString(text)
	} else {
		g.reasoning.WriteString(text)
	}
	if g.top > 0 {
		l := schema.TokenLogprobs{Token: g.tokens, Text: text, Logprob: -0.5, Top: []schema.TokenLogprob{}}
		for i := range g.top {
			l.Top = append(l.Top, schema.TokenLogprob{Token: g.tokens + i, Text: text + "?", Logprob: -0.5 - float64(i)})
		}
		g.logprobs = append(g.logprobs, l)
		g.sink.Logprobs(g.logprobs[len(g.logprobs)-1:])
	}
	g.sink.Text(g.ctx, channel, text, 1)
	if g.tokens == g.max {
		g.stop, g.done = schema.StopMaxTokens, true
	}
}

// argue writes the next call.
func (g *generating) argue(name, text string) {
	if name != "" {
		if g.writing { // the one before is called by nobody
			g.calls++
		}
		g.writing = true
		g.written.Reset()
	}
	g.written.WriteString(text)
	g.tokens++
	if g.arguments {
		g.sink.Arguments(g.ctx, fmt.Sprintf("%s.%d", g.id, g.calls), name, text, 1)
	}
}

func (g *generating) pause(d time.Duration) {
	if d > 0 {
		g.wait(time.After(d))
	}
	if g.ctx.Err() != nil {
		g.cancelled()
	}
}

func (g *generating) wait(until <-chan time.Time) {
	select {
	case <-until:
	case <-g.ctx.Done():
		g.cancelled()
	}
}

func (g *generating) cancelled() { g.stop, g.done = schema.StopCancelled, true }

func (g *generating) result() schema.GenerateResult {
	m := schema.Message{Role: schema.RoleAssistant, Content: schema.Content{}}
	if g.reasoning.Len() > 0 {
		m.Content = append(m.Content, schema.Part{Type: schema.PartReasoning, Text: g.reasoning.String()})
	}
	if g.text.Len() > 0 {
		m.Content = append(m.Content, schema.Part{Type: schema.PartText, Text: g.text.String()})
	}
	return schema.GenerateResult{
		StopReason: g.stop, Message: m, Logprobs: g.logprobs,
		Usage: schema.Usage{PromptTokens: 1, CompletionTokens: g.tokens, Rounds: 1},
	}
}
