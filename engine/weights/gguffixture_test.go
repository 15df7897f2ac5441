package weights

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// A ggufFile assembles a GGUF file from parts that may each be wrong.
type ggufFile struct {
	magic     string
	version   uint32
	nTensors  any // uint64, or nil for the number of infos
	nKeys     any
	keys      [][]byte
	infos     [][]byte
	alignment int // of the start of the data
	data      []byte
}

func u32(n uint32) []byte  { return binary.LittleEndian.AppendUint32(nil, n) }
func u64(n uint64) []byte  { return binary.LittleEndian.AppendUint64(nil, n) }
func str(s string) []byte  { return append(u64(uint64(len(s))), s...) }
func f32(x float32) []byte { return u32(math.Float32bits(x)) }

// key is a key with a value of a fixed-size type or a string.
func key(name string, kind uint32, value []byte) []byte {
	return slices.Concat(str(name), u32(kind), value)
}

// list is a key with an array.
func list(name string, kind uint32, values ...[]byte) []byte {
	return slices.Concat(str(name), u32(ggufArray), u32(kind), u64(uint64(len(values))), slices.Concat(values...))
}

func text(name, value string) []byte { return key(name, ggufString, str(value)) }
func number(name string, n int) []byte {
	return key(name, ggufUint32, u32(uint32(n)))
}

// info is a tensor info, its dimensions innermost first as GGUF has them.
func info(name string, kind uint32, offset uint64, dims ...uint64) []byte {
	b := append(str(name), u32(uint32(len(dims)))...)
	for _, d := range dims {
		b = append(b, u64(d)...)
	}
	return slices.Concat(b, u32(kind), u64(offset))
}

func (f ggufFile) bytes() []byte {
	count := func(n any, list [][]byte) []byte {
		if n == nil {
			return u64(uint64(len(list)))
		}
		return u64(n.(uint64))
	}
	b := slices.Concat([]byte(f.magic), u32(f.version), count(f.nTensors, f.infos), count(f.nKeys, f.keys),
		slices.Concat(f.keys...), slices.Concat(f.infos...))
	for len(b)%max(f.alignment, 1) != 0 {
		b = append(b, 0)
	}
	return append(b, f.data...)
}

// A tinyLlama is a two-layer llama model with random weights. kinds gives the
// GGML type of a tensor by name; others are F32 if vectors and F16 if not.
type tinyLlama struct {
	kinds  map[string]uint32
	extra  [][]byte          // further keys, replacing those of the same name
	drop   []string          // tensors to leave out
	vector func(int) float32 // values of F32 vectors
	bias   bool
	output bool
	freqs  []float32
}

const (
	tinyHidden, tinyInter, tinyHeads, tinyKV, tinyVocab = 64, 96, 4, 2, 16
	tinyHead                                            = tinyHidden / tinyHeads
)

// tinyTensor is a tensor of a tinyLlama with its data.
type tinyTensor struct {
	name string
	kind uint32
	dims []uint64 // innermost first
	data []byte
}

