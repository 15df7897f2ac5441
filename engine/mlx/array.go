package mlx

// #include "shim.h"
// #cgo noescape hm_shape
// #cgo nocallback hm_shape
// #cgo noescape hm_dim
// #cgo nocallback hm_dim
// #cgo noescape hm_dtype
// #cgo nocallback hm_dtype
// #cgo noescape hm_size
// #cgo nocallback hm_size
import "C"

import (
	"fmt"
	"math"
)

// maxRank is the most axes an array may have here.
const maxRank = C.HM_MAX_RANK

// An Array is a handle on a lazily computed value, valid until the Scope that
// made it closes or the Var that holds it changes. It is 8 bytes and passed by
// value. The zero Array means "absent" where an operation documents an optional
// operand; elsewhere it is an error.
type Array struct {
	tag arrayTag // empty unless built with mlxdebug
	h   C.hm_array
}

// Valid reports whether a holds a value, which the zero Array does not.
func (a Array) Valid() bool { return a.h != nil }

// NDim returns the number of axes; 0 for a scalar and for the zero Array.
func (a Array) NDim() int { return int(C.hm_shape(a.use()).n) }

// Dim returns the size of axis i, counted from the end when negative. It is 0
// when there is no such axis and for the zero Array.
func (a Array) Dim(i int) int { return int(C.hm_dim(a.use(), C.longlong(i))) }

// Shape appends the sizes of the axes to dst and returns it.
func (a Array) Shape(dst []int) []int {
	d := C.hm_shape(a.use())
	for i := range min(int(d.n), maxRank) {
		dst = append(dst, int(d.v[i]))
	}
	return dst
}

// Size returns the number of elements; 0 for the zero Array.
func (a Array) Size() int { return int(C.hm_size(a.use())) }

// Dtype returns the type of the elements; Bool for the zero Array.
func (a Array) Dtype() Dtype {
	if a.h == nil {
		return Bool
	}
	return Dtype(C.hm_dtype(a.use()))
}

// String gives dtype and shape, such as "float16[1 32 4]".
func (a Array) String() string {
	if a.h == nil {
		return "absent"
	}
	return fmt.Sprintf("%v%v", a.Dtype(), a.Shape(nil))
}

// A Dtype is the type of an array's elements.
type Dtype int

// The element types. Their values are those of mlx-c.
const (
	Bool     Dtype = C.MLX_BOOL
	Uint8    Dtype = C.MLX_UINT8
	Uint16   Dtype = C.MLX_UINT16
	Uint32   Dtype = C.MLX_UINT32
	Uint64   Dtype = C.MLX_UINT64
	Int8     Dtype = C.MLX_INT8
	Int16    Dtype = C.MLX_INT16
	Int32    Dtype = C.MLX_INT32
	Int64    Dtype = C.MLX_INT64
	Float16  Dtype = C.MLX_FLOAT16
	Float32  Dtype = C.MLX_FLOAT32
	Float64  Dtype = C.MLX_FLOAT64
	BFloat16 Dtype = C.MLX_BFLOAT16
)

var dtypes = [...]struct {
	name string
	size int
}{
	Bool: {"bool", 1}, Uint8: {"uint8", 1}, Uint16: {"uint16", 2},
	Uint32: {"uint32", 4}, Uint64: {"uint64", 8}, Int8: {"int8", 1},
	Int16: {"int16", 2}, Int32: {"int32", 4}, Int64: {"int64", 8},
	Float16: {"float16", 2}, Float32: {"float32", 4}, Float64: {"float64", 8},
	BFloat16: {"bfloat16", 2},
}

func (d Dtype) known() bool { return d >= 0 && int(d) < len(dtypes) }

// Size returns the bytes of one element, 0 for an unknown dtype.
func (d Dtype) Size() int {
	if !d.known() {
		return 0
	}
	return dtypes[d].size
}

// String returns the name that MLX and checkpoints use, such as "bfloat16".
func (d Dtype) String() string {
	if !d.known() {
		return fmt.Sprintf("dtype(%d)", int(d))
	}
	return dtypes[d].name
}

// ParseDtype returns the dtype of that name.
func ParseDtype(name string) (Dtype, error) {
	for d, t := range dtypes {
		if t.name == name && t.size > 0 {
			return Dtype(d), nil
		}
	}
	return 0, fmt.Errorf("mlx: dtype %q is not known", name)
}

// dims copies a list of axes or sizes into the form that travels to C by value.
// What does not fit is told by n, and the operation turns it into its error.
func dims(list []int) (d C.hm_dims) {
	if len(list) > maxRank {
		d.n = C.HM_RANK
		return d
	}
	for i, v := range list {
		if v < math.MinInt32 || v > math.MaxInt32 {
			d.n = C.HM_RANGE
			return d
		}
		d.v[i] = C.int(v)
	}
	d.n = C.int(len(list))
	return d
}
