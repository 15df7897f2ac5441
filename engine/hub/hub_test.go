package hub

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gofrs/flock"
	"github.com/stretchr/testify/require"

	"harmonyd/engine/weights"
)

const quantized = `{"model_type":"llama","max_position_embeddings":128,"vocab_size":8,"hidden_size":64,"num_hidden_layers":3,
	"num_attention_heads":4,"num_key_value_heads":2,"eos_token_id":[1,2],"quantization":{"group_size":32,"bits":4,"plain":false}}`

// writeModel makes a model folder with the given config and no bug but those
// that the config has.
func writeModel(t *testing.T, folder, config string) {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, weights.Write(&b, nil, []weights.Tensor{
		{Name: "embed.weight", Dtype: weights.U32, Shape: []int{8, 8}}, // 8 × 64 weights of 4 bits
		{Name: "embed.scales", Dtype: weights.F16, Shape: []int{8, 2}},
		{Name: "embed.biases", Dtype: weights.F16, Shape: []int{8, 2}},
		{Name: "plain.weight", Dtype: weights.F32, Shape: []int{8, 2}},
		{Name: "plain.scales", Dtype: weights.BF16, Shape: []int{4}},
		{Name: "steps", Dtype: weights.I64, Shape: []int{1}},
	}, func(t weights.Tensor, w io.Writer) error { _, err := w.Write(make([]byte, t.Bytes)); return err }))
	require.NoError(t, os.MkdirAll(folder, 0o755))
	for name, data := range map[string]string{"config.json": config, "model.safetensors": b.String(), "tokenizer.json": "{}",
		"tokenizer_config.json": `{"chat_template":"{{ messages }}"}`} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(data), 0o644))
	}
}

func TestDescribe(t *testing.T) {
	folder := t.TempDir()
	writeModel(t, folder, quantized)
	m := Describe(folder)
	require.Equal(t, Model{Folder: folder, Family: "llama", Quantization: "affine 4-bit, groups of 32", ContextLength: 128,
		Vocab: 8, SizeBytes: 256 + 32 + 32 + 64 + 8 + 8, StopIDs: []int32{1, 2}, Chat: true}, m)

	writeModel(t, folder, `{"model_type":"other"}`)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "tokenizer_config.json"), []byte(`{"chat_template":null}`), 0o644))
	m = Describe(folder)
	require.Empty(t, m.Problem)
	require.Empty(t, m.Quantization)
	require.False(t, m.Chat)
	require.NoError(t, os.Remove(filepath.Join(folder, "tokenizer_config.json")))
	require.False(t, Describe(folder).Chat)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "chat_template.jinja"), nil, 0o644))
	require.True(t, Describe(folder).Chat)
}

func TestDescribeBrokenModels(t *testing.T) {
	write := func(name, data string) func(string) error {
		return func(folder string) error { return os.WriteFile(filepath.Join(folder, name), []byte(data), 0o644) }
	}
	remove := func(name string) func(string) error {
		return func(folder string) error { return os.Remove(filepath.Join(folder, name)) }
	}
	for want, spoil := range map[string]func(string) error{
		"config.json: is missing":                                               remove("config.json"),
		"model.safetensors: is missing":                                         remove("model.safetensors"),
		"tokenizer.json: is missing":                                            remove("tokenizer.json"),
		"config.json: model_type: is missing":                                   write("config.json", "{}"),
		"config.json: byte 1: end of JSON, want a key":                          write("config.json", "{"),
		`config.json: vocab_size: is "-1", want a non-negative integer`:         write("config.json", `{"model_type":"m","vocab_size":-1}`),
		`config.json: num_hidden_layers: is "2.5", want a non-negative integer`: write("config.json", `{"model_type":"m","num_hidden_layers":2.5}`),
		"config.json: 70000 layers of 1 key/value heads of 1 are not a model": write("config.json",
			`{"model_type":"m","num_hidden_layers":70000,"num_attention_heads":1,"head_dim":1}`),
		"config.json: 9000000000 layers of 0 key/value heads of 0 are not a model": write("config.json",
			`{"model_type":"m","num_hidden_layers":9000000000}`),
		"model.safetensors: is 3 bytes, too short for a safetensors file": write("model.safetensors", "abc"),
		"tokenizer_config.json: byte 0: found '[', want '{'":              write("tokenizer_config.json", "[]"),
	} {
		folder := t.TempDir()
		writeModel(t, folder, quantized)
		require.NoError(t, spoil(folder))
		require.Equal(t, want, Describe(folder).Problem)
	}
	// Some say that their context is without end.
	folder := t.TempDir()
	writeModel(t, folder, `{"model_type":"m","max_position_embeddings":9000000000}`)
	m := Describe(folder)
	require.Empty(t, m.Problem)
	require.Equal(t, 1<<31-1, m.ContextLength)
}

