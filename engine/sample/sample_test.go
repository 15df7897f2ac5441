package sample

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest/leaks"
	"harmonyd/engine/mlx"
)

func TestMain(m *testing.M) {
	os.Exit(leaks.Run(m, func() error {
		if n := mlx.Live(); n != 0 {
			return fmt.Errorf("%d arrays", n)
		}
		return nil
	}))
}

// onDevice runs fn on a thread of its own. What fn asserts with t it must do so
// that a failure ends that thread alone, which testify does.
func onDevice(t *testing.T, fn func(s *mlx.Scope) error) {
	t.Helper()
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := errors.New("an assertion failed, see above")
		defer func() { result <- err }()
		s := mlx.NewScope(mlx.Stream{})
		defer s.Close()
		err = fn(s)
	}()
	require.NoError(t, <-result)
}

// draw samples from scores that stand for several draws at once: rows of them,
// at each of the positions. Tokens stand before all of them.
func draw(t *testing.T, p Params, scores []float32, dtype mlx.Dtype, tokens []int32, rows int, positions ...int) [][]int32 {
	t.Helper()
	var all [][]int32
	onDevice(t, func(s *mlx.Scope) error {
		m, err := New(p)
		if err != nil {
			return err
		}
		defer m.Close()
		for _, at := range positions {
			if len(tokens) > 0 {
				m.Feed(s, s.FromInt32s(tokens, 1, len(tokens)), 0)
			}
			x := s.BroadcastTo(s.FromFloat32s(scores, 1, 1, len(scores)), rows, 1, len(scores))
			ids, _ := m.Sample(s, s.AsType(x, dtype), at)
			all = append(all, s.Int32s(ids, nil))
			if err := s.Err(); err != nil {
				return err
			}
			s.Reset()
		}
		return nil
	})
	return all
}

// scores has 12 tokens without ties, in no order.
var scores = []float32{0.3, 2.1, -1.2, 1.7, 0.9, -3, 2.6, 1.1, -0.4, 0.1, 1.4, -2.2}

// lately is what penalties see in the tests: token 6, the best, twice.
var lately = []int32{0, 6, 2, 6, 3}

