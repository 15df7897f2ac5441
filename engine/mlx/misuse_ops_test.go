package mlx

import "math"

// Wrong calls of elementwise operations, reductions, shapes, slices and indices.

func addElementwise(add adder) {
	unary := map[string]func(*Scope, Array) Array{
		"abs": (*Scope).Abs, "neg": (*Scope).Neg, "exp": (*Scope).Exp, "log": (*Scope).Log,
		"log1p": (*Scope).Log1p, "sqrt": (*Scope).Sqrt, "rsqrt": (*Scope).Rsqrt,
		"square": (*Scope).Square, "sigmoid": (*Scope).Sigmoid, "tanh": (*Scope).Tanh,
		"erf": (*Scope).Erf, "sin": (*Scope).Sin, "cos": (*Scope).Cos, "floor": (*Scope).Floor,
		"not": (*Scope).Not, "contiguous": (*Scope).Contiguous,
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
	// MLX stops the process on these.
	add("sort [0 4]", func(o *operands, s *Scope) Array { return s.Sort(o.empty, 0) })
	add("argsort [0 4]", func(o *operands, s *Scope) Array { return s.Argsort(o.empty, 0) })
	add("cumsum [0 4]", func(o *operands, s *Scope) Array { return s.Cumsum(o.empty, 0, false, true) })
	add("bit_and [4 8] x [4 8]", func(o *operands, s *Scope) Array { return s.BitAnd(o.m, o.m) })
	add("bit_and absent x [3]", func(o *operands, s *Scope) Array { return s.BitAnd(o.none, o.i) })
	add("right_shift [4 8] x [3]", func(o *operands, s *Scope) Array { return s.RightShift(o.m, o.i) })
	add("right_shift [3] x absent", func(o *operands, s *Scope) Array {
		return s.RightShift(o.i, o.none)
	})
	add("power [3] x [3]", func(o *operands, s *Scope) Array { return s.Power(o.i, s.Neg(o.i)) })
	add("matmul [] x [4 8]", func(o *operands, s *Scope) Array { return s.Matmul(o.one, o.m) })
	add("matmul [3] x [3]", func(o *operands, s *Scope) Array { return s.Matmul(o.i, o.i) })
	addTernary(add)
}

func addTernary(add adder) {
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
		"log_sum_exp": (*Scope).LogSumExp, "argmax": (*Scope).Argmax, "softmax": (*Scope).Softmax,
	}
	for name, f := range reductions {
		add(name+" absent", func(o *operands, s *Scope) Array { return f(s, o.none, 0, true) })
		add(name+" [4 8]", func(o *operands, s *Scope) Array { return f(s, o.m, 2, false) })
		add(name+" [16 8]", func(o *operands, s *Scope) Array { return f(s, o.n, -3, false) })
		add(name+" [8]", func(o *operands, s *Scope) Array { return f(s, o.v, big, false) })
	}
	for name, f := range map[string]func(*Scope, Array, int, bool) Array{
		"max": (*Scope).Max, "min": (*Scope).Min, "argmax": (*Scope).Argmax,
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
	add("argpartition absent", func(o *operands, s *Scope) Array {
		return s.Argpartition(o.none, 0, 0)
	})
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
	addJoins(add)
}

func addJoins(add adder) {
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
	add("add_along_axis [4 8] x [3] x []", func(o *operands, s *Scope) Array {
		return s.AddAlongAxis(o.m, o.i, o.one, 0)
	})
	add("add_along_axis [8] x [3] x [4 8]", func(o *operands, s *Scope) Array {
		return s.AddAlongAxis(o.v, o.i, o.m, 0)
	})
	add("add_along_axis [8] x [3] x []", func(o *operands, s *Scope) Array {
		return s.AddAlongAxis(o.v, o.i, o.one, 1)
	})
	add("add_along_axis [8] x [8] x []", func(o *operands, s *Scope) Array {
		return s.AddAlongAxis(o.v, o.v, o.one, 0)
	})
	add("add_along_axis [8] x [3] x absent", func(o *operands, s *Scope) Array {
		return s.AddAlongAxis(o.v, o.i, o.none, 0)
	})
}

func addSampling(add func(string, func(*operands, *Scope) Array)) {
	add("filter_tokens absent x absent", func(o *operands, s *Scope) Array {
		return s.FilterTokens(o.none, TokenFilter{}, o.none)
	})
	add("filter_tokens [4 8] x absent", func(o *operands, s *Scope) Array {
		return s.FilterTokens(o.m, TokenFilter{TopK: 1}, o.none)
	})
	add("filter_tokens [0 4] x absent", func(o *operands, s *Scope) Array {
		return s.FilterTokens(o.empty, TokenFilter{TopK: 1}, o.none)
	})
	add("filter_tokens [3] x absent", func(o *operands, s *Scope) Array {
		return s.FilterTokens(o.i, TokenFilter{TopK: 1}, o.none)
	})
	add("filter_tokens [8] x [3]", func(o *operands, s *Scope) Array {
		return s.FilterTokens(o.v, TokenFilter{XTC: true}, o.i)
	})
	add("mask_tokens absent x absent", func(o *operands, s *Scope) Array { return s.MaskTokens(o.none, o.none) })
	add("mask_tokens [8] x absent", func(o *operands, s *Scope) Array { return s.MaskTokens(o.v, o.none) })
	add("mask_tokens [4 8] x [3]", func(o *operands, s *Scope) Array { return s.MaskTokens(o.m, o.i) })
	add("mask_tokens [8] x [3]", func(o *operands, s *Scope) Array { return s.MaskTokens(o.v, o.i) })
	add("ready absent", func(o *operands, s *Scope) Array {
		s.Ready(o.none)
		return Array{}
	})
	add("draw_token absent", func(o *operands, s *Scope) Array { return s.DrawToken(o.none, 1, 0) })
	add("draw_token []", func(o *operands, s *Scope) Array { return s.DrawToken(o.one, 1, 0) })
	add("draw_token [4 8]", func(o *operands, s *Scope) Array { return s.DrawToken(o.m, 1, 0) })
	add("draw_token [8]", func(o *operands, s *Scope) Array { return s.DrawToken(o.v, 1, 1) })
	add("draw_token [8]", func(o *operands, s *Scope) Array { return s.DrawToken(o.v, -1, 0) })
}
