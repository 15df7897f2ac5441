//go:build scripted

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/rpc/rpctest"
	"harmonyd/schema"
)

// endlessPrompt is one that the script answers without end.
const endlessPrompt = "for ever"

// engineEnv gives the program a script.
func engineEnv(t *testing.T) []string {
	t.Helper()
	script := filepath.Join(t.TempDir(), "script.json")
	require.NoError(t, os.WriteFile(script, []byte(`{"models": [{
		"id": "scripted", "contextLength": 8192, "tokensPerSecond": 2000, "loadMs": 20,
		"replies": [
			{"contains": "for ever", "text": "and ever ", "endless": true},
			{"contains": "colours", "text": "Red, yellow and blue.<|im_end|>"},
			{"contains": "Once", "text": "upon a time ", "endless": true}
		]}]}`), 0o600))
	return []string{scriptVariable + "=" + script}
}

// cleanEngineEnv has nothing to remove: each test's script is in its own folder.
func cleanEngineEnv() {}

// TestExitWithoutAnEngine: an editor can tell a server that has no engine from
// one that crashed.
func TestExitWithoutAnEngine(t *testing.T) {
	cmd := program(t)
	cmd.Env = append(cmd.Env, scriptVariable+"="+filepath.Join(t.TempDir(), "missing.json"))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, exitEngineLost, exit.ExitCode(), "%s", out)
	require.Contains(t, string(out), "missing.json")
}

// TestRecord: with a recorder before it a server is what it is without one, and
// all that was said is written down.
func TestRecord(t *testing.T) {
	eachFraming(t, func(t *testing.T, headers bool) {
		in, toServer := io.Pipe() // which nobody closes: exit must do
		var said, recording bytes.Buffer
		sent := []string{
			`{"jsonrpc":"2.0","id":1,"method":"initialize"}`, `{"jsonrpc":"2.0","id":2,"method":"shutdown"}`,
			`{"jsonrpc":"2.0","method":"exit"}`,
		}
		frame := rpctest.Client{Headers: headers}
		go func() {
			for _, body := range sent {
				_, _ = io.WriteString(toServer, frame.Frame(body))
			}
		}()
		code, err := rpctest.Record(program(t), in, &said, &recording)
		require.NoError(t, err)
		require.Zero(t, code)
		require.NoError(t, in.Close())
		byWhom := map[string]string{}
		for line := range strings.Lines(recording.String()) {
			var r rpctest.Recorded
			require.NoError(t, json.Unmarshal([]byte(line), &r))
			byWhom[r.From] += frame.Frame(string(r.Message))
		}
		require.Equal(t, frame.Frame(sent[0])+frame.Frame(sent[1])+frame.Frame(sent[2]), byWhom["client"])
		require.Equal(t, said.String(), byWhom["server"])
		require.Equal(t, 2, strings.Count(said.String(), `"result":`))
	})
}

// TestRecordOfNoProtocol: what is no message passes all the same, and is an error.
func TestRecordOfNoProtocol(t *testing.T) {
	var said, recording bytes.Buffer
	code, err := rpctest.Record(program(t, "version"), strings.NewReader(""), &said, &recording)
	require.ErrorContains(t, err, "record what the server says")
	require.Zero(t, code)
	require.Contains(t, said.String(), "harmonyd")
	_, err = rpctest.Record(exec.Command(filepath.Join(t.TempDir(), "missing")), nil, nil, nil)
	require.ErrorContains(t, err, "spawn")
}

