package weights

import (
	"encoding/binary"
	"fmt"
)

// A converter turns batches of GGUF rows into the bytes of one output. Its
// buffers live from batch to batch.
type converter struct {
	*output
	rowBytes int
	rows     []byte
	out      []byte
	words    []uint32
}

// convert returns what n rows become; the result is valid until the next call.
func (c *converter) convert(src []byte, n int) ([]byte, error) {
	if c.heads != 0 {
		src = c.deinterleave(src, n)
	}
	switch c.part {
	case dense:
		return src, nil
	case narrowed:
		// Whether it is exact was seen before; a file that changed since then is
		// caught here.
		if !narrow(src, src, c.Dtype) {
			return nil, fmt.Errorf("the file changed while it was being read")
		}
		return src[:len(src)/2], nil
	}
	return c.repack(src)
}

// deinterleave undoes the order that llama.cpp's converter gives the rows of a
// query or key head: there the halves of rotary pair i are rows 2i and 2i+1,
// in Hugging Face's layout rows i and i + n/2.
func (c *converter) deinterleave(src []byte, n int) []byte {
	c.rows = append(c.rows[:0], src...)
	for i := range n {
		from := i % (n / 2) * 2
		if i >= n/2 {
			from++
		}
		copy(c.rows[i*c.rowBytes:(i+1)*c.rowBytes], src[from*c.rowBytes:])
	}
	return c.rows
}

// repack splits blocks into the part that the output is.
func (c *converter) repack(src []byte) ([]byte, error) {
	kind := c.tensor.kind
	if c.words == nil {
		c.words = make([]uint32, kind.pack.bits*kind.block/32)
	}
	c.out = c.out[:0]
	for i := 0; i < len(src); i += int(kind.bytes) {
		scale, bias, err := kind.pack.group(src[i:i+int(kind.bytes)], c.words)
		if err != nil {
			return nil, fmt.Errorf("block %d: %w", i/int(kind.bytes), err)
		}
		switch c.part {
		case packed:
			for _, w := range c.words {
				c.out = binary.LittleEndian.AppendUint32(c.out, w)
			}
		case scales:
			c.out = binary.LittleEndian.AppendUint16(c.out, scale)
		case biases:
			c.out = binary.LittleEndian.AppendUint16(c.out, bias)
		}
	}
	return c.out, nil
}
