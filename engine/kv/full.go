package kv

import "harmonyd/engine/mlx"

const (
	// block is what capacities are multiples of: cuDNN's attention for a single
	// query wants it (MLX cuda/scaled_dot_product_attention.cpp).
	block = 256
	// maxGrowth bounds how much is reserved ahead of need, in tokens.
	maxGrowth = 4096
)

// Full keeps every token. It grows by a quarter at a time, because each growth
// copies the cache once. What was reserved stays after a SetBack.
type Full struct {
	layers []fullLayer
}

// NewFull returns an empty cache for that many layers.
func NewFull(layers int) *Full { return &Full{layers: make([]fullLayer, layers)} }

// Layer returns the part of layer i.
func (c *Full) Layer(i int) Layer { return &c.layers[i] }

// Bound takes effect when a layer grows next.
func (c *Full) Bound(n int) {
	for i := range c.layers {
		c.layers[i].bound = n
	}
}

// Len is the number of tokens that every layer holds: a step that failed half
// way has appended to some layers only.
func (c *Full) Len() int {
	n := c.layers[0].offset
	for i := range c.layers {
		n = min(n, c.layers[i].offset)
	}
	return n
}

// SetBack forgets the last n tokens. It can whenever there are that many: what
// lies behind the offset is overwritten.
func (c *Full) SetBack(n int) bool {
	keep := c.Len() - n
	if n < 0 || keep < 0 {
		return false
	}
	for i := range c.layers {
		c.layers[i].offset = keep
	}
	return true
}

// Fork shares the buffers. MLX copies one when either cache writes to it.
func (c *Full) Fork(n int) (Cache, bool) {
	if n < 0 || n > c.Len() {
		return nil, false
	}
	f := NewFull(len(c.layers))
	for i := range c.layers {
		from, to := &c.layers[i], &f.layers[i]
		to.keys.Set(from.keys.Array())
		to.values.Set(from.values.Array())
		to.offset, to.capacity = n, from.capacity
	}
	return f, true
}

// AppendRoots appends the buffers of all layers.
func (c *Full) AppendRoots(dst []mlx.Array) []mlx.Array {
	for i := range c.layers {
		if l := &c.layers[i]; l.capacity > 0 {
			dst = append(dst, l.keys.Array(), l.values.Array())
		}
	}
	return dst
}

// Bytes counts what is reserved, whether tokens use it or not.
func (c *Full) Bytes() int64 {
	var n int64
	for i := range c.layers {
		for _, v := range []*mlx.Var{&c.layers[i].keys, &c.layers[i].values} {
			a := v.Array()
			n += int64(a.Size()) * int64(a.Dtype().Size())
		}
	}
	return n
}

// Free drops the buffers of all layers.
func (c *Full) Free() {
	for i := range c.layers {
		l := &c.layers[i]
		l.keys.Free()
		l.values.Free()
		l.offset, l.capacity = 0, 0
	}
}

// fullLayer holds keys and values [B, G, capacity, d], the first offset tokens
// of which count.
type fullLayer struct {
	keys, values     mlx.Var
	offset, capacity int
	bound            int // see Cache.Bound
}

func (l *fullLayer) Offset() int { return l.offset }

func (l *fullLayer) Append(s *mlx.Scope, k, v mlx.Array) (keys, values mlx.Array) {
	end := l.offset + k.Dim(2)
	if end > l.capacity {
		capacity := grown(l.capacity, end, l.bound)
		l.reserve(s, &l.keys, k, capacity)
		l.reserve(s, &l.values, v, capacity)
		l.capacity = capacity
	}
	keys = l.write(s, &l.keys, k)
	values = l.write(s, &l.values, v)
	l.offset = end
	return s.SliceAxis(keys, 2, 0, end), s.SliceAxis(values, 2, 0, end)
}

// write puts a behind the tokens there are. Setting the Var drops its handle on
// the former buffer, so that MLX may write into it.
func (l *fullLayer) write(s *mlx.Scope, buffer *mlx.Var, a mlx.Array) mlx.Array {
	all := s.SliceUpdateAxis(buffer.Array(), a, 2, l.offset)
	buffer.Set(all)
	return all
}

// reserve makes buffer hold capacity tokens, shaped like a but for that. It waits
// for the copy, in a scope of its own: left to the step, the buffers of all layers
// would be there three times at once, since a handle in the scope of the step
// keeps MLX from writing in place.
func (l *fullLayer) reserve(s *mlx.Scope, buffer *mlx.Var, a mlx.Array, capacity int) {
	if s.Err() != nil {
		return
	}
	own := mlx.NewScope(mlx.Stream{})
	defer own.Close()
	more := own.Zeros(a.Dtype(), a.Dim(0), a.Dim(1), capacity-l.capacity, a.Dim(3))
	if l.capacity > 0 {
		more = own.Concatenate(2, buffer.Array(), more)
		if err := own.Eval(more); err != nil {
			s.Fail(err)
			return
		}
	}
	buffer.Set(more)
}

// grown returns the capacity that follows from one of old for need tokens.
func grown(old, need, bound int) int {
	next := old + min(old/4, maxGrowth)
	if bound > 0 {
		next = min(next, bound)
	}
	return Capacity(max(need, next))
}

// Capacity is the number of tokens that a full cache bounded to n reserves room
// for once it holds that many.
func Capacity(n int) int { return (n + block - 1) / block * block }
