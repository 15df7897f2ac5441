package weights

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestShardsInAnyOrder writes tensors in pieces and out of order, over one file
// and over several, and reads them back.
func TestShardsInAnyOrder(t *testing.T) {
	tensors := []Tensor{
		{Name: "a.weight", Dtype: U32, Shape: []int{4, 2}}, {Name: "a.scales", Dtype: F16, Shape: []int{4, 1}},
		{Name: "b", Dtype: F32, Shape: []int{10}}, {Name: "c", Dtype: U8, Shape: []int{3}},
	}
	data := map[string][]byte{"a.weight": random(1, 32), "a.scales": random(2, 8), "b": random(3, 40), "c": random(4, 3)}
	for size, files := range map[int64][]string{
		1 << 30: {singleFile},
		41:      {"model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"},
		1: {"model-00001-of-00004.safetensors", "model-00002-of-00004.safetensors", "model-00003-of-00004.safetensors",
			"model-00004-of-00004.safetensors"},
	} {
		folder := t.TempDir()
		s, err := newShards(folder, tensors, 99, size)
		require.NoError(t, err)
		for _, name := range []string{"c", "b", "a.scales", "a.weight"} {
			half := len(data[name]) / 2
			require.NoError(t, s.Write(name, data[name][:half]))
			defer func() { require.Error(t, s.Write(name, data[name][half:]), "the files are closed") }()
		}
		for name := range data {
			half := len(data[name]) / 2
			require.NoError(t, s.Write(name, data[name][half:]))
			require.EqualError(t, s.Write(name, []byte{1, 2}), fmt.Sprintf("tensor %q: 2 bytes too many", name))
		}
		require.NoError(t, s.Finish())
		require.NoError(t, s.Close())
		require.JSONEq(t, fmt.Sprintf(`{"total_size": %d, "total_parameters": 99}`, 32+8+40+3), member(t, folder, indexFile, "metadata"))
		m, err := Open(folder)
		require.NoError(t, err)
		require.Len(t, m.Tensors, len(tensors))
		seen := make(map[string]bool)
		for _, tensor := range m.Tensors {
			got := make([]byte, tensor.Bytes)
			require.NoError(t, m.ReadTensor(tensor, got))
			require.True(t, bytes.Equal(data[tensor.Name], got), tensor.Name)
			seen[tensor.File] = true
		}
		require.NoError(t, m.Close())
		require.Len(t, seen, len(files))
		for _, f := range files {
			require.True(t, seen[f], f)
		}
	}
}

// random is n bytes that look like nothing.
func random(seed byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		seed = seed*141 + 13
		b[i] = seed
	}
	return b
}

func TestShardsRefuse(t *testing.T) {
	one := Tensor{Name: "a", Dtype: U8, Shape: []int{4}}
	folder := t.TempDir()
	s, err := NewShards(folder, []Tensor{one}, 4)
	require.NoError(t, err)
	require.EqualError(t, s.Write("b", nil), `tensor "b": is not one of this model`)
	require.NoError(t, s.Write("a", []byte{1}))
	require.EqualError(t, s.Finish(), `tensor "a": 3 of 4 bytes were not written`)
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.Write("a", []byte{1}), os.ErrClosed)
	_, err = NewShards(folder, []Tensor{one}, 4)
	require.ErrorIs(t, err, os.ErrExist)
	_, err = NewShards(t.TempDir(), []Tensor{{Name: "a", Dtype: F4, Shape: []int{1}}}, 1)
	require.EqualError(t, err, `tensor "a": [1] of F4 is not a whole number of bytes`)
	_, err = NewShards(t.TempDir(), []Tensor{one, one}, 1)
	require.EqualError(t, err, `tensor "a": appears twice`)
	_, err = newShards(t.TempDir(), []Tensor{one, one}, 1, 1)
	require.EqualError(t, err, `tensor "a": appears twice`)
}

func TestCompanions(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	for _, name := range []string{"config.json", "tokenizer.json", "chat_template.jinja", "merges.txt", "tokenizer.model", "generation_config.json",
		singleFile, indexFile, "modeling.py", "README.md", ".origin.json", "pytorch_model.bin"} {
		require.NoError(t, os.WriteFile(filepath.Join(from, name), []byte(name), 0o600))
	}
	require.NoError(t, os.Mkdir(filepath.Join(from, "onnx"), 0o755))
	require.NoError(t, CopyCompanions(to, from))
	entries, err := os.ReadDir(to)
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
		text, err := os.ReadFile(filepath.Join(to, e.Name()))
		require.NoError(t, err)
		require.Equal(t, e.Name(), string(text))
	}
	require.Equal(t, []string{"chat_template.jinja", "generation_config.json", "merges.txt", "tokenizer.json", "tokenizer.model"}, names)
	require.ErrorIs(t, CopyCompanions(to, from), os.ErrExist)
	require.ErrorIs(t, CopyCompanions(to, filepath.Join(from, "nowhere")), os.ErrNotExist)
	require.NoError(t, os.Mkdir(filepath.Join(from, "folder.json"), 0o755))
	require.ErrorContains(t, CopyCompanions(t.TempDir(), from), "is not a regular file")
}

