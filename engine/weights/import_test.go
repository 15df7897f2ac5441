package weights

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// importTiny imports a model into a new folder, with shards of at most
// shardBytes.
func importTiny(t *testing.T, f ggufFile, shardBytes int64) (string, error) {
	t.Helper()
	parent := t.TempDir()
	dest := filepath.Join(parent, "models", "tiny")
	folder := &memFolder{files: map[string][]byte{"m.gguf": f.bytes()}}
	err := importGGUF(t.Context(), folder, "m.gguf", dest, shardBytes, nil)
	require.Zero(t, folder.open)
	if err != nil {
		requireNothingAt(t, dest)
	}
	return dest, err
}

// requireNothingAt checks that an import that stopped left no trace.
func requireNothingAt(t *testing.T, dest string) {
	t.Helper()
	_, err := os.Stat(dest)
	require.ErrorIs(t, err, os.ErrNotExist)
	entries, err := os.ReadDir(filepath.Dir(dest))
	if !errors.Is(err, os.ErrNotExist) {
		require.NoError(t, err)
		require.Empty(t, entries, "left behind")
	}
}

// values returns what the blocks of a GGUF tensor mean, straight from the
// definition of their types.
func (x tinyTensor) values() []float64 {
	half := func(b []byte) float64 { return float64(float16(binary.LittleEndian.Uint16(b))) }
	var out []float64
	for b := x.data; len(b) > 0; {
		switch x.kind {
		case 0:
			out = append(out, float64(math.Float32frombits(binary.LittleEndian.Uint32(b))))
			b = b[4:]
		case 1:
			out = append(out, half(b))
			b = b[2:]
		case 30:
			out = append(out, float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(b))<<16)))
			b = b[2:]
		case 2, 3:
			d, m := half(b), 0.0
			if x.kind == 3 {
				m, b = half(b[2:]), b[4:]
			} else {
				m, b = -8*d, b[2:]
			}
			for i := range 32 {
				out = append(out, d*float64(b[i%16]>>(i/16*4)&0xf)+m)
			}
			b = b[16:]
		case 8:
			for i := range 32 {
				out = append(out, half(b)*float64(int8(b[2+i])))
			}
			b = b[34:]
		}
	}
	return out
}

// stored returns what the tensors of a module in a model folder mean to MLX,
// parameters coming from its config.
func stored(t *testing.T, m *Model, q *Quantization, name string) []float64 {
	t.Helper()
	load := func(name string) (Tensor, []byte) {
		x, ok := m.Tensor(name)
		require.True(t, ok, name)
		data := make([]byte, x.Bytes)
		require.NoError(t, m.ReadTensor(x, data))
		return x, data
	}
	x, data := load(name)
	if x.Dtype != U32 {
		kind := map[Dtype]uint32{F32: 0, F16: 1, BF16: 30}[x.Dtype]
		return tinyTensor{kind: kind, data: data}.values()
	}
	path := strings.TrimSuffix(name, ".weight")
	p, quantized, _ := q.For(path)
	require.True(t, quantized)
	require.Equal(t, 32, p.GroupSize)
	_, scales := load(path + ".scales")
	_, biases := load(path + ".biases")
	var out []float64
	for i := range len(data) * 8 / p.Bits {
		word := binary.LittleEndian.Uint32(data[i*p.Bits/32*4:])
		v := word >> (i * p.Bits % 32) & (1<<p.Bits - 1)
		half := func(b []byte) float64 { return float64(float16(binary.LittleEndian.Uint16(b[i/32*2:]))) }
		out = append(out, half(scales)*float64(v)+half(biases))
	}
	return out
}

// hfName translates the names of the tiny model's tensors.
var hfName = strings.NewReplacer("token_embd", "model.embed_tokens", "output_norm", "model.norm", "blk.", "model.layers.",
	"attn_norm", "input_layernorm", "ffn_norm", "post_attention_layernorm", "attn_q", "self_attn.q_proj",
	"attn_k", "self_attn.k_proj", "attn_v", "self_attn.v_proj", "attn_output", "self_attn.o_proj",
	"ffn_gate", "mlp.gate_proj", "ffn_up", "mlp.up_proj", "ffn_down", "mlp.down_proj", "output.", "lm_head.")

