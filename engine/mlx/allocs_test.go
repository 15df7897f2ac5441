//go:build !mlxdebug && !asan

package mlx

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

func TestStepAllocatesNothingInGo(t *testing.T) {
	m := newLayer(t)
	var err error
	n := testing.AllocsPerRun(50, func() {
		if _, e := m.step(); e != nil {
			err = e
		}
	})
	require.NoError(t, err)
	require.Zero(t, n)
}

func TestEveryHotOperationAllocatesNothingInGo(t *testing.T) {
	s := open(t)
	x := s.FromFloat32s(pseudo(64, 1), 1, 1, 8, 8)
	i := s.FromUint32s([]uint32{1, 2}, 2)
	key := s.Key(1)
	w, sc, b := s.Quantize(s.FromFloat32s(pseudo(256, 1), 8, 32), 32, 4, Affine)
	v := s.FromFloat32s(pseudo(32, 1), 1, 32)
	first := s.SliceAxis(v, 1, 0, 1)
	bits := []uint32{5}
	var shape [8]int
	for name, do := range map[string]func(){
		"shape":     func() { x.Shape(shape[:0]); x.Dim(1); x.Dtype(); x.NDim(); x.Size() },
		"where":     func() { s.Where(s.Less(x, x), x, x) },
		"reduce":    func() { s.Max(s.Softmax(x, -1, true), -1, true) },
		"order":     func() { s.Argpartition(x, 3, -1); s.Sort(x, -1); s.Topk(x, 2, -1) },
		"cumsum":    func() { s.Cumsum(x, -1, false, true) },
		"shapes":    func() { s.Reshape(x, 8, 8); s.Transpose(x, 0, 2, 1, 3) },
		"broadcast": func() { s.BroadcastTo(x, 2, 1, 8, 8) },
		"axes":      func() { s.Squeeze(s.ExpandDims(x, 0), 0); s.Contiguous(x); s.Repeat(x, 2, 1) },
		"slices":    func() { s.Slice(x, shape[:4], shape[:4]); s.SliceUpdateAxis(x, x, 1, 0) },
		"indices": func() {
			s.Take(x, i, 2)
			s.PutAlongAxis(v, s.Reshape(i, 1, 2), first, 1)
			s.AddAlongAxis(v, s.Reshape(i, 1, 2), first, 1)
		},
		"sample": func() {
			s.DrawToken(v, 1, 0.5)
			s.MaskTokens(v, s.FromUint32s(bits, 1))
			s.FilterTokens(v, TokenFilter{TopP: 0.5, MinP: 0.1, XTC: true, TopK: 2}, Array{})
		},
		"create":     func() { s.Zeros(Float32, 1, 8); s.Arange(Int32, 0, 4, 1); s.Scalar(Float16, 1) },
		"random":     func() { s.SplitKey(key); s.Gumbel(key, Float32, 4); s.Uniform(key, Float32, 4) },
		"data":       func() { s.FromInt32s([]int32{1, 2, 3}, 3) },
		"rope":       func() { s.RoPEDynamic(x, 8, true, 1e4, 1, s.Scalar(Int32, 3), Array{}) },
		"attention":  func() { s.SDPA(x, x, x, 1, MaskNone, Array{}, Array{}) },
		"quantized":  func() { s.QuantizedMatmul(v, w, sc, b, true, 32, 4, Affine) },
		"dequantize": func() { s.Dequantize(w, sc, b, 32, 4, Affine, Float32) },
	} {
		n := testing.AllocsPerRun(20, do)
		require.NoError(t, s.Err(), name)
		require.Zero(t, n, name)
	}
}

func TestAnArrayIsEightBytes(t *testing.T) {
	require.EqualValues(t, 8, unsafe.Sizeof(Array{}))
}
