package sample

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/mlx"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if n := mlx.Live(); n != 0 {
		fmt.Fprintln(os.Stderr, "arrays left behind:", n)
		code = 1
	}
	os.Exit(code)
}

// draw samples from scores that stand for several draws at once: rows of them,
// at each of the positions.
func draw(t *testing.T, p Params, scores []float32, dtype mlx.Dtype, rows int, positions ...int) [][]int32 {
	t.Helper()
	var all [][]int32
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		result <- func() error {
			m, err := New(p)
			if err != nil {
				return err
			}
			defer m.Close()
			s := mlx.NewScope(mlx.Stream{})
			defer s.Close()
			for _, at := range positions {
				x := s.BroadcastTo(s.FromFloat32s(scores, 1, len(scores)), rows, len(scores))
				all = append(all, s.Int32s(m.Sample(s, s.AsType(x, dtype), at), nil))
				if err := s.Err(); err != nil {
					return err
				}
				s.Reset()
			}
			return nil
		}()
	}()
	require.NoError(t, <-result)
	return all
}

// probabilities is the reference in float64: mlx-lm's filters in mlx-lm's order
// on log-probabilities, then the temperature. Ties with the last token that is
// kept are kept as well.
func probabilities(p Params, scores []float32) []float64 {
	x := make([]float64, len(scores))
	for i, v := range scores {
		x[i] = float64(v)
	}
	normalise := func() {
		sum := 0.0
		for _, v := range x {
			sum += math.Exp(v)
		}
		for i := range x {
			x[i] -= math.Log(sum)
		}
	}
	drop := func(keep func(float64) bool) {
		for i := range x {
			if !keep(x[i]) {
				x[i] = math.Inf(-1)
			}
		}
	}
	sorted := func() []float64 {
		s := slices.Sorted(slices.Values(x))
		slices.Reverse(s)
		return s
	}
	normalise()
	if p.TopP > 0 && p.TopP < 1 {
		above, least := 0.0, math.Inf(-1)
		for _, v := range sorted() {
			if above >= float64(p.TopP) {
				break
			}
			above, least = above+math.Exp(v), v
		}
		drop(func(v float64) bool { return v >= least })
	}
	if p.MinP > 0 {
		least := sorted()[0] + math.Log(float64(p.MinP))
		drop(func(v float64) bool { return v >= least })
	}
	if p.TopK > 0 && p.TopK < len(x) {
		least := sorted()[p.TopK-1]
		drop(func(v float64) bool { return v >= least })
	}
	for i := range x {
		x[i] /= float64(p.Temperature)
	}
	normalise()
	for i := range x {
		x[i] = math.Exp(x[i])
	}
	return x
}

// scores has 12 tokens without ties, in no order.
var scores = []float32{0.3, 2.1, -1.2, 1.7, 0.9, -3, 2.6, 1.1, -0.4, 0.1, 1.4, -2.2}

// TestDistribution holds the frequencies of many draws against the reference. The
// draws are the same in every run.
func TestDistribution(t *testing.T) {
	const n = 20_000
	for _, p := range []Params{
		{Temperature: 1},
		{Temperature: 0.5},
		{Temperature: 2},
		{Temperature: 1, TopP: 1},
		{Temperature: 1, TopP: 0.9},
		{Temperature: 1, TopP: 0.3},
		{Temperature: 1, TopP: 0.01},
		{Temperature: 0.7, TopK: 1},
		{Temperature: 0.7, TopK: 4},
		{Temperature: 0.7, TopK: 12},
		{Temperature: 0.7, TopK: 500},
		{Temperature: 1.5, MinP: 0.2},
		{Temperature: 1.5, MinP: 1},
		// Where the order of the filters matters: the temperature comes last.
		{Temperature: 5, TopP: 0.6},
		{Temperature: 0.1, MinP: 0.3},
		{Temperature: 1.3, TopP: 0.95, MinP: 0.1, TopK: 5},
		{Temperature: 1.3, TopP: 0.5, MinP: 0.05, TopK: 8, Seed: 99},
	} {
		for _, dtype := range []mlx.Dtype{mlx.Float32, mlx.Float16} {
			want := probabilities(p, scores)
			got := make([]int, len(scores))
			for _, id := range draw(t, p, scores, dtype, n, 17)[0] {
				got[id]++
			}
			chi2, free := 0.0, -1
			for i, w := range want {
				if w == 0 {
					require.Zero(t, got[i], "%+v: token %d is filtered out", p, i)
					continue
				}
				free++
				d := float64(got[i]) - n*w
				chi2 += d * d / max(n*w, 1)
			}
			// Far beyond what chance gives with 11 degrees of freedom.
			require.Less(t, chi2, 40.0+2*float64(free), "%+v: got %v, want %v", p, got, want)
		}
	}
}

func TestGreedyTakesTheFirstOfTheBest(t *testing.T) {
	for _, dtype := range []mlx.Dtype{mlx.Float32, mlx.Float16, mlx.BFloat16} {
		require.Equal(t, [][]int32{{6, 6}}, draw(t, Params{TopP: 0.1, Seed: 3}, scores, dtype, 2, 5))
		require.Equal(t, [][]int32{{1}}, draw(t, Params{}, []float32{1, 2, 0, 2}, dtype, 1, 5))
	}
}

// TestDrawsDependOnSeedAndPositionOnly crosses blocks of keys in both directions.
func TestDrawsDependOnSeedAndPositionOnly(t *testing.T) {
	p := Params{Temperature: 1, Seed: 5}
	at := []int{0, 1, 255, 256, 257, 1000, 3}
	forth := draw(t, p, scores, mlx.Float32, 8, at...)
	back := slices.Clone(at)
	slices.Reverse(back)
	again := draw(t, p, scores, mlx.Float32, 8, back...)
	slices.Reverse(again)
	require.Equal(t, forth, again)
	for i := range forth {
		for j := range i {
			require.NotEqual(t, forth[i], forth[j], "positions %d and %d", at[i], at[j])
		}
	}
	p.Seed++
	require.NotEqual(t, forth, draw(t, p, scores, mlx.Float32, 8, at...))
}

// TestManyPositionsAreIndependent draws once at each of many positions: keys of
// neighbours must not give neighbouring draws.
func TestManyPositionsAreIndependent(t *testing.T) {
	const n = 4000
	p := Params{Temperature: 1}
	at := make([]int, n)
	for i := range at {
		at[i] = i
	}
	want, got := probabilities(p, scores), make([]float64, len(scores))
	for _, ids := range draw(t, p, scores, mlx.Float32, 1, at...) {
		got[ids[0]]++
	}
	for i, w := range want {
		require.InDelta(t, n*w, got[i], 5*math.Sqrt(n*w), "token %d", i)
	}
}
