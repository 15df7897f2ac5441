package models

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const tinyConfig = `{"model_type": "llama", "hidden_size": 64, "intermediate_size": 96,
	"num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100,
	"max_position_embeddings": 512, "rms_norm_eps": 1e-5}`

func TestSizes(t *testing.T) {
	m, err := New("llama", []byte(tinyConfig))
	require.NoError(t, err)
	require.Equal(t, Sizes{Vocab: 100, Context: 512, CachePerToken: 2 * 3 * 2 * 16, Widest: 96}, m.Sizes())
	require.True(t, m.Ignores("lm_head.weight"), "tied, since the config does not say")
	require.True(t, m.Ignores("model.layers.0.self_attn.rotary_emb.inv_freq"))
	require.False(t, m.Ignores("model.norm.weight"))
}

func TestUnknownTypesNameTheKnownOnes(t *testing.T) {
	_, err := New("gpt_neo%s", nil)
	require.ErrorContains(t, err, `"gpt_neo%s" is not supported; these are: llama, mistral`)
}

// TestEachFileHasGoldens makes a new architecture bring its reference scores.
func TestEachFileHasGoldens(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "tiny.json"))
	require.NoError(t, err)
	var goldens struct {
		Versions map[string]string          `json:"versions"`
		Types    map[string]string          `json:"types"`
		Cases    map[string]json.RawMessage `json:"cases"`
	}
	require.NoError(t, json.Unmarshal(text, &goldens))
	require.Equal(t, map[string]string{"mlx": "0.32.2", "mlx_lm": "0.32.0"}, goldens.Versions)
	covered := map[string]bool{}
	for _, modelType := range goldens.Types {
		covered[modelType] = true
	}
	for _, modelType := range Types() {
		require.True(t, covered[modelType], "no golden of model_type %s", modelType)
	}
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, f := range files {
		if f == "models.go" || strings.HasSuffix(f, "_test.go") {
			continue
		}
		source, err := os.ReadFile(f)
		require.NoError(t, err)
		require.Contains(t, string(source), `register("`+strings.TrimSuffix(f, ".go")+`"`,
			"%s is named after the type that it registers", f)
	}
}
