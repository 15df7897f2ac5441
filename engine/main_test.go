package engine

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"harmonyd/engine/mlx"
	"harmonyd/engine/native"
)

// TestMain holds every test of the package to leaving nothing behind: no handle,
// no buffer and no goroutine.
func TestMain(m *testing.M) {
	code := m.Run()
	if importRoot != "" {
		_ = os.RemoveAll(importRoot)
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if a, b, c := mlx.Live(), mlx.BufferMemory(), native.Live(); a != 0 || b != 0 || c != 0 {
		fmt.Fprintf(os.Stderr, "left behind: %d arrays, %d bytes of buffers, %d native handles\n", a, b, c)
		code = 1
	}
	os.Exit(code)
}

// newTestEngine returns an engine that is closed, and checked for leaks, when
// the test ends.
func newTestEngine(t *testing.T, o Options) *Engine {
	t.Helper()
	arrays, buffers, handles := mlx.Live(), mlx.BufferMemory(), native.Live()
	e, err := New(o)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, e.Close())
		require.Equal(t, arrays, mlx.Live(), "live arrays")
		require.Equal(t, buffers, mlx.BufferMemory(), "bytes of buffers")
		require.Equal(t, handles, native.Live(), "native handles")
	})
	return e
}