func TestList(t *testing.T) {
	root := t.TempDir()
	h := New(filepath.Join(root, "models"))
	list, err := h.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, list)
	for _, id := range []string{"b", "owner/y", "owner/x", ".hidden", weights.ImportPrefix + "z-1", "with space"} {
		writeModel(t, filepath.Join(h.Root(), id), quantized)
	}
	elsewhere := filepath.Join(root, "elsewhere")
	writeModel(t, elsewhere, quantized)
	require.NoError(t, os.Symlink(elsewhere, filepath.Join(h.Root(), "a-link")))
	require.NoError(t, os.Symlink(filepath.Join(root, "nowhere"), filepath.Join(h.Root(), "dangling")))
	require.NoError(t, os.MkdirAll(filepath.Join(h.Root(), "empty"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(h.Root(), "notes.txt"), nil, 0o644))
	require.NoError(t, os.Remove(filepath.Join(h.Root(), "b", "config.json")))

	list, err = h.List(t.Context())
	require.NoError(t, err)
	var ids []string
	for _, m := range list {
		ids = append(ids, m.ID)
		require.Equal(t, m.ID == "b", m.Problem != "", m.Problem)
		folder, err := h.Resolve(m.ID)
		require.NoError(t, err)
		require.Equal(t, m.Folder, folder)
	}
	require.Equal(t, []string{"a-link", "b", "owner/x", "owner/y"}, ids)
}

func TestListStopsWhenCancelled(t *testing.T) {
	h := New(t.TempDir())
	writeModel(t, filepath.Join(h.Root(), "owner", "m"), quantized)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := h.List(ctx)
	require.ErrorIs(t, err, ctx.Err())
	require.NoError(t, os.Rename(filepath.Join(h.Root(), "owner", "m"), filepath.Join(h.Root(), "m")))
	_, err = h.List(ctx)
	require.ErrorIs(t, err, ctx.Err())
}

func TestResolveStaysBelowTheRoot(t *testing.T) {
	root := t.TempDir()
	writeModel(t, filepath.Join(root, "secret"), quantized)
	h := New(filepath.Join(root, "models"))
	writeModel(t, filepath.Join(h.Root(), "owner", "m"), quantized)
	writeModel(t, filepath.Join(h.Root(), ".hidden"), quantized)
	for _, id := range []string{"..", ".", "../secret", "owner/..", "owner/../../secret", "/etc", "owner/m/..", "a/b/c", "owner//m",
		"owner/m/", "owner\\m", "owner/m\x00", "owner/m\n", "", ".hidden", "owner/.", "~", "~/x", "é", " ", "owner/m%2f", "C:",
		strings.Repeat("a", 256), "\xff"} {
		if id == "" {
			continue
		}
		folder, err := h.Resolve(id)
		require.Error(t, err, "%q", id)
		require.NotErrorIs(t, err, ErrNotFound, "%q", id)
		require.Empty(t, folder)
		_, err = h.Import(t.Context(), "x.gguf", id, nil)
		require.ErrorContains(t, err, "model id", "%q", id)
		require.ErrorContains(t, h.Remove(id), "model id", "%q", id)
	}
	_, err := h.Resolve("owner/other")
	require.ErrorIs(t, err, ErrNotFound)
	require.NoError(t, os.WriteFile(filepath.Join(h.Root(), "file"), nil, 0o644))
	_, err = h.Resolve("file")
	require.ErrorIs(t, err, ErrNotFound)
	_, err = h.Resolve("")
	require.ErrorContains(t, err, DefaultModel)
	writeModel(t, filepath.Join(h.Root(), DefaultModel), quantized)
	folder, err := h.Resolve("")
	require.NoError(t, err)
	require.Equal(t, filepath.Join(h.Root(), DefaultModel), folder)
}

