package rpc_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"harmonyd/rpc"
	"harmonyd/rpc/rpctest"
	"harmonyd/schema"
)

// orderAgent notes the order of the calls that have one.
type orderAgent struct {
	rpctest.Agent
	// compile holds registrations up, done generations that say so.
	compile, done chan struct{}

	mu    sync.Mutex
	calls []string
}

func (a *orderAgent) note(call string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, call)
}

// noted is the order so far.
func (a *orderAgent) noted() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.calls)
}

func (a *orderAgent) Generate(ctx context.Context, p schema.GenerateParams, s rpc.Sink, h rpc.Host) (schema.GenerateResult, error) {
	a.note(p.GenerationID)
	if *p.Prompt == "done" {
		s.Status(schema.GenerateStatus{State: schema.StateDone})
		<-a.done
		return schema.GenerateResult{StopReason: schema.StopEndTurn}, ctx.Err()
	}
	if *p.Prompt == "placed" {
		s.Status(schema.GenerateStatus{State: schema.StateQueued, PromptTokens: 7})
		<-ctx.Done()
	}
	return a.Agent.Generate(ctx, p, s, h)
}

func (a *orderAgent) LoadModel(ctx context.Context, p schema.ModelLoadParams, report func(done, total int64)) (schema.ModelLoadResult, error) {
	a.note("load")
	if p.Model == "reports" {
		report(1, 2)
		<-ctx.Done()
	}
	return a.Agent.LoadModel(ctx, p, report)
}

func (a *orderAgent) UnloadModel(ctx context.Context, p schema.ModelUnloadParams) (schema.ModelUnloadResult, error) {
	a.note("unload")
	return a.Agent.UnloadModel(ctx, p)
}

func (a *orderAgent) RegisterTools(ctx context.Context, p schema.ToolRegisterParams) (schema.ToolRegisterResult, error) {
	if a.compile != nil {
		<-a.compile
	}
	a.note("register " + p.Tools[0].Name)
	return a.Agent.RegisterTools(ctx, p)
}

func generate(id, prompt string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":"%s","method":"generate","params":{"generationId":"%s","prompt":"%s"}}`, id, id, prompt)
}

func other(id, method, params string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":"%s","method":"%s","params":%s}`, id, method, params)
}

// answers are the ids that were answered, in order.
func answers(messages []rpctest.Message) (ids []string) {
	for _, m := range messages {
		if m.ID != nil {
			ids = append(ids, string(m.ID))
		}
	}
	return ids
}

// TestOrderOfWork: what is sent in one write reaches the agent in that order.
func TestOrderOfWork(t *testing.T) {
	agent := &orderAgent{}
	c := start(t, agent)
	var bodies, want []string
	for i := range 1000 {
		id := fmt.Sprintf("g%d", i)
		switch i % 20 {
		case 7:
			bodies, want = append(bodies, other(id, "model/load", "{}")), append(want, "load")
		case 13:
			bodies, want = append(bodies, other(id, "model/unload", "{}")), append(want, "unload")
		default:
			bodies, want = append(bodies, generate(id, "prefill:1 say:a")), append(want, id)
		}
		if i%20 == 19 {
			require.NoError(t, c.Send(bodies...))
			for range bodies {
				for {
					m, err := c.Receive()
					require.NoError(t, err)
					if m.ID != nil {
						break
					}
				}
			}
			bodies = nil
		}
	}
	require.Equal(t, want, agent.noted())
}

// TestPlaceInLine: a request that is cancelled while it waits is answered at
// once and holds nobody up; one that has begun lets the next one begin, though
// it has not ended.
func TestPlaceInLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		agent := &orderAgent{}
		agent.Gate = make(chan struct{})
		c := start(t, agent)
		require.NoError(t, c.Send(
			generate("a", "gate prefill:1 block"), generate("b", "say:b"), other("c", "model/unload", "{}"),
			generate("d", "load block"), other("e", "model/load", `{"model":"reports"}`), generate("f", "placed"),
			generate("g", "decode block"),
		))
		synctest.Wait()
		require.Equal(t, []string{"a"}, agent.noted())
		c.Received()
		require.NoError(t, c.Notify("cancel", map[string]any{"generationId": "b"}))
		require.NoError(t, c.Notify("$/cancelRequest", map[string]any{"id": "c"}))
		synctest.Wait()
		got := answers(c.Received())
		slices.Sort(got)
		require.Equal(t, []string{`"b"`, `"c"`}, got)
		require.Equal(t, []string{"a"}, agent.noted())

		agent.Gate <- struct{}{}
		synctest.Wait()
		require.Equal(t, []string{"a", "d", "load", "f", "g"}, agent.noted())
		require.Empty(t, answers(c.Received()))
	})
}

// TestToolsInLine: a registration that takes long holds up what is to see its
// tools, in order, and neither the reader nor a cancel.
func TestToolsInLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		agent := &orderAgent{compile: make(chan struct{})}
		c := start(t, agent)
		register := func(name string) string {
			return other(name, "tool-register", `{"tools":[{"name":"`+name+`","inputSchema":{}}]}`)
		}
		require.NoError(t, c.Send(generate("before", "decode block")))
		synctest.Wait()
		c.Received()
		require.NoError(t, c.Send(
			register("one"), other("list", "tools/list", "{}"), register("two"), generate("after", "say:a"),
			generate("never", "say:a"), register("three"),
		))
		require.NoError(t, c.Send(other("ack", "cancel", `{"generationId":"before"}`)))
		require.NoError(t, c.Notify("cancel", map[string]any{"generationId": "never"}))
		synctest.Wait()
		require.ElementsMatch(t, []string{`"ack"`, `"before"`, `"never"`}, answers(c.Received()))
		require.Equal(t, []string{"before"}, agent.noted())

		agent.compile <- struct{}{}
		synctest.Wait()
		for _, m := range c.Received() {
			if string(m.ID) == `"list"` {
				var r schema.ToolsListResult
				require.NoError(t, json.Unmarshal(m.Result, &r))
				require.Len(t, r.Tools, 1, "what was registered before, and not after")
			}
		}
		require.Equal(t, []string{"before", "register one"}, agent.noted())
		agent.compile <- struct{}{}
		synctest.Wait()
		require.Equal(t, []string{"before", "register one", "register two", "after"}, agent.noted())
		close(agent.compile)
	})
}

// TestCancelOfWhatIsDone: a generation that has its result is over, though the
// answer is still on its way.
func TestCancelOfWhatIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		agent := &orderAgent{done: make(chan struct{})}
		c := start(t, agent)
		require.NoError(t, c.Send(generate("g", "done")))
		synctest.Wait()
		for _, params := range []map[string]any{{"generationId": "g"}, {"all": true}} {
			var r schema.CancelResult
			require.NoError(t, c.Call("cancel", params, &r, nil))
			require.Equal(t, schema.CancelResult{State: schema.StateUnknown}, r)
		}
		close(agent.done)
		synctest.Wait()
		got := c.Received()
		require.Contains(t, got[len(got)-1].Raw, `"stopReason":"end_turn"`)
	})
}