// rotaryRow is the row of a GGUF query or key, heads of dim rows, that holds row i
// of the folder's:
// within a head, GGUF puts element j of the first half at 2j and that of the
// second at 2j+1.
func rotaryRow(i, dim int) int {
	head, within := i/dim, i%dim
	if within < dim/2 {
		return head*dim + 2*within
	}
	return head*dim + 2*(within-dim/2) + 1
}

func TestImportChangesNoValue(t *testing.T) {
	all := func(kind uint32) map[string]uint32 {
		kinds := map[string]uint32{}
		for _, x := range (tinyLlama{output: true}).tensors() {
			if len(x.dims) == 2 {
				kinds[x.name] = kind
			}
		}
		return kinds
	}
	mixed := all(3)
	mixed["token_embd.weight"], mixed["blk.1.attn_k.weight"] = 8, 8
	mixed["blk.0.ffn_down.weight"], mixed["blk.1.attn_q.weight"] = 2, 1
	for name, c := range map[string]struct {
		model  tinyLlama
		vector Dtype // of norms and biases
		shard  int64
	}{
		"Q4_0":                  {tinyLlama{kinds: all(2)}, F16, 1 << 30},
		"Q4_1":                  {tinyLlama{kinds: all(3), output: true}, F16, 1 << 30},
		"Q8_0":                  {tinyLlama{kinds: all(8), bias: true}, F16, 1 << 30},
		"mixed":                 {tinyLlama{kinds: mixed, bias: true, output: true}, F16, 1 << 30},
		"mixed shards":          {tinyLlama{kinds: mixed, bias: true, output: true}, F16, 20_000},
		"F16":                   {tinyLlama{bias: true}, F16, 1 << 30},
		"BF16":                  {tinyLlama{kinds: all(30), vector: func(i int) float32 { return float32(i) }}, BF16, 1 << 30},
		"F32":                   {tinyLlama{kinds: all(0), bias: true}, F32, 1 << 30},
		"vectors beyond F16":    {tinyLlama{kinds: all(2), vector: func(i int) float32 { return float32(i) * 1e-7 }}, F32, 1 << 30},
		"one element too large": {tinyLlama{vector: func(i int) float32 { return float32(i/63) * 65520 }}, F32, 1 << 30},
	} {
		t.Run(name, func(t *testing.T) {
			dest, err := importTiny(t, c.model.file(), c.shard)
			require.NoError(t, err)
			m, err := Open(dest)
			require.NoError(t, err)
			config, err := ReadConfig(dest)
			require.NoError(t, err)
			_, err = os.Stat(filepath.Join(dest, indexFile))
			require.Equal(t, c.shard > 20_000, os.IsNotExist(err))
			seen := 0
			for _, x := range c.model.tensors() {
				got, want := stored(t, m, config.Quantization, hfName.Replace(x.name)), x.values()
				require.Equal(t, len(want), len(got))
				width := int(x.dims[0])
				if len(x.dims) == 1 {
					width = 1
					tensor, _ := m.Tensor(hfName.Replace(x.name))
					require.Equal(t, c.vector, tensor.Dtype, x.name)
				}
				rotary := strings.Contains(x.name, "attn_q") || strings.Contains(x.name, "attn_k")
				for i := range len(want) / width {
					from := i
					if rotary {
						from = rotaryRow(i, tinyHead)
					}
					require.Equal(t, want[from*width:(from+1)*width], got[i*width:(i+1)*width], "%s row %d", x.name, i)
				}
				seen++
				if x.kind == 2 || x.kind == 3 || x.kind == 8 {
					seen += 2
				}
			}
			require.Len(t, m.Tensors, seen, "tensors that came from nowhere")
			require.NoError(t, m.Close())
		})
	}
}

// member returns the JSON text of a member of a file in a folder.
func member(t *testing.T, folder, file, key string) string {
	t.Helper()
	members, err := ReadJSON(Dir(folder), file)
	require.NoError(t, err)
	var v any
	if members[key] == nil {
		return ""
	}
	require.NoError(t, json.Unmarshal(members[key], &v))
	out, err := json.Marshal(v)
	require.NoError(t, err)
	return string(out)
}