// TestL7CrashWhileLoading: a server is killed while it loads a model. The next one
// does not load it by itself, and says why and how to have it loaded.
func TestL7CrashWhileLoading(t *testing.T) {
	life(t, func(t *testing.T, headers bool) {
		state := t.TempDir()
		serve := func(loadMS int) *server {
			script := filepath.Join(t.TempDir(), "script.json")
			require.NoError(t, os.WriteFile(script, fmt.Appendf(nil, `{"models": [{"id": "heavy", "loadMs": %d}, {"id": "light"}]}`, loadMS), 0o600))
			s := spawnCommand(t, headers, func(cmd *exec.Cmd) {
				cmd.Env = append(cmd.Env, scriptVariable+"="+script, "HARMONYD_STATE="+state)
			})
			s.initialize(t)
			return s
		}
		ask := func(s *server, model string) error {
			return s.Call("generate", map[string]any{"prompt": "x", "model": model, "tools": []string{}}, nil, nil)
		}
		end := func(s *server) {
			code, err := s.Shutdown()
			require.NoError(t, err)
			require.Zero(t, code)
		}
		s := serve(600_000)
		_, err := s.Request("generate", map[string]any{"prompt": "x", "tools": []string{}})
		require.NoError(t, err)
		for m := (rpctest.Message{}); !strings.Contains(m.Raw, `"queued"`); {
			m, err = s.Receive()
			require.NoError(t, err)
		}
		require.Eventually(t, func() bool {
			marks, _ := filepath.Glob(filepath.Join(state, "loading", "*"))
			if len(marks) == 0 {
				return false
			}
			text, err := os.ReadFile(marks[0])
			return err == nil && len(text) > 0
		}, hang, time.Millisecond)
		require.NoError(t, s.cmd.Process.Kill())
		require.Equal(t, -1, s.Wait())

		s = serve(1)
		var wire *schema.Error
		for _, model := range []string{"", "heavy"} {
			require.ErrorAs(t, ask(s, model), &wire)
			require.Equal(t, schema.KindModelLoadFailed, wire.Data.Kind)
			require.Contains(t, wire.Message, "ended while it loaded this model")
			require.Contains(t, wire.Message, "model/load with force:true")
		}
		require.ErrorAs(t, s.Call("model/load", map[string]any{"model": "heavy"}, nil, nil), &wire)
		require.NoError(t, ask(s, "light"))
		require.NoError(t, s.Call("model/load", map[string]any{"model": "heavy", "force": true}, nil, nil))
		require.NoError(t, ask(s, "heavy"))
		end(s)

		// An end in good order, mid-load, is no crash.
		s = serve(600_000)
		_, err = s.Request("generate", map[string]any{"prompt": "x", "tools": []string{}})
		require.NoError(t, err)
		end(s)
		s = serve(1)
		require.NoError(t, ask(s, "heavy"))
		end(s)
	})
}

// TestLimitsFromTheCommandLine are told by initialize and held to.
func TestLimitsFromTheCommandLine(t *testing.T) {
	s := spawn(t, true, "--limit", "maxSessions=1", "--limit", "maxTools=1", "--limit", "maxInFlight=1", "--limit", "maxMessageBytes=4096")
	opened, err := s.Initialize()
	require.NoError(t, err)
	limits := schema.DefaultLimits()
	limits.MaxSessions, limits.MaxTools, limits.MaxInFlight, limits.MaxMessageBytes = 1, 1, 1, 4096
	require.Equal(t, limits, opened.Limits)
	refused := func(kind schema.Kind, method string, params any) {
		t.Helper()
		var wire *schema.Error
		require.ErrorAs(t, s.Call(method, params, nil, nil), &wire)
		require.Equal(t, kind, wire.Data.Kind)
	}
	tool := func(name string) map[string]any {
		return map[string]any{"tools": []any{map[string]any{"name": name, "inputSchema": map[string]any{}}}}
	}
	require.NoError(t, s.Call("session/new", map[string]any{}, nil, nil))
	refused(schema.KindOverloaded, "session/new", map[string]any{})
	require.NoError(t, s.Call("tool-register", tool("a"), nil, nil))
	refused(schema.KindToolConflict, "tool-register", tool("b"))
	generating := s.endless(t, "g")
	refused(schema.KindOverloaded, "tools/list", nil)
	require.NoError(t, s.Notify("cancel", map[string]any{"all": true}))
	require.NoError(t, s.Await(generating, nil, nil))
	require.NoError(t, s.Send(`{"jsonrpc":"2.0","id":"long","method":"`+strings.Repeat("x", 4096)+`"}`))
	m, err := s.receiveAnswer()
	require.NoError(t, err)
	require.Contains(t, m.Error.Message, "larger than 4096 bytes")
}

