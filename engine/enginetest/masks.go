package enginetest

import (
	"math/bits"
	"slices"
	"testing"
	"time"
)

// maskGoal is what 99 of 100 masks may take.
const maskGoal = time.Millisecond

// ReportMasks reports what masks took: the median, the 99th percentile, the longest, and how
// many there were. It says so where the goal is missed.
func ReportMasks(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	at := func(share float64) time.Duration { return took[min(len(took)-1, int(share*float64(len(took))))] }
	micro := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
	b.ReportMetric(micro(at(0.5)), "p50-µs")
	b.ReportMetric(micro(at(0.99)), "p99-µs")
	b.ReportMetric(micro(at(1)), "max-µs")
	b.ReportMetric(float64(len(took)), "masks")
	if at(0.99) > maskGoal {
		b.Logf("p99 of %v, above the goal of %v", at(0.99), maskGoal)
	}
}

// MaskTokens returns the tokens that a mask allows: token i is bit i%32 of word i/32.
func MaskTokens(mask []uint32) (ids []int32) {
	for i, word := range mask {
		for ; word != 0; word &= word - 1 {
			ids = append(ids, int32(32*i+bits.TrailingZeros32(word)))
		}
	}
	return ids
}
