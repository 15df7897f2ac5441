package weights

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A tinyGemma is a seven-layer gemma3 model with random weights.
type tinyGemma struct {
	extra [][]byte            // further keys, replacing those of the same name
	kinds map[string]uint32   // GGML types by name; others are F32 if vectors and F16 if not
	norm  func(i int) float32 // elements of norms
	edit  func(t []tinyTensor) []tinyTensor
}

const gemmaHeadDim = 32 // not the hidden size over the heads

func (m tinyGemma) tensors() []tinyTensor {
	rng := rand.New(rand.NewPCG(7, 8))
	fixture := tinyLlama{kinds: m.kinds, vector: m.norm}
	var all []tinyTensor
	add := func(name string, dims ...uint64) { all = append(all, fixture.fill(rng, name+".weight", dims)) }
	add("token_embd", tinyHidden, tinyVocab)
	for i := range 7 {
		p := fmt.Sprintf("blk.%d.", i)
		add(p+"attn_norm", tinyHidden)
		add(p+"attn_q", tinyHidden, tinyHeads*gemmaHeadDim)
		add(p+"attn_k", tinyHidden, tinyKV*gemmaHeadDim)
		add(p+"attn_v", tinyHidden, tinyKV*gemmaHeadDim)
		add(p+"attn_output", tinyHeads*gemmaHeadDim, tinyHidden)
		add(p+"attn_q_norm", gemmaHeadDim)
		add(p+"attn_k_norm", gemmaHeadDim)
		add(p+"post_attention_norm", tinyHidden)
		add(p+"ffn_norm", tinyHidden)
		add(p+"ffn_gate", tinyHidden, tinyInter)
		add(p+"ffn_up", tinyHidden, tinyInter)
		add(p+"ffn_down", tinyInter, tinyHidden)
		add(p+"post_ffw_norm", tinyHidden)
	}
	add("output_norm", tinyHidden)
	if m.edit != nil {
		all = m.edit(all)
	}
	return all
}

func (m tinyGemma) file() ggufFile {
	var keys [][]byte
	for _, k := range tinyKeys() {
		if !strings.HasPrefix(keyName(k), "llama.") {
			keys = append(keys, k)
		}
	}
	const g = "gemma3."
	return ggufFile{magic: "GGUF", version: 3, alignment: 32, keys: keys}.withKeys(
		text("general.architecture", "gemma3"),
		number(g+"block_count", 7),
		number(g+"context_length", 128),
		number(g+"embedding_length", tinyHidden),
		number(g+"feed_forward_length", tinyInter),
		number(g+"attention.head_count", tinyHeads),
		number(g+"attention.head_count_kv", tinyKV),
		number(g+"attention.key_length", gemmaHeadDim),
		number(g+"attention.value_length", gemmaHeadDim),
		number(g+"attention.sliding_window", 16),
		key(g+"attention.layer_norm_rms_epsilon", ggufFloat32, f32(1e-6)),
	).withKeys(m.extra...).withTensors(m.tensors())
}

// gemmaName translates the names of the tiny model's tensors.
var gemmaName = strings.NewReplacer("token_embd", "model.embed_tokens", "output_norm", "model.norm", "blk.", "model.layers.",
	"attn_norm", "input_layernorm", "attn_q_norm", "self_attn.q_norm", "attn_k_norm", "self_attn.k_norm",
	"post_attention_norm", "post_attention_layernorm", "ffn_norm", "pre_feedforward_layernorm",
	"post_ffw_norm", "post_feedforward_layernorm", "attn_q", "self_attn.q_proj", "attn_k", "self_attn.k_proj",
	"attn_v", "self_attn.v_proj", "attn_output", "self_attn.o_proj", "ffn_gate", "mlp.gate_proj", "ffn_up", "mlp.up_proj",
	"ffn_down", "mlp.down_proj", "output.", "lm_head.")

func TestGemma3KeepsItsValues(t *testing.T) {
	quantized := map[string]uint32{}
	for i, x := range (tinyGemma{}).tensors() {
		if len(x.dims) == 2 {
			quantized[x.name] = []uint32{2, 3, 8}[i%3]
		}
	}
	brain := func(i int) float32 { // 1 + w, w as bfloat16 has it
		return 1 + math.Float32frombits(math.Float32bits(float32(i-30)/300)&^0xffff)
	}
	for name, c := range map[string]struct {
		model  tinyGemma
		vector Dtype
	}{
		"F16":        {tinyGemma{norm: brain}, F16},
		"packed":     {tinyGemma{norm: brain, kinds: quantized}, F16},
		"fine norms": {tinyGemma{norm: func(i int) float32 { return 1 + float32(i+1)/30 }, kinds: quantized}, F32},
		"an output":  {tinyGemma{norm: brain, edit: withOutput}, F16},
		"wide norms": {tinyGemma{norm: func(i int) float32 { return float32(i*i) * 100 }}, F32},
	} {
		t.Run(name, func(t *testing.T) {
			dest, err := importTiny(t, c.model.file(), 1<<30)
			require.NoError(t, err)
			m, err := Open(dest)
			require.NoError(t, err)
			config, err := ReadConfig(dest)
			require.NoError(t, err)
			for _, x := range c.model.tensors() {
				want, got := x.values(), stored(t, m, config.Quantization, gemmaName.Replace(x.name))
				if len(x.dims) == 1 {
					tensor, _ := m.Tensor(gemmaName.Replace(x.name))
					require.Equal(t, c.vector, tensor.Dtype, x.name)
					for i := range want {
						want[i]-- // the graph adds it
					}
				}
				require.Equal(t, want, got, x.name)
			}
			require.Equal(t, fmt.Sprint(c.model.edit == nil), member(t, dest, configFile, "tie_word_embeddings"))
			require.NoError(t, m.Close())
		})
	}
}

