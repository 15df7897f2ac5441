package mlx

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// Expected values are computed by hand or by Go's float64 math.

var inf = float32(math.Inf(1))

// equal checks shape and values; conversion to float32 is exact for what the tests
// use.
func equal(t *testing.T, s *Scope, name string, a Array, shape []int, want ...float32) {
	t.Helper()
	got := s.Float32s(a, nil)
	require.NoError(t, s.Err(), name)
	require.Equal(t, shape, append([]int{}, a.Shape(nil)...), name)
	require.InDeltaSlice(t, want, got, 2e-6, name)
}

func TestUnaryOperations(t *testing.T) {
	s := open(t)
	in := []float32{-1.5, 0.25, 2}
	x, pos := s.FromFloat32s(in, 3), s.FromFloat32s([]float32{0.25, 1, 4}, 3)
	each := func(f func(float64) float64, v []float32) []float32 {
		out := make([]float32, len(v))
		for i := range v {
			out[i] = float32(f(float64(v[i])))
		}
		return out
	}
	positive := []float32{0.25, 1, 4}
	for name, c := range map[string]struct {
		got  Array
		want []float32
	}{
		"abs":     {s.Abs(x), []float32{1.5, 0.25, 2}},
		"neg":     {s.Neg(x), []float32{1.5, -0.25, -2}},
		"exp":     {s.Exp(x), each(math.Exp, in)},
		"log":     {s.Log(pos), each(math.Log, positive)},
		"log1p":   {s.Log1p(pos), each(math.Log1p, positive)},
		"sqrt":    {s.Sqrt(pos), []float32{0.5, 1, 2}},
		"rsqrt":   {s.Rsqrt(pos), []float32{2, 1, 0.5}},
		"square":  {s.Square(x), []float32{2.25, 0.0625, 4}},
		"sigmoid": {s.Sigmoid(x), each(func(v float64) float64 { return 1 / (1 + math.Exp(-v)) }, in)},
		"tanh":    {s.Tanh(x), each(math.Tanh, in)},
		"erf":     {s.Erf(x), each(math.Erf, in)},
		"sin":     {s.Sin(x), each(math.Sin, in)},
		"cos":     {s.Cos(x), each(math.Cos, in)},
		"floor":   {s.Floor(x), []float32{-2, 0, 2}},
		"not":     {s.Not(s.FromFloat32s([]float32{0, 1, 2}, 3)), []float32{1, 0, 0}},
	} {
		equal(t, s, name, c.got, []int{3}, c.want...)
	}
}

func TestBinaryOperations(t *testing.T) {
	s := open(t)
	a, b := s.FromFloat32s([]float32{1, 6, 3}, 3), s.FromFloat32s([]float32{2, 3, 3}, 3)
	p, q := s.FromInt32s([]int32{0, 1, 1}, 3), s.FromInt32s([]int32{0, 0, 1}, 3)
	u := s.FromUint32s([]uint32{0b1100, 0b1010, 0xffffffff}, 3)
	for name, c := range map[string]struct {
		got  Array
		want []float32
	}{
		"add":           {s.Add(a, b), []float32{3, 9, 6}},
		"sub":           {s.Sub(a, b), []float32{-1, 3, 0}},
		"mul":           {s.Mul(a, b), []float32{2, 18, 9}},
		"div":           {s.Div(a, b), []float32{0.5, 2, 1}},
		"maximum":       {s.Maximum(a, b), []float32{2, 6, 3}},
		"minimum":       {s.Minimum(a, b), []float32{1, 3, 3}},
		"power":         {s.Power(a, b), []float32{1, 216, 27}},
		"equal":         {s.Equal(a, b), []float32{0, 0, 1}},
		"not_equal":     {s.NotEqual(a, b), []float32{1, 1, 0}},
		"less":          {s.Less(a, b), []float32{1, 0, 0}},
		"less_equal":    {s.LessEqual(a, b), []float32{1, 0, 1}},
		"greater":       {s.Greater(a, b), []float32{0, 1, 0}},
		"greater_equal": {s.GreaterEqual(a, b), []float32{0, 1, 1}},
		"and":           {s.And(p, q), []float32{0, 0, 1}},
		"or":            {s.Or(p, q), []float32{0, 1, 1}},
		"bit_and":       {s.BitAnd(u, s.Full(Uint32, 6)), []float32{4, 2, 6}},
		"right_shift":   {s.RightShift(u, s.Full(Uint32, 2)), []float32{3, 2, 0x3fffffff}},
		"floor_div":     {s.FloorDiv(s.FromInt32s([]int32{-7, 6, 7}, 3), 3), []float32{-2, 2, 2}},
		"remainder":     {s.Remainder(s.FromInt32s([]int32{-7, 6, 7}, 3), 3), []float32{2, 0, 1}},
		"where":         {s.Where(s.Less(a, b), a, s.Scalar(Float32, 9)), []float32{1, 9, 9}},
	} {
		equal(t, s, name, c.got, []int{3}, c.want...)
	}
}

