package weights

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// A Shards writes the weights of a model folder: model.safetensors, or several
// files of about 5 GB each, and their index. Tensors come in any order and in
// pieces, so that a model larger than memory can be written. It is not for
// concurrent use. Files are named and split as mlx-lm does it.
type Shards struct {
	folder     string
	files      []*os.File
	tensors    map[string]*shardTensor
	bytes      int64
	parameters int64
}

// A shardTensor is a tensor with what is written of it.
type shardTensor struct {
	Tensor
	file    *os.File
	written int64
}

// NewShards creates the files for the tensors, whose name, type and shape count,
// in the order given. parameters is the number of weights before they were packed,
// which the index says. The caller closes it, and then has the folder to itself.
func NewShards(folder string, tensors []Tensor, parameters int64) (*Shards, error) {
	return newShards(folder, tensors, parameters, maxShardBytes)
}

func newShards(folder string, tensors []Tensor, parameters, shardBytes int64) (*Shards, error) {
	s := &Shards{folder: folder, tensors: make(map[string]*shardTensor), parameters: parameters}
	var parts [][]Tensor
	var size int64
	for _, t := range tensors {
		n, err := byteSize(t.Dtype, t.Shape)
		if err != nil {
			return nil, fmt.Errorf("tensor %s: %w", quote(t.Name), err)
		}
		if len(parts) == 0 || size+n > shardBytes {
			parts, size = append(parts, nil), 0
		}
		last := &parts[len(parts)-1]
		*last = append(*last, t)
		size += n
		s.bytes += n
	}
	for i, part := range parts {
		name := singleFile
		if len(parts) > 1 {
			name = fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(parts))
		}
		if err := s.create(name, part); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// create makes one file with its header.
func (s *Shards) create(name string, part []Tensor) error {
	placed, header, err := layout(map[string]string{"format": "mlx"}, part)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(s.folder, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	s.files = append(s.files, f)
	for _, t := range placed {
		if s.tensors[t.Name] != nil {
			return fmt.Errorf("tensor %s: appears twice", quote(t.Name))
		}
		t.File = name
		s.tensors[t.Name] = &shardTensor{Tensor: t, file: f}
	}
	_, err = f.WriteAt(slices.Concat(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header), 0)
	return err
}

// Write appends to the data of a tensor.
func (s *Shards) Write(tensor string, data []byte) error {
	t := s.tensors[tensor]
	switch {
	case t == nil:
		return fmt.Errorf("tensor %s: is not one of this model", quote(tensor))
	case t.written+int64(len(data)) > t.Bytes:
		return fmt.Errorf("tensor %s: %d bytes too many", quote(tensor), t.written+int64(len(data))-t.Bytes)
	}
	if _, err := t.file.WriteAt(data, t.Offset+t.written); err != nil {
		return fmt.Errorf("tensor %s: %w", quote(tensor), err)
	}
	t.written += int64(len(data))
	return nil
}

// Bytes is the size of all tensors.
func (s *Shards) Bytes() int64 { return s.bytes }

// Finish sees that every tensor is whole, makes the files durable and writes the
// index. Close comes after it all the same.
func (s *Shards) Finish() error {
	weightMap := make(map[string]string)
	for name, t := range s.tensors {
		if t.written != t.Bytes {
			return fmt.Errorf("tensor %s: %d of %d bytes were not written", quote(name), t.Bytes-t.written, t.Bytes)
		}
		weightMap[name] = t.File
	}
	for _, f := range s.files {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	return writeJSON(filepath.Join(s.folder, indexFile), map[string]any{"weight_map": weightMap,
		"metadata": map[string]any{"total_size": s.bytes, "total_parameters": s.parameters}})
}

// Close closes the files.
func (s *Shards) Close() error {
	var errs []error
	for _, f := range s.files {
		errs = append(errs, f.Close())
	}
	s.files = nil
	return errors.Join(errs...)
}
