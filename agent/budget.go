package agent

import (
	"context"
	"slices"

	"harmonyd/engine/job"
	"harmonyd/schema"
)

// A model that reasons longer than its budget is cut off there: what it wrote is continued
// with the mark that ends the reasoning, and it goes on from there with the answer. The
// engine has all but the mark in its cache.

// watch counts a token that came within reasoning, and says when that is enough: not where
// the token has ended the reasoning, or the answer.
func (t *turn) watch(id int32, thinking bool) {
	if t.budget == 0 {
		return
	}
	t.ids = append(t.ids, id)
	if thinking {
		t.reasoned++
		t.overthought = t.reasoned >= t.budget && t.parser.Reasons() && !t.over()
	}
}

// endReasoning writes the end of the reasoning in the model's place and returns the prompt
// that goes on from it.
func (t *turn) endReasoning(ctx context.Context, prompt []int32) ([]int32, error) {
	mark, err := t.model.Tokenizer.Encode(t.format.EndOfReasoning(t.callForm != nil), true)
	if err != nil {
		return nil, err
	}
	t.reasoned, t.overthought = 0, false
	for _, id := range mark {
		t.step = t.stream.AppendStep(t.step[:0], id)
		t.take(ctx, t.parser.Token(id, t.step))
	}
	prompt = slices.Concat(prompt, t.ids, mark)
	t.ids, t.before = t.ids[:0], t.tokens
	return prompt, nil
}

// never is added to the score of a token that must not come.
const never = -1000

// forbidReasoning keeps a model whose reasoning was ended from beginning another, where that
// takes a token of its own.
func (t *turn) forbidReasoning(req *job.Request) error {
	id, known, err := t.model.controlToken(t.format.Reasoning())
	if known {
		req.Sampling.LogitBias = append(slices.Clip(req.Sampling.LogitBias), job.LogitBias{ID: id, Value: never})
	}
	return err
}

// joined is the result of an answer that was generated in two parts.
func joined(a, b job.Result) job.Result {
	if a.Reason == "" {
		return b
	}
	b.Usage.CachedTokens = a.Usage.CachedTokens
	b.Usage.GeneratedTokens += a.Usage.GeneratedTokens
	b.Stats.Queue += a.Stats.Queue
	b.Stats.Load += a.Stats.Load
	b.Stats.Prefill += a.Stats.Prefill
	b.Stats.FirstToken = a.Stats.FirstToken
	b.Stats.Decode += a.Stats.Decode
	b.Stats.PeakBytes = max(a.Stats.PeakBytes, b.Stats.PeakBytes)
	return b
}

// generate has the engine write the answer to a prompt, to its end.
func (t *turn) generate(ctx context.Context, ids []int32, constraint job.Constraint) (schema.StopReason, job.Result, error) {
	var whole job.Result
	for {
		req, err := t.request(ids)
		if err != nil {
			return "", whole, err
		}
		most, why := t.bound(len(ids))
		req.MaxTokens, req.Constraint = most, constraint
		g, err := t.agent.engine.Start(req)
		if err != nil {
			return "", whole, err
		}
		if t.tokens == 0 {
			// The generation has its place in the engine's queue: what was asked later
			// may follow.
			t.status(schema.GenerateStatus{State: schema.StateQueued, PromptTokens: t.prompt, Retry: t.retry})
		}
		reason, res, err := t.follow(ctx, g)
		whole = joined(whole, res)
		if reason == schema.StopMaxTokens {
			reason = why
		}
		switch {
		case err != nil || reason != "" || !t.overthought:
			return reason, whole, err
		case ctx.Err() != nil:
			t.flush(ctx, false)
			return "", whole, nil
		case most > 0 && t.tokens-t.before >= most: // none are left for the answer
			return t.cut(ctx, why), whole, nil
		}
		if ids, err = t.endReasoning(ctx, ids); err != nil {
			return "", whole, err
		}
		if len(ids) >= t.contextLength() {
			return t.cut(ctx, schema.StopContextFull), whole, nil
		}
		if constraint.Kind != job.NoConstraint { // one that begins with the reasoning
			if constraint, err = t.constraint(ctx, ids); err != nil {
				return "", whole, err
			}
		}
	}
}