func TestImportedConfig(t *testing.T) {
	kinds := map[string]uint32{"token_embd.weight": 8, "blk.0.attn_q.weight": 2, "blk.0.attn_v.weight": 2, "blk.1.ffn_up.weight": 2}
	dest, err := importTiny(t, tinyLlama{kinds: kinds, bias: true}.file(), 1<<30)
	require.NoError(t, err)
	for key, want := range map[string]string{
		"model_type": `"llama"`, "architectures": `["LlamaForCausalLM"]`, "hidden_size": "64", "num_hidden_layers": "2",
		"num_attention_heads": "4", "num_key_value_heads": "2", "intermediate_size": "96", "head_dim": "16", "vocab_size": "16",
		"rms_norm_eps": "0.00001", "rope_theta": "10000", "rope_scaling": "null", "tie_word_embeddings": "true",
		"attention_bias": "true", "mlp_bias": "true", "max_position_embeddings": "128", "torch_dtype": `"float16"`,
		"bos_token_id": "14", "eos_token_id": "15", "hidden_act": `"silu"`,
	} {
		require.JSONEq(t, want, member(t, dest, configFile, key), key)
	}
	var q map[string]any
	require.NoError(t, json.Unmarshal([]byte(member(t, dest, configFile, "quantization")), &q))
	require.Equal(t, 4.0, q["bits"])
	require.Equal(t, 32.0, q["group_size"])
	require.Equal(t, "affine", q["mode"])
	require.Equal(t, map[string]any{"bits": 8.0, "group_size": 32.0}, q["model.embed_tokens"])
	require.Equal(t, false, q["model.layers.1.self_attn.q_proj"])
	require.NotContains(t, q, "model.layers.0.self_attn.q_proj")
	require.NotContains(t, q, "model.norm")
	require.Equal(t, member(t, dest, configFile, "quantization"), member(t, dest, configFile, "quantization_config"))

	dest, err = importTiny(t, tinyLlama{output: true}.file(), 1<<30)
	require.NoError(t, err)
	require.Equal(t, "", member(t, dest, configFile, "quantization"))
	require.Equal(t, "false", member(t, dest, configFile, "tie_word_embeddings"))
	require.Equal(t, "false", member(t, dest, configFile, "attention_bias"))
}

// llama3Factors are the factors of Llama 3's rule as its reference code
// computes them, for a head of 16.
func llama3Factors(theta, factor float64) []float32 {
	var out []float32
	for i := range tinyHead / 2 {
		inverse := 1 / math.Pow(theta, float64(2*i)/tinyHead)
		length := 2 * math.Pi / inverse
		scaled := inverse / factor
		if length < 8192.0/4 {
			scaled = inverse
		} else if length <= 8192 {
			smooth := (8192/length - 1) / 3
			scaled = (1-smooth)*inverse/factor + smooth*inverse
		}
		out = append(out, float32(inverse/scaled))
	}
	return out
}

func TestImportedRopeScaling(t *testing.T) {
	f := func(name string, x float32) []byte { return key("llama.rope."+name, ggufFloat32, f32(x)) }
	kind := func(s string) []byte { return text("llama.rope.scaling.type", s) }
	yarn := func(extra ...[]byte) tinyLlama {
		return tinyLlama{extra: append(extra, kind("yarn"), f("scaling.factor", 4))}
	}
	for want, c := range map[string]tinyLlama{
		`null`:                              {extra: [][]byte{kind("none"), f("scaling.factor", 8)}},
		`{"rope_type":"linear","factor":2}`: {extra: [][]byte{f("scale_linear", 2)}},
		`{"rope_type":"linear","factor":4}`: {extra: [][]byte{kind("linear"), f("scaling.factor", 4)}},
		`{"rope_type":"yarn","factor":4,"original_max_position_embeddings":128}`: yarn(),
		`{"rope_type":"yarn","factor":4,"original_max_position_embeddings":32,"beta_fast":16,"beta_slow":2}`: yarn(
			number("llama.rope.scaling.original_context_length", 32), f("scaling.yarn_ext_factor", 1), f("scaling.attn_factor", 1),
			f("scaling.yarn_beta_fast", 16), f("scaling.yarn_beta_slow", 2)),
		`{"rope_type":"llama3","factor":32,"low_freq_factor":1,"high_freq_factor":4,"original_max_position_embeddings":8192}`: {
			extra: [][]byte{f("freq_base", 500000)}, freqs: llama3Factors(500000, 32)},
	} {
		dest, err := importTiny(t, c.file(), 1<<30)
		require.NoError(t, err)
		require.JSONEq(t, want, member(t, dest, configFile, "rope_scaling"))
		m, err := Open(dest)
		require.NoError(t, err)
		_, ok := m.Tensor("rope_freqs.weight")
		require.False(t, ok)
		require.NoError(t, m.Close())
	}
}

