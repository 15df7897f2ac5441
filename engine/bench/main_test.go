package bench

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"harmonyd/engine/mlx"
	"harmonyd/engine/native"
)

// TestMain is the fake peer where the environment says so. Otherwise it holds
// every test of the package to leaving nothing behind.
func TestMain(m *testing.M) {
	if mode := os.Getenv(fakeVariable); mode != "" {
		os.Exit(fakePeer(mode))
	}
	code := m.Run()
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
