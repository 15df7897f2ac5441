package kv

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/mlx"
)

// numbered are [1, 1, n, 2] with consecutive numbers from first.
func numbered(s *mlx.Scope, first, n int) mlx.Array {
	data := make([]float32, 0, 2*n)
	for i := range n {
		data = append(data, float32(first+i), -float32(first+i))
	}
	return s.FromFloat32s(data, 1, 1, n, 2)
}

// A pair is a Window and a Full cache with the same tokens, and what each token
// was numbered.
type pair struct {
	window, full Cache
	numbers      []int
}

// append adds n tokens to both and compares what comes back: the sliding layers
// must give the end of what the full ones do.
func (p *pair) append(s *mlx.Scope, next, n, window int, sliding []bool) error {
	offset := len(p.numbers)
	for i := range n {
		p.numbers = append(p.numbers, next+i)
	}
	for layer := range sliding {
		a, b := p.window.Layer(layer), p.full.Layer(layer)
		if a.Offset() != offset || b.Offset() != offset {
			return fmt.Errorf("layer %d: offsets %d and %d, want %d", layer, a.Offset(), b.Offset(), offset)
		}
		k, v := a.Append(s, numbered(s, next, n), numbered(s, next+layer, n))
		wantK, wantV := b.Append(s, numbered(s, next, n), numbered(s, next+layer, n))
		if sliding[layer] {
			begin := offset - min(offset, window-1)
			wantK, wantV = s.SliceAxis(wantK, 2, begin, offset+n), s.SliceAxis(wantV, 2, begin, offset+n)
		}
		for _, x := range [][2]mlx.Array{{k, wantK}, {v, wantV}} {
			got, want := s.Float32s(x[0], nil), s.Float32s(x[1], nil)
			if !slices.Equal(got, want) {
				return fmt.Errorf("layer %d, %d tokens after %d: %d elements, want %d:\n%v\n%v",
					layer, n, offset, len(got), len(want), got, want)
			}
		}
		if b.Offset() != a.Offset() {
			return fmt.Errorf("layer %d: offset %d", layer, a.Offset())
		}
	}
	return s.Err()
}

// TestWindowHoldsTheEndOfWhatFullHolds drives both through random appends,
// set-backs and forks. A set-back goes exactly where Reach says.
func TestWindowHoldsTheEndOfWhatFullHolds(t *testing.T) {
	for _, window := range []int{1, 31, 200} {
		onThread(t, func(s *mlx.Scope) error {
			rng := rand.New(rand.NewPCG(uint64(window), 1))
			sliding := []bool{true, false, true}
			pairs := []*pair{{window: NewWindow(sliding, window), full: NewFull(3)}}
			defer func() {
				for _, p := range pairs {
					p.free()
				}
			}()
			next, far := 1, 0
			for step := range 120 {
				p := pairs[rng.IntN(len(pairs))]
				size := len(p.numbers)
				var err error
				switch what := rng.IntN(20); {
				case what < 10:
					for range 1 + rng.IntN(40) { // an answer
						if err = p.append(s, next, 1, window, sliding); err != nil {
							break
						}
						next++
					}
				case what < 14: // a chunk of a prompt
					n := 2 + rng.IntN(1<<rng.IntN(10))
					err = p.append(s, next, n, window, sliding)
					next += n
				case what < 18:
					back := rng.IntN(1 + min(size, 1<<rng.IntN(13)))
					if back > spare && p.window.Reach(size-back) == size-back {
						far++
					}
					err = p.setBack(size, back)
				default:
					if pairs, err = forked(pairs, p, rng.IntN(size+1)); err == nil && len(pairs) > 3 {
						pairs[0].free()
						pairs = pairs[1:]
					}
				}
				if err != nil {
					return fmt.Errorf("window %d, step %d: %w", window, step, err)
				}
				s.Reset()
			}
			if far == 0 {
				return fmt.Errorf("window %d: no checkpoint was used", window)
			}
			return nil
		})
	}
}

func (p *pair) free() {
	p.window.Free()
	p.full.Free()
}

