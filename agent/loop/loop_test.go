package loop

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest/leaks"
)

func TestMain(m *testing.M) { os.Exit(leaks.Run(m)) }

// foundAt is the number of tokens after which a detector finds a loop, 0 where it does not.
func foundAt(m Mode, tokens []int32) int {
	d := New(m)
	for i, t := range tokens {
		if d.Add(t) {
			return i + 1
		}
	}
	return 0
}

// pieces splits a text as tokenizers do, roughly: words with the space before them, numbers
// by the digit, marks and runs of white space.
var pieces = regexp.MustCompile(` ?\pL+|\d|\s+| ?[^\s\pL\d]`)

func tokens(text string) []int32 {
	var all []int32
	for _, p := range pieces.FindAllString(text, -1) {
		h := fnv.New32a()
		_, _ = h.Write([]byte(p))
		all = append(all, int32(h.Sum32()&(1<<18-1)))
	}
	return all
}

func bytesOf(text string) []int32 {
	var all []int32
	for _, b := range []byte(text) {
		all = append(all, int32(b))
	}
	return all
}

// distinct are n tokens that differ, from number first on.
func distinct(first, n int) []int32 {
	all := make([]int32, n)
	for i := range all {
		all[i] = int32(first + i)
	}
	return all
}

func repeat(part []int32, length int) []int32 {
	var all []int32
	for len(all) < length {
		all = append(all, part...)
	}
	return all[:length]
}

// TestEveryPeriodIsFound repeats texts of every length up to 128, and of some up to 1024, after
// an honest beginning: a loop is found as soon as the rules say.
func TestEveryPeriodIsFound(t *testing.T) {
	start := distinct(10_000, 333)
	for period := 1; period <= fullPeriod; period++ {
		if period > 128 && period%64 > 1 {
			continue
		}
		part := distinct(0, period)
		text := append(append([]int32{}, start...), repeat(part, 6*period+2*poor)...)
		at := foundAt(Full, text) - len(start)
		switch want := max(rich, copies*period) + period; {
		case period == 1:
			require.Equal(t, single+1, at)
		case period < fewTokens:
			require.Equal(t, poor+period, at, "period %d", period)
		default:
			// The text is rich only when a period has gone by.
			require.GreaterOrEqual(t, at, want, "period %d", period)
			require.Less(t, at, want+period, "period %d", period)
		}
		require.Equal(t, period <= cheapPeriod, foundAt(Cheap, text) > 0, "period %d", period)
		require.Zero(t, foundAt(Off, text))
	}
	require.Zero(t, foundAt(Full, repeat(distinct(0, fullPeriod+1), 20*fullPeriod)), "longer than it looks for")
}

// TestLoopsThatModelsWrite are real ways to get stuck.
func TestLoopsThatModelsWrite(t *testing.T) {
	begin := "The capital of France is Paris, which lies on the Seine. "
	for _, text := range []string{
		strings.Repeat("!", 200),
		strings.Repeat("- \n", 900),
		strings.Repeat("I'm sorry, but I can't help with that. ", 60),
		strings.Repeat("Wait, let me check this again. The sum is 42, so the answer must be 42. But the question asks for the product. ", 40),
		strings.Repeat("## Conclusion\n\nIn this article we have seen how to use the function, and what it is good for in practice.\n\n", 40),
		strings.Repeat("def add(a, b):\n    return a + b\n\n", 60),
		strings.Repeat("0, ", 900),
	} {
		require.NotZero(t, foundAt(Full, tokens(begin+text)), "%.40q", text)
		require.NotZero(t, foundAt(Full, bytesOf(begin+strings.Repeat(text, 3))), "bytes of %.40q", text)
	}
	d := New(Full)
	found := 0
	for i, token := range tokens(begin + strings.Repeat("I'm sorry, but I can't help with that. ", 60)) {
		if d.Add(token) {
			found = i
			break
		}
	}
	require.Less(t, found, 360, "a sentence of 14 tokens, by its 25th copy")
	require.Equal(t, 14, d.Period())
	require.Zero(t, (*Detector)(nil).Period())
	require.False(t, New("sometimes").Add(1))
}

