package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/editors/terminal"
	"harmonyd/engine/enginetest/leaks"
	"harmonyd/rpc/rpctest"
	"harmonyd/schema"
)

// asProgram turns the test binary into the program, so that the tests spawn
// exactly the code under test: the real server, or with the build tag scripted
// the one whose engine follows a script.
const asProgram = "HARMONYD_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	if os.Getenv(parentVariable) != "" {
		beParent()
		return
	}
	os.Exit(leaks.Run(m, func() error {
		cleanEngineEnv()
		if left := children(); len(left) > 0 {
			return fmt.Errorf("processes: %q", left)
		}
		return nil
	}))
}

// children lists the processes that this one started and that still run, where
// the platform tells.
func children() []string {
	var left []string
	parent := fmt.Sprintf(" %d ", os.Getpid())
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		stat, _ := os.ReadFile(file)
		// "pid (name) state parent …", and the name may hold anything.
		end := strings.LastIndex(string(stat), ") ")
		if end > 0 && len(stat) > end+3 && strings.HasPrefix(string(stat[end+3:]), parent) {
			left = append(left, string(stat[:end+1]))
		}
	}
	return left
}

// hang bounds every wait on a spawned server, at many times what it takes.
const hang = 2 * time.Minute

// program prepares a command that runs the program.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "HARMONYD_STATE="+t.TempDir())
	cmd.Env = append(cmd.Env, engineEnv(t)...)
	return cmd
}

// server is a spawned server and what it said on standard error.
type server struct {
	*rpctest.Client
	cmd    *exec.Cmd
	stderr *lockedBuffer
}

func spawn(t *testing.T, headers bool, args ...string) *server {
	t.Helper()
	return spawnCommand(t, headers, func(*exec.Cmd) {}, args...)
}

// spawnCommand is spawn with a change of the command.
func spawnCommand(t *testing.T, headers bool, change func(*exec.Cmd), args ...string) *server {
	t.Helper()
	s := &server{cmd: program(t, args...), stderr: new(lockedBuffer)}
	s.cmd.Stderr = s.stderr
	change(s.cmd)
	var err error
	s.Client, err = rpctest.SpawnCommand(s.cmd)
	require.NoError(t, err)
	s.Headers = headers
	t.Cleanup(func() {
		_ = s.CloseInput()
		s.Wait()
		if t.Failed() {
			t.Logf("standard error of the server:\n%s", s.stderr.String())
		}
	})
	return s
}

func (s *server) initialize(t *testing.T) {
	t.Helper()
	_, err := s.Initialize()
	require.NoError(t, err)
}

// endless asks for more than anybody waits for, and returns when it decodes.
func (s *server) endless(t *testing.T, id string) int {
	t.Helper()
	return s.generating(t, id, 4000)
}

// generating asks for so many tokens of an endless answer.
func (s *server) generating(t *testing.T, id string, tokens int) int {
	t.Helper()
	request, err := s.Request("generate", map[string]any{"generationId": id, "prompt": endlessPrompt, "maxTokens": tokens, "tools": []string{}})
	require.NoError(t, err)
	for {
		m, err := s.Receive()
		require.NoError(t, err)
		if m.Method == "generate/delta" {
			return request
		}
		require.Empty(t, string(m.ID), "the generation ended: %s", m.Raw)
	}
}

// eachFraming runs a test in both framings.
func eachFraming(t *testing.T, test func(t *testing.T, headers bool)) {
	t.Run("headers", func(t *testing.T) { test(t, true) })
	t.Run("lines", func(t *testing.T) { test(t, false) })
}

