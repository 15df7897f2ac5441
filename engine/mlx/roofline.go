package mlx

// #include "roofline.h"
// #cgo noescape hm_sgemv
// #cgo nocallback hm_sgemv
// #cgo noescape hm_read_memory
// #cgo nocallback hm_read_memory
import "C"

import (
	"errors"
	"fmt"
	"unsafe"
)

// BLASFacts is what the BLAS that MLX calls says of itself. Only OpenBLAS does;
// of others the fields are zero.
type BLASFacts struct {
	Config  string // such as "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH NO_AFFINITY Zen MAX_THREADS=64"
	Core    string // the processor whose kernels it chose, such as "Zen"
	Threads int    // how many it uses for one product
}

// DescribeBLAS asks the BLAS at BLAS for its facts. It may be called from any
// goroutine.
func DescribeBLAS() BLASFacts {
	c := C.hm_blas_describe()
	f := BLASFacts{Threads: int(c.threads)}
	if c.config != nil {
		f.Config = C.GoString(c.config)
	}
	if c.core != nil {
		f.Core = C.GoString(c.core)
	}
	return f
}

// SetBLASThreads sets how many threads the BLAS uses for one product, in the
// whole process. It reports false where the BLAS has no such setting. No product
// may be under way.
func SetBLASThreads(n int) bool { return bool(C.hm_blas_set_threads(C.int(n))) }

var errNoGemv = errors.New("mlx: gemv: no BLAS with cblas_sgemv is loaded")

// Gemv computes y = A x with the BLAS that MLX calls, outside of MLX: A is
// [rows, cols] in row order, all of it float32 in buffers of exactly those sizes.
// It is the product that a decode step cannot do without, for measuring what the
// step costs beyond it. It may be called from any goroutine.
func Gemv(y, a, x *Buffer, rows, cols int) error {
	for _, b := range []struct {
		name string
		buf  *Buffer
		n    int
	}{{"y", y, rows}, {"A", a, rows * cols}, {"x", x, cols}} {
		if rows < 1 || cols < 1 || len(b.buf.Bytes()) != 4*b.n {
			return fmt.Errorf("mlx: gemv [%d %d]: %s has %d bytes", rows, cols, b.name, len(b.buf.Bytes()))
		}
	}
	if !C.hm_sgemv((*C.float)(a.b.data), (*C.float)(x.b.data), (*C.float)(y.b.data), C.int(rows), C.int(cols)) {
		return errNoGemv
	}
	return nil
}

// ReadMemory reads b from memory as fast as one core can and returns a sum of
// what it read, without which a compiler would leave the reading out. It may be
// called from any goroutine.
func ReadMemory(b []byte) uint64 {
	return uint64(C.hm_read_memory(unsafe.Pointer(unsafe.SliceData(b)), C.size_t(len(b))))
}
