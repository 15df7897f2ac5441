package mlx

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	impossible = float32(math.Inf(-1))
	notANumber = float32(math.NaN())
)

func cpuScope(t *testing.T) *Scope {
	s := open(t)
	if !s.CPU() {
		t.Skip("tokens are filtered and drawn in one operation on a CPU only")
	}
	return s
}

// TestDrawTokenSharesOutTheInterval draws at n numbers that divide [0, 1) evenly:
// each token gets as many of them as its probability says, or one more or less. A
// draw that looks at the next block's weights was seen to fail.
func TestDrawTokenSharesOutTheInterval(t *testing.T) {
	const n = 2000
	s := cpuScope(t)
	spread := func(size int, at map[int]float32) []float32 {
		x := slices.Repeat([]float32{impossible}, size)
		for i, v := range at {
			x[i] = v
		}
		return x
	}
	for _, x := range [][]float32{
		{0}, {1, 1}, {0.3, 2.1, -1.2, 1.7, 0.9, -3, 2.6, 1.1, -0.4, 0.1, 1.4, -2.2},
		spread(1500, map[int]float32{0: 1, 511: 2, 512: 1.5, 513: -1, 1024: 0, 1499: 2}),
		spread(513, map[int]float32{512: -40}),
		spread(70, map[int]float32{3: 500, 69: 500.5, 40: notANumber}),
	} {
		for _, inverse := range []float32{1, 0.5, 3} {
			total, got := 0.0, make([]float64, len(x))
			for _, v := range x {
				if v == v {
					total += math.Exp(float64((v - slices.Max(finite(x))) * inverse))
				}
			}
			a := s.FromFloat32s(x, 1, len(x))
			for i := range n {
				got[s.ItemInt32(s.Squeeze(s.DrawToken(a, inverse, float64(i)/n), 0))]++
			}
			require.NoError(t, s.Err())
			for i, v := range x {
				if v != v || v == impossible {
					require.Zero(t, got[i], "token %d", i)
					continue
				}
				want := n * math.Exp(float64((v-slices.Max(finite(x)))*inverse)) / total
				require.InDelta(t, want, got[i], 1.01, "token %d of %d at %v", i, len(x), inverse)
			}
		}
	}
}

func finite(x []float32) []float32 {
	return slices.DeleteFunc(slices.Clone(x), func(v float32) bool { return v != v || math.IsInf(float64(v), 0) })
}

// TestDrawTokenAtTheEdges: the last number below 1, scores of which no sum is
// finite, and inverse temperatures next to 0 and to infinity.
func TestDrawTokenAtTheEdges(t *testing.T) {
	s := cpuScope(t)
	last, infinite := math.Nextafter(1, 0), float32(math.Inf(1))
	for _, c := range []struct {
		x       []float32
		inverse float32
		random  float64
		want    int32
	}{
		{[]float32{1, 2, impossible}, 1, last, 1},
		{[]float32{impossible, 1, 2, impossible}, 1, 0, 1},
		{[]float32{1, 3, 2}, 1e30, 0.999, 1},
		{[]float32{1, 3, 2}, 0, 0.999, 2},
		{[]float32{impossible, impossible}, 1, 0.5, 0},
		{[]float32{notANumber, notANumber}, 1, 0.5, 0},
		{[]float32{0, infinite, 1}, 1, 0.5, 1},
		{[]float32{notANumber, 0}, 1, 0, 1},
	} {
		id := s.ItemInt32(s.DrawToken(s.FromFloat32s(c.x, len(c.x)), c.inverse, c.random))
		require.NoError(t, s.Err())
		require.Equal(t, c.want, id, "%+v", c)
	}
}

