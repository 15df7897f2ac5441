package bench

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine"
	"harmonyd/engine/enginetest"
	"harmonyd/engine/mlx"
	"harmonyd/engine/weights"
)

// tinyOptions measure a tiny model with fake peers.
func tinyOptions(t *testing.T, mode string, c enginetest.Checkpoint) Options {
	t.Helper()
	t.Setenv(fakeVariable, mode)
	root := t.TempDir()
	require.NoError(t, c.Write(filepath.Join(root, "tiny")))
	return Options{
		Root: root, Model: "tiny", Runs: 3, PromptTokens: 20, Tokens: 5, Python: os.Args[0],
		Peers: []string{"mlx-lm", "llama.cpp"}, Version: "test",
	}
}

// TestMeasure runs the whole of it: the peers are fake, the rest is real.
func TestMeasure(t *testing.T) {
	o := tinyOptions(t, "good", enginetest.Checkpoint{Bits: 4, Group: 32, Tied: true})
	o.GGUF, o.Weights = filepath.Join(t.TempDir(), "none.gguf"), engine.Float32
	t.Setenv("TMPDIR", t.TempDir())
	var said []string
	o.Say = func(what string) { said = append(said, what) }
	s, err := Measure(t.Context(), o)
	require.NoError(t, err)

	require.Equal(t, "test", s.Versions.Harmonyd)
	require.Equal(t, mlx.Version(), s.Versions.MLX)
	require.Equal(t, ModelFacts{"tiny", "llama", "affine 4-bit, groups of 32"}, s.Model)
	require.Equal(t, 3, s.Workload.Runs)
	require.Len(t, s.Programs, 3)
	ours, mlxlm, llama := s.Programs[0], s.Programs[1], s.Programs[2]
	for _, p := range []*Program{ours, mlxlm} {
		require.Empty(t, p.Problem, p.Name)
		require.Len(t, p.IDs, 5)
		for _, m := range metrics {
			require.Len(t, m.of(p).Values, 3, "%s %s", p.Name, m.name)
			require.Positive(t, m.of(p).Min, "%s %s", p.Name, m.name)
		}
		require.Positive(t, p.PeakBytes)
		require.Equal(t, "float32", p.Weights)
	}
	require.Equal(t, 5, ours.Agrees)
	require.InDelta(t, 1, ours.TokensPerPass, 0)
	require.Equal(t, []int32{0, 1, 2, 3, 4}, mlxlm.IDs)
	require.InDelta(t, 200, mlxlm.Prefill.Median, 1e-9, "20 tokens in 100 ms")
	require.InDelta(t, 100, mlxlm.Decode.Median, 1e-9, "a token in 10 ms")
	require.Contains(t, mlxlm.Details["settings"], `"device":"cpu"`)
	require.Contains(t, llama.Problem, "none.gguf")

	// Seven matrices in each of two layers, and the table of 96 rows of 64.
	elements := 2*(2*64*64+2*32*64+3*96*64) + 96*64
	require.Equal(t, 15, s.Roofline.Matrices)
	require.EqualValues(t, 4*elements, s.Roofline.Bytes)
	require.EqualValues(t, 4*elements, ours.BytesPerToken)
	require.Len(t, s.Roofline.Decode.Values, 3)
	require.Positive(t, s.Roofline.Decode.Min)
	require.Positive(t, s.Roofline.Read.Min)

	decode := s.Counts.Decode
	require.Less(t, decode.Allocs, uint64(4), "none a token, whatever else the process does")
	require.Equal(t, Count{Tokens: 4, Reads: 4, BytesRead: 16, Ops: decode.Ops, Calls: decode.Calls, Allocs: decode.Allocs}, decode)
	require.Equal(t, 20, s.Counts.Prefill.Tokens)
	require.EqualValues(t, 80, s.Counts.Prefill.BytesWritten)

	require.Contains(t, said, "repetition 2 of 3: mlx-lm")
	first := func(what string) int {
		for i, line := range said {
			if strings.HasPrefix(line, what) {
				return i
			}
		}
		return -1
	}
	require.Less(t, first("repetition 1 of 3: harmonyd"), first("repetition 1 of 3: mlx-lm"))
	require.Less(t, first("repetition 2 of 3: mlx-lm"), first("repetition 2 of 3: harmonyd"), "who begins changes")
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "harmonyd-bench-*"))
	require.NoError(t, err)
	require.Empty(t, left)

	var text bytes.Buffer
	require.NoError(t, s.WriteTable(&text))
	require.Contains(t, text.String(), "llama.cpp was not measured: ")
	require.Contains(t, text.String(), "decode / mlx-lm")
}

