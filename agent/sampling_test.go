package agent

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/job"
	"harmonyd/schema"
)

// asked is the request that an engine with the scripted tokenizer gets.
func asked(t *testing.T, p schema.GenerateParams) job.Request {
	t.Helper()
	m, err := newScripted(t, `{"models": [{"id": "m", "vocabulary": ["yes", "no"]}]}`).Open(t.Context(), "m")
	require.NoError(t, err)
	r, err := jobRequest(&p, m, []int32{1})
	require.NoError(t, err)
	return r
}

func TestSamplingReachesTheEngine(t *testing.T) {
	p := raw("x")
	p.Priority = schema.PriorityBackground
	p.MaxTokens, p.Logprobs = 7, 3
	p.Sampling = schema.Sampling{
		Temperature: ptr(0.5), TopP: ptr(0.25), TopK: ptr(40), MinP: ptr(0.125), MinTokensToKeep: ptr(2), Seed: ptr[int64](0),
		XTCProbability: ptr(0.5), XTCThreshold: ptr(0.25),
		LogitBias: []schema.LogitBias{
			{Token: ptr(9), Bias: -2}, {Text: "yes<|im_end|>!", Bias: 1.5},
		},
		RepetitionPenalty: ptr(1.25), RepetitionContextSize: ptr(64),
		PresencePenalty: ptr(0.5), PresenceContextSize: ptr(0), FrequencyPenalty: ptr(-0.5),
	}
	require.Equal(t, job.Request{
		ID: "g", Model: "m", Prompt: []int32{1}, MaxTokens: 7, Priority: job.Background, Logprobs: 3,
		Sampling: job.Sampling{
			Temperature: 0.5, TopP: 0.25, TopK: 40, MinP: 0.125, MinTokensToKeep: 2, HasSeed: true,
			XTCProbability: 0.5, XTCThreshold: 0.25, XTCSpared: []int32{'\n'},
			LogitBias: []job.LogitBias{
				{ID: 9, Value: -2}, {ID: 259, Value: 1.5}, {ID: 257, Value: 1.5}, {ID: '!', Value: 1.5},
			},
			RepetitionPenalty: 1.25, RepetitionContext: 64, PresencePenalty: 0.5, PresenceContext: job.WholeContext,
			FrequencyPenalty: -0.5, FrequencyContext: 20,
		},
	}, asked(t, p))
	// What is absent is off, in mlx-lm's way.
	got := asked(t, raw("x"))
	require.Equal(t, job.Sampling{RepetitionContext: 20, PresenceContext: 20, FrequencyContext: 20}, got.Sampling)
	require.Zero(t, got.Logprobs)
	require.Equal(t, job.Interactive, got.Priority)
	p = raw("x")
	p.Sampling.XTCProbability = ptr(1.0)
	require.InDelta(t, 0.1, asked(t, p).Sampling.XTCThreshold, 1e-7)
}

func TestBadBiasesAreRefused(t *testing.T) {
	a := newAgent(t, model("", "x"))
	for want, bias := range map[string]schema.LogitBias{
		"/sampling/logitBias/0: neither token nor text is given":         {Bias: 1},
		"/sampling/logitBias/0: token and text are both given, want one": {Token: ptr(1), Text: "a"},
		"/sampling: logitBias: entry 0 is for token 5000, want 0 to 258": {Token: ptr(5000)},
		"/sampling/logitBias/0/bias: got 2000, want -1000 to 1000":       {Text: "a", Bias: 2000},
		"/sampling/logitBias/0/token: got -1, want 0 to 2147483647":      {Token: ptr(-1)},
		"/sampling/logitBias/0/text: encode: the text is not UTF-8":      {Text: "\xff"},
	} {
		p := raw("x")
		p.Sampling.LogitBias = []schema.LogitBias{bias}
		_, err := a.Generate(t.Context(), p, &recorder{}, nil)
		require.ErrorContains(t, err, want)
	}
}

// TestLogprobsAreStreamedAndComplete wants those of the result to be those of all
// generated tokens, and those of the deltas a beginning of them, wherever a stop
// string ends the answer and however characters are cut.
func TestLogprobsAreStreamedAndComplete(t *testing.T) {
	const text = "añb\x00c stop d"
	for _, stop := range []string{"", "stop", "ñ", "c s"} {
		for _, fields := range []string{`"runAhead": 0`, `"runAhead": 5`, `"vocabulary": ["c s"]`} {
			a := newAgent(t, model(fields, text))
			p := raw("x")
			p.Logprobs = 2
			if stop != "" {
				p.Stop = []string{stop}
			}
			res, r := generate(t, a, p)
			require.Len(t, res.Logprobs, res.Usage.CompletionTokens)
			require.Len(t, r.logprobs, r.tokens)
			require.Equal(t, res.Logprobs[:r.tokens], r.logprobs)
			var bytes []byte
			for _, l := range res.Logprobs {
				require.InDelta(t, -math.Ln2, l.Logprob, 1e-6)
				require.Len(t, l.Top, 2)
				require.Equal(t, schema.TokenLogprob{Token: l.Token, Text: l.Text, Bytes: l.Bytes, Logprob: l.Logprob}, l.Top[0])
				require.Equal(t, len(l.Text) > 1 || l.Text[0] < 0x80, l.Bytes == nil, "bytes only where the text is no characters")
				bytes = append(bytes, l.Text...)
			}
			require.Contains(t, text, string(bytes))
			require.Contains(t, string(bytes), res.Message.Content.Text())
		}
	}
	res, r := generate(t, newAgent(t, model("", text)), raw("x"))
	require.Nil(t, res.Logprobs)
	require.Nil(t, r.logprobs)
}
