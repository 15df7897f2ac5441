package kv

import "harmonyd/engine/mlx"

const (
	// block is what capacities are multiples of: cuDNN's attention for a single
	// query wants it (MLX cuda/scaled_dot_product_attention.cpp).
	block = 256
	// maxGrowth bounds how much is reserved ahead of need, in tokens.
	maxGrowth = 4096
)

// NewFull returns an empty cache for n layers that keep every token. They grow by
// a quarter at a time, because each growth copies the cache once. What was
// reserved stays after a SetBack, and counts in Bytes.
func NewFull(n int) Cache {
	c := make(layers, n)
	for i := range c {
		c[i] = new(fullLayer)
	}
	return c
}

// fullLayer keeps every token. It can go back to any length: what lies behind
// the offset is overwritten.
type fullLayer struct {
	buffer
	offset int
	bound  int // see Cache.Bound; takes effect when the layer grows next
}

func (l *fullLayer) Offset() int     { return l.offset }
func (l *fullLayer) setBound(n int)  { l.bound = n }
func (l *fullLayer) reach(n int) int { return n }
func (l *fullLayer) setBack(n int)   { l.offset = n }

func (l *fullLayer) fork(n int) layer {
	f := &fullLayer{offset: n}
	f.share(&l.buffer)
	return f
}

func (l *fullLayer) appendRoots(dst []mlx.Array) []mlx.Array { return l.roots(dst) }

func (l *fullLayer) free() {
	l.buffer.free()
	l.offset = 0
}

func (l *fullLayer) Append(s *mlx.Scope, k, v mlx.Array) (keys, values mlx.Array) {
	end := l.offset + k.Dim(2)
	if end > l.capacity {
		l.reserve(s, k, v, l.offset, grown(l.capacity, end, l.bound))
	}
	keys, values = l.write(s, k, v, l.offset)
	l.offset = end
	return keys, values
}

// grown returns the capacity that follows from one of old for need tokens.
func grown(old, need, bound int) int {
	next := old + min(old/4, maxGrowth)
	if bound > 0 {
		next = min(next, bound)
	}
	return Capacity(max(need, next))
}

// Capacity is the number of tokens that a full layer bounded to n reserves room
// for once it holds that many.
func Capacity(n int) int { return (n + block - 1) / block * block }
