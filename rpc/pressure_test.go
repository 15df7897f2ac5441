package rpc_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/rpc"
	"harmonyd/rpc/rpctest"
	"harmonyd/schema"
)

// bigAgent answers with much.
type bigAgent struct{ rpctest.Agent }

func (b *bigAgent) Generate(ctx context.Context, p schema.GenerateParams, s rpc.Sink, h rpc.Host) (schema.GenerateResult, error) {
	r, err := b.Agent.Generate(ctx, p, s, h)
	if r.StopReason == schema.StopEndTurn {
		r.Message.Content = schema.TextContent(strings.Repeat("x", 1<<20))
	}
	return r, err
}

func (*bigAgent) ListTools(context.Context, schema.ToolsListParams) (schema.ToolsListResult, error) {
	return schema.ToolsListResult{Tools: []schema.ToolInfo{{Digest: strings.Repeat("x", 1<<20)}}}, nil
}

// unread is a client that reads only when it is told to.
type unread struct {
	in  *io.PipeWriter
	out *io.PipeReader
	end func()
}

func startUnread(t *testing.T, agent rpc.Agent) unread {
	ctx, cancel := context.WithCancel(context.Background())
	in, toServer := io.Pipe()
	fromServer, out := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		rpc.Serve(ctx, in, out, agent, rpc.Options{})
	}()
	u := unread{toServer, fromServer, sync.OnceFunc(func() {
		cancel()
		_ = fromServer.Close()
		<-done
	})}
	u.send(t, `{"jsonrpc":"2.0","id":"init","method":"initialize"}`)
	return u
}

func (u unread) send(t *testing.T, body string) {
	_, err := io.WriteString(u.in, body+"\n")
	require.NoError(t, err)
}

// read reads for a while and returns the ids of what was answered, by kind of
// error or "" for none.
func (u unread) read(kinds map[string]map[string]bool) {
	d := json.NewDecoder(u.out)
	for {
		var m rpctest.Message
		if d.Decode(&m) != nil {
			return
		}
		if m.ID == nil {
			continue
		}
		kind := ""
		if m.Error != nil {
			kind = string(m.Error.Data.Kind)
		}
		if kinds[kind] == nil {
			kinds[kind] = map[string]bool{}
		}
		kinds[kind][string(m.ID)] = true
	}
}

// TestClientThatDoesNotRead: requests are served until 16 MiB of answers wait,
// then refused; cancel works all the time; the client that reads again has one
// answer for each id.
func TestClientThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		agent := &bigAgent{}
		u := startUnread(t, agent)
		defer u.end()
		u.send(t, `{"jsonrpc":"2.0","id":"gen","method":"generate","params":{"generationId":"g","prompt":"repeat:1000 block"}}`)
		for i := range 100 {
			u.send(t, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/list"}`, i))
			synctest.Wait()
		}
		require.Equal(t, 1, agent.Running())
		u.send(t, `{"jsonrpc":"2.0","id":"cancel","method":"cancel","params":{"generationId":"g"}}`)
		synctest.Wait()
		require.Zero(t, agent.Running(), "cancelled though nobody reads")

		kinds := map[string]map[string]bool{}
		go u.read(kinds)
		time.Sleep(time.Second)
		synctest.Wait()
		served, refused := kinds[""], kinds[string(schema.KindOverloaded)]
		require.Len(t, kinds, 2)
		require.Equal(t, 103, len(served)+len(refused))
		require.InDelta(t, 17+3, len(served), 1, "16 MiB of answers of 1 MiB, the one in the pipe, and three small ones")

		u.send(t, `{"jsonrpc":"2.0","id":"again","method":"tools/list"}`)
		time.Sleep(time.Second)
		synctest.Wait()
		require.True(t, kinds[""][`"again"`], "what was read makes room")
	})
}

// TestManyLargeAnswers: requests that were accepted together find no room for
// all of their answers. Those without are told so when it turns out.
func TestManyLargeAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		agent := &bigAgent{}
		u := startUnread(t, agent)
		defer u.end()
		u.send(t, `{"jsonrpc":"2.0","id":"gen","method":"generate","params":{"generationId":"g","prompt":"decode block"}}`)
		var all strings.Builder
		for i := range 250 {
			fmt.Fprintf(&all, `{"jsonrpc":"2.0","id":%d,"method":"tools/list"}`+"\n", i)
		}
		u.send(t, all.String())
		synctest.Wait()
		require.Equal(t, 1, agent.Running())
		u.send(t, `{"jsonrpc":"2.0","id":"cancel","method":"cancel","params":{"generationId":"g"}}`)
		synctest.Wait()
		require.Zero(t, agent.Running(), "cancelled though nobody reads")

		kinds := map[string]map[string]bool{}
		go u.read(kinds)
		time.Sleep(time.Second)
		synctest.Wait()
		require.InDelta(t, 17+3, len(kinds[""]), 1, "16 MiB of answers of 1 MiB, the one in the pipe, and three small ones")
		require.Equal(t, 253, len(kinds[""])+len(kinds[string(schema.KindOverloaded)]))
	})
}

