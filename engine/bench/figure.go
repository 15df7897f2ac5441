package bench

import (
	"math"
	"slices"
)

// Figure is one quantity over the repetitions of a run.
type Figure struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	// Values has one value a repetition, in their order, so that figures of the
	// same run can be paired.
	Values []float64 `json:"values"`
}

// newFigure summarizes values, which it keeps. Without any the result is the zero
// Figure.
func newFigure(values []float64) Figure {
	if len(values) == 0 {
		return Figure{}
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return Figure{
		Median: (sorted[(n-1)/2] + sorted[n/2]) / 2,
		Min:    sorted[0], Max: sorted[n-1], Values: values,
	}
}

// Measured says that there is anything in f.
func (f Figure) Measured() bool { return len(f.Values) > 0 }

// Spread is the distance from the least to the most as a part of the median.
func (f Figure) Spread() float64 {
	if f.Median == 0 {
		return 0
	}
	return (f.Max - f.Min) / math.Abs(f.Median)
}

// over divides f by g, repetition by repetition, so that what slowed a whole
// repetition down does not count. The result is empty where the two do not pair.
func (f Figure) over(g Figure) Figure {
	if len(f.Values) != len(g.Values) || slices.Contains(g.Values, 0) {
		return Figure{}
	}
	values := make([]float64, len(f.Values))
	for i := range values {
		values[i] = f.Values[i] / g.Values[i]
	}
	return newFigure(values)
}

// Verdict says what a change from one run to another is worth.
type Verdict string

// The verdicts.
const (
	Noise  Verdict = "noise" // the two ranges overlap
	Better Verdict = "better"
	Worse  Verdict = "worse"
	TooFew Verdict = "too few runs" // ranges of so few values lie apart by chance
)

// chance is how likely two ranges of the same quantity may lie apart before that
// means nothing.
const chance = 0.02

// judge compares a figure with an older one.
func judge(old, now Figure, higherIsBetter bool) Verdict {
	switch {
	case now.Min <= old.Max && old.Min <= now.Max:
		return Noise
	case apart(len(old.Values), len(now.Values)) > chance:
		return TooFew
	case (now.Median > old.Median) == higherIsBetter:
		return Better
	}
	return Worse
}

// apart is the probability that all of n values lie on one side of all of m values
// of the same distribution: 2 n! m! / (n+m)!, which is 1 in 126 for 5 and 5.
func apart(n, m int) float64 {
	p := 2.0
	for i := 1; i <= n; i++ {
		p *= float64(i) / float64(m+i)
	}
	return p
}