func (m tinyLlama) tensors() []tinyTensor {
	type shape struct {
		name string
		dims []uint64
	}
	shapes := []shape{{"token_embd.weight", []uint64{tinyHidden, tinyVocab}}}
	for i := range 2 {
		p := fmt.Sprintf("blk.%d.", i)
		linear := func(name string, in, out uint64) {
			shapes = append(shapes, shape{p + name + ".weight", []uint64{in, out}})
			if m.bias {
				shapes = append(shapes, shape{p + name + ".bias", []uint64{out}})
			}
		}
		shapes = append(shapes, shape{p + "attn_norm.weight", []uint64{tinyHidden}})
		linear("attn_q", tinyHidden, tinyHeads*tinyHead)
		linear("attn_k", tinyHidden, tinyKV*tinyHead)
		linear("attn_v", tinyHidden, tinyKV*tinyHead)
		linear("attn_output", tinyHeads*tinyHead, tinyHidden)
		shapes = append(shapes, shape{p + "ffn_norm.weight", []uint64{tinyHidden}})
		linear("ffn_gate", tinyHidden, tinyInter)
		linear("ffn_up", tinyHidden, tinyInter)
		linear("ffn_down", tinyInter, tinyHidden)
	}
	shapes = append(shapes, shape{"output_norm.weight", []uint64{tinyHidden}})
	if m.output {
		shapes = append(shapes, shape{"output.weight", []uint64{tinyHidden, tinyVocab}})
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var out []tinyTensor
	for _, s := range shapes {
		if !slices.Contains(m.drop, s.name) {
			out = append(out, m.fill(rng, s.name, s.dims))
		}
	}
	if m.freqs != nil {
		t := tinyTensor{name: "rope_freqs.weight", dims: []uint64{uint64(len(m.freqs))}}
		for _, x := range m.freqs {
			t.data = append(t.data, f32(x)...)
		}
		out = append(out, t)
	}
	return out
}

// fill makes the random data of a tensor.
func (m tinyLlama) fill(rng *rand.Rand, name string, dims []uint64) tinyTensor {
	kind, given := m.kinds[name]
	if !given && len(dims) == 2 {
		kind = 1
	}
	n := dims[0]
	if len(dims) == 2 {
		n *= dims[1]
	}
	t := tinyTensor{name: name, kind: kind, dims: dims}
	half := func() []byte { // a float16 from 2^-6 to 2^2, either sign
		return binary.LittleEndian.AppendUint16(nil, uint16(rng.IntN(2)<<15|(9+rng.IntN(8))<<10|rng.IntN(1<<10)))
	}
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	for i := uint64(0); i < n; {
		switch kind {
		case 0:
			x := float32(rng.IntN(4096)-2048) / 256
			if m.vector != nil {
				x = m.vector(int(i))
			}
			t.data = append(t.data, f32(x)...)
			i++
		case 1, 30:
			t.data = append(t.data, half()...)
			i++
		case 2:
			t.data = append(append(t.data, half()...), random(16)...)
			i += 32
		case 3:
			t.data = append(append(append(t.data, half()...), half()...), random(16)...)
			i += 32
		case 8:
			t.data = append(append(t.data, half()...), random(32)...)
			i += 32
		}
	}
	return t
}

// tinyKeys are the metadata of a tinyLlama.
func tinyKeys() [][]byte {
	var tokens, types [][]byte
	for i := range tinyVocab - 3 {
		tokens, types = append(tokens, str(string(rune('a'+i)))), append(types, u32(tokenNormal))
	}
	tokens = append(tokens, str("ab"), str("<s>"), str("</s>"))
	types = append(types, u32(tokenNormal), u32(tokenControl), u32(tokenControl))
	return [][]byte{
		text("general.architecture", "llama"),
		number("llama.block_count", 2),
		number("llama.context_length", 128),
		number("llama.embedding_length", tinyHidden),
		number("llama.feed_forward_length", tinyInter),
		number("llama.attention.head_count", tinyHeads),
		number("llama.attention.head_count_kv", tinyKV),
		key("llama.attention.layer_norm_rms_epsilon", ggufFloat32, f32(1e-5)),
		text("tokenizer.ggml.model", "gpt2"),
		text("tokenizer.ggml.pre", "gpt-2"),
		list("tokenizer.ggml.tokens", ggufString, tokens...),
		list("tokenizer.ggml.token_type", ggufInt32, types...),
		list("tokenizer.ggml.merges", ggufString, str("a b")),
		number("tokenizer.ggml.bos_token_id", tinyVocab-2),
		number("tokenizer.ggml.eos_token_id", tinyVocab-1),
		text("tokenizer.chat_template", "{{ messages }}"),
	}
}

// keyName reads the name of a key back.
func keyName(key []byte) string {
	return string(key[8 : 8+binary.LittleEndian.Uint64(key)])
}

// withKeys replaces keys of the same name; one without a value only deletes.
func (f ggufFile) withKeys(keys ...[]byte) ggufFile {
	f.keys = slices.Clone(f.keys)
	for _, k := range keys {
		f.keys = slices.DeleteFunc(f.keys, func(old []byte) bool { return keyName(old) == keyName(k) })
		if len(k) > 8+len(keyName(k)) {
			f.keys = append(f.keys, k)
		}
	}
	return f
}

func (m tinyLlama) file() ggufFile {
	return ggufFile{magic: "GGUF", version: 3, alignment: 32, keys: tinyKeys()}.withKeys(m.extra...).withTensors(m.tensors())
}

// withTensors appends tensors and their data, each at the next multiple of 32.
func (f ggufFile) withTensors(tensors []tinyTensor) ggufFile {
	for _, t := range tensors {
		f.infos = append(f.infos, info(t.name, t.kind, uint64(len(f.data)), t.dims...))
		f.data = append(f.data, t.data...)
		for len(f.data)%32 != 0 {
			f.data = append(f.data, 0)
		}
	}
	return f
}
