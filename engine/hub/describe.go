package hub

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strings"

	"harmonyd/engine/weights"
)

// A Model is what the files of a model say about it.
type Model struct {
	ID            string // empty where the folder is not in the hub
	Folder        string
	Family        string // model_type of config.json
	Quantization  string // such as "affine 4-bit, groups of 32"; empty for none
	ContextLength int    // tokens; 0 where the config does not say
	Vocab         int    // rows of the logits
	SizeBytes     int64  // of the weights on disk
	StopIDs       []int32
	Chat          bool // there is a chat template
	Memory        Memory
	Problem       string // why it cannot be used; empty if nothing is wrong
}

// Memory is what a model needs, as far as its headers tell.
type Memory struct {
	Stored   int64 // bytes of the weights in the types of the file
	Unpacked int64 // bytes of the weights with all of them in float32
	// CacheElements is the number of key and value elements that each token of
	// text adds over all layers, or 0 where the config gives no such sizes. A
	// model with sliding windows or a compressed cache needs less.
	CacheElements int64
	Largest       weights.Tensor // the tensor with the most bytes
}

// Describe reads the config and the headers of a model folder. What is wrong
// with them is in the Problem of the result.
func Describe(folder string) Model {
	m := Model{Folder: folder}
	if err := m.read(weights.Dir(folder)); err != nil {
		m.Problem = problem(folder, err)
	}
	return m
}

// problem words an error for a person who sees it next to the model's name.
func problem(folder string, err error) string {
	var path *fs.PathError
	if errors.As(err, &path) && errors.Is(err, fs.ErrNotExist) {
		return strings.TrimPrefix(strings.TrimPrefix(path.Path, folder), "/") + ": is missing"
	}
	return err.Error()
}

func (m *Model) read(folder weights.Folder) error {
	config, err := weights.ReadConfigFolder(folder)
	if err != nil {
		return err
	}
	m.Family, m.StopIDs = config.ModelType, config.EOS
	if q := config.Quantization; q != nil {
		m.Quantization = fmt.Sprintf("%s %d-bit, groups of %d", q.Mode, q.Bits, q.GroupSize)
	}
	for _, f := range []struct {
		key  string
		into *int
	}{{"max_position_embeddings", &m.ContextLength}, {"vocab_size", &m.Vocab}} {
		n, _, err := config.Natural(f.key)
		if err != nil {
			return err
		}
		*f.into = int(min(n, math.MaxInt32))
	}
	files, err := weights.OpenFolder(folder)
	if err != nil {
		return err
	}
	m.SizeBytes = files.Bytes()
	m.Memory = memory(files, config)
	if err := files.Close(); err != nil {
		return err
	}
	if m.Memory.CacheElements, err = cacheElements(config); err != nil {
		return err
	}
	return m.readTokenizer(folder)
}

// readTokenizer sees that there is a tokenizer and whether it has a template.
func (m *Model) readTokenizer(folder weights.Folder) error {
	f, err := folder.Open("tokenizer.json")
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	members, err := weights.ReadJSON(folder, "tokenizer_config.json")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	template, ok := members["chat_template"]
	m.Chat = ok && string(template) != "null"
	// Newer repositories keep the template in a file of its own.
	if f, err := folder.Open("chat_template.jinja"); err == nil {
		m.Chat = true
		return f.Close()
	}
	return nil
}

// memory adds up the tensors.
func memory(files *weights.Model, config *weights.Config) Memory {
	m := Memory{Stored: files.Bytes()}
	for _, t := range files.Tensors {
		if t.Bytes > m.Largest.Bytes {
			m.Largest = t
		}
		m.Unpacked += unpackedBytes(t, files, config)
	}
	return m
}

// unpackedBytes is what t takes when every weight is a float32. Scales and
// biases vanish into the weights that they unpack.
func unpackedBytes(t weights.Tensor, files *weights.Model, config *weights.Config) int64 {
	path, leaf := t.Name, ""
	if i := strings.LastIndexByte(t.Name, '.'); i >= 0 {
		path, leaf = t.Name[:i], t.Name[i+1:]
	}
	_, packed := files.Tensor(path + ".scales")
	if packed && config.Quantization != nil {
		switch p, quantized, _ := config.Quantization.For(path); {
		case !quantized:
		case leaf == "weight":
			return t.Bytes * 8 / int64(p.Bits) * 4
		case leaf == "scales" || leaf == "biases":
			return 0
		}
	}
	switch t.Dtype {
	case weights.F16, weights.BF16:
		return t.Bytes * 2
	}
	return t.Bytes
}

// cacheElements computes the growth of the key/value cache per token.
func cacheElements(config *weights.Config) (int64, error) {
	var err error
	size := func(key string, absent int64) int64 {
		n, ok, e := config.Natural(key)
		err = errors.Join(err, e)
		if !ok || n > math.MaxInt32 {
			return absent
		}
		return n
	}
	layers, heads := size("num_hidden_layers", 0), size("num_attention_heads", 0)
	kv := size("num_key_value_heads", heads)
	dim := size("head_dim", 0)
	if dim == 0 && heads > 0 {
		dim = size("hidden_size", 0) / heads
	}
	if err != nil {
		return 0, err
	}
	if layers > 1<<16 || kv > 1<<16 || dim > 1<<16 {
		return 0, fmt.Errorf("config.json: %d layers of %d key/value heads of %d are not a model", layers, kv, dim)
	}
	return 2 * layers * kv * dim, nil
}
