package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest"
	"harmonyd/engine/hub"
	"harmonyd/engine/mlx"
	"harmonyd/engine/weights"
)

// conversionCase is a checkpoint and what is made of it.
type conversionCase struct {
	enginetest.Checkpoint
	Conversion
}

// conversionCases are every packing that MLX has, from every float type, and what
// else mlx-lm's convert does.
func conversionCases() map[string]conversionCase {
	wide := enginetest.Checkpoint{Hidden: 128, Intermediate: 256, Layers: 1, Tied: true}
	types := []weights.Dtype{weights.BF16, weights.F16, weights.F32}
	cases := make(map[string]conversionCase)
	for i, bits := range []int{2, 3, 4, 5, 6, 8} {
		for j, group := range []int{32, 64, 128} {
			c := conversionCase{wide, Conversion{Quantize: true, Bits: bits, GroupSize: group}}
			c.Checkpoint.Seed, c.Checkpoint.Dtype = uint64(100+3*i+j), types[(i+j)%3]
			cases[fmt.Sprintf("%d-bit-by-%d-%s", bits, group, strings.ToLower(string(c.Checkpoint.Dtype)))] = c
		}
	}
	for i, mode := range []string{"mxfp4", "mxfp8", "nvfp4"} {
		for j, dtype := range types {
			c := conversionCase{wide, Conversion{Quantize: true, Mode: mode}}
			c.Checkpoint.Seed, c.Checkpoint.Dtype = uint64(200+3*i+j), dtype
			cases[mode+"-"+strings.ToLower(string(dtype))] = c
		}
	}
	float16 := map[string]any{"torch_dtype": "float16"}
	cases["defaults"] = conversionCase{enginetest.Checkpoint{Seed: 300, Intermediate: 128, AttentionBias: true}, Conversion{Quantize: true}}
	cases["some rows do not divide"] = conversionCase{enginetest.Checkpoint{Seed: 301, MLPBias: true}, Conversion{Quantize: true}}
	cases["torch_dtype"] = conversionCase{enginetest.Checkpoint{Seed: 302, Layers: 1, Config: float16}, Conversion{Quantize: true, GroupSize: 32}}
	cases["another type"] = conversionCase{enginetest.Checkpoint{Seed: 303, Layers: 1, Config: float16}, Conversion{Dtype: "bfloat16"}}
	cases["packed, another type"] = conversionCase{enginetest.Checkpoint{Seed: 304, Layers: 1, Bits: 4, Group: 32}, Conversion{Dtype: "float16"}}
	for _, bits := range []int{2, 3, 4, 6, 8} {
		cases[fmt.Sprintf("unpack %d-bit", bits)] = conversionCase{enginetest.Checkpoint{
			Seed: uint64(310 + bits), Layers: 1, Bits: bits, Group: 32, Dtype: types[bits%3]}, Conversion{Dequantize: true}}
	}
	cases["unpack to another type"] = conversionCase{enginetest.Checkpoint{Seed: 305, Layers: 1, Bits: 4, Group: 32},
		Conversion{Dequantize: true, Dtype: "bfloat16"}}
	for _, recipe := range []string{"mixed_2_6", "mixed_3_4"} {
		cases[recipe] = conversionCase{enginetest.Checkpoint{Seed: 306, Hidden: 32, Intermediate: 64, Layers: 9, Vocab: 32},
			Conversion{Quantize: true, GroupSize: 32, Recipe: recipe}}
	}
	return cases
}

// options are the case in the words of mlx-lm's convert.
func (c conversionCase) options() map[string]any {
	o := map[string]any{"quantize": c.Quantize, "dequantize": c.Dequantize}
	for name, v := range map[string]string{"q_mode": c.Mode, "dtype": c.Conversion.Dtype, "quant_predicate": c.Recipe} {
		if v != "" {
			o[name] = v
		}
	}
	for name, v := range map[string]int{"q_bits": c.Conversion.Bits, "q_group_size": c.GroupSize} {
		if v != 0 {
			o[name] = v
		}
	}
	return o
}

// digests lists type, shape and a hash of every tensor of a folder.
func digests(t *testing.T, folder string) map[string]string {
	t.Helper()
	m, err := weights.Open(folder)
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close()) }()
	all := make(map[string]string)
	for _, tensor := range m.Tensors {
		data := make([]byte, tensor.Bytes)
		require.NoError(t, m.ReadTensor(tensor, data))
		sum := sha256.Sum256(data)
		all[tensor.Name] = fmt.Sprintf("%v%v %x", stored[tensor.Dtype], tensor.Shape, sum[:6])
	}
	return all
}

// readJSON reads a whole file of a folder.
func readJSON(t *testing.T, into any, path ...string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, into))
}

