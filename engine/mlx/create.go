package mlx

// #include "shim.h"
// #cgo noescape hm_full
// #cgo nocallback hm_full
// #cgo noescape hm_arange
// #cgo nocallback hm_arange
// #cgo noescape hm_tri
// #cgo nocallback hm_tri
// #cgo noescape hm_random_key
// #cgo nocallback hm_random_key
// #cgo noescape hm_random_split
// #cgo nocallback hm_random_split
// #cgo noescape hm_categorical
// #cgo nocallback hm_categorical
// #cgo noescape hm_uniform
// #cgo nocallback hm_uniform
// #cgo noescape hm_gumbel
// #cgo nocallback hm_gumbel
import "C"

// Full returns an array of one value.
func (s *Scope) Full(d Dtype, value float64, shape ...int) Array {
	return s.made(C.hm_full(s.ptr(), C.double(value), C.int(d), dims(shape)))
}

// Zeros returns an array of zeros.
func (s *Scope) Zeros(d Dtype, shape ...int) Array { return s.Full(d, 0, shape...) }

// Ones returns an array of ones.
func (s *Scope) Ones(d Dtype, shape ...int) Array { return s.Full(d, 1, shape...) }

// Scalar returns an array without axes. A constant that every step needs is made
// once, by Const.
func (s *Scope) Scalar(d Dtype, value float64) Array { return s.Full(d, value) }

// Const returns an evaluated scalar that outlives scopes, for constants made once.
// The caller frees it.
func Const(d Dtype, value float64) (Var, error) {
	s := NewScope(Stream{})
	defer s.Close()
	a := s.Scalar(d, value)
	if err := s.Eval(a); err != nil {
		return Var{}, err
	}
	var v Var
	v.Set(a)
	return v, nil
}

// Arange returns start, start+step, ... below stop.
func (s *Scope) Arange(d Dtype, start, stop, step float64) Array {
	return s.made(C.hm_arange(s.ptr(), C.double(start), C.double(stop), C.double(step), C.int(d)))
}

// Tri returns [n, m] with ones where column <= row+k and zeros elsewhere.
func (s *Scope) Tri(d Dtype, n, m, k int) Array {
	return s.made(C.hm_tri(s.ptr(), C.longlong(n), C.longlong(m), C.longlong(k), C.int(d)))
}

// Random numbers are functions of an explicit key, so a seed gives the same tokens
// whatever else ran before.

// Key makes a key from a seed.
func (s *Scope) Key(seed uint64) Array { return s.made(C.hm_random_key(s.ptr(), C.uint64_t(seed))) }

// SplitKey derives two independent keys; the given one must not be used again.
func (s *Scope) SplitKey(key Array) (Array, Array) {
	t := C.hm_random_split(s.ptr(), key.use())
	return s.made(t.a), s.made(t.b)
}

// Categorical draws an index along axis with probabilities softmax(logits); the
// axis vanishes. The result is Uint32.
func (s *Scope) Categorical(logits Array, axis int, key Array) Array {
	return s.made(C.hm_categorical(s.ptr(), logits.use(), C.longlong(axis), key.use()))
}

// Uniform draws from [0, 1).
func (s *Scope) Uniform(key Array, d Dtype, shape ...int) Array {
	return s.made(C.hm_uniform(s.ptr(), key.use(), C.int(d), dims(shape)))
}

// Gumbel draws from the standard Gumbel distribution: argmax(logits + Gumbel)
// draws like Categorical.
func (s *Scope) Gumbel(key Array, d Dtype, shape ...int) Array {
	return s.made(C.hm_gumbel(s.ptr(), key.use(), C.int(d), dims(shape)))
}
