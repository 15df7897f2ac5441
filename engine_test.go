//go:build !scripted

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/weights"
	"harmonyd/rpc/rpctest"
)

// endlessPrompt is one that the default model does not soon end its answer to.
const endlessPrompt = "Once upon a time"

// testModels is the folder of models that this test process imports the default
// model into: an older import may be that of another importer.
var testModels struct {
	once sync.Once
	root string
	err  error
}

// engineEnv lets the program find the default model.
func engineEnv(t *testing.T) []string {
	t.Helper()
	m := &testModels
	m.once.Do(func() {
		if m.root, m.err = os.MkdirTemp("", "harmonyd-models-"); m.err != nil {
			return
		}
		m.err = weights.ImportGGUF(context.Background(), defaultGGUF, filepath.Join(m.root, defaultModel), nil)
	})
	require.NoError(t, m.err, "run make deps")
	return []string{"HARMONYD_MODELS=" + m.root}
}

// cleanEngineEnv removes what engineEnv made.
func cleanEngineEnv() { _ = os.RemoveAll(testModels.root) }

// TestL8NothingButTheProtocolOnStdout runs a server among C code and Go code that
// print, and reads every byte of its output as the protocol.
func TestL8NothingButTheProtocolOnStdout(t *testing.T) {
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
