package nn

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/mlx"
)

// bound binds a model without checkpoint tensors and fills its slots.
func bound(s *mlx.Scope, m any, dtype mlx.Dtype, tensors map[string][]float32) (free func(), err error) {
	c := Checkpoint{Dtype: dtype, Tensors: map[string]Tensor{}}
	for name, data := range tensors {
		c.Tensors[name] = Tensor{Shape: []int{len(data)}, Dtype: dtype}
	}
	slots, err := Bind(m, c)
	if err != nil {
		return nil, err
	}
	for i := range slots {
		sl := &slots[i]
		var a mlx.Array
		if sl.Values != nil {
			a = s.FromFloat32s(sl.Values, sl.Shape...)
		} else {
			a = s.AsType(s.FromFloat32s(tensors[sl.Name()], sl.Shape...), dtype)
		}
		if err := s.Eval(a); err != nil {
			return nil, err
		}
		if err := sl.Set(s, a); err != nil {
			return nil, err
		}
	}
	return func() {
		for i := range slots {
			slots[i].Free()
		}
	}, nil
}

// TestGELUIsTheTanhApproximation compares with its definition.
func TestGELUIsTheTanhApproximation(t *testing.T) {
	for dtype, tolerance := range map[mlx.Dtype]float64{mlx.Float32: 2e-6, mlx.Float16: 4e-3, mlx.BFloat16: 3e-2} {
		onThread(t, func(s *mlx.Scope) error {
			m := struct {
				G GELU `weight:"gelu"`
			}{NewGELU()}
			free, err := bound(s, &m, dtype, nil)
			if err != nil {
				return err
			}
			defer free()
			var in []float32
			for x := -12.0; x <= 12; x += 0.03125 {
				in = append(in, float32(x)) // exact in all three
			}
			in = append(in, 300, -300, 60000, -60000) // whose squares are beyond float16
			x := s.AsType(s.FromFloat32s(in, len(in)), dtype)
			y := m.G.Forward(s, x)
			if y.Dtype() != dtype {
				return fmt.Errorf("%v became %v", dtype, y.Dtype())
			}
			in, got := s.Float32s(s.AsType(x, mlx.Float32), nil), s.Float32s(s.AsType(y, mlx.Float32), nil)
			for i, x := range in {
				x := float64(x)
				want := x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
				if !(math.Abs(float64(got[i])-want) <= tolerance*max(1, math.Abs(want))) {
					return fmt.Errorf("%v: gelu(%v) is %v, want %v", dtype, x, got[i], want)
				}
			}
			return s.Err()
		})
	}
}

// TestResidualStaysWithinFloat16: a sum beyond the range is its end, and other
// types add as usual.
func TestResidualStaysWithinFloat16(t *testing.T) {
	for dtype, want := range map[mlx.Dtype][]float32{
		mlx.Float16:  {3, 65504, -65504, 65504},
		mlx.BFloat16: {3, 119808, -119808, 65536},
		mlx.Float32:  {3, 120000, -120000, 65508},
	} {
		onThread(t, func(s *mlx.Scope) error {
			var m struct {
				R Residual `weight:"residual"`
			}
			free, err := bound(s, &m, dtype, nil)
			if err != nil {
				return err
			}
			defer free()
			x := s.AsType(s.FromFloat32s([]float32{1, 60000, -60000, 65472}, 4), dtype)
			y := s.AsType(s.FromFloat32s([]float32{2, 60000, -60000, 36}, 4), dtype)
			sum := m.R.Add(s, x, y)
			if sum.Dtype() != dtype {
				return fmt.Errorf("%v became %v", dtype, sum.Dtype())
			}
			got := s.Float32s(s.AsType(sum, mlx.Float32), nil)
			for i := range want {
				if got[i] != want[i] {
					return fmt.Errorf("%v: %v, want %v", dtype, got, want)
				}
			}
			return s.Err()
		})
	}
}

func TestNormsThatAddOne(t *testing.T) {
	onThread(t, func(s *mlx.Scope) error {
		weight := []float32{0, -1, 0.5, 2}
		m := struct {
			Plain RMSNorm `weight:"plain"`
			More  RMSNorm `weight:"more"`
		}{NewRMSNorm(4, 1e-6), NewRMSNormPlusOne(4, 1e-6)}
		free, err := bound(s, &m, mlx.Float32, map[string][]float32{
			"plain.weight": {1, 0, 1.5, 3}, "more.weight": weight,
		})
		if err != nil {
			return err
		}
		defer free()
		x := s.FromFloat32s([]float32{1, 2, -3, 4}, 1, 4)
		return near(s, m.More.Forward(s, x), m.Plain.Forward(s, x))
	})
}

// TestWindowMask compares with its definition, and attention with a window over
// the keys that matter with one over all of them.
func TestWindowMask(t *testing.T) {
	onThread(t, func(s *mlx.Scope) error {
		for _, c := range [][3]int{{1, 5, 5}, {3, 7, 5}, {4, 4, 1}, {9, 9, 8}, {2, 6, 5}, {5, 9, 9}, {5, 9, 10}} {
			l, n, window := c[0], c[1], c[2]
			mask := WindowMask(s, l, n, window)
			if mask.Valid() != (n > window) {
				return fmt.Errorf("%v: a mask: %v", c, mask.Valid())
			}
			if !mask.Valid() {
				continue
			}
			got := s.Float32s(s.AsType(mask, mlx.Float32), nil)
			for i := range l {
				for j := range n {
					at := n - l + i // of the query among the keys
					if seen := j <= at && j > at-window; seen != (got[i*n+j] == 1) {
						return fmt.Errorf("%v: query %d and key %d: %v", c, i, j, got[i*n+j])
					}
				}
			}
		}
		return s.Err()
	})
}

func TestWindowAttentionSeesTheWindow(t *testing.T) {
	const heads, dim, total, window = 2, 8, 40, 7
	numbers := func(n, seed int) []float32 {
		data := make([]float32, n)
		for i := range data {
			data[i] = float32((i*37+seed*11)%101)/50 - 1
		}
		return data
	}
	onThread(t, func(s *mlx.Scope) error {
		k := s.FromFloat32s(numbers(heads*total*dim, 1), 1, heads, total, dim)
		v := s.FromFloat32s(numbers(heads*total*dim, 2), 1, heads, total, dim)
		for l := 1; l <= total; l += 3 {
			q := s.FromFloat32s(numbers(heads*l*dim, 3), 1, heads, l, dim)
			all := WindowAttention(s, q, k, v, 0.3, WindowMask(s, l, total, window))
			n := min(total-l, window-1) + l
			few := WindowAttention(s, q, s.SliceAxis(k, 2, total-n, total), s.SliceAxis(v, 2, total-n, total), 0.3,
				WindowMask(s, l, n, window))
			if err := near(s, few, all); err != nil {
				return fmt.Errorf("%d tokens: %w", l, err)
			}
		}
		return s.Err()
	})
	require.Zero(t, mlx.Live())
}