// Float16 with a float32 scalar is float32: nothing is weakly typed here.
func TestScalarsPromote(t *testing.T) {
	s := open(t)
	h := s.Ones(Float16, 2)
	require.Equal(t, Float32, s.Add(h, s.Scalar(Float32, 1)).Dtype())
	require.Equal(t, Float16, s.Add(h, s.Scalar(Float16, 1)).Dtype())
	require.Equal(t, Float32, s.Add(h, s.Ones(BFloat16, 2)).Dtype())
}

func TestProducts(t *testing.T) {
	s := open(t)
	a := s.FromFloat32s([]float32{1, 2, 3, 4}, 2, 2)
	b := s.FromFloat32s([]float32{5, 6, 7, 8}, 2, 2)
	c := s.FromFloat32s([]float32{1, 10}, 2)
	equal(t, s, "matmul", s.Matmul(a, b), []int{2, 2}, 19, 22, 43, 50)
	equal(t, s, "addmm", s.Addmm(c, a, b, 2, 3), []int{2, 2}, 41, 74, 89, 130)
	experts := s.Concatenate(0, s.ExpandDims(a, 0), s.ExpandDims(b, 0)) // [2 2 2]
	rows := s.FromFloat32s([]float32{1, 0, 0, 1, 1, 1}, 3, 1, 2)
	pick := s.FromUint32s([]uint32{1, 0, 1}, 3)
	equal(t, s, "gather_mm", s.GatherMM(rows, experts, Array{}, pick, false), []int{3, 1, 2},
		5, 6, 3, 4, 12, 14)
}

func TestReductions(t *testing.T) {
	s := open(t)
	x := s.FromFloat32s([]float32{1, 5, 3, 4, 2, 6}, 2, 3)
	equal(t, s, "sum", s.Sum(x, 0, false), []int{3}, 5, 7, 9)
	equal(t, s, "sum", s.Sum(x, -1, true), []int{2, 1}, 9, 12)
	equal(t, s, "mean", s.Mean(x, 1, false), []int{2}, 3, 4)
	equal(t, s, "max", s.Max(x, 1, false), []int{2}, 5, 6)
	equal(t, s, "min", s.Min(x, 0, false), []int{3}, 1, 2, 3)
	equal(t, s, "argmax", s.Argmax(x, 1, false), []int{2}, 1, 2)
	lse := float32(math.Log(math.Exp(1) + math.Exp(5) + math.Exp(3)))
	equal(t, s, "log_sum_exp", s.SliceAxis(s.LogSumExp(x, 1, false), 0, 0, 1), []int{1}, lse)
	third := float32(1.0 / 3)
	equal(t, s, "softmax", s.Softmax(s.Zeros(Float16, 3), 0, true), []int{3}, 0.33325, 0.33325, 0.33325)
	equal(t, s, "softmax", s.Softmax(s.Zeros(Float32, 3), 0, false), []int{3}, third, third, third)
	equal(t, s, "cumsum", s.Cumsum(x, 1, false, true), []int{2, 3}, 1, 6, 9, 4, 6, 12)
	equal(t, s, "cumsum", s.Cumsum(x, 1, true, false), []int{2, 3}, 8, 3, 0, 8, 6, 0)
}

