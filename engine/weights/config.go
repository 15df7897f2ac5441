package weights

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strconv"
)

const (
	configFile     = "config.json"
	generationFile = "generation_config.json"
	maxConfigBytes = 8 << 20
	maxConfigDepth = 64
	maxIDs         = 1024 // ids that end generation; each token is held against all
)

// A Config is a model's config.json: the bytes, for the architecture to decode,
// and a typed view of the members that every architecture shares.
type Config struct {
	Raw          []byte        // config.json as stored: valid JSON, no duplicate keys
	ModelType    string        // model_type
	EOS          []int32       // ids that end generation; see ReadConfig
	Quantization *Quantization // nil when the weights are not quantized

	members, text object // the top level and text_config
}

// An object is a JSON object whose values are kept as text.
type object map[string][]byte

// ReadConfig reads config.json, and generation_config.json if there is one,
// whose eos_token_id then replaces the other's, as in mlx-lm and transformers.
// What it returns has passed: at most 8 MiB, UTF-8, 64 levels, no duplicate
// keys. A broken file gives a *FormatError naming the field.
func ReadConfig(folder string) (*Config, error) { return ReadConfigFolder(Dir(folder)) }

// ReadConfigFolder is ReadConfig on any Folder.
func ReadConfigFolder(folder Folder) (*Config, error) {
	raw, members, err := readObject(folder, configFile)
	if err != nil {
		return nil, err
	}
	c := &Config{Raw: raw, members: members}
	bad := func(field string, err error) error {
		return &FormatError{File: configFile, Field: field, Reason: err.Error()}
	}
	model, ok := members["model_type"]
	if !ok {
		return nil, bad("model_type", errors.New("is missing"))
	}
	if c.ModelType, err = decodeString(model); err != nil {
		return nil, bad("model_type", err)
	}
	if c.ModelType == "" {
		return nil, bad("model_type", errors.New("is empty"))
	}
	if nested, ok := members["text_config"]; ok && !isNull(nested) {
		if c.text, err = decodeObject(nested); err != nil {
			return nil, bad("text_config", err)
		}
	}
	if c.EOS, err = decodeIDs(members["eos_token_id"]); err != nil {
		return nil, bad("eos_token_id", err)
	}
	if c.EOS == nil {
		if c.EOS, err = decodeIDs(c.text["eos_token_id"]); err != nil {
			return nil, bad("text_config.eos_token_id", err)
		}
	}
	if c.Quantization, err = readQuantization(members); err != nil {
		return nil, err
	}
	if err := c.readGeneration(folder); err != nil {
		return nil, err
	}
	return c, nil
}

// readGeneration lets generation_config.json name other end-of-text ids.
func (c *Config) readGeneration(folder Folder) error {
	_, members, err := readObject(folder, generationFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	ids, err := decodeIDs(members["eos_token_id"])
	if err != nil {
		return &FormatError{File: generationFile, Field: "eos_token_id", Reason: err.Error()}
	}
	if ids != nil {
		c.EOS = ids
	}
	return nil
}

// Natural returns a non-negative integer member of config.json, or of its
// text_config where multi-modal models keep the language model's sizes. The
// bool says whether the member is there; null counts as absent.
func (c *Config) Natural(key string) (int64, bool, error) {
	for _, level := range []struct {
		prefix string
		object object
	}{{"", c.members}, {"text_config.", c.text}} {
		text, ok := level.object[key]
		if !ok || isNull(text) {
			continue
		}
		n, err := decodeNatural(text)
		if err != nil {
			return 0, false, &FormatError{File: configFile, Field: level.prefix + key, Reason: err.Error()}
		}
		return n, true, nil
	}
	return 0, false, nil
}

// TorchDtype returns the type that the weights are said to have, such as
// "bfloat16", where mlx-lm's convert looks for it: "" where neither torch_dtype
// nor text_config's dtype is a text.
func (c *Config) TorchDtype() string {
	for _, text := range [][]byte{c.members["torch_dtype"], c.text["dtype"]} {
		if len(text) > 0 && !isNull(text) {
			name, _ := decodeString(text) // "" for what is no text
			return name
		}
	}
	return ""
}

// readObject reads a file that holds one JSON object.
func readObject(folder Folder, name string) ([]byte, object, error) {
	raw, err := readWhole(folder, name, maxConfigBytes)
	if err != nil {
		return nil, nil, err
	}
	members, err := decodeObject(raw)
	if err != nil {
		return nil, nil, &FormatError{File: name, Reason: err.Error()}
	}
	return raw, members, nil
}

// decodeObject splits an object into its members, having checked all of it.
func decodeObject(text []byte) (object, error) {
	s := jsonScanner{b: text}
	members := make(object)
	err := s.object(func(key string) error {
		if _, dup := members[key]; dup {
			return s.errorf("duplicate key %s", quote(key))
		}
		s.peek()
		start := s.pos
		if err := s.skip(maxConfigDepth - 1); err != nil {
			return err
		}
		members[key] = text[start:s.pos]
		return nil
	})
	if err == nil {
		err = s.end()
	}
	return members, err
}

// The decoders below take the text of one value that decodeObject has checked.

func isNull(text []byte) bool { return string(text) == "null" }

func decodeString(text []byte) (string, error) {
	if text[0] != '"' {
		return "", errors.New("is not a string")
	}
	s := jsonScanner{b: text}
	return s.str()
}

func decodeNatural(text []byte) (int64, error) {
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("is %s, want a non-negative integer", quote(string(text)))
	}
	return n, nil
}

// decodeIDs reads a token id or a list of them. Absent and null give nil.
func decodeIDs(text []byte) ([]int32, error) {
	if text == nil || isNull(text) {
		return nil, nil
	}
	list := [][]byte{text}
	if text[0] == '[' {
		list = decodeArray(text)
	}
	if len(list) > maxIDs {
		return nil, fmt.Errorf("lists %d ids, at most %d are read", len(list), maxIDs)
	}
	ids := make([]int32, 0, len(list))
	for _, item := range list {
		n, err := decodeNatural(item)
		if err != nil {
			return nil, err
		}
		if n > math.MaxInt32 {
			return nil, fmt.Errorf("id %d is out of range", n)
		}
		ids = append(ids, int32(n))
	}
	return ids, nil
}

// decodeArray splits an array into its elements.
func decodeArray(text []byte) [][]byte {
	s := jsonScanner{b: text}
	var list [][]byte
	// The text was checked before, so that the walk cannot fail.
	_ = s.array(func() error {
		s.peek()
		start := s.pos
		err := s.skip(maxConfigDepth)
		list = append(list, text[start:s.pos])
		return err
	})
	return list
}

// ReadJSON reads a file of a model folder that holds one JSON object and returns
// the text of its members, under the rules of ReadConfig.
func ReadJSON(folder Folder, name string) (map[string][]byte, error) {
	_, members, err := readObject(folder, name)
	return members, err
}
