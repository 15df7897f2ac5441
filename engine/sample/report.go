package sample

import (
	"math"

	"harmonyd/engine/mlx"
)

// report packs the drawn ids and what is asked to be known of their probability
// into one array, so that one read brings all of it: uint32 [B, 2+2n], the id, the
// bits of its log-probability, n ids and the bits of theirs, in no order.
//
// The probabilities are those of the processed scores, before filters and
// temperature, as in mlx-lm. Only for them is the sum over the vocabulary needed.
func (m *Sampler) report(s *mlx.Scope, x, ids mlx.Array) mlx.Array {
	x = s.AsType(x, mlx.Float32)
	x = s.Sub(x, s.LogSumExp(x, -1, true))
	top, at := best(s, x, min(m.p.Logprobs, x.Dim(-1)))
	chosen := s.ExpandDims(ids, -1)
	own := s.TakeAlongAxis(x, chosen, -1)
	all := s.Concatenate(-1, chosen, s.View(own, mlx.Uint32), at, s.View(top, mlx.Uint32))
	return s.Squeeze(all, 1)
}

// Reported is a drawn token with its log-probability and the most probable tokens
// with theirs, the best first. Only the first N of Top count: tokens that are
// impossible are left out.
type Reported struct {
	Token
	N   int
	Top [MaxLogprobs]Token
}

// Token is a token and its log-probability.
type Token struct {
	ID    int32
	Value float32
}

// MaxLogprobs is the largest that Params.Logprobs may be.
const MaxLogprobs = 20

// Unpack reads one row of what Sample returned as logprobs.
func Unpack(row []uint32) (r Reported) {
	n := len(row)/2 - 1
	r.Token = Token{int32(row[0]), math.Float32frombits(row[1])}
	ids, bits := row[2:2+n], row[2+n:]
	for i := range ids {
		t := Token{int32(ids[i]), math.Float32frombits(bits[i])}
		if !(t.Value >= -math.MaxFloat32) {
			continue
		}
		at := r.N
		for at > 0 && t.before(r.Top[at-1]) {
			r.Top[at] = r.Top[at-1]
			at--
		}
		r.Top[at] = t
		r.N++
	}
	return r
}

// before orders tokens: the more probable first, and of two that are as probable
// the one with the lower id.
func (t Token) before(u Token) bool {
	return t.Value > u.Value || t.Value == u.Value && t.ID < u.ID
}
