package weights

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// most keeps fuzzed input small enough that what a reader allocates for it is
// seen as a multiple of it.
const most = 1 << 16

// FuzzSafetensors mutates the header and the data on their own, so that the
// length before the header stays true and the mutants get past it.
func FuzzSafetensors(f *testing.F) {
	for _, c := range append(malformedFiles(), malformed{files: map[string][]byte{singleFile: twoTensors()}}) {
		file := c.files[singleFile]
		if len(file) < 8 {
			continue
		}
		n := min(binary.LittleEndian.Uint64(file), uint64(len(file)-8))
		f.Add(string(file[8:8+n]), uint16(len(file)-8-int(n)))
	}
	f.Fuzz(func(t *testing.T, header string, size uint16) {
		if len(header) > most {
			return
		}
		file := safetensors(header, int(size))
		m, err := OpenFolder(&memFolder{files: map[string][]byte{singleFile: file}})
		if err != nil {
			requireFormatError(t, err)
			return
		}
		// What is accepted covers the file, and reads back from a rewrite.
		require.Equal(t, int64(size), m.Bytes())
		end := int64(len(file)) - int64(size)
		for _, x := range m.Tensors {
			require.GreaterOrEqual(t, x.Offset, end)
			require.LessOrEqual(t, x.Offset+x.Bytes, int64(len(file)))
			require.NoError(t, m.ReadTensor(x, make([]byte, x.Bytes)))
		}
		var again bytes.Buffer
		require.NoError(t, Write(&again, nil, m.Tensors, copyFrom(m)))
		back, err := OpenFolder(&memFolder{files: map[string][]byte{singleFile: again.Bytes()}})
		require.NoError(t, err)
		require.Equal(t, len(m.Tensors), len(back.Tensors))
		for i := range m.Tensors {
			require.Equal(t, m.Tensors[i].Name, back.Tensors[i].Name)
			require.Equal(t, m.Tensors[i].Shape, back.Tensors[i].Shape)
		}
		// encoding/json reads the same names: nothing hides behind an escape.
		var loose map[string]json.RawMessage
		require.NoError(t, json.Unmarshal([]byte(header), &loose))
		for _, x := range m.Tensors {
			require.Contains(t, loose, x.Name)
		}
	})
}

// requireFormatError checks that a refusal is typed and says which file.
func requireFormatError(t *testing.T, err error) {
	var format *FormatError
	require.True(t, errors.As(err, &format), "%v", err)
	require.NotEmpty(t, format.File)
	require.NotEmpty(t, format.Reason)
}

func FuzzConfig(f *testing.F) {
	for _, seed := range []string{`{"model_type":"llama","eos_token_id":[1,2],"text_config":{"vocab_size":3}}`,
		`{"model_type":"m","quantization":{"group_size":32,"bits":4,"mode":"affine","a.b":{"group_size":64,"bits":8},"c":false}}`,
		`{"model_type":"\ud83d\ude00","x":[-1.5e-3,{"y":[[]]}],"eos_token_id":null}`} {
		f.Add(seed, `{"eos_token_id":7}`)
	}
	f.Fuzz(func(t *testing.T, config, generation string) {
		if len(config)+len(generation) > most {
			return
		}
		c, err := readConfig(config, generation)
		if err != nil {
			requireFormatError(t, err)
			return
		}
		require.True(t, json.Valid(c.Raw))
		require.NotEmpty(t, c.ModelType)
		for _, id := range c.EOS {
			require.GreaterOrEqual(t, id, int32(0))
		}
		if q := c.Quantization; q != nil {
			p, _, _ := q.For("a.b")
			require.LessOrEqual(t, p.Bits, 8)
		}
		n, _, err := c.Natural("vocab_size")
		if err != nil {
			requireFormatError(t, err)
		}
		require.GreaterOrEqual(t, n, int64(0))
	})
}

