package weights

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A blockGolden is what the gguf package makes of some blocks of one type
// (testdata/blocks_golden.py).
type blockGolden struct {
	Blocks  []byte `json:"blocks"`
	Values  []byte `json:"values"`  // float32, of the first block
	Digests []byte `json:"digests"` // the first 8 bytes of the SHA-256 of each block's values
}

func readBlocks(t *testing.T) map[string]blockGolden {
	t.Helper()
	f, err := os.Open("testdata/blocks.json.gz")
	require.NoError(t, err)
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	require.NoError(t, err)
	var golden struct {
		Versions map[string]string      `json:"versions"`
		Types    map[string]blockGolden `json:"types"`
	}
	require.NoError(t, json.NewDecoder(unzipped).Decode(&golden))
	require.Equal(t, map[string]string{"gguf": "0.19.0", "numpy": "2.4.6"}, golden.Versions)
	return golden.Types
}

// blockValues is what a block means after the import, before any rounding.
func blockValues(kind *ggmlType, block []byte) ([]float32, error) {
	values := make([]float32, kind.block)
	if kind.unpack != nil {
		return values, kind.unpack(block, values)
	}
	words := make([]uint32, kind.pack.bits*kind.block/32)
	scale, bias, err := kind.pack.group(block, words)
	for i := range values {
		var q uint32
		for b := range kind.pack.bits { // bit by bit: this must not be the code under test
			at := i*kind.pack.bits + b
			q |= words[at/32] >> (at % 32) & 1 << b
		}
		values[i] = float32(float16(scale)*float32(q)) + float16(bias)
		if values[i] == 0 {
			values[i] = 0
		}
	}
	return values, err
}

func TestBlocksAreThoseOfTheGGUFPackage(t *testing.T) {
	golden := readBlocks(t)
	for id, kind := range ggmlTypes {
		if kind.dense != "" {
			continue
		}
		g, ok := golden[kind.name]
		require.True(t, ok, "no golden of type %d, %s", id, kind.name)
		size := int(kind.bytes)
		require.Equal(t, 68, len(g.Blocks)/size)
		require.Zero(t, len(g.Blocks)%size)
		for i := range len(g.Blocks) / size {
			values, err := blockValues(kind, g.Blocks[i*size:(i+1)*size])
			require.NoError(t, err, "%s block %d", kind.name, i)
			var raw []byte
			for _, x := range values {
				raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
			}
			if i == 0 {
				require.Equal(t, g.Values, raw, "%s block 0", kind.name)
			}
			sum := sha256.Sum256(raw)
			require.Equal(t, g.Digests[8*i:8*i+8], sum[:8], "%s block %d: %v", kind.name, i, values)
		}
	}
}

// TestBlocksRefuseScalesThatAreNotFinite puts infinities and NaN where the
// scales are.
func TestBlocksRefuseScalesThatAreNotFinite(t *testing.T) {
	for name, places := range map[string][]int{
		"Q4_0": {0}, "Q4_1": {0, 2}, "Q5_0": {0}, "Q5_1": {0, 2}, "Q8_0": {0},
		"Q2_K": {80, 82}, "Q3_K": {108}, "Q4_K": {0, 2}, "Q5_K": {0, 2}, "Q6_K": {208},
	} {
		kind := typeNamed(t, name)
		for _, at := range places {
			for _, bits := range []uint16{0x7c00, 0xfc00, 0x7e00, 0xfc01} {
				block := make([]byte, kind.bytes)
				binary.LittleEndian.PutUint16(block[at:], bits)
				_, err := blockValues(kind, block)
				require.Error(t, err, "%s: %x at %d", name, bits, at)
			}
		}
	}
}

func typeNamed(t *testing.T, name string) *ggmlType {
	for _, kind := range ggmlTypes {
		if kind.name == name {
			return kind
		}
	}
	require.Fail(t, "no such type", name)
	return nil
}

