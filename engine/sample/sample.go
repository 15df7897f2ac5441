// Package sample turns scores into a token, all on the device: neither scores nor
// probabilities come to Go, but for the few log-probabilities that are asked for.
//
// The order and the meaning of all parameters are mlx-lm's (0.32.0
// sample_utils.py): the logits processors bias, repetition, presence and frequency
// penalty, which greedy decoding obeys too; then the filters top-p, min-p, XTC and
// top-k, which look at the probabilities before the temperature; then the
// temperature and the draw. Start with New.
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
	// MinKeep is the number of tokens that MinP leaves at least; 0 means 1.
	MinKeep int
	// XTCProbability is how often the most probable tokens are excluded; 0 is off.
	XTCProbability float32
	// XTCThreshold is the probability beyond which a token is, where another one
	// is beyond it too: the least probable of those stays.
	XTCThreshold float32
	// XTCSpared are never excluded.
	XTCSpared []int32

	// Bias is added to the scores of tokens. An id that is there twice counts
	// twice.
	Bias []Bias
	// Repetition divides positive scores of tokens seen lately and multiplies
	// negative ones. 0 and 1 are off.
	Repetition Penalty
	// Presence is taken from the score of each token seen lately, Frequency as
	// often as it was seen. 0 is off.
	Presence, Frequency Penalty

	// Logprobs is how many of the most probable tokens to report; 0 is off.
	Logprobs int
	Seed     uint64
}

// Bias changes the score of one token.
type Bias struct {
	ID    int32
	Value float32
}

// Penalty is a penalty for what the last Window tokens hold, the prompt among
// them. A Window of 0 is the whole text.
type Penalty struct {
	Value  float32
	Window int
}

// nuclear reports whether TopP drops anything.
func (p *Params) nuclear() bool { return p.TopP > 0 && p.TopP < 1 }

// repeats reports whether Repetition changes anything.
func (p *Params) repeats() bool { return p.Repetition.Value != 0 && p.Repetition.Value != 1 }

// keyBlock is the number of positions whose random keys are made at once.
const keyBlock = 256

// Sampler draws tokens for one sequence. It is confined to the engine thread, and
// freed by Close.
type Sampler struct {
	p         Params
	constants [numConstants]mlx.Var // see constant
	biased    mlx.Var               // uint32 [1, 1, n]: the ids of p.Bias
	bias      mlx.Var               // float32 [1, 1, n]: its values
	spared    mlx.Var               // uint32 [1, 1, n]
	history   history
	keys      mlx.Var // uint32 [2*keyBlock], for positions from first on
	first     int
	words     []uint32 // of keys; apart from the Vars, since C gets to see it
}

// The constants of a Sampler: float32 scalars but for never.
const (
	inverseTemperature = iota
	topP
	logMinP
	xtcThreshold
	repetition
	presence
	minusFrequency
	zero
	infinity
	minusInfinity
	never // Bool, false
	numConstants
)

// maxInverse keeps the product of a score and 1/temperature from the overflow that
// a temperature next to 0 would lead to.
const maxInverse = 1e30

// New returns a sampler for p, whose fields must be in range.
func New(p Params) (*Sampler, error) {
	m := &Sampler{p: p, first: -1}
	if err := m.open(); err != nil {
		m.Close()
		return nil, fmt.Errorf("sampler: %w", err)
	}
	return m, nil
}

// open puts on the device what every step needs.
func (m *Sampler) open() error {
	if len(m.p.Bias) == 0 && len(m.p.XTCSpared) == 0 {
		return nil
	}
	s := mlx.NewScope(mlx.Stream{})
	defer s.Close()
	if n := len(m.p.Bias); n > 0 {
		ids, values := make([]uint32, n), make([]float32, n)
		for i, b := range m.p.Bias {
			ids[i], values[i] = uint32(b.ID), b.Value
		}
		m.biased.Set(s.FromUint32s(ids, 1, 1, n))
		m.bias.Set(s.FromFloat32s(values, 1, 1, n))
	}
	if n := len(m.p.XTCSpared); n > 0 {
		ids := make([]uint32, n)
		for i, id := range m.p.XTCSpared {
			ids[i] = uint32(id)
		}
		m.spared.Set(s.FromUint32s(ids, 1, 1, n))
	}
	return s.Err()
}

// Close frees what is on the device.
func (m *Sampler) Close() {
	for i := range m.constants {
		m.constants[i].Free()
	}
	m.biased.Free()
	m.bias.Free()
	m.spared.Free()
	m.history.close()
	m.keys.Free()
}