// withOutput gives the model a head of its own.
func withOutput(all []tinyTensor) []tinyTensor {
	return append(all, tinyLlama{}.fill(rand.New(rand.NewPCG(9, 9)), "output.weight", []uint64{tinyHidden, tinyVocab}))
}

func TestGemma3Config(t *testing.T) {
	const g = "gemma3."
	float := func(name string, x float32) []byte { return key(g+name, ggufFloat32, f32(x)) }
	for name, c := range map[string]struct {
		extra [][]byte
		want  map[string]any
	}{
		"the defaults of llama.cpp": {nil, map[string]any{
			"model_type": "gemma3_text", "hidden_size": 64, "num_hidden_layers": 7, "num_attention_heads": 4,
			"num_key_value_heads": 2, "head_dim": 32, "intermediate_size": 96, "vocab_size": 16, "rms_norm_eps": 1e-6,
			"rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": nil, "query_pre_attn_scalar": 32,
			"sliding_window": 16, "sliding_window_pattern": 6, "max_position_embeddings": 128,
			"hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": true, "attention_bias": false,
			"architectures": []string{"Gemma3ForCausalLM"}, "layer_types": []string{"sliding_attention", "sliding_attention",
				"sliding_attention", "sliding_attention", "sliding_attention", "full_attention", "sliding_attention"}}},
		"all given": {[][]byte{float("rope.freq_base", 5e5), float("rope.freq_base_swa", 2e4), text(g+"rope.scaling.type", "linear"),
			float("rope.scaling.factor", 8), number(g+"attention.sliding_window_pattern", 3), float("final_logit_softcapping", 0)},
			map[string]any{"rope_theta": 5e5, "rope_local_base_freq": 2e4, "rope_scaling": map[string]any{"rope_type": "linear", "factor": 8},
				"sliding_window_pattern": 3, "layer_types": []string{"sliding_attention", "sliding_attention", "full_attention",
					"sliding_attention", "sliding_attention", "full_attention", "sliding_attention"}}},
	} {
		t.Run(name, func(t *testing.T) {
			dest, err := importTiny(t, tinyGemma{extra: c.extra}.file(), 1<<30)
			require.NoError(t, err)
			for member_, want := range c.want {
				text, err := json.Marshal(want)
				require.NoError(t, err)
				require.JSONEq(t, string(text), member(t, dest, configFile, member_), member_)
			}
		})
	}
	require.Equal(t, 32, queryScalar(modelSizes{layers: 48, hidden: 640, heads: 4, headDim: 32}))
	require.Equal(t, 168, queryScalar(modelSizes{layers: 62, hidden: 5376, heads: 32, headDim: 128}), "27B")
}

func TestGemma3Refuses(t *testing.T) {
	const g = "gemma3."
	with := func(extra ...[]byte) tinyGemma { return tinyGemma{extra: extra} }
	float := func(name string, x float32) []byte { return key(g+name, ggufFloat32, f32(x)) }
	without := func(name string) tinyGemma {
		return tinyGemma{edit: func(all []tinyTensor) []tinyTensor {
			return slices.DeleteFunc(all, func(x tinyTensor) bool { return x.name == name })
		}}
	}
	for want, model := range map[string]tinyGemma{
		`key "gemma3.attention.sliding_window": is missing`:                         with(str(g + "attention.sliding_window")),
		`key "gemma3.attention.sliding_window": is 0, want 1 to 2147483647`:         with(number(g+"attention.sliding_window", 0)),
		`key "gemma3.attention.sliding_window_pattern": is 0, want 1 to 2147483647`: with(number(g+"attention.sliding_window_pattern", 0)),
		`key "gemma3.attention.layer_norm_rms_epsilon": is missing`:                 with(str(g + "attention.layer_norm_rms_epsilon")),
		`key "gemma3.block_count": is 10001, at most 10000 are read`:                with(number(g+"block_count", 10001)),
		`key "gemma3.rope.freq_base": is 0, want a positive float32`:                with(float("rope.freq_base", 0)),
		`key "gemma3.rope.freq_base_swa": is -1, want a positive float32`:           with(float("rope.freq_base_swa", -1)),
		`key "gemma3.rope.scaling.factor": is 0, want a positive float32`:           with(float("rope.scaling.factor", 0)),
		`key "gemma3.final_logit_softcapping": is 30, which is not supported`:       with(float("final_logit_softcapping", 30)),
		`key "gemma3.attn_logit_softcapping": is a string, want a float`:            with(text(g+"attn_logit_softcapping", "")),
		`tensor "blk.3.attn_k_norm.weight": is missing`:                             without("blk.3.attn_k_norm.weight"),
		`tensor "blk.0.attn_norm.weight": is F16, want F32`:                         {kinds: map[string]uint32{"blk.0.attn_norm.weight": 1}},
		`tensor "blk.6.post_ffw_norm.weight": is Q8_0, want F32`:                    {kinds: map[string]uint32{"blk.6.post_ffw_norm.weight": 8}},
	} {
		_, err := importTiny(t, model.file(), 1<<30)
		require.EqualError(t, err, "m.gguf: "+want)
	}
}
