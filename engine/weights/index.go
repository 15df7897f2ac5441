package weights

import (
	"errors"
	"fmt"
	"slices"
)

const (
	singleFile    = "model.safetensors"
	indexFile     = "model.safetensors.index.json"
	maxIndexBytes = 64 << 20
	maxShards     = 512 // all are open while a model loads; the largest models have under 200
)

// An index says which shard holds each tensor.
type index struct {
	files   []string         // shards, sorted
	tensors map[string]int32 // tensor name → place in files
}

// readIndex reads model.safetensors.index.json. Members other than weight_map
// are informative (transformers writes metadata.total_size, mlx-lm adds
// total_parameters) and only checked for syntax.
func readIndex(folder Folder) (*index, error) {
	data, err := readWhole(folder, indexFile, maxIndexBytes)
	if err != nil {
		return nil, err
	}
	bad := func(field, format string, args ...any) error {
		return &FormatError{File: indexFile, Field: field, Reason: fmt.Sprintf(format, args...)}
	}
	ix := &index{tensors: make(map[string]int32)}
	place := make(map[string]int32)
	seen := make(map[string]struct{})
	s := jsonScanner{b: data}
	err = s.object(func(key string) error {
		if _, dup := seen[key]; dup {
			return bad(quote(key), "appears twice")
		}
		seen[key] = struct{}{}
		if key != "weight_map" {
			return s.skip(maxConfigDepth)
		}
		return s.object(func(name string) error {
			if reason := badName(name); reason != "" {
				return bad("weight_map", "tensor name %s %s", quote(name), reason)
			}
			if _, dup := ix.tensors[name]; dup {
				return bad("weight_map", "tensor %s appears twice", quote(name))
			}
			if len(ix.tensors) == maxTensors {
				return bad("weight_map", "holds more than %d tensors", maxTensors)
			}
			if s.peek() != '"' {
				return bad("weight_map", "file of tensor %s is not a string", quote(name))
			}
			file, err := s.str()
			if err != nil {
				return err
			}
			i, ok := place[file]
			if !ok {
				if err := plainName(file); err != nil {
					return bad("weight_map", "tensor %s: %v", quote(name), err)
				}
				if len(ix.files) == maxShards {
					return bad("weight_map", "names more than %d files", maxShards)
				}
				i = int32(len(ix.files))
				place[file] = i
				ix.files = append(ix.files, file)
			}
			ix.tensors[name] = i
			return nil
		})
	})
	if err == nil {
		err = s.end()
	}
	var syntax *jsonError
	switch {
	case errors.As(err, &syntax):
		return nil, bad("", "%v", syntax)
	case err != nil:
		return nil, err
	case len(ix.tensors) == 0:
		return nil, bad("weight_map", "is missing or empty")
	}
	return ix, nil
}

// shardOf returns the shard that the index names for a tensor.
func (ix *index) shardOf(tensor string) (string, bool) {
	i, ok := ix.tensors[tensor]
	if !ok {
		return "", false
	}
	return ix.files[i], true
}

// shards returns the shard names in order.
func (ix *index) shards() []string {
	files := slices.Clone(ix.files)
	slices.Sort(files)
	return files
}
