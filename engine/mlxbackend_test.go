package engine

import (
	"math"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest"
	"harmonyd/engine/job"
	"harmonyd/engine/mlx"
	"harmonyd/engine/weights"
)

// tinyEngine returns an engine with one tiny MLX model, "tiny".
func tinyEngine(t *testing.T, c enginetest.Checkpoint, o Options) *Engine {
	t.Helper()
	o.Root = t.TempDir()
	require.NoError(t, c.Write(filepath.Join(o.Root, "tiny")))
	return newTestEngine(t, o)
}

// TestTenThousandTokens counts what a token costs over a long generation.
func TestTenThousandTokens(t *testing.T) {
	const n = 10_000
	e := tinyEngine(t, enginetest.Checkpoint{
		Layers: 1, Hidden: 32, Heads: 1, KVHeads: 1, Intermediate: 32, Context: 1 << 14,
	}, Options{})
	require.NoError(t, e.Load(t.Context(), "tiny", nil))
	g, err := e.Start(request(pseudoPrompt(5, 96), n))
	require.NoError(t, err)
	live := func() (n int) {
		require.NoError(t, e.thread.do(control, func() error {
			n = mlx.Live()
			return nil
		}))
		return n
	}
	readTokens(t, g, 10) // every slot has been used once
	handles, before := live(), mlx.Counts()
	for range 9 {
		readTokens(t, g, n/10)
		require.Equal(t, handles, live(), "live arrays at a step boundary")
	}
	tokensBefore := g.count // the engine thread is ahead; only a lower bound is needed
	o := consume(t, g)
	require.NoError(t, o.err)
	require.GreaterOrEqual(t, n, tokensBefore)
	require.Equal(t, n, o.result.Usage.GeneratedTokens)
	after := mlx.Counts()
	reads := after.Reads - before.Reads
	require.LessOrEqual(t, reads, uint64(n), "one blocking read a token")
	require.Equal(t, 4*reads, after.BytesRead-before.BytesRead, "of four bytes")
}

// TestOneReadOfFourBytesAToken counts over a whole generation. Logprobs make the read
// longer and add none. A sampler that reads XTC's coin from the device was seen to
// fail.
func TestOneReadOfFourBytesAToken(t *testing.T) {
	e := tinyEngine(t, enginetest.Checkpoint{}, Options{})
	require.NoError(t, e.Load(t.Context(), "tiny", nil))
	for name, s := range map[string]job.Sampling{
		"greedy": {}, "sampled": {Temperature: 0.8, TopP: 0.9, TopK: 20, MinP: 0.01}, "all": everyParameter,
	} {
		for _, logprobs := range []int{0, 1, 20} {
			before := mlx.Counts()
			req := request(pseudoPrompt(5, 96), 500)
			req.Sampling, req.Logprobs = s, logprobs
			require.NoError(t, generate(t, e, req).err)
			after := mlx.Counts()
			bytes := uint64(4)
			if logprobs > 0 {
				bytes = 4 * uint64(2+2*logprobs)
			}
			require.Equal(t, uint64(500), after.Reads-before.Reads, name)
			require.Equal(t, 500*bytes, after.BytesRead-before.BytesRead, name)
		}
	}
}

// TestCacheIsWrittenInPlace holds peak memory over many steps against the size
// of a single buffer of the cache: one copy of one buffer would be seen.
func TestCacheIsWrittenInPlace(t *testing.T) {
	root := t.TempDir()
	c := enginetest.Checkpoint{Layers: 3, Heads: 8, KVHeads: 8, HeadDim: 64, Vocab: 96}
	require.NoError(t, c.Write(root))
	m := loadFolder(t, newTestEngine(t, Options{}), root, math.MaxInt64)
	const prompt = 1800
	m.do(t, func(t must) error {
		mlx.ClearCache()
		empty := mlx.ActiveMemory()
		q, err := m.NewSequence()
		require.NoError(t, err)
		defer q.Close()
		require.NoError(t, q.SetSampling(job.Sampling{}, 0, nil))
		require.NoError(t, q.Extend(pseudoPrompt(prompt, 96)))
		id := func() {
			require.NoError(t, q.Dispatch())
			_, err := q.Read()
			require.NoError(t, err)
		}
		id()
		buffer := q.Bytes() / 6 // keys and values of three layers
		require.GreaterOrEqual(t, buffer, int64(prompt*8*64*4))
		mlx.ClearCache()
		mlx.ResetPeak()
		for range 100 {
			id()
		}
		require.Less(t, mlx.PeakMemory()-empty, 7*buffer, "a buffer was copied")
		require.Equal(t, 6*buffer, q.Bytes())
		return nil
	})
}

// TestSetBackGivesTheSameScores runs ahead by 0 to 8 tokens, sets back and
// requires the next scores to the last bit.
func TestSetBackGivesTheSameScores(t *testing.T) {
	eachCache(t, testSetBack)
}

