package weights

import (
	"encoding/json"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// modelFiles are what an MLX model consists of: mlx-lm's patterns without *.py,
// since no code of a model ever runs here.
var modelFiles = []string{"*.json", "model*.safetensors", "tokenizer.model", "tiktoken.model", "*.tiktoken", "*.txt", "*.jsonl", "*.jinja"}

// IsModelFile tells whether a file of that plain name is part of a model.
func IsModelFile(name string) bool {
	return !strings.HasPrefix(name, ".") && slices.ContainsFunc(modelFiles, func(pattern string) bool {
		ok, _ := path.Match(pattern, name) // the patterns are well formed
		return ok
	})
}

// CopyCompanions copies the files of a model that are neither weights nor
// config.json: its tokenizer, its chat template, how it wants to generate.
func CopyCompanions(to, from string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if !IsModelFile(name) || strings.HasSuffix(name, ".safetensors") || name == configFile || name == indexFile {
			continue
		}
		if err := copyFile(to, from, name); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(to, from, name string) error {
	f, err := Dir(from).Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // was only read from
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(to, name), func(w io.Writer) error {
		_, err := io.Copy(w, io.NewSectionReader(f, 0, info.Size()))
		return err
	})
}

// WriteConfig writes the folder's config.json: the members of another one, without
// those that mlx-lm leaves out, and with some replaced; a nil one is left out.
func (c *Config) WriteConfig(folder string, replaced map[string]any) error {
	members := make(map[string]any)
	for key, text := range c.members {
		members[key] = json.RawMessage(text)
	}
	maps.Copy(members, replaced)
	if q := members["quantization"]; q != nil {
		members["quantization_config"] = q // where transformers looks for it
	}
	for _, key := range []string{"_name_or_path", "vision_config"} {
		delete(members, key)
	}
	maps.DeleteFunc(members, func(_ string, v any) bool { return v == nil })
	return writeJSON(filepath.Join(folder, configFile), members)
}
