package weights

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"unicode/utf8"
)

// Limits of what is read of a GGUF header. The largest known vocabularies have
// a quarter of a million tokens and twice as many merges.
const (
	maxGGUFKeys     = 1 << 16
	maxGGUFTensors  = 1 << 17
	maxGGUFKey      = 1 << 10
	maxGGUFString   = 4 << 20
	maxGGUFElements = 16 << 20  // of all arrays together
	maxGGUFHeader   = 512 << 20 // bytes before the tensor data
	maxGGUFRank     = 4
)

// A GGUF is an open GGUF file whose header has been read and validated.
type GGUF struct {
	Version uint32
	Tensors []GGUFTensor // in the order of the file, which is that of their data

	name   string
	file   File
	info   fs.FileInfo // as it was when the header was read
	values []ggufValue // sorted by key
}

// A ggufValue is one key of the metadata. See ggufReader.value for the types.
type ggufValue struct {
	key   string
	value any
}

// A GGUFTensor is where one tensor of a GGUF file lies.
type GGUFTensor struct {
	Name   string
	Shape  []int // outermost first, the reverse of GGUF's own order
	Offset int64 // first byte of the data within the file
	Bytes  int64

	kind *ggmlType
}

// Type returns the GGML name of the element type, such as Q4_0.
func (t *GGUFTensor) Type() string { return t.kind.name }

// OpenGGUF reads the header of a GGUF file, versions 2 and 3. Counts and lengths
// are checked against the size of the file before anything is allocated for
// them. A broken or unsupported file gives a *FormatError. The caller closes
// the GGUF.
func OpenGGUF(path string) (*GGUF, error) {
	return OpenGGUFIn(Dir(filepath.Dir(path)), filepath.Base(path))
}

