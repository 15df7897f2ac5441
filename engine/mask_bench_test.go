package engine

import (
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest"
	"harmonyd/engine/job"
	"harmonyd/engine/mlx"
	"harmonyd/engine/native"
)

// llama3 is a folder with a tokenizer of 128,256 tokens.
func llama3(t testing.TB) string {
	t.Helper()
	folder := filepath.Join("..", ".deps", "llama3")
	if _, err := os.Stat(folder); err != nil {
		t.Skip("make bench-masks fetches the tokenizer")
	}
	return folder
}

const llama3Vocab, llama3EOS = 128_256, 128_009

// maskGrammars are those whose masks are measured: arguments of tools, calls behind
// words, and values that stand as they are. Marks that are text, as around the values of
// Qwen-Coder, and strings of few characters are the hard ones.
func maskGrammars(t testing.TB) map[string][]job.Constraint {
	lark := func(lines ...string) []job.Constraint {
		return []job.Constraint{{Kind: job.Lark, Source: strings.Join(lines, "\n") + "\n"}}
	}
	all := map[string][]job.Constraint{
		"words, then a token and a call": lark("start: WORDS | WORDS? <[128010]> args", "WORDS: /(?s:.+)/", `args: %json {"type":"object"}`),
		"words, then a mark and a call": lark(`start: WORDS | lead args`, `HAS: /(?s:.*)/ "<tool_call>" /(?s:.*)/`, "WORDS: /(?s:.+)/ & ~HAS",
			`lead[suffix="<tool_call>"]: /(?s:.*)/ & ~HAS`, `args: %json {"type":"object"}`),
		"a value up to a token": lark(`start: "<arg_value>" VALUE? <[128010]>`, "VALUE: /(?s:.{1,})/"),
		"a value up to a mark": lark(`start: "<parameter=text>\n" value "</function>"`, `HAS: /(?s:.*)/ "</parameter>" /(?s:.*)/`,
			`value[suffix="\n</parameter>\n"]: /(?s:.*)/ & ~HAS & /[^\r]*/`),
		"any object":   {{Kind: job.JSONSchema, Source: `{"type":"object"}`}},
		"open strings": {{Kind: job.JSONSchema, Source: `{"type":"object","properties":{"path":{"type":"string"},"text":{"type":"string"},"lines":{"type":"array","items":{"type":"integer"}},"mode":{"enum":["a","w"]}},"required":["path","text"],"additionalProperties":false}`}},
	}
	for _, most := range []int{20, 40, 120, 1000} {
		all["long strings"] = append(all["long strings"], job.Constraint{Kind: job.JSONSchema, Source: strings.ReplaceAll(
			`{"type":"object","properties":{"name":{"type":"string","maxLength":N},"all":{"type":"array","items":{"type":"string","minLength":1,"maxLength":N}}},"required":["name","all"],"additionalProperties":false}`, "N", strconv.Itoa(most))})
	}
	for _, s := range schemas(t, 60) {
		all["schemas"] = append(all["schemas"], job.Constraint{Kind: job.JSONSchema, Source: s})
	}
	return all
}

