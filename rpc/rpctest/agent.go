// Package rpctest is the other side of the wire, for tests: clients in process
// and spawned, a runner of transcripts, and an Agent that does as it is told.
// It must never be part of a server. Start with Start and with Run.
package rpctest

import (
	"context"
	"fmt"
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
	for _, t := range p.Tools {
		digest := fmt.Sprintf("%064x", len(t.InputSchema))
		a.tools = append(a.tools, schema.ToolInfo{ToolSpec: t, Source: schema.SourceClient, Digest: digest})
		result.Registered = append(result.Registered, schema.RegisteredTool{Name: t.Name, Digest: digest})
	}
	a.revision++
	result.Revision = a.revision
	return result, nil
}

// ListTools lists the tools.
func (a *Agent) ListTools(context.Context) (schema.ToolsListResult, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return schema.ToolsListResult{Tools: append([]schema.ToolInfo{}, a.tools...), Revision: a.revision}, nil
}

// Generate does what the script says.
func (a *Agent) Generate(ctx context.Context, p schema.GenerateParams, s rpc.Sink) (schema.GenerateResult, error) {
	a.count(1)
	defer a.count(-1)
	script := ""
	switch n := len(p.Messages); {
	case p.Prompt != nil:
		script = *p.Prompt
	case n > 0:
		script = p.Messages[n-1].Content.Text()
	}
	g := generating{ctx: ctx, sink: s, max: p.MaxTokens, top: p.Logprobs, stop: schema.StopEndTurn}
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
	sink            rpc.Sink
	max             int
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
		g.sink.Status(schema.GenerateStatus{State: schema.StateDecoding})
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
	case "stop":
		g.stop, g.done = schema.StopStopSequence, true
	}
	return nil
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
