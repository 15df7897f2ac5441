package engine

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/job"
)

// The benchmarks run the default model on whatever device there is:
//
//	go test ./engine -run '^$' -bench . -count 5

// benchEngine returns an engine with the default model loaded.
func benchEngine(b *testing.B) *Engine {
	b.Helper()
	root, id := defaultModel(b)
	e, err := New(Options{Root: root})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, e.Close()) })
	require.NoError(b, e.Load(b.Context(), id, nil))
	return e
}

// once runs a request and returns its result.
func once(b *testing.B, e *Engine, req job.Request) job.Result {
	g, err := e.Start(req)
	require.NoError(b, err)
	buf := make([]job.Event, 64)
	for err == nil {
		_, err = g.Next(b.Context(), buf)
	}
	res, err := g.Wait()
	require.NoError(b, err)
	return res
}

func BenchmarkDecode(b *testing.B) {
	for _, c := range []struct {
		name     string
		sampling job.Sampling
		prompt   int
	}{
		{"greedy", job.Sampling{}, 16},
		{"temperature", job.Sampling{Temperature: 0.7}, 16},
		{"top-p", job.Sampling{Temperature: 0.7, TopP: 0.95}, 16},
		{"greedy after 600", job.Sampling{}, 600},
	} {
		b.Run(c.name, func(b *testing.B) {
			e := benchEngine(b)
			req := job.Request{Prompt: pseudoPrompt(c.prompt, 40_000), MaxTokens: 33, IgnoreEOS: true, Sampling: c.sampling}
			once(b, e, req)
			var tokens, seconds float64
			for b.Loop() {
				res := once(b, e, req)
				tokens += float64(res.Usage.GeneratedTokens - 1)
				seconds += res.Stats.Decode.Seconds()
			}
			b.ReportMetric(tokens/seconds, "tok/s")
		})
	}
}

// BenchmarkFirstToken is a prompt of 50 tokens, nothing of it cached, up to its
// first token.
func BenchmarkFirstToken(b *testing.B) {
	e := benchEngine(b)
	first := int32(0)
	for b.Loop() {
		prompt := pseudoPrompt(50, 40_000)
		first++
		prompt[0] = first
		once(b, e, job.Request{Prompt: prompt, MaxTokens: 1})
	}
}

// BenchmarkLoad brings the weights from the page cache to the device.
func BenchmarkLoad(b *testing.B) {
	e := benchEngine(b)
	for b.Loop() {
		require.NoError(b, e.Unload(b.Context(), ""))
		require.NoError(b, e.Load(b.Context(), "", nil))
	}
}

// BenchmarkReadWeights reads the file once, which no load can do without.
func BenchmarkReadWeights(b *testing.B) {
	root, id := defaultModel(b)
	buf := make([]byte, 1<<20)
	for b.Loop() {
		f, err := os.Open(filepath.Join(root, id, "model.safetensors"))
		require.NoError(b, err)
		n := int64(0)
		for {
			k, err := f.Read(buf)
			if n += int64(k); err != nil {
				break
			}
		}
		require.NoError(b, f.Close())
		b.SetBytes(n)
	}
}

// BenchmarkForcedObject writes an object whose grammar leaves no choice, and free text
// of as many tokens, one after the other. The ratio of what they take is the
// metric: below 1 the object is faster.
func BenchmarkForcedObject(b *testing.B) {
	e := benchEngine(b)
	const schema = `{"type":"object","properties":{"kind":{"const":"temperature reading"},` +
		`"unit":{"const":"degrees celsius"},"station":{"const":"north tower"}},` +
		`"required":["kind","unit","station"],"additionalProperties":false,` +
		`"x-guidance":{"item_separator":", ","key_separator":": "}}`
	forced := job.Request{Prompt: pseudoPrompt(16, 40_000), MaxTokens: 200,
		Constraint: job.Constraint{Kind: job.JSONSchema, Source: schema}}
	res := once(b, e, forced)
	require.Equal(b, job.StopEOS, res.Reason)
	require.Greater(b, res.Stats.Constraint.Forced, res.Usage.GeneratedTokens*9/10)
	free := job.Request{Prompt: forced.Prompt, MaxTokens: res.Usage.GeneratedTokens, IgnoreEOS: true}
	once(b, e, free)
	var with, without float64
	for b.Loop() {
		begin := time.Now()
		once(b, e, forced)
		with += time.Since(begin).Seconds()
		begin = time.Now()
		once(b, e, free)
		without += time.Since(begin).Seconds()
	}
	b.ReportMetric(with/without, "forced/free")
	b.ReportMetric(float64(res.Usage.GeneratedTokens), "tokens")
}
