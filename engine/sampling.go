package engine

import (
	"errors"
	"slices"

	"harmonyd/engine/job"
	"harmonyd/engine/mlx"
	"harmonyd/engine/sample"
)

func (q *mlxSequence) SetSampling(s job.Sampling, logprobs int, tokens []int32) error {
	p := samplerParams(s, q.b.limits.StopIDs)
	p.Logprobs = logprobs
	m, err := sample.New(p)
	if err != nil {
		return err
	}
	if q.sampler != nil {
		q.sampler.Close()
	}
	q.sampler = m
	if len(tokens) > 0 {
		defer q.s.Reset()
		m.Feed(q.s, q.s.FromInt32s(tokens, 1, len(tokens)), 0)
	}
	return q.s.Err()
}

// samplerParams translates what a request asks for.
func samplerParams(s job.Sampling, stopIDs []int32) sample.Params {
	penalty := func(value float32, context int) sample.Penalty {
		switch context {
		case 0:
			context = job.DefaultPenaltyContext
		case job.WholeContext:
			context = 0
		}
		return sample.Penalty{Value: value, Window: context}
	}
	p := sample.Params{
		Temperature: s.Temperature, TopP: s.TopP, TopK: s.TopK, MinP: s.MinP, MinKeep: s.MinTokensToKeep,
		XTCProbability: s.XTCProbability, XTCThreshold: s.XTCThreshold,
		Repetition: penalty(s.RepetitionPenalty, s.RepetitionContext),
		Presence:   penalty(s.PresencePenalty, s.PresenceContext),
		Frequency:  penalty(s.FrequencyPenalty, s.FrequencyContext),
		Seed:       s.Seed,
	}
	if s.XTCProbability > 0 {
		p.XTCSpared = slices.Concat(s.XTCSpared, stopIDs)
	}
	for _, b := range s.LogitBias {
		p.Bias = append(p.Bias, sample.Bias(b))
	}
	return p
}

// readReport waits for a token with its report and returns the token.
func (q *mlxSequence) readReport(a mlx.Array) int32 {
	q.report = q.s.Uint32s(a, q.report)
	if q.report == nil {
		return 0
	}
	if r := sample.Unpack(q.report); r.Value != r.Value {
		q.s.Fail(errors.New("the model's scores are not numbers"))
	}
	return int32(q.report[0])
}

// Logprobs unpacks what came with the token.
func (q *mlxSequence) Logprobs(dst *job.Logprobs) {
	r := sample.Unpack(q.report)
	*dst = job.Logprobs{Chosen: job.Logprob(r.Token), N: r.N}
	for i, t := range r.Top[:r.N] {
		dst.Top[i] = job.Logprob(t)
	}
}
