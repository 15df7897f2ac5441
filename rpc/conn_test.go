package rpc_test

import (
	"context"
	"encoding/json"
	"flag"
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

// start serves an agent to a client that is past initialize.
func start(t *testing.T, agent rpc.Agent) *rpctest.Client {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := rpctest.Start(ctx, agent, rpc.Options{})
	t.Cleanup(func() {
		cancel()
		c.Wait()
	})
	c.Headers = true
	_, err := c.Initialize()
	require.NoError(t, err)
	return c
}

// races is how many times the tests of races race: 10,000 and more is for make wire-long.
var races = flag.Int("races", 1000, "races of generate and cancel (R8), and a tenth of those of cancel and finish (R9)")

// TestR8GenerateAndCancelInOneWrite: the cancel always finds its generation, by
// each of its ways.
func TestR8GenerateAndCancelInOneWrite(t *testing.T) {
	agent := &rpctest.Agent{}
	c := start(t, agent)
	for i := range *races {
		generate := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"generate","params":{"generationId":"g%d","prompt":"block repeat:1000"}}`, i, i)
		cancel := []string{
			fmt.Sprintf(`{"jsonrpc":"2.0","method":"cancel","params":{"generationId":"g%d"}}`, i),
			fmt.Sprintf(`{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":%d}}`, i),
			`{"jsonrpc":"2.0","method":"cancel","params":{"all":true}}`,
			fmt.Sprintf(`{"jsonrpc":"2.0","id":"ack","method":"cancel","params":{"generationId":"g%d"}}`, i),
		}[i%4]
		require.NoError(t, c.Send(generate, cancel))
		acknowledged := i%4 != 3
		for {
			m, err := c.Receive()
			require.NoError(t, err)
			if string(m.ID) == `"ack"` {
				require.JSONEq(t, `{"cancelled":true,"state":"queued"}`, string(m.Result))
				acknowledged = true
				continue
			}
			require.True(t, acknowledged || strings.Contains(m.Raw, "queued"), "before the acknowledgement: %s", m.Raw)
			if m.ID == nil {
				require.Equal(t, "generate/status", m.Method)
				continue
			}
			require.Equal(t, fmt.Sprint(i), string(m.ID))
			require.Nil(t, m.Error)
			var r schema.GenerateResult
			require.NoError(t, json.Unmarshal(m.Result, &r))
			require.Equal(t, schema.StopCancelled, r.StopReason)
			break
		}
	}
	require.Zero(t, agent.Running())
}

// TestR9OneReplyPerID runs requests of all sorts, cancelled by all ways at all
// times, also twice and too late: each has one answer, and its last
// notification comes before it.
func TestR9OneReplyPerID(t *testing.T) {
	const requests = 200
	for seed := range uint64(max(*races*10/requests, 30)) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			c := start(t, &rpctest.Agent{Pace: time.Microsecond})
			for i := range requests {
				script := []string{"say:a", "block", "repeat:20", "sleep:1 say:b", "panic", "fail:request_failed", "abort", "crash"}[random.IntN(8)]
				body := fmt.Sprintf(`{"jsonrpc":"2.0","id":"%d","method":"generate","params":{"generationId":"g%d","prompt":"%s"}}`, i, i, script)
				if random.IntN(4) == 0 {
					body = fmt.Sprintf(`{"jsonrpc":"2.0","id":"%d","method":"tokens/count","params":{"text":"block"}}`, i)
				}
				require.NoError(t, c.Send(body))
				for range 1 + random.IntN(3) {
					n := max(0, i-random.IntN(4))
					require.NoError(t, c.Send([]string{
						fmt.Sprintf(`{"jsonrpc":"2.0","method":"cancel","params":{"generationId":"g%d"}}`, n),
						fmt.Sprintf(`{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":"%d"}}`, n),
					}[random.IntN(2)]))
				}
				if random.IntN(3) == 0 {
					time.Sleep(time.Duration(random.IntN(30)) * time.Microsecond)
				}
			}
			// Whatever was not cancelled and blocks.
			for i := range requests {
				require.NoError(t, c.Send(fmt.Sprintf(`{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":"%d"}}`, i)))
			}
			time.Sleep(time.Second)
			synctest.Wait()
			answers := map[string]int{}
			for _, m := range c.Received() {
				var note struct{ GenerationID string }
				switch {
				case m.ID != nil:
					answers[string(m.ID)]++
				case json.Unmarshal(m.Params, &note) == nil && note.GenerationID != "":
					id := `"` + strings.TrimPrefix(note.GenerationID, "g") + `"`
					require.Zero(t, answers[id], "a notification after the answer: %s", m.Raw)
				}
			}
			require.Len(t, answers, requests)
			for id, n := range answers {
				require.Equal(t, 1, n, id)
			}
		})
	}
}