// refusals are models that cannot be imported, by the error they give.
func refusals() map[string]tinyLlama {
	with := func(extra ...[]byte) tinyLlama { return tinyLlama{extra: extra} }
	without := func(name string) tinyLlama { return with(str(name)) }
	number64 := func(name string, n uint64) []byte { return key(name, ggufUint64, u64(n)) }
	float := func(name string, x float32) []byte { return key(name, ggufFloat32, f32(x)) }
	const l = "llama."
	large := func(kind uint32, d uint16) tinyLlama {
		return tinyLlama{kinds: map[string]uint32{"blk.0.attn_v.weight": kind}, drop: []string{fmt.Sprint(d)}}
	}
	factors := llama3Factors(1e6, 8)
	factors[7] = 1.5
	return map[string]tinyLlama{
		`key "general.architecture": is missing`:                                                      without("general.architecture"),
		`key "general.architecture": is a bool, want a string`:                                        with(key("general.architecture", ggufBool, []byte{1})),
		`key "general.architecture": "mamba" is not supported (gemma3, llama)`:                        with(text("general.architecture", "mamba")),
		`key "llama.block_count": is missing`:                                                         without(l + "block_count"),
		`key "llama.block_count": is 0, want 1 to 2147483647`:                                         with(number(l+"block_count", 0)),
		`key "llama.block_count": is 10001, at most 10000 are read`:                                   with(number(l+"block_count", 10001)),
		`key "llama.block_count": is a string, want an integer below 2^63`:                            with(text(l+"block_count", "2")),
		`key "llama.embedding_length": is 4294967296, want 1 to 2147483647`:                           with(number64(l+"embedding_length", 1<<32)),
		`key "llama.attention.head_count_kv": is an array, want an integer below 2^63`:                with(list(l+"attention.head_count_kv", ggufUint32, u32(2), u32(1))),
		`key "llama.attention.head_count_kv": is 3, which does not divide 4 heads`:                    with(number(l+"attention.head_count_kv", 3)),
		`key "llama.attention.head_count": 2147483647 heads of 16 overflow`:                           with(number(l+"attention.head_count", math.MaxInt32), str(l+"attention.head_count_kv"), number(l+"attention.key_length", 16)),
		`key "llama.attention.key_length": 0 is no even head dimension`:                               with(number(l+"attention.head_count", 128)),
		`key "llama.attention.key_length": 15 is no even head dimension`:                              with(number(l+"attention.key_length", 15)),
		`key "llama.attention.key_length": is -2, want at least 0`:                                    with(key(l+"attention.key_length", ggufInt32, u32(uint32(0xfffffffe)))),
		`key "llama.attention.value_length": is 8, want the head dimension 16`:                        with(number(l+"attention.value_length", 8)),
		`key "llama.rope.dimension_count": is 8, want the head dimension 16`:                          with(number(l+"rope.dimension_count", 8)),
		`key "llama.rope.dimension_count": is a float, want an integer below 2^63`:                    with(float(l+"rope.dimension_count", 8)),
		`key "llama.attention.layer_norm_rms_epsilon": is missing`:                                    without(l + "attention.layer_norm_rms_epsilon"),
		`key "llama.attention.layer_norm_rms_epsilon": is NaN, want a positive float32`:               with(float(l+"attention.layer_norm_rms_epsilon", float32(math.NaN()))),
		`key "llama.rope.freq_base": is -1, want a positive float32`:                                  with(float(l+"rope.freq_base", -1)),
		`key "llama.rope.freq_base": is the integer 7, want a float`:                                  with(number(l+"rope.freq_base", 7)),
		`key "llama.rope.scale_linear": is +Inf, want a positive float32`:                             with(float(l+"rope.scale_linear", float32(math.Inf(1)))),
		`key "llama.rope.scaling.factor": is 0, want a positive float32`:                              with(float(l+"rope.scaling.factor", 0)),
		`key "llama.rope.scaling.type": is a float, want a string`:                                    with(float(l+"rope.scaling.type", 1)),
		`key "llama.rope.scaling.type": "longrope" is not supported (none, linear, yarn)`:             with(text(l+"rope.scaling.type", "longrope"), float(l+"rope.scaling.factor", 2)),
		`key "llama.rope.scaling.original_context_length": is 0, want 1 to 2147483647`:                with(text(l+"rope.scaling.type", "yarn"), float(l+"rope.scaling.factor", 2), number(l+"rope.scaling.original_context_length", 0)),
		`key "llama.rope.scaling.yarn_beta_fast": is -1, want a positive float32`:                     with(text(l+"rope.scaling.type", "yarn"), float(l+"rope.scaling.factor", 2), float(l+"rope.scaling.yarn_beta_fast", -1)),
		`key "llama.rope.scaling.yarn_ext_factor": is 0.5, only 1 is supported`:                       with(text(l+"rope.scaling.type", "yarn"), float(l+"rope.scaling.factor", 2), float(l+"rope.scaling.yarn_ext_factor", 0.5)),
		`key "llama.rope.scaling.attn_factor": is 0, want a positive float32`:                         with(text(l+"rope.scaling.type", "yarn"), float(l+"rope.scaling.factor", 2), float(l+"rope.scaling.attn_factor", 0)),
		`key "llama.expert_count": is 8, which is not supported`:                                      with(number(l+"expert_count", 8)),
		`key "llama.expert_count": is a string, want an integer below 2^63`:                           with(text(l+"expert_count", "8")),
		`key "llama.attention.sliding_window": is 4096, which is not supported`:                       with(number(l+"attention.sliding_window", 4096)),
		`key "llama.logit_scale": is 0.5, which is not supported`:                                     with(float(l+"logit_scale", 0.5)),
		`key "llama.attention.scale": is an array, want a float`:                                      with(list(l+"attention.scale", ggufFloat32, f32(1))),
		`tensor "token_embd.weight": is missing`:                                                      {drop: []string{"token_embd.weight"}},
		`tensor "blk.1.ffn_up.weight": is missing`:                                                    {drop: []string{"blk.1.ffn_up.weight"}},
		`tensor "blk.0.attn_k.bias": is missing`:                                                      {bias: true, drop: []string{"blk.0.attn_k.bias"}},
		`tensor "blk.1.attn_q.bias": is not part of this architecture`:                                {bias: true, drop: []string{"blk.0.attn_q.bias", "blk.0.attn_k.bias", "blk.0.attn_v.bias", "blk.0.attn_output.bias"}},
		`tensor "blk.1.attn_norm.weight": is not part of this architecture`:                           with(number(l+"block_count", 1)),
		`tensor "blk.0.ffn_gate.weight": shape: [96 64], want [97 64]`:                                with(number(l+"feed_forward_length", 97)),
		`tensor "rope_freqs.weight": is F32 [7], want F32 [8]`:                                        {freqs: factors[:7]},
		`tensor "rope_freqs.weight": factor 7 is 1.5, Llama 3's rule gives 8`:                         {freqs: factors, extra: [][]byte{float(l+"rope.freq_base", 1e6)}},
		`tensor "blk.0.attn_v.weight": rows from 0: block 0: scale 65504 times -8 is not a float16`:   large(2, 0x7bff),
		`tensor "blk.0.attn_v.weight": rows from 0: block 0: scale 512 times -128 is not a float16`:   large(8, 0x6000),
		`tensor "blk.0.attn_v.weight": rows from 0: block 0: scale NaN times -8 is not a float16`:     large(2, 0x7e00),
		`tensor "blk.0.attn_v.weight": rows from 0: block 0: scale +Inf with minimum 1 is not finite`: large(3, 0x7c00),
		`tensor "output_norm.weight": is a vector of type Q8_0`:                                       {kinds: map[string]uint32{"output_norm.weight": 8}},
	}
}

func TestImportRefuses(t *testing.T) {
	for want, model := range refusals() {
		t.Run(want, func(t *testing.T) {
			f := model.file()
			if strings.Contains(want, "rows from") { // put the scale where the data are
				patchScale(&f, model)
			}
			_, err := importTiny(t, f, 1<<30)
			var format *FormatError
			require.True(t, errors.As(err, &format), "%v", err)
			require.EqualError(t, format, "m.gguf: "+want)
		})
	}
}

// patchScale overwrites the first scale of blk.0.attn_v.weight with the float16
// whose bits stand in drop.
func patchScale(f *ggufFile, m tinyLlama) {
	at := 0
	for _, x := range m.tensors() {
		if x.name == "blk.0.attn_v.weight" {
			var bits uint16
			fmt.Sscan(m.drop[0], &bits)
			binary.LittleEndian.PutUint16(f.data[at:], bits)
			binary.LittleEndian.PutUint16(f.data[at+2:], 0x3c00)
			return
		}
		at += (len(x.data) + 31) / 32 * 32
	}
}
