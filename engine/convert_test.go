package engine

import (
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/mlx"
)

// TestUnpackIsWhatMLXDoes compares every packing with MLX's own, to the last bit.
func TestUnpackIsWhatMLXDoes(t *testing.T) {
	e := newTestEngine(t, Options{})
	for _, bits := range []int{2, 3, 4, 5, 6, 8} {
		for _, group := range []int{32, 64, 128} {
			for _, scaleType := range []mlx.Dtype{mlx.Float32, mlx.Float16, mlx.BFloat16} {
				const rows, groups = 24, 8
				in := group * groups
				random := uint32(bits*group + 1)
				next := func() uint32 {
					random = random*1664525 + 1013904223
					return random
				}
				var words, scales, biases []byte
				for range rows * in * bits / 32 {
					words = binary.LittleEndian.AppendUint32(words, next()^next()>>13)
				}
				for range rows * groups {
					for _, b := range []*[]byte{&scales, &biases} {
						v := float32(int32(next())) / (1 << 33)
						*b = append(*b, make([]byte, scaleType.Size())...)
						storers[scaleType](*b, len(*b)/scaleType.Size()-1, v)
					}
				}
				got := make([]byte, 4*rows*in)
				unpackAffine(got, words, scales, biases, scaleType, group, bits)
				var want []byte
				require.NoError(t, e.thread.do(control, func() error {
					s := mlx.NewScope(mlx.Stream{})
					defer s.Close()
					float := func(b []byte) mlx.Array {
						return s.AsType(s.FromBytes(b, scaleType, rows, groups), mlx.Float32)
					}
					w := s.Dequantize(s.FromBytes(words, mlx.Uint32, rows, in*bits/32), float(scales), float(biases),
						group, bits, mlx.Affine, mlx.Float32)
					want = s.Bytes(w, nil)
					return s.Err()
				}))
				name := fmt.Sprintf("%d bits, groups of %d, %v", bits, group, scaleType)
				for i := range rows * in {
					// Products and sums may be fused on some machines.
					a, b := math.Float32frombits(u32(want, i)), math.Float32frombits(u32(got, i))
					require.InDelta(t, a, b, 1e-7*float64(1+max(a, -a)), name)
				}
			}
		}
	}
}

// TestFloatConversions goes through every 16-bit float and a grid of 32-bit ones.
func TestFloatConversions(t *testing.T) {
	e := newTestEngine(t, Options{})
	var floats, halfs, brains []byte
	for i := range 1 << 16 {
		halfs = binary.LittleEndian.AppendUint16(halfs, uint16(i))
		brains = binary.LittleEndian.AppendUint16(brains, uint16(i))
		// Around every float16 and bfloat16: just below, at and above halfway.
		for _, low := range []uint32{0, 1, 0x0fff, 0x1000, 0x1001, 0x7fff, 0x8000, 0x8001, 0xffff} {
			floats = binary.LittleEndian.AppendUint32(floats, uint32(i)<<16|low)
		}
	}
	for _, c := range []struct {
		src      []byte
		from, to mlx.Dtype
	}{
		{halfs, mlx.Float16, mlx.Float32}, {brains, mlx.BFloat16, mlx.Float32},
		{floats, mlx.Float32, mlx.Float16}, {floats, mlx.Float32, mlx.BFloat16},
		{halfs, mlx.Float16, mlx.BFloat16}, {brains, mlx.BFloat16, mlx.Float16},
		{floats, mlx.Float32, mlx.Float32},
	} {
		n := len(c.src) / c.from.Size()
		got := make([]byte, n*c.to.Size())
		require.NoError(t, convertFloats(got, c.to, c.src, c.from))
		var want []byte
		require.NoError(t, e.thread.do(control, func() error {
			s := mlx.NewScope(mlx.Stream{})
			defer s.Close()
			want = s.Bytes(s.AsType(s.FromBytes(c.src, c.from, n), c.to), nil)
			return s.Err()
		}))
		load := loaders[c.to]
		for i := range n {
			a, b := load(want, i), load(got, i)
			if a != a && b != b {
				continue // which NaN is nobody's business
			}
			require.Equal(t, a, b, "%v to %v: element %d", c.from, c.to, i)
		}
	}
	require.Error(t, convertFloats(make([]byte, 4), mlx.Int32, make([]byte, 4), mlx.Float32))
	require.Error(t, convertFloats(make([]byte, 3), mlx.Float32, make([]byte, 4), mlx.Float32))
}
