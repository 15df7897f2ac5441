package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/rpc/rpctest"
	"harmonyd/schema"
)

// The built program and the default model's file, as make leaves them.
const (
	binary       = "bin/harmonyd"
	defaultGGUF  = ".deps/models/SmolLM2-135M-Instruct.Q4_1.gguf"
	defaultModel = "SmolLM2-135M-Instruct.Q4_1"
)

// BenchmarkSpawnToFirstToken measures what a person waits for when an editor
// starts the server and asks at once: from the spawn to the first text of the
// answer to a prompt of 50 tokens, with everything in the page cache. The
// ratio is to what cannot be avoided, reading the weights once and processing
// the prompt, both measured in the same run; it is to be 3 at most. Run it
// with make bench-start.
func BenchmarkSpawnToFirstToken(b *testing.B) {
	models := b.TempDir()
	out, err := exec.Command(binary, "import", "--models", models, defaultGGUF).CombinedOutput()
	require.NoError(b, err, "%s (run make build first)", out)

	var spawn, read, prefill, ratio []float64
	for b.Loop() {
		r := readOnce(b, filepath.Join(models, defaultModel, "model.safetensors"))
		s, p := firstToken(b, models)
		spawn, read, prefill = append(spawn, s), append(read, r), append(prefill, p)
		ratio = append(ratio, s/(r+p))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(spawn), "spawn-to-token-ms")
	b.ReportMetric(median(read), "read-weights-ms")
	b.ReportMetric(median(prefill), "prefill-ms")
	b.ReportMetric(median(ratio), "ratio")
	b.ReportMetric(slices.Max(ratio), "ratio-max")
}

// readOnce reads a file from the page cache and returns the milliseconds.
func readOnce(b *testing.B, file string) float64 {
	f, err := os.Open(file)
	require.NoError(b, err)
	defer f.Close()
	info, err := f.Stat()
	require.NoError(b, err)
	buf := make([]byte, info.Size())
	clear(buf) // the pages are there before the clock runs
	start := time.Now()
	_, err = io.ReadFull(f, buf)
	took := time.Since(start)
	require.NoError(b, err)
	return ms(took)
}

// firstToken spawns the server and returns the milliseconds until its first
// text, and those that it says the prompt took.
func firstToken(b *testing.B, models string) (first, prefill float64) {
	prompt := "the" + strings.Repeat(" the", 49)
	start := time.Now()
	c, err := rpctest.Spawn(b.Context(), os.Stderr, binary, "--models", models)
	require.NoError(b, err)
	_, err = c.Initialize()
	require.NoError(b, err)
	var result schema.GenerateResult
	err = c.Call("generate", map[string]any{"prompt": prompt, "maxTokens": 2, "tools": []string{}}, &result, func(m rpctest.Message) {
		if m.Method == "generate/delta" && first == 0 {
			first = ms(time.Since(start))
		}
	})
	require.NoError(b, err)
	require.Equal(b, 50, result.Usage.PromptTokens)
	require.NotZero(b, first)
	code, err := c.Shutdown()
	require.NoError(b, err)
	require.Zero(b, code)
	return first, result.Usage.PrefillMS
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}
