package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/rpc"
	"harmonyd/rpc/rpctest"
	"harmonyd/schema"
)

const busy = `{"jsonrpc":"2.0","id":1,"method":"generate","params":{"prompt":"say:x block"}}`

// end is a way to end a connection.
type end func(t *testing.T, c *rpctest.Client, cancel func())

func closeInput(_ *testing.T, c *rpctest.Client, _ func()) { _ = c.CloseInput() }

func terminate(_ *testing.T, _ *rpctest.Client, cancel func()) { cancel() }

func exit(t *testing.T, c *rpctest.Client, _ func()) { require.NoError(t, c.Notify("exit", nil)) }

func shutdown(t *testing.T, c *rpctest.Client, _ func()) {
	_, err := c.Request("shutdown", nil)
	require.NoError(t, err)
}

func both(ends ...end) end {
	return func(t *testing.T, c *rpctest.Client, cancel func()) {
		for _, e := range ends {
			e(t, c, cancel)
		}
	}
}

// TestExitCodes ends connections in all ways, with and without work in flight,
// in both framings.
func TestExitCodes(t *testing.T) {
	for _, test := range []struct {
		name string
		work string
		end  end
		// With headers and with lines.
		headers, lines int
	}{
		{"end of input, idle", "", closeInput, 0, 0},
		{"end of input, busy", `{"jsonrpc":"2.0","id":1,"method":"generate","params":{"prompt":"sleep:100000"}}`, closeInput, 1, 0},
		{"exit, idle", "", exit, 1, 1},
		{"exit, busy", busy, exit, 1, 1},
		{"shutdown and exit, idle", "", both(shutdown, exit), 0, 0},
		{"shutdown and exit, busy", busy, both(shutdown, exit), 0, 0},
		{"shutdown and end of input", busy, both(shutdown, closeInput), 0, 0},
		{"exit and end of input", busy, both(exit, closeInput), 1, 1},
		{"terminated, idle", "", terminate, 0, 0},
		{"terminated, busy", busy, terminate, 1, 1},
		{"end of lines, then terminated", busy, both(closeInput, func(_ *testing.T, _ *rpctest.Client, cancel func()) {
			time.Sleep(time.Hour)
			cancel()
		}), 1, 1},
	} {
		for _, headers := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/headers=%v", test.name, headers), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := context.WithCancel(context.Background())
					defer cancel()
					agent := &rpctest.Agent{}
					c := rpctest.Start(ctx, agent, rpc.Options{})
					c.Headers = headers
					_, err := c.Initialize()
					require.NoError(t, err)
					if test.work != "" {
						require.NoError(t, c.Send(test.work))
					}
					synctest.Wait()
					begin := time.Now()
					test.end(t, c, cancel)
					want := test.lines
					if headers {
						want = test.headers
					}
					require.Equal(t, want, c.Wait())
					require.Zero(t, agent.Running())
					if !strings.HasPrefix(test.name, "end of") {
						require.Less(t, time.Since(begin), time.Second)
					}
					synctest.Wait()
					if test.work != "" {
						require.Contains(t, fmt.Sprint(c.Received()), `"stopReason"`, "answered before the end")
					}
				})
			})
		}
	}
}

// deafAgent does not heed its context.
type deafAgent struct {
	rpctest.Agent
	until chan struct{}
}

func (d *deafAgent) CountTokens(context.Context, schema.TokensCountParams) (r schema.TokensCountResult, err error) {
	<-d.until
	return r, nil
}

// TestBrokenOutput: a client that closes its end is gone, which shows with the
// next write.
func TestBrokenOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, toServer := io.Pipe()
		fromServer, out := io.Pipe()
		agent := &rpctest.Agent{}
		code := make(chan int)
		go func() { code <- rpc.Serve(context.Background(), in, out, agent, rpc.Options{}) }()
		_, err := io.WriteString(toServer, `{"jsonrpc":"2.0","id":0,"method":"initialize"}`+"\n")
		require.NoError(t, err)
		_, err = fromServer.Read(make([]byte, 1<<16))
		require.NoError(t, err)
		require.NoError(t, fromServer.Close())
		_, err = io.WriteString(toServer, busy+"\n")
		require.NoError(t, err)
		require.Equal(t, rpc.ExitAbandoned, <-code)
		require.Zero(t, agent.Running(), "nobody is generated for")
	})
}