// TestConvertGolden holds every byte that Convert writes against mlx-lm's convert.
func TestConvertGolden(t *testing.T) {
	const file = "models/testdata/convert.json"
	root, sources := t.TempDir(), t.TempDir()
	cases := conversionCases()
	options := make(map[string]any)
	for name, c := range cases {
		require.NoError(t, c.Checkpoint.Write(filepath.Join(sources, name)))
		options[name] = c.options()
	}
	if *goldens {
		in, err := json.Marshal(options)
		require.NoError(t, err)
		cmd := exec.Command("../.deps/venv/bin/python", "models/testdata/goldens.py", "convert", sources, file)
		cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
		require.NoError(t, cmd.Run())
	}
	var want struct {
		Cases map[string]struct {
			Tensors        map[string]string
			Quantization   any
			QuantizationV5 any `json:"quantization_config"`
			Index          any
		}
	}
	readJSON(t, &want, file)
	require.Len(t, want.Cases, len(cases))
	h := hub.New(root)
	i := 0
	for name, c := range cases {
		i++
		id := fmt.Sprintf("m%d", i)
		t.Run(name, func(t *testing.T) {
			w := want.Cases[name]
			var done, total int64
			got, err := Convert(t.Context(), h, filepath.Join(sources, name), id, c.Conversion, func(d, n int64) { done, total = d, n })
			require.NoError(t, err)
			require.Empty(t, Problem(got.Model))
			require.Positive(t, total)
			require.Equal(t, total, done)
			require.Equal(t, w.Tensors, digests(t, got.Folder))
			var config map[string]any
			readJSON(t, &config, got.Folder, "config.json")
			require.Equal(t, w.Quantization, config["quantization"])
			require.Equal(t, w.QuantizationV5, config["quantization_config"])
			var index struct{ Metadata any }
			readJSON(t, &index, got.Folder, "model.safetensors.index.json")
			require.Equal(t, w.Index, index.Metadata)
			require.FileExists(t, filepath.Join(got.Folder, "tokenizer.json"))
		})
	}
	require.Zero(t, mlx.Live())
}

// TestConvertedGolden holds the scores of converted models against those that
// mlx-lm has for the very same folders.
func TestConvertedGolden(t *testing.T) {
	root, sources := t.TempDir(), t.TempDir()
	h := hub.New(root)
	cases := make(map[string]conversionCase)
	for _, name := range []string{"2-bit-by-128-f32", "3-bit-by-64-f32", "5-bit-by-128-f32", "6-bit-by-64-f32", "8-bit-by-32-f32", "defaults",
		"some rows do not divide", "mixed_2_6", "unpack 8-bit", "mxfp4-bf16", "mxfp8-bf16", "nvfp4-bf16"} {
		c, ok := conversionCases()[name]
		require.True(t, ok, name)
		cases[strings.ReplaceAll(name, " ", "-")] = c
	}
	for name, c := range cases {
		source := filepath.Join(sources, name)
		require.NoError(t, c.Checkpoint.Write(source))
		_, err := Convert(t.Context(), h, source, name, c.Conversion, nil)
		require.NoError(t, err)
	}
	prompts := [][]int32{pseudoPrompt(40, 32)}
	want := reference(t, "converted", root, prompts)
	e := newTestEngine(t, Options{Root: root})
	for name := range cases {
		t.Run(name, func(t *testing.T) {
			require.Len(t, want[name], len(prompts))
			m := loadFolder(t, e, filepath.Join(root, name), math.MaxInt64)
			for i, g := range want[name] {
				require.InDeltaSlice(t, g.Logits, m.scores(t, prompts[i], 1)[0], tolerance)
				require.Equal(t, g.Greedy, m.greedy(t, prompts[i], len(g.Greedy)))
			}
		})
	}
}

// TestConvertInPieces: the bytes do not depend on how many rows are taken at a
// time, and a piece is all of a model that is in memory.
func TestConvertInPieces(t *testing.T) {
	source := t.TempDir()
	c := enginetest.Checkpoint{Seed: 1, Hidden: 64, Intermediate: 128, Vocab: 8000, Layers: 1, Dtype: weights.BF16, Tied: true}
	require.NoError(t, c.Write(source))
	run := func(chunk int) (map[string]string, int64) {
		w, err := newConverting(source, Conversion{Quantize: true, Bits: 3})
		require.NoError(t, err)
		defer func() { require.NoError(t, w.files.Close()) }()
		w.chunk = chunk
		folder := t.TempDir()
		mlx.ClearCache()
		mlx.ResetPeak()
		before := mlx.ActiveMemory()
		require.NoError(t, w.run(t.Context(), folder))
		return digests(t, folder), mlx.PeakMemory() - before
	}
	whole, _ := run(1 << 30)
	for _, chunk := range []int{20_000, 100_000} {
		got, peak := run(chunk)
		require.Equal(t, whole, got)
		// The rows as they are, as float32 on the way, packed.
		require.Less(t, peak, 8*int64(chunk), "chunks of %d; a tensor is of 1 MB", chunk)
	}
}

