// Package sample turns scores into a token, all on the device: neither scores nor
// probabilities ever come to Go.
//
// The order and the meaning of the filters are mlx-lm's (0.32.0 sample_utils.py):
// top-p, min-p and top-k look at the probabilities before the temperature, which
// is applied last. Start with New.
package sample

import (
	"fmt"
	"math"

	"harmonyd/engine/mlx"
)

// Params choose how tokens are drawn. The zero value takes the most probable.
type Params struct {
	Temperature float32 // 0 is greedy
	TopP        float32 // 0 and 1 are off
	TopK        int     // 0 is off
	MinP        float32 // 0 is off
	Seed        uint64
}

// keyBlock is the number of positions whose random keys are made at once.
const keyBlock = 256

// Sampler draws tokens. It is confined to the engine thread, and freed by Close.
type Sampler struct {
	p         Params
	constants [4]mlx.Var // float32 scalars, see the accessors
	keys      mlx.Var    // uint32 [2*keyBlock], for positions from first on
	first     int
	words     []uint32 // of keys; apart from the Vars, since C gets to see it
}

// The constants of a Sampler.
const (
	inverseTemperature = iota
	topP
	logMinP
	minusInfinity
)

// New returns a sampler for p, whose fields must be in range.
func New(p Params) (*Sampler, error) {
	m := &Sampler{p: p, first: -1, words: make([]uint32, 2*keyBlock)}
	if p.Temperature == 0 {
		return m, nil
	}
	for i, v := range [...]float64{
		inverseTemperature: 1 / float64(p.Temperature),
		topP:               float64(p.TopP),
		logMinP:            math.Log(float64(p.MinP)),
		minusInfinity:      math.Inf(-1),
	} {
		var err error
		if m.constants[i], err = mlx.Const(mlx.Float32, v); err != nil {
			m.Close()
			return nil, fmt.Errorf("sampler: %w", err)
		}
	}
	return m, nil
}

// Close frees the constants.
func (m *Sampler) Close() {
	m.keys.Free()
	for i := range m.constants {
		m.constants[i].Free()
	}
}

// Sample draws one token for each row of logits [.., V], as uint32 [..]. The draw
// depends on the logits, the parameters and the position alone. It allocates
// nothing in Go.
func (m *Sampler) Sample(s *mlx.Scope, logits mlx.Array, position int) mlx.Array {
	if m.p.Temperature == 0 {
		return s.Argmax(logits, -1, false)
	}
	// The filters and the draw are invariant to a constant added to all scores,
	// so that the sum over the vocabulary that would make them log-probabilities
	// is never needed.
	x := s.AsType(logits, mlx.Float32)
	if m.p.TopP > 0 && m.p.TopP < 1 {
		x = m.nucleus(s, x)
	}
	if m.p.MinP > 0 {
		least := s.Add(s.Max(x, -1, true), m.constants[logMinP].Array())
		x = s.Where(s.Less(x, least), m.constants[minusInfinity].Array(), x)
	}
	if k := m.p.TopK; k > 0 && k < x.Dim(-1) {
		x = m.best(s, x, k)
	}
	return s.Categorical(s.Mul(x, m.constants[inverseTemperature].Array()), -1, m.key(s, position))
}

// nucleus keeps the smallest set of tokens whose probability reaches TopP: those
// that have less than that above them.
func (m *Sampler) nucleus(s *mlx.Scope, x mlx.Array) mlx.Array {
	v := x.Dim(-1)
	sorted := s.Sort(x, -1)
	mass := s.Exp(s.Sub(sorted, s.SliceAxis(sorted, -1, v-1, v)))
	above := s.Cumsum(mass, -1, true, false)
	total := s.Add(s.SliceAxis(above, -1, 0, 1), s.SliceAxis(mass, -1, 0, 1))
	dropped := s.GreaterEqual(above, s.Mul(total, m.constants[topP].Array()))
	// The last, most probable token has nothing above it and is never dropped,
	// so the count is an index within the axis.
	count := s.Sum(s.AsType(dropped, mlx.Int32), -1, true)
	threshold := s.TakeAlongAxis(sorted, count, -1)
	return s.Where(s.Less(x, threshold), m.constants[minusInfinity].Array(), x)
}

// best keeps the k most probable tokens.
func (m *Sampler) best(s *mlx.Scope, x mlx.Array, k int) mlx.Array {
	v := x.Dim(-1)
	order := s.Argpartition(s.Neg(x), k-1, -1)
	rest := s.SliceAxis(order, -1, k, v)
	return s.PutAlongAxis(x, rest, m.constants[minusInfinity].Array(), -1)
}

// key returns the random key of a position.
func (m *Sampler) key(s *mlx.Scope, position int) mlx.Array {
	if m.first < 0 || position < m.first || position >= m.first+keyBlock {
		m.first = position / keyBlock * keyBlock
		for i := range keyBlock {
			w := mix(m.p.Seed ^ mix(uint64(m.first+i)))
			m.words[2*i], m.words[2*i+1] = uint32(w>>32), uint32(w)
		}
		m.keys.Set(s.FromUint32s(m.words, len(m.words)))
	}
	i := 2 * (position - m.first)
	return s.SliceAxis(m.keys.Array(), 0, i, i+2)
}

// mix is the finalizer of SplitMix64: neighbouring numbers give unrelated ones.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