// TestL9Panics: a thousand requests meet a fault of the program, in the engine, in a
// turn of a session and on a goroutine beside; a thousand are answered, the process
// lives, and the next request works wherever it comes.
func TestL9Panics(t *testing.T) {
	const panics, kinds = 1000, 4
	life(t, func(t *testing.T, headers bool) {
		script := filepath.Join(t.TempDir(), "script.json")
		require.NoError(t, os.WriteFile(script, []byte(`{"models": [{"id": "m", "replies": [{"contains": "break", "panic": "planted"}]}, {"id": "broken", "panic": "planted"}]}`), 0o600))
		s := spawnCommand(t, headers, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, scriptVariable+"="+script) }, "--log-level", "error")
		s.initialize(t)
		var session schema.SessionResult
		require.NoError(t, s.Call("session/new", map[string]any{}, &session, nil))
		said := func(text string) map[string]any {
			return map[string]any{"tools": []string{}, "sessionId": session.SessionID, "messages": []map[string]string{{"role": "user", "content": text}}}
		}
		works := func() {
			var result schema.GenerateResult
			require.NoError(t, s.Call("generate", said("hello"), &result, nil))
			require.Equal(t, "hello", result.Message.Content.Text())
		}
		errorIDs, seen := map[string]bool{}, 0
		for i := range panics / kinds {
			for _, request := range [kinds]struct {
				method string
				params any
			}{
				{"generate", map[string]any{"prompt": "break", "tools": []string{}}}, {"generate", said("break")},
				{"tokens/count", map[string]any{"model": "broken", "text": "a"}}, {"model/load", map[string]any{"model": "broken"}},
			} {
				var wire *schema.Error
				require.ErrorAs(t, s.Call(request.method, request.params, nil, func(m rpctest.Message) {
					if m.Method == "window/logMessage" {
						require.NotContains(t, m.Raw, ".go:", "stacks are for the log")
						seen++
					}
				}), &wire)
				require.EqualValues(t, -32603, wire.Code)
				errorIDs[wire.Data.ErrorID] = true
			}
			if i%50 == 0 {
				works()
			}
		}
		require.Len(t, errorIDs, panics)
		require.GreaterOrEqual(t, seen, panics-kinds, "people are told")
		works()
		code, err := s.Shutdown()
		require.NoError(t, err)
		require.Zero(t, code)
		require.Contains(t, s.stderr.String(), "planted", "the log has the cause")
		require.Contains(t, s.stderr.String(), ".go:", "and where it was")
	})
}

// TestR11CountWhileOthersWork: while a generation decodes flat out, and while a model
// loads, tokens are counted, two hundred times each. How fast is make bench-wire's.
func TestR11CountWhileOthersWork(t *testing.T) {
	const counts = 200
	eachFraming(t, func(t *testing.T, headers bool) {
		script := filepath.Join(t.TempDir(), "script.json")
		require.NoError(t, os.WriteFile(script, []byte(`{"models": [
			{"id": "fast", "contextLength": 100000000, "replies": [{"contains": "for ever", "text": "and ever ", "endless": true}]},
			{"id": "slow", "loadMs": 600000}]}`), 0o600))
		s := spawnCommand(t, headers, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, scriptVariable+"="+script) })
		s.initialize(t)
		count := func(model string) {
			for range counts {
				var result schema.TokensCountResult
				require.NoError(t, s.Call("tokens/count", map[string]any{"model": model, "text": "four"}, &result, nil))
				require.Equal(t, 4, result.Tokens)
			}
		}
		generating := s.generating(t, "g", 1<<26)
		count("fast")
		loading, err := s.Request("model/load", map[string]any{"model": "slow"})
		require.NoError(t, err)
		count("slow")
		require.NoError(t, s.Notify("$/cancelRequest", map[string]any{"id": loading}))
		var wire *schema.Error
		require.ErrorAs(t, s.Await(loading, nil, nil), &wire)
		require.Equal(t, schema.KindCancelled, wire.Data.Kind, "it was loading all the time")
		require.NoError(t, s.Notify("cancel", map[string]any{"generationId": "g"}))
		var result schema.GenerateResult
		require.NoError(t, s.Await(generating, &result, nil))
		require.Equal(t, schema.StopCancelled, result.StopReason, "it was generating all the time")
		code, err := s.Shutdown()
		require.NoError(t, err)
		require.Zero(t, code)
	})
}

