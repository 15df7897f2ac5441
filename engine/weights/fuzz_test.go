package weights

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest/mutate"
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
		if !requireSound(t, file, checkSafetensors) {
			return
		}
		// What is accepted reads back from a rewrite.
		m, err := OpenFolder(&memFolder{files: map[string][]byte{singleFile: file}})
		require.NoError(t, err)
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

// FuzzMutants has the fuzzer choose how valid files of both formats are built and
// broken.
func FuzzMutants(f *testing.F) {
	for seed := range uint64(64) {
		f.Add(mutate.Seeded(seed, nil).Bytes())
	}
	f.Fuzz(func(t *testing.T, decisions []byte) {
		requireSound(t, safetensorsMutant(mutate.From(decisions)), checkSafetensors)
		requireSound(t, ggufMutant(mutate.From(decisions)), checkGGUF)
	})
}

// requireSound demands that a file is read in bounded memory and either refused
// in good order or accepted, which it reports.
func requireSound(t *testing.T, file []byte, check func([]byte) error) bool {
	err := boundedBy(file, func() error { return check(file) })
	if err == nil {
		return true
	}
	requireFormatError(t, err)
	return false
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
		f.Add(seed, `{"eos_token_id":7}`, []byte{})
	}
	for seed := range uint64(32) {
		f.Add("", "", mutate.Seeded(seed, nil).Bytes())
	}
	f.Fuzz(func(t *testing.T, config, generation string, decisions []byte) {
		if len(config)+len(generation) > most {
			return
		}
		requireSoundConfig(t, config, generation)
		c := mutate.From(decisions)
		requireSoundConfig(t, configMutant(c), configMutant(c))
	})
}

// requireSoundConfig demands that a configuration is refused in good order or
// holds what its documentation says.
func requireSoundConfig(t *testing.T, config, generation string) {
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
		for _, path := range []string{"a.b", "lm_head", "model.layers.0.mlp.up_proj"} {
			p, packed, _ := q.For(path)
			require.LessOrEqual(t, p.Bits, 8)
			require.True(t, !packed || p.Bits > 0 && p.GroupSize > 0, "%+v", p)
		}
	}
	for _, member := range []string{"vocab_size", "hidden_size"} {
		n, _, err := c.Natural(member)
		if err != nil {
			requireFormatError(t, err)
		}
		require.GreaterOrEqual(t, n, int64(0))
	}
}

func FuzzGGUF(f *testing.F) {
	for _, c := range malformedGGUFs() {
		f.Add(c.file)
	}
	f.Add(validGGUF().bytes())
	f.Add(tinyLlama{kinds: map[string]uint32{"blk.0.attn_q.weight": 3}}.file().bytes()[:1<<13])
	f.Add(tinyGemma{}.file().bytes()[:1<<13])
	f.Fuzz(func(t *testing.T, file []byte) {
		if len(file) > most {
			return
		}
		if !requireSound(t, file, checkGGUF) {
			return
		}
		g, err := OpenGGUFIn(&memFolder{files: map[string][]byte{"m.gguf": file}}, "m.gguf")
		require.NoError(t, err)
		if _, err := newImporter(t.Context(), g, nil); err != nil {
			requireFormatError(t, err)
		}
	})
}

// FuzzGGUFMetadata mutates one value of a file that could be imported, where
// FuzzGGUF hardly ever gets past the layout.
func FuzzGGUFMetadata(f *testing.F) {
	files := map[string]ggufFile{"llama": tinyLlama{}.file(), "gemma3_text": tinyGemma{}.file()}
	for model, file := range files {
		for i, k := range file.keys {
			f.Add(model != "llama", uint8(i), k[12+len(keyName(k)):], uint32(ggufUint32))
		}
	}
	f.Fuzz(func(t *testing.T, gemma bool, i uint8, value []byte, kind uint32) {
		model := "llama"
		if gemma {
			model = "gemma3_text"
		}
		whole := files[model]
		old := whole.keys[int(i)%len(whole.keys)]
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
		require.Equal(t, model, c.ModelType)
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
	// A header of many small entries, and one of one long string, take no more
	// than four times themselves.
	for _, header := range []string{"{" + numbered(100_000, `"%[1]d":{"dtype":"I8","shape":[],"data_offsets":[%[1]d,%[1]d]}`) + "}",
		`{"` + strings.Repeat(`\n`, 1<<20) + `":0}`, "{" + numbered(100_000, `"%[1]d":{"dtype":"I8","shape":[0],"data_offsets":[0,0]}`) + "}"} {
		file := safetensors(header, 0)
		err := boundedBy(file, func() error {
			m, err := OpenFolder(&memFolder{files: map[string][]byte{singleFile: file}})
			if err == nil {
				err = m.Close()
			}
			return err
		})
		if err != nil {
			requireFormatError(t, err)
		}
	}
	claimed := binary.LittleEndian.AppendUint64(nil, maxHeaderBytes)
	require.Less(t, allocated(claimed, func(folder *memFolder) error {
		_, err := OpenFolder(folder)
		return err
	}), uint64(1<<16))
}
