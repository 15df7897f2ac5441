package weights

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"unicode"
	"unicode/utf8"
)

// Limits of what is read. None is known to be reached by a real model.
const (
	maxHeaderBytes = 25 << 20
	maxTensors     = 1_000_000 // over all shards of a model
	maxRank        = 16
	maxNameBytes   = 1024
	maxDim         = math.MaxInt32 // MLX shapes are int32
	maxMetadata    = 1 << 14       // keys; they are held in a map while they are read
)

// A Tensor is where one tensor lies. Shape is outermost first; a scalar has
// an empty one. Shape must not be changed by the caller.
type Tensor struct {
	Name   string
	Dtype  Dtype
	Shape  []int
	File   string // plain name of the file that holds it
	Offset int64  // first byte of the data within the file
	Bytes  int64  // length of the data
}

// readHeader reads and validates the header of a safetensors file of the
// given size. The tensors come in order of their offset.
func readHeader(f File, name string, size int64) ([]Tensor, error) {
	bad := func(field, format string, args ...any) error {
		return &FormatError{File: name, Field: field, Reason: fmt.Sprintf(format, args...)}
	}
	if size < 8 {
		return nil, bad("", "is %d bytes, too short for a safetensors file", size)
	}
	var prefix [8]byte
	if err := readFull(f, prefix[:], 0); err != nil {
		return nil, fmt.Errorf("%s: read header length: %w", name, err)
	}
	n := binary.LittleEndian.Uint64(prefix[:])
	switch {
	case n > maxHeaderBytes:
		return nil, bad("header length", "%d bytes, at most %d are read", n, maxHeaderBytes)
	case int64(n) > size-8:
		return nil, bad("header length", "%d bytes, the file has %d left", n, size-8)
	}
	header := make([]byte, n)
	if err := readFull(f, header, 8); err != nil {
		return nil, fmt.Errorf("%s: read header: %w", name, err)
	}
	p := headerParser{file: name, scan: jsonScanner{b: header}, base: 8 + int64(n)}
	tensors, err := p.parse()
	if err != nil {
		return nil, err
	}
	if err := checkLayout(name, tensors, p.base, size); err != nil {
		return nil, err
	}
	return tensors, nil
}

// checkLayout sorts the tensors by offset and refuses holes, overlaps and
// data that do not end exactly where the file ends.
func checkLayout(file string, tensors []Tensor, base, size int64) error {
	slices.SortFunc(tensors, func(a, b Tensor) int {
		return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Bytes, b.Bytes))
	})
	next := base
	for i := range tensors {
		t := &tensors[i]
		switch {
		case t.Offset < next:
			return &FormatError{file, t.Name, "data_offsets", fmt.Sprintf(
				"begins at %d, inside the tensor before it, which ends at %d", t.Offset-base, next-base)}
		case t.Offset > next:
			return &FormatError{file, t.Name, "data_offsets", fmt.Sprintf(
				"begins at %d, leaving a hole from %d", t.Offset-base, next-base)}
		}
		next = t.Offset + t.Bytes
	}
	if next != size {
		return &FormatError{File: file, Reason: fmt.Sprintf(
			"is %d bytes, the header accounts for %d", size, next)}
	}
	return nil
}

// A headerParser turns the JSON of a safetensors header into tensors. The
// nesting of a header is fixed, so nothing here recurses.
type headerParser struct {
	file string
	scan jsonScanner
	base int64 // file offset of data offset 0
}

func (p *headerParser) parse() ([]Tensor, error) {
	// Room is made once, for as many entries as there can be: growing a list of a
	// million would take several times the header.
	const shortest = len(`"a":{"dtype":"I8","shape":[],"data_offsets":[0,1]},`)
	tensors := make([]Tensor, 0, min(bytes.Count(p.scan.b, []byte(`"dtype"`)), len(p.scan.b)/shortest))
	metadata := false
	err := p.scan.object(func(key string) error {
		if key == "__metadata__" {
			if metadata {
				return p.bad("", key, "appears twice")
			}
			metadata = true
			return p.metadata()
		}
		t, err := p.tensor(key)
		tensors = append(tensors, t)
		return err
	})
	if err == nil {
		err = p.scan.end()
	}
	if err != nil {
		return nil, p.at("", "header", err)
	}
	return tensors, nil
}

// bad makes the error for a rule that a tensor or field breaks.
func (p *headerParser) bad(tensor, field, format string, args ...any) error {
	return &FormatError{p.file, tensor, field, fmt.Sprintf(format, args...)}
}

// at gives a syntax error its place; errors that have one pass through.
func (p *headerParser) at(tensor, field string, err error) error {
	var syntax *jsonError
	if errors.As(err, &syntax) {
		return &FormatError{p.file, tensor, field, syntax.Error()}
	}
	return err
}