func FuzzGGUF(f *testing.F) {
	for _, c := range malformedGGUFs() {
		f.Add(c.file)
	}
	f.Add(validGGUF().bytes())
	f.Add(tinyLlama{kinds: map[string]uint32{"blk.0.attn_q.weight": 3}}.file().bytes()[:1<<13])
	f.Fuzz(func(t *testing.T, file []byte) {
		if len(file) > most {
			return
		}
		folder := &memFolder{files: map[string][]byte{"m.gguf": file}}
		g, err := OpenGGUFIn(folder, "m.gguf")
		if err != nil {
			requireFormatError(t, err)
			require.Zero(t, folder.open)
			return
		}
		var end int64
		for i := range g.Tensors {
			x := &g.Tensors[i]
			require.GreaterOrEqual(t, x.Offset, end)
			end = x.Offset + x.Bytes
			require.NoError(t, g.ReadAt(x, make([]byte, x.Bytes), 0))
		}
		require.LessOrEqual(t, end, int64(len(file)))
		if _, err := newImporter(t.Context(), g, nil); err != nil {
			requireFormatError(t, err)
		}
	})
}

// FuzzGGUFMetadata mutates one value of a file that could be imported, where
// FuzzGGUF hardly ever gets past the layout.
func FuzzGGUFMetadata(f *testing.F) {
	for i, k := range tinyKeys() {
		f.Add(uint8(i), k[12+len(keyName(k)):], uint32(ggufUint32))
	}
	keys, whole := tinyKeys(), tinyLlama{}.file()
	f.Fuzz(func(t *testing.T, i uint8, value []byte, kind uint32) {
		old := keys[int(i)%len(keys)]
		if len(value) > most {
			return
		}
		if kind == ggufString {
			value = str(string(value))
		}
		file := whole.withKeys(key(keyName(old), kind, value)).bytes()
		g, err := OpenGGUFIn(&memFolder{files: map[string][]byte{"m.gguf": file}}, "m.gguf")
		if err != nil {
			requireFormatError(t, err)
			return
		}
		imp, err := newImporter(t.Context(), g, nil)
		if err != nil {
			requireFormatError(t, err)
			return
		}
		text, err := imp.vocab.tokenizerJSON()
		if err != nil {
			requireFormatError(t, err)
			return
		}
		require.True(t, json.Valid(text))
		config, err := json.Marshal(imp.config)
		require.NoError(t, err)
		c, err := readConfig(string(config), "")
		require.NoError(t, err, "what an import writes can be read")
		require.Equal(t, "llama", c.ModelType)
	})
}

// A header may claim anything: what the readers allocate stays within a small
// multiple of the file.
func TestAllocationFollowsTheFile(t *testing.T) {
	claim := func(change func(*ggufFile)) []byte {
		f := validGGUF()
		change(&f)
		return f.bytes()
	}
	elements := func(kind uint32) []byte {
		return claim(func(f *ggufFile) {
			f.keys = append(f.keys, key("k", ggufArray, append(u32(kind), u64(maxGGUFElements)...)))
		})
	}
	allocated := func(file []byte, open func(*memFolder) error) uint64 {
		folder := &memFolder{files: map[string][]byte{"m.gguf": file, singleFile: file}}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := open(folder)
		runtime.ReadMemStats(&after)
		require.Error(t, err)
		return after.TotalAlloc - before.TotalAlloc
	}
	for name, file := range map[string][]byte{
		"tensors": claim(func(f *ggufFile) { f.nTensors = uint64(maxGGUFTensors) }),
		"keys":    claim(func(f *ggufFile) { f.nKeys = uint64(maxGGUFKeys) }),
		"strings": elements(ggufString),
		"bytes":   elements(ggufUint8),
		"string":  claim(func(f *ggufFile) { f.keys = append(f.keys, key("k", ggufString, u64(maxGGUFString))) }),
		"rank":    claim(func(f *ggufFile) { f.infos = [][]byte{append(str("a"), u32(math.MaxUint32)...)} }),
	} {
		require.Less(t, allocated(file, func(folder *memFolder) error {
			_, err := OpenGGUFIn(folder, "m.gguf")
			return err
		}), uint64(1<<18), name) // a quarter of it is the read buffer
	}
	claimed := binary.LittleEndian.AppendUint64(nil, maxHeaderBytes)
	require.Less(t, allocated(claimed, func(folder *memFolder) error {
		_, err := OpenFolder(folder)
		return err
	}), uint64(1<<16))
}