// TestDrawsFollowTheFilteredDistribution holds the frequencies of many draws
// against the reference. The draws are the same in every run. A draw from the scores
// before the filters, or without the temperature, was seen to fail.
func TestDrawsFollowTheFilteredDistribution(t *testing.T) {
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
		{Temperature: 1.5, MinP: 0.9, MinKeep: 4},
		{Temperature: 1.5, MinP: 0.9, MinKeep: 40},
		{Temperature: 1, XTCProbability: 1, XTCThreshold: 0.1},
		{Temperature: 1, XTCProbability: 1, XTCThreshold: 0.1, XTCSpared: []int32{6, 7}},
		{Temperature: 1, Repetition: Penalty{Value: 1.8}},
		{Temperature: 1, Presence: Penalty{Value: 0.7, Window: 3}},
		{Temperature: 1, Frequency: Penalty{Value: 0.7}},
		{Temperature: 1, Bias: []Bias{{5, 4}, {6, -2}, {5, 0.5}}},
		// Where the order of the filters matters: the temperature comes last.
		{Temperature: 5, TopP: 0.6},
		{Temperature: 0.1, MinP: 0.3},
		{Temperature: 1.3, TopP: 0.95, MinP: 0.1, TopK: 5},
		{Temperature: 1.3, TopP: 0.5, MinP: 0.05, TopK: 8, Seed: 99},
		{Temperature: 1.3, TopP: 0.9, XTCProbability: 1, XTCThreshold: 0.1, TopK: 3, Frequency: Penalty{Value: 0.35, Window: 4}},
	} {
		for _, dtype := range []mlx.Dtype{mlx.Float32, mlx.Float16} {
			_, want := reference(p, scores, lately, p.XTCProbability > 0)
			got := make([]int, len(scores))
			for _, id := range draw(t, p, scores, dtype, lately, n, len(lately))[0] {
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
		require.Equal(t, [][]int32{{6, 6}}, draw(t, Params{TopP: 0.1, Seed: 3}, scores, dtype, nil, 2, 5))
		require.Equal(t, [][]int32{{1}}, draw(t, Params{}, []float32{1, 2, 0, 2}, dtype, nil, 1, 5))
	}
}

// TestGreedyObeysTheProcessors and not the filters.
func TestGreedyObeysTheProcessors(t *testing.T) {
	for want, p := range map[int32]Params{
		1:  {Repetition: Penalty{Value: 1.5}, TopK: 1, XTCProbability: 1},
		3:  {Presence: Penalty{Value: 10, Window: 2}, Bias: []Bias{{3, 10}, {1, -5}}},
		10: {Bias: []Bias{{10, 1.3}}, MinP: 1},
		6:  {Repetition: Penalty{Value: 0.5}, Frequency: Penalty{Value: -1}},
	} {
		require.Equal(t, [][]int32{{want}}, draw(t, p, scores, mlx.BFloat16, lately, 1, 5), "%+v", p)
	}
}

// TestLowTemperaturesAreGreedy down to the least that float32 holds, with scores
// that would overflow.
func TestLowTemperaturesAreGreedy(t *testing.T) {
	for _, temperature := range []float32{1e-4, 1e-20, math.SmallestNonzeroFloat32} {
		for _, shift := range []float32{0, 300, -300} {
			shifted := slices.Clone(scores)
			for i := range shifted {
				shifted[i] += shift
			}
			for _, ids := range draw(t, Params{Temperature: temperature}, shifted, mlx.Float32, nil, 5, 1, 2, 3) {
				require.Equal(t, []int32{6, 6, 6, 6, 6}, ids)
			}
		}
	}
}

// TestDrawsDependOnSeedAndPositionOnly crosses blocks of keys in both directions.
// One key for all positions was seen to fail.
func TestDrawsDependOnSeedAndPositionOnly(t *testing.T) {
	p := Params{Temperature: 1, Seed: 5}
	at := []int{0, 1, 255, 256, 257, 1000, 3}
	forth := draw(t, p, scores, mlx.Float32, nil, 8, at...)
	back := slices.Clone(at)
	slices.Reverse(back)
	again := draw(t, p, scores, mlx.Float32, nil, 8, back...)
	slices.Reverse(again)
	require.Equal(t, forth, again)
	for i := range forth {
		for j := range i {
			require.NotEqual(t, forth[i], forth[j], "positions %d and %d", at[i], at[j])
		}
	}
	p.Seed++
	require.NotEqual(t, forth, draw(t, p, scores, mlx.Float32, nil, 8, at...))
}

// TestManyPositionsAreIndependent draws once at each of many positions: keys of
// neighbours must not give neighbouring draws, in what they are nor in how they
// follow each other. The position itself for a random number was seen to fail.
func TestManyPositionsAreIndependent(t *testing.T) {
	const n = 4000
	at := make([]int, n)
	for i := range at {
		at[i] = len(lately) + i
	}
	for _, p := range []Params{
		{Temperature: 1},
		{Temperature: 2, TopP: 0.9, MinP: 0.1, TopK: 7, Seed: 6},
		{Temperature: 1, XTCProbability: 1, XTCThreshold: 0.1, Bias: []Bias{{5, 4}}},
	} {
		_, want := reference(p, scores, nil, p.XTCProbability > 0)
		got, pairs, before := make([]float64, len(scores)), map[[2]int32]float64{}, int32(0)
		for i, ids := range draw(t, p, scores, mlx.Float32, nil, 1, at...) {
			got[ids[0]]++
			if i > 0 {
				pairs[[2]int32{before, ids[0]}]++
			}
			before = ids[0]
		}
		for i, w := range want {
			require.InDelta(t, n*w, got[i], 5*math.Sqrt(n*w), "%+v: token %d", p, i)
			for j, v := range want {
				require.InDelta(t, n*w*v, pairs[[2]int32{int32(i), int32(j)}], 5*math.Sqrt(n*w*v)+3, "%+v: tokens %d %d", p, i, j)
			}
		}
	}
}

// TestNucleusEndsWhereItIsReached has probabilities of 1/2, 1/4 and twice 1/8, whose
// sums are exact: a token that has TopP above it is dropped, also where that is all.
// > for >= was seen to fail on both paths.
func TestNucleusEndsWhereItIsReached(t *testing.T) {
	halves := []float32{-math.Ln2, -2 * math.Ln2, 0, -2 * math.Ln2}
	for p, want := range map[float32][]int{0.5: {2}, 0.51: {0, 2}, 0.75: {0, 2}, 0.76: {0, 1, 2, 3}} {
		for name, distribution := range subjects {
			onDevice(t, func(s *mlx.Scope) error {
				_, q, err := distribution(s, Params{Temperature: 1, TopP: p}, halves, lately[:1])
				var got []int
				for i := range q {
					if q[i] > 0 {
						got = append(got, i)
					}
				}
				require.Equal(t, want, got, "%v %s", p, name)
				return err
			})
		}
	}
}

// TestXTCActsAsOftenAsAsked and at the same positions in every run. A coin made of
// the bits that the draw's key is made of was seen to fail.
func TestXTCActsAsOftenAsAsked(t *testing.T) {
	const n = 10_000
	act := func(p Params) []bool {
		m := &Sampler{p: p}
		at := make([]bool, n)
		for i := range at {
			at[i] = m.excludes(i)
		}
		return at
	}
	for _, probability := range []float32{0, 0.1, 0.5, 0.9, 1} {
		p := Params{XTCProbability: probability, Seed: 8}
		at := act(p)
		require.Equal(t, at, act(p))
		times, together := 0.0, 0.0
		for i, a := range at {
			if a {
				times++
			}
			m := &Sampler{p: p}
			if a && m.random(i)>>63 == 1 {
				together++
			}
		}
		want := n * float64(probability)
		require.InDelta(t, want, times, 5*math.Sqrt(want*(1-float64(probability))))
		require.InDelta(t, times/2, together, 5*math.Sqrt(times/4), "the coin and the draw are independent")
		if probability == 0.5 {
			p.Seed++
			require.NotEqual(t, at, act(p))
		}
	}
}

// TestXTCDrawsAsIfOffWhereItDoesNotAct goes through positions of both kinds.
func TestXTCDrawsAsIfOffWhereItDoesNotAct(t *testing.T) {
	p := Params{Temperature: 1, XTCProbability: 0.5, XTCThreshold: 0.05, TopP: 0.9, TopK: 6}
	off, always := p, p
	off.XTCProbability, always.XTCProbability = 0, 1
	m := &Sampler{p: p}
	var at []int
	for i := range 40 {
		at = append(at, i)
	}
	got := draw(t, p, scores, mlx.Float32, nil, 16, at...)
	without, with := draw(t, off, scores, mlx.Float32, nil, 16, at...), draw(t, always, scores, mlx.Float32, nil, 16, at...)
	for i := range at {
		require.NotEqual(t, without[i], with[i])
		if m.excludes(i) {
			require.Equal(t, with[i], got[i])
		} else {
			require.Equal(t, without[i], got[i])
		}
	}
}

// TestPenaltiesSeeWhatWasFed feeds the same text in pieces of every kind, with
// other tokens behind it that were taken back, and over the growth of the history.
// A history that appends where it should overwrite was seen to fail.
func TestPenaltiesSeeWhatWasFed(t *testing.T) {
	const n = 700
	text := make([]int32, n)
	for i := range text {
		text[i] = int32(i * i * 7 % 12)
	}
	for _, window := range []int{0, 1, 20, 300} {
		p := Params{
			Repetition: Penalty{1.3, window}, Presence: Penalty{0.3, window}, Frequency: Penalty{0.01, window},
		}
		onDevice(t, func(s *mlx.Scope) error {
			for _, piece := range []int{1, 7, 255, 256, 257, n} {
				m, err := New(p)
				if err != nil {
					return err
				}
				for at := 0; at < n; at += piece {
					part := text[at:min(at+piece, n)]
					m.Feed(s, s.FromInt32s(part, 1, len(part)), at)
					// As a draft that was not kept.
					m.Feed(s, s.FromInt32s([]int32{11, 11, 11}, 1, 3), at+len(part))
					if end := at + len(part); end%5 == 0 || end == n {
						x := m.process(s, s.FromFloat32s(scores, 1, 1, len(scores)), end)
						want := make([]float64, len(scores))
						for i, v := range scores {
							want[i] = float64(v)
						}
						penalise(p, want, text[:end])
						for i, v := range s.Float32s(x, nil) {
							require.InDelta(t, want[i], v, 1e-5, "%d of %d tokens, window %d", end, n, window)
						}
						s.Reset()
					}
				}
				m.Close()
			}
			return s.Err()
		})
	}
}

// TestReportsLogprobs holds them against the reference, greedy and not, with
// processors, impossible tokens and more alternatives than there are tokens.
func TestReportsLogprobs(t *testing.T) {
	some := slices.Clone(scores)
	some[4], some[9] = float32(math.Inf(-1)), some[10] // impossible, and as good as another
	for _, p := range []Params{
		{Logprobs: 1}, {Logprobs: 5}, {Logprobs: 20}, {Logprobs: 12, Temperature: 1.5},
		{Logprobs: 3, Temperature: 0.1, TopK: 2, TopP: 0.5},
		{Logprobs: 11, Temperature: 3, Repetition: Penalty{Value: 1.7}, Bias: []Bias{{8, 3}}},
	} {
		want, _ := reference(p, some, lately, false)
		onDevice(t, func(s *mlx.Scope) error {
			m, err := New(p)
			if err != nil {
				return err
			}
			defer m.Close()
			m.Feed(s, s.FromInt32s(lately, 1, len(lately)), 0)
			ids, packed := m.Sample(s, s.FromFloat32s(some, 1, 1, len(some)), len(lately))
			id := s.ItemInt32(ids)
			r := Unpack(s.Uint32s(packed, nil))
			if err := s.Err(); err != nil {
				return err
			}
			require.Equal(t, id, r.ID)
			require.InDelta(t, want[id], r.Value, 1e-5)
			order := ranking(want)
			require.Equal(t, min(p.Logprobs, 11), r.N)
			for i, top := range r.Top[:r.N] {
				require.EqualValues(t, order[i], top.ID, "%+v", r)
				require.InDelta(t, want[top.ID], top.Value, 1e-5)
			}
			return nil
		})
	}
	onDevice(t, func(s *mlx.Scope) error {
		m, err := New(Params{Temperature: 1})
		if err != nil {
			return err
		}
		defer m.Close()
		before := mlx.Counts().Ops
		_, packed := m.Sample(s, s.FromFloat32s(some, 1, 1, len(some)), 0)
		require.False(t, packed.Valid())
		require.LessOrEqual(t, mlx.Counts().Ops-before, uint64(8), "no more than it takes to draw")
		return s.Err()
	})
}

// TestRestrictLeavesOutWhatHasNoBit holds both ways to mask scores against the bits.
func TestRestrictLeavesOutWhatHasNoBit(t *testing.T) {
	onDevice(t, func(s *mlx.Scope) error {
		m, err := New(Params{})
		if err != nil {
			return err
		}
		defer m.Close()
		for _, n := range []int{1, 31, 32, 33, 1000} {
			scores, mask := make([]float32, n), make([]uint32, (n+31)/32)
			for i := range n {
				scores[i] = float32(i%7) - 3
				if i%5 < 2 {
					mask[i/32] |= 1 << (i % 32)
				}
			}
			x := s.FromFloat32s(scores, 1, 1, n)
			for _, got := range []mlx.Array{m.Restrict(s, x, mask), m.composeMask(s, x, s.FromUint32s(mask, len(mask)))} {
				require.Equal(t, []int{1, 1, n}, got.Shape(nil))
				for i, v := range s.Float32s(got, nil) {
					want := float32(math.Inf(-1))
					if i%5 < 2 {
						want = scores[i]
					}
					require.Equal(t, want, v, "token %d of %d", i, n)
				}
			}
		}
		return s.Err()
	})
}
