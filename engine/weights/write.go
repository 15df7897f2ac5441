package weights

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
)

// Write writes a safetensors file to w. tensors give name, type and shape; the
// rest of their fields is ignored. data is called once per tensor, in the order
// of the file, with Offset and Bytes filled in, and must write exactly those
// bytes; nothing is kept, so that a file may be larger than memory. metadata
// goes into the header; MLX's own files say {"format": "mlx"}.
//
// The layout is the Rust crate's: widest element type first, then by name,
// with the header padded to 8 bytes, so that every tensor is aligned.
func Write(w io.Writer, metadata map[string]string, tensors []Tensor,
	data func(t Tensor, w io.Writer) error) error {
	tensors, header, err := layout(metadata, tensors)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 1<<20)
	// bufio keeps the first error and Flush returns it.
	_, _ = out.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(header))))
	_, _ = out.Write(header)
	for _, t := range tensors {
		counted := &exactWriter{w: out, left: t.Bytes}
		if err := data(t, counted); err != nil {
			return fmt.Errorf("tensor %s: %w", quote(t.Name), err)
		}
		if counted.left != 0 {
			return fmt.Errorf("tensor %s: %d of %d bytes were not written", quote(t.Name), counted.left, t.Bytes)
		}
	}
	return out.Flush()
}

// layout orders the tensors, gives them offsets and renders the header.
func layout(metadata map[string]string, tensors []Tensor) ([]Tensor, []byte, error) {
	tensors = slices.Clone(tensors)
	for _, t := range tensors {
		if reason := badName(t.Name); reason != "" {
			return nil, nil, fmt.Errorf("tensor name %s %s", quote(t.Name), reason)
		}
		if t.Dtype.rank() < 0 {
			return nil, nil, fmt.Errorf("tensor %s: unknown type %s", quote(t.Name), quote(string(t.Dtype)))
		}
	}
	slices.SortFunc(tensors, func(a, b Tensor) int {
		return cmp.Or(cmp.Compare(b.Dtype.rank(), a.Dtype.rank()), cmp.Compare(a.Name, b.Name))
	})
	header := []byte{'{'}
	if len(metadata) > 0 {
		header = appendMember(header, "__metadata__", metadata)
	}
	var next int64
	for i := range tensors {
		t := &tensors[i]
		if i > 0 && tensors[i-1].Name == t.Name {
			return nil, nil, fmt.Errorf("tensor %s: appears twice", quote(t.Name))
		}
		n, err := byteSize(t.Dtype, t.Shape)
		if err != nil {
			return nil, nil, fmt.Errorf("tensor %s: %w", quote(t.Name), err)
		}
		if n > math.MaxInt64-maxHeaderBytes-next {
			return nil, nil, fmt.Errorf("tensor %s: brings the file to more than %d bytes", quote(t.Name), int64(math.MaxInt64))
		}
		header = appendMember(header, t.Name, headerEntry{
			Dtype: t.Dtype, Shape: append([]int{}, t.Shape...), DataOffsets: [2]int64{next, next + n}})
		t.Offset, t.Bytes = next, n
		next += n
	}
	header = append(header, '}')
	for len(header)%8 != 0 {
		header = append(header, ' ')
	}
	if len(header) > maxHeaderBytes {
		return nil, nil, fmt.Errorf("header of %d bytes, at most %d can be read back", len(header), maxHeaderBytes)
	}
	for i := range tensors {
		tensors[i].Offset += 8 + int64(len(header))
	}
	return tensors, header, nil
}

// headerEntry is a tensor in the JSON of a header.
type headerEntry struct {
	Dtype       Dtype    `json:"dtype"`
	Shape       []int    `json:"shape"`
	DataOffsets [2]int64 `json:"data_offsets"`
}

// appendMember appends a member to an object that is still open. Strings and
// numbers cannot fail to marshal.
func appendMember(object []byte, key string, value any) []byte {
	if object[len(object)-1] != '{' {
		object = append(object, ',')
	}
	k, _ := json.Marshal(key)
	v, _ := json.Marshal(value)
	return append(append(append(object, k...), ':'), v...)
}

// An exactWriter refuses more bytes than it was made for.
type exactWriter struct {
	w    io.Writer
	left int64
}

func (e *exactWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > e.left {
		return 0, fmt.Errorf("%d bytes too many", int64(len(p))-e.left)
	}
	n, err := e.w.Write(p)
	e.left -= int64(n)
	return n, err
}