func TestRoot(t *testing.T) {
	t.Setenv(EnvRoot, "")
	require.Equal(t, filepath.Join("data", "models"), Root("", "data"))
	t.Setenv(EnvRoot, "env")
	require.Equal(t, "env", Root("", "data"))
	require.Equal(t, "flag", Root("flag", "data"))
}

func TestRemove(t *testing.T) {
	root := t.TempDir()
	h := New(filepath.Join(root, "models"))
	elsewhere := filepath.Join(root, "elsewhere")
	writeModel(t, elsewhere, quantized)
	for _, id := range []string{"m", "owner/x", "owner/y"} {
		writeModel(t, filepath.Join(h.Root(), id), quantized)
	}
	require.NoError(t, os.Symlink(elsewhere, filepath.Join(h.Root(), "link")))
	require.ErrorContains(t, h.Remove("owner"), "is a folder of models")
	require.ErrorContains(t, h.Remove(""), "model id", "no default for a removal")
	require.NoError(t, os.Mkdir(filepath.Join(h.Root(), "m", "onnx"), 0o755))
	require.ErrorIs(t, h.Remove("m/onnx"), ErrNotFound, "a folder of a model is none")
	require.ErrorIs(t, h.Remove("m/config.json"), ErrNotFound)
	require.Empty(t, Describe(filepath.Join(h.Root(), "m")).Problem)
	for _, id := range []string{"m", "owner/x", "link", "owner/y"} {
		require.NoError(t, h.Remove(id))
		_, err := h.Resolve(id)
		require.ErrorIs(t, err, ErrNotFound)
		require.ErrorIs(t, h.Remove(id), ErrNotFound)
	}
	_, err := os.Stat(filepath.Join(elsewhere, "config.json"))
	require.NoError(t, err, "what a link leads to stays")
	entries, err := os.ReadDir(h.Root())
	require.NoError(t, err)
	require.Len(t, entries, 1, "only the lock is left")
}

// TestRemoveAfterAnInterruptedRemoval: what the earlier one left has the name that
// this one needs.
func TestRemoveAfterAnInterruptedRemoval(t *testing.T) {
	h := New(t.TempDir())
	for _, id := range []string{"m", "owner/x", "owner/y"} {
		writeModel(t, filepath.Join(h.Root(), id), quantized)
	}
	writeModel(t, filepath.Join(h.Root(), removePrefix+"m"), quantized)
	writeModel(t, filepath.Join(h.Root(), "owner", removePrefix+"x"), quantized)
	require.NoError(t, h.Remove("m"))
	require.NoError(t, h.Remove("owner/x"))
	entries, err := os.ReadDir(filepath.Join(h.Root(), "owner"))
	require.NoError(t, err)
	require.Len(t, entries, 1, "y is left")
}

// ggufWithoutModel is a GGUF file whose metadata end an import early.
func ggufWithoutModel(t *testing.T) string {
	path := filepath.Join(t.TempDir(), ".My model (v1.0).Q4_0.gguf")
	file := slices.Concat([]byte("GGUF"), binary.LittleEndian.AppendUint32(nil, 3), make([]byte, 16))
	require.NoError(t, os.WriteFile(path, file, 0o644))
	return path
}