// TestPeerThatFailsLeavesTheOthers lets peers fail at each of their answers: the
// run goes on without them, and says so.
func TestPeerThatFailsLeavesTheOthers(t *testing.T) {
	for _, mode := range []string{"die 0", "refuse 1", "garbage 3", "die 4", "refuse 5", "refuse 7", "short", "waver"} {
		o := tinyOptions(t, mode, enginetest.Checkpoint{})
		o.Runs, o.Peers = 2, []string{"mlx-lm"}
		s, err := Measure(t.Context(), o)
		require.NoError(t, err, mode)
		p := s.Programs[1]
		require.NotEmpty(t, p.Problem, mode)
		require.False(t, p.Decode.Measured(), mode)
		require.Len(t, s.Programs[0].Decode.Values, 2, mode)
		if mode == "waver" {
			require.Contains(t, p.Problem, "mlx-lm: repetition 1 gives other tokens than the first: they part at token 2 of 5")
		}
		for _, r := range s.Ratios {
			require.NotContains(t, r.Name, "mlx-lm", mode)
		}
	}
}

func TestMeasureRefuses(t *testing.T) {
	good := tinyOptions(t, "good", enginetest.Checkpoint{Context: 64})
	good.Peers = nil
	for want, edit := range map[string]func(*Options){
		"runs: got 0, want 1 or more":                                               func(o *Options) { o.Runs = 0 },
		"prompt tokens: got 1, want 2 or more":                                      func(o *Options) { o.PromptTokens = 1 },
		"tokens: got 1, want 2 or more":                                             func(o *Options) { o.Tokens = 1 },
		`peer "ollama" is not known; these are: mlx-lm, mlx-lm-packed, llama.cpp`:   func(o *Options) { o.Peers = []string{"ollama"} },
		`peer "mlx-lm" is named twice`:                                              func(o *Options) { o.Peers = []string{"mlx-lm", "llama.cpp", "mlx-lm"} },
		"60 prompt tokens and 5 tokens are more than the 64 of the model's context": func(o *Options) { o.PromptTokens = 60 },
		"threads: got -1, want 0 or more":                                           func(o *Options) { o.Threads = -1 },
		`weights: got "int1", want stored or float32`:                               func(o *Options) { o.Weights = "int1" },
		"none":     func(o *Options) { o.Model = "none" },
		"sampling": func(o *Options) { o.Temperature = -1 },
	} {
		o := good
		edit(&o)
		_, err := Measure(t.Context(), o)
		require.ErrorContains(t, err, want)
	}
}

// TestMeasureEndsAtOnce cancels at each thing that is said.
func TestMeasureEndsAtOnce(t *testing.T) {
	for n := range 12 {
		o := tinyOptions(t, "good", enginetest.Checkpoint{})
		o.Peers = []string{"mlx-lm"}
		ctx, cancel := context.WithCancel(t.Context())
		left := n
		o.Say = func(string) {
			if left--; left < 0 {
				cancel()
			}
		}
		_, err := Measure(ctx, o)
		require.ErrorIs(t, err, context.Canceled, "after %d", n)
		cancel()
	}
}

