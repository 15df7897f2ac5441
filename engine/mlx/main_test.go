package mlx

import (
	"fmt"
	"os"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest/leaks"
)

func TestMain(m *testing.M) {
	if os.Getenv("MLX_TEST_CHILD") == "misuse" {
		runtime.LockOSThread()
		for _, c := range misuses() {
			if err, alive := runMisuse(c); err == nil || !alive {
				os.Exit(1)
			}
		}
		os.Exit(0)
	}
	os.Exit(leaks.Run(m, func() error {
		if n := Live(); n != 0 {
			return fmt.Errorf("%d handles: %v", n, Leaks())
		}
		return nil
	}, func() error {
		if n := BufferMemory(); n != 0 {
			return fmt.Errorf("%d bytes of buffers", n)
		}
		return nil
	}))
}

// onEngine makes the test's goroutine the engine thread and checks at the end that
// the test left no handle behind.
func onEngine(t testing.TB) {
	runtime.LockOSThread()
	BindThread()
	live := Live()
	t.Cleanup(func() {
		require.Equal(t, live, Live(), "handles: %v", Leaks())
		runtime.UnlockOSThread()
	})
}

// open is onEngine with a scope for the test.
func open(t testing.TB) *Scope {
	onEngine(t)
	s := NewScope(Stream{})
	t.Cleanup(s.Close)
	return s
}
