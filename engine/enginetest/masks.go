package enginetest

import (
	"math/bits"
	"slices"
	"testing"
	"time"
)

// maskGoal is what 99 of 100 masks may take.
const maskGoal = time.Millisecond

// TextsOfAGrammar is how many texts of a grammar are measured: a conversation has the same
// grammar in each turn, and the engine keeps it.
const TextsOfAGrammar = 4

// MaskTimes are what masks took.
type MaskTimes []time.Duration

// Report reports the median, the 99th percentile, the longest, and how many there were. It
// says so where the goal is missed.
func (t MaskTimes) Report(b *testing.B) {
	slices.Sort(t)
	at := func(share float64) time.Duration { return t[min(len(t)-1, int(share*float64(len(t))))] }
	micro := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
	b.ReportMetric(micro(at(0.5)), "p50-µs")
	b.ReportMetric(micro(at(0.99)), "p99-µs")
	b.ReportMetric(micro(at(1)), "max-µs")
	b.ReportMetric(float64(len(t)), "masks")
	if at(0.99) > maskGoal {
		b.Logf("p99 of %v, above the goal of %v", at(0.99), maskGoal)
	}
}

// MaskTokens returns the tokens that a mask allows: token i is bit i%32 of mask[i/32].
func MaskTokens(mask []uint32) []int32 { return AppendMaskTokens(nil, mask) }

// AppendMaskTokens appends them to ids. What is measured does not share the machine with a
// collector of their garbage, half a megabyte a mask, where ids is used again.
func AppendMaskTokens(ids []int32, mask []uint32) []int32 {
	for i, word := range mask {
		for ; word != 0; word &= word - 1 {
			ids = append(ids, int32(32*i+bits.TrailingZeros32(word)))
		}
	}
	return ids
}
