package sample

import "harmonyd/engine/mlx"

// Restrict gives tokens that mask leaves out the score of minus infinity, which no
// processor and no filter changes: a token is in where its bit, i%32 of word i/32, is
// set. Logits are [1, 1, V], the result is float32.
func (m *Sampler) Restrict(s *mlx.Scope, logits mlx.Array, mask []uint32) mlx.Array {
	x := s.AsType(logits, mlx.Float32)
	words := s.FromUint32s(mask, len(mask))
	if s.CPU() {
		return s.MaskTokens(x, words)
	}
	return m.composeMask(s, x, words)
}

// composeMask is MaskTokens in MLX's own operations.
func (m *Sampler) composeMask(s *mlx.Scope, x, words mlx.Array) mlx.Array {
	bits := s.RightShift(s.ExpandDims(words, -1), s.Arange(mlx.Uint32, 0, 32, 1))
	bits = s.BitAnd(bits, s.Scalar(mlx.Uint32, 1))
	allowed := s.SliceAxis(s.Reshape(bits, 1, 1, 32*words.Dim(0)), 2, 0, x.Dim(-1))
	return s.Where(s.AsType(allowed, mlx.Bool), x, m.constant(s, minusInfinity))
}

// process applies the logits processors to logits [B, 1, V]. Without any it
// returns logits as they are, else float32.
func (m *Sampler) process(s *mlx.Scope, logits mlx.Array, position int) mlx.Array {
	x := logits
	if len(m.p.Bias) > 0 {
		x = s.AddAlongAxis(s.AsType(x, mlx.Float32), m.biased.Array(), m.bias.Array(), -1)
	}
	if !m.remembers() {
		return x
	}
	x = s.AsType(x, mlx.Float32)
	if m.p.repeats() {
		seen := m.history.last(s, m.p.Repetition.Window, position)
		old, by := s.TakeAlongAxis(x, seen, -1), m.constant(s, repetition)
		// A token that was seen twice is written twice, with the same score.
		x = s.PutAlongAxis(x, seen, s.Where(s.Less(old, m.constant(s, zero)), s.Mul(old, by), s.Div(old, by)), -1)
	}
	if p := m.p.Presence; p.Value != 0 {
		seen := m.history.last(s, p.Window, position)
		x = s.PutAlongAxis(x, seen, s.Sub(s.TakeAlongAxis(x, seen, -1), m.constant(s, presence)), -1)
	}
	if p := m.p.Frequency; p.Value != 0 {
		x = s.AddAlongAxis(x, m.history.last(s, p.Window, position), m.constant(s, minusFrequency), -1)
	}
	return x
}

// remembers reports whether scores depend on the tokens before.
func (m *Sampler) remembers() bool {
	return m.p.repeats() || m.p.Presence.Value != 0 || m.p.Frequency.Value != 0
}

// Feed notes the tokens [1, L] that stand at positions from at on. What was noted
// there or behind is forgotten: that is all there is to setting a sequence back.
// It does nothing where no penalty needs it.
func (m *Sampler) Feed(s *mlx.Scope, tokens mlx.Array, at int) {
	if m.remembers() {
		m.history.write(s, tokens, at)
	}
}

// history is the tokens of a sequence on the device, by position, so that a step
// needs no token from the host.
type history struct {
	tokens   mlx.Var // uint32 [1, 1, capacity]
	capacity int
}

// historyBlock is what the capacity of a history is a multiple of.
const historyBlock = 256

func (h *history) write(s *mlx.Scope, tokens mlx.Array, at int) {
	n := tokens.Dim(-1)
	if at+n > h.capacity {
		// A quarter more than needed, since growth copies.
		capacity := (at + n + h.capacity/4 + historyBlock - 1) / historyBlock * historyBlock
		more := s.Zeros(mlx.Uint32, 1, 1, capacity-h.capacity)
		if h.capacity > 0 {
			more = s.Concatenate(2, h.tokens.Array(), more)
		}
		h.tokens.Set(more)
		h.capacity = capacity
	}
	h.tokens.Set(s.SliceUpdateAxis(h.tokens.Array(), s.AsType(s.ExpandDims(tokens, 0), mlx.Uint32), 2, at))
}

// last returns the last window of the first position tokens, as uint32 [1, 1, n].
func (h *history) last(s *mlx.Scope, window, position int) mlx.Array {
	begin := 0
	if window > 0 {
		begin = max(0, position-window)
	}
	return s.SliceAxis(h.tokens.Array(), 2, begin, position)
}

func (h *history) close() {
	h.tokens.Free()
	h.capacity = 0
}
