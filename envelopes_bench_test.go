//go:build !scripted

package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/agent/parse"
	"harmonyd/engine/enginetest"
	"harmonyd/engine/native"
)

// wideVocab is how many tokens the vocabulary has whose masks are measured.
const wideVocab, wideEOS = 128_256, 128_009

// wide is a tokenizer of that many tokens with a format's marks among them, in the place
// of some that its model does not use.
func wide(b *testing.B, marks []string) *native.Tokenizer {
	b.Helper()
	text, err := os.ReadFile(filepath.Join(".deps", "llama3", "tokenizer.json"))
	if err != nil {
		b.Skip("make bench-masks fetches the tokenizer")
	}
	var file map[string]json.RawMessage
	require.NoError(b, json.Unmarshal(text, &file))
	var added []map[string]any
	require.NoError(b, json.Unmarshal(file["added_tokens"], &added))
	for _, m := range marks {
		i := slices.IndexFunc(added, func(a map[string]any) bool { return strings.HasPrefix(a["content"].(string), "<|reserved") })
		added[i]["content"] = m
	}
	file["added_tokens"], err = json.Marshal(added)
	require.NoError(b, err)
	text, err = json.Marshal(file)
	require.NoError(b, err)
	tok, err := native.LoadTokenizer(text, nil)
	require.NoError(b, err)
	return tok
}

// BenchmarkMasksOfCalls makes masks for calls in each format, with marks that are tokens
// and marks that are text, behind each token of random texts that the grammar allows. The
// first texts of all grammars, for which their lexers are new, are one row more.
func BenchmarkMasksOfCalls(b *testing.B) {
	var first enginetest.MaskTimes
	for _, name := range parse.Names() {
		f, _ := parse.Named(name)
		for _, tokens := range []bool{true, false} {
			marks := marksOf[strings.TrimSuffix(name, "-v3")]
			if !tokens && (name == "harmony" || len(marks) == 0) {
				continue
			}
			b.Run(fmt.Sprintf("%s/tokens=%t", name, tokens), func(b *testing.B) {
				if !tokens {
					marks = nil
				}
				tok := wide(b, marks)
				defer tok.Close()
				words, err := native.NewGrammarTokenizer(tok, wideVocab, []int32{wideEOS})
				require.NoError(b, err)
				defer words.Close()
				var took enginetest.MaskTimes
				r := rand.New(rand.NewPCG(0, 5))
				for b.Loop() {
					for _, a := range []parse.Answer{{Must: true, Several: true}, {Several: true}} {
						a.Tools = callables
						lark, _, err := f.Constrain(tok, a)
						require.NoError(b, err)
						g, err := words.Compile("lark", lark)
						require.NoError(b, err)
						begin := func() (enginetest.Matcher, error) { return g.NewMatcher() }
						texts := enginetest.MeasureMasks(b, begin, 300, wideEOS, func(may []int32) int32 { return lean(r, may) })
						first = append(first, texts[0]...)
						took = append(took, slices.Concat(texts...)...)
						g.Close()
					}
				}
				took.Report(b)
			})
		}
	}
	b.Run("first_texts", func(b *testing.B) { first.Report(b) })
}

// lean chooses a token, one time in three one that a model would begin marks and ends with.
func lean(r *rand.Rand, may []int32) int32 {
	var leaning []int32
	for _, id := range may {
		if id < 256 && strings.ContainsAny(string(rune(id+33)), "\"}])<`") || id >= 128_000 {
			leaning = append(leaning, id)
		}
	}
	if len(leaning) > 0 && r.IntN(3) == 0 {
		may = leaning
	}
	return may[r.IntN(len(may))]
}