// BenchmarkMasks makes masks for a vocabulary of 128,256 tokens, behind each token of
// random texts that the grammar allows. The first texts of all grammars, for which their
// lexers are new, are one row more.
func BenchmarkMasks(b *testing.B) {
	folder := llama3(b)
	file, err := os.ReadFile(filepath.Join(folder, "tokenizer.json"))
	require.NoError(b, err)
	tok, err := native.LoadTokenizer(file, nil)
	require.NoError(b, err)
	defer tok.Close()
	words, err := native.NewGrammarTokenizer(tok, llama3Vocab, []int32{llama3EOS})
	require.NoError(b, err)
	defer words.Close()
	all := maskGrammars(b)
	var first enginetest.MaskTimes
	for _, name := range slices.Sorted(maps.Keys(all)) {
		constraints := all[name]
		b.Run(strings.ReplaceAll(name, " ", "_"), func(b *testing.B) {
			var took enginetest.MaskTimes
			r := rand.New(rand.NewPCG(0, 3))
			for b.Loop() {
				for _, c := range constraints {
					g, err := words.Compile(string(c.Kind), c.Source)
					require.NoError(b, err)
					begin := func() (enginetest.Matcher, error) { return g.NewMatcher() }
					texts := enginetest.MeasureMasks(b, begin, 200, llama3EOS, func(may []int32) int32 { return may[r.IntN(len(may))] })
					first = append(first, texts[0]...)
					took = append(took, slices.Concat(texts...)...)
					g.Close()
				}
			}
			took.Report(b)
		})
	}
	b.Run("first_texts", func(b *testing.B) { first.Report(b) })
}

// BenchmarkConstrainedSteps writes to schemas in that vocabulary, with a model whose step
// takes some milliseconds, and reports how many masks were there before the scores
// that they are for.
func BenchmarkConstrainedSteps(b *testing.B) {
	folder := llama3(b)
	root := b.TempDir()
	c := enginetest.Checkpoint{Vocab: llama3Vocab, Hidden: 256, Heads: 4, KVHeads: 2, Intermediate: 512, Layers: 4, EOS: []int32{llama3EOS}, Tied: true}
	require.NoError(b, c.Write(filepath.Join(root, "wide")))
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json"} {
		text, err := os.ReadFile(filepath.Join(folder, name))
		require.NoError(b, err)
		require.NoError(b, os.WriteFile(filepath.Join(root, "wide", name), text, 0o644))
	}
	e, err := New(Options{Root: root})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, e.Close()) })
	var stats job.ConstraintStats
	var decode time.Duration
	for b.Loop() {
		for i, s := range schemas(b, 20) {
			req := job.Request{Model: "wide", Prompt: pseudoPrompt(8, 1000), MaxTokens: 150, Constraint: job.Constraint{Kind: job.JSONSchema, Source: s},
				Sampling: job.Sampling{Temperature: 1, Seed: uint64(i), HasSeed: true}}
			res := once(b, e, req)
			stats.Masks += res.Stats.Constraint.Masks
			stats.LateMasks += res.Stats.Constraint.LateMasks
			stats.MaskTime += res.Stats.Constraint.MaskTime
			stats.LongestMask = max(stats.LongestMask, res.Stats.Constraint.LongestMask)
			decode += res.Stats.Decode
		}
	}
	b.ReportMetric(100-100*float64(stats.LateMasks)/float64(stats.Masks), "%ready")
	b.ReportMetric(float64(stats.MaskTime.Microseconds())/float64(stats.Masks), "mask-µs")
	b.ReportMetric(float64(decode.Microseconds())/float64(stats.Masks), "step-µs")
	b.ReportMetric(float64(stats.LongestMask.Microseconds()), "max-µs")
}

// TestOneUploadAStep: a step under a grammar copies its mask to the device and nothing
// else.
func TestOneUploadAStep(t *testing.T) {
	root, id := defaultModel(t)
	e := newTestEngine(t, Options{Root: root})
	written := func(tokens int) (uint64, job.ConstraintStats) {
		req := request([]int32{1, 2, 3}, tokens)
		req.Model, req.Constraint = id, job.Constraint{Kind: job.Regex, Source: `(?s:.){200,}`}
		before := mlx.Counts().BytesWritten
		o := generate(t, e, req)
		require.NoError(t, o.err)
		return mlx.Counts().BytesWritten - before, o.result.Stats.Constraint
	}
	written(4)
	few, _ := written(8)
	many, stats := written(24)
	require.Zero(t, stats.Forced)
	require.Equal(t, 24, stats.Masks)
	words := uint64((49_152 + 31) / 32)
	require.EqualValues(t, 16*4*words, many-few)
}
