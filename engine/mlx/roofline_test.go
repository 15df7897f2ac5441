package mlx

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// floats is a buffer of the values.
func floats(t *testing.T, values ...float32) *Buffer {
	t.Helper()
	b, err := NewBuffer(4 * len(values))
	require.NoError(t, err)
	t.Cleanup(b.Free)
	for i, v := range values {
		binary.LittleEndian.PutUint32(b.Bytes()[4*i:], math.Float32bits(v))
	}
	return b
}

func TestGemvIsRowsTimesVector(t *testing.T) {
	y := floats(t, 9, 9)
	require.NoError(t, Gemv(y, floats(t, 1, 2, 3, 4, 5, 6), floats(t, 1, 10, 100), 2, 3))
	for i, want := range []float32{321, 654} {
		require.Equal(t, want, math.Float32frombits(binary.LittleEndian.Uint32(y.Bytes()[4*i:])))
	}
}

func TestGemvRefusesOtherSizes(t *testing.T) {
	one, two := floats(t, 1), floats(t, 1, 2)
	gone, err := NewBuffer(4)
	require.NoError(t, err)
	gone.Free()
	for _, c := range []struct {
		y, a, x    *Buffer
		rows, cols int
		want       string
	}{
		{two, one, one, 1, 1, "mlx: gemv [1 1]: y has 8 bytes"},
		{one, two, one, 1, 1, "mlx: gemv [1 1]: A has 8 bytes"},
		{one, two, one, 1, 2, "mlx: gemv [1 2]: x has 4 bytes"},
		{one, gone, one, 1, 1, "mlx: gemv [1 1]: A has 0 bytes"},
		{gone, gone, gone, 0, 0, "mlx: gemv [0 0]: y has 0 bytes"},
		{two, two, two, -1, -2, "mlx: gemv [-1 -2]: y has 8 bytes"},
	} {
		require.EqualError(t, Gemv(c.y, c.a, c.x, c.rows, c.cols), c.want)
	}
}

// TestReadMemoryReadsEveryBlock changes a byte of each block in turn.
func TestReadMemoryReadsEveryBlock(t *testing.T) {
	b := make([]byte, 5*128)
	require.Zero(t, ReadMemory(b))
	for i := 0; i < len(b); i += 8 {
		b[i] = 3
		require.Equal(t, uint64(3), ReadMemory(b), "byte %d", i)
		b[i] = 0
	}
	require.Zero(t, ReadMemory(nil))
}

// TestBLASThreadsAreSet holds for OpenBLAS, the one that has the setting.
func TestBLASThreadsAreSet(t *testing.T) {
	f := DescribeBLAS()
	if f.Threads == 0 {
		require.False(t, SetBLASThreads(1))
		require.Equal(t, BLASFacts{}, f)
		return
	}
	require.NotEmpty(t, f.Config)
	require.NotEmpty(t, f.Core)
	require.True(t, SetBLASThreads(1))
	require.Equal(t, 1, DescribeBLAS().Threads)
	require.True(t, SetBLASThreads(f.Threads))
	require.Equal(t, f.Threads, DescribeBLAS().Threads)
}
