package mlx

// #include "shim.h"
// #cgo noescape hm_unary
// #cgo nocallback hm_unary
// #cgo noescape hm_binary
// #cgo nocallback hm_binary
// #cgo noescape hm_reduce
// #cgo nocallback hm_reduce
// #cgo noescape hm_axis
// #cgo nocallback hm_axis
// #cgo noescape hm_divide_by
// #cgo nocallback hm_divide_by
// #cgo noescape hm_where
// #cgo nocallback hm_where
// #cgo noescape hm_addmm
// #cgo nocallback hm_addmm
// #cgo noescape hm_softmax
// #cgo nocallback hm_softmax
// #cgo noescape hm_cumsum
// #cgo nocallback hm_cumsum
// #cgo noescape hm_argpartition
// #cgo nocallback hm_argpartition
// #cgo noescape hm_topk
// #cgo nocallback hm_topk
import "C"

func (s *Scope) unary(op C.int, a Array) Array {
	return s.made(C.hm_unary(s.ptr(), op, a.use()))
}

func (s *Scope) binary(op C.int, a, b Array) Array {
	return s.made(C.hm_binary(s.ptr(), op, a.use(), b.use()))
}

func (s *Scope) reduce(op C.int, a Array, axis int, keep bool) Array {
	return s.made(C.hm_reduce(s.ptr(), op, a.use(), C.longlong(axis), C.bool(keep)))
}

func (s *Scope) byAxis(op C.int, a Array, axis int) Array {
	return s.made(C.hm_axis(s.ptr(), op, a.use(), C.longlong(axis)))
}

// Elementwise functions of one array.

// Abs returns |a|.
func (s *Scope) Abs(a Array) Array { return s.unary(C.HM_OP_ABS, a) }

// Neg returns -a.
func (s *Scope) Neg(a Array) Array { return s.unary(C.HM_OP_NEG, a) }

// Exp returns e to the power of a.
func (s *Scope) Exp(a Array) Array { return s.unary(C.HM_OP_EXP, a) }

// Log returns the natural logarithm.
func (s *Scope) Log(a Array) Array { return s.unary(C.HM_OP_LOG, a) }

// Log1p returns log(1+a), exact for small a.
func (s *Scope) Log1p(a Array) Array { return s.unary(C.HM_OP_LOG1P, a) }

// Sqrt returns the square root.
func (s *Scope) Sqrt(a Array) Array { return s.unary(C.HM_OP_SQRT, a) }

// Rsqrt returns 1/sqrt(a).
func (s *Scope) Rsqrt(a Array) Array { return s.unary(C.HM_OP_RSQRT, a) }

// Square returns a*a.
func (s *Scope) Square(a Array) Array { return s.unary(C.HM_OP_SQUARE, a) }

// Sigmoid returns 1/(1+exp(-a)).
func (s *Scope) Sigmoid(a Array) Array { return s.unary(C.HM_OP_SIGMOID, a) }

// Tanh returns the hyperbolic tangent.
func (s *Scope) Tanh(a Array) Array { return s.unary(C.HM_OP_TANH, a) }

// Erf returns the error function.
func (s *Scope) Erf(a Array) Array { return s.unary(C.HM_OP_ERF, a) }

// Sin returns the sine.
func (s *Scope) Sin(a Array) Array { return s.unary(C.HM_OP_SIN, a) }

// Cos returns the cosine.
func (s *Scope) Cos(a Array) Array { return s.unary(C.HM_OP_COS, a) }

// Floor rounds down.
func (s *Scope) Floor(a Array) Array { return s.unary(C.HM_OP_FLOOR, a) }

// Not returns the logical negation as Bool.
func (s *Scope) Not(a Array) Array { return s.unary(C.HM_OP_NOT, a) }

// Elementwise functions of two arrays. The shapes broadcast and the dtypes
// promote as in NumPy; a scalar is no exception.

// Add returns a+b.
func (s *Scope) Add(a, b Array) Array { return s.binary(C.HM_OP_ADD, a, b) }

// Sub returns a-b.
func (s *Scope) Sub(a, b Array) Array { return s.binary(C.HM_OP_SUB, a, b) }

// Mul returns a*b.
func (s *Scope) Mul(a, b Array) Array { return s.binary(C.HM_OP_MUL, a, b) }

// Div returns a/b; integers become float32.
func (s *Scope) Div(a, b Array) Array { return s.binary(C.HM_OP_DIV, a, b) }

// FloorDiv returns integers a divided by n, which is positive. MLX rounds integers
// towards zero, so only for a >= 0 is it the floor.
func (s *Scope) FloorDiv(a Array, n int) Array {
	return s.made(C.hm_divide_by(s.ptr(), false, a.use(), C.longlong(n)))
}

// Remainder returns the integers in [0, n) that differ from a by a multiple of n,
// which is positive.
func (s *Scope) Remainder(a Array, n int) Array {
	return s.made(C.hm_divide_by(s.ptr(), true, a.use(), C.longlong(n)))
}

// Maximum returns the larger of a and b; NaN wins.
func (s *Scope) Maximum(a, b Array) Array { return s.binary(C.HM_OP_MAXIMUM, a, b) }

// Minimum returns the smaller of a and b; NaN wins.
func (s *Scope) Minimum(a, b Array) Array { return s.binary(C.HM_OP_MINIMUM, a, b) }

