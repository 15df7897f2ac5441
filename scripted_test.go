//go:build scripted

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
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
