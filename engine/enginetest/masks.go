package enginetest

import (
	"math/bits"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// maskGoal is what 99 of 100 masks may take.
const maskGoal = time.Millisecond

// textsOfAGrammar is how many texts of a grammar are measured: a conversation has the same
// grammar in each turn, and the engine keeps it.
const textsOfAGrammar = 4

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

// Matcher is a walk through a grammar; package native has it.
type Matcher interface {
	IsStopped() bool
	ForcedTokens() ([]int32, error)
	MaskWords() int
	Mask(dst []uint32) error
	Consume(token int32) error
	Close()
}

// MeasureMasks writes some texts of a grammar, of at most so many tokens or runs of forced
// ones, and returns what the masks of each took. Choose takes one of the tokens that a mask
// allows.
func MeasureMasks(b *testing.B, begin func() (Matcher, error), steps int, end int32, choose func(may []int32) int32) []MaskTimes {
	texts := make([]MaskTimes, textsOfAGrammar)
	var may []int32
	for i := range texts {
		m, err := begin()
		require.NoError(b, err)
		mask := make([]uint32, m.MaskWords())
		last := int32(-1)
		for step := 0; step < steps && last != end && !m.IsStopped(); step++ {
			next, err := m.ForcedTokens()
			require.NoError(b, err)
			if len(next) == 0 {
				start := time.Now()
				require.NoError(b, m.Mask(mask))
				texts[i] = append(texts[i], time.Since(start))
				may = appendMaskTokens(may[:0], mask)
				next = []int32{choose(may)}
			}
			for _, last = range next {
				if last == end {
					break
				}
				require.NoError(b, m.Consume(last))
			}
		}
		m.Close()
	}
	return texts
}

// MaskTokens returns the tokens that a mask allows: token i is bit i%32 of mask[i/32].
func MaskTokens(mask []uint32) []int32 { return appendMaskTokens(nil, mask) }

// appendMaskTokens appends them to ids. What is measured does not share the machine with a
// collector of their garbage, half a megabyte a mask, where ids is used again.
func appendMaskTokens(ids []int32, mask []uint32) []int32 {
	for i, word := range mask {
		for ; word != 0; word &= word - 1 {
			ids = append(ids, int32(32*i+bits.TrailingZeros32(word)))
		}
	}
	return ids
}
