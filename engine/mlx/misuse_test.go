package mlx

import (
	"math"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// operands are well-formed arrays for wrong calls to combine.
type operands struct {
	s       *Scope
	m       Array // float32 [4 8]
	n       Array // float32 [16 8]
	v       Array // float32 [8]
	one     Array // float32 []
	empty   Array // float32 [0 4]
	i       Array // int32 [3]
	b       Array // bool [4 8]
	q, k    Array // float32 [1 4 3 8], [1 2 5 8]
	key     Array // uint32 [2]
	w       Array // uint32 [32 8]: 64 columns of 4 bits
	sc      Array // float32 [32 2]: groups of 32
	x       Array // float32 [1 64]
	none    Array
	deep    Array // float32 of rank 8
	experts Array // float32 [3 8 2]
}

func newOperands(s *Scope) *operands {
	return &operands{
		s: s,
		m: s.Ones(Float32, 4, 8), n: s.Ones(Float32, 16, 8), v: s.Ones(Float32, 8),
		one: s.Ones(Float32), empty: s.Zeros(Float32, 0, 4),
		i: s.FromInt32s([]int32{0, 1, 2}, 3), b: s.Ones(Bool, 4, 8),
		q: s.Ones(Float32, 1, 4, 3, 8), k: s.Ones(Float32, 1, 2, 5, 8),
		key: s.Key(1), w: s.Ones(Uint32, 32, 8), sc: s.Ones(Float32, 32, 2),
		x: s.Ones(Float32, 1, 64), deep: s.Ones(Float32, 1, 1, 1, 1, 1, 1, 1, 2),
		experts: s.Ones(Float32, 3, 8, 2),
	}
}

// A misuse is one wrong call; want is the operation and the shapes that its error
// must begin with.
type misuse struct {
	want string
	do   func(o *operands, s *Scope) Array
}

const big = 1 << 40 // out of the range of C's int

func misuses() []misuse {
	var all []misuse
	add := func(want string, do func(o *operands, s *Scope) Array) {
		all = append(all, misuse{want, do})
	}
	addElementwise(add)
	addReductions(add)
	addShapes(add)
	addSlices(add)
	addIndices(add)
	addCreation(add)
	addFused(add)
	addQuantized(add)
	addHost(add)
	return all
}

type adder func(want string, do func(o *operands, s *Scope) Array)

func addElementwise(add adder) {
	unary := map[string]func(*Scope, Array) Array{
		"abs": (*Scope).Abs, "neg": (*Scope).Neg, "exp": (*Scope).Exp, "log": (*Scope).Log,
		"log1p": (*Scope).Log1p, "sqrt": (*Scope).Sqrt, "rsqrt": (*Scope).Rsqrt,
		"square": (*Scope).Square, "sigmoid": (*Scope).Sigmoid, "tanh": (*Scope).Tanh,
		"erf": (*Scope).Erf, "sin": (*Scope).Sin, "cos": (*Scope).Cos, "floor": (*Scope).Floor,
		"not": (*Scope).Not, "is_finite": (*Scope).IsFinite, "contiguous": (*Scope).Contiguous,
	}
	for name, f := range unary {
		add(name+" absent", func(o *operands, s *Scope) Array { return f(s, o.none) })
	}
	add("neg [4 8]", func(o *operands, s *Scope) Array { return s.Neg(o.b) })
	binary := map[string]func(*Scope, Array, Array) Array{
		"add": (*Scope).Add, "sub": (*Scope).Sub, "mul": (*Scope).Mul, "div": (*Scope).Div,
		"maximum": (*Scope).Maximum, "minimum": (*Scope).Minimum, "power": (*Scope).Power,
		"equal": (*Scope).Equal, "not_equal": (*Scope).NotEqual, "less": (*Scope).Less,
		"less_equal": (*Scope).LessEqual, "greater": (*Scope).Greater,
		"greater_equal": (*Scope).GreaterEqual, "and": (*Scope).And, "or": (*Scope).Or,
		"matmul": (*Scope).Matmul,
	}
	for name, f := range binary {
		add(name+" absent x [4 8]", func(o *operands, s *Scope) Array { return f(s, o.none, o.m) })
		add(name+" [4 8] x absent", func(o *operands, s *Scope) Array { return f(s, o.m, o.none) })
		add(name+" [4 8] x [16 8]", func(o *operands, s *Scope) Array { return f(s, o.m, o.n) })
	}
	add("bit_and [4 8] x [4 8]", func(o *operands, s *Scope) Array { return s.BitAnd(o.m, o.m) })
	add("bit_and absent x [3]", func(o *operands, s *Scope) Array { return s.BitAnd(o.none, o.i) })
	add("right_shift [4 8] x [3]", func(o *operands, s *Scope) Array { return s.RightShift(o.m, o.i) })
	add("right_shift [3] x absent", func(o *operands, s *Scope) Array {
		return s.RightShift(o.i, o.none)
	})
	add("power [3] x [3]", func(o *operands, s *Scope) Array { return s.Power(o.i, s.Neg(o.i)) })
	add("matmul [] x [4 8]", func(o *operands, s *Scope) Array { return s.Matmul(o.one, o.m) })
	add("matmul [3] x [3]", func(o *operands, s *Scope) Array { return s.Matmul(o.i, o.i) })
	add("floor_div [3]", func(o *operands, s *Scope) Array { return s.FloorDiv(o.i, 0) })
	add("floor_div [4 8]", func(o *operands, s *Scope) Array { return s.FloorDiv(o.m, 2) })
	add("remainder [3]", func(o *operands, s *Scope) Array { return s.Remainder(o.i, -1) })
	add("remainder absent", func(o *operands, s *Scope) Array { return s.Remainder(o.none, 2) })
	add("remainder [4 8]", func(o *operands, s *Scope) Array {
		return s.Remainder(s.AsType(o.b, Uint8), 300)
	})
	add("where [4 8] x [4 8] x [16 8]", func(o *operands, s *Scope) Array {
		return s.Where(o.b, o.m, o.n)
	})
	add("where absent x [4 8] x [4 8]", func(o *operands, s *Scope) Array {
		return s.Where(o.none, o.m, o.m)
	})
	add("addmm [8] x [4 8] x [16 8]", func(o *operands, s *Scope) Array {
		return s.Addmm(o.v, o.m, o.n, 1, 1)
	})
	add("addmm [4 8] x [4 8] x [8 16]", func(o *operands, s *Scope) Array {
		return s.Addmm(o.m, o.m, s.Transpose(o.n), 1, 1)
	})
	add("addmm absent x [4 8] x [8]", func(o *operands, s *Scope) Array {
		return s.Addmm(o.none, o.m, o.v, 1, 1)
	})
}

func addReductions(add adder) {
	reductions := map[string]func(*Scope, Array, int, bool) Array{
		"sum": (*Scope).Sum, "mean": (*Scope).Mean, "max": (*Scope).Max, "min": (*Scope).Min,
		"all": (*Scope).All, "any": (*Scope).Any, "log_sum_exp": (*Scope).LogSumExp,
		"argmax": (*Scope).Argmax, "argmin": (*Scope).Argmin, "softmax": (*Scope).Softmax,
	}
	for name, f := range reductions {
		add(name+" absent", func(o *operands, s *Scope) Array { return f(s, o.none, 0, true) })
		add(name+" [4 8]", func(o *operands, s *Scope) Array { return f(s, o.m, 2, false) })
		add(name+" [16 8]", func(o *operands, s *Scope) Array { return f(s, o.n, -3, false) })
		add(name+" [8]", func(o *operands, s *Scope) Array { return f(s, o.v, big, false) })
	}
	for name, f := range map[string]func(*Scope, Array, int, bool) Array{
		"max": (*Scope).Max, "min": (*Scope).Min, "argmax": (*Scope).Argmax, "argmin": (*Scope).Argmin,
	} {
		add(name+" [0 4]", func(o *operands, s *Scope) Array { return f(s, o.empty, 0, false) })
	}
	byAxis := map[string]func(*Scope, Array, int) Array{
		"sort": (*Scope).Sort, "argsort": (*Scope).Argsort,
		"expand_dims": (*Scope).ExpandDims, "squeeze": (*Scope).Squeeze,
	}
	for name, f := range byAxis {
		add(name+" absent", func(o *operands, s *Scope) Array { return f(s, o.none, 0) })
		add(name+" [4 8]", func(o *operands, s *Scope) Array { return f(s, o.m, 5) })
		add(name+" [16 8]", func(o *operands, s *Scope) Array { return f(s, o.n, -7) })
		add(name+" [8]", func(o *operands, s *Scope) Array { return f(s, o.v, -big) })
	}
	add("squeeze [4 8]", func(o *operands, s *Scope) Array { return s.Squeeze(o.m, 0) })
	add("expand_dims [1 1 1 1 1 1 1 2]", func(o *operands, s *Scope) Array {
		return s.ExpandDims(o.deep, 0)
	})
	add("cumsum [4 8]", func(o *operands, s *Scope) Array { return s.Cumsum(o.m, 2, false, true) })
	add("cumsum absent", func(o *operands, s *Scope) Array { return s.Cumsum(o.none, 0, false, true) })
	add("cumsum [8]", func(o *operands, s *Scope) Array { return s.Cumsum(o.v, big, true, true) })
	add("argpartition [4 8]", func(o *operands, s *Scope) Array { return s.Argpartition(o.m, 8, -1) })
	add("argpartition [8]", func(o *operands, s *Scope) Array { return s.Argpartition(o.v, -9, 0) })
	add("argpartition [16 8]", func(o *operands, s *Scope) Array { return s.Argpartition(o.n, 0, 3) })
	add("argpartition [3]", func(o *operands, s *Scope) Array { return s.Argpartition(o.i, big, 0) })
	add("argpartition absent", func(o *operands, s *Scope) Array { return s.Argpartition(o.none, 0, 0) })
	add("topk [4 8]", func(o *operands, s *Scope) Array { return s.Topk(o.m, 9, -1) })
	add("topk [8]", func(o *operands, s *Scope) Array { return s.Topk(o.v, 0, -1) })
	add("topk [16 8]", func(o *operands, s *Scope) Array { return s.Topk(o.n, 1, 2) })
	add("topk absent", func(o *operands, s *Scope) Array { return s.Topk(o.none, 1, 0) })
}

func addShapes(add adder) {
	add("reshape [4 8]", func(o *operands, s *Scope) Array { return s.Reshape(o.m, 3, 5) })
	add("reshape [16 8]", func(o *operands, s *Scope) Array { return s.Reshape(o.n, -1, -1) })
	add("reshape [8]", func(o *operands, s *Scope) Array { return s.Reshape(o.v, -2, -4) })
	add("reshape [3]", func(o *operands, s *Scope) Array { return s.Reshape(o.i, -1, 2) })
	add("reshape []", func(o *operands, s *Scope) Array {
		return s.Reshape(o.one, 1, 1, 1, 1, 1, 1, 1, 1, 1)
	})
	add("reshape [0 4]", func(o *operands, s *Scope) Array { return s.Reshape(o.empty, -1, 0) })
	add("reshape [1 64]", func(o *operands, s *Scope) Array { return s.Reshape(o.x, big) })
	add("reshape absent", func(o *operands, s *Scope) Array { return s.Reshape(o.none, 1) })
	add("reshape [2]", func(o *operands, s *Scope) Array {
		return s.Reshape(o.key, 1<<30, 1<<30, 1<<30)
	})
	add("broadcast_to [4 8]", func(o *operands, s *Scope) Array { return s.BroadcastTo(o.m, 4, 16) })
	add("broadcast_to [8]", func(o *operands, s *Scope) Array { return s.BroadcastTo(o.v, -8) })
	add("broadcast_to [16 8]", func(o *operands, s *Scope) Array { return s.BroadcastTo(o.n, 8) })
	add("broadcast_to absent", func(o *operands, s *Scope) Array { return s.BroadcastTo(o.none, 8) })
	add("transpose [4 8]", func(o *operands, s *Scope) Array { return s.Transpose(o.m, 0, 2) })
	add("transpose [16 8]", func(o *operands, s *Scope) Array { return s.Transpose(o.n, 1, 1) })
	add("transpose [8]", func(o *operands, s *Scope) Array { return s.Transpose(o.v, 0, 1) })
	add("transpose [1 64]", func(o *operands, s *Scope) Array { return s.Transpose(o.x, big, 0) })
	add("transpose absent", func(o *operands, s *Scope) Array { return s.Transpose(o.none) })
	add("concatenate [4 8] x [3]", func(o *operands, s *Scope) Array {
		return s.Concatenate(0, o.m, o.i)
	})
	add("concatenate [4 8] x [1 64]", func(o *operands, s *Scope) Array {
		return s.Concatenate(0, o.m, o.x)
	})
	add("concatenate [4 8] x [16 8]", func(o *operands, s *Scope) Array {
		return s.Concatenate(2, o.m, o.n)
	})
	add("concatenate [4 8] x absent", func(o *operands, s *Scope) Array {
		return s.Concatenate(0, o.m, o.none)
	})
	add("concatenate [8] x [8]", func(o *operands, s *Scope) Array {
		return s.Concatenate(big, o.v, o.v)
	})
	add("concatenate", func(o *operands, s *Scope) Array { return s.Concatenate(0) })
	split := func(o *operands, n, axis int, a Array) Array {
		dst := make([]Array, n)
		o.s.Split(dst, a, axis)
		if n == 0 {
			return Array{}
		}
		return dst[0]
	}
	add("split [4 8]", func(o *operands, s *Scope) Array { return split(o, 3, 1, o.m) })
	add("split [16 8]", func(o *operands, s *Scope) Array { return split(o, 2, 2, o.n) })
	add("split [8]", func(o *operands, s *Scope) Array { return split(o, 0, 0, o.v) })
	add("split absent", func(o *operands, s *Scope) Array { return split(o, 2, 0, o.none) })
	add("repeat [4 8]", func(o *operands, s *Scope) Array { return s.Repeat(o.m, -1, 0) })
	add("repeat [16 8]", func(o *operands, s *Scope) Array { return s.Repeat(o.n, 2, 2) })
	add("repeat [8]", func(o *operands, s *Scope) Array { return s.Repeat(o.v, big, 0) })
	add("repeat [1 64]", func(o *operands, s *Scope) Array { return s.Repeat(o.x, math.MaxInt32, 1) })
	add("repeat absent", func(o *operands, s *Scope) Array { return s.Repeat(o.none, 1, 0) })
	add("astype [4 8]", func(o *operands, s *Scope) Array { return s.AsType(o.m, 99) })
	add("astype [8]", func(o *operands, s *Scope) Array { return s.AsType(o.v, -1) })
	add("astype absent", func(o *operands, s *Scope) Array { return s.AsType(o.none, Float32) })
	add("view [3]", func(o *operands, s *Scope) Array { return s.View(o.i, Int64) })
	add("view []", func(o *operands, s *Scope) Array { return s.View(o.one, Uint8) })
	add("view [4 8]", func(o *operands, s *Scope) Array { return s.View(o.m, 99) })
	add("view absent", func(o *operands, s *Scope) Array { return s.View(o.none, Int32) })
}

func addSlices(add adder) {
	add("slice [4 8]", func(o *operands, s *Scope) Array {
		return s.Slice(o.m, []int{0, 0}, []int{4, 9})
	})
	add("slice [16 8]", func(o *operands, s *Scope) Array {
		return s.Slice(o.n, []int{0}, []int{4})
	})
	add("slice [8]", func(o *operands, s *Scope) Array { return s.Slice(o.v, []int{5}, []int{4}) })
	add("slice [3]", func(o *operands, s *Scope) Array { return s.Slice(o.i, []int{0}, []int{big}) })
	add("slice [1 64]", func(o *operands, s *Scope) Array {
		return s.Slice(o.x, make([]int, 9), make([]int, 9))
	})
	add("slice absent", func(o *operands, s *Scope) Array { return s.Slice(o.none, nil, nil) })
	add("slice_axis [4 8]", func(o *operands, s *Scope) Array { return s.SliceAxis(o.m, 0, 0, 5) })
	add("slice_axis [16 8]", func(o *operands, s *Scope) Array { return s.SliceAxis(o.n, 2, 0, 1) })
	add("slice_axis [8]", func(o *operands, s *Scope) Array { return s.SliceAxis(o.v, 0, -9, 1) })
	add("slice_axis [3]", func(o *operands, s *Scope) Array { return s.SliceAxis(o.i, 0, 2, 1) })
	add("slice_axis absent", func(o *operands, s *Scope) Array { return s.SliceAxis(o.none, 0, 0, 1) })
	add("slice_update [4 8] x [16 8]", func(o *operands, s *Scope) Array {
		return s.SliceUpdate(o.m, o.n, []int{0, 0}, []int{4, 8})
	})
	add("slice_update [4 8] x []", func(o *operands, s *Scope) Array {
		return s.SliceUpdate(o.m, o.one, []int{0, 0}, []int{4, 8})
	})
	add("slice_update [16 8] x [4 8]", func(o *operands, s *Scope) Array {
		return s.SliceUpdate(o.n, o.m, []int{14, 0}, []int{18, 8})
	})
	add("slice_update absent x [4 8]", func(o *operands, s *Scope) Array {
		return s.SliceUpdate(o.none, o.m, []int{0, 0}, []int{4, 8})
	})
	add("slice_update_axis [4 8] x [16 8]", func(o *operands, s *Scope) Array {
		return s.SliceUpdateAxis(o.m, o.n, 0, 0)
	})
	add("slice_update_axis [16 8] x [4 8]", func(o *operands, s *Scope) Array {
		return s.SliceUpdateAxis(o.n, o.m, 0, 13)
	})
	add("slice_update_axis [16 8] x [1 64]", func(o *operands, s *Scope) Array {
		return s.SliceUpdateAxis(o.n, o.x, 0, 0)
	})
	add("slice_update_axis [4 8] x [8]", func(o *operands, s *Scope) Array {
		return s.SliceUpdateAxis(o.m, o.v, 0, 0)
	})
	add("slice_update_axis [4 8] x [4 8]", func(o *operands, s *Scope) Array {
		return s.SliceUpdateAxis(o.m, o.m, 2, 0)
	})
	add("slice_update_axis [4 8] x absent", func(o *operands, s *Scope) Array {
		return s.SliceUpdateAxis(o.m, o.none, 0, 0)
	})
}

func addIndices(add adder) {
	add("take [4 8] x [3]", func(o *operands, s *Scope) Array { return s.Take(o.m, o.i, 2) })
	add("take [4 8] x [8]", func(o *operands, s *Scope) Array { return s.Take(o.m, o.v, 0) })
	add("take [4 8] x absent", func(o *operands, s *Scope) Array { return s.Take(o.m, o.none, 0) })
	add("take [0 4] x [3]", func(o *operands, s *Scope) Array { return s.Take(o.empty, o.i, 0) })
	add("take [8] x [3]", func(o *operands, s *Scope) Array { return s.Take(o.v, o.i, big) })
	add("take [1 1 1 1 1 1 1 2] x [1 1 3]", func(o *operands, s *Scope) Array {
		return s.Take(o.deep, s.Reshape(o.i, 1, 1, 3), 0)
	})
	add("take_along_axis [4 8] x [3]", func(o *operands, s *Scope) Array {
		return s.TakeAlongAxis(o.m, o.i, 0)
	})
	add("take_along_axis [8] x [3]", func(o *operands, s *Scope) Array {
		return s.TakeAlongAxis(o.v, o.i, 1)
	})
	add("take_along_axis [8] x [8]", func(o *operands, s *Scope) Array {
		return s.TakeAlongAxis(o.v, o.v, 0)
	})
	add("take_along_axis absent x [3]", func(o *operands, s *Scope) Array {
		return s.TakeAlongAxis(o.none, o.i, 0)
	})
	add("put_along_axis [4 8] x [3] x []", func(o *operands, s *Scope) Array {
		return s.PutAlongAxis(o.m, o.i, o.one, 0)
	})
	add("put_along_axis [8] x [3] x [4 8]", func(o *operands, s *Scope) Array {
		return s.PutAlongAxis(o.v, o.i, o.m, 0)
	})
	add("put_along_axis [8] x [3] x []", func(o *operands, s *Scope) Array {
		return s.PutAlongAxis(o.v, o.i, o.one, 1)
	})
	add("put_along_axis [8] x [8] x []", func(o *operands, s *Scope) Array {
		return s.PutAlongAxis(o.v, o.v, o.one, 0)
	})
	add("put_along_axis [8] x [3] x absent", func(o *operands, s *Scope) Array {
		return s.PutAlongAxis(o.v, o.i, o.none, 0)
	})
}

func addCreation(add adder) {
	add("full", func(o *operands, s *Scope) Array { return s.Full(Float32, 1, -1) })
	add("full", func(o *operands, s *Scope) Array { return s.Full(99, 1, 1) })
	add("full", func(o *operands, s *Scope) Array { return s.Zeros(Float32, 1<<30, 1<<30) })
	add("full", func(o *operands, s *Scope) Array { return s.Ones(Float32, make([]int, 9)...) })
	add("full", func(o *operands, s *Scope) Array { return s.Zeros(Float32, big) })
	add("full", func(o *operands, s *Scope) Array { return s.Full(Dtype(13), 1, 2) })
	add("arange", func(o *operands, s *Scope) Array { return s.Arange(Int32, 0, 5, 0) })
	add("arange", func(o *operands, s *Scope) Array { return s.Arange(Float32, 0, math.Inf(1), 1) })
	add("arange", func(o *operands, s *Scope) Array { return s.Arange(-3, 0, 5, 1) })
	add("arange", func(o *operands, s *Scope) Array { return s.Arange(Bool, 0, 5, 1) })
	add("tri", func(o *operands, s *Scope) Array { return s.Tri(Float32, -1, 2, 0) })
	add("tri", func(o *operands, s *Scope) Array { return s.Tri(Float32, 2, big, 0) })
	add("tri", func(o *operands, s *Scope) Array { return s.Tri(77, 2, 2, 0) })
	add("tri", func(o *operands, s *Scope) Array {
		return s.Tri(Float32, math.MaxInt32, math.MaxInt32, 0)
	})
	add("random_split absent", func(o *operands, s *Scope) Array {
		a, _ := s.SplitKey(o.none)
		return a
	})
	add("random_split [3]", func(o *operands, s *Scope) Array {
		a, _ := s.SplitKey(o.i)
		return a
	})
	add("categorical [4 8] x absent", func(o *operands, s *Scope) Array {
		return s.Categorical(o.m, -1, o.none)
	})
	add("categorical [4 8] x [2]", func(o *operands, s *Scope) Array {
		return s.Categorical(o.m, 2, o.key)
	})
	add("categorical [4 8] x [8]", func(o *operands, s *Scope) Array {
		return s.Categorical(o.m, -1, o.v)
	})
	for name, f := range map[string]func(*Scope, Array, Dtype, ...int) Array{
		"uniform": (*Scope).Uniform, "normal": (*Scope).Normal, "gumbel": (*Scope).Gumbel,
	} {
		add(name+" absent", func(o *operands, s *Scope) Array { return f(s, o.none, Float32, 2) })
		add(name+" [2]", func(o *operands, s *Scope) Array { return f(s, o.key, Int32, 2) })
		add(name+" [2]", func(o *operands, s *Scope) Array { return f(s, o.key, Float32, -2) })
		add(name+" [3]", func(o *operands, s *Scope) Array { return f(s, o.i, Float32, 2) })
	}
}

func addFused(add adder) {
	add("rms_norm [4 8] x [3]", func(o *operands, s *Scope) Array { return s.RMSNorm(o.m, o.i, 1e-5) })
	add("rms_norm [4 8] x [4 8]", func(o *operands, s *Scope) Array { return s.RMSNorm(o.m, o.m, 1e-5) })
	add("rms_norm [] x absent", func(o *operands, s *Scope) Array { return s.RMSNorm(o.one, o.none, 1e-5) })
	add("rms_norm absent x [8]", func(o *operands, s *Scope) Array { return s.RMSNorm(o.none, o.v, 1e-5) })
	add("rms_norm [3] x absent", func(o *operands, s *Scope) Array { return s.RMSNorm(o.i, o.none, 1e-5) })
	add("layer_norm [4 8] x [3] x absent", func(o *operands, s *Scope) Array {
		return s.LayerNorm(o.m, o.i, o.none, 1e-5)
	})
	add("layer_norm [4 8] x [8] x [3]", func(o *operands, s *Scope) Array {
		return s.LayerNorm(o.m, o.v, o.i, 1e-5)
	})
	add("layer_norm [] x absent x absent", func(o *operands, s *Scope) Array {
		return s.LayerNorm(o.one, o.none, o.none, 1e-5)
	})
	rope := func(o *operands, x Array, d int, base float32, offset int, freqs Array) Array {
		return o.s.RoPE(x, d, false, base, 1, offset, freqs)
	}
	add("rope [4 8] x absent", func(o *operands, s *Scope) Array { return rope(o, o.m, 8, 1e4, 0, o.none) })
	add("rope [1 4 3 8] x absent", func(o *operands, s *Scope) Array {
		return rope(o, o.q, 10, 1e4, 0, o.none)
	})
	add("rope [1 2 5 8] x absent", func(o *operands, s *Scope) Array {
		return rope(o, o.k, 8, 1e4, big, o.none)
	})
	add("rope [1 4 3 8] x absent", func(o *operands, s *Scope) Array {
		return rope(o, o.q, 8, 0, 0, o.none)
	})
	add("rope [1 4 3 8] x [8]", func(o *operands, s *Scope) Array { return rope(o, o.q, 8, 0, 0, o.v) })
	add("rope [1 4 3 8] x [4]", func(o *operands, s *Scope) Array {
		return rope(o, o.q, 8, 1e4, 0, s.SliceAxis(o.v, 0, 0, 4))
	})
	add("rope absent x absent", func(o *operands, s *Scope) Array {
		return rope(o, o.none, 8, 1e4, 0, o.none)
	})
	add("rope [1 1 3] x absent", func(o *operands, s *Scope) Array {
		return rope(o, s.Reshape(o.i, 1, 1, 3), 2, 1e4, 0, o.none)
	})
	dynamic := func(o *operands, x, offset Array, d int) Array {
		return o.s.RoPEDynamic(x, d, false, 1e4, 1, offset, o.none)
	}
	add("rope_dynamic [1 4 3 8] x [3] x absent", func(o *operands, s *Scope) Array {
		return dynamic(o, o.q, o.i, 8)
	})
	add("rope_dynamic [1 4 3 8] x [] x absent", func(o *operands, s *Scope) Array {
		return dynamic(o, o.q, o.one, 8)
	})
	add("rope_dynamic [1 4 3 8] x [2] x absent", func(o *operands, s *Scope) Array {
		return dynamic(o, o.q, o.key, 7)
	})
	add("rope_dynamic [1 4 3 8] x absent x absent", func(o *operands, s *Scope) Array {
		return dynamic(o, o.q, o.none, 8)
	})
	addAttention(add)
}

func addAttention(add adder) {
	sdpa := func(o *operands, q, k, v Array, mode MaskMode, mask, sinks Array) Array {
		return o.s.SDPA(q, k, v, 1, mode, mask, sinks)
	}
	add("sdpa [4 8] x [1 2 5 8] x [1 2 5 8] x absent x absent", func(o *operands, s *Scope) Array {
		return sdpa(o, o.m, o.k, o.k, MaskNone, o.none, o.none)
	})
	add("sdpa [1 4 3 8] x [1 4 3 8] x [1 2 5 8] x absent x absent",
		func(o *operands, s *Scope) Array {
			return sdpa(o, o.q, o.q, o.k, MaskNone, o.none, o.none)
		})
	add("sdpa [1 2 5 8] x [1 4 3 8] x [1 4 3 8] x absent x absent",
		func(o *operands, s *Scope) Array {
			return sdpa(o, o.k, o.q, o.q, MaskNone, o.none, o.none)
		})
	add("sdpa [1 4 3 8] x [1 2 5 8] x [1 2 5 8] x [4 8] x absent",
		func(o *operands, s *Scope) Array {
			return sdpa(o, o.q, o.k, o.k, MaskArray, o.b, o.none)
		})
	add("sdpa [1 4 3 8] x [1 2 5 8] x [1 2 5 8] x [4 8] x absent",
		func(o *operands, s *Scope) Array {
			return sdpa(o, o.q, o.k, o.k, MaskCausal, o.b, o.none)
		})
	add("sdpa [1 4 3 8] x [1 2 5 8] x [1 2 5 8] x absent x absent",
		func(o *operands, s *Scope) Array {
			return sdpa(o, o.q, o.k, o.k, MaskArray, o.none, o.none)
		})
	add("sdpa [1 4 3 8] x [1 2 5 8] x [1 2 5 8] x absent x absent",
		func(o *operands, s *Scope) Array {
			return sdpa(o, o.q, o.k, o.k, 7, o.none, o.none)
		})
	add("sdpa [1 4 3 8] x [1 2 5 8] x [1 2 5 8] x absent x [8]",
		func(o *operands, s *Scope) Array {
			return sdpa(o, o.q, o.k, o.k, MaskNone, o.none, o.v)
		})
	add("sdpa [1 4 3 8] x absent x [1 2 5 8] x absent x absent",
		func(o *operands, s *Scope) Array {
			return sdpa(o, o.q, o.none, o.k, MaskNone, o.none, o.none)
		})
	add("sdpa [1 4 3 4] x [1 2 5 8] x [1 2 5 8] x absent x absent",
		func(o *operands, s *Scope) Array {
			return sdpa(o, s.SliceAxis(o.q, -1, 0, 4), o.k, o.k, MaskNone, o.none, o.none)
		})
	add("sdpa [1 4 3 8] x [1 2 5 8] x [1 2 5 8] x absent x absent",
		func(o *operands, s *Scope) Array {
			return sdpa(o, s.AsType(o.q, Int32), s.AsType(o.k, Int32), s.AsType(o.k, Int32), MaskNone,
				o.none, o.none)
		})
}

func addQuantized(add adder) {
	qmm := func(o *operands, x, w, sc, b Array, group, bits int, mode Mode) Array {
		return o.s.QuantizedMatmul(x, w, sc, b, true, group, bits, mode)
	}
	call := func(want string, group, bits int, mode Mode, pick func(o *operands) (x, w, sc, b Array)) {
		add("quantized_matmul "+want, func(o *operands, s *Scope) Array {
			x, w, sc, b := pick(o)
			return qmm(o, x, w, sc, b, group, bits, mode)
		})
	}
	good := func(o *operands) (x, w, sc, b Array) { return o.x, o.w, o.sc, o.sc }
	const shapes = "[1 64] x [32 8] x [32 2] x [32 2]"
	call(shapes, 32, 5, Affine, good)
	call(shapes, 48, 4, Affine, good)
	call(shapes, 64, 4, Affine, good)
	call(shapes, 32, 9, Affine, good)
	call(shapes, big, 4, Affine, good)
	call(shapes, 32, 4, 9, good)
	call(shapes, 32, 7, Affine, good)
	call(shapes, 32, 4, MXFP4, good)
	call("[4 8] x [32 8] x [32 2] x [32 2]", 32, 4, Affine, func(o *operands) (x, w, sc, b Array) {
		return o.m, o.w, o.sc, o.sc
	})
	call("[1 64] x [32 8] x [4 8] x [4 8]", 32, 4, Affine, func(o *operands) (x, w, sc, b Array) {
		return o.x, o.w, o.m, o.m
	})
	call("[1 64] x [16 8] x [32 2] x [32 2]", 32, 4, Affine, func(o *operands) (x, w, sc, b Array) {
		return o.x, o.n, o.sc, o.sc
	})
	call("[1 64] x [32 8] x [32 2] x absent", 32, 4, Affine, func(o *operands) (x, w, sc, b Array) {
		return o.x, o.w, o.sc, o.none
	})
	call("[1 64] x [32 8] x absent x absent", 32, 4, Affine, func(o *operands) (x, w, sc, b Array) {
		return o.x, o.w, o.none, o.none
	})
	call("absent x [32 8] x [32 2] x [32 2]", 32, 4, Affine, func(o *operands) (x, w, sc, b Array) {
		return o.none, o.w, o.sc, o.sc
	})
	dq := func(o *operands, w, sc, b Array, group, bits int, mode Mode, d Dtype) Array {
		return o.s.Dequantize(w, sc, b, group, bits, mode, d)
	}
	add("dequantize [32 8] x [32 2] x [32 2]", func(o *operands, s *Scope) Array {
		return dq(o, o.w, o.sc, o.sc, 64, 4, Affine, Float32)
	})
	add("dequantize [32 8] x [32 2] x [32 2]", func(o *operands, s *Scope) Array {
		return dq(o, o.w, o.sc, o.sc, 32, 4, Affine, Int32)
	})
	add("dequantize [32 8] x [32 2] x absent", func(o *operands, s *Scope) Array {
		return dq(o, o.w, o.sc, o.none, 32, 4, Affine, Float32)
	})
	add("dequantize [16 8] x [32 2] x [32 2]", func(o *operands, s *Scope) Array {
		return dq(o, o.n, o.sc, o.sc, 32, 4, Affine, Float32)
	})
	add("dequantize [32 8] x [32 2] x absent", func(o *operands, s *Scope) Array {
		return dq(o, o.w, o.sc, o.none, 32, 4, MXFP4, Float32)
	})
	q := func(o *operands, w Array, group, bits int, mode Mode) Array {
		a, _, _ := o.s.Quantize(w, group, bits, mode)
		return a
	}
	add("quantize [1 64]", func(o *operands, s *Scope) Array { return q(o, o.x, 33, 4, Affine) })
	add("quantize [1 64]", func(o *operands, s *Scope) Array { return q(o, o.x, 32, 7, Affine) })
	add("quantize [4 8]", func(o *operands, s *Scope) Array { return q(o, o.m, 32, 4, Affine) })
	add("quantize [32 8]", func(o *operands, s *Scope) Array { return q(o, o.w, 32, 4, Affine) })
	add("quantize [8]", func(o *operands, s *Scope) Array { return q(o, o.v, 32, 4, Affine) })
	add("quantize [1 64]", func(o *operands, s *Scope) Array { return q(o, o.x, 32, 4, -1) })
	add("quantize [1 64]", func(o *operands, s *Scope) Array { return q(o, o.x, 32, 5, MXFP4) })
	add("quantize absent", func(o *operands, s *Scope) Array { return q(o, o.none, 32, 4, Affine) })
	add("gather_mm [4 8] x [3 8 2] x absent x [8]", func(o *operands, s *Scope) Array {
		return s.GatherMM(o.m, o.experts, o.none, o.v, false)
	})
	add("gather_mm [4 8] x [16 8] x absent x [3]", func(o *operands, s *Scope) Array {
		return s.GatherMM(o.m, o.n, o.none, o.i, false)
	})
	add("gather_mm [3] x [3 8 2] x absent x [3]", func(o *operands, s *Scope) Array {
		return s.GatherMM(s.AsType(o.i, Float32), o.experts, o.none, o.i, false)
	})
	add("gather_mm absent x [3 8 2] x absent x [3]", func(o *operands, s *Scope) Array {
		return s.GatherMM(o.none, o.experts, o.none, o.i, false)
	})
	add("gather_qmm [1 64] x [32 8] x [32 2] x [32 2] x absent x [8]",
		func(o *operands, s *Scope) Array {
			return s.GatherQMM(o.x, o.w, o.sc, o.sc, o.none, o.v, true, 32, 4, Affine, false)
		})
	add("gather_qmm [1 64] x [32 8] x [32 2] x absent x absent x [3]",
		func(o *operands, s *Scope) Array {
			return s.GatherQMM(o.x, o.w, o.sc, o.none, o.none, o.i, true, 32, 4, Affine, false)
		})
	add("gather_qmm [4 8] x [32 8] x [32 2] x [32 2] x absent x [3]",
		func(o *operands, s *Scope) Array {
			return s.GatherQMM(o.m, o.w, o.sc, o.sc, o.none, o.i, true, 32, 4, Affine, false)
		})
}

func addHost(add adder) {
	add("from_data", func(o *operands, s *Scope) Array { return s.FromInt32s([]int32{1, 2, 3}, 2) })
	add("from_data", func(o *operands, s *Scope) Array {
		return s.FromBytes([]byte{1, 2, 3, 4}, Float32, -1)
	})
	add("from_data", func(o *operands, s *Scope) Array { return s.FromBytes(make([]byte, 4), 44, 1) })
	add("from_data", func(o *operands, s *Scope) Array {
		return s.FromUint32s(nil, 1, 1, 1, 1, 1, 1, 1, 1, 0)
	})
	add("from_data", func(o *operands, s *Scope) Array {
		return s.FromFloat32s(nil, 1<<30, 1<<30, 1<<30)
	})
	add("from_data", func(o *operands, s *Scope) Array { return s.FromFloat32s(nil, big, 0) })
	add("from_buffer", func(o *operands, s *Scope) Array {
		b, _ := NewBuffer(12)
		defer b.Free()
		return b.Array(s, Float32, 4)
	})
	add("from_buffer: the buffer was freed", func(o *operands, s *Scope) Array {
		b, _ := NewBuffer(12)
		b.Free()
		return b.Array(s, Float32, 3)
	})
	add("item [8]", func(o *operands, s *Scope) Array { s.ItemFloat32(o.v); return o.v })
	add("item []", func(o *operands, s *Scope) Array { s.ItemInt32(o.one); return o.one })
	add("item []", func(o *operands, s *Scope) Array {
		s.ItemFloat32(s.AsType(o.one, Int32))
		return o.one
	})
	add("item absent", func(o *operands, s *Scope) Array { s.ItemInt32(o.none); return o.i })
	add("read absent", func(o *operands, s *Scope) Array { s.Float32s(o.none, nil); return o.i })
	add("eval absent", func(o *operands, s *Scope) Array { return o.none })
	add("async_eval [4 8] x absent", func(o *operands, s *Scope) Array {
		s.AsyncEval(o.m, o.none)
		return o.m
	})
	add("mul [1073741824 1] x [1 1073741824]", func(o *operands, s *Scope) Array {
		return s.Mul(s.BroadcastTo(o.one, 1<<30, 1), s.BroadcastTo(o.one, 1, 1<<30))
	})
}

// runMisuse makes one wrong call in a scope of its own and returns its error.
func runMisuse(c misuse) (err error, alive bool) {
	s := NewScope(Stream{})
	defer s.Close()
	o := newOperands(s)
	a := c.do(o, s)
	err = s.Eval(a)
	s.Reset()
	return err, s.ItemInt32(s.Scalar(Int32, 7)) == 7
}

func TestWrongCallsAreErrors(t *testing.T) {
	onEngine(t)
	seen := map[string]string{}
	for _, c := range misuses() {
		err, alive := runMisuse(c)
		require.Error(t, err, c.want)
		require.True(t, alive, c.want)
		text := err.Error()
		require.True(t, strings.HasPrefix(text, "mlx: "+c.want+": ") ||
			strings.HasPrefix(text, "mlx: "+c.want) && strings.Contains(c.want, ": "),
			"want %q, got %q", c.want, text)
		require.Greater(t, len(text), len("mlx: "+c.want+": "), text)
		require.NotContains(t, text, ".cpp", c.want)
		require.Empty(t, seen[text], text)
		seen[text] = c.want
	}
	require.Greater(t, len(seen), 150)
	t.Logf("%d wrong calls, all different", len(seen))
}

// The child makes every wrong call and writes nothing; stdout is the protocol.
func TestWrongCallsPrintNothing(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "MLX_TEST_CHILD=misuse")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err)
	require.Empty(t, string(out))
}
