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
	require.Equal(t, Sizes{Vocab: 100, Layers: 3, Context: 512, CachePerToken: 2 * 3 * 2 * 16, CopiedPerToken: 2 * 16, Widest: 96}, m.Sizes())
	require.True(t, m.Ignores("lm_head.weight"), "tied, since the config does not say")
	require.True(t, m.Ignores("model.layers.0.self_attn.rotary_emb.inv_freq"))
	require.False(t, m.Ignores("model.norm.weight"))
}

func TestUnknownTypesNameTheKnownOnes(t *testing.T) {
	_, err := New("gpt_neo%s", nil)
	require.ErrorContains(t, err, `"gpt_neo%s" is not supported; these are: gemma3, gemma3_text, llama, mistral`)
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

// TestConfigErrorsNameTheMember: a person has to find it in config.json.
func TestConfigErrorsNameTheMember(t *testing.T) {
	for changed, want := range map[string]string{
		`"hidden_size": 1e+30`:                 "hidden_size: is 1e+30, want a whole number",
		`"hidden_size": 64.5`:                  "hidden_size: is 64.5, want a whole number",
		`"hidden_size": "64"`:                  "hidden_size: is a string, want a whole number",
		`"hidden_size": 0`:                     "hidden_size: is 0, want 1 to 16777216",
		`"head_dim": 0`:                        "head_dim: is 0, want 1 to 16777216",
		`"num_key_value_heads": 0`:             "num_key_value_heads: is 0, want 1 to 16777216",
		`"max_position_embeddings": 0`:         "max_position_embeddings: is 0, want at least 1",
		`"rope_theta": 0`:                      "rope_theta: is 0, want more than 0",
		`"rope_theta": "x"`:                    "rope_theta: is a string, want a number",
		`"rope_parameters": {"rope_theta": 0}`: "rope_theta: is 0, want more than 0",
		`"rope_scaling": {"factor": []}`:       "rope_scaling.factor: is a list, want a number",
		`"rope_scaling": []`:                   "rope_scaling: is a list, want an object",
		`"rope_parameters": {"type": "su"}`:    `rope_parameters: type "su" is not supported`,
		`"rope_parameters": {"type": "yarn"}`:  `rope_parameters: factor: is 0, want more than 0`,
		`"rope_scaling": {"type": "longrope", "original_max_position_embeddings": 64, "long_factor": "x"}`: "long_factor: want a number or a list of numbers",
		`"rope_scaling": {"type": "llama3", "factor": 8, "low_freq_factor": 0}`: "rope_scaling: low_freq_factor 0, " +
			"high_freq_factor 4 and original_max_position_embeddings 8192 do not go together",
		`"rms_norm_eps": 1e300`:      "rms_norm_eps: is 1e300, want a number",
		`"tie_word_embeddings": 1`:   "tie_word_embeddings: is a number, want true or false",
		`"layer_types": "x"`:         "layer_types: is a string, want a list",
		`"layer_types": [1]`:         "layer_types: is a number, want a string",
		`"hidden_size": {}`:          "hidden_size: is an object, want a whole number",
		`"hidden_size": true`:        "hidden_size: is true or false, want a whole number",
		`"num_attention_heads": 0`:   "num_attention_heads: is 0, want 1 to 16777216",
		`"num_attention_heads": 1e6`: "num_attention_heads: is 1e6, want a whole number",
	} {
		// The last of two members of a name counts.
		_, err := New("llama", []byte(strings.TrimSuffix(tinyConfig, "}")+","+changed+"}"))
		require.EqualError(t, err, "config.json: "+want)
	}
	for _, name := range []string{"head_dim", "num_key_value_heads", "max_position_embeddings", "rope_theta", "rope_scaling"} {
		_, err := New("llama", []byte(`{"`+name+`": null,`+strings.Replace(tinyConfig, `"num_key_value_heads": 2,`, "", 1)[1:]))
		require.NoError(t, err, name)
	}
}

const gemmaConfig = `{"model_type": "gemma3_text", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 7,
	"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 100, "sliding_window": 16}`

func TestGemma3Sizes(t *testing.T) {
	want := Sizes{Vocab: 100, Layers: 7, CachePerToken: 2 * 2 * 32, SlidingPerToken: 6 * 2 * 2 * 32, Window: 16, CopiedPerToken: 2 * 32, Widest: 128}
	m, err := New("gemma3_text", []byte(gemmaConfig))
	require.NoError(t, err)
	require.Equal(t, want, m.Sizes())
	require.True(t, m.Ignores("lm_head.weight"), "tied, since the config does not say")
	require.False(t, m.Ignores("vision_tower.x"))

	// layer_types count before the pattern.
	m, err = New("gemma3_text", []byte(gemmaConfig[:len(gemmaConfig)-1]+`, "sliding_window_pattern": 6, "layer_types": [
		"full_attention", "sliding_attention", "full_attention", "full_attention", "full_attention", "full_attention", "full_attention"]}`))
	require.NoError(t, err)
	require.Equal(t, 2*2*32, m.Sizes().SlidingPerToken)

	// What released checkpoints leave out, and the vision model beside the text.
	m, err = New("gemma3", []byte(`{"model_type": "gemma3", "text_config": {"hidden_size": 2560, "intermediate_size": 10240,
		"num_hidden_layers": 34, "sliding_window": 1024, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}}`))
	require.NoError(t, err)
	require.Equal(t, Sizes{Vocab: 262208, Layers: 34, CachePerToken: 5 * 2 * 4 * 256, SlidingPerToken: 29 * 2 * 4 * 256, Window: 1024, CopiedPerToken: 4 * 256, Widest: 10240},
		m.Sizes())
	for name, ignored := range map[string]bool{
		"vision_tower.a.weight": true, "multi_modal_projector.b": true, "language_model.lm_head.weight": true,
		"language_model.model.norm.weight": false, "lm_head.weight": false,
	} {
		require.Equal(t, ignored, m.Ignores(name), name)
	}
	m, err = New("gemma3", []byte(`{"vocab_size": 300, "text_config": {"vocab_size": 299}}`))
	require.NoError(t, err)
	require.Equal(t, 300, m.Sizes().Vocab)
}

// TestGemma3RoPE: the two kinds of layers have positions of their own, which
// transformers 5 writes in another place.
func TestGemma3RoPE(t *testing.T) {
	for changed, want := range map[string][3]float64{ // theta, factor; local theta
		`"head_dim": 32`: {1e6, 0, 1e4},
		`"rope_theta": 5e5, "rope_local_base_freq": 2e4, "rope_scaling": {"rope_type": "linear", "factor": 8}`: {5e5, 8, 2e4},
		`"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 4, "rope_theta": 3e5},
			"sliding_attention": {"rope_type": "default", "rope_theta": 7e3}}`: {3e5, 4, 7e3},
	} {
		m, err := New("gemma3_text", []byte(gemmaConfig[:len(gemmaConfig)-1]+","+changed+"}"))
		require.NoError(t, err)
		c := m.(*gemma3Text).cfg
		require.Equal(t, want, [3]float64{*c.global.Theta, c.global.Scaling.Factor, *c.local.Theta})
		require.Zero(t, c.local.Scaling.Factor)
	}
}

func TestGemma3ConfigErrors(t *testing.T) {
	for changed, want := range map[string]string{
		`"sliding_window": 0`:                                     "sliding_window: is 0, want 1 to 16777216",
		`"sliding_window_pattern": 0`:                             "sliding_window_pattern: is 0, want 1 to 4096",
		`"num_key_value_heads": 3`:                                "num_key_value_heads: is 3, which does not divide 4 heads",
		`"head_dim": 31`:                                          "head_dim: is 31, rotary positions need an even number",
		`"head_dim": 16777216`:                                    "head_dim: is 16777216, too wide for 4 heads",
		`"max_position_embeddings": 0`:                            "max_position_embeddings: is 0, want at least 1",
		`"rms_norm_eps": 1`:                                       "rms_norm_eps: is 1, want more than 0 and less than 1",
		`"query_pre_attn_scalar": 0`:                              "query_pre_attn_scalar: is 0, want more than 0 and at most 16777216",
		`"layer_types": []`:                                       "layer_types: lists 0 layers, num_hidden_layers is 7",
		`"hidden_activation": "relu"`:                             `hidden_activation: "relu" is not supported`,
		`"final_logit_softcapping": 30`:                           "final_logit_softcapping: is 30, which is not supported",
		`"attn_logit_softcapping": 50`:                            "attn_logit_softcapping: is 50, which is not supported",
		`"use_bidirectional_attention": true`:                     "use_bidirectional_attention: is true, which is not supported",
		`"rope_theta": 0`:                                         "rope_theta: is 0, want more than 0",
		`"rope_local_base_freq": -1`:                              "rope_local_base_freq: is -1, want more than 0",
		`"rope_scaling": {"type": "x"}`:                           `rope_scaling: type "x" is not supported`,
		`"rope_parameters": {"sliding_attention": {"type": "x"}}`: `rope_parameters: sliding_attention: rope_scaling: type "x" is not supported`,
		`"num_hidden_layers": 1, "layer_types":["x"]`:             `layer_types: "x" is not supported`,
	} {
		text := gemmaConfig[:len(gemmaConfig)-1] + "," + changed + "}"
		_, err := New("gemma3_text", []byte(text))
		require.EqualError(t, err, "config.json: "+want)
		_, err = New("gemma3", []byte(`{"text_config":`+text+`}`))
		require.EqualError(t, err, "config.json: text_config: "+want)
	}
	_, err := New("gemma3", []byte(`{"text_config": {"hidden_size": "x"}}`))
	require.EqualError(t, err, "config.json: text_config.hidden_size: is a string, want a whole number")
}
