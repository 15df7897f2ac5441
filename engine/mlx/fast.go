package mlx

// #include "shim.h"
// #cgo noescape hm_rms_norm
// #cgo nocallback hm_rms_norm
// #cgo noescape hm_layer_norm
// #cgo nocallback hm_layer_norm
// #cgo noescape hm_rope
// #cgo nocallback hm_rope
// #cgo noescape hm_rope_dynamic
// #cgo nocallback hm_rope_dynamic
// #cgo noescape hm_sdpa
// #cgo nocallback hm_sdpa
// #cgo noescape hm_linear
// #cgo nocallback hm_linear
// #cgo noescape hm_embed
// #cgo nocallback hm_embed
// #cgo noescape hm_split_heads
// #cgo nocallback hm_split_heads
// #cgo noescape hm_merge_heads
// #cgo nocallback hm_merge_heads
// #cgo noescape hm_write_rows
// #cgo nocallback hm_write_rows
// #cgo noescape hm_swiglu
// #cgo nocallback hm_swiglu
// #cgo noescape hm_quantized_matmul
// #cgo nocallback hm_quantized_matmul
// #cgo noescape hm_dequantize
// #cgo nocallback hm_dequantize
// #cgo noescape hm_quantize
// #cgo nocallback hm_quantize
// #cgo noescape hm_gather_mm
// #cgo nocallback hm_gather_mm
// #cgo noescape hm_gather_qmm
// #cgo nocallback hm_gather_qmm
import "C"

import "fmt"

// Linear is x w^T + bias for x [.., in] and w [out, in]; bias [out] may be absent.
// A quantized w has scales, and biases where the mode is Affine; groupSize, bits
// and mode are then QuantizedMatmul's. On a CPU x and bias are float32, and w may
// be of any type that checkpoints have: it is computed with as it is.
func (s *Scope) Linear(x, w, scales, biases, bias Array, groupSize, bits int, mode Mode) Array {
	return s.made(C.hm_linear(s.ptr(), x.use(), w.use(), scales.use(), biases.use(), bias.use(),
		C.longlong(groupSize), C.longlong(bits), C.int(mode)))
}

// Embed takes the rows of a table w [V, D] that ids name, as d: [.., D]. The table is
// described as Linear's weight is. The ids must be in range; nothing checks them.
func (s *Scope) Embed(ids, w, scales, biases Array, groupSize, bits int, mode Mode, d Dtype) Array {
	return s.made(C.hm_embed(s.ptr(), ids.use(), w.use(), scales.use(), biases.use(),
		C.longlong(groupSize), C.longlong(bits), C.int(mode), C.int(d)))
}

// SplitHeads turns [B, L, heads*d] into [B, heads, L, d].
func (s *Scope) SplitHeads(x Array, heads int) Array {
	return s.made(C.hm_split_heads(s.ptr(), x.use(), C.longlong(heads)))
}

// MergeHeads turns [B, heads, L, d] into [B, L, heads*d].
func (s *Scope) MergeHeads(x Array) Array { return s.made(C.hm_merge_heads(s.ptr(), x.use())) }

// WriteRows puts rows [B, G, L, d] into buffer [B, G, C, d] from position at on, makes
// buffer hold the result and returns what is in it now, [B, G, at+L, d]. On a CPU it
// writes into the buffer's own memory, so nothing else may count on what lies from
// at on.
func (s *Scope) WriteRows(buffer *Var, rows Array, at int) Array {
	t := C.hm_write_rows(s.ptr(), buffer.Array().use(), rows.use(), C.longlong(at))
	buffer.Set(s.made(t.a))
	return s.made(t.b)
}

// SwiGLU is silu(gate) * up.
func (s *Scope) SwiGLU(gate, up Array) Array {
	return s.made(C.hm_swiglu(s.ptr(), gate.use(), up.use()))
}

// RMSNorm divides the last axis by its root mean square and multiplies by weight,
// which may be absent.
func (s *Scope) RMSNorm(x, weight Array, eps float32) Array {
	return s.made(C.hm_rms_norm(s.ptr(), x.use(), weight.use(), C.float(eps)))
}

// LayerNorm centres and scales the last axis, multiplies by weight and adds bias;
// both may be absent.
func (s *Scope) LayerNorm(x, weight, bias Array, eps float32) Array {
	return s.made(C.hm_layer_norm(s.ptr(), x.use(), weight.use(), bias.use(), C.float(eps)))
}

// RoPE rotates the first dims elements of the last axis of x [.., T, d] by the
// position offset+t times scale. The angles come from base, or from freqs
// [dims/2], the wave lengths over 2 pi, and then base must be 0. Traditional pairs
// neighbours; otherwise the halves are paired.
func (s *Scope) RoPE(x Array, dims int, traditional bool, base, scale float32, offset int,
	freqs Array) Array {
	return s.made(C.hm_rope(s.ptr(), x.use(), C.longlong(dims), C.bool(traditional),
		C.float(base), C.float(scale), C.longlong(offset), freqs.use()))
}

