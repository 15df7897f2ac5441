package weights

import (
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"sync"
)

// A converter turns batches of GGUF rows into the bytes of one output. Its
// buffers live from batch to batch.
type converter struct {
	*output
	rowBytes int
	rows     []byte
	out      []byte
}

// convert returns what n rows become; the result is valid until the next call.
func (c *converter) convert(src []byte, n int) ([]byte, error) {
	if c.heads != 0 {
		src = c.deinterleave(src, n)
	}
	subtract(src, c.added)
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
	kind := c.tensor.kind
	blocks, size := len(src)/int(kind.bytes), c.blockBytes()
	if need := blocks * size; cap(c.out) < need {
		c.out = make([]byte, need)
	}
	out := c.out[:blocks*size]
	err := parallel(blocks, func(lo, hi int) error {
		write := c.repack
		if c.part == unpacked {
			write = c.unpack
		}
		return write(out[lo*size:hi*size], src[lo*int(kind.bytes):hi*int(kind.bytes)], lo)
	})
	return out, err
}

// subtract takes x from each float32 of data. Where x was added to a float32
// before, that is exact.
func subtract(data []byte, x float32) {
	for i := 0; x != 0 && i < len(data); i += 4 {
		v := math.Float32frombits(binary.LittleEndian.Uint32(data[i:]))
		binary.LittleEndian.PutUint32(data[i:], math.Float32bits(v-x))
	}
}

// blockBytes is what a block becomes in the output.
func (c *converter) blockBytes() int {
	kind := c.tensor.kind
	switch c.part {
	case packed:
		return kind.pack.bits * kind.block / 8
	case unpacked:
		return 2 * kind.block
	}
	return 2
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

// repack writes the part of the blocks of src that the output is. The first of
// them has the number first.
func (c *converter) repack(dst, src []byte, first int) error {
	kind := c.tensor.kind
	words := make([]uint32, kind.pack.bits*kind.block/32)
	for i := 0; len(src) > 0; i, src = i+1, src[kind.bytes:] {
		scale, bias, err := kind.pack.group(src[:kind.bytes], words)
		if err != nil {
			return fmt.Errorf("block %d: %w", first+i, err)
		}
		switch c.part {
		case packed:
			for _, w := range words {
				binary.LittleEndian.PutUint32(dst, w)
				dst = dst[4:]
			}
		case scales:
			binary.LittleEndian.PutUint16(dst[2*i:], scale)
		case biases:
			binary.LittleEndian.PutUint16(dst[2*i:], bias)
		}
	}
	return nil
}

// unpack writes the values of the blocks of src, rounded to the output's type.
func (c *converter) unpack(dst, src []byte, first int) error {
	kind := c.tensor.kind
	values := make([]float32, kind.block)
	for i := 0; len(src) > 0; i, src = i+1, src[kind.bytes:] {
		if err := kind.unpack(src[:kind.bytes], values); err != nil {
			return fmt.Errorf("block %d: %w", first+i, err)
		}
		if x, ok := putRounded(dst[:2*kind.block], values, c.Dtype); !ok {
			return fmt.Errorf("block %d: value %v is beyond the range of %s", first+i, x, c.Dtype)
		}
		dst = dst[2*kind.block:]
	}
	return nil
}

// putRounded writes values to dst as a 16-bit type. If one is beyond its range it
// returns that and false.
func putRounded(dst []byte, values []float32, dtype Dtype) (beyond float32, ok bool) {
	round, infinity := roundFloat16, uint16(0x7c00)
	if dtype == BF16 {
		round, infinity = roundBFloat16, 0x7f80
	}
	for i, x := range values {
		h := round(x)
		if h&infinity == infinity {
			return x, false
		}
		binary.LittleEndian.PutUint16(dst[2*i:2*i+2], h)
	}
	return 0, true
}

// parallel runs fn over parts of [0, n) at the same time, one for each core, and
// returns the error of the first part that has one.
func parallel(n int, fn func(lo, hi int) error) error {
	const small = 256 // blocks: not worth a goroutine
	errs := make([]error, max(1, min(runtime.GOMAXPROCS(0), n/small)))
	var wait sync.WaitGroup
	for p := range errs {
		wait.Go(func() { errs[p] = fn(n*p/len(errs), n*(p+1)/len(errs)) })
	}
	wait.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
