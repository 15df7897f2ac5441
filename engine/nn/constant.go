package nn

import "harmonyd/engine/mlx"

// Constant is a number that activations are computed with, made once and in their
// dtype: a scalar of another one would promote them.
type Constant struct {
	value float32
	v     mlx.Var // [1]
}

// NewConstant returns a constant that Bind gives its array.
func NewConstant(value float32) Constant { return Constant{value: value} }

// Array is the number as [1].
func (c *Constant) Array() mlx.Array { return c.v.Array() }

func (c *Constant) bind(b *binder, path string) {
	dtype := b.Dtype
	b.slots = append(b.slots, Slot{
		Path: path, Leaf: "constant", Shape: []int{1}, Values: []float32{c.value}, set: c.v.Set, free: c.v.Free,
		turn: func(s *mlx.Scope) mlx.Array {
			a := s.AsType(c.v.Array(), dtype)
			c.v.Set(a)
			return a
		},
	})
}

// GELU is the tanh approximation of the Gaussian error linear unit (Hendrycks and
// Gimpel 2016), x/2 (1 + tanh(√(2/π) (x + 0.044715 x³))). With tanh(u) = 2σ(2u)-1
// that is x σ(x (a + b x²)), three operations less.
type GELU struct {
	A Constant `weight:"a"`
	B Constant `weight:"b"`
}

// NewGELU returns a GELU whose constants Bind makes.
func NewGELU() GELU {
	const a = 1.5957691216057308 // 2 √(2/π)
	return GELU{NewConstant(a), NewConstant(a * 0.044715)}
}

// Forward keeps the shape of x.
func (g *GELU) Forward(s *mlx.Scope, x mlx.Array) mlx.Array {
	u := s.Add(g.A.Array(), s.Mul(g.B.Array(), s.Mul(x, x)))
	return s.Mul(x, s.Sigmoid(s.Mul(x, u)))
}

// Residual adds what a block computed to what it was given. Sums of float16 that
// leave its range become the largest values in it, as in mlx-lm's gemma3_text,
// whose activations in bfloat16 are larger than float16 can say.
type Residual struct {
	clips       bool
	most, least mlx.Var // float32 [1], where clips
}

// Add keeps the shape and dtype of x.
func (r *Residual) Add(s *mlx.Scope, x, y mlx.Array) mlx.Array {
	if !r.clips {
		return s.Add(x, y)
	}
	sum := s.Add(s.AsType(x, mlx.Float32), s.AsType(y, mlx.Float32))
	return s.AsType(s.Minimum(s.Maximum(sum, r.least.Array()), r.most.Array()), mlx.Float16)
}

func (r *Residual) bind(b *binder, path string) {
	const largest = 65504
	if r.clips = b.Dtype == mlx.Float16; !r.clips {
		return
	}
	for _, c := range []struct {
		leaf  string
		value float32
		v     *mlx.Var
	}{{"most", largest, &r.most}, {"least", -largest, &r.least}} {
		b.slots = append(b.slots, Slot{
			Path: path, Leaf: c.leaf, Shape: []int{1}, Values: []float32{c.value}, set: c.v.Set, free: c.v.Free,
		})
	}
}