// TestFilterTokensLikeASort holds random filters of random scores against what
// sorting all of them gives: sizes around the width of a register, near and far
// scores, ties, impossible ones and some that are not numbers. A sum of the weights
// of the near tokens only, where XTC has to have all, was seen to fail.
func TestFilterTokensLikeASort(t *testing.T) {
	s := cpuScope(t)
	r := rand.New(rand.NewPCG(1, 2))
	compared := 0
	for range 1500 {
		n := []int{1, 2, 7, 8, 9, 100, 1000, 5000}[r.IntN(8)]
		width := []float64{0, 0.5, 4, 30, 300}[r.IntN(5)]
		x := make([]float32, n)
		for i := range x {
			switch r.IntN(12) {
			case 0:
				x[i] = impossible
			case 1:
				x[i] = float32(r.IntN(3)) * float32(width) / 3
			default:
				x[i] = float32(r.Float64() * width)
			}
		}
		if r.IntN(8) == 0 {
			x[r.IntN(n)] = notANumber
		}
		x[r.IntN(n)] = float32(width) // one is possible
		f := TokenFilter{XTC: r.IntN(4) == 0, XTCThreshold: []float32{0, 0.01, 0.3}[r.IntN(3)]}
		if r.IntN(2) == 0 {
			f.TopP = []float32{0.01, 0.5, 0.9, 0.999}[r.IntN(4)]
		}
		if r.IntN(2) == 0 {
			f.MinP, f.MinKeep = []float32{1e-9, 0.01, 1}[r.IntN(3)], r.IntN(5)
		}
		if r.IntN(2) == 0 {
			f.TopK = 1 + r.IntN(60)
		}
		spared := make([]uint32, r.IntN(3))
		for i := range spared {
			spared[i] = uint32(r.IntN(n))
		}
		want, sure := sorted(x, f, spared)
		if !sure {
			continue
		}
		compared++
		var ids Array
		if len(spared) > 0 {
			ids = s.FromUint32s(spared, len(spared))
		}
		got := s.Float32s(s.FilterTokens(s.FromFloat32s(x, 1, 1, n), f, ids), nil)
		require.NoError(t, s.Err())
		require.True(t, slices.Equal(want, got), "%+v %v of %d", f, spared, n)
		s.Reset()
	}
	require.Greater(t, compared, 1250)
}

// sorted filters in float64. It is not sure where a sum is next to its bound.
func sorted(x []float32, f TokenFilter, spared []uint32) (y []float32, sure bool) {
	top := slices.Max(finite(x))
	type item struct {
		id            int
		score, weight float64
	}
	var items []item
	total := 0.0
	y = slices.Repeat([]float32{impossible}, len(x))
	for i, v := range x {
		d := float64(v - top)
		if v != v {
			d = math.Inf(-1)
		}
		w := math.Exp(d)
		if d <= -87 {
			w = 0
		}
		items = append(items, item{i, d, w})
		total += w
	}
	slices.SortStableFunc(items, func(a, b item) int { return cmp.Compare(b.score, a.score) })
	sure = true
	near := func(a, b float64) {
		if math.Abs(a-b) < 1e-5*b {
			sure = false
		}
	}
	if f.TopP > 0 {
		above, end := 0.0, len(items)
		for i, t := range items {
			near(above, float64(f.TopP)*total)
			if above >= float64(f.TopP)*total && t.score < items[i-1].score {
				end = i
				break
			}
			above += t.weight
		}
		items = items[:end]
	}
	if f.MinP > 0 {
		rank := -1
		items = slices.DeleteFunc(items, func(t item) bool {
			rank++
			near(-t.score, -math.Log(float64(f.MinP)))
			return t.score < math.Log(float64(f.MinP)) && rank >= f.MinKeep
		})
	}
	if f.XTC {
		left, least := 0.0, math.Inf(1)
		for _, t := range items {
			left += t.weight
		}
		for _, t := range items {
			near(t.weight, float64(f.XTCThreshold)*left)
			if t.weight > float64(f.XTCThreshold)*left {
				least = min(least, t.weight)
			}
		}
		items = slices.DeleteFunc(items, func(t item) bool {
			if t.weight != least {
				near(t.weight, least) // float32 may not tell the two apart
			}
			return t.weight > least && !slices.Contains(spared, uint32(t.id))
		})
	}
	if f.TopK > 0 && f.TopK < len(items) {
		items = items[:f.TopK]
	}
	for _, t := range items {
		y[t.id] = float32(t.score)
	}
	return y, sure
}

// TestMaskTokens leaves out what has no bit, and needs a bit for each score.
func TestMaskTokens(t *testing.T) {
	s := open(t)
	for _, n := range []int{1, 31, 32, 33, 100} {
		x, mask := randoms(n, 1), make([]uint32, (n+31)/32)
		for i := range n {
			if i%3 == 0 {
				mask[i/32] |= 1 << (i % 32)
			}
		}
		got := s.Float32s(s.MaskTokens(s.FromFloat32s(x, 1, 1, n), s.FromUint32s(mask, len(mask))), nil)
		require.NoError(t, s.Err())
		for i := range n {
			if i%3 == 0 {
				require.Equal(t, x[i], got[i])
			} else {
				require.True(t, math.IsInf(float64(got[i]), -1))
			}
		}
	}
}

// TestReady asks before and after.
func TestReady(t *testing.T) {
	s := open(t)
	a := s.Add(s.Scalar(Float32, 1), s.Scalar(Float32, 2))
	require.False(t, s.Ready(a))
	require.NoError(t, s.Eval(a))
	require.True(t, s.Ready(a))
}
