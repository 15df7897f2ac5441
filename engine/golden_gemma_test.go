package engine

import (
	"flag"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/hub"
)

var withGemma = flag.Bool("gemma", false, "run TestGemma270M on the model that the target test-gemma fetches")

// gemmaLengths are the lengths of the prompts to Gemma, whose window is 512: the
// second is crossed by its continuation.
var gemmaLengths = []int{5, 480, 700}

// TestGemma270M imports the K-quantized GGUF file of a real model and compares all
// that comes of it with other people's programs: tensors with the gguf package,
// token ids with llama.cpp, scores and greedy continuations with mlx-lm.
func TestGemma270M(t *testing.T) {
	if !*withGemma {
		t.Skip("the model is 253 MB: run make test-gemma")
	}
	gguf := filepath.Join("..", ".deps", "gemma", "gemma-3-270m-q4_k_m.gguf")
	root := t.TempDir()
	start := time.Now()
	id, err := hub.New(root).Import(t.Context(), gguf, "", nil)
	require.NoError(t, err)
	t.Logf("imported in %v", time.Since(start).Round(10*time.Millisecond))
	folder := filepath.Join(root, id)

	t.Run("tensors", func(t *testing.T) {
		cmd := exec.Command("../.deps/venv/bin/python", "weights/testdata/compare_gguf.py", gguf, folder)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		t.Logf("against the gguf package:\n%s", out)
	})
	t.Run("token ids", func(t *testing.T) {
		golden := readTokenGolden(t, "weights/testdata/gemma3_tokens.json.gz")
		require.Greater(t, len(golden), 2000)
		requireTokens(t, folder, golden)
	})
	t.Run("scores", func(t *testing.T) {
		e := newTestEngine(t, Options{Root: root})
		m, err := e.Open(t.Context(), id)
		require.NoError(t, err)
		prompts := largePrompts(t, e, id, gemmaLengths)
		bos, ok := m.Tokenizer.BOS()
		require.True(t, ok)
		for i := range prompts {
			prompts[i][0] = bos
		}
		loaded := loadFolder(t, e, folder, math.MaxInt64)
		requireGolden(t, loaded, prompts, reference(t, "gemma", folder, prompts)[id])

		counting, err := m.Tokenizer.Encode("1, 2, 3, 4, 5, 6, 7,", false)
		require.NoError(t, err)
		text, err := m.Tokenizer.Decode(loaded.greedy(t, append([]int32{bos}, counting...), 12), true)
		require.NoError(t, err)
		t.Logf("after 1, 2, 3, 4, 5, 6, 7,: %q", text)
		require.Contains(t, text, "8, 9, 10,")
	})
	if size, err := os.Stat(filepath.Join(folder, "model.safetensors")); err == nil {
		t.Logf("%d bytes of weights", size.Size())
	}
}
