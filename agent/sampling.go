package agent

import (
	"fmt"
	"unicode/utf8"

	"harmonyd/engine/job"
	"harmonyd/schema"
)

// defaultXTCThreshold is mlx-lm's.
const defaultXTCThreshold = 0.1

// jobSampling is s as an engine knows it, with the token ids of its texts.
func jobSampling(s *schema.Sampling, t Tokenizer) (job.Sampling, error) {
	single := func(p *float64) float32 { return float32(value(p, 0)) }
	context := func(p *int) int {
		n := value(p, job.DefaultPenaltyContext)
		if n == 0 {
			return job.WholeContext
		}
		return n
	}
	r := job.Sampling{
		Temperature:       single(s.Temperature),
		TopP:              single(s.TopP),
		TopK:              value(s.TopK, 0),
		MinP:              single(s.MinP),
		MinTokensToKeep:   value(s.MinTokensToKeep, 0),
		XTCProbability:    single(s.XTCProbability),
		RepetitionPenalty: single(s.RepetitionPenalty),
		PresencePenalty:   single(s.PresencePenalty),
		FrequencyPenalty:  single(s.FrequencyPenalty),
		RepetitionContext: context(s.RepetitionContextSize),
		PresenceContext:   context(s.PresenceContextSize),
		FrequencyContext:  context(s.FrequencyContextSize),
		Seed:              uint64(value(s.Seed, 0)),
		HasSeed:           s.Seed != nil,
	}
	if r.XTCProbability > 0 {
		r.XTCThreshold = float32(value(s.XTCThreshold, defaultXTCThreshold))
		var err error
		if r.XTCSpared, err = t.Encode("\n", false); err != nil {
			return r, fmt.Errorf("the line end that XTC spares: %w", err)
		}
	}
	var err error
	r.LogitBias, err = logitBias(s.LogitBias, t)
	return r, err
}

// logitBias looks the texts up.
func logitBias(list []schema.LogitBias, t Tokenizer) ([]job.LogitBias, error) {
	var all []job.LogitBias
	for i, b := range list {
		if b.Token != nil {
			all = append(all, job.LogitBias{ID: int32(*b.Token), Value: float32(b.Bias)})
			continue
		}
		ids, err := t.Encode(b.Text, true)
		if err != nil {
			return nil, schema.InvalidParam(fmt.Sprintf("/sampling/logitBias/%d/text", i), "%v", err)
		}
		for _, id := range ids {
			all = append(all, job.LogitBias{ID: id, Value: float32(b.Bias)})
		}
	}
	return all, nil
}

// tokenLogprobs gives an engine's logprobs the texts of their tokens.
func tokenLogprobs(l *job.Logprobs, t Tokenizer) schema.TokenLogprobs {
	chosen := tokenLogprob(l.Chosen, t)
	r := schema.TokenLogprobs{
		Token: chosen.Token, Text: chosen.Text, Bytes: chosen.Bytes, Logprob: chosen.Logprob,
		Top: make([]schema.TokenLogprob, l.N),
	}
	for i := range r.Top {
		r.Top[i] = tokenLogprob(l.Top[i], t)
	}
	return r
}

func tokenLogprob(l job.Logprob, t Tokenizer) schema.TokenLogprob {
	bytes := t.TokenBytes(l.ID)
	r := schema.TokenLogprob{Token: int(l.ID), Text: string(bytes), Logprob: float64(l.Value)}
	if !utf8.Valid(bytes) {
		r.Bytes = bytes
	}
	return r
}
