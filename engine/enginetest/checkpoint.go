package enginetest

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"harmonyd/engine/weights"
)

// Checkpoint describes a tiny model folder with random weights. The same
// description gives the same bytes on every machine, so that reference scores
// computed elsewhere hold for it. The zero value of a field means what the
// comment says.
type Checkpoint struct {
	ModelType    string // llama; gemma3_text and gemma3 too have tensors of their own
	Hidden       int    // 64
	Intermediate int    // 96
	Layers       int    // 2
	Heads        int    // 4
	KVHeads      int    // 2
	HeadDim      int    // Hidden/Heads
	Vocab        int    // 96
	Context      int    // 4096
	Tied         bool
	// Shards is the number of files that hold the weights: 1.
	Shards int
	// AttentionBias and MLPBias give the projections a bias.
	AttentionBias, MLPBias bool
	RoPEScaling            map[string]any
	// Window and Pattern are Gemma's: every Pattern-th layer sees more than Window
	// tokens.
	Window  int // 32
	Pattern int // 3
	// Bits and Group pack all matrices; 0 leaves them plain.
	Bits, Group int
	// Dtype is that of plain weights and of scales: F32.
	Dtype weights.Dtype
	EOS   []int32
	Seed  uint64
	// Config holds members of config.json that override the others; nil leaves
	// one out.
	Config map[string]any
	// Edit may change the list of tensors before they are written, to break them.
	Edit func([]weights.Tensor) []weights.Tensor
}

func (c *Checkpoint) fill() {
	for _, f := range []struct {
		v         *int
		otherwise int
	}{
		{&c.Hidden, 64}, {&c.Intermediate, 96}, {&c.Layers, 2}, {&c.Heads, 4}, {&c.KVHeads, 2},
		{&c.Vocab, 96}, {&c.Context, 4096}, {&c.Window, 32}, {&c.Pattern, 3},
	} {
		if *f.v == 0 {
			*f.v = f.otherwise
		}
	}
	if c.HeadDim == 0 {
		c.HeadDim = c.Hidden / c.Heads
	}
	if c.ModelType == "" {
		c.ModelType = "llama"
	}
	if c.Dtype == "" {
		c.Dtype = weights.F32
	}
}

// Write writes the folder: config.json, the weights and a tokenizer whose tokens
// are t0, t1 and so on.
func (c Checkpoint) Write(folder string) error {
	c.fill()
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for name, content := range map[string]any{
		"config.json": c.config(), "tokenizer.json": c.tokenizer(),
	} {
		text, err := json.MarshalIndent(content, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, name), text, 0o644); err != nil {
			return err
		}
	}
	tensors := c.tensors()
	if c.Edit != nil {
		tensors = c.Edit(tensors)
	}
	if c.Shards < 2 {
		return c.writeFile(filepath.Join(folder, "model.safetensors"), tensors)
	}
	return c.writeShards(folder, tensors)
}

// writeShards deals the tensors out to the files and writes their index.
func (c *Checkpoint) writeShards(folder string, tensors []weights.Tensor) error {
	files := map[string]string{}
	for n := range c.Shards {
		name := fmt.Sprintf("model-%05d-of-%05d.safetensors", n+1, c.Shards)
		var mine []weights.Tensor
		for i := n; i < len(tensors); i += c.Shards {
			files[tensors[i].Name] = name
			mine = append(mine, tensors[i])
		}
		if err := c.writeFile(filepath.Join(folder, name), mine); err != nil {
			return err
		}
	}
	index, err := json.Marshal(map[string]any{"weight_map": files})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, "model.safetensors.index.json"), index, 0o644)
}

func (c *Checkpoint) writeFile(path string, tensors []weights.Tensor) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := weights.Write(f, map[string]string{"format": "mlx"}, tensors, c.data); err != nil {
		return err
	}
	return f.Close()
}

func (c *Checkpoint) config() map[string]any {
	m := c.members()
	if c.ModelType == "gemma3" {
		m = map[string]any{"model_type": c.ModelType, "text_config": m, "vocab_size": c.Vocab, "eos_token_id": c.EOS}
	}
	if c.Bits > 0 {
		m["quantization"] = map[string]any{"bits": c.Bits, "group_size": c.Group}
	}
	for k, v := range c.Config {
		m[k] = v
		if v == nil {
			delete(m, k)
		}
	}
	return m
}

// members describe the text model.
func (c *Checkpoint) members() map[string]any {
	m := map[string]any{
		"model_type": c.ModelType, "hidden_size": c.Hidden, "intermediate_size": c.Intermediate,
		"num_hidden_layers": c.Layers, "num_attention_heads": c.Heads, "num_key_value_heads": c.KVHeads,
		"head_dim": c.HeadDim, "vocab_size": c.Vocab, "max_position_embeddings": c.Context,
		"rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": c.Tied,
		"attention_bias": c.AttentionBias, "mlp_bias": c.MLPBias, "eos_token_id": c.EOS,
	}
	if c.RoPEScaling != nil {
		m["rope_scaling"] = c.RoPEScaling
	}
	if c.gemma() {
		m["rope_theta"], m["rope_local_base_freq"], m["query_pre_attn_scalar"] = 1e6, 10000.0, 24
		m["sliding_window"], m["sliding_window_pattern"] = c.Window, c.Pattern
		m["hidden_activation"] = "gelu_pytorch_tanh"
	}
	return m
}

func (c *Checkpoint) gemma() bool { return strings.HasPrefix(c.ModelType, "gemma3") }

