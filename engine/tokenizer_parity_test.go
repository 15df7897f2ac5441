package engine

import (
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/native"
	"harmonyd/engine/weights"
)

// TestImportedTokenizerGivesLlamaCppIDs imports the default model's GGUF file,
// which the deps target fetches, and holds the tokenizer.json that comes of it
// against the ids that llama.cpp gave (weights/testdata/tokenizer_golden.py).
func TestImportedTokenizerGivesLlamaCppIDs(t *testing.T) {
	golden := readTokenGolden(t, "weights/testdata/smollm2_tokens.json.gz")
	require.Greater(t, len(golden), 2000)

	model := filepath.Join(t.TempDir(), "model")
	gguf := filepath.Join("..", ".deps", "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
	require.NoError(t, weights.ImportGGUF(t.Context(), gguf, model, nil), "run: make deps")
	requireTokens(t, model, golden)
}

// requireTokens holds the tokenizer of a model folder against a golden.
func requireTokens(t *testing.T, model string, golden []tokenCase) {
	t.Helper()
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(model, name))
		require.NoError(t, err)
		return data
	}
	tokenizer, err := native.LoadTokenizer(read("tokenizer.json"), read("tokenizer_config.json"))
	require.NoError(t, err)
	defer tokenizer.Close()

	withControl := 0
	for _, c := range golden {
		ids, err := tokenizer.Encode(c.text, true)
		require.NoError(t, err, "%q", c.text)
		require.Equal(t, c.ids, ids, "%q", c.text)
		plain, err := tokenizer.Encode(c.text, false)
		require.NoError(t, err, "%q", c.text)
		require.Equal(t, c.plain, plain, "%q as ordinary text", c.text)
		if len(c.ids) != len(c.plain) {
			withControl++
		}
	}
	require.Greater(t, withControl, 100)
}

// A tokenCase is a text with its ids where control tokens are recognized and
// where they are ordinary text.
type tokenCase struct {
	text       string
	ids, plain []int32
}

func readTokenGolden(t *testing.T, path string) []tokenCase {
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	require.NoError(t, err)
	var golden struct {
		Cases [][]json.RawMessage `json:"cases"`
	}
	require.NoError(t, json.NewDecoder(unzipped).Decode(&golden))
	cases := make([]tokenCase, len(golden.Cases))
	for i, c := range golden.Cases {
		require.NoError(t, json.Unmarshal(c[0], &cases[i].text))
		require.NoError(t, json.Unmarshal(c[1], &cases[i].ids))
		require.NoError(t, json.Unmarshal(c[len(c)-1], &cases[i].plain))
		// native gives nil for no tokens.
		if len(cases[i].ids) == 0 {
			cases[i].ids, cases[i].plain = nil, nil
		}
	}
	return cases
}
