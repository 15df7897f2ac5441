// Package nn has the layers that models are made of. A layer holds its weights
// as Vars and its Forward adds operations to a scope; nothing here evaluates.
//
// Layers never convert dtypes on their own: what goes in comes out. On a GPU Bind's
// caller hands over weights of one dtype; on a CPU matrices have any, and the rest
// is float32.
//
// Start with Linear for a layer and Bind for how layers get their weights.
//
// Shapes: B batch, L new tokens, T tokens so far, D hidden, H heads, G key/value
// heads, d head dimension, V vocabulary.
package nn

import "harmonyd/engine/mlx"

// Packing says how a quantized weight is packed, in MLX's terms. The zero value
// means not at all.
type Packing struct {
	GroupSize, Bits int
	Mode            mlx.Mode
}

// matrix is a weight [Out, In], plain or quantized.
type matrix struct {
	out, in        int
	packing        Packing
	dtype          mlx.Dtype // of activations
	weight         mlx.Var   // plain [Out, In]; quantized [Out, In*Bits/32]
	turned         mlx.Var   // plain on a GPU only: a view of weight as [In, Out]
	scales, biases mlx.Var   // quantized only: [Out, In/GroupSize]
}

// times is x [.., In] times the weight, turned, plus the bias [Out], which may be
// absent: [.., Out].
func (m *matrix) times(s *mlx.Scope, x, bias mlx.Array) mlx.Array {
	turned := m.turned.Array()
	switch {
	case !turned.Valid():
		return s.Linear(x, m.weight.Array(), m.scales.Array(), m.biases.Array(), bias,
			m.packing.GroupSize, m.packing.Bits, m.packing.Mode)
	case bias.Valid():
		return s.Addmm(bias, x, turned, 1, 1)
	}
	return s.Matmul(x, turned)
}

// Linear is x W^T + b. The zero value is an absent layer.
type Linear struct {
	matrix
	hasBias bool
	bias    mlx.Var // [Out]
}

// NewLinear returns a layer without weights from in to out elements.
func NewLinear(in, out int, bias bool) Linear {
	return Linear{matrix: matrix{out: out, in: in}, hasBias: bias}
}

// Forward maps [.., In] to [.., Out].
func (l *Linear) Forward(s *mlx.Scope, x mlx.Array) mlx.Array {
	return l.times(s, x, l.bias.Array())
}

// Embedding maps token ids to rows of a table [V, D].
type Embedding struct {
	matrix
}

// NewEmbedding returns a table without weights of vocab rows of dim elements.
func NewEmbedding(vocab, dim int) Embedding {
	return Embedding{matrix{out: vocab, in: dim}}
}

// Forward maps ids [B, L], which must be within the vocabulary, to [B, L, D].
func (e *Embedding) Forward(s *mlx.Scope, ids mlx.Array) mlx.Array {
	return s.Embed(ids, e.weight.Array(), e.scales.Array(), e.biases.Array(),
		e.packing.GroupSize, e.packing.Bits, e.packing.Mode, e.dtype)
}

// Unembed maps [.., D] to a score for each row of the table, [.., V].
func (e *Embedding) Unembed(s *mlx.Scope, x mlx.Array) mlx.Array {
	return e.times(s, x, mlx.Array{})
}

// RMSNorm scales the last axis to a root mean square of 1, times a weight [D].
type RMSNorm struct {
	dim    int
	eps    float32
	added  float32 // to the checkpoint's weight
	weight mlx.Var
}

// NewRMSNorm returns a norm without weights over dim elements.
func NewRMSNorm(dim int, eps float32) RMSNorm { return RMSNorm{dim: dim, eps: eps} }

// NewRMSNormPlusOne is NewRMSNorm for checkpoints whose weights are around 0: the
// scale is 1 and the weight.
func NewRMSNormPlusOne(dim int, eps float32) RMSNorm {
	return RMSNorm{dim: dim, eps: eps, added: 1}
}

// Forward keeps the shape of x [.., D].
func (n *RMSNorm) Forward(s *mlx.Scope, x mlx.Array) mlx.Array {
	return s.RMSNorm(x, n.weight.Array(), n.eps)
}

// SwiGLU is the gated feed-forward block down(silu(gate x) * up x).
type SwiGLU struct {
	Gate Linear `weight:"gate_proj"`
	Up   Linear `weight:"up_proj"`
	Down Linear `weight:"down_proj"`
}

// NewSwiGLU returns a block without weights that widens dim elements to hidden.
func NewSwiGLU(dim, hidden int, bias bool) SwiGLU {
	return SwiGLU{
		Gate: NewLinear(dim, hidden, bias),
		Up:   NewLinear(dim, hidden, bias),
		Down: NewLinear(hidden, dim, bias),
	}
}

// Forward keeps the shape of x [.., D].
func (m *SwiGLU) Forward(s *mlx.Scope, x mlx.Array) mlx.Array {
	return m.Down.Forward(s, s.SwiGLU(m.Gate.Forward(s, x), m.Up.Forward(s, x)))
}

// SplitHeads turns [B, L, H*d] into [B, H, L, d].
func SplitHeads(s *mlx.Scope, x mlx.Array, heads int) mlx.Array {
	return s.SplitHeads(x, heads)
}

// MergeHeads turns [B, H, L, d] into [B, L, H*d].
func MergeHeads(s *mlx.Scope, x mlx.Array) mlx.Array {
	return s.MergeHeads(x)
}

// Attention lets the last L of T tokens look at themselves and what is before
// them: q [B, H, L, d], k and v [B, G, T, d], result [B, H, L, d]. MLX spreads the
// G key/value heads over the H query heads itself.
func Attention(s *mlx.Scope, q, k, v mlx.Array, scale float32) mlx.Array {
	mode := mlx.MaskCausal
	if q.Dim(2) == 1 {
		mode = mlx.MaskNone // one token sees everything
	}
	return s.SDPA(q, k, v, scale, mode, mlx.Array{}, mlx.Array{})
}
