package mlx

// #include "shim.h"
// #cgo noescape hm_from_data
// #cgo nocallback hm_from_data
// #cgo noescape hm_ready
// #cgo nocallback hm_ready
// #cgo noescape hm_item
// #cgo nocallback hm_item
// #cgo noescape hm_read
// #cgo nocallback hm_read
import "C"

import (
	"errors"
	"fmt"
	"unsafe"
)

// FromFloat32s copies data into an array of that shape.
func (s *Scope) FromFloat32s(data []float32, shape ...int) Array {
	return s.fromData(unsafe.Pointer(unsafe.SliceData(data)), 4*len(data), Float32, shape)
}

// FromInt32s copies data into an array of that shape.
func (s *Scope) FromInt32s(data []int32, shape ...int) Array {
	return s.fromData(unsafe.Pointer(unsafe.SliceData(data)), 4*len(data), Int32, shape)
}

// FromUint32s copies data into an array of that shape.
func (s *Scope) FromUint32s(data []uint32, shape ...int) Array {
	return s.fromData(unsafe.Pointer(unsafe.SliceData(data)), 4*len(data), Uint32, shape)
}

// FromBytes copies data, elements of d in the machine's byte order, into an array
// of that shape.
func (s *Scope) FromBytes(data []byte, d Dtype, shape ...int) Array {
	return s.fromData(unsafe.Pointer(unsafe.SliceData(data)), len(data), d, shape)
}

func (s *Scope) fromData(p unsafe.Pointer, n int, d Dtype, shape []int) Array {
	return s.made(C.hm_from_data(s.ptr(), p, C.size_t(n), C.int(d), dims(shape)))
}

// Ready reports whether a's value is there, so that reading it would not wait.
func (s *Scope) Ready(a Array) bool { return bool(C.hm_ready(s.ptr(), a.use())) }

// ItemInt32 waits for a scalar of Int32 or Uint32 and reads it: the one blocking
// read, of 4 bytes, in a decode step. It is 0 after an error.
func (s *Scope) ItemInt32(a Array) int32 {
	var v C.int32_t
	C.hm_item(s.ptr(), a.use(), false, unsafe.Pointer(&v))
	return int32(v)
}

// ItemFloat32 waits for a scalar of Float32 and reads it. It is 0 after an error.
func (s *Scope) ItemFloat32(a Array) float32 {
	var v C.float
	C.hm_item(s.ptr(), a.use(), true, unsafe.Pointer(&v))
	return float32(v)
}

// Float32s waits for a and copies its elements in row order, converted to float32,
// into dst, which grows when it is too small. It returns the filled part, nil
// after an error.
func (s *Scope) Float32s(a Array, dst []float32) []float32 {
	return readInto(s, a, Float32, dst)
}

// Int32s is Float32s for int32.
func (s *Scope) Int32s(a Array, dst []int32) []int32 { return readInto(s, a, Int32, dst) }

// Uint32s is Float32s for uint32.
func (s *Scope) Uint32s(a Array, dst []uint32) []uint32 { return readInto(s, a, Uint32, dst) }

// Bytes is Float32s without a conversion: the elements as they lie in memory.
func (s *Scope) Bytes(a Array, dst []byte) []byte {
	n := a.Size() * a.Dtype().Size()
	dst = sized(dst, n)
	if !C.hm_read(s.ptr(), a.use(), C.int(a.Dtype()), unsafe.Pointer(unsafe.SliceData(dst)),
		C.size_t(n)) {
		return nil
	}
	return dst
}

func readInto[T float32 | int32 | uint32](s *Scope, a Array, d Dtype, dst []T) []T {
	dst = sized(dst, a.Size())
	if !C.hm_read(s.ptr(), a.use(), C.int(d), unsafe.Pointer(unsafe.SliceData(dst)),
		C.size_t(4*len(dst))) {
		return nil
	}
	return dst
}

func sized[T any](dst []T, n int) []T {
	if cap(dst) < n {
		return make([]T, n)
	}
	return dst[:n]
}

// A Buffer is memory of MLX's allocator outside the Go heap. Any goroutine may
// fill it; then Array makes an array of it without a copy.
type Buffer struct {
	b C.hm_buffer // all zero once freed or handed over
}

var errNoBuffer = errors.New("mlx: from_buffer: the buffer was freed or handed over")

// NewBuffer allocates a buffer of n bytes whose contents are not defined. It may be
// called from any goroutine.
func NewBuffer(n int) (*Buffer, error) {
	if n < 0 {
		return nil, fmt.Errorf("mlx: buffer of %d bytes", n)
	}
	b := new(Buffer)
	if !C.hm_buffer_new(C.size_t(n), &b.b) {
		return nil, fmt.Errorf("mlx: no memory for a buffer of %d bytes", n)
	}
	return b, nil
}

// Bytes returns the memory, valid until Free or Array; nil after either.
func (b *Buffer) Bytes() []byte {
	if b.b.data == nil {
		return nil
	}
	return unsafe.Slice((*byte)(b.b.data), int(b.b.bytes))
}

// Array makes an array of s out of the buffer, which it takes over: MLX frees the
// memory with the last array that uses it. The shape must fit the bytes exactly;
// after an error the buffer is still the caller's.
func (b *Buffer) Array(s *Scope, d Dtype, shape ...int) Array {
	if b.b.data == nil {
		s.Fail(errNoBuffer)
		return Array{}
	}
	h := C.hm_from_buffer(s.ptr(), &b.b, C.int(d), dims(shape))
	if h != nil {
		b.b = C.hm_buffer{}
	}
	return s.made(h)
}

// Free gives the memory back unless Array handed it over. A second Free does
// nothing.
func (b *Buffer) Free() {
	if b.b.data != nil {
		C.hm_buffer_free(&b.b)
		b.b = C.hm_buffer{}
	}
}