func TestOrder(t *testing.T) {
	s := open(t)
	x := s.FromFloat32s([]float32{3, 1, 2, 5, 4}, 5)
	equal(t, s, "sort", s.Sort(x, 0), []int{5}, 1, 2, 3, 4, 5)
	equal(t, s, "argsort", s.Argsort(x, 0), []int{5}, 1, 2, 0, 4, 3)
	equal(t, s, "topk", s.Sort(s.Topk(x, 2, 0), 0), []int{2}, 4, 5)
	part := s.Uint32s(s.Argpartition(x, 2, 0), nil)
	require.NoError(t, s.Err())
	require.Equal(t, uint32(0), part[2], "the third smallest is element 0")
	require.ElementsMatch(t, []uint32{1, 2}, part[:2])
	require.ElementsMatch(t, []uint32{3, 4}, part[3:])
}

func TestShapes(t *testing.T) {
	s := open(t)
	x := s.FromFloat32s([]float32{1, 2, 3, 4, 5, 6}, 2, 3)
	equal(t, s, "reshape", s.Reshape(x, 3, -1), []int{3, 2}, 1, 2, 3, 4, 5, 6)
	equal(t, s, "transpose", s.Transpose(x), []int{3, 2}, 1, 4, 2, 5, 3, 6)
	y := s.Transpose(s.Reshape(x, 1, 2, 3), 2, 0, 1)
	equal(t, s, "transpose", y, []int{3, 1, 2}, 1, 4, 2, 5, 3, 6)
	equal(t, s, "expand_dims", s.ExpandDims(x, 1), []int{2, 1, 3}, 1, 2, 3, 4, 5, 6)
	equal(t, s, "squeeze", s.Squeeze(s.ExpandDims(x, -1), 2), []int{2, 3}, 1, 2, 3, 4, 5, 6)
	equal(t, s, "broadcast_to", s.BroadcastTo(s.SliceAxis(x, 0, 1, 2), 2, 3), []int{2, 3},
		4, 5, 6, 4, 5, 6)
	equal(t, s, "concatenate", s.Concatenate(1, x, x), []int{2, 6}, 1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6)
	equal(t, s, "repeat", s.Repeat(x, 2, 0), []int{4, 3}, 1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6)
	var parts [3]Array
	s.Split(parts[:], x, 1)
	equal(t, s, "split", parts[2], []int{2, 1}, 3, 6)
	equal(t, s, "contiguous", s.Contiguous(s.Transpose(x)), []int{3, 2}, 1, 4, 2, 5, 3, 6)
	require.Equal(t, Int32, s.AsType(x, Int32).Dtype())
	require.Equal(t, []int32{1, 2, 3, 4, 5, 6}, s.Int32s(x, nil))
	bits := s.View(s.FromFloat32s([]float32{1}, 1), Uint32)
	require.Equal(t, []uint32{math.Float32bits(1)}, s.Uint32s(bits, nil))
	require.Equal(t, 3, x.Dim(-1))
	require.Equal(t, 0, x.Dim(2))
	require.Equal(t, 6, x.Size())
	require.Equal(t, 2, x.NDim())
	require.Equal(t, "float32[2 3]", x.String())
	require.Equal(t, "absent", Array{}.String())
	require.Zero(t, Array{}.Dim(0)+Array{}.Size()+Array{}.NDim())
	require.Empty(t, Array{}.Shape(nil))
}

