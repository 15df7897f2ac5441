package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest"
	"harmonyd/engine/job"
	"harmonyd/engine/mlx"
	"harmonyd/engine/weights"
)

var goldens = flag.Bool("goldens", false, "recompute models/testdata with the reference implementation")

// tolerance is how far a score in float32 may be from the reference.
const tolerance = 1e-3

// tinyCheckpoints are the architectures and packings that are held against the
// reference.
var tinyCheckpoints = map[string]enginetest.Checkpoint{
	"untied":          {Seed: 1},
	"tied":            {Seed: 2, Tied: true},
	"bias":            {Seed: 3, AttentionBias: true, MLPBias: true},
	"one-kv-head":     {Seed: 4, Heads: 8, KVHeads: 1},
	"all-kv-heads":    {Seed: 5, KVHeads: 4},
	"wide-heads":      {Seed: 6, HeadDim: 32},
	"linear-rope":     {Seed: 7, RoPEScaling: map[string]any{"type": "linear", "factor": 4.0}},
	"mistral":         {Seed: 8, ModelType: "mistral", Config: map[string]any{"sliding_window": nil}},
	"4-bit-by-32":     {Seed: 9, Bits: 4, Group: 32},
	"8-bit-by-32":     {Seed: 10, Bits: 8, Group: 32, Tied: true},
	"4-bit-by-64":     {Seed: 11, Bits: 4, Group: 64, Intermediate: 128},
	"8-bit-by-64":     {Seed: 12, Bits: 8, Group: 64, Intermediate: 128, Tied: true, AttentionBias: true},
	"3-bit-by-32":     {Seed: 13, Bits: 3, Group: 32},
	"6-bit-by-32":     {Seed: 14, Bits: 6, Group: 32},
	"llama3-rope":     {Seed: 15, HeadDim: 64, RoPEScaling: llama3Scaling},
	"yarn-rope":       {Seed: 17, RoPEScaling: yarnScaling},
	"deepseek-yarn":   {Seed: 18, HeadDim: 32, RoPEScaling: deepseekScaling, Config: map[string]any{"rope_traditional": true}},
	"dynamic-rope":    {Seed: 19, Context: 64, RoPEScaling: map[string]any{"type": "dynamic", "factor": 4.0}},
	"longrope":        {Seed: 20, RoPEScaling: longRoPEScaling},
	"tied-by-silence": {Seed: 16, Tied: true, Config: map[string]any{"tie_word_embeddings": nil}},

	"gemma3":             {Seed: 30, ModelType: "gemma3_text", Layers: 4, Tied: true},
	"gemma3-4-bit":       {Seed: 31, ModelType: "gemma3_text", Layers: 4, Tied: true, Bits: 4, Group: 32},
	"gemma3-5-bit":       {Seed: 32, ModelType: "gemma3_text", Layers: 4, Tied: true, Bits: 5, Group: 32, KVHeads: 1},
	"gemma3-untied":      {Seed: 33, ModelType: "gemma3_text", Layers: 3, Hidden: 96, HeadDim: 32},
	"gemma3-linear-rope": {Seed: 34, ModelType: "gemma3_text", Layers: 6, Tied: true, RoPEScaling: linearScaling},
	"gemma3-wide-window": {Seed: 35, ModelType: "gemma3_text", Layers: 3, Tied: true, Window: 280},
	"gemma3-window-of-1": {Seed: 36, ModelType: "gemma3_text", Layers: 6, Tied: true, Window: 1, Pattern: 6},
	"gemma3-none-slides": {Seed: 37, ModelType: "gemma3_text", Layers: 2, Tied: true, Pattern: 1},
	"gemma3-nested":      {Seed: 38, ModelType: "gemma3", Layers: 4, Tied: true, Bits: 4, Group: 64, Intermediate: 128},
}

var linearScaling = map[string]any{"rope_type": "linear", "factor": 8.0}

var llama3Scaling = map[string]any{
	"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
	"original_max_position_embeddings": 64,
}