func TestImportCleansUp(t *testing.T) {
	h := New(filepath.Join(t.TempDir(), "models"))
	path := ggufWithoutModel(t)
	require.Equal(t, "My-model-v1.0-.Q4_0", idFor(path))
	writeModel(t, filepath.Join(h.Root(), "m"), quantized)
	writeModel(t, filepath.Join(h.Root(), weights.ImportPrefix+"killed-1"), quantized)
	writeModel(t, filepath.Join(h.Root(), removePrefix+"killed"), quantized)
	writeModel(t, filepath.Join(h.Root(), "owner", "kept"), quantized)
	writeModel(t, filepath.Join(h.Root(), "owner", weights.ImportPrefix+"killed-2"), quantized)
	_, err := h.Import(t.Context(), path, "", nil)
	require.EqualError(t, err, `import: .My model (v1.0).Q4_0.gguf: key "general.architecture": is missing`)
	var format *weights.FormatError
	require.True(t, errors.As(err, &format))
	entries, err := os.ReadDir(h.Root())
	require.NoError(t, err)
	require.Len(t, entries, 3, "the lock, the model and the owner")
	entries, err = os.ReadDir(filepath.Join(h.Root(), "owner"))
	require.NoError(t, err)
	require.Len(t, entries, 1, "and the owner's model")
	_, err = h.Import(t.Context(), path, "m", nil)
	require.ErrorIs(t, err, fs.ErrExist)
	_, err = h.Import(t.Context(), path, "m/x", nil)
	require.EqualError(t, err, `model id "m/x": m is a model, not an owner of models`)
	_, err = h.Import(t.Context(), path, "new/x", nil)
	require.True(t, errors.As(err, &format))
	require.ErrorContains(t, err, "import new/x: .My model")
}

func TestOneChangeAtATime(t *testing.T) {
	h := New(t.TempDir())
	writeModel(t, filepath.Join(h.Root(), "m"), quantized)
	other := flock.New(filepath.Join(h.Root(), ".lock"))
	locked, err := other.TryLock()
	require.NoError(t, err)
	require.True(t, locked)
	require.ErrorIs(t, h.Remove("m"), ErrBusy)
	_, err = h.Import(t.Context(), ggufWithoutModel(t), "x", nil)
	require.ErrorIs(t, err, ErrBusy)
	require.NoError(t, other.Unlock())
	require.NoError(t, h.Remove("m"))
}

func TestRootThatIsNoFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	h := New(file)
	_, err := h.List(t.Context())
	require.ErrorContains(t, err, "list models: ")
	require.ErrorContains(t, h.Remove("m"), "create the folder of models: ")
	h = New(t.TempDir())
	require.NoError(t, os.Mkdir(filepath.Join(h.Root(), ".lock"), 0o755))
	_, err = h.Import(t.Context(), file, "m", nil)
	require.ErrorContains(t, err, "lock the folder of models: ")
}

// TestImportTheDefaultModel imports the file that the deps target fetches.
func TestImportTheDefaultModel(t *testing.T) {
	h := New(t.TempDir())
	file := filepath.Join("..", "..", ".deps", "models", DefaultModel+".gguf")
	var done, total int64
	id, err := h.Import(t.Context(), file, "", func(d, n int64, _ string) { done, total = d, n })
	require.NoError(t, err, "run: make deps")
	require.Equal(t, DefaultModel, id)
	require.Equal(t, total, done)
	list, err := h.List(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 1)
	m := list[0]
	require.Empty(t, m.Problem)
	require.Equal(t, "affine 4-bit, groups of 32", m.Quantization)
	require.Equal(t, 8192, m.ContextLength)
	require.Equal(t, total, m.SizeBytes)
	require.True(t, m.Chat)
}