func (c *Checkpoint) tokenizer() map[string]any {
	vocab := map[string]int{}
	for i := range c.Vocab {
		vocab["t"+strconv.Itoa(i)] = i
	}
	return map[string]any{
		"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": []any{}, "normalizer": nil,
		"pre_tokenizer":  map[string]any{"type": "WhitespaceSplit"},
		"post_processor": nil, "decoder": nil,
		"model": map[string]any{"type": "WordLevel", "vocab": vocab, "unk_token": "t0"},
	}
}

// tensors lists what the folder holds.
func (c *Checkpoint) tensors() []weights.Tensor {
	var all []weights.Tensor
	prefix := ""
	if c.ModelType == "gemma3" {
		prefix = "language_model."
	}
	add := func(name string, dtype weights.Dtype, shape ...int) {
		all = append(all, weights.Tensor{Name: prefix + name, Dtype: dtype, Shape: shape})
	}
	matrix := func(path string, out, in int, bias bool) {
		if c.Bits == 0 {
			add(path+".weight", c.Dtype, out, in)
		} else {
			add(path+".weight", weights.U32, out, in*c.Bits/32)
			add(path+".scales", c.Dtype, out, in/c.Group)
			add(path+".biases", c.Dtype, out, in/c.Group)
		}
		if bias {
			add(path+".bias", c.Dtype, out)
		}
	}
	matrix("model.embed_tokens", c.Vocab, c.Hidden, false)
	add("model.norm.weight", c.Dtype, c.Hidden)
	if !c.Tied {
		matrix("lm_head", c.Vocab, c.Hidden, false)
	}
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	for i := range c.Layers {
		l := fmt.Sprintf("model.layers.%d.", i)
		add(l+"input_layernorm.weight", c.Dtype, c.Hidden)
		add(l+"post_attention_layernorm.weight", c.Dtype, c.Hidden)
		if c.gemma() {
			add(l+"pre_feedforward_layernorm.weight", c.Dtype, c.Hidden)
			add(l+"post_feedforward_layernorm.weight", c.Dtype, c.Hidden)
			add(l+"self_attn.q_norm.weight", c.Dtype, c.HeadDim)
			add(l+"self_attn.k_norm.weight", c.Dtype, c.HeadDim)
		}
		matrix(l+"self_attn.q_proj", q, c.Hidden, c.AttentionBias)
		matrix(l+"self_attn.k_proj", kv, c.Hidden, c.AttentionBias)
		matrix(l+"self_attn.v_proj", kv, c.Hidden, c.AttentionBias)
		matrix(l+"self_attn.o_proj", c.Hidden, q, c.AttentionBias)
		matrix(l+"mlp.gate_proj", c.Intermediate, c.Hidden, c.MLPBias)
		matrix(l+"mlp.up_proj", c.Intermediate, c.Hidden, c.MLPBias)
		matrix(l+"mlp.down_proj", c.Hidden, c.Intermediate, c.MLPBias)
	}
	return all
}

// data writes the random content of one tensor. Values are small multiples of
// powers of two, which every float type holds exactly.
func (c *Checkpoint) data(t weights.Tensor, w io.Writer) error {
	state := c.Seed
	for _, b := range []byte(t.Name) {
		state = splitmix(state ^ uint64(b))
	}
	width := t.Dtype.Bits() / 8
	buf := make([]byte, 0, t.Bytes)
	for range t.Bytes / int64(width) {
		state = splitmix(state)
		buf = c.appendValue(buf, t, state)
	}
	_, err := w.Write(buf)
	return err
}

func (c *Checkpoint) appendValue(dst []byte, t weights.Tensor, random uint64) []byte {
	if t.Dtype == weights.U32 {
		return binary.LittleEndian.AppendUint32(dst, uint32(random))
	}
	v := float64(int(random%129)-64) / 64 // -1 to 1
	switch {
	case len(t.Shape) == 1 && filepath.Ext(t.Name) == ".bias":
		v /= 8
	case len(t.Shape) == 1 && c.gemma(): // a norm to which the graph adds 1
		v /= 8
	case len(t.Shape) == 1: // a norm
		v = 1 + v/8
	case filepath.Ext(t.Name) == ".scales":
		// Three bits of mantissa, so that a product with any element is exact.
		v = math.Ldexp(1+float64(random%8)/8, -c.Bits-2)
	case filepath.Ext(t.Name) == ".biases":
		v = -math.Ldexp(1+float64(random%8)/8, -3)
	case !strings.HasSuffix(t.Name, "model.embed_tokens.weight"):
		v /= 4
	}
	if c.gemma() && strings.Contains(t.Name, "embed_tokens") {
		v /= 8 // the graph scales it by 8; the layers should decide what comes next
	}
	switch t.Dtype {
	case weights.F16:
		return binary.LittleEndian.AppendUint16(dst, half(v))
	case weights.BF16:
		return binary.LittleEndian.AppendUint16(dst, uint16(math.Float32bits(float32(v))>>16))
	}
	dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(float32(v)))
	// Types that no model is made of only have to fill their place.
	return append(dst, make([]byte, max(0, t.Dtype.Bits()/8-4))...)[:len(dst)-4+t.Dtype.Bits()/8]
}

// half is the float16 of a value that one holds exactly.
func half(v float64) uint16 {
	if v == 0 {
		return 0
	}
	b := math.Float32bits(float32(v))
	return uint16(b>>16&0x8000) | uint16((int(b>>23&255)-127+15)<<10) | uint16(b>>13&0x3ff)
}

func splitmix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
