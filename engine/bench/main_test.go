package bench

import (
	"fmt"
	"os"
	"testing"

	"harmonyd/engine/enginetest/leaks"
	"harmonyd/engine/mlx"
	"harmonyd/engine/native"
)

// TestMain is the fake peer where the environment says so. Otherwise it holds
// every test of the package to leaving nothing behind.
func TestMain(m *testing.M) {
	if mode := os.Getenv(fakeVariable); mode != "" {
		os.Exit(fakePeer(mode))
	}
	os.Exit(leaks.Run(m, func() error {
		if a, b, c := mlx.Live(), mlx.BufferMemory(), native.Live(); a != 0 || b != 0 || c != 0 {
			return fmt.Errorf("%d arrays, %d bytes of buffers, %d native handles", a, b, c)
		}
		return nil
	}))
}
