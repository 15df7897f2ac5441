package rpc_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/rpc"
	"harmonyd/rpc/rpctest"
	"harmonyd/schema"
)

// TestR9ToolCalls is the other half of R9: what the server asks is answered in time,
// too late, twice, with an error, or never, while generations are cancelled and
// sessions closed. Each generate has one answer, and nobody is left waiting. The
// planted break is in planted_wire_test.go.
func TestR9ToolCalls(t *testing.T) {
	const requests = 100
	for seed := range uint64(max(*races/50, 20)) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			agent := &rpctest.Agent{Pace: time.Microsecond}
			c := start(t, agent)
			synctest.Wait()
			goroutines := runtime.NumGoroutine()
			answers, asked, told := map[string]int{}, map[string]int{}, map[string]int{}
			read := func() {
				for _, m := range c.Received() {
					switch {
					case m.Method == "tool/call":
						asked[string(m.ID)]++
					case m.Method == "$/cancelRequest":
						var p schema.CancelRequestParams
						require.NoError(t, json.Unmarshal(m.Params, &p))
						told[string(p.ID)]++
					case m.ID != nil:
						answers[string(m.ID)]++
					}
				}
			}
			for i := range requests {
				script := []string{"tool:a,b say:x tool:c", "tool:a", "say:x tool:a round tool:b,c,d"}[random.IntN(3)]
				require.NoError(t, c.Send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"generate","params":{"generationId":"g%d","prompt":"decode %s"}}`, i, i, script)))
				for range random.IntN(6) {
					g, call := max(0, i-random.IntN(3)), random.IntN(4)
					id := fmt.Sprintf(`"g%d.%d"`, g, call)
					require.NoError(t, c.Send([]string{
						`{"jsonrpc":"2.0","id":` + id + `,"result":"x"}`,
						`{"jsonrpc":"2.0","id":` + id + `,"error":{"code":-32601,"message":"no"}}`,
						`{"jsonrpc":"2.0","method":"tool/progress","params":{"callId":` + id + `,"progress":1}}`,
						fmt.Sprintf(`{"jsonrpc":"2.0","method":"cancel","params":{"generationId":"g%d"}}`, g),
					}[random.IntN(4)]))
				}
				if random.IntN(3) == 0 {
					time.Sleep(time.Duration(random.IntN(30)) * time.Microsecond)
				}
			}
			require.NoError(t, c.Send(`{"jsonrpc":"2.0","method":"cancel","params":{"all":true}}`))
			time.Sleep(time.Second)
			synctest.Wait()
			read()
			require.Len(t, answers, requests)
			for id, n := range answers {
				require.Equal(t, 1, n, id)
			}
			for id, n := range asked {
				require.Equal(t, 1, n, id)
			}
			for id, n := range told {
				require.Equal(t, 1, n, id)
				require.Equal(t, 1, asked[id], "told of what was not asked: %s", id)
			}
			require.Zero(t, agent.Running())
			requireGoroutines(t, goroutines)
		})
	}
}

// TestAnAnswerThatIsTooLarge is that of a tool that has failed; the next one is asked.
func TestAnAnswerThatIsTooLarge(t *testing.T) {
	limits := schema.DefaultLimits()
	limits.MaxMessageBytes = 64 << 10
	content := `{"content":[{"type":"text","text":"` + strings.Repeat("x", 64<<10) + `"}]}`
	for _, headers := range []bool{false, true} {
		for name, answer := range map[string]string{
			"in order":     `{"jsonrpc":"2.0","id":"g.0","result":` + content + `}`,
			"id first":     `{ "id" : "g\u002e0", "jsonrpc": "2.0", "result":` + content + `}`,
			"an error":     `{"jsonrpc":"2.0","id":"g.0","error":{"code":1,"message":"` + strings.Repeat("y", 64<<10) + `"}}`,
			"sixteen huge": `{"id":"g.0","result":` + strings.Repeat(" ", 16*64<<10) + content + `}`,
		} {
			t.Run(fmt.Sprintf("%s/headers=%v", name, headers), func(t *testing.T) {
				c := rpctest.Start(t.Context(), &rpctest.Agent{}, rpc.Options{Limits: limits})
				c.Headers = headers
				_, err := c.Initialize()
				require.NoError(t, err)
				id, err := c.Request("generate", json.RawMessage(`{"generationId":"g","stream":false,"prompt":"tool:a tool:b"}`))
				require.NoError(t, err)
				var result schema.GenerateResult
				require.NoError(t, c.Await(id, &result, func(m rpctest.Message) {
					switch string(m.ID) {
					case `"g.0"`:
						require.NoError(t, c.Send(answer))
					case `"g.1"`:
						require.NoError(t, c.Send(`{"jsonrpc":"2.0","id":"g.1","result":"fine"}`))
					case "null":
						require.Contains(t, m.Raw, "the message is larger than 65536 bytes")
					}
				}))
				require.Equal(t, "the client's answer cannot be read: the message is larger than 65536 bytesfine", result.Message.Content[0].Text)
				code, err := c.Shutdown()
				require.NoError(t, err)
				require.Equal(t, rpc.ExitOK, code)
			})
		}
	}
}

// requireGoroutines demands that there are no more goroutines than so many. The
// runtime's own, which runs finalizers and is of no bubble, counts while it does so: it
// gets its turn.
func requireGoroutines(t *testing.T, most int) {
	t.Helper()
	for range 10_000 {
		if runtime.NumGoroutine() <= most {
			return
		}
		runtime.Gosched()
	}
	require.LessOrEqual(t, runtime.NumGoroutine(), most)
}

// TestProgressNeedsNoMemory: a client that reports progress of its tools all the
// time and reads none of it gets the last reports when it reads again.
func TestProgressNeedsNoMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := startUnread(t, &rpctest.Agent{})
		defer u.end()
		u.send(t, `{"jsonrpc":"2.0","id":"gen","method":"generate","params":{"generationId":"g","prompt":"tool:a,b","workDoneToken":1}}`)
		time.Sleep(time.Millisecond) // both tools are asked for
		synctest.Wait()
		before := heapInUse()
		long := strings.Repeat("x", 1000)
		for i := range 20_000 {
			u.send(t, fmt.Sprintf(`{"jsonrpc":"2.0","method":"tool/progress","params":{"callId":"g.%d","message":"%s%d","progress":%d}}`, i%2, long, i, i))
		}
		synctest.Wait()
		require.Less(t, heapInUse()-before, int64(8<<20), "of 20 MB")
		kinds := map[string]map[string]bool{}
		go u.read(kinds)
		u.send(t, `{"jsonrpc":"2.0","id":"g.0","result":"x"}`)
		u.send(t, `{"jsonrpc":"2.0","id":"g.1","result":"x"}`)
		time.Sleep(time.Second)
		synctest.Wait()
		require.True(t, kinds[""][`"gen"`], "%v", kinds)
	})
}

func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestSessionsOfAClientsOwnMaking: ids of sessions that do not exist leave nothing
// behind, and one line for each of them holds nobody else up.
func TestSessionsOfAClientsOwnMaking(t *testing.T) {
	c := start(t, &rpctest.Agent{})
	for i := range 500 {
		var r schema.GenerateResult
		require.NoError(t, c.Call("generate", map[string]any{
			"sessionId": fmt.Sprintf("made up %d", i), "messages": []map[string]string{{"role": "user", "content": "say:x"}},
		}, &r, nil))
	}
	var closed *schema.Error
	require.ErrorAs(t, c.Call("session/close", map[string]any{"sessionId": "made up 7"}, nil, nil), &closed)
	require.Equal(t, schema.KindSessionNotFound, closed.Data.Kind)
}

// TestToolModeFollowsTheClient: what a client can do is what is asked of it.
func TestToolModeFollowsTheClient(t *testing.T) {
	for _, able := range []bool{false, true} {
		agent := &modeAgent{}
		ctx, cancel := context.WithCancel(t.Context())
		c := rpctest.Start(ctx, agent, rpc.Options{})
		require.NoError(t, c.Call("initialize", map[string]any{"capabilities": map[string]any{
			"harmonyd": map[string]any{"tools": map[string]any{"call": able}},
		}}, nil, nil))
		for asked, want := range map[schema.ToolMode]schema.ToolMode{
			"": map[bool]schema.ToolMode{false: schema.ToolReturn, true: schema.ToolCallback}[able], schema.ToolNone: schema.ToolNone,
			schema.ToolCallback: schema.ToolCallback, schema.ToolReturn: schema.ToolReturn,
		} {
			p := map[string]any{"prompt": "x"}
			if asked != "" {
				p["toolMode"] = asked
			}
			require.NoError(t, c.Call("generate", p, nil, nil))
			require.Equal(t, want, agent.mode)
		}
		cancel()
		c.Wait()
	}
}

// modeAgent notes the tool mode.
type modeAgent struct {
	rpctest.Agent
	mode schema.ToolMode
}

func (a *modeAgent) Generate(_ context.Context, p schema.GenerateParams, _ rpc.Sink, _ rpc.Host) (schema.GenerateResult, error) {
	a.mode = p.ToolMode
	return schema.GenerateResult{}, nil
}