func TestConvertRefuses(t *testing.T) {
	root, sources := t.TempDir(), t.TempDir()
	h := hub.New(root)
	write := func(name string, c enginetest.Checkpoint) string {
		folder := filepath.Join(sources, name)
		require.NoError(t, c.Write(folder))
		return folder
	}
	plain := write("plain", enginetest.Checkpoint{Seed: 1})
	packed := write("packed", enginetest.Checkpoint{Seed: 2, Bits: 4, Group: 32})
	odd := write("odd", enginetest.Checkpoint{Config: map[string]any{"model_type": "odd"}})
	missing := write("missing", enginetest.Checkpoint{Edit: func(all []weights.Tensor) []weights.Tensor { return all[1:] }})
	for want, c := range map[string]struct {
		model string
		Conversion
	}{
		"is already quantized (affine 4-bit, groups of 32); dequantize it first": {packed, Conversion{Quantize: true}},
		"is not quantized":                                                          {plain, Conversion{Dequantize: true}},
		"quantize and dequantize exclude each other":                                {plain, Conversion{Quantize: true, Dequantize: true}},
		`unknown mode "int4" (affine, mxfp4, mxfp8, nvfp4)`:                         {plain, Conversion{Quantize: true, Mode: "int4"}},
		"bits 7 is not one of [2 3 4 5 6 8] in mode affine":                         {plain, Conversion{Quantize: true, Bits: 7}},
		"group_size 64 is not one of [16] in mode nvfp4":                            {plain, Conversion{Quantize: true, Mode: "nvfp4", GroupSize: 64}},
		`dtype "int8" is not one of float16, bfloat16, float32`:                     {plain, Conversion{Dtype: "int8"}},
		`recipe "mixed_9" is not one of mixed_2_6, mixed_3_4, mixed_3_6, mixed_4_6`: {plain, Conversion{Quantize: true, Recipe: "mixed_9"}},
		"recipe mixed_2_6 goes with mode affine only":                               {plain, Conversion{Quantize: true, Recipe: "mixed_2_6", Mode: "mxfp4"}},
		"recipe mixed_2_6 has bits of its own":                                      {plain, Conversion{Quantize: true, Recipe: "mixed_2_6", Bits: 4}},
		"has no matrix whose rows divide into groups of 128":                        {plain, Conversion{Quantize: true, GroupSize: 128}},
		`config.json: model_type: "odd" is not supported`:                           {odd, Conversion{}},
		"model.embed_tokens.weight: missing":                                        {missing, Conversion{}},
		"model not found: nowhere in ":                                              {"nowhere", Conversion{}},
		"config.json: no such file":                                                 {"./nowhere", Conversion{}},
	} {
		_, err := Convert(t.Context(), h, c.model, "x", c.Conversion, nil)
		require.ErrorContains(t, err, want)
	}
	_, err := Convert(t.Context(), h, plain, "../x", Conversion{}, nil)
	require.ErrorContains(t, err, "model id ")
	ctx, cancel := context.WithCancel(t.Context())
	_, err = Convert(ctx, h, plain, "x", Conversion{Quantize: true}, func(int64, int64) { cancel() })
	require.ErrorIs(t, err, context.Canceled)
	entries, err := os.ReadDir(root)
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing but the lock")
	require.Zero(t, mlx.Live())
}

// TestConvertNames: what is made is named after what was done, unless it is said.
func TestConvertNames(t *testing.T) {
	root := t.TempDir()
	h := hub.New(root)
	require.NoError(t, enginetest.Checkpoint{Seed: 1, Intermediate: 128}.Write(filepath.Join(root, "owner", "tiny")))
	for want, c := range map[string]Conversion{
		"tiny-4bit": {Quantize: true}, "tiny-mxfp8": {Quantize: true, Mode: "mxfp8"}, "tiny-bf16": {Dtype: "bfloat16"}, "tiny-copy": {},
		"tiny-mixed-4-6": {Quantize: true, Recipe: "mixed_4_6"},
	} {
		got, err := Convert(t.Context(), h, "owner/tiny", "", c, nil)
		require.NoError(t, err)
		require.Equal(t, want, got.ID)
	}
	t.Chdir(root)
	for want, c := range map[string]Conversion{
		"tiny-4bit-dequantized": {Dequantize: true}, "tiny-4bit-fp16": {Dequantize: true, Dtype: "float16"},
	} {
		got, err := Convert(t.Context(), h, "./tiny-4bit", "", c, nil)
		require.NoError(t, err)
		require.Equal(t, want, got.ID)
		require.Empty(t, got.Quantization)
		require.Empty(t, Problem(got.Model))
	}
	var config map[string]any
	readJSON(t, &config, root, "tiny-4bit-fp16", "config.json")
	require.Equal(t, "float16", config["torch_dtype"])
	require.NotContains(t, config, "quantization_config")
	_, err := Convert(t.Context(), h, "owner/tiny", "", Conversion{Quantize: true}, nil)
	require.ErrorIs(t, err, os.ErrExist)
}
