package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/rpc/rpctest"
	"harmonyd/schema"
)

// The figures of process life, L1 to L9 (L7 to L9 have tests in agent and rpc too). Each test runs
// the program -life times in both framings; make life runs them more often than make
// test does. The breaks that turn them red stand in planted_wire_test.go.
var repeats = flag.Int("life", 1, "repetitions of the tests of process life")

// lifeVariable marks the processes of one test and all that they start.
const lifeVariable = "HARMONYD_TEST_LIFE"

// life repeats a test of how the program ends, and holds L5: when it has ended, no
// process is left of all that it started.
func life(t *testing.T, test func(t *testing.T, headers bool)) {
	eachFraming(t, func(t *testing.T, headers bool) {
		for range *repeats {
			mark := fmt.Sprintf("%s=%s-%d", lifeVariable, t.Name(), time.Now().UnixNano())
			name, value, _ := strings.Cut(mark, "=")
			t.Setenv(name, value)
			test(t, headers)
			require.Eventually(t, func() bool { return len(survivors(mark)) == 0 }, hang, 10*time.Millisecond, "processes that are left")
		}
	})
}

// survivors lists the processes with a mark, where the platform tells.
func survivors(mark string) (left []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range files {
		environ, _ := os.ReadFile(file) // a process that has ended has none
		if file != fmt.Sprintf("/proc/%d/environ", os.Getpid()) && bytes.Contains(environ, []byte(mark+"\x00")) {
			left = append(left, file)
		}
	}
	return left
}

// lastRecord is the end of a log.
func lastRecord(log string) string {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	return lines[len(lines)-1]
}

// TestL1EndOfInput: idle, the end is a good one. Mid-generation it is that of the
// client with headers; with lines, what was asked is answered first. The log is
// complete.
func TestL1EndOfInput(t *testing.T) {
	life(t, func(t *testing.T, headers bool) {
		s := spawn(t, headers, "--log-level", "info")
		s.initialize(t)
		require.NoError(t, s.CloseInput())
		require.Zero(t, s.Wait())
		if headers {
			require.Contains(t, lastRecord(s.stderr.String()), `msg=end why="end of input"`)
		}

		s = spawn(t, headers, "--log-level", "info")
		s.initialize(t)
		tokens := 4000
		if !headers { // all of them are waited for
			tokens = 200
		}
		request := s.generating(t, "g", tokens)
		require.NoError(t, s.CloseInput())
		var result schema.GenerateResult
		require.NoError(t, s.Await(request, &result, nil))
		require.NotEmpty(t, result.Message.Content.Text())
		if headers {
			require.Equal(t, schema.StopCancelled, result.StopReason)
			require.Equal(t, 1, s.Wait())
			require.Contains(t, lastRecord(s.stderr.String()), `msg=end why="end of input"`)
			return
		}
		require.Equal(t, schema.StopMaxTokens, result.StopReason)
		require.Zero(t, s.Wait())
		require.Contains(t, s.stderr.String(), "stopReason=max_tokens")
	})
}

// parentVariable makes the test binary the parent of a server: an editor that can be
// killed.
const parentVariable = "HARMONYD_TEST_AS_PARENT"

// beParent starts the server on the standard streams that it has, and waits to be
// killed. With the variable's value flag it names itself on the command line.
func beParent() {
	args := []string{"--log-level", "info"}
	if os.Getenv(parentVariable) == "flag" {
		args = append(args, fmt.Sprintf("--clientProcessId=%d", os.Getpid()))
	}
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", parentVariable+"=")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		os.Exit(1)
	}
}

// TestL2DeadParent: the parent is killed, and the pipes are held open by somebody
// else, us.
func TestL2DeadParent(t *testing.T) {
	for named, busy := range map[string]bool{"flag": false, "initialize": true} {
		life(t, func(t *testing.T, headers bool) {
			log, err := os.Create(filepath.Join(t.TempDir(), "log"))
			require.NoError(t, err)
			defer log.Close()
			cmd := program(t)
			cmd.Env = append(cmd.Env, asProgram+"=", parentVariable+"="+named)
			cmd.Stderr = log
			s := &server{cmd: cmd}
			s.Client, err = rpctest.SpawnCommand(cmd)
			require.NoError(t, err)
			s.Headers = headers
			params := map[string]any{"capabilities": map[string]any{}}
			if named == "initialize" {
				params["processId"] = cmd.Process.Pid
			}
			require.NoError(t, s.Call("initialize", params, nil, nil))
			if busy {
				s.endless(t, "g")
			}
			require.NoError(t, cmd.Process.Kill()) // Wait would close the pipes
			for err == nil {
				_, err = s.Receive()
			}
			require.ErrorIs(t, err, io.EOF, "the server has let go of its output")
			s.Wait()
			require.Eventually(t, func() bool { // nobody but init can wait for the server
				text, err := os.ReadFile(log.Name())
				return err == nil && strings.Contains(lastRecord(string(text)), `why="the client's process is gone"`)
			}, hang, 10*time.Millisecond, "its last record")
		})
	}
}