func (p *pair) setBack(size, back int) error {
	keep := size - back
	reach := p.window.Reach(keep)
	if reach > keep || back <= spare && reach != keep {
		return fmt.Errorf("reach %d of %d, asked for %d", reach, size, keep)
	}
	if ok := p.window.SetBack(back); ok != (reach == keep) {
		return fmt.Errorf("set back by %d: %v, reach is %d", back, ok, reach)
	} else if !ok {
		if p.window.Len() != size || !p.window.SetBack(size-reach) {
			return fmt.Errorf("cannot go back to %d of %d", reach, size)
		}
	}
	if !p.full.SetBack(size-reach) || p.window.Len() != reach {
		return fmt.Errorf("%d tokens after a set-back to %d", p.window.Len(), reach)
	}
	p.numbers = p.numbers[:reach]
	return nil
}

func forked(pairs []*pair, p *pair, n int) ([]*pair, error) {
	reach := p.window.Reach(n)
	if reach < n {
		if _, ok := p.window.Fork(n); ok {
			return pairs, fmt.Errorf("a fork at %d, reach is %d", n, reach)
		}
	}
	window, ok := p.window.Fork(reach)
	full, ok2 := p.full.Fork(reach)
	if !ok || !ok2 || window.Len() != reach {
		return pairs, fmt.Errorf("no fork at %d", reach)
	}
	return append(pairs, &pair{window, full, slices.Clone(p.numbers[:reach])}), nil
}

// conversation appends prompts in chunks and answers token by token, and returns
// the lengths at the ends of the prompts.
func conversation(s *mlx.Scope, c Cache, prompts, answers []int) (ends []int) {
	for i := range prompts {
		for left := prompts[i]; left > 0; left -= min(left, 300) {
			n := min(left, 300)
			c.Layer(0).Append(s, numbered(s, c.Len(), n), numbered(s, c.Len(), n))
		}
		ends = append(ends, c.Len())
		for range answers[i] {
			c.Layer(0).Append(s, numbered(s, c.Len(), 1), numbered(s, c.Len(), 1))
			s.Reset()
		}
	}
	return ends
}

// TestWindowGoesBackToWhereQuestionsDo: to the end of the last prompt, however
// long the answer, and into what the text began with; and it takes no more memory
// for a longer text.
func TestWindowGoesBackToWhereQuestionsDo(t *testing.T) {
	const window = 100
	onThread(t, func(s *mlx.Scope) error {
		c := NewWindow([]bool{true}, window)
		ends := conversation(s, c, []int{900, 50, 1500, 700}, []int{700, 900, 20, 2000})
		defer c.Free()
		page := Capacity(2 * (window - 1 + spare))
		if got := c.Bytes(); got != int64(4*page*2*2*4) || WindowCapacity(c.Len(), window) != 5*page {
			return fmt.Errorf("%d bytes are not four pages", got)
		}
		n, last := c.Len(), ends[len(ends)-1]
		for _, want := range []int{n, n - 1, n - spare, last, last - 1, last - spare, last - 200, 1, 100, page} {
			if got := c.Reach(want); got != want {
				return fmt.Errorf("reach %d of %d, asked for %d", got, n, want)
			}
		}
		if got := c.Reach(ends[0] + 500); got != page {
			return fmt.Errorf("reach %d from the middle of an answer, want the first page, %d", got, page)
		}
		if !c.SetBack(n-last+1) || c.Reach(page) != page || c.Reach(last-1) != last-1 {
			return fmt.Errorf("a repeated question: %d tokens", c.Len())
		}
		f, ok := c.Fork(page - 3)
		if !ok {
			return fmt.Errorf("no fork in the first page")
		}
		f.Free()
		c.Free()
		if c.Len() != 0 || c.Bytes() != 0 || len(c.AppendRoots(nil, 0)) != 0 || c.Reach(0) != 0 {
			return fmt.Errorf("not empty after Free")
		}
		return s.Err()
	})
}