// TestReaderHeedsNoAnswers: what generations made is never refused, and
// however much of it nobody reads, the next message is read.
func TestReaderHeedsNoAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		agent := &bigAgent{}
		agent.Gate = make(chan struct{})
		u := startUnread(t, agent)
		defer u.end()
		for i := range 41 {
			script := "decode gate"
			if i == 0 {
				script = "decode block"
			}
			u.send(t, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"generate","params":{"generationId":"g%d","prompt":"%s","stream":false}}`, i, i, script))
			synctest.Wait()
		}
		close(agent.Gate)
		synctest.Wait()
		require.Equal(t, 1, agent.Running())
		for range 3 { // a reader that waits has read one
			u.send(t, `{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":0}}`)
			synctest.Wait()
		}
		require.Zero(t, agent.Running())
		kinds := map[string]map[string]bool{}
		go u.read(kinds)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Len(t, kinds[""], 42)
	})
}

// TestClientThatOnlyWrites: answers that are given at once have no limit of
// their own, so reading pauses at 32 MiB of them. Nothing is lost.
func TestClientThatOnlyWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := startUnread(t, &rpctest.Agent{})
		defer u.end()
		const batch, batches = 1000, 130
		sent := 0
		go func() {
			for ; sent < batches; sent++ {
				var all strings.Builder
				for i := range batch {
					fmt.Fprintf(&all, `{"jsonrpc":"2.0","id":"%0120d","method":"%064d"}`+"\n", sent*batch+i, 0)
				}
				u.send(t, all.String())
			}
		}()
		synctest.Wait()
		paused := sent
		require.Less(t, paused, batches)
		kinds := map[string]map[string]bool{}
		go u.read(kinds)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, batches, sent)
		require.Len(t, kinds[string(schema.KindMethodNotFound)], batch*batches)
		const refusal = `{"jsonrpc":"2.0","id":"","error":{"code":-32601,"message":"no method \"\"","data":{"kind":"method_not_found","retryable":false}}}`
		perAnswer := len(refusal) + 120 + 64
		require.InDelta(t, 32<<20, paused*batch*perAnswer, float64(2*batch*perAnswer), "32 MiB of answers")
	})
}

// TestBodiesAreNotKept: what waits keeps what it has decoded, not what it came
// in.
func TestBodiesAreNotKept(t *testing.T) {
	c := start(t, &rpctest.Agent{})
	heap := func() int64 {
		require.NoError(t, c.Call("tools/list", nil, nil, nil)) // all before it has been decoded
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	unknown := strings.Repeat("x", 4<<20)
	for i := range 8 {
		require.NoError(t, c.Send(fmt.Sprintf(`{"jsonrpc":"2.0","id":"r%d","method":"tokens/count","params":{"text":"block","x":"%s"}}`, i, unknown)))
	}
	require.Less(t, heap()-before, int64(12<<20), "of 32 MiB")
	runtime.KeepAlive(unknown)
}

// TestBodiesInFlight: four of the largest messages may wait together.
func TestBodiesInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		limits := schema.DefaultLimits()
		limits.MaxMessageBytes = 1 << 20
		c := rpctest.Start(ctx, &rpctest.Agent{}, rpc.Options{Limits: limits})
		defer func() {
			cancel()
			c.Wait()
		}()
		_, err := c.Initialize()
		require.NoError(t, err)
		send := func(id int) {
			require.NoError(t, c.Send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tokens/count","params":{"text":"block","x":"%s"}}`,
				id, strings.Repeat("x", 1_000_000))))
			synctest.Wait()
		}
		for i := range 4 {
			send(i)
		}
		require.Empty(t, c.Received())
		send(4)
		got := c.Received()
		require.Len(t, got, 1)
		require.Equal(t, schema.KindOverloaded, got[0].Error.Data.Kind)
		require.NoError(t, c.Notify("$/cancelRequest", map[string]any{"id": 2}))
		synctest.Wait()
		require.Len(t, c.Received(), 1)
		send(5)
		require.Empty(t, c.Received(), "what is answered makes room")
	})
}