// TestSpawnedTools has a conversation with a tool of the client's, over real pipes:
// the model calls, the client answers, and the model goes on.
func TestSpawnedTools(t *testing.T) {
	eachFraming(t, func(t *testing.T, headers bool) {
		script := filepath.Join(t.TempDir(), "script.json")
		require.NoError(t, os.WriteFile(script, []byte(`{"models": [{"id": "m", "replies": [
			{"contains": "42 degrees", "text": "It is hot."},
			{"contains": "weather", "text": "One moment. <tool_call>{\"name\":\"weather\",\"arguments\":{\"city\":\"Rome\"}}</tool_call>"}
		]}]}`), 0o600))
		s := spawnCommand(t, headers, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, scriptVariable+"="+script) })
		require.NoError(t, s.Call("initialize", map[string]any{"capabilities": map[string]any{
			"harmonyd": map[string]any{"tools": map[string]any{"call": true, "approve": true}},
		}}, nil, nil))
		require.NoError(t, s.Call("tool-register", map[string]any{"tools": []any{map[string]any{
			"name": "weather", "approval": "ask",
			"inputSchema": map[string]any{"type": "object", "required": []string{"city"}},
		}}}, nil, nil))
		var session schema.SessionResult
		require.NoError(t, s.Call("session/new", map[string]any{"system": "Be brief."}, &session, nil))
		var seen []string
		answer := func(m rpctest.Message) {
			seen = append(seen, m.Method)
			switch m.Method {
			case "tool/approve":
				require.NoError(t, s.Send(`{"jsonrpc":"2.0","id":`+string(m.ID)+`,"result":{"outcome":"selected","optionId":"allow_once"}}`))
			case "tool/call":
				require.Contains(t, m.Raw, `"arguments":{"city":"Rome"}`)
				require.NoError(t, s.Send(`{"jsonrpc":"2.0","id":`+string(m.ID)+`,"result":"42 degrees"}`))
			}
		}
		var result schema.GenerateResult
		require.NoError(t, s.Call("generate", map[string]any{
			"sessionId": session.SessionID, "messages": []map[string]string{{"role": "user", "content": "The weather?"}},
		}, &result, answer))
		require.Equal(t, "It is hot.", result.Message.Content.Text())
		require.Len(t, result.Messages, 3)
		require.Equal(t, 2, result.Usage.Rounds)
		require.Contains(t, seen, "tool/approve")
		require.Contains(t, seen, "agent/status")
		require.Contains(t, seen, "generate/toolCall")
		code, err := s.Shutdown()
		require.NoError(t, err)
		require.Zero(t, code)
	})
}

var unreadFor = flag.Duration("unread", 0, "least time for which TestS3UnreadPipe reads nothing, with an engine that needs about that long")

