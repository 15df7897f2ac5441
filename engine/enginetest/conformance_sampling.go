package enginetest

import (
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/job"
)

// checkSeed runs a request that uses every parameter twice, cached and not.
func checkSeed(t *testing.T, s Subject) {
	req := s.request(30)
	req.Sampling = job.Sampling{
		Temperature: 1.2, TopP: 0.98, TopK: 90, MinP: 0.001, MinTokensToKeep: 3,
		XTCProbability: 0.5, XTCThreshold: 0.1, XTCSpared: []int32{s.Prompt[0]},
		LogitBias:         []job.LogitBias{{ID: s.Prompt[0], Value: 1.5}, {ID: s.Prompt[0], Value: -0.5}},
		RepetitionPenalty: 1.1, PresencePenalty: 0.1, FrequencyPenalty: -0.1,
		RepetitionContext: 7, FrequencyContext: job.WholeContext,
		Seed: 11, HasSeed: true,
	}
	var want []int32
	for round := range 3 {
		got := tokens(drain(t, s.start(t, req)))
		require.Len(t, got, 30)
		if round == 0 {
			want = got
		}
		require.Equal(t, want, got, "round %d", round)
		if round == 1 {
			require.NoError(t, s.Unload(t.Context(), s.Model))
		}
	}
}

// checkLogprobs wants them for each token, and the same tokens as without.
func checkLogprobs(t *testing.T, s Subject) {
	want := s.run(t, 40)
	for _, n := range []int{1, 5, job.MaxLogprobs} {
		req := s.request(40)
		req.Logprobs = n
		g := s.start(t, req)
		var ids []int32
		buf := make([]job.Event, 7)
		for {
			k, err := g.Next(t.Context(), buf)
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
			got := tokens(buf[:k])
			all := g.Logprobs()
			require.Len(t, all, len(got), "one for each token")
			for i, l := range all {
				require.Equal(t, got[i], l.Chosen.ID)
				require.LessOrEqual(t, l.Chosen.Value, float32(0))
				require.Equal(t, n, l.N)
				require.Equal(t, l.Chosen, l.Top[0], "greedy decoding takes the best")
				for k := 1; k < l.N; k++ {
					require.LessOrEqual(t, l.Top[k].Value, l.Top[k-1].Value)
				}
			}
			ids = append(ids, got...)
		}
		require.Equal(t, want, ids)
	}
	g := s.start(t, s.request(3))
	drain(t, g)
	require.Empty(t, g.Logprobs())
}