func TestWriteConfig(t *testing.T) {
	c, err := readConfig(`{"model_type":"m","_name_or_path":"/home/x","vision_config":{},"big":12345678901234567890,"html":"<&>",
		"nested":{"b":[1,2],"a":null},"quantization":{"group_size":32,"bits":4}}`, "")
	require.NoError(t, err)
	folder := t.TempDir()
	require.NoError(t, c.WriteConfig(folder, map[string]any{"added": 1}))
	text, err := os.ReadFile(filepath.Join(folder, configFile))
	require.NoError(t, err)
	require.Equal(t, `{
    "added": 1,
    "big": 12345678901234567890,
    "html": "<&>",
    "model_type": "m",
    "nested": {
        "b": [
            1,
            2
        ],
        "a": null
    },
    "quantization": {
        "group_size": 32,
        "bits": 4
    },
    "quantization_config": {
        "group_size": 32,
        "bits": 4
    }
}
`, string(text))
	folder = t.TempDir()
	require.NoError(t, c.WriteConfig(folder, map[string]any{"quantization": nil, "big": nil, "nested": nil, "html": nil}))
	text, err = os.ReadFile(filepath.Join(folder, configFile))
	require.NoError(t, err)
	require.JSONEq(t, `{"model_type":"m"}`, string(text))
}

func TestTorchDtype(t *testing.T) {
	for config, want := range map[string]string{
		``: "", `,"torch_dtype":"bfloat16"`: "bfloat16", `,"torch_dtype":null,"text_config":{"dtype":"float16"}`: "float16",
		`,"torch_dtype":7`: "", `,"dtype":"float16"`: "",
	} {
		c, err := readConfig(`{"model_type":"m"`+config+`}`, "")
		require.NoError(t, err)
		require.Equal(t, want, c.TorchDtype(), config)
	}
}

func TestQuantDefaults(t *testing.T) {
	for p, want := range map[QuantParams]QuantParams{
		{}:                            {64, 4, "affine"},
		{Bits: 8}:                     {64, 8, "affine"},
		{Mode: "mxfp4"}:               {32, 4, "mxfp4"},
		{Mode: "mxfp8"}:               {32, 8, "mxfp8"},
		{Mode: "nvfp4"}:               {16, 4, "nvfp4"},
		{Mode: "nvfp4", GroupSize: 1}: {1, 4, "nvfp4"},
		{Mode: "odd"}:                 {0, 0, "odd"},
	} {
		require.Equal(t, want, p.WithDefaults())
	}
}

func TestCreateFolder(t *testing.T) {
	root := t.TempDir()
	dest := filepath.Join(root, "owner", "m")
	failed := errors.New("failed")
	require.ErrorIs(t, CreateFolder(dest, func(folder string) error {
		require.NoError(t, os.WriteFile(filepath.Join(folder, "f"), nil, 0o600))
		return failed
	}), failed)
	entries, err := os.ReadDir(filepath.Dir(dest))
	require.NoError(t, err)
	require.Empty(t, entries)
	require.NoError(t, CreateFolder(dest, func(folder string) error {
		require.NoDirExists(t, dest)
		return os.WriteFile(filepath.Join(folder, "f"), nil, 0o600)
	}))
	require.FileExists(t, filepath.Join(dest, "f"))
	info, err := os.Stat(dest)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o755), info.Mode().Perm())
	require.ErrorIs(t, CreateFolder(dest, nil), os.ErrExist)
}

func TestFreeSpace(t *testing.T) {
	n, err := FreeSpace(t.TempDir())
	require.NoError(t, err)
	require.Positive(t, n)
	_, err = FreeSpace(filepath.Join(t.TempDir(), "nowhere"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestSizeText(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1500: "1.5 kB", 92_871_040: "92.9 MB", 13_400_000_000: "13.4 GB"} {
		require.Equal(t, want, SizeText(n))
	}
}