// TestRoundingTo16Bits compares with the two neighbours of each value, found
// without the code under test: the 16-bit floats in order of size.
func TestRoundingTo16Bits(t *testing.T) {
	brain := func(h uint16) float64 { return float64(math.Float32frombits(uint32(h) << 16)) }
	half := func(h uint16) float64 { return float64(float16(h)) }
	for name, c := range map[string]struct {
		to    func(float32) (uint16, bool)
		value func(uint16) float64
		limit uint16 // the infinity
		top   float64
	}{
		"float16":  {toFloat16, half, 0x7c00, 65536},
		"bfloat16": {toBFloat16, brain, 0x7f80, math.Ldexp(1, 128)},
	} {
		value := func(h uint16) float64 {
			if h == c.limit {
				return c.top // where infinity stands in the order
			}
			return c.value(h)
		}
		rng := rand.New(rand.NewPCG(3, 4))
		check := func(x float32) {
			h, exact := c.to(x)
			require.Equal(t, math.Signbit(float64(x)), h>>15 == 1, "%s of %v", name, x)
			h &= 0x7fff
			size := math.Abs(float64(x))
			require.Equal(t, h != c.limit && value(h) == size, exact, "%s of %v", name, x)
			off := math.Abs(value(h) - size)
			for _, next := range []uint16{h - 1, h + 1} {
				if next > c.limit { // below zero or beyond infinity
					continue
				}
				other := math.Abs(value(next) - size)
				require.True(t, off < other || off == other && h&1 == 0, "%s of %v is %x, %x is nearer", name, x, h, next)
			}
		}
		for h := range c.limit {
			a, b := value(h), value(h+1)
			for _, x := range []float64{a, (a + b) / 2, a + (b-a)/4, b - (b-a)/4} {
				if x < math.MaxFloat32 {
					check(float32(x))
					check(-float32(x))
				}
			}
			check(float32(a + (b-a)*rng.Float64()))
		}
		for _, x := range []float64{math.Inf(1), math.Inf(-1), math.NaN()} {
			h, exact := c.to(float32(x))
			require.False(t, exact)
			require.Equal(t, c.limit, h&c.limit)
			require.Equal(t, math.IsNaN(x), h&0x7fff > c.limit, "%v", x)
		}
	}
}

// blockModel is a llama model 256 wide, whose rows are whole blocks of the K
// types. Blocks come from the goldens in turn.
type blockModel struct {
	inter uint64
	kind  func(name string) uint32 // of a matrix
	types map[string]blockGolden
}

func (m blockModel) tensors() []tinyTensor {
	var all []tinyTensor
	rng := rand.New(rand.NewPCG(5, 6))
	add := func(name string, in, out uint64) {
		x := tinyTensor{name: name + ".weight", dims: []uint64{in, out}}
		if out == 0 {
			x.dims = x.dims[:1]
			all = append(all, tinyLlama{}.fill(rng, x.name, x.dims))
			return
		}
		x.kind = m.kind(x.name)
		kind := ggmlTypes[x.kind]
		if kind.dense != "" {
			all = append(all, tinyLlama{kinds: map[string]uint32{x.name: x.kind}}.fill(rng, x.name, x.dims))
			return
		}
		blocks, size := m.types[kind.name].Blocks, int(kind.bytes)
		for i := range int(in*out) / kind.block {
			at := i * size % len(blocks)
			x.data = append(x.data, blocks[at:at+size]...)
		}
		all = append(all, x)
	}
	add("token_embd", 256, tinyVocab)
	for i := range 2 {
		p := fmt.Sprintf("blk.%d.", i)
		add(p+"attn_norm", 256, 0)
		add(p+"attn_q", 256, 256)
		add(p+"attn_k", 256, 128)
		add(p+"attn_v", 256, 128)
		add(p+"attn_output", 256, 256)
		add(p+"ffn_norm", 256, 0)
		add(p+"ffn_gate", 256, m.inter)
		add(p+"ffn_up", 256, m.inter)
		add(p+"ffn_down", m.inter, 256)
	}
	add("output_norm", 256, 0)
	return all
}

func (m blockModel) file() ggufFile {
	f := tinyLlama{extra: [][]byte{
		number("llama.embedding_length", 256), number("llama.feed_forward_length", int(m.inter)),
	}}
	return ggufFile{magic: "GGUF", version: 3, alignment: 32, keys: tinyKeys()}.withKeys(f.extra...).withTensors(m.tensors())
}

// TestImportUnpacksBlocks imports models with K types and looks at every value.
func TestImportUnpacksBlocks(t *testing.T) {
	kTypes := func(name string) uint32 { return 10 + crc32.ChecksumIEEE([]byte(name))%5 }
	but := func(other uint32, names ...string) func(string) uint32 {
		return func(name string) uint32 {
			if slices.Contains(names, name) {
				return other
			}
			return kTypes(name)
		}
	}
	const embedding, value = "token_embd.weight", "blk.1.attn_v.weight"
	for name, c := range map[string]struct {
		kind  func(string) uint32
		dtype Dtype
		torch string
	}{
		"alone":       {kTypes, F16, `"float16"`},
		"beside F16":  {but(1, embedding), F16, `"float16"`},
		"beside BF16": {but(30, embedding, value), BF16, `"bfloat16"`},
		"beside Q8_0": {but(8, embedding), F16, `"float16"`},
		"beside Q5_0": {but(6, value), F16, `"float16"`},
	} {
		t.Run(name, func(t *testing.T) {
			model := blockModel{inter: 512, kind: c.kind, types: readBlocks(t)}
			dest, err := importTiny(t, model.file(), 1<<30)
			require.NoError(t, err)
			require.Equal(t, c.torch, member(t, dest, configFile, "torch_dtype"))
			m, err := Open(dest)
			require.NoError(t, err)
			seen := map[string]bool{}
			for _, x := range model.tensors() {
				kind := ggmlTypes[x.kind]
				if kind.unpack == nil {
					continue
				}
				seen[kind.name] = true
				tensor, ok := m.Tensor(hfName.Replace(x.name))
				require.True(t, ok)
				require.Equal(t, c.dtype, tensor.Dtype)
				data := make([]byte, tensor.Bytes)
				require.NoError(t, m.ReadTensor(tensor, data))
				require.Equal(t, unpackedRows(t, x, c.dtype), data, x.name)
			}
			require.Len(t, seen, 5)
			require.NoError(t, m.Close())
		})
	}
}

