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
	Chat          bool   // there is a chat template
	Problem       string // why it cannot be used; empty if nothing is wrong
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
	context, err := config.ContextLength()
	if err != nil {
		return err
	}
	vocab, _, err := config.Natural("vocab_size")
	if err != nil {
		return err
	}
	m.ContextLength, m.Vocab = int(min(context, math.MaxInt32)), int(min(vocab, math.MaxInt32))
	files, err := weights.OpenFolder(folder)
	if err != nil {
		return err
	}
	m.SizeBytes = files.Bytes()
	if err := files.Close(); err != nil {
		return err
	}
	if err := checkSizes(config); err != nil {
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

// checkSizes refuses a config whose sizes no model has.
func checkSizes(config *weights.Config) error {
	var err error
	size := func(key string, absent int64) int64 {
		n, ok, e := config.Natural(key)
		err = errors.Join(err, e)
		if !ok {
			return absent
		}
		return n
	}
	layers, heads := size("num_hidden_layers", 0), size("num_attention_heads", 0)
	kv, dim := size("num_key_value_heads", heads), size("head_dim", 0)
	if err != nil {
		return err
	}
	if layers > 1<<16 || kv > 1<<16 || dim > 1<<16 {
		return fmt.Errorf("config.json: %d layers of %d key/value heads of %d are not a model", layers, kv, dim)
	}
	return nil
}
