package weights

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// A Model is the validated catalogue of the tensors in a model folder, with
// the files that hold them open. ReadTensor may be called from any number of
// goroutines; Close may not run beside it.
type Model struct {
	// Tensors lists every tensor, sorted by name. Read only.
	Tensors []Tensor

	files map[string]*openFile
}

// An openFile remembers what the file was when its header was validated.
type openFile struct {
	File
	info fs.FileInfo
}

// Open reads the headers of model.safetensors, or of the shards that
// model.safetensors.index.json names, and validates all of it. No weights are
// read. A broken file gives a *FormatError; a folder without weights gives an
// error that matches fs.ErrNotExist. The caller closes the Model.
func Open(folder string) (*Model, error) { return OpenFolder(Dir(folder)) }

// OpenFolder is Open on any Folder.
func OpenFolder(folder Folder) (*Model, error) {
	// As in mlx-lm and transformers an index wins over a single file: a
	// leftover model.safetensors may be the first shard of an older layout.
	ix, err := readIndex(folder)
	names := []string{singleFile}
	switch {
	case err == nil:
		names = ix.shards()
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	m := &Model{files: make(map[string]*openFile)}
	for _, name := range names {
		if err := m.add(folder, name); err != nil {
			return nil, errors.Join(err, m.Close())
		}
	}
	if err := m.catalogue(ix); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// add opens one file and appends its tensors.
func (m *Model) add(folder Folder, name string) error {
	f, err := folder.Open(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	of := &openFile{File: f}
	m.files[name] = of
	if of.info, err = f.Stat(); err != nil {
		return fmt.Errorf("%s: stat: %w", name, err)
	}
	tensors, err := readHeader(f, name, of.info.Size())
	if err != nil {
		return err
	}
	if len(m.Tensors)+len(tensors) > maxTensors {
		return &FormatError{File: name, Reason: fmt.Sprintf(
			"brings the model to more than %d tensors", maxTensors)}
	}
	if m.Tensors == nil {
		m.Tensors = tensors // as a rule there is one file
	} else {
		m.Tensors = append(m.Tensors, tensors...)
	}
	return nil
}

// catalogue sorts the tensors by name, refuses duplicates, and holds them
// against the index if there is one.
func (m *Model) catalogue(ix *index) error {
	slices.SortFunc(m.Tensors, func(a, b Tensor) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.File, b.File))
	})
	for i := range m.Tensors {
		t := &m.Tensors[i]
		if i > 0 && m.Tensors[i-1].Name == t.Name {
			reason := "appears twice"
			if first := m.Tensors[i-1].File; first != t.File {
				reason = "is in " + first + " as well"
			}
			return &FormatError{File: t.File, Tensor: t.Name, Reason: reason}
		}
		if ix == nil {
			continue
		}
		file, ok := ix.shardOf(t.Name)
		switch {
		case !ok:
			return &FormatError{File: t.File, Tensor: t.Name, Reason: "is not in " + indexFile}
		case file != t.File:
			return &FormatError{indexFile, t.Name, "weight_map", fmt.Sprintf(
				"names %s, the tensor is in %s", file, t.File)}
		}
	}
	if ix != nil && len(ix.tensors) != len(m.Tensors) {
		return m.missing(ix)
	}
	if len(m.Tensors) == 0 {
		return &FormatError{File: singleFile, Reason: "holds no tensors"}
	}
	return nil
}

// missing names the first tensor, by name, that the index lists and no shard
// holds.
func (m *Model) missing(ix *index) error {
	first := ""
	for name := range ix.tensors {
		if _, ok := m.Tensor(name); !ok && (first == "" || name < first) {
			first = name
		}
	}
	file, _ := ix.shardOf(first)
	return &FormatError{indexFile, first, "weight_map", "is not in " + file}
}

// Tensor returns the tensor of that name.
func (m *Model) Tensor(name string) (Tensor, bool) {
	i, ok := slices.BinarySearchFunc(m.Tensors, name, func(t Tensor, name string) int {
		return cmp.Compare(t.Name, name)
	})
	if !ok {
		return Tensor{}, false
	}
	return m.Tensors[i], true
}

// Bytes returns the sum of the sizes of all tensors as stored.
func (m *Model) Bytes() int64 {
	var n int64
	for i := range m.Tensors {
		n += m.Tensors[i].Bytes
	}
	return n
}

// ReadTensor fills dst, which must have exactly t.Bytes bytes, with the data of
// t, a tensor of this model. On an error dst holds nothing of use. A file that
// changed since Open is an error even where the read itself succeeded: weights
// of two different files would look like one model.
func (m *Model) ReadTensor(t Tensor, dst []byte) error {
	f, ok := m.files[t.File]
	switch {
	case !ok:
		return fmt.Errorf("%s: read tensor %s: the file is not open", t.File, quote(t.Name))
	case int64(len(dst)) != t.Bytes:
		return fmt.Errorf("%s: read tensor %s: buffer of %d bytes, want %d",
			t.File, quote(t.Name), len(dst), t.Bytes)
	}
	if err := readFull(f, dst, t.Offset); err != nil {
		return fmt.Errorf("%s: read tensor %s: %w", t.File, quote(t.Name), err)
	}
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("%s: read tensor %s: stat: %w", t.File, quote(t.Name), err)
	}
	if changed(f.info, info) {
		return fmt.Errorf("%s: read tensor %s: the file changed while it was being read", t.File, quote(t.Name))
	}
	return nil
}

// Close closes the files. The catalogue stays readable.
func (m *Model) Close() error {
	var errs []error
	for name, f := range m.files {
		if err := f.Close(); err != nil {
			errs = append(errs, fmt.Errorf("%s: close: %w", name, err))
		}
		delete(m.files, name)
	}
	return errors.Join(errs...)
}
