//go:build !scripted

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/weights"
	"harmonyd/rpc/rpctest"
)

// endlessPrompt is one that the default model does not soon end its answer to.
const endlessPrompt = "Once upon a time"

// engineEnv lets the program find the default model, imported once for all
// tests of this machine's clone.
func engineEnv(t *testing.T) []string {
	t.Helper()
	root := filepath.Join(".deps", "test-models")
	folder := filepath.Join(root, defaultModel)
	if _, err := os.Stat(filepath.Join(folder, "config.json")); err != nil {
		require.NoError(t, os.MkdirAll(root, 0o755))
		require.NoError(t, weights.ImportGGUF(t.Context(), defaultGGUF, folder, nil), "run make deps")
	}
	return []string{"HARMONYD_MODELS=" + root}
}

// TestNothingButTheProtocolOnStdout runs a server among C code and Go code that
// print, and reads every byte of its output as the protocol.
func TestNothingButTheProtocolOnStdout(t *testing.T) {
	noise := filepath.Join(t.TempDir(), "noise")
	out, err := exec.Command("go", "build", "-o", noise, "./rpc/testdata/noise").CombinedOutput()
	require.NoError(t, err, "%s", out)
	var stderr lockedBuffer
	cmd := exec.Command(noise)
	cmd.Stderr = &stderr
	c, err := rpctest.SpawnCommand(cmd)
	require.NoError(t, err)
	c.Headers = true
	_, err = c.Initialize()
	require.NoError(t, err, "something else stood on standard output")
	code, err := c.Shutdown()
	require.NoError(t, err)
	require.Zero(t, code)
	for _, loud := range []string{"puts from C", "print from Go", "write to descriptor 1"} {
		require.Contains(t, stderr.String(), loud)
	}
}