// metadata reads the map of strings that may stand beside the tensors.
func (p *headerParser) metadata() error {
	const field = "__metadata__"
	seen := make(map[string]struct{})
	err := p.scan.object(func(key string) error {
		if _, dup := seen[key]; dup {
			return p.bad("", field, "key %s appears twice", quote(key))
		}
		if len(seen) == maxMetadata {
			return p.bad("", field, "has more than %d keys", maxMetadata)
		}
		seen[key] = struct{}{}
		if p.scan.peek() != '"' {
			return p.bad("", field, "value of key %s is not a string", quote(key))
		}
		_, err := p.scan.str()
		return err
	})
	return p.at("", field, err)
}

// entryFields are the members of a tensor's entry. The Rust crate ignores
// others; nobody writes any, and what is not understood is not loaded.
var entryFields = [...]string{"dtype", "shape", "data_offsets"}

// tensor reads one entry: {"dtype": …, "shape": […], "data_offsets": [b, e]}.
func (p *headerParser) tensor(name string) (Tensor, error) {
	t := Tensor{Name: name, File: p.file}
	if reason := badName(name); reason != "" {
		return t, p.bad("", "tensor name "+quote(name), "%s", reason)
	}
	var begin, end int64
	var seen [len(entryFields)]bool
	field := "entry"
	err := p.scan.object(func(key string) error {
		i := slices.Index(entryFields[:], key)
		switch {
		case i < 0:
			return p.bad(name, quote(key), "unknown field")
		case seen[i]:
			return p.bad(name, key, "appears twice")
		}
		seen[i], field = true, key
		var err error
		switch key {
		case "dtype":
			t.Dtype, err = p.dtype(name)
		case "shape":
			t.Shape, err = p.shape(name)
		case "data_offsets":
			begin, end, err = p.offsets(name)
		}
		if err == nil {
			field = "entry"
		}
		return err
	})
	if err != nil {
		return t, p.at(name, field, err)
	}
	for i, key := range entryFields {
		if !seen[i] {
			return t, p.bad(name, key, "is missing")
		}
	}
	want, err := byteSize(t.Dtype, t.Shape)
	if err != nil {
		return t, p.bad(name, "shape", "%v", err)
	}
	if begin > end {
		return t, p.bad(name, "data_offsets", "begins at %d, after its end %d", begin, end)
	}
	if end-begin != want {
		return t, p.bad(name, "data_offsets", "spans %d bytes, %s %v needs %d", end-begin, t.Dtype, t.Shape, want)
	}
	if end > math.MaxInt64-p.base {
		return t, p.bad(name, "data_offsets", "end %d is out of range", end)
	}
	t.Offset, t.Bytes = p.base+begin, want
	return t, nil
}

func (p *headerParser) dtype(tensor string) (Dtype, error) {
	if p.scan.peek() != '"' {
		return "", p.bad(tensor, "dtype", "is not a string")
	}
	text, err := p.scan.str()
	if err != nil {
		return "", err
	}
	if Dtype(text).rank() < 0 {
		return "", p.bad(tensor, "dtype", "unknown type %s", quote(text))
	}
	return Dtype(text), nil
}

func (p *headerParser) shape(tensor string) ([]int, error) {
	shape := []int{}
	err := p.scan.array(func() error {
		n, err := p.scan.natural()
		switch {
		case err != nil:
			return err
		case n > maxDim:
			return p.bad(tensor, "shape", "dimension %d is more than %d", n, maxDim)
		case len(shape) == maxRank:
			return p.bad(tensor, "shape", "has more than %d dimensions", maxRank)
		}
		shape = append(shape, int(n))
		return nil
	})
	return shape, err
}

func (p *headerParser) offsets(tensor string) (begin, end int64, err error) {
	var got [2]int64
	n := 0
	err = p.scan.array(func() error {
		if n == 2 {
			return p.bad(tensor, "data_offsets", "has more than two numbers")
		}
		got[n], err = p.scan.natural()
		n++
		return err
	})
	if err == nil && n < 2 {
		err = p.bad(tensor, "data_offsets", "has %d numbers, want two", n)
	}
	return got[0], got[1], err
}

// byteSize returns the bytes that a dense tensor occupies.
func byteSize(d Dtype, shape []int) (int64, error) {
	n := uint64(d.Bits())
	for _, dim := range shape {
		hi, lo := bits.Mul64(n, uint64(dim))
		if hi != 0 || lo > math.MaxInt64 {
			return 0, fmt.Errorf("%v of %s overflows", shape, d)
		}
		n = lo
	}
	if n%8 != 0 {
		return 0, fmt.Errorf("%v of %s is not a whole number of bytes", shape, d)
	}
	return int64(n / 8), nil
}

// badName says what is wrong with a tensor name, or "".
func badName(name string) string {
	switch {
	case name == "":
		return "is empty"
	case len(name) > maxNameBytes:
		return fmt.Sprintf("is longer than %d bytes", maxNameBytes)
	}
	return badText(name)
}

// badText says what makes text from a file unfit to be a name, or "".
func badText(s string) string {
	if !utf8.ValidString(s) {
		return "is not valid UTF-8"
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return fmt.Sprintf("holds the control character %U", r)
		}
	}
	return ""
}