// TestL3BrokenOutput: the client closes its end of our output mid-stream. No signal
// ends the process, which says so last.
func TestL3BrokenOutput(t *testing.T) {
	life(t, func(t *testing.T, headers bool) {
		cmd := program(t, "--log-level", "info")
		var stderr lockedBuffer
		cmd.Stderr = &stderr
		in, err := cmd.StdinPipe()
		require.NoError(t, err)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		c := &rpctest.Client{Headers: headers}
		generate := fmt.Sprintf(`{"jsonrpc":"2.0","id":2,"method":"generate","params":{"prompt":%q,"maxTokens":4000,"tools":[]}}`, endlessPrompt)
		_, err = io.WriteString(in, c.Frame(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}`)+c.Frame(generate))
		require.NoError(t, err)
		for seen := ""; !strings.Contains(seen, "generate/delta"); {
			chunk := make([]byte, 4096)
			n, err := out.Read(chunk)
			require.NoError(t, err)
			seen += string(chunk[:n])
		}
		require.NoError(t, out.Close())
		var exit *exec.ExitError
		require.ErrorAs(t, cmd.Wait(), &exit)
		require.Equal(t, 1, exit.ExitCode(), "-1 is a signal\n%s", stderr.String())
		require.Contains(t, lastRecord(stderr.String()), "msg=end")
	})
}

// TestL4Signals end the process in good order: 0 when idle, 1 with work in flight,
// which is answered.
func TestL4Signals(t *testing.T) {
	// Under nohup these tests run with SIGHUP ignored, and so would the program, which
	// then lets it be. One that is caught here is not ignored in a child.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	defer signal.Stop(caught)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		life(t, func(t *testing.T, headers bool) {
			s := spawn(t, headers, "--log-level", "info")
			s.initialize(t)
			require.NoError(t, s.cmd.Process.Signal(sig))
			require.Zero(t, s.Wait())

			s = spawn(t, headers, "--log-level", "info")
			s.initialize(t)
			request := s.endless(t, "g")
			require.NoError(t, s.cmd.Process.Signal(sig))
			var result schema.GenerateResult
			require.NoError(t, s.Await(request, &result, nil))
			require.Equal(t, schema.StopCancelled, result.StopReason)
			require.Equal(t, 1, s.Wait())
			require.Contains(t, lastRecord(s.stderr.String()), `msg=end why="told to end"`)
		})
	}
}

// TestLogFileIsBounded: a log that is full takes the place of the one before it.
func TestLogFileIsBounded(t *testing.T) {
	const full = 16 << 20
	log := filepath.Join(t.TempDir(), "log")
	for range 2 {
		require.NoError(t, os.WriteFile(log, nil, 0o600))
		require.NoError(t, os.Truncate(log, full))
		s := spawn(t, true, "--log-level", "info", "--log-file", log)
		s.initialize(t)
		code, err := s.Shutdown()
		require.NoError(t, err)
		require.Zero(t, code)
		before, err := os.Stat(log + ".1")
		require.NoError(t, err)
		require.EqualValues(t, full, before.Size())
		text, err := os.ReadFile(log)
		require.NoError(t, err)
		require.Contains(t, lastRecord(string(text)), "msg=end why=exit")
		require.Less(t, len(text), 4096)
		require.Empty(t, s.stderr.String())
	}
}

// TestL6UnreadLog: nobody reads standard error while 10 MB of log are written to it;
// the server serves on, and says what it left out to the first who reads.
func TestL6UnreadLog(t *testing.T) {
	life(t, func(t *testing.T, headers bool) {
		unread, stderr, err := os.Pipe()
		require.NoError(t, err)
		defer unread.Close()
		cmd := program(t, "--log-level", "debug", "--log-format", "json")
		cmd.Stderr = stderr
		c, err := rpctest.SpawnCommand(cmd)
		require.NoError(t, err)
		require.NoError(t, stderr.Close())
		c.Headers = headers
		_, err = c.Initialize()
		require.NoError(t, err)
		const lines = 60_000
		line := c.Frame(fmt.Sprintf(`{"jsonrpc":"2.0","method":"unknown/%s"}`, strings.Repeat("x", 60)))
		for range lines / 1000 {
			_, err := c.Write([]byte(strings.Repeat(line, 1000)))
			require.NoError(t, err)
		}
		var result schema.GenerateResult
		require.NoError(t, c.Call("generate", map[string]any{"prompt": endlessPrompt, "maxTokens": 3, "tools": []string{}}, &result, nil))
		require.Equal(t, schema.StopMaxTokens, result.StopReason)

		// Now somebody reads: the first records, and how many were left out.
		text := make(chan []byte)
		go func() {
			all, _ := io.ReadAll(unread)
			text <- all
		}()
		code, err := c.Shutdown()
		require.NoError(t, err)
		require.Zero(t, code)
		all := <-text
		kept, dropped := 0, 0
		for record := range bytes.Lines(all) {
			var r struct{ Lines int }
			require.NoError(t, json.Unmarshal(record, &r), "%s", record)
			dropped += r.Lines
			kept++
		}
		require.GreaterOrEqual(t, kept+dropped, lines)
		require.Greater(t, lines*len(all)/max(kept, 1), 10_000_000, "bytes of log in all")
		require.Less(t, len(all), 4<<20)
		require.Positive(t, dropped)
	})
}