func TestSpawnedConversation(t *testing.T) {
	eachFraming(t, func(t *testing.T, headers bool) {
		s := spawn(t, headers)
		s.initialize(t)
		var text strings.Builder
		seq := int64(0)
		var result schema.GenerateResult
		ask := map[string]any{
			"generationId": "g", "maxTokens": 24, "tools": []string{},
			"messages": []map[string]string{{"role": "user", "content": "Name three colours."}},
		}
		err := s.Call("generate", ask, &result, func(m rpctest.Message) {
			var p struct {
				Seq   int64
				Parts []schema.DeltaPart
			}
			require.NoError(t, json.Unmarshal(m.Params, &p))
			require.Equal(t, seq, p.Seq, m.Raw)
			seq++
			for _, part := range p.Parts {
				text.WriteString(part.Text)
			}
		})
		require.NoError(t, err)
		require.NotEmpty(t, text.String())
		require.Equal(t, result.Message.Content.Text(), text.String())
		require.Positive(t, result.Usage.PromptTokens)
		require.Positive(t, result.Usage.CompletionTokens)

		// The same again finds the prompt in the cache and says the same.
		var again schema.GenerateResult
		require.NoError(t, s.Call("generate", ask, &again, nil))
		require.Equal(t, result.Message, again.Message)
		require.Positive(t, again.Usage.CachedTokens)

		code, err := s.Shutdown()
		require.NoError(t, err)
		require.Zero(t, code)
	})
}

func TestSpawnedCancel(t *testing.T) {
	eachFraming(t, func(t *testing.T, headers bool) {
		s := spawn(t, headers)
		s.initialize(t)
		request := s.endless(t, "long")
		var cancelled schema.CancelResult
		var inbox []rpctest.Message
		require.NoError(t, s.Call("cancel", map[string]string{"generationId": "long"}, &cancelled, func(m rpctest.Message) { inbox = append(inbox, m) }))
		require.True(t, cancelled.Cancelled)
		var result schema.GenerateResult
		require.NoError(t, s.Await(request, &result, nil))
		require.Equal(t, schema.StopCancelled, result.StopReason)
		require.NotEmpty(t, result.Message.Content.Text())
	})
}

// TestR8GenerateAndCancelInOneWrite is the race that a client's Escape key runs:
// the cancel is read right behind its generate, and must find it.
func TestR8GenerateAndCancelInOneWrite(t *testing.T) {
	s := spawn(t, true)
	s.initialize(t)
	const rounds = 1000
	for range rounds {
		require.NoError(t, s.Send(
			`{"jsonrpc":"2.0","id":"g","method":"generate","params":{"generationId":"x","prompt":"Once","tools":[]}}`,
			`{"jsonrpc":"2.0","id":"c","method":"cancel","params":{"generationId":"x"}}`))
		for answered := 0; answered < 2; {
			m, err := s.Receive()
			require.NoError(t, err)
			switch string(m.ID) {
			case `"g"`:
				require.Contains(t, m.Raw, `"stopReason":"cancelled"`)
				answered++
			case `"c"`:
				require.Contains(t, m.Raw, `"cancelled":true`)
				answered++
			}
		}
	}
}