// everyLength goes back to each length that can be reached, in a fork, and looks
// at what one more token sees. It returns those lengths as ranges.
func (p *pair) everyLength(s *mlx.Scope, window int) (ranges [][2]int, err error) {
	for n := range len(p.numbers) + 1 {
		pairs, err := forked(nil, p, n)
		if err != nil {
			return nil, err
		}
		f := pairs[0]
		if reach := f.window.Len(); reach == n {
			if last := len(ranges) - 1; last >= 0 && ranges[last][1] == n-1 {
				ranges[last][1] = n
			} else {
				ranges = append(ranges, [2]int{n, n})
			}
		} else if reach != ranges[len(ranges)-1][1] {
			return nil, fmt.Errorf("reach %d below %d, of %v", reach, n, ranges)
		}
		err = f.append(s, -1, 1, window, []bool{true})
		f.free()
		s.Reset()
		if err != nil {
			return nil, fmt.Errorf("set back to %d: %w", n, err)
		}
	}
	return ranges, nil
}

// TestWindowRestoresEveryLengthThatItReaches has a window of 5, so pages of 256
// tokens that begin with 68 of the one before, and begin to be of use at 4.
func TestWindowRestoresEveryLengthThatItReaches(t *testing.T) {
	const window = 5
	type steps []int // appends of so many tokens, set-backs to -n
	answer := func(n int) steps { return slices.Repeat(steps{1}, n) }
	for name, c := range map[string]struct {
		steps steps
		want  [][2]int
	}{
		"an answer":                   {answer(700), [][2]int{{0, 256}, {568, 700}}},
		"prompt, then answer":         {append(steps{200}, answer(500)...), [][2]int{{0, 256}, {568, 700}}},
		"a long prompt":               {append(steps{1000}, answer(400)...), [][2]int{{0, 256}, {568, 1008}, {1320, 1400}}},
		"prompt to the edge":          {append(steps{256, 188}, answer(700)...), [][2]int{{0, 444}, {944, 1144}}},
		"back and elsewhere":          {append(append(steps{200, 200}, answer(10)...), append(steps{-230}, answer(600)...)...), [][2]int{{0, 230}, {756, 830}}},
		"back past a prompt":          {append(steps{100, 400, -50}, answer(700)...), [][2]int{{0, 256}, {568, 750}}},
		"back to the first":           {append(append(steps{200}, answer(500)...), -150, 30), [][2]int{{0, 180}}},
		"back to nothing":             {steps{700, 0, 20}, [][2]int{{0, 20}}},
		"a prompt of one more":        {append(answer(300), 1, 2), [][2]int{{0, 303}}},
		"back before the checkpoints": {append(steps{1000, -100}, answer(600)...), [][2]int{{0, 256}, {568, 700}}},
	} {
		for _, byFork := range []bool{false, true} {
			if byFork && slices.Min(c.steps) > 0 {
				continue // it goes back nowhere
			}
			t.Run(fmt.Sprintf("%s, fork %v", name, byFork), func(t *testing.T) {
				onThread(t, func(s *mlx.Scope) error {
					p := &pair{window: NewWindow([]bool{true}, window), full: NewFull(1)}
					defer func() { p.free() }()
					for i, n := range c.steps {
						var err error
						switch {
						case n > 0:
							err = p.append(s, 1000*i, n, window, []bool{true})
						case byFork:
							var pairs []*pair
							if pairs, err = forked(nil, p, -n); err == nil {
								p.free()
								p = pairs[0]
							}
						default:
							err = p.setBack(len(p.numbers), len(p.numbers)+n)
						}
						if err != nil {
							return err
						}
						s.Reset()
					}
					got, err := p.everyLength(s, window)
					if err == nil && !slices.Equal(got, c.want) {
						err = fmt.Errorf("reaches %v, want %v", got, c.want)
					}
					return err
				})
			})
		}
	}
}

// TestWindowWritesInPlace: a step must not copy its page, so the memory that is
// in use at its height is a page and a little.
func TestWindowWritesInPlace(t *testing.T) {
	onThread(t, func(s *mlx.Scope) error {
		const d = 1 << 12 // elements of a token, so that a page is 5 MB
		token := func() mlx.Array { return s.Zeros(mlx.Float32, 1, 1, 1, d) }
		c := NewWindow([]bool{true}, 100)
		defer c.Free()
		step := func() error {
			k, v := c.Layer(0).Append(s, token(), token())
			err := s.Eval(s.Sum(s.Sum(k, 2, false), 2, false), s.Sum(s.Sum(v, 2, false), 2, false))
			s.Reset()
			return err
		}
		for range 300 { // past the growth of the first page
			if err := step(); err != nil {
				return err
			}
		}
		mlx.ClearCache()
		before := mlx.ActiveMemory()
		mlx.ResetPeak()
		for range 50 {
			if err := step(); err != nil {
				return err
			}
		}
		if more := mlx.PeakMemory() - before; more > c.Bytes()/4 {
			return fmt.Errorf("a step takes %d bytes, the cache has %d", more, c.Bytes())
		}
		return nil
	})
}