// TestWriteStall: off, a client may stop reading for a day; on, it is given up
// when a write makes no progress for so long.
func TestWriteStall(t *testing.T) {
	for _, stall := range []time.Duration{0, time.Minute} {
		t.Run(stall.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(context.Background())
				in, toServer := io.Pipe()
				fromServer, out := io.Pipe()
				code := make(chan int, 1)
				go func() {
					code <- rpc.Serve(ctx, in, out, &rpctest.Agent{}, rpc.Options{WriteStall: stall})
				}()
				_, err := io.WriteString(toServer, `{"jsonrpc":"2.0","id":0,"method":"initialize"}`+"\n"+busy+"\n")
				require.NoError(t, err)
				begin := time.Now()
				if stall == 0 {
					time.Sleep(24 * time.Hour)
					require.Empty(t, code)
					cancel()
				}
				require.Equal(t, rpc.ExitAbandoned, <-code)
				if stall > 0 {
					require.Equal(t, stall, time.Since(begin))
				}
				_ = fromServer.Close()
				cancel()
			})
		})
	}
}

// TestDeadClient: the server ends when the client's process has, though the
// pipe stays open. It is named on the command line or by initialize.
func TestDeadClient(t *testing.T) {
	gone := exec.Command("true")
	require.NoError(t, gone.Run())
	pid := gone.Process.Pid

	c := rpctest.Start(t.Context(), &rpctest.Agent{}, rpc.Options{ClientProcessID: pid})
	require.Equal(t, rpc.ExitOK, c.Wait())

	c = rpctest.Start(t.Context(), &rpctest.Agent{}, rpc.Options{ClientProcessID: os.Getpid()})
	require.NoError(t, c.Send(fmt.Sprintf(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"processId":%d}}`, pid)))
	require.Equal(t, rpc.ExitOK, c.Wait())
}

// TestClientDies: the server lives as long as the client's process, and a few
// seconds longer at most.
func TestClientDies(t *testing.T) {
	client := exec.Command("sleep", "1000")
	require.NoError(t, client.Start())
	synctest.Test(t, func(t *testing.T) {
		c := rpctest.Start(t.Context(), &rpctest.Agent{}, rpc.Options{ClientProcessID: client.Process.Pid})
		_, err := c.Initialize()
		require.NoError(t, err)
		require.NoError(t, c.Send(busy))
		time.Sleep(time.Hour)
		require.NoError(t, c.Call("tools/list", nil, nil, nil))
		require.NoError(t, client.Process.Kill())
		require.Error(t, client.Wait())
		begin := time.Now()
		require.Equal(t, rpc.ExitAbandoned, c.Wait())
		require.LessOrEqual(t, time.Since(begin), 4*time.Second)
	})
}

// TestClientThatNobodyWaitsFor: a process that has ended is gone, though its parent
// has yet to ask how.
func TestClientThatNobodyWaitsFor(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells")
	}
	client := exec.Command("sleep", "1000")
	require.NoError(t, client.Start())
	c := rpctest.Start(t.Context(), &rpctest.Agent{}, rpc.Options{ClientProcessID: client.Process.Pid})
	_, err := c.Initialize()
	require.NoError(t, err)
	require.NoError(t, client.Process.Kill())
	require.Equal(t, rpc.ExitOK, c.Wait())
	require.Error(t, client.Wait())
}

// TestDeafAgent: an agent that does not heed its context holds the end up for a
// second, no longer.
func TestDeafAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		agent := &deafAgent{until: make(chan struct{})}
		c := rpctest.Start(t.Context(), agent, rpc.Options{})
		c.Headers = true
		_, err := c.Initialize()
		require.NoError(t, err)
		_, err = c.Request("tokens/count", map[string]any{"text": "a"})
		require.NoError(t, err)
		synctest.Wait()
		begin := time.Now()
		require.NoError(t, c.CloseInput())
		require.Equal(t, rpc.ExitAbandoned, c.Wait())
		require.Equal(t, time.Second, time.Since(begin))
		close(agent.until)
	})
}

// TestLogSink: nobody reads, and nobody waits for that.
func TestLogSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		note := func(n int) []byte { return fmt.Appendf(nil, "(%d log lines dropped)\n", n) }
		sink := rpc.NewLogSink(w, note)
		log := slog.New(slog.NewTextHandler(sink, nil))
		for i := range 100_000 { // 10 MB
			log.Info(strings.Repeat("x", 60), "i", i)
		}
		var all bytes.Buffer
		go func() { _, _ = io.Copy(&all, r) }()
		synctest.Wait()
		log.Info("last")
		require.NoError(t, sink.Close())
		require.NoError(t, w.Close())
		synctest.Wait()
		lines := strings.Split(strings.TrimSpace(all.String()), "\n")
		require.Contains(t, lines[0], "i=0")
		require.Contains(t, lines[len(lines)-1], "last")
		var dropped int
		_, err := fmt.Sscanf(lines[len(lines)-2], "(%d log lines dropped", &dropped)
		require.NoError(t, err)
		require.Equal(t, 100_000, dropped+len(lines)-2)
		require.Less(t, all.Len(), 3<<20)

		stuck := rpc.NewLogSink(blocked{}, note)
		_, _ = stuck.Write([]byte("x"))
		require.Error(t, stuck.Close(), "the end does not wait for ever")
		time.Sleep(time.Hour)
	})
}

// full is a disk that has room for what comes first and then from time to time.
type full struct {
	bytes.Buffer
	is bool
}

func (f *full) Write(p []byte) (int, error) {
	if f.is {
		n := bytes.IndexByte(p, '\n') + 1
		_, _ = f.Buffer.Write(p[:n])
		return n, syscall.ENOSPC
	}
	return f.Buffer.Write(p)
}

// TestLogSinkOnAFullDisk goes on when there is room again, and says what is missing.
func TestLogSinkOnAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := new(full)
		sink := rpc.NewLogSink(disk, func(n int) []byte { return fmt.Appendf(nil, "(%d dropped)\n", n) })
		for i, text := range []string{"a\n", "b\nc\nd\n", "e\n"} {
			synctest.Wait()
			disk.is = i == 1
			_, _ = sink.Write([]byte(text))
		}
		require.NoError(t, sink.Close())
		require.Equal(t, "a\nb\n(2 dropped)\ne\n", disk.String())
	})
}

// blocked is a writer for an hour.
type blocked struct{}

func (blocked) Write(p []byte) (int, error) {
	time.Sleep(time.Hour)
	return len(p), nil
}

// stdioVariable makes TestL8ClaimStdio the child that it spawns.
const stdioVariable = "HARMONYD_TEST_CLAIM_STDIO"

// TestL8ClaimStdio prints from Go and from a child process with a protocol in
// between: none of it is in the protocol, and the input is nobody else's.
func TestL8ClaimStdio(t *testing.T) {
	if os.Getenv(stdioVariable) != "" {
		claimStdio(t)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestL8ClaimStdio$")
	cmd.Env = append(os.Environ(), stdioVariable+"=1")
	cmd.Stdin = strings.NewReader("input")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Run(), "%s", &stderr)
	require.Equal(t, "before|input|after", stdout.String())
	require.Contains(t, stderr.String(), "from go")
	require.Contains(t, stderr.String(), "from a child")
	require.Contains(t, stderr.String(), "from what knows the descriptor only")
}

func claimStdio(t *testing.T) {
	in, out, err := rpc.ClaimStdio()
	require.NoError(t, err)
	_, err = out.WriteString("before|")
	require.NoError(t, err)
	fmt.Println("from go")
	_, err = syscall.Write(1, []byte("from what knows the descriptor only\n")) // as puts does
	require.NoError(t, err)
	child := exec.Command("sh", "-c", "echo from a child; cat")
	child.Stdin, child.Stdout = os.Stdin, os.Stdout
	require.NoError(t, child.Run())
	input, err := io.ReadAll(in)
	require.NoError(t, err)
	_, err = fmt.Fprintf(out, "%s|after", input)
	require.NoError(t, err)
	// A reader that goes away is an error, not the end of the process.
	r, w, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, r.Close())
	_, err = w.WriteString("x")
	require.Error(t, err)
	// Closed here, because a collection that comes too late leaves them to TestMain.
	require.NoError(t, errors.Join(w.Close(), in.Close(), out.Close()))
}
