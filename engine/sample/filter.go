package sample

import "harmonyd/engine/mlx"

// filter returns scores x [B, 1, V] with minus infinity for what the filters drop,
// up to a constant. Where of is valid they are scores of its ids [B, 1, k] and not
// of the whole vocabulary, in the order of neither.
//
// The filters and the draw are invariant to a constant added to all scores, so
// that the sum over the vocabulary that would make them log-probabilities is not
// needed. The largest is made 0, which saves the filters from looking for it and
// keeps what a low temperature multiplies precise.
func (m *Sampler) filter(s *mlx.Scope, x mlx.Array, position int) (kept, of mlx.Array) {
	x = s.Sub(x, s.Max(x, -1, true))
	p, k := &m.p, m.p.TopK
	if k >= x.Dim(-1) {
		k = 0
	}
	nuclear, excluding := p.nuclear(), m.excludes(position)
	var total mlx.Array
	// Top-k comes last, but unless XTC drops some of the most probable tokens first,
	// what is left is among the k best, and those are all that the others need to
	// look at: no sort of the vocabulary.
	if k > 0 && !excluding {
		if nuclear {
			total = s.Sum(s.Exp(x), -1, true)
		}
		x, of = best(s, x, k)
		k = 0
	}
	if nuclear {
		x = m.nucleus(s, x, total)
	}
	if p.MinP > 0 {
		x = m.probableEnough(s, x)
	}
	if excluding {
		x = m.exclude(s, x)
	}
	if k > 0 {
		x, of = best(s, x, k)
	}
	return x, of
}

// best returns the k largest of x and where they stand.
func best(s *mlx.Scope, x mlx.Array, k int) (scores, at mlx.Array) {
	n := x.Dim(-1)
	at = s.SliceAxis(s.Argpartition(x, n-k, -1), -1, n-k, n)
	return s.TakeAlongAxis(x, at, -1), at
}

// nucleus keeps the smallest set of tokens whose probability reaches TopP: those
// that have less than that above them, and what ties with the last of them. Total
// is the sum over the vocabulary where x is not all of it.
func (m *Sampler) nucleus(s *mlx.Scope, x, total mlx.Array) mlx.Array {
	sorted := s.Sort(x, -1)
	mass := s.Exp(sorted)
	above := s.Cumsum(mass, -1, true, false)
	if !total.Valid() {
		total = s.Add(s.SliceAxis(above, -1, 0, 1), s.SliceAxis(mass, -1, 0, 1))
	}
	dropped := s.GreaterEqual(above, s.Mul(total, m.constant(s, topP)))
	// The last, most probable token has nothing above it and is never dropped,
	// so the count is an index within the axis.
	count := s.Sum(s.AsType(dropped, mlx.Int32), -1, true)
	return m.drop(s, s.Less(x, s.TakeAlongAxis(sorted, count, -1)), x)
}

// probableEnough drops what is less than MinP times as probable as the best, but
// for the MinKeep most probable.
func (m *Sampler) probableEnough(s *mlx.Scope, x mlx.Array) mlx.Array {
	keep := m.p.MinKeep
	if keep >= x.Dim(-1) {
		return x
	}
	dropped := s.Less(x, m.constant(s, logMinP))
	if keep > 1 {
		_, at := best(s, x, keep)
		dropped = s.PutAlongAxis(dropped, at, m.constant(s, never), -1)
	}
	return m.drop(s, dropped, x)
}

// excludes reports whether XTC acts at a position. It depends on the seed and the
// position alone, so that where it does not act, the device has nothing to do.
func (m *Sampler) excludes(position int) bool {
	if m.p.XTCProbability <= 0 {
		return false
	}
	// Another number than the one that the draw's key is made of.
	return share(mix(m.random(position))) <= float64(m.p.XTCProbability)
}

// exclude is XTC, exclude top choices: of the tokens more probable than the
// threshold it leaves the least probable.
func (m *Sampler) exclude(s *mlx.Scope, x mlx.Array) mlx.Array {
	mass := s.Exp(x)
	beyond := s.Greater(mass, s.Mul(s.Sum(mass, -1, true), m.constant(s, xtcThreshold)))
	least := s.Min(s.Where(beyond, mass, m.constant(s, infinity)), -1, true)
	dropped := s.Greater(mass, least)
	if len(m.p.XTCSpared) > 0 {
		dropped = s.PutAlongAxis(dropped, m.spared.Array(), m.constant(s, never), -1)
	}
	return m.drop(s, dropped, x)
}

func (m *Sampler) drop(s *mlx.Scope, dropped, x mlx.Array) mlx.Array {
	return s.Where(dropped, m.constant(s, minusInfinity), x)
}
