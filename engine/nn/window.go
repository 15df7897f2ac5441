package nn

import "harmonyd/engine/mlx"

// WindowMask says which of T keys the last L of their tokens see where each sees
// the window tokens up to itself: Bool [L, T]. It is the zero Array where all that
// the causal mask shows is within the window.
func WindowMask(s *mlx.Scope, l, t, window int) mlx.Array {
	if t <= window {
		return mlx.Array{}
	}
	query := s.Reshape(s.Arange(mlx.Int32, float64(t-l), float64(t), 1), l, 1)
	key := s.Arange(mlx.Int32, 0, float64(t), 1)
	// The window begins after this one.
	before := s.Arange(mlx.Int32, float64(t-l-window), float64(t-window), 1)
	return s.And(s.LessEqual(key, query), s.Greater(key, s.Reshape(before, l, 1)))
}

// WindowAttention is Attention within a window. Mask is WindowMask's for these
// keys, which are those that a sliding layer of package kv returns.
func WindowAttention(s *mlx.Scope, q, k, v mlx.Array, scale float32, mask mlx.Array) mlx.Array {
	if !mask.Valid() {
		return Attention(s, q, k, v, scale)
	}
	return s.SDPA(q, k, v, scale, mlx.MaskArray, mask, mlx.Array{})
}