func TestSlices(t *testing.T) {
	s := open(t)
	x := s.FromFloat32s([]float32{1, 2, 3, 4, 5, 6}, 2, 3)
	equal(t, s, "slice", s.Slice(x, []int{0, 1}, []int{2, 3}), []int{2, 2}, 2, 3, 5, 6)
	equal(t, s, "slice", s.Slice(x, []int{-1, 0}, []int{2, -1}), []int{1, 2}, 4, 5)
	equal(t, s, "slice_axis", s.SliceAxis(x, -1, 2, 3), []int{2, 1}, 3, 6)
	equal(t, s, "slice_axis", s.SliceAxis(x, 0, 1, 1), []int{0, 3})
	u := s.FromFloat32s([]float32{8, 9}, 2, 1)
	equal(t, s, "slice_update", s.SliceUpdate(x, u, []int{0, 1}, []int{2, 2}), []int{2, 3},
		1, 8, 3, 4, 9, 6)
	equal(t, s, "slice_update_axis", s.SliceUpdateAxis(x, u, 1, 2), []int{2, 3}, 1, 2, 8, 4, 5, 9)
	equal(t, s, "the operand is unchanged", x, []int{2, 3}, 1, 2, 3, 4, 5, 6)
}

func TestIndices(t *testing.T) {
	s := open(t)
	x := s.FromFloat32s([]float32{1, 2, 3, 4, 5, 6}, 3, 2)
	i := s.FromInt32s([]int32{2, 0}, 1, 2)
	equal(t, s, "take", s.Take(x, i, 0), []int{1, 2, 2}, 5, 6, 1, 2)
	equal(t, s, "take_along_axis", s.TakeAlongAxis(x, i, 0), []int{1, 2}, 5, 2)
	equal(t, s, "put_along_axis", s.PutAlongAxis(x, i, s.Scalar(Float32, 9), 0), []int{3, 2},
		1, 9, 3, 4, 9, 6)
	twice := s.FromInt32s([]int32{2, 0, 2, 1}, 2, 2)
	equal(t, s, "add_along_axis", s.AddAlongAxis(x, twice, s.Scalar(Float32, 10), 0), []int{3, 2},
		1, 12, 3, 14, 25, 6)
}

func TestCreation(t *testing.T) {
	s := open(t)
	equal(t, s, "zeros", s.Zeros(Float32, 2), []int{2}, 0, 0)
	equal(t, s, "ones", s.Ones(Float16, 1, 2), []int{1, 2}, 1, 1)
	equal(t, s, "full", s.Full(Float32, -0.75, 2), []int{2}, -0.75, -0.75)
	equal(t, s, "scalar", s.Scalar(Float32, math.Inf(-1)), []int{}, -inf)
	equal(t, s, "arange", s.Arange(Int32, 3, 9, 2), []int{3}, 3, 5, 7)
	equal(t, s, "tri", s.Tri(Float32, 2, 3, 1), []int{2, 3}, 1, 1, 0, 1, 1, 1)
	require.Equal(t, []int32{16777217}, s.Int32s(s.Full(Int32, 16777217, 1), nil),
		"an integer beyond float32's precision stays exact")
	c, err := Const(BFloat16, 0.5)
	require.NoError(t, err)
	defer c.Free()
	require.Equal(t, BFloat16, c.Array().Dtype())
	equal(t, s, "const", c.Array(), []int{}, 0.5)
}

func TestRandom(t *testing.T) {
	s := open(t)
	key := s.Key(42)
	equalDraws := s.Float32s(s.Uniform(key, Float32, 8), nil)
	require.Equal(t, equalDraws, s.Float32s(s.Uniform(s.Key(42), Float32, 8), nil))
	a, b := s.SplitKey(key)
	require.NotEqual(t, s.Uint32s(a, nil), s.Uint32s(b, nil))
	require.NotEqual(t, equalDraws, s.Float32s(s.Uniform(a, Float32, 8), nil))

	const n = 4096
	logits := s.BroadcastTo(s.FromFloat32s([]float32{0, float32(math.Log(3)), -inf}, 1, 3), n, 3)
	draws := s.Uint32s(s.Categorical(logits, -1, key), nil)
	noise := s.Argmax(s.Add(logits, s.Gumbel(b, Float32, n, 3)), -1, false)
	for _, list := range [][]uint32{draws, s.Uint32s(noise, nil)} {
		require.Len(t, list, n)
		var count [3]int
		for _, v := range list {
			count[v]++
		}
		require.InDelta(t, 0.75, float64(count[1])/n, 0.04)
		require.Zero(t, count[2])
	}
}