// Power returns a to the power of b, of which one at least must be floats.
func (s *Scope) Power(a, b Array) Array { return s.binary(C.HM_OP_POWER, a, b) }

// Equal returns a == b as Bool.
func (s *Scope) Equal(a, b Array) Array { return s.binary(C.HM_OP_EQUAL, a, b) }

// NotEqual returns a != b as Bool.
func (s *Scope) NotEqual(a, b Array) Array { return s.binary(C.HM_OP_NOT_EQUAL, a, b) }

// Less returns a < b as Bool.
func (s *Scope) Less(a, b Array) Array { return s.binary(C.HM_OP_LESS, a, b) }

// LessEqual returns a <= b as Bool.
func (s *Scope) LessEqual(a, b Array) Array { return s.binary(C.HM_OP_LESS_EQUAL, a, b) }

// Greater returns a > b as Bool.
func (s *Scope) Greater(a, b Array) Array { return s.binary(C.HM_OP_GREATER, a, b) }

// GreaterEqual returns a >= b as Bool.
func (s *Scope) GreaterEqual(a, b Array) Array { return s.binary(C.HM_OP_GREATER_EQUAL, a, b) }

// And returns the logical conjunction as Bool.
func (s *Scope) And(a, b Array) Array { return s.binary(C.HM_OP_AND, a, b) }

// Or returns the logical disjunction as Bool.
func (s *Scope) Or(a, b Array) Array { return s.binary(C.HM_OP_OR, a, b) }

// BitAnd returns a & b of integers.
func (s *Scope) BitAnd(a, b Array) Array { return s.binary(C.HM_OP_BIT_AND, a, b) }

// RightShift returns a >> b of integers.
func (s *Scope) RightShift(a, b Array) Array { return s.binary(C.HM_OP_RIGHT_SHIFT, a, b) }

// Where returns a where cond is true and b elsewhere; the three broadcast.
func (s *Scope) Where(cond, a, b Array) Array {
	return s.made(C.hm_where(s.ptr(), cond.use(), a.use(), b.use()))
}

// Products.

// Matmul multiplies a [.., N, K] by b [.., K, M] to [.., N, M]; leading axes
// broadcast.
func (s *Scope) Matmul(a, b Array) Array { return s.binary(C.HM_OP_MATMUL, a, b) }

// Addmm returns beta*c + alpha*(a @ b).
func (s *Scope) Addmm(c, a, b Array, alpha, beta float32) Array {
	return s.made(C.hm_addmm(s.ptr(), c.use(), a.use(), b.use(), C.float(alpha), C.float(beta)))
}

// Reductions over one axis, which stays with size 1 when keep is true.

// Sum adds up an axis.
func (s *Scope) Sum(a Array, axis int, keep bool) Array { return s.reduce(C.HM_OP_SUM, a, axis, keep) }

// Mean averages an axis.
func (s *Scope) Mean(a Array, axis int, keep bool) Array {
	return s.reduce(C.HM_OP_MEAN, a, axis, keep)
}

// Max takes the largest element of an axis.
func (s *Scope) Max(a Array, axis int, keep bool) Array { return s.reduce(C.HM_OP_MAX, a, axis, keep) }

// Min takes the smallest element of an axis.
func (s *Scope) Min(a Array, axis int, keep bool) Array { return s.reduce(C.HM_OP_MIN, a, axis, keep) }

// LogSumExp returns log(sum(exp(a))) over an axis without overflow.
func (s *Scope) LogSumExp(a Array, axis int, keep bool) Array {
	return s.reduce(C.HM_OP_LOG_SUM_EXP, a, axis, keep)
}

// Argmax returns the index of the first largest element as Uint32.
func (s *Scope) Argmax(a Array, axis int, keep bool) Array {
	return s.reduce(C.HM_OP_ARGMAX, a, axis, keep)
}

// Softmax normalises an axis; precise computes 16-bit floats in float32.
func (s *Scope) Softmax(a Array, axis int, precise bool) Array {
	return s.made(C.hm_softmax(s.ptr(), a.use(), C.longlong(axis), C.bool(precise)))
}

// Cumsum returns running sums of an axis, from the end when reverse is true and
// without the element itself when inclusive is false.
func (s *Scope) Cumsum(a Array, axis int, reverse, inclusive bool) Array {
	return s.made(C.hm_cumsum(s.ptr(), a.use(), C.longlong(axis), C.bool(reverse),
		C.bool(inclusive)))
}

// Order.

// Sort sorts an axis in ascending order.
func (s *Scope) Sort(a Array, axis int) Array { return s.byAxis(C.HM_OP_SORT, a, axis) }

// Argsort returns as Uint32 the indices that sort an axis in ascending order.
func (s *Scope) Argsort(a Array, axis int) Array { return s.byAxis(C.HM_OP_ARGSORT, a, axis) }

// Argpartition returns as Uint32 indices of an axis such that what position kth
// names is in its sorted place, nothing before it is larger and nothing after it
// smaller.
func (s *Scope) Argpartition(a Array, kth, axis int) Array {
	return s.made(C.hm_argpartition(s.ptr(), a.use(), C.longlong(kth), C.longlong(axis)))
}

// Topk returns the k largest elements of an axis, in no order.
func (s *Scope) Topk(a Array, k, axis int) Array {
	return s.made(C.hm_topk(s.ptr(), a.use(), C.longlong(k), C.longlong(axis)))
}