// RoPEDynamic is RoPE with the offset in an integer array: a scalar, or one for
// each row of the batch.
func (s *Scope) RoPEDynamic(x Array, dims int, traditional bool, base, scale float32,
	offset, freqs Array) Array {
	return s.made(C.hm_rope_dynamic(s.ptr(), x.use(), C.longlong(dims), C.bool(traditional),
		C.float(base), C.float(scale), offset.use(), freqs.use()))
}

// A MaskMode says which keys a query sees.
type MaskMode int

// The mask modes of SDPA.
const (
	MaskNone   MaskMode = C.HM_MASK_NONE   // all keys
	MaskCausal MaskMode = C.HM_MASK_CAUSAL // the last query sees all, each earlier one fewer
	MaskArray  MaskMode = C.HM_MASK_ARRAY  // a Bool mask (true is seen) or an additive one
)

// SDPA is softmax(scale * q k^T + mask) v for q [B, H, L, d], k and v [B, G, T, d];
// G must divide H. mask goes with MaskArray only and broadcasts to [B, H, L, T].
// sinks [H], which may be absent, joins each head's softmax as a key without value.
func (s *Scope) SDPA(q, k, v Array, scale float32, mode MaskMode, mask, sinks Array) Array {
	return s.made(C.hm_sdpa(s.ptr(), q.use(), k.use(), v.use(), C.float(scale), C.int(mode),
		mask.use(), sinks.use()))
}

// A Mode is a way of quantizing.
type Mode int

// The quantization modes of MLX.
const (
	Affine Mode = C.HM_MODE_AFFINE // scale and bias a group
	MXFP4  Mode = C.HM_MODE_MXFP4  // 4-bit floats, groups of 32, shared exponent
	MXFP8  Mode = C.HM_MODE_MXFP8  // 8-bit floats, groups of 32, shared exponent
	NVFP4  Mode = C.HM_MODE_NVFP4  // 4-bit floats, groups of 16, 8-bit float scale
)

var modeNames = [...]string{Affine: "affine", MXFP4: "mxfp4", MXFP8: "mxfp8", NVFP4: "nvfp4"}

// String returns the name that checkpoints use.
func (m Mode) String() string {
	if m < 0 || int(m) >= len(modeNames) {
		return fmt.Sprintf("mode(%d)", int(m))
	}
	return modeNames[m]
}

// ParseMode returns the mode that a checkpoint names.
func ParseMode(name string) (Mode, error) {
	for m, n := range modeNames {
		if n == name {
			return Mode(m), nil
		}
	}
	return 0, fmt.Errorf("mlx: quantization mode %q is not known", name)
}

// QuantizedMatmul is x @ w, or x @ w^T when transpose is true, for a quantized w.
// biases go with Affine and are absent otherwise. A groupSize or bits of 0 leaves
// the choice to the mode.
func (s *Scope) QuantizedMatmul(x, w, scales, biases Array, transpose bool, groupSize, bits int,
	mode Mode) Array {
	return s.made(C.hm_quantized_matmul(s.ptr(), x.use(), w.use(), scales.use(), biases.use(),
		C.bool(transpose), C.longlong(groupSize), C.longlong(bits), C.int(mode)))
}

// Dequantize returns the weights as d. The other parameters are QuantizedMatmul's.
func (s *Scope) Dequantize(w, scales, biases Array, groupSize, bits int, mode Mode, d Dtype) Array {
	return s.made(C.hm_dequantize(s.ptr(), w.use(), scales.use(), biases.use(),
		C.longlong(groupSize), C.longlong(bits), C.int(mode), C.int(d)))
}

// Quantize packs the last axis of w into Uint32 words. biases is the zero Array
// except for Affine.
func (s *Scope) Quantize(w Array, groupSize, bits int, mode Mode) (packed, scales, biases Array) {
	t := C.hm_quantize(s.ptr(), w.use(), C.longlong(groupSize), C.longlong(bits), C.int(mode))
	return s.made(t.a), s.made(t.b), s.made(t.c)
}

// GatherMM multiplies pairs of matrices: a's number lhs[i] by b's number rhs[i].
// An absent list means all in order; sorted says that rhs ascends. The indices
// must be in range; nothing checks them.
func (s *Scope) GatherMM(a, b, lhs, rhs Array, sorted bool) Array {
	return s.made(C.hm_gather_mm(s.ptr(), a.use(), b.use(), lhs.use(), rhs.use(), C.bool(sorted)))
}

// GatherQMM is GatherMM with a quantized b, whose parameters are
// QuantizedMatmul's.
func (s *Scope) GatherQMM(x, w, scales, biases, lhs, rhs Array, transpose bool,
	groupSize, bits int, mode Mode, sorted bool) Array {
	return s.made(C.hm_gather_qmm(s.ptr(), x.use(), w.use(), scales.use(), biases.use(),
		lhs.use(), rhs.use(), C.bool(transpose), C.longlong(groupSize), C.longlong(bits),
		C.int(mode), C.bool(sorted)))
}