// TestS3UnreadPipe: eight generations are made and nobody reads a byte of them. The
// engine makes all of their tokens all the same, memory does not grow with them, and
// whoever reads again has lost nothing. make wire-long has it read nothing for 5 s.
func TestS3UnreadPipe(t *testing.T) {
	const generations = 8
	tokens, perSecond, word := 40_000, 0.0, "and" // as fast as can be
	if *unreadFor > 0 {
		// Clocks are coarse, so that time takes few tokens. They are long ones.
		tokens, word = 400, strings.Repeat("for ever and é😀 ", 25)
		perSecond = generations * float64(tokens) / unreadFor.Seconds()
	}
	life(t, func(t *testing.T, headers bool) {
		script := filepath.Join(t.TempDir(), "script.json")
		require.NoError(t, os.WriteFile(script, fmt.Appendf(nil, `{"models": [{"id": "m", "contextLength": 100000, "tokensPerSecond": %f, "vocabulary": [%q], "replies": [
			{"contains": "for ever", "text": "%[2]s%[2]s%[2]s%[2]s \u00e9\ud83d\ude00", "endless": true}]}]}`, perSecond, word), 0o600))
		cmd := program(t, "--log-level", "info")
		cmd.Env = append(cmd.Env, scriptVariable+"="+script)
		var stderr lockedBuffer
		cmd.Stderr = &stderr
		in, err := cmd.StdinPipe()
		require.NoError(t, err)
		out, childOut, err := os.Pipe()
		require.NoError(t, err)
		defer out.Close()
		cmd.Stdout = childOut
		require.NoError(t, cmd.Start())
		require.NoError(t, childOut.Close())
		c := &rpctest.Client{Headers: headers}
		send := func(body string) {
			_, err := io.WriteString(in, c.Frame(body))
			require.NoError(t, err)
		}
		send(`{"jsonrpc":"2.0","id":"i","method":"initialize","params":{}}`)
		send(`{"jsonrpc":"2.0","id":"l","method":"model/load","params":{}}`)
		from := bufio.NewReader(out)
		for range 2 {
			_, err := rpctest.ReadMessage(from)
			require.NoError(t, err)
		}
		before := resident(t, cmd.Process.Pid)
		for i := range generations {
			send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"generate","params":{"generationId":"%d","prompt":"for ever","maxTokens":%d,"tools":[]}}`, i, i, tokens))
		}
		made, began, most := fmt.Sprintf("completionTokens=%d", tokens), time.Now(), before
		require.Eventually(t, func() bool {
			most = max(most, resident(t, cmd.Process.Pid))
			return strings.Count(stderr.String(), made) == generations && time.Since(began) >= *unreadFor
		}, hang, 10*time.Millisecond, "the engine waits for nobody")
		require.Less(t, most-before, 10<<20, "bytes")
		t.Logf("%d bytes grown in %v", most-before, time.Since(began).Round(time.Millisecond))

		send(`{"jsonrpc":"2.0","id":"s","method":"shutdown"}`)
		send(`{"jsonrpc":"2.0","method":"exit"}`)
		texts, results := map[string]string{}, map[string]string{}
		seqs := map[string]int64{}
		for err == nil {
			var m rpctest.Message
			if m, err = rpctest.ReadMessage(from); err != nil {
				break
			}
			var p schema.GenerateDelta
			var r schema.GenerateResult
			switch {
			case m.Method != "":
				require.NoError(t, json.Unmarshal(m.Params, &p))
				require.Equal(t, seqs[p.GenerationID], p.Seq)
				seqs[p.GenerationID]++
				for _, part := range p.Parts {
					texts[p.GenerationID] += part.Text
				}
			case json.Unmarshal(m.Result, &r) == nil && r.GenerationID != "":
				results[r.GenerationID] = r.Message.Content.Text()
			}
		}
		require.ErrorIs(t, err, io.EOF)
		require.NoError(t, cmd.Wait())
		require.Len(t, results, generations)
		require.Equal(t, results, texts, "nothing is lost and nothing comes twice")
	})
}

// resident is the memory of a process, where the platform tells.
func resident(t *testing.T, pid int) int {
	t.Helper()
	if _, err := os.Stat("/proc/self/statm"); err != nil {
		return 0
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	require.NoError(t, err)
	var size, pages int
	_, err = fmt.Sscan(string(text), &size, &pages)
	require.NoError(t, err)
	return pages * os.Getpagesize()
}
