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
)

// judge compares a figure with an older one. With five repetitions each, two
// ranges of the same quantity lie apart by chance once in 126 times.
func judge(old, now Figure, higherIsBetter bool) Verdict {
	switch {
	case now.Min <= old.Max && old.Min <= now.Max:
		return Noise
	case (now.Median > old.Median) == higherIsBetter:
		return Better
	}
	return Worse
}
