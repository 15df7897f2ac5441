package kv

import "harmonyd/engine/mlx"

// buffer has room for the keys and values [B, G, capacity, d] of capacity tokens.
// Where several share one, whoever writes makes a copy first: a CPU writes in
// place however many handles there are.
type buffer struct {
	keys, values mlx.Var
	capacity     int
	owners       *int // how many share the arrays; nil where nobody ever did
}

// reserve makes arrays of b's own for capacity tokens, shaped like k and v but for
// that, the first keep of them as they were. It waits for the copy: left to the
// step, the buffers of all layers would be there three times at once.
func (b *buffer) reserve(s *mlx.Scope, k, v mlx.Array, keep, capacity int) {
	if s.Err() != nil {
		return
	}
	// A handle in the scope of the step would keep MLX from writing in place.
	own := mlx.NewScope(mlx.Stream{})
	defer own.Close()
	for _, x := range []struct {
		to   *mlx.Var
		like mlx.Array
	}{{&b.keys, k}, {&b.values, v}} {
		more := zeros(own, x.like, capacity-keep)
		if keep > 0 {
			more = own.Concatenate(2, own.SliceAxis(x.to.Array(), 2, 0, keep), more)
			if err := own.Eval(more); err != nil {
				s.Fail(err)
				return
			}
		}
		x.to.Set(more)
	}
	b.capacity = capacity
	b.leave()
}

func zeros(s *mlx.Scope, like mlx.Array, tokens int) mlx.Array {
	return s.Zeros(like.Dtype(), like.Dim(0), like.Dim(1), tokens, like.Dim(3))
}

// write puts k and v at a place within the capacity and returns all up to their
// end. What was behind the place is lost.
func (b *buffer) write(s *mlx.Scope, k, v mlx.Array, at int) (keys, values mlx.Array) {
	if b.owners != nil && *b.owners > 1 {
		b.reserve(s, k, v, at, b.capacity)
	}
	return s.WriteRows(&b.keys, k, at), s.WriteRows(&b.values, v, at)
}

// view returns the tokens from begin to end.
func (b *buffer) view(s *mlx.Scope, begin, end int) (keys, values mlx.Array) {
	return s.SliceAxis(b.keys.Array(), 2, begin, end), s.SliceAxis(b.values.Array(), 2, begin, end)
}

// share makes b, which is empty, hold what other holds.
func (b *buffer) share(other *buffer) {
	b.keys.Set(other.keys.Array())
	b.values.Set(other.values.Array())
	b.capacity = other.capacity
	if other.owners == nil {
		other.owners = new(1)
	}
	*other.owners++
	b.owners = other.owners
}

// leave gives up a share.
func (b *buffer) leave() {
	if b.owners != nil {
		*b.owners--
		b.owners = nil
	}
}

func (b *buffer) roots(dst []mlx.Array) []mlx.Array {
	if b.capacity == 0 {
		return dst
	}
	return append(dst, b.keys.Array(), b.values.Array())
}

// bytes counts what is reserved, whether tokens use it or not.
func (b *buffer) bytes() (n int64) {
	for _, v := range []*mlx.Var{&b.keys, &b.values} {
		a := v.Array()
		n += int64(a.Size()) * int64(a.Dtype().Size())
	}
	return n
}

func (b *buffer) free() {
	b.keys.Free()
	b.values.Free()
	b.leave()
	b.capacity = 0
}