// OpenGGUFIn is OpenGGUF on a file of any Folder.
func OpenGGUFIn(folder Folder, name string) (*GGUF, error) {
	f, err := folder.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	g := &GGUF{name: name, file: f}
	if err := g.readHeader(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return g, nil
}

// Close closes the file.
func (g *GGUF) Close() error {
	if err := g.file.Close(); err != nil {
		return fmt.Errorf("%s: close: %w", g.name, err)
	}
	return nil
}

// ReadAt reads len(p) bytes of the data of t, from offset off of them.
func (g *GGUF) ReadAt(t *GGUFTensor, p []byte, off int64) error {
	if off < 0 || int64(len(p)) > t.Bytes-off {
		return fmt.Errorf("%s: read tensor %s: %d bytes at %d, it has %d", g.name, quote(t.Name), len(p), off, t.Bytes)
	}
	if err := readFull(g.file, p, t.Offset+off); err != nil {
		return fmt.Errorf("%s: read tensor %s: %w", g.name, quote(t.Name), err)
	}
	return nil
}

// unchanged reports a file that was written to since its header was read.
func (g *GGUF) unchanged() error {
	info, err := g.file.Stat()
	if err != nil {
		return fmt.Errorf("%s: stat: %w", g.name, err)
	}
	if changed(g.info, info) {
		return fmt.Errorf("%s: the file changed while it was being read", g.name)
	}
	return nil
}

// A ggufReader walks the header of a file from its first byte.
type ggufReader struct {
	name     string
	r        *bufio.Reader
	pos      int64
	size     int64 // of the file
	elements int64 // array elements read so far
	field    string
	scratch  [8]byte
}

func (r *ggufReader) bad(format string, args ...any) error {
	return &FormatError{File: r.name, Field: r.field, Reason: fmt.Sprintf(format, args...)}
}

// left returns the bytes that the file has after the position.
func (r *ggufReader) left() int64 { return r.size - r.pos }

// bytes reads n bytes, n having been checked to be small.
func (r *ggufReader) bytes(n int64) ([]byte, error) {
	if err := r.holds(n); err != nil {
		return nil, err
	}
	p := make([]byte, n)
	return p, r.fill(p)
}

// fixed reads n bytes, at most 8, that are good until the next call.
func (r *ggufReader) fixed(n int64) ([]byte, error) {
	if err := r.holds(n); err != nil {
		return nil, err
	}
	p := r.scratch[:n]
	return p, r.fill(p)
}

// skip passes over n bytes.
func (r *ggufReader) skip(n int64) error {
	if err := r.holds(n); err != nil {
		return err
	}
	if _, err := r.r.Discard(int(n)); err != nil {
		return r.failed(err)
	}
	r.pos += n
	return nil
}

// holds reports whether n more bytes can be read.
func (r *ggufReader) holds(n int64) error {
	switch {
	case n > r.left():
		return r.bad("needs %d bytes at offset %d, the file has %d left", n, r.pos, r.left())
	case r.pos+n > maxGGUFHeader:
		return r.bad("header is longer than %d bytes", maxGGUFHeader)
	}
	return nil
}

func (r *ggufReader) fill(p []byte) error {
	if _, err := io.ReadFull(r.r, p); err != nil {
		return r.failed(err)
	}
	r.pos += int64(len(p))
	return nil
}

// failed says what was being read when the file failed. Its size is known, so
// that an early end means that it was cut meanwhile.
func (r *ggufReader) failed(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%s: read %s at offset %d: %w", r.name, r.field, r.pos, err)
}

func (r *ggufReader) u32() (uint32, error) {
	p, err := r.fixed(4)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(p), nil
}

func (r *ggufReader) u64() (uint64, error) {
	p, err := r.fixed(8)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(p), nil
}

// str reads a string of at most most bytes.
func (r *ggufReader) str(most int64) (string, error) {
	n, err := r.u64()
	if err != nil {
		return "", err
	}
	if n > uint64(most) {
		return "", r.bad("string of %d bytes, at most %d are read", n, most)
	}
	p, err := r.bytes(int64(n))
	if err != nil {
		return "", err
	}
	if !utf8.Valid(p) {
		return "", r.bad("string %s is not valid UTF-8", quote(string(p)))
	}
	return string(p), nil
}

// count reads a number of things of at least least bytes each.
func (r *ggufReader) count(most, least int64) (int64, error) {
	n, err := r.u64()
	switch {
	case err != nil:
		return 0, err
	case n > uint64(most):
		return 0, r.bad("count %d, at most %d are read", n, most)
	case int64(n) > r.left()/least:
		return 0, r.bad("count %d, the %d bytes left hold at most %d", n, r.left(), r.left()/least)
	}
	return int64(n), nil
}

// readHeader reads everything before the tensor data and checks the layout.
func (g *GGUF) readHeader() error {
	info, err := g.file.Stat()
	if err != nil {
		return fmt.Errorf("%s: stat: %w", g.name, err)
	}
	g.info = info
	r := &ggufReader{name: g.name, size: info.Size(),
		r: bufio.NewReaderSize(io.NewSectionReader(g.file, 0, info.Size()), int(min(info.Size(), 1<<16)))}
	r.field = "magic"
	magic, err := r.bytes(4)
	if err != nil {
		return err
	}
	if string(magic) != "GGUF" {
		return r.bad("is %s, not a GGUF file", quote(string(magic)))
	}
	r.field = "version"
	if g.Version, err = r.u32(); err != nil {
		return err
	}
	switch {
	case g.Version == 1:
		return r.bad("1 is not supported, want 2 or 3")
	case g.Version != 0 && g.Version&0xffff == 0:
		return r.bad("the file is big-endian, which is not supported")
	case g.Version < 2 || g.Version > 3:
		return r.bad("%d is unknown, want 2 or 3", g.Version)
	}
	// A tensor takes at least a name of one byte and its length, the rank, one
	// dimension, type and offset; a key a name, its length, type and a byte of
	// value.
	r.field = "tensor count"
	tensors, err := r.count(maxGGUFTensors, 8+1+4+8+4+8)
	if err != nil {
		return err
	}
	r.field = "key count"
	keys, err := r.count(maxGGUFKeys, 8+1+4+1)
	if err != nil {
		return err
	}
	g.values = make([]ggufValue, 0, keys)
	for i := range keys {
		if err := g.readKey(r, i); err != nil {
			return err
		}
	}
	slices.SortFunc(g.values, func(a, b ggufValue) int { return cmp.Compare(a.key, b.key) })
	for i := range g.values[min(1, keys):] {
		if key := g.values[i].key; key == g.values[i+1].key {
			return g.badKey(key, "appears twice")
		}
	}
	return g.readTensors(r, tensors)
}

// readKey reads one key and its value.
func (g *GGUF) readKey(r *ggufReader, i int64) error {
	r.field = fmt.Sprintf("key %d", i)
	key, err := r.str(maxGGUFKey)
	if err != nil {
		return err
	}
	if reason := badName(key); reason != "" {
		return r.bad("name %s %s", quote(key), reason)
	}
	r.field = "key " + quote(key)
	kind, err := r.u32()
	if err != nil {
		return err
	}
	value, err := r.value(kind)
	g.values = append(g.values, ggufValue{key, value})
	return err
}

// readTensors reads the tensor infos and lays them over the rest of the file:
// each begins where the one before it, padded, ends; ggml demands the same.
func (g *GGUF) readTensors(r *ggufReader, n int64) error {
	alignment, err := g.alignment()
	if err != nil {
		return err
	}
	names := make([]string, 0, n)
	g.Tensors = make([]GGUFTensor, 0, n)
	var next int64 // relative to the start of the data
	for i := range n {
		r.field = fmt.Sprintf("tensor %d", i)
		t, err := r.tensor()
		if err != nil {
			return err
		}
		names = append(names, t.Name)
		switch {
		case t.Offset%alignment != 0:
			return r.bad("offset %d is not a multiple of the alignment %d", t.Offset, alignment)
		case t.Offset < next:
			return r.bad("offset %d is inside the tensor before it, which ends at %d", t.Offset, next)
		case t.Offset > next:
			return r.bad("offset %d leaves a hole, want %d", t.Offset, next)
		case t.Bytes > r.size-next:
			return r.bad("needs %d bytes at data offset %d, the whole file has %d", t.Bytes, next, r.size)
		}
		next = pad(t.Offset+t.Bytes, alignment)
		g.Tensors = append(g.Tensors, t)
	}
	slices.Sort(names)
	for i := range names[min(1, n):] {
		if names[i] == names[i+1] {
			r.field = "tensor " + quote(names[i])
			return r.bad("appears twice")
		}
	}
	r.field = "tensor data"
	start := pad(r.pos, alignment)
	if start > r.size && n > 0 {
		return r.bad("begins at %d, the file has %d bytes", start, r.size)
	}
	for i := range g.Tensors {
		t := &g.Tensors[i]
		t.Offset += start
		if t.Offset+t.Bytes > r.size {
			r.field = "tensor " + quote(t.Name)
			return r.bad("ends at %d, the file has %d bytes", t.Offset+t.Bytes, r.size)
		}
	}
	if r.size > start+next {
		return r.bad("%d bytes follow the last tensor", r.size-start-next)
	}
	return nil
}

// pad rounds n up to a multiple of alignment, a power of two.
func pad(n, alignment int64) int64 { return (n + alignment - 1) &^ (alignment - 1) }

// alignment returns general.alignment or its default.
func (g *GGUF) alignment() (int64, error) {
	const key = "general.alignment"
	n, ok, err := g.natural(key)
	if err != nil || !ok {
		return 32, err
	}
	if n < 8 || n > 1<<20 || n&(n-1) != 0 {
		return 0, g.badKey(key, "is %d, want a power of two from 8 to %d", n, 1<<20)
	}
	return n, nil
}

// tensor reads one tensor info. Its Offset is relative to the tensor data.
func (r *ggufReader) tensor() (t GGUFTensor, err error) {
	if t.Name, err = r.str(maxNameBytes); err != nil {
		return t, err
	}
	if reason := badName(t.Name); reason != "" {
		return t, r.bad("name %s %s", quote(t.Name), reason)
	}
	r.field = "tensor " + quote(t.Name)
	rank, err := r.u32()
	if err != nil {
		return t, err
	}
	if rank < 1 || rank > maxGGUFRank {
		return t, r.bad("has %d dimensions, want 1 to %d", rank, maxGGUFRank)
	}
	t.Shape = make([]int, rank)
	for i := range t.Shape {
		dim, err := r.u64()
		if err != nil {
			return t, err
		}
		if dim < 1 || dim > maxDim {
			return t, r.bad("dimension %d is %d, want 1 to %d", i, dim, maxDim)
		}
		t.Shape[len(t.Shape)-1-i] = int(dim)
	}
	kind, err := r.u32()
	if err != nil {
		return t, err
	}
	if t.kind, err = ggmlTypeOf(kind); err != nil {
		return t, r.bad("%v", err)
	}
	if t.Bytes, err = t.kind.size(t.Shape); err != nil {
		return t, r.bad("%v", err)
	}
	offset, err := r.u64()
	if err != nil {
		return t, err
	}
	if offset > math.MaxInt64/2 {
		return t, r.bad("offset %d is out of range", offset)
	}
	t.Offset = int64(offset)
	return t, nil
}
