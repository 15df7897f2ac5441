package kv

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest/leaks"
	"harmonyd/engine/mlx"
)

func TestMain(m *testing.M) {
	runtime.LockOSThread()
	os.Exit(leaks.Run(m, func() error {
		if n := mlx.Live(); n != 0 {
			return fmt.Errorf("%d arrays", n)
		}
		return nil
	}))
}

// onThread runs fn on a thread of its own, as MLX wants it, with a fresh scope.
func onThread(t *testing.T, fn func(s *mlx.Scope) error) {
	t.Helper()
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		s := mlx.NewScope(mlx.Stream{})
		err := fn(s)
		s.Close() // before the test can end, which counts what is alive
		result <- err
	}()
	require.NoError(t, <-result)
}

func TestCapacitiesAreWholeBlocks(t *testing.T) {
	for _, c := range []struct{ old, need, bound, want int }{
		{0, 1, 0, 256}, {0, 256, 0, 256}, {0, 257, 0, 512}, {256, 257, 0, 512}, {1024, 1025, 0, 1280},
		{4096, 4097, 0, 5120}, {16384, 16385, 0, 20480}, {65536, 65537, 0, 69632}, {256, 5000, 0, 5120},
		{4096, 4097, 4100, 4352}, {4096, 4097, 4353, 4608}, {4096, 4097, 9999, 5120}, {256, 300, 10, 512},
	} {
		require.Equal(t, c.want, grown(c.old, c.need, c.bound), "from %d for %d", c.old, c.need)
	}
	// Growing token by token copies little in all: each growth copies once.
	copied, capacity := 0, 0
	for n := 1; n <= 10_000; n++ {
		if n > capacity {
			copied += capacity
			capacity = grown(capacity, n, 0)
		}
	}
	require.Less(t, copied, 6*10_000)
}

// TestGrowthTakesOneLayerAtATime grows a cache within one step and asks what that
// took at most: what was added, and twice what one layer has.
func TestGrowthTakesOneLayerAtATime(t *testing.T) {
	onThread(t, func(s *mlx.Scope) error {
		const layers = 16
		c := NewFull(layers)
		defer c.Free()
		append := func(first, n int) error {
			defer s.Reset()
			for i := range layers {
				c.Layer(i).Append(s, values(s, first, n), values(s, first, n))
			}
			var roots []mlx.Array
			for i := range layers {
				roots = c.AppendRoots(roots, i)
			}
			return s.Eval(roots...)
		}
		if err := append(0, Capacity(3000)); err != nil {
			return err
		}
		before := c.Bytes()
		mlx.ResetPeak()
		others := mlx.ActiveMemory() - before
		if err := append(Capacity(3000), 1); err != nil {
			return err
		}
		grown := c.Bytes() - before
		took := mlx.PeakMemory() - others - before
		if grown <= 0 || took < grown || took > grown+2*before/layers {
			return fmt.Errorf("%d layers of %d bytes in all grew by %d and took %d", layers, before, grown, took)
		}
		return nil
	})
}

// values are [1, 2, n, 2] with the token's number in each element.
func values(s *mlx.Scope, first, n int) mlx.Array {
	data := make([]float32, 0, 4*n)
	for range 2 {
		for i := range n {
			data = append(data, float32(first+i), float32(first+i))
		}
	}
	return s.FromFloat32s(data, 1, 2, n, 2)
}

func TestFullHoldsWhatWasAppended(t *testing.T) {
	onThread(t, func(s *mlx.Scope) error {
		c := NewFull(2)
		defer c.Free()
		total := 0
		for _, n := range []int{1, 1, 5, 248, 1, 1, 300, 1} {
			for layer := range 2 {
				l := c.Layer(layer)
				if l.Offset() != total {
					return fmt.Errorf("offset %d, want %d", l.Offset(), total)
				}
				k, v := l.Append(s, values(s, total, n), values(s, total+layer, n))
				for i, a := range []mlx.Array{k, v} {
					want := s.Float32s(values(s, i*layer, total+n), nil)
					if got := s.Float32s(a, nil); !slices.Equal(got, want) {
						return fmt.Errorf("after %d tokens: layer %d: got %v", total+n, layer, got)
					}
				}
			}
			total += n
		}
		if c.Len() != total || c.Bytes() != 2*2*(2*768*2)*4 {
			return fmt.Errorf("%d tokens, %d bytes", c.Len(), c.Bytes())
		}
		return s.Err()
	})
}

func TestFullSetsBackAndForks(t *testing.T) {
	onThread(t, func(s *mlx.Scope) error {
		c := NewFull(1)
		defer c.Free()
		c.Layer(0).Append(s, values(s, 0, 10), values(s, 0, 10))
		for _, n := range []int{-1, 11} {
			if c.SetBack(n) {
				return fmt.Errorf("set back by %d", n)
			}
			if _, ok := c.Fork(n); ok {
				return fmt.Errorf("forked at %d", n)
			}
		}
		f, ok := c.Fork(4)
		if !ok || f.Len() != 4 {
			return fmt.Errorf("fork: %v", ok)
		}
		defer f.Free()
		if !c.SetBack(3) || c.Len() != 7 {
			return fmt.Errorf("%d tokens after the set-back", c.Len())
		}
		a, _ := f.Layer(0).Append(s, values(s, 50, 2), values(s, 50, 2))
		b, _ := c.Layer(0).Append(s, values(s, 70, 1), values(s, 70, 1))
		for _, x := range []struct {
			a    mlx.Array
			want []float32
		}{{a, []float32{0, 1, 2, 3, 50, 51}}, {b, []float32{0, 1, 2, 3, 4, 5, 6, 70}}} {
			got := s.Float32s(s.SliceAxis(s.SliceAxis(x.a, 1, 0, 1), 3, 0, 1), nil)
			if !slices.Equal(got, x.want) {
				return fmt.Errorf("got %v, want %v", got, x.want)
			}
		}
		c.Free()
		if c.Len() != 0 || c.Bytes() != 0 || len(c.AppendRoots(nil, 0)) != 0 {
			return fmt.Errorf("not empty after Free")
		}
		return s.Err()
	})
}

// TestFailedStepLeavesTheLayersEqual appends to one layer of two, as a step that
// fails in between does.
func TestFailedStepLeavesTheLayersEqual(t *testing.T) {
	onThread(t, func(s *mlx.Scope) error {
		c := NewFull(2)
		defer c.Free()
		for i := range 2 {
			c.Layer(i).Append(s, values(s, 0, 5), values(s, 0, 5))
		}
		c.Layer(0).Append(s, values(s, 5, 1), values(s, 5, 1))
		if c.Len() != 5 || !c.SetBack(0) || c.Layer(0).Offset() != 5 {
			return fmt.Errorf("%d tokens, offset %d", c.Len(), c.Layer(0).Offset())
		}
		return s.Err()
	})
}
