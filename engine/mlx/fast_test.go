package mlx

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// pseudo fills n floats in [-1, 1) that any two tests agree on.
func pseudo(n int, seed uint32) []float32 {
	out := make([]float32, n)
	for i := range out {
		seed = seed*1664525 + 1013904223
		out[i] = float32(seed>>8)/(1<<23) - 1
	}
	return out
}

func TestNorms(t *testing.T) {
	s := open(t)
	x := s.FromFloat32s([]float32{3, 4}, 1, 2) // mean square 12.5, mean 3.5, variance 0.25
	w := s.FromFloat32s([]float32{1, 2}, 2)
	r := float32(1 / math.Sqrt(12.5))
	equal(t, s, "rms_norm", s.RMSNorm(x, w, 0), []int{1, 2}, 3*r, 8*r)
	equal(t, s, "rms_norm", s.RMSNorm(x, Array{}, 0), []int{1, 2}, 3*r, 4*r)
	equal(t, s, "layer_norm", s.LayerNorm(x, w, w, 0), []int{1, 2}, 0, 4)
	equal(t, s, "layer_norm", s.LayerNorm(x, Array{}, Array{}, 0), []int{1, 2}, -1, 1)
}

// rotate is RoPE of one row of d elements at position p, in float64.
func rotate(row []float32, p, base float64, traditional bool) []float32 {
	d := len(row)
	out := make([]float32, d)
	for i := range d / 2 {
		sin, cos := math.Sincos(p * math.Pow(base, -2*float64(i)/float64(d)))
		j, k := i, i+d/2
		if traditional {
			j, k = 2*i, 2*i+1
		}
		a, b := float64(row[j]), float64(row[k])
		out[j], out[k] = float32(a*cos-b*sin), float32(a*sin+b*cos)
	}
	return out
}

func TestRoPE(t *testing.T) {
	s := open(t)
	const tokens, d, base, offset = 3, 8, 10000, 5
	in := pseudo(tokens*d, 1)
	x := s.FromFloat32s(in, 1, 1, tokens, d)
	freqs := make([]float32, d/2)
	for i := range freqs {
		freqs[i] = float32(math.Pow(base, 2*float64(i)/d))
	}
	for _, traditional := range []bool{false, true} {
		var want []float32
		for p := range tokens {
			want = append(want, rotate(in[p*d:(p+1)*d], float64(offset+p), base, traditional)...)
		}
		at := s.Scalar(Int32, offset)
		byFreqs := s.FromFloat32s(freqs, d/2)
		for name, got := range map[string]Array{
			"offset":  s.RoPE(x, d, traditional, base, 1, offset, Array{}),
			"dynamic": s.RoPEDynamic(x, d, traditional, base, 1, at, Array{}),
			"freqs":   s.RoPE(x, d, traditional, 0, 1, offset, byFreqs),
		} {
			require.InDeltaSlice(t, want, s.Float32s(got, nil), 1e-5, name)
		}
	}
	part := s.Float32s(s.RoPE(x, 4, false, base, 1, offset, Array{}), nil)
	require.NoError(t, s.Err())
	require.Equal(t, in[4:8], part[4:8], "elements past dims are kept")
	half := s.RoPE(x, d, false, base, 0.5, 4, Array{})
	require.InDeltaSlice(t, rotate(in[:d], 2, base, false), s.Float32s(half, nil)[:d], 1e-5)
}

// attend is attention of one head with a mask function and an optional sink, in
// float64.
func attend(q, k, v []float32, d int, scale float64, sees func(i, j int) bool,
	sink *float32) []float32 {
	n, m := len(q)/d, len(k)/d
	out := make([]float32, n*d)
	for i := range n {
		weight, sum := make([]float64, m), 0.0
		if sink != nil {
			sum = math.Exp(float64(*sink))
		}
		for j := range m {
			if !sees(i, j) {
				continue
			}
			dot := 0.0
			for e := range d {
				dot += float64(q[i*d+e]) * float64(k[j*d+e])
			}
			weight[j] = math.Exp(scale * dot)
			sum += weight[j]
		}
		for j := range m {
			for e := range d {
				out[i*d+e] += float32(weight[j] / sum * float64(v[j*d+e]))
			}
		}
	}
	return out
}

func TestAttention(t *testing.T) {
	s := open(t)
	const heads, groups, n, m, d = 4, 2, 3, 5, 8
	const scale = 0.3
	qs, ks, vs := pseudo(heads*n*d, 1), pseudo(groups*m*d, 2), pseudo(groups*m*d, 3)
	sinkValues := []float32{0.5, -1, 2, 0}
	q := s.FromFloat32s(qs, 1, heads, n, d)
	k, v := s.FromFloat32s(ks, 1, groups, m, d), s.FromFloat32s(vs, 1, groups, m, d)
	sinks := s.FromFloat32s(sinkValues, heads)
	causal := func(i, j int) bool { return j <= i+m-n }
	odd := func(i, j int) bool { return (i+j)%2 == 0 }
	bits := make([]byte, n*m)
	for i := range bits {
		if odd(i/m, i%m) {
			bits[i] = 1
		}
	}
	mask := s.FromBytes(bits, Bool, n, m)
	for name, c := range map[string]struct {
		got  Array
		sees func(i, j int) bool
		sink bool
	}{
		"none": {s.SDPA(q, k, v, scale, MaskNone, Array{}, Array{}),
			func(i, j int) bool { return true }, false},
		"causal": {s.SDPA(q, k, v, scale, MaskCausal, Array{}, Array{}), causal, false},
		"array":  {s.SDPA(q, k, v, scale, MaskArray, mask, Array{}), odd, false},
		"sinks":  {s.SDPA(q, k, v, scale, MaskCausal, Array{}, sinks), causal, true},
	} {
		var want []float32
		for h := range heads {
			g := h / (heads / groups)
			var sink *float32
			if c.sink {
				sink = &sinkValues[h]
			}
			want = append(want, attend(qs[h*n*d:(h+1)*n*d], ks[g*m*d:(g+1)*m*d],
				vs[g*m*d:(g+1)*m*d], d, scale, c.sees, sink)...)
		}
		require.InDeltaSlice(t, want, s.Float32s(c.got, nil), 1e-5, name)
		require.NoError(t, s.Err())
	}
}