// TestProductsAreThoseOfAStep counts what models multiply with.
func TestProductsAreThoseOfAStep(t *testing.T) {
	layers := int64(2 * (2*64*64 + 2*32*64 + 3*96*64))
	table := int64(96 * 64)
	for _, c := range []struct {
		name     string
		model    enginetest.Checkpoint
		elements int64
		stored   int64
	}{
		{"the scores have a matrix of their own", enginetest.Checkpoint{}, layers + table, 4 * (layers + table)},
		{"the table gives the scores", enginetest.Checkpoint{Tied: true}, layers + table, 4 * (layers + table)},
		{"a matrix that is ignored", enginetest.Checkpoint{Config: map[string]any{"tie_word_embeddings": true}},
			layers + table, 4 * (layers + table)},
		{"half floats", enginetest.Checkpoint{Dtype: weights.F16}, layers + table, 2 * (layers + table)},
		{"4 bits, and a scale and a bias of 4 bytes for each 32", enginetest.Checkpoint{Bits: 4, Group: 32},
			layers + table, (layers + table) * (4*32/8 + 8) / 32},
		{"biases are no matrices", enginetest.Checkpoint{AttentionBias: true, MLPBias: true}, layers + table, 4 * (layers + table)},
	} {
		root := t.TempDir()
		require.NoError(t, c.model.Write(root))
		all, err := products(root)
		require.NoError(t, err, c.name)
		require.Len(t, all, 15, c.name)
		require.Equal(t, 4*c.elements, bytesPerToken(all, float32Form), c.name)
		require.Equal(t, 2*c.elements, bytesPerToken(all, "float16"), c.name)
		require.Equal(t, c.stored, bytesPerToken(all, engine.Packed), c.name)
	}
	_, err := products(t.TempDir())
	require.Error(t, err)
}

func TestRooflineThatDoesNotFit(t *testing.T) {
	_, err := openRoofline([]product{{rows: 1 << 30, cols: 1 << 30}}, 1)
	require.ErrorContains(t, err, "its matrices would take 4398046511104 MB of the ")
}

func TestRooflineEndsWithItsContext(t *testing.T) {
	r, err := openRoofline([]product{{rows: 3, cols: 5}, {rows: 5, cols: 3}}, 1)
	require.NoError(t, err)
	defer r.close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = r.measure(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

// TestMachineIsDescribed reads what Linux tells.
func TestMachineIsDescribed(t *testing.T) {
	m := describeMachine(3)
	require.Equal(t, runtime.NumCPU(), m.Cores)
	require.Equal(t, 3, m.Threads)
	n, err := peakMemory()
	require.NoError(t, err)
	require.Greater(t, n, int64(10<<20))
	if runtime.GOOS == "linux" {
		require.NotEmpty(t, m.CPU)
		others, stolen := startWatch(nil).stop()
		require.LessOrEqual(t, others, 1.0)
		require.LessOrEqual(t, stolen, 1.0)
	}
}

func TestWhoUsesTheProcessors(t *testing.T) {
	from := ticks{all: 1000, idle: 100, stolen: 10, own: 50, known: true}
	others, stolen := from.until(ticks{all: 2000, idle: 300, stolen: 110, own: 650, known: true})
	require.InDelta(t, 0.1, others, 1e-12)
	require.InDelta(t, 0.1, stolen, 1e-12)
	others, _ = from.until(ticks{all: 1010, idle: 100, stolen: 10, own: 70, known: true})
	require.Zero(t, others, "clocks that differ by a tick")
	for _, unknown := range []ticks{{}, {all: 1000, known: true}} {
		others, stolen = from.until(unknown)
		require.Equal(t, [2]float64{-1, -1}, [2]float64{others, stolen})
	}
	require.Zero(t, processTicks(1<<30))
	if runtime.GOOS == "linux" {
		require.True(t, readTicks([]int{os.Getpid()}).known)
	}
}