// unpackedRows is what a tensor of a K type must become.
func unpackedRows(t *testing.T, x tinyTensor, dtype Dtype) []byte {
	kind := ggmlTypes[x.kind]
	to := map[Dtype]func(float32) uint16{F16: roundFloat16, BF16: roundBFloat16}[dtype]
	var data []byte
	for b := range slices.Chunk(x.data, int(kind.bytes)) {
		values, err := blockValues(kind, b)
		require.NoError(t, err)
		for _, v := range values {
			data = binary.LittleEndian.AppendUint16(data, to(v))
		}
	}
	if !strings.Contains(x.name, "attn_q") && !strings.Contains(x.name, "attn_k") {
		return data
	}
	const head = 256 / tinyHeads
	row := 2 * int(x.dims[0])
	var out []byte
	for i := range len(data) / row {
		from := row * rotaryRow(i, head)
		out = append(out, data[from:from+row]...)
	}
	return out
}

// TestImportNamesTheBlockAtFault looks for the first of several, in a tensor of
// so many blocks that more than one goroutine works on them.
func TestImportNamesTheBlockAtFault(t *testing.T) {
	model := blockModel{inter: 1 << 10, kind: func(string) uint32 { return 12 }, types: readBlocks(t)}
	for want, at := range map[string][]int{
		"rows from 0: block 3: scale +Inf with minimum 0 is not finite":    {1000, 700, 3},
		"rows from 0: block 1000: scale +Inf with minimum 0 is not finite": {1000},
	} {
		f := model.file()
		start := 0
		for _, x := range model.tensors() {
			for _, block := range at {
				if x.name == "blk.1.ffn_up.weight" {
					binary.LittleEndian.PutUint32(f.data[start+144*block:], 0x7c00)
				}
			}
			start += (len(x.data) + 31) / 32 * 32
		}
		_, err := importTiny(t, f, 1<<30)
		require.ErrorContains(t, err, `m.gguf: tensor "blk.1.ffn_up.weight": `+want)
	}
}

// TestTheListsOfTypesAreWhole: people read which types import in three places.
func TestTheListsOfTypesAreWhole(t *testing.T) {
	page, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	help, err := os.ReadFile("../../editors/terminal/models.go")
	require.NoError(t, err)
	for _, kind := range ggmlTypes {
		require.Contains(t, string(page), "`"+kind.name+"`")
		require.Regexp(t, `\b`+kind.name+`\b`, string(help))
	}
	for name := range architectures {
		require.Contains(t, string(page), "`"+name+"`")
	}
	_, err = ggmlTypeOf(23)
	require.ErrorContains(t, err, "type IQ4_XS is not supported; take the model as F16, BF16, Q8_0, Q4_0 to Q5_1 or Q2_K to Q6_K")
	_, err = ggmlTypeOf(99)
	require.EqualError(t, err, "type 99 is unknown")
}

func TestImportRefusesValuesBeyondFloat16(t *testing.T) {
	kind := typeNamed(t, "Q4_K")
	block := make([]byte, kind.bytes)
	binary.LittleEndian.PutUint16(block, 0x7bff) // d = 65504
	block[4], block[16] = 2, 1                   // s = 2, q = 1
	c := converter{output: &output{Tensor: Tensor{Dtype: F16}, pair: pair{tensor: &GGUFTensor{kind: kind}}, part: unpacked}}
	_, err := c.convert(block, 1)
	require.EqualError(t, err, "block 0: value 131008 is beyond the range of F16")
	c.Dtype = BF16
	out, err := c.convert(block, 1)
	require.NoError(t, err)
	require.Equal(t, "0048", fmt.Sprintf("%x", out[:2]), "2^17, the nearest bfloat16")
}