type quantization struct {
	mode        Mode
	group, bits int
}

func quantizations() []quantization {
	all := []quantization{{MXFP4, 32, 4}, {MXFP8, 32, 8}}
	for _, group := range []int{32, 64, 128} {
		for _, bits := range []int{2, 3, 4, 5, 6, 8} {
			all = append(all, quantization{Affine, group, bits})
		}
	}
	return all
}

// affine unpacks one row of affine weights by the definition: value i of b bits
// begins at bit i*b of the little-endian row, and stands for value*scale+bias.
func affine(packed []uint32, scales, biases []float32, group, bits, n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		v := 0
		for b := range bits {
			at := i*bits + b
			v |= int(packed[at/32]>>(at%32)&1) << b
		}
		out[i] = float32(v)*scales[i/group] + biases[i/group]
	}
	return out
}

func TestQuantizedProducts(t *testing.T) {
	s := open(t)
	const rows, cols, tokens = 16, 256, 3
	w := s.FromFloat32s(pseudo(rows*cols, 7), rows, cols)
	x := s.FromFloat32s(pseudo(tokens*cols, 8), tokens, cols)
	y := s.FromFloat32s(pseudo(tokens*rows, 9), tokens, rows)
	for _, c := range quantizations() {
		name := fmt.Sprint(c)
		packed, scales, biases := s.Quantize(w, c.group, c.bits, c.mode)
		require.NoError(t, s.Err(), name)
		require.Equal(t, c.mode == Affine, biases.Valid(), name)
		require.Equal(t, []int{rows, cols * c.bits / 32}, packed.Shape(nil), name)
		dense := s.Dequantize(packed, scales, biases, c.group, c.bits, c.mode, Float32)
		if c.mode == Affine {
			want := affine(s.Uint32s(packed, nil), s.Float32s(scales, nil), s.Float32s(biases, nil),
				c.group, c.bits, cols)
			require.InDeltaSlice(t, want, s.Float32s(dense, nil)[:cols], 1e-6, name)
		}
		away := s.ItemFloat32(s.Max(s.Reshape(s.Abs(s.Sub(dense, w)), -1), 0, false))
		require.Less(t, away, float32(2)/float32(int(1)<<min(c.bits, 3)), name)
		want := s.Float32s(s.Matmul(x, s.Transpose(dense)), nil)
		got := s.QuantizedMatmul(x, packed, scales, biases, true, c.group, c.bits, c.mode)
		require.InDeltaSlice(t, want, s.Float32s(got, nil), 1e-4, name)
		want = s.Float32s(s.Matmul(y, dense), nil)
		got = s.QuantizedMatmul(y, packed, scales, biases, false, c.group, c.bits, c.mode)
		require.InDeltaSlice(t, want, s.Float32s(got, nil), 1e-4, name)
		require.NoError(t, s.Err(), name)
	}
}

func TestQuantizedExperts(t *testing.T) {
	s := open(t)
	const experts, rows, cols = 3, 8, 64
	w := s.FromFloat32s(pseudo(experts*rows*cols, 7), experts, rows, cols)
	x := s.FromFloat32s(pseudo(4*cols, 8), 4, 1, cols)
	pick := s.FromUint32s([]uint32{2, 0, 1, 2}, 4)
	for _, c := range []quantization{{Affine, 32, 4}, {Affine, 64, 8}, {MXFP4, 32, 4}} {
		packed, scales, biases := s.Quantize(w, c.group, c.bits, c.mode)
		dense := s.Dequantize(packed, scales, biases, c.group, c.bits, c.mode, Float32)
		want := s.Matmul(x, s.Transpose(s.Take(dense, pick, 0), 0, 2, 1))
		got := s.GatherQMM(x, packed, scales, biases, Array{}, pick, true, c.group, c.bits, c.mode,
			false)
		require.InDeltaSlice(t, s.Float32s(want, nil), s.Float32s(got, nil), 1e-4, fmt.Sprint(c))
		require.NoError(t, s.Err())
	}
}

// The values of MXFP4 are those of the OCP microscaling specification.
func TestMXFP4Values(t *testing.T) {
	s := open(t)
	codes := []uint32{0x76543210, 0xfedcba98, 0, 0}
	scale := s.FromBytes([]byte{128}, Uint8, 1, 1) // 2^(128-127)
	got := s.Dequantize(s.FromUint32s(codes, 1, 4), scale, Array{}, 32, 4, MXFP4, Float32)
	want := []float32{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}
	require.Equal(t, want, s.Float32s(s.SliceAxis(got, 1, 0, 16), nil))
	require.NoError(t, s.Err())
}