// TestR12InFlightLimit: 512 requests at a limit of 256. Half are refused at once;
// a request costs two goroutines at most; nothing is left afterwards.
func TestR12InFlightLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, &rpctest.Agent{})
		synctest.Wait()
		before := runtime.NumGoroutine()
		for i := range 512 {
			require.NoError(t, c.Send(fmt.Sprintf(`{"jsonrpc":"2.0","id":"r%d","method":"tokens/count","params":{"text":"block"}}`, i)))
		}
		synctest.Wait()
		refused := c.Received()
		require.Len(t, refused, 256)
		for i, m := range refused {
			require.Equal(t, fmt.Sprintf(`"r%d"`, 256+i), string(m.ID))
			require.Equal(t, schema.KindOverloaded, m.Error.Data.Kind)
			require.True(t, m.Error.Data.Retryable)
			require.Positive(t, m.Error.Data.RetryAfterMS)
		}
		require.LessOrEqual(t, runtime.NumGoroutine()-before, 2*256)
		// What is done at once is not subject to the limit.
		var cancelled schema.CancelResult
		require.NoError(t, c.Call("cancel", map[string]any{"all": true}, &cancelled, nil))
		require.False(t, cancelled.Cancelled)
		for i := range 256 {
			require.NoError(t, c.Notify("$/cancelRequest", map[string]any{"id": fmt.Sprintf("r%d", i)}))
		}
		synctest.Wait()
		require.Len(t, c.Received(), 256)
		requireGoroutines(t, before)
		require.NoError(t, c.Call("tokens/count", map[string]any{"text": "a"}, nil, nil))
	})
}

// TestR12GenerationQueueLimit: 64 generations at a queue of 32.
func TestR12GenerationQueueLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		agent := &rpctest.Agent{Gate: make(chan struct{})}
		c := start(t, agent)
		send := func(n int) (refused int) {
			for range n {
				_, err := c.Request("generate", map[string]any{"prompt": "gate decode block", "stream": false})
				require.NoError(t, err)
			}
			synctest.Wait()
			for _, m := range c.Received() {
				require.Equal(t, schema.KindOverloaded, m.Error.Data.Kind)
				refused++
			}
			return refused
		}
		require.Equal(t, 32, send(64))
		for range 5 { // start
			agent.Gate <- struct{}{}
		}
		synctest.Wait()
		require.Equal(t, 3, send(8), "those that run make room")
		require.Equal(t, 5+1, agent.Running(), "those that run, and the next")
	})
}

// TestQueueLimitWhileLoading: a generation that waits for its model waits.
func TestQueueLimitWhileLoading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		agent := &rpctest.Agent{}
		c := start(t, agent)
		for range 40 {
			_, err := c.Request("generate", map[string]any{"prompt": "load block", "stream": false})
			require.NoError(t, err)
		}
		synctest.Wait()
		require.Len(t, c.Received(), 8)
		require.Equal(t, 32, agent.Running())
	})
}

// TestL9Panics: a thousand panics, a thousand answers, and the server serves on.
func TestL9Panics(t *testing.T) {
	c := start(t, &rpctest.Agent{})
	ids := map[string]bool{}
	for range 1000 {
		err := c.Call("generate", map[string]any{"prompt": "say:x panic"}, nil, nil)
		var e *schema.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, schema.KindInternal, e.Data.Kind)
		ids[e.Data.ErrorID] = true
	}
	require.Len(t, ids, 1000, "each can be found in the log")
	require.NoError(t, c.Call("tokens/count", map[string]any{"text": "a"}, nil, nil))
}

// panicAgent panics while others wait for it.
type panicAgent struct{ rpctest.Agent }

func (*panicAgent) RegisterTools(context.Context, schema.ToolRegisterParams) (schema.ToolRegisterResult, error) {
	panic("planted")
}

// TestPanicInLine: what panics gives its place up.
func TestPanicInLine(t *testing.T) {
	c := start(t, &panicAgent{})
	var e *schema.Error
	require.ErrorAs(t, c.Call("tool-register", map[string]any{"tools": []any{}}, nil, nil), &e)
	require.Equal(t, schema.KindInternal, e.Data.Kind)
	require.NoError(t, c.Call("tools/list", nil, nil, nil))
	require.NoError(t, c.Call("generate", map[string]any{"prompt": "say:a"}, nil, nil))
}

// TestR7IDs: an id comes back byte for byte, or the request is refused with id null.
// None is answered as another.
func TestR7IDs(t *testing.T) {
	c := start(t, &rpctest.Agent{})
	for _, test := range []struct {
		id      string
		refused bool
	}{
		{"9007199254740991", false}, {"9007199254740992", false}, {"9007199254740993", false}, {"9223372036854775807", false},
		{"18446744073709551615", false}, {"18446744073709551616", false}, {strings.Repeat("9", 130), false},
		{"-1", false}, {"-9007199254740993", false}, {"0", false}, {"-0", false},
		{`""`, false}, {`"ü漢😀"`, false}, {`"\u0041\ud83d\ude00"`, false}, {`"\ud800"`, false}, {`"<&>"`, false}, {`"1"`, false},
		{"null", true}, {"1.0", true}, {"1e3", true}, {"1.5", true}, {"-", true}, {"true", true}, {"[1]", true}, {"{}", true},
		{strings.Repeat("9", 131), true}, {`"` + strings.Repeat("x", 129) + `"`, true},
	} {
		require.NoError(t, c.Send(`{"jsonrpc":"2.0","id":`+test.id+`,"method":"tools/list"}`))
		m, err := c.Receive()
		require.NoError(t, err)
		if test.refused {
			require.Equal(t, "null", string(m.ID), test.id)
			require.Less(t, m.Error.Code, int64(-32000))
			continue
		}
		require.Nil(t, m.Error, test.id)
		require.Contains(t, m.Raw, `"id":`+test.id+`,`)
	}
}
