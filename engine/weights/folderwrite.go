package weights

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// maxShardBytes is the size above which a model is split, mlx-lm's 5 GB.
const maxShardBytes = 5 << 30

// writeFolder writes every file of the model into folder.
func (imp *importer) writeFolder(folder string, shardBytes int64) error {
	tokenizer, err := imp.vocab.tokenizerJSON()
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name    string
		content any
	}{
		{configFile, imp.config},
		{generationFile, imp.vocab.generationConfig()},
		{"tokenizer_config.json", imp.vocab.config(imp.config["max_position_embeddings"].(int))},
		{"tokenizer.json", tokenizer},
	} {
		if err := writeJSON(filepath.Join(folder, f.name), f.content); err != nil {
			return err
		}
	}
	return imp.writeShards(folder, shardBytes)
}

// writeShards writes the weights and, where they take more than one file, the
// index. What one tensor became stays in one shard.
func (imp *importer) writeShards(folder string, shardBytes int64) error {
	shards := splitShards(imp.groups, shardBytes)
	weightMap := make(map[string]string)
	for i, shard := range shards {
		name := singleFile
		if len(shards) > 1 {
			name = fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(shards))
		}
		outputs := make(map[string]*output)
		var tensors []Tensor
		for _, g := range shard {
			for i := range g {
				outputs[g[i].Name] = &g[i]
				tensors = append(tensors, g[i].Tensor)
				weightMap[g[i].Name] = name
			}
		}
		err := writeFile(filepath.Join(folder, name), func(w io.Writer) error {
			return Write(w, map[string]string{"format": "mlx"}, tensors, func(t Tensor, w io.Writer) error {
				return imp.write(outputs[t.Name], w)
			})
		})
		if err != nil {
			return err
		}
	}
	if len(shards) == 1 {
		return nil
	}
	return writeJSON(filepath.Join(folder, indexFile), map[string]any{
		"metadata": map[string]any{"total_size": imp.total}, "weight_map": weightMap})
}

// splitShards fills shards in order up to the given size.
func splitShards(groups []group, shardBytes int64) [][]group {
	var shards [][]group
	var size int64
	for _, g := range groups {
		var n int64
		for _, o := range g {
			n += o.Bytes
		}
		if len(shards) == 0 || size+n > shardBytes {
			shards, size = append(shards, nil), 0
		}
		last := &shards[len(shards)-1]
		*last = append(*last, g)
		size += n
	}
	return shards
}

// writeJSON writes a value as indented JSON with sorted keys; bytes are
// written as they are.
func writeJSON(path string, value any) error {
	return writeFile(path, func(w io.Writer) error {
		if data, ok := value.([]byte); ok {
			_, err := w.Write(data)
			return err
		}
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "    ")
		return enc.Encode(value)
	})
}

// writeFile creates a file, has it filled, and makes it durable.
func writeFile(path string, fill func(io.Writer) error) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := fill(f); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return f.Sync()
}

// SyncFolder makes the names in a folder durable.
func SyncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// CreateFolder has a new folder filled and gives it the name dest, which must not
// exist. It appears complete and durable or not at all: what a killed process
// leaves has a name that begins with ImportPrefix.
func CreateFolder(dest string, fill func(folder string) error) (err error) {
	if err := checkAbsent(dest); err != nil {
		return err
	}
	parent := filepath.Dir(dest)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(parent, ImportPrefix+filepath.Base(dest)+"-*")
	if err != nil {
		return err
	}
	// After the rename there is nothing left at temp to remove.
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	if err := fill(temp); err != nil {
		return err
	}
	if err := SyncFolder(temp); err != nil {
		return err
	}
	if err := os.Chmod(temp, 0o755); err != nil { // MkdirTemp makes it private
		return err
	}
	if err := os.Rename(temp, dest); err != nil {
		return err
	}
	return SyncFolder(parent)
}

// checkAbsent gives an error that matches fs.ErrExist where there is something.
func checkAbsent(path string) error {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = fs.ErrExist
	}
	return fmt.Errorf("%s: %w", path, err)
}

// ImportPrefix begins the name of a folder that is still being filled, or was when
// the process was killed.
const ImportPrefix = ".importing-"

// SizeText writes a size for people, such as "92.9 MB".
func SizeText(n int64) string {
	const k = 1000
	switch {
	case n >= k*k*k:
		return fmt.Sprintf("%.1f GB", float64(n)/(k*k*k))
	case n >= k*k:
		return fmt.Sprintf("%.1f MB", float64(n)/(k*k))
	case n >= k:
		return fmt.Sprintf("%.1f kB", float64(n)/k)
	}
	return fmt.Sprintf("%d B", n)
}