// eachCache runs a test on a model whose layers see everything and on one whose
// layers mostly see 32 tokens.
func eachCache(t *testing.T, test func(t *testing.T, c enginetest.Checkpoint)) {
	for name, c := range map[string]enginetest.Checkpoint{
		"full": {Seed: 3}, "sliding": {Seed: 4, ModelType: "gemma3_text", Layers: 4},
	} {
		t.Run(name, func(t *testing.T) { test(t, c) })
	}
}

func testSetBack(t *testing.T, c enginetest.Checkpoint) {
	root := t.TempDir()
	require.NoError(t, c.Write(root))
	m := loadFolder(t, newTestEngine(t, Options{}), root, math.MaxInt64)
	// 250 tokens lie before the end of a block, so that running ahead grows the
	// cache.
	for _, prompt := range [][]int32{pseudoPrompt(12, 96), pseudoPrompt(250, 96)} {
		var want []float32
		for ahead := range 9 {
			m.do(t, func(t must) error {
				q, err := m.NewSequence()
				require.NoError(t, err)
				defer q.Close()
				require.NoError(t, q.SetSampling(job.Sampling{}, 0, nil))
				require.NoError(t, q.Extend(prompt))
				for range 3 + ahead {
					require.NoError(t, q.Dispatch())
				}
				require.Equal(t, len(prompt)+3+ahead, q.Len())
				require.False(t, q.SetBack(q.Len()+1))
				require.True(t, q.SetBack(ahead))
				require.Equal(t, len(prompt)+3, q.Len())
				s := mlx.NewScope(mlx.Stream{})
				defer s.Close()
				h := m.model.Forward(s, s.FromInt32s([]int32{1, 2, 3}, 1, 3), q.(*mlxSequence).cache)
				got := s.Float32s(m.model.Logits(s, h), nil)
				require.NoError(t, s.Err())
				if want == nil {
					want = got
				}
				require.Equal(t, want, got, "%d ahead", ahead)
				return nil
			})
		}
	}
}

// TestVerifyChoosesAsSingleStepsDo feeds 1 to 8 tokens at once, as speculation
// and forced tokens do, keeps some of them, and requires the choices of a
// sequence that took every token by itself.
func TestVerifyChoosesAsSingleStepsDo(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, enginetest.Checkpoint{Seed: 5}.Write(root))
	m := loadFolder(t, newTestEngine(t, Options{}), root, math.MaxInt64)
	prompt := pseudoPrompt(12, 96)
	for name, sampling := range map[string]job.Sampling{
		"greedy": {}, "sampled": {Temperature: 0.9, TopP: 0.95, TopK: 20, Seed: 7, HasSeed: true},
		"penalties": {RepetitionPenalty: 1.6, RepetitionContext: 5, FrequencyPenalty: 0.7, FrequencyContext: job.WholeContext},
		"all":       everyParameter,
	} {
		t.Run(name, func(tt *testing.T) {
			m.do(tt, func(t must) error {
				drafts := pseudoPrompt(8, 96)
				start := func() Sequence {
					q, err := m.NewSequence()
					require.NoError(t, err)
					require.NoError(t, q.SetSampling(sampling, 0, nil))
					require.NoError(t, q.Prefill(prompt))
					return q
				}
				single := start()
				defer single.Close()
				want := make([]int32, len(drafts))
				for i := range drafts {
					require.NoError(t, single.Extend(drafts[i:i+1]))
					var err error
					want[i], err = single.Read()
					require.NoError(t, err)
				}
				for k := 1; k <= len(drafts); k++ {
					q := start()
					got := make([]int32, k)
					require.NoError(t, q.Verify(drafts[:k], got))
					require.Equal(t, want[:k], got, "%d at once", k)
					for keep := k; keep >= 0; keep-- {
						require.True(t, q.SetBack(q.Len()-len(prompt)-keep))
						if keep < len(drafts) {
							one := make([]int32, 1)
							require.NoError(t, q.Verify(drafts[keep:keep+1], one))
							require.Equal(t, want[keep], one[0], "%d of %d kept", keep, k)
						}
					}
					q.Close()
				}
				return nil
			})
		})
	}
}

// TestForkLeavesTheOriginalAlone lets both go on after a fork.
func TestForkLeavesTheOriginalAlone(t *testing.T) {
	eachCache(t, testFork)
}

func testFork(t *testing.T, c enginetest.Checkpoint) {
	root := t.TempDir()
	require.NoError(t, c.Write(root))
	m := loadFolder(t, newTestEngine(t, Options{}), root, math.MaxInt64)
	m.do(t, func(t must) error {
		next := func(q Sequence, tokens ...int32) int32 {
			require.NoError(t, q.SetSampling(job.Sampling{}, 0, nil))
			require.NoError(t, q.Extend(tokens))
			id, err := q.Read()
			require.NoError(t, err)
			return id
		}
		fresh := func(tokens []int32) int32 {
			q, err := m.NewSequence()
			require.NoError(t, err)
			defer q.Close()
			return next(q, tokens...)
		}
		base := pseudoPrompt(30, 96)
		q, err := m.NewSequence()
		require.NoError(t, err)
		defer q.Close()
		next(q, base...)
		f := q.Fork(20)
		defer f.Close()
		require.Nil(t, q.Fork(31))
		require.Equal(t, 20, f.Len())
		require.Equal(t, fresh(append(base[:20:20], 5, 6)), next(f, 5, 6))
		require.Equal(t, fresh(append(base[:30:30], 7, 8)), next(q, 7, 8))
		require.Equal(t, fresh(append(base[:20:20], 5, 6, 9)), next(f, 9))
		return nil
	})
}

