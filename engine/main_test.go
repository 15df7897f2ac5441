package engine

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest/leaks"
	"harmonyd/engine/mlx"
	"harmonyd/engine/native"
)

// TestMain holds every test of the package to leaving nothing behind: no handle,
// no buffer, no goroutine, no file and no child.
func TestMain(m *testing.M) {
	os.Exit(leaks.Run(m, func() error {
		if importRoot != "" {
			return os.RemoveAll(importRoot)
		}
		return nil
	}, func() error {
		if a, b, c := mlx.Live(), mlx.BufferMemory(), native.Live(); a != 0 || b != 0 || c != 0 {
			return fmt.Errorf("%d arrays, %d bytes of buffers, %d native handles", a, b, c)
		}
		return nil
	}))
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
