package bench

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFigureIsMedianAndRange(t *testing.T) {
	for _, c := range []struct {
		values           []float64
		median, min, max float64
		spread           float64
	}{
		{[]float64{3}, 3, 3, 3, 0},
		{[]float64{4, 2}, 3, 2, 4, 2.0 / 3},
		{[]float64{9, 1, 5}, 5, 1, 9, 8.0 / 5},
		{[]float64{8, 2, 4, 6}, 5, 2, 8, 6.0 / 5},
		{[]float64{-1, -3, -2}, -2, -3, -1, 1},
		{[]float64{0, 0}, 0, 0, 0, 0},
	} {
		before := slices.Clone(c.values)
		f := newFigure(c.values)
		require.Equal(t, before, f.Values, "the order of the repetitions stays")
		require.Equal(t, []float64{c.median, c.min, c.max}, []float64{f.Median, f.Min, f.Max}, "%v", c.values)
		require.InDelta(t, c.spread, f.Spread(), 1e-15)
	}
	require.Equal(t, Figure{}, newFigure(nil))
	require.False(t, Figure{}.Measured())
}

func TestRatiosPairRepetitions(t *testing.T) {
	// Each repetition is slower than the last; the ratio is the same in all.
	f := newFigure([]float64{10, 20, 40}).over(newFigure([]float64{5, 10, 20}))
	require.Equal(t, newFigure([]float64{2, 2, 2}), f)
	require.Equal(t, Figure{}, newFigure([]float64{1, 2}).over(newFigure([]float64{1})))
	require.Equal(t, Figure{}, newFigure([]float64{1, 2}).over(newFigure([]float64{1, 0})))
	require.Equal(t, Figure{}, Figure{}.over(Figure{}))
}

func TestVerdictNeedsRangesApart(t *testing.T) {
	old := newFigure([]float64{10, 11, 11, 11, 12})
	for _, c := range []struct {
		now          []float64
		higher, less Verdict // where higher is better, and where less is
	}{
		{[]float64{10, 11, 12}, Noise, Noise},
		{[]float64{12, 20, 30}, Noise, Noise},
		{[]float64{1, 2, 10}, Noise, Noise},
		{[]float64{1, 30}, Noise, Noise},
		{[]float64{12.1, 13, 13, 14, 15}, Better, Worse},
		{[]float64{8, 9, 9, 9, 9.9}, Worse, Better},
		{[]float64{13, 13, 13, 13}, Better, Worse}, // by chance once in 63 times
		{[]float64{13, 13, 13}, TooFew, TooFew},    // once in 28 times
		{[]float64{1}, TooFew, TooFew},
	} {
		now := newFigure(c.now)
		require.Equal(t, c.higher, judge(old, now, true), "%v", c.now)
		require.Equal(t, c.less, judge(old, now, false), "%v", c.now)
	}
}

// TestVerdictIsSeldomWrong draws both runs from one distribution: ranges lie apart
// as often as apart says.
func TestVerdictIsSeldomWrong(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	draw := func() Figure {
		values := make([]float64, 5)
		for i := range values {
			values[i] = r.NormFloat64()
		}
		return newFigure(values)
	}
	const n = 20_000
	wrong := 0
	for range n {
		if judge(draw(), draw(), true) != Noise {
			wrong++
		}
	}
	require.InDelta(t, 1/126.0, apart(5, 5), 1e-12)
	require.InDelta(t, n/126.0, float64(wrong), 40)
}