// TestWindowAfterAFailedStep: an Append to a scope that has failed ends, and the
// cache can still be set back to what it held.
func TestWindowAfterAFailedStep(t *testing.T) {
	onThread(t, func(s *mlx.Scope) error {
		c := NewWindow([]bool{true, true}, 5)
		defer c.Free()
		for layer := range 2 {
			c.Layer(layer).Append(s, numbered(s, 1, 256), numbered(s, 1, 256)) // a full page
		}
		for _, n := range []int{1, 1000} {
			c.Layer(0).Append(s, numbered(s, 257, n), numbered(s, 257, n))
			broken := mlx.NewScope(mlx.Stream{})
			broken.Fail(errors.New("no"))
			k, v := c.Layer(1).Append(broken, numbered(s, 257, n), numbered(s, 257, n))
			broken.Close()
			if k.Valid() || v.Valid() || c.Len() != 256 || !c.SetBack(0) {
				return fmt.Errorf("%d tokens after a failed step", c.Len())
			}
			k, _ = c.Layer(0).Append(s, numbered(s, 7, 1), numbered(s, 7, 1))
			if got := s.Float32s(k, nil); !slices.Equal(got, []float32{253, -253, 254, -254, 255, -255, 256, -256, 7, -7}) {
				return fmt.Errorf("the first layer has %v", got)
			}
			c.Layer(1).Append(s, numbered(s, 7, 1), numbered(s, 7, 1))
			c.SetBack(1)
		}
		return s.Err()
	})
}

// TestWindowCapacityIsWhatLayersTake: at no length a layer has more.
func TestWindowCapacityIsWhatLayersTake(t *testing.T) {
	for _, step := range []int{1, 100, 700} {
		onThread(t, func(s *mlx.Scope) error {
			const window, bound = 60, 1100
			c := NewWindow([]bool{true}, window)
			defer c.Free()
			c.Bound(bound)
			for c.Len() < bound {
				n := min(step, bound-c.Len())
				c.Layer(0).Append(s, numbered(s, 0, n), numbered(s, 0, n))
				s.Reset()
				tokens := int(c.Bytes() / (2 * 2 * 4))
				if most := WindowCapacity(bound, window); tokens > most || c.Len() <= 256 && tokens != 256 {
					return fmt.Errorf("%d tokens take the room of %d, at most %d", c.Len(), tokens, most)
				}
			}
			return nil
		})
	}
	for _, c := range [][3]int{{1, 60, 256}, {256, 60, 256}, {257, 60, 512}, {389, 60, 512}, {390, 60, 768}, {100_000, 60, 1280}, {300, 512, 512}} {
		require.Equal(t, c[2], WindowCapacity(c[0], c[1]), "%v", c)
	}
}

func TestReachAsksAllLayers(t *testing.T) {
	c := layers{stub{3}, stub{1}, stub{2}}
	require.Equal(t, 6, c.Reach(11)) // 11, 9, 9, 9, 9, 8, 6, 6, 6
	require.False(t, c.SetBack(1))
	_, ok := c.Fork(5)
	require.False(t, ok)
}

// stub is a layer of 11 tokens that can go back to multiples of step.
type stub struct{ step int }

func (l stub) Append(*mlx.Scope, mlx.Array, mlx.Array) (k, v mlx.Array) { return k, v }
func (l stub) Offset() int                                              { return 11 }
func (l stub) reach(n int) int                                          { return n / l.step * l.step }
func (l stub) setBack(int)                                              { panic("out of reach") }
func (l stub) setBound(int)                                             {}
func (l stub) fork(int) layer                                           { panic("out of reach") }
func (l stub) appendRoots(dst []mlx.Array) []mlx.Array                  { return dst }
func (l stub) bytes() int64                                             { return 0 }
func (l stub) free()                                                    {}