// TestBadMessagesKeepTheConnection sends what a broken client would, and then
// a good request.
func TestBadMessagesKeepTheConnection(t *testing.T) {
	big := `{"jsonrpc":"2.0","id":1,"method":"generate","params":{"prompt":"` + strings.Repeat("x", 40<<20) + `"}}`
	for _, c := range []struct{ name, send, want string }{
		{"malformed", frame(`{"jsonrpc":"2.0","id":1,`), `"code":-32700`},
		{"null id", frame(`{"jsonrpc":"2.0","id":null,"method":"models/list"}`), `"id":null,"error":{"code":-32600`},
		{"fractional id", frame(`{"jsonrpc":"2.0","id":1.5,"method":"models/list"}`), `"code":-32600`},
		{"negative id", frame(`{"jsonrpc":"2.0","id":-1,"method":"models/list"}`), `"id":-1,"result"`},
		{"large id", frame(`{"jsonrpc":"2.0","id":9007199254740993,"method":"models/list"}`), `"id":9007199254740993,"result"`},
		{"string id", frame(`{"jsonrpc":"2.0","id":"x","method":"models/list"}`), `"id":"x","result"`},
		{"lower case header", "content-length:" + frame(`{"jsonrpc":"2.0","id":2,"method":"models/list"}`)[len("Content-Length:"):], `"id":2,"result"`},
		{"40 MB body", frame(big), `"id":null,"error":{"code":-32600`},
		{"bad parameter", frame(`{"jsonrpc":"2.0","id":3,"method":"generate","params":{"prompt":"x","maxTokens":-1,"tools":[]}}`), `"code":-32602`},
		{"unknown model", frame(`{"jsonrpc":"2.0","id":4,"method":"generate","params":{"prompt":"x","model":"no/such","tools":[]}}`), `"kind":"model_not_found"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := spawn(t, true)
			s.initialize(t)
			go func() { _, _ = s.Write([]byte(c.send)) }()
			m, err := s.receiveAnswer()
			require.NoError(t, err)
			require.Contains(t, m.Raw, c.want)
			require.NoError(t, s.Call("models/list", nil, nil, nil))
		})
	}
}

func frame(body string) string { return (&rpctest.Client{Headers: true}).Frame(body) }

// receiveAnswer skips notifications.
func (s *server) receiveAnswer() (rpctest.Message, error) {
	for {
		m, err := s.Receive()
		if err != nil || m.Method == "" {
			return m, err
		}
	}
}

// TestExitCodes ends the process in every way that a client can.
func TestExitCodes(t *testing.T) {
	eachFraming(t, func(t *testing.T, headers bool) {
		t.Run("end of input when idle", func(t *testing.T) {
			s := spawn(t, headers)
			s.initialize(t)
			require.NoError(t, s.CloseInput())
			require.Zero(t, s.Wait())
		})
		t.Run("end of input mid-generation", func(t *testing.T) {
			s := spawn(t, headers)
			s.initialize(t)
			if headers {
				s.endless(t, "g")
				require.NoError(t, s.CloseInput())
				require.Equal(t, 1, s.Wait())
				return
			}
			// A message a line: what was asked is answered first.
			id, err := s.Request("generate", map[string]any{"prompt": "Once", "maxTokens": 3, "tools": []string{}})
			require.NoError(t, err)
			require.NoError(t, s.CloseInput())
			var r schema.GenerateResult
			require.NoError(t, s.Await(id, &r, nil))
			require.Equal(t, schema.StopMaxTokens, r.StopReason)
			require.Zero(t, s.Wait())
		})
		t.Run("exit without shutdown", func(t *testing.T) {
			s := spawn(t, headers)
			s.initialize(t)
			require.NoError(t, s.Notify("exit", nil))
			require.Equal(t, 1, s.Wait())
		})
		t.Run("exit mid-generation after shutdown", func(t *testing.T) {
			s := spawn(t, headers)
			s.initialize(t)
			s.endless(t, "g")
			code, err := s.Shutdown()
			require.NoError(t, err)
			require.Zero(t, code)
		})
		t.Run("terminated mid-generation", func(t *testing.T) {
			s := spawn(t, headers)
			s.initialize(t)
			s.endless(t, "g")
			require.NoError(t, s.cmd.Process.Signal(syscall.SIGTERM))
			require.Equal(t, 1, s.Wait())
		})
	})
}

func TestUsageErrors(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"genrate"}, `did you mean "generate"?`},
		{[]string{"--no-such-flag"}, "unknown flag: --no-such-flag"},
		{[]string{"generate"}, "got 0 prompts, want one"},
		{[]string{"--log-level", "loud"}, "want debug, info, warn or error"},
		{[]string{"--log-format", "xml"}, "want text or json"},
	} {
		cmd := program(t, c.args...)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit, "%v", c.args)
		require.Equal(t, terminal.ExitUsage, exit.ExitCode(), "%s", out)
		require.Contains(t, string(out), c.want)
		require.NotContains(t, string(out), "goroutine")
	}
}

// TestSchemaComesFromTheProgram: what the binary prints, far from its sources, is
// what changes of the protocol are read in and what the editors use.
func TestSchemaComesFromTheProgram(t *testing.T) {
	for format, file := range map[string]string{
		"json-schema": "rpc/testdata/schema.json",
		"typescript":  "editors/vscode/src/protocol.ts",
		"lua":         "editors/nvim/lua/harmonyd/protocol.lua",
	} {
		want, err := os.ReadFile(file)
		require.NoError(t, err)
		cmd := program(t, "schema", "--format", format)
		cmd.Dir = t.TempDir()
		got, err := cmd.Output()
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), format)
	}
}

// lockedBuffer is a bytes.Buffer for a goroutine that writes and one that reads.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
