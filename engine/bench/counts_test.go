//go:build !mlxdebug

package bench

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine"
	"harmonyd/engine/enginetest"
	"harmonyd/engine/hub"
	"harmonyd/engine/job"
	"harmonyd/engine/mlx"
)

var update = flag.Bool("update", false, "rewrite testdata/counts.json")

const baselineFile = "testdata/counts.json"

// countCases are what the baseline holds. Tokens are enough to meet a growth of
// the cache where a model is small.
var countCases = map[string]struct {
	model    enginetest.Checkpoint
	sampling job.Sampling
}{
	"2 layers":          {},
	"3 layers":          {model: enginetest.Checkpoint{Layers: 3}},
	"2 layers, tied":    {model: enginetest.Checkpoint{Tied: true}},
	"2 layers, 4-bit":   {model: enginetest.Checkpoint{Bits: 4, Group: 32}},
	"2 layers, sampled": {sampling: job.Sampling{Temperature: 0.8}},
	"2 layers, filtered": {sampling: job.Sampling{
		Temperature: 0.8, TopP: 0.9, TopK: 20, MinP: 0.01}},
	"2 layers, penalized": {sampling: job.Sampling{
		RepetitionPenalty: 1.1, PresencePenalty: 0.1, FrequencyPenalty: 0.1}},
}

// TestCountsDoNotRise holds what a prompt and a token cost whatever the machine
// against testdata/counts.json. Who lowers a count writes the gain down with
//
//	go test ./engine/bench -run Counts -update
//
// Planted breaks that turned it red: a negation in each layer that nobody uses,
// one allocation in the decode loop, a second read of each token, an upload of
// four bytes a step.
func TestCountsDoNotRise(t *testing.T) {
	if mlx.DefaultStream().Device().GPU {
		t.Skip("the baseline is that of the path for CPUs")
	}
	baseline := readBaseline(t)
	now := map[string]Counts{}
	count := func(name, root, id string, s job.Sampling, k counting) {
		// Something else in the process may allocate. It does not do so every time.
		for range 3 {
			now[name] = countModel(t, root, id, s, k)
			if *update || len(rises(now[name], baseline[name])) == 0 {
				break
			}
		}
	}
	for name, c := range countCases {
		root := t.TempDir()
		c.model.Context = 512
		require.NoError(t, c.model.Write(filepath.Join(root, "tiny")))
		count(name, root, "tiny", c.sampling, counting{tokens: 257, runs: 3})
	}
	root, id := importDefault(t)
	count(id, root, id, job.Sampling{}, counting{tokens: 17, runs: 2})

	for _, name := range slices.Sorted(maps.Keys(now)) {
		c := now[name]
		prompt, token := fmt.Sprintf("%s: a prompt of %d:", name, c.Prefill.Tokens), name+": a token:"
		for i, f := range c.Prefill.fields() {
			prompt += fmt.Sprintf(" %d %s,", f.n, f.name)
			token += fmt.Sprintf(" %s %s,", c.Decode.perToken(c.Decode.fields()[i].n), f.name)
		}
		t.Log(strings.TrimSuffix(prompt, ","))
		t.Log(strings.TrimSuffix(token, ","))
	}
	if *update {
		text, err := json.MarshalIndent(now, "", "  ")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(baselineFile, append(text, '\n'), 0o644))
		baseline = readBaseline(t)
	}
	require.Equal(t, slices.Sorted(maps.Keys(baseline)), slices.Sorted(maps.Keys(now)), "run with -update")
	for _, name := range slices.Sorted(maps.Keys(now)) {
		for _, line := range rises(now[name], baseline[name]) {
			t.Errorf("%s: %s", name, line)
		}
		for _, line := range falls(now[name], baseline[name]) {
			t.Logf("%s: %s; run with -update to keep it so", name, line)
		}
	}
}

func readBaseline(t *testing.T) (baseline map[string]Counts) {
	t.Helper()
	text, err := os.ReadFile(baselineFile)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &baseline))
	return baseline
}

// rises and falls word what there is more and less of.
func rises(now, old Counts) []string { return wordChanges(now, old, true) }
func falls(now, old Counts) []string { return wordChanges(now, old, false) }

func wordChanges(now, old Counts, rose bool) (lines []string) {
	for _, phase := range []struct {
		name      string
		then, now Count
	}{{"prefill", old.Prefill, now.Prefill}, {"decode", old.Decode, now.Decode}} {
		if phase.then.Tokens != phase.now.Tokens {
			return []string{fmt.Sprintf("%s: over %d tokens and not %d: run with -update", phase.name, phase.now.Tokens, phase.then.Tokens)}
		}
		for _, c := range phase.now.changes(phase.then) {
			if c.rose() == rose {
				lines = append(lines, phase.name+": "+c.String())
			}
		}
	}
	return lines
}

// countModel counts one model of a folder.
func countModel(t *testing.T, root, id string, s job.Sampling, k counting) Counts {
	t.Helper()
	// Asking the system for its free memory costs as many allocations as it has
	// lines to say on it, so the engine gets a number. One thread counts like many.
	e, err := engine.New(engine.Options{Root: root, PrefixCaches: -1, MemoryBytes: 4 << 30, Threads: 1})
	require.NoError(t, err)
	o := &ours{engine: e, model: job.Model{ID: id}}
	defer func() { require.NoError(t, o.close()) }()
	w := workload{prompt: make([]int32, countedPrompt), tokens: 4, sampling: s}
	for i := range w.prompt {
		w.prompt[i] = int32(i*31%90 + 1)
	}
	_, err = o.generate(t.Context(), w) // loads, and makes what is made once
	require.NoError(t, err)
	c, err := k.phases(t.Context(), o, w)
	require.NoError(t, err)
	return c
}

// importDefault imports the model that make deps fetched.
func importDefault(t *testing.T) (root, id string) {
	t.Helper()
	file := filepath.Join("..", "..", ".deps", "models", hub.DefaultModel+".gguf")
	require.FileExists(t, file, "run make deps first")
	root = t.TempDir()
	id, err := hub.New(root).Import(t.Context(), file, "", nil)
	require.NoError(t, err)
	return root, id
}

func TestCountsOfTwoRunsAreCompared(t *testing.T) {
	old := Count{Tokens: 10, Ops: 100, Calls: 200, Reads: 10, BytesRead: 40, Allocs: 5}
	require.Empty(t, old.changes(old))
	now := old
	now.Ops, now.Allocs, now.BytesWritten = 90, 6, 4
	var lines []string
	var rose int
	for _, c := range now.changes(old) {
		lines = append(lines, c.String())
		if c.rose() {
			rose++
		}
	}
	require.Equal(t, []string{
		"operations fell from 100 to 90 in 10 tokens",
		"bytes written rose from 0 to 4 in 10 tokens",
		"Go allocations rose from 5 to 6 in 10 tokens",
	}, lines)
	require.Equal(t, 2, rose)
}