// The prompts are longer than the original context of each of these.
var (
	yarnScaling     = map[string]any{"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
	deepseekScaling = map[string]any{"rope_type": "deepseek_yarn", "factor": 8.0, "beta_fast": 16, "beta_slow": 2,
		"mscale": 1.0, "mscale_all_dim": 0.5, "original_max_position_embeddings": 32}
	longRoPEScaling = map[string]any{"type": "longrope", "original_max_position_embeddings": 128,
		"short_factor": []float64{1, 1, 1, 1, 1, 1, 1, 1}, "long_factor": []float64{1, 1.1, 1.5, 2, 4, 8, 16, 32}}
)

// golden is the reference's answer to one prompt. Real vocabularies are kept as
// their best scores and a few random projections of all.
type golden struct {
	Prompt      int       `json:"prompt"`
	Logits      []float32 `json:"logits"`
	Top         []int     `json:"top"`
	Values      []float32 `json:"values"`
	Projections []float64 `json:"projections"`
	Greedy      []int32   `json:"greedy"`
}

// tinyPrompts cross the first growth of the cache.
func tinyPrompts() [][]int32 {
	var all [][]int32
	for _, n := range []int{1, 7, 250, 300} {
		all = append(all, pseudoPrompt(n, 96))
	}
	return all
}

// pseudoPrompt is n ids below vocab that look like nothing.
func pseudoPrompt(n, vocab int) []int32 {
	ids := make([]int32, n)
	state := uint32(n)
	for i := range ids {
		state = state*1664525 + 1013904223
		ids[i] = int32(state >> 8 % uint32(vocab))
	}
	for i := range ids {
		ids[i] %= int32(vocab)
	}
	return ids
}

// reference returns what the reference says, having asked it where -goldens is
// given.
func reference(t *testing.T, kind, folder string, prompts [][]int32) map[string][]golden {
	t.Helper()
	file := filepath.Join("models", "testdata", kind+".json")
	if *goldens {
		in, err := json.Marshal(prompts)
		require.NoError(t, err)
		cmd := exec.Command("../.deps/venv/bin/python", "models/testdata/goldens.py", kind, folder, file)
		// Without it the reference takes an hour: its wheel has the slow BLAS.
		cmd.Env = append(os.Environ(), "LD_PRELOAD=libopenblas.so.0")
		cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
		require.NoError(t, cmd.Run())
	}
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var all struct {
		Cases map[string][]golden `json:"cases"`
	}
	require.NoError(t, json.Unmarshal(text, &all))
	return all.Cases
}

// loadedModel is a model on the device, for tests that look at scores.
type loadedModel struct {
	*mlxBackend
	plan   *plan
	thread *thread
}

// loadFolder brings a folder to the CPU.
func loadFolder(t *testing.T, e *Engine, folder string, memory int64) *loadedModel {
	t.Helper()
	return loadOn(t, e, folder, device{available: memory})
}

func loadOn(t *testing.T, e *Engine, folder string, d device) *loadedModel {
	t.Helper()
	p, err := newPlan(weights.Dir(folder), d)
	require.NoError(t, err)
	defer p.close()
	l := &loading{plan: p, thread: e.thread, report: func(job.Progress) {}}
	require.NoError(t, l.run(context.Background()))
	m := &loadedModel{plan: p, thread: e.thread}
	m.do(t, func(must) error {
		m.mlxBackend = newMLXBackend(p, Limits{Pieces: p.pieces()})
		return nil
	})
	t.Cleanup(func() {
		m.do(t, func(must) error {
			m.Close()
			return nil
		})
	})
	return m
}

// do runs fn on the engine thread.
func (m *loadedModel) do(t *testing.T, fn func(t must) error) {
	t.Helper()
	require.NoError(t, m.thread.do(control, func() error { return fn(must{t}) }))
}

// must is for assertions on the engine thread, which a test may not end: they
// panic, and the thread makes an error of it.
type must struct{ *testing.T }

func (m must) FailNow() { panic("an assertion failed, see above") }

// scores returns the logits [L, V] of the last n positions of ids.
func (m *loadedModel) scores(t *testing.T, ids []int32, n int) [][]float32 {
	t.Helper()
	var rows [][]float32
	m.do(t, func(must) error {
		cache := m.model.NewCache()
		defer cache.Free()
		s := mlx.NewScope(mlx.Stream{})
		defer s.Close()
		h := m.model.Forward(s, s.FromInt32s(ids, 1, len(ids)), cache)
		logits := m.model.Logits(s, s.SliceAxis(h, 1, len(ids)-n, len(ids)))
		all := s.Float32s(s.AsType(logits, mlx.Float32), nil)
		for i := range n {
			rows = append(rows, all[i*len(all)/n:(i+1)*len(all)/n])
		}
		return s.Err()
	})
	return rows
}

// greedy decodes n tokens one at a time through a sequence.
func (m *loadedModel) greedy(t *testing.T, prompt []int32, n int) []int32 {
	t.Helper()
	var ids []int32
	m.do(t, func(must) error {
		q, err := m.NewSequence()
		if err != nil {
			return err
		}
		defer q.Close()
		if err := q.SetSampling(job.Sampling{}, 0, nil); err != nil {
			return err
		}
		if err := q.Extend(prompt); err != nil {
			return err
		}
		for len(ids) < n {
			if err := q.Dispatch(); err != nil {
				return err
			}
			id, err := q.Read()
			if err != nil {
				return err
			}
			ids = append(ids, id)
		}
		return nil
	})
	return ids
}

func argmax(row []float32) int32 {
	best := 0
	for i, v := range row {
		if v > row[best] {
			best = i
		}
	}
	return int32(best)
}

func TestGoldenTinyCheckpoints(t *testing.T) {
	root := t.TempDir()
	for name, c := range tinyCheckpoints {
		require.NoError(t, c.Write(filepath.Join(root, name)))
	}
	prompts := tinyPrompts()
	want := reference(t, "tiny", root, prompts)
	e := newTestEngine(t, Options{Root: root})
	for name := range tinyCheckpoints {
		t.Run(name, func(t *testing.T) {
			require.Len(t, want[name], len(prompts))
			m := loadFolder(t, e, filepath.Join(root, name), math.MaxInt64)
			require.Equal(t, mlx.Float32, m.plan.dtype)
			for i, g := range want[name] {
				got := m.scores(t, prompts[i], 1)[0]
				require.InDeltaSlice(t, g.Logits, got, tolerance, "prompt of %d tokens", g.Prompt)
				require.Equal(t, g.Greedy, m.greedy(t, prompts[i], len(g.Greedy)), "prompt of %d tokens", g.Prompt)
			}
		})
	}
}