// TestChunksDoNotChangeTheText feeds a prompt in chunks of many sizes.
func TestChunksDoNotChangeTheText(t *testing.T) {
	eachCache(t, testChunks)
}

func testChunks(t *testing.T, c enginetest.Checkpoint) {
	e := tinyEngine(t, c, Options{})
	require.NoError(t, e.Load(t.Context(), "tiny", nil))
	prompt := pseudoPrompt(700, 96)
	var want []int32
	for _, size := range []int{16, 64, 300, 2048} {
		require.NoError(t, e.Unload(t.Context(), "tiny"))
		require.NoError(t, e.Load(t.Context(), "tiny", nil))
		require.NoError(t, e.thread.do(control, func() error {
			m, _ := e.known("tiny")
			m.pace.size = size
			return nil
		}))
		o := generate(t, e, request(prompt, 20))
		require.NoError(t, o.err)
		if want == nil {
			want = o.ids
		}
		require.Equal(t, want, o.ids, "chunks of %d", size)
	}
}

// TestTurnsOfAModelThatSlides goes back from a long answer to several places. The
// cache goes back as far as its pages let it, and the text is what it would be
// without a cache.
func TestTurnsOfAModelThatSlides(t *testing.T) {
	c := enginetest.Checkpoint{Seed: 6, ModelType: "gemma3_text", Layers: 4}
	e := tinyEngine(t, c, Options{})
	prompt := pseudoPrompt(700, 96)
	for _, turn := range []struct{ same, cached int }{
		{959, 959}, // the last token was never fed
		{699, 699}, // the same question
		{650, 650},
		{800, 739}, // within the answer: the end of the page in which the prompt ends
		{200, 200}, // in the first page
	} {
		first := generate(t, e, request(prompt, 260))
		require.Len(t, first.ids, 260)
		next := append(append(prompt[:700:700], first.ids...)[:turn.same:turn.same], 7, 8, 9)
		got := generate(t, e, request(next, 10))
		require.NoError(t, got.err)
		require.Equal(t, turn.cached, got.result.Usage.CachedTokens, "%d tokens the same", turn.same)
		require.NoError(t, e.Unload(t.Context(), "tiny")) // and with it what it kept
		require.Equal(t, generate(t, e, request(next, 10)).ids, got.ids, "%d tokens the same", turn.same)
		require.NoError(t, e.Unload(t.Context(), "tiny"))
	}
}

// TestTypesStayThoseOfTheScales asserts the types of the residual, the cache and
// the scores where weights stay as they are, as on a GPU: MLX promotes a mixture
// without a word.
func TestTypesStayThoseOfTheScales(t *testing.T) {
	for name, c := range tinyCheckpoints {
		for stored, want := range map[weights.Dtype]mlx.Dtype{
			weights.F16: mlx.Float16, weights.BF16: mlx.BFloat16, weights.F32: mlx.Float32,
		} {
			t.Run(name+" "+string(stored), func(t *testing.T) {
				c.Dtype = stored
				requireTypes(t, c, want)
			})
		}
	}
}

func requireTypes(t *testing.T, c enginetest.Checkpoint, want mlx.Dtype) {
	t.Helper()
	// Converters leave norms in float32.
	c.Edit = func(all []weights.Tensor) []weights.Tensor {
		for i := range all {
			if len(all[i].Shape) == 1 {
				all[i].Dtype = weights.F32
			}
		}
		return all
	}
	root := t.TempDir()
	require.NoError(t, c.Write(root))
	m := loadOn(t, newTestEngine(t, Options{}), root, device{gpu: true, available: math.MaxInt64})
	require.Equal(t, want, m.plan.dtype)
	m.do(t, func(t must) error {
		cache := m.model.NewCache()
		defer cache.Free()
		s := mlx.NewScope(mlx.Stream{})
		defer s.Close()
		h := m.model.Forward(s, s.FromInt32s([]int32{1, 2, 3}, 1, 3), cache)
		require.Equal(t, want, h.Dtype(), "hidden states")
		require.Equal(t, want, m.model.Logits(s, h).Dtype(), "scores")
		for i := range cache.Layers() {
			for _, a := range cache.AppendRoots(nil, i) {
				require.Equal(t, want, a.Dtype(), "cache")
			}
		}
		return s.Err()
	})
}
