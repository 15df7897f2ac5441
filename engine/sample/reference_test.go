package sample

import (
	"math"
	"slices"
)

// reference is the sampler in float64, from mlx-lm's description and not its
// arithmetic: log-probabilities before the filters, and the probabilities that
// are drawn from. Of equal tokens of which only some may stay it keeps those with
// the lowest ids. Excluding says that XTC acts.
func reference(p Params, scores []float32, tokens []int32, excluding bool) (logprobs, probabilities []float64) {
	x := make([]float64, len(scores))
	for i, v := range scores {
		x[i] = float64(v)
	}
	penalise(p, x, tokens)
	logprobs = normalised(x)
	x = slices.Clone(logprobs)
	if p.Temperature == 0 {
		best := slices.Index(x, slices.Max(x))
		for i := range x {
			x[i] = math.Inf(-1)
		}
		x[best] = 0
		return logprobs, exponentials(x)
	}
	if p.TopP > 0 && p.TopP < 1 {
		above, least := 0.0, math.Inf(-1)
		for _, id := range ranking(x) {
			if above >= float64(p.TopP) {
				break
			}
			above, least = above+math.Exp(x[id]), x[id]
		}
		drop(x, func(id int) bool { return x[id] < least })
	}
	if p.MinP > 0 {
		order := ranking(x)
		least, saved := x[order[0]]+math.Log(float64(p.MinP)), order[:min(max(p.MinKeep, 1), len(x))]
		drop(x, func(id int) bool { return x[id] < least && !slices.Contains(saved, id) })
	}
	if excluding {
		q, least := exponentials(normalised(x)), math.Inf(1)
		for _, v := range q {
			if v > float64(p.XTCThreshold) {
				least = min(least, v)
			}
		}
		drop(x, func(id int) bool { return q[id] > least && !slices.Contains(p.XTCSpared, int32(id)) })
	}
	if p.TopK > 0 && p.TopK < len(x) {
		saved := make([]bool, len(x))
		for _, id := range ranking(x)[:p.TopK] {
			saved[id] = true
		}
		drop(x, func(id int) bool { return !saved[id] })
	}
	for i := range x {
		x[i] /= float64(p.Temperature)
	}
	return logprobs, exponentials(normalised(x))
}

// penalise applies the logits processors.
func penalise(p Params, x []float64, tokens []int32) {
	for _, b := range p.Bias {
		x[b.ID] += float64(b.Value)
	}
	last := func(q Penalty) []int32 {
		if q.Window > 0 && q.Window < len(tokens) {
			return tokens[len(tokens)-q.Window:]
		}
		return tokens
	}
	distinct := func(q Penalty) []int32 {
		ids := slices.Clone(last(q))
		slices.Sort(ids)
		return slices.Compact(ids)
	}
	if v := float64(p.Repetition.Value); v != 0 {
		for _, id := range distinct(p.Repetition) {
			if x[id] < 0 {
				x[id] *= v
			} else {
				x[id] /= v
			}
		}
	}
	for _, id := range distinct(p.Presence) {
		x[id] -= float64(p.Presence.Value)
	}
	for _, id := range last(p.Frequency) {
		x[id] -= float64(p.Frequency.Value)
	}
}

// ranking lists the ids by falling score, equal ones by id.
func ranking(x []float64) []int {
	ids := make([]int, len(x))
	for i := range ids {
		ids[i] = i
	}
	slices.SortStableFunc(ids, func(a, b int) int {
		switch {
		case x[a] > x[b]:
			return -1
		case x[a] < x[b]:
			return 1
		}
		return 0
	})
	return ids
}

func drop(x []float64, gone func(id int) bool) {
	all := make([]bool, len(x))
	for i := range x {
		all[i] = gone(i)
	}
	for i, g := range all {
		if g {
			x[i] = math.Inf(-1)
		}
	}
}

func normalised(x []float64) []float64 {
	best, sum := slices.Max(x), 0.0
	for _, v := range x {
		sum += math.Exp(v - best)
	}
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = v - best - math.Log(sum)
	}
	return y
}

func exponentials(x []float64) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = math.Exp(v)
	}
	return y
}