// constant is one of the constants, made when it is needed first.
func (m *Sampler) constant(s *mlx.Scope, i int) mlx.Array {
	if v := &m.constants[i]; !v.Array().Valid() {
		dtype := mlx.Float32
		if i == never {
			dtype = mlx.Bool
		}
		var err error
		if *v, err = mlx.Const(dtype, m.number(i)); err != nil {
			s.Fail(err)
		}
	}
	return m.constants[i].Array()
}

func (m *Sampler) number(i int) float64 {
	switch p := &m.p; i {
	case inverseTemperature:
		return float64(m.inverse())
	case topP:
		return float64(p.TopP)
	case logMinP:
		return math.Log(float64(p.MinP))
	case xtcThreshold:
		return float64(p.XTCThreshold)
	case repetition:
		return float64(p.Repetition.Value)
	case presence:
		return float64(p.Presence.Value)
	case minusFrequency:
		return -float64(p.Frequency.Value)
	case infinity:
		return math.Inf(1)
	case minusInfinity:
		return math.Inf(-1)
	}
	return 0
}

func (m *Sampler) inverse() float32 { return float32(min(1/float64(m.p.Temperature), maxInverse)) }

// Sample draws one token for each row of logits [B, 1, V], as uint32 [B, 1]. The
// draw depends on the logits, the parameters, the position, which is the number of
// tokens before the drawn one, and where there are penalties on those tokens: Feed
// has seen all of them. It allocates nothing in Go.
//
// Logprobs is the zero Array unless Params ask for it; see Report.
func (m *Sampler) Sample(s *mlx.Scope, logits mlx.Array, position int) (ids, logprobs mlx.Array) {
	x := m.process(s, logits, position)
	if m.p.Temperature == 0 {
		ids = s.Argmax(x, -1, false)
	} else {
		ids = m.draw(s, x, position)
	}
	if m.p.Logprobs > 0 {
		logprobs = m.report(s, x, ids)
	}
	return ids, logprobs
}

// draw filters scores x [B, 1, V] and draws from what is left.
func (m *Sampler) draw(s *mlx.Scope, x mlx.Array, position int) mlx.Array {
	x = s.AsType(x, mlx.Float32)
	if s.CPU() && x.Size() == x.Dim(-1) {
		return m.drawOnCPU(s, x, position)
	}
	x, of := m.filter(s, x, position)
	i := s.Categorical(s.Mul(x, m.constant(s, inverseTemperature)), -1, m.key(s, position))
	if !of.Valid() {
		return i
	}
	return s.Squeeze(s.TakeAlongAxis(of, s.ExpandDims(i, -1), -1), -1)
}

// drawOnCPU is draw in two operations. There MLX would sort the vocabulary on one
// thread, which takes longer than many a layer.
func (m *Sampler) drawOnCPU(s *mlx.Scope, x mlx.Array, position int) mlx.Array {
	if f := m.tokenFilter(position); f != (mlx.TokenFilter{}) {
		x = s.FilterTokens(x, f, m.spared.Array())
	}
	return s.DrawToken(x, m.inverse(), share(m.random(position)))
}

// tokenFilter is what filter does at a position.
func (m *Sampler) tokenFilter(position int) (f mlx.TokenFilter) {
	p := &m.p
	if p.nuclear() {
		f.TopP = p.TopP
	}
	if p.MinP > 0 {
		f.MinP, f.MinKeep = p.MinP, p.MinKeep
	}
	if m.excludes(position) {
		f.XTC, f.XTCThreshold = true, p.XTCThreshold
	}
	f.TopK = p.TopK
	return f
}

// key returns the random key of a position.
func (m *Sampler) key(s *mlx.Scope, position int) mlx.Array {
	if m.first < 0 || position < m.first || position >= m.first+keyBlock {
		if m.words == nil {
			m.words = make([]uint32, 2*keyBlock)
		}
		m.first = position / keyBlock * keyBlock
		for i := range keyBlock {
			w := m.random(m.first + i)
			m.words[2*i], m.words[2*i+1] = uint32(w>>32), uint32(w)
		}
		m.keys.Set(s.FromUint32s(m.words, len(m.words)))
	}
	i := 2 * (position - m.first)
	return s.SliceAxis(m.keys.Array(), 0, i, i+2)
}

// random is a number that the seed and the position alone decide.
func (m *Sampler) random(position int) uint64 { return mix(m.p.Seed ^ mix(uint64(position))) }

// share makes a random number one from [0, 1).
func share(x uint64) float64 { return float64(x>>11) / (1 << 53) }

// mix is the finalizer of SplitMix64: neighbouring numbers give unrelated ones.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