// TestHonestTextsAreNoLoops goes through this repository and through texts that repeat
// themselves for good reasons, by words and by bytes.
func TestHonestTextsAreNoLoops(t *testing.T) {
	rows := func(n int, row func(i int) string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(row(i))
		}
		return b.String()
	}
	texts := map[string]string{
		"rule of a wide table":      "|" + strings.Repeat("---|", 100),
		"rule of a table, aligned":  "|" + strings.Repeat(" :---: |", 60),
		"empty rows":                rows(20, func(int) string { return "|  |  |  |  |\n" }),
		"rows that differ a little": rows(200, func(i int) string { return fmt.Sprintf("| item %d | yes | no | yes | – | no | yes |\n", i) }),
		"numbered list":             rows(100, func(i int) string { return fmt.Sprintf("%d. Write a test for the function.\n", i+1) }),
		"check list":                rows(40, func(int) string { return "- [ ] TODO\n" }),
		"zero hash":                 "0x" + strings.Repeat("0", 64),
		"zero matrix":               rows(16, func(int) string { return "{" + strings.Repeat("0, ", 15) + "0},\n" }),
		"identity":                  rows(24, func(i int) string { return strings.Repeat("0, ", i) + "1, " + strings.Repeat("0, ", 23-i) + "\n" }),
		"squares":                   rows(300, func(i int) string { return fmt.Sprintf("%d² = %d\n", i, i*i) }),
		"the same object":           "[" + strings.Repeat(`{"id": 0, "name": "", "value": null}, `, 12) + "]",
		"a chorus":                  strings.Repeat("We all live in a yellow submarine, yellow submarine, yellow submarine.\n", 12),
		"separators":                rows(10, func(i int) string { return strings.Repeat("=", 78) + fmt.Sprintf("\nPart %d\n", i) }),
		"indented":                  rows(12, func(i int) string { return strings.Repeat("    ", i) + "if a {\n" }),
		"braces":                    rows(30, func(i int) string { return strings.Repeat("    ", 30-i) + "}\n" }),
		"hex dump": rows(10, func(i int) string {
			return fmt.Sprintf("%08x  %s |................|\n", 16*i, strings.Repeat("00 ", 16))
		}),
		"html":   rows(15, func(int) string { return "<tr><td></td><td></td><td></td></tr>\n" }),
		"switch": rows(100, func(i int) string { return fmt.Sprintf("\tcase %d:\n\t\treturn \"%d\", nil\n", i, i) }),
	}
	for _, file := range []string{"loop.go", "loop_test.go", "../agent.go", "../../architecture_test.go", "../../README.md", "../../go.sum", "../../LICENSE", "../../Makefile"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		texts[file] = string(text)
	}
	n := 0
	for name, text := range texts {
		for split, all := range map[string][]int32{"words": tokens(text), "bytes": bytesOf(text)} {
			// By the byte, a row of a table has several times the tokens that it has for any
			// tokenizer: only files are looked at that way.
			if split == "bytes" && !strings.Contains(name, ".") && !strings.Contains(name, "/") {
				continue
			}
			n += len(all)
			at := foundAt(Full, all)
			require.Zero(t, at, "%s, by %s, at token %d", name, split, at)
			require.Zero(t, foundAt(Cheap, all), "%s, by %s", name, split)
		}
	}
	r := rand.New(rand.NewPCG(5, 6))
	for range 20 { // few different tokens in no order, such as a bitmap
		all := make([]int32, 20_000)
		for i := range all {
			all[i] = r.Int32N(2)
		}
		require.Zero(t, foundAt(Full, all))
		n += len(all)
	}
	t.Logf("%d texts, %d tokens", len(texts), n)
}

// TestAgainstEveryPeriodTried compares with a search that tries every period at every token.
func TestAgainstEveryPeriodTried(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	found := 0
	for range 60 {
		var all []int32
		for len(all) < 5000 {
			if r.IntN(3) > 0 {
				part := make([]int32, 1+r.IntN(40))
				for i := range part {
					part[i] = r.Int32N(30)
				}
				all = append(all, repeat(part, r.IntN(1100))...)
			} else {
				all = append(all, distinct(r.IntN(1000), r.IntN(50))...)
			}
		}
		first, runs := 0, make([]int, fullPeriod+1)
		for i := range all {
			for p := 1; p <= min(i, 64); p++ {
				if runs[p]++; all[i] != all[i-p] {
					runs[p] = 0
				}
				// The same rule, as it is written in the comments.
				if p == 1 && runs[p] >= single || runs[p] >= poor && runs[p] >= copies*p && p > 1 {
					first = i + 1
				}
			}
			if first > 0 {
				break
			}
		}
		at := foundAt(Full, all)
		if first > 0 {
			found++
			require.NotZero(t, at)
			require.LessOrEqual(t, at, first+gram, "no later than by trying")
		}
	}
	require.Greater(t, found, 10)
}

// TestNothingIsAllocated counts.
func TestNothingIsAllocated(t *testing.T) {
	d := New(Full)
	text := append(tokens(strings.Repeat("a, b. ", 50)), distinct(0, 3000)...)
	require.Zero(t, testing.AllocsPerRun(10, func() {
		for _, token := range text {
			d.Add(token)
		}
	}))
}

func BenchmarkAdd(b *testing.B) {
	text := distinct(0, 1<<16)
	for name, all := range map[string][]int32{"text": text, "loop": repeat(distinct(0, 700), 1<<16)} {
		b.Run(name, func(b *testing.B) {
			d := New(Full)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				d.Add(all[i%len(all)])
			}
		})
	}
}
