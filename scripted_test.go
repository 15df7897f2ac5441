//go:build scripted

package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/rpc/rpctest"
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
