package engine

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest"
	"harmonyd/engine/job"
)

// everyParameter has every part of the sampler at work.
var everyParameter = job.Sampling{
	Temperature: 1.1, TopP: 0.97, TopK: 40, MinP: 0.001, MinTokensToKeep: 2,
	XTCProbability: 0.5, XTCThreshold: 0.1, XTCSpared: []int32{3, 4},
	LogitBias:         []job.LogitBias{{ID: 5, Value: 1}, {ID: 90, Value: -1}},
	RepetitionPenalty: 1.2, RepetitionContext: 9,
	PresencePenalty: 0.2, FrequencyPenalty: 0.1, FrequencyContext: job.WholeContext,
	Seed: 3, HasSeed: true,
}

// expected decodes greedily with penalties that are applied here, to scores that
// each come from a pass over the whole text.
func (m *loadedModel) expected(t *testing.T, prompt []int32, s job.Sampling, n int) []int32 {
	t.Helper()
	text := slices.Clone(prompt)
	for range n {
		row := m.scores(t, text, 1)[0]
		last := func(context int) []int32 {
			switch {
			case context == 0:
				context = 20
			case context == job.WholeContext:
				context = len(text)
			}
			return text[max(0, len(text)-context):]
		}
		for _, b := range s.LogitBias {
			row[b.ID] += b.Value
		}
		seen := map[int32]bool{}
		for _, id := range last(s.RepetitionContext) {
			if p := s.RepetitionPenalty; p != 0 && !seen[id] {
				seen[id] = true
				if row[id] < 0 {
					row[id] *= p
				} else {
					row[id] /= p
				}
			}
		}
		clear(seen)
		for _, id := range last(s.PresenceContext) {
			if !seen[id] {
				seen[id] = true
				row[id] -= s.PresencePenalty
			}
		}
		for _, id := range last(s.FrequencyContext) {
			row[id] -= s.FrequencyPenalty
		}
		text = append(text, argmax(row))
	}
	return text[len(prompt):]
}

// TestPenaltiesCountPromptAndOutput holds what the engine decodes, one step ahead
// of what it has read, against the plain account of expected: with a fresh cache,
// after prefill chunks, and where the cache is another generation's, set back or
// forked. Planted breaks that were seen to fail: a history that does not learn what
// the cache holds, and one that is fed a token late.
func TestPenaltiesCountPromptAndOutput(t *testing.T) {
	const n = 24
	root := t.TempDir()
	c := enginetest.Checkpoint{Seed: 6}
	require.NoError(t, c.Write(root))
	m := loadFolder(t, newTestEngine(t, Options{}), root, math.MaxInt64)
	e := tinyEngine(t, c, Options{})
	prompt := pseudoPrompt(90, 96)
	for i, s := range []job.Sampling{
		{RepetitionPenalty: 1.7},
		{RepetitionPenalty: 1.7, RepetitionContext: job.WholeContext},
		{PresencePenalty: 4, PresenceContext: 30},
		{FrequencyPenalty: 0.8, FrequencyContext: job.WholeContext, LogitBias: []job.LogitBias{{ID: 7, Value: 3}}},
		{RepetitionPenalty: 0.9, PresencePenalty: 1, FrequencyPenalty: 0.5, RepetitionContext: 11, FrequencyContext: 40},
	} {
		want := m.expected(t, prompt, s, n)
		require.NotEqual(t, m.expected(t, prompt, job.Sampling{}, n), want, "the penalties of %d matter", i)
		req := request(prompt, n)
		req.Sampling = s
		for _, warm := range []struct {
			name   string
			prompt []int32
			output int
			cached int
		}{
			{"cold", nil, 0, 0},
			{"the same", prompt, n, 89},
			{"set back", append(slices.Clone(prompt[:70]), 1, 2, 3), 5, 70},
			{"forked", append(slices.Clone(prompt[:20]), pseudoPrompt(60, 96)...), 5, 20},
		} {
			name := fmt.Sprintf("%+v, %s", s, warm.name)
			require.NoError(t, e.Unload(t.Context(), "tiny"))
			require.NoError(t, e.Load(t.Context(), "tiny", nil))
			require.NoError(t, e.thread.do(control, func() error {
				entry, _ := e.known("tiny")
				entry.pace.size = 16 // chunks
				return nil
			}))
			if warm.prompt != nil {
				generate(t, e, request(warm.prompt, warm.output))
			}
			o := generate(t, e, req)
			require.NoError(t, o.err, name)
			require.Equal(t, warm.cached, o.result.Usage.CachedTokens, name)
			require.Equal(t, want, o.ids, name)
		}
	}
}

// TestSeededRunsRepeat with every parameter at work, whatever is cached.
func TestSeededRunsRepeat(t *testing.T) {
	e := tinyEngine(t, enginetest.Checkpoint{Seed: 7}, Options{})
	req := request(pseudoPrompt(30, 96), 60)
	req.Sampling = everyParameter
	want := generate(t, e, req).ids
	for range 3 {
		require.Equal(t, want, generate(t, e, req).ids)
	}
	require.NoError(t, e.Unload(t.Context(), "tiny"))
	require.Equal(t, want, generate(t, e, req).ids)
	req.Sampling.Seed++
	require.NotEqual(t, want, generate(t, e, req).ids)
	// A longer prompt that ends in the same tokens: the draws are others, since the
	// positions are.
	req.Sampling.Seed--
	req.Prompt = append([]int32{1}, req.Prompt...)
	require.NotEqual(t, want, generate(t, e, req).ids)
}

// TestLogprobsAreThoseOfTheScores holds every number against the log-softmax of
// scores that each come from a pass over the whole text. Logprobs of the token
// before, or after the temperature, were seen to fail.
func TestLogprobsAreThoseOfTheScores(t *testing.T) {
	const n, top = 20, 6
	root := t.TempDir()
	c := enginetest.Checkpoint{Seed: 8}
	require.NoError(t, c.Write(root))
	m := loadFolder(t, newTestEngine(t, Options{}), root, math.MaxInt64)
	e := tinyEngine(t, c, Options{})
	prompt := pseudoPrompt(12, 96)
	for _, s := range []job.Sampling{{}, {Temperature: 2, TopK: 9, Seed: 4, HasSeed: true}} {
		req := request(prompt, n)
		req.Sampling, req.Logprobs = s, top
		g, err := e.Start(req)
		require.NoError(t, err)
		// To the end first: two engines must not compute at the same time, for the
		// arrays are counted on one thread.
		var ids []int32
		var all []job.Logprobs
		buf := make([]job.Event, 5)
		for {
			k, err := g.Next(t.Context(), buf)
			if err != nil {
				break
			}
			for _, ev := range buf[:k] {
				if ev.Kind == job.Token {
					ids = append(ids, ev.ID)
				}
			}
			all = append(all, g.Logprobs()...)
		}
		_, err = g.Wait()
		require.NoError(t, err)
		require.Len(t, ids, n)
		require.Len(t, all, n)
		text := slices.Clone(prompt)
		for i, l := range all {
			row, sum := m.scores(t, text, 1)[0], 0.0
			for _, v := range row {
				sum += math.Exp(float64(v))
			}
			require.Equal(t, ids[i], l.Chosen.ID)
			require.Equal(t, top, l.N)
			for _, tok := range append([]job.Logprob{l.Chosen}, l.Top[:l.N]...) {
				require.InDelta(t, float64(row[tok.ID])-math.Log(sum), tok.Value, 1e-3)
			}
			require.Equal(t, argmax(row), l.Top[0].ID)
			text = append(text, ids[i])
		}
	}
}
