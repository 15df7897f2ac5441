// Package kv holds the keys and values of the tokens that a model has seen, so
// that each new token costs one position and not all of them.
//
// A cache belongs to one sequence and to the engine thread. Its arrays live in
// Vars and outlast the scopes of the steps that extend them. It must never keep
// a second handle on a buffer across steps: MLX then copies the whole cache for
// each token instead of writing into it.
//
// Start with Cache, which a sequence holds, and Layer, which a model sees.
package kv

import "harmonyd/engine/mlx"

// Cache is the memory of one sequence over all layers.
type Cache interface {
	// Layer returns the part of layer i. It makes nothing.
	Layer(i int) Layer
	// Len is the number of tokens held, at most those appended: a step that
	// failed half way has appended to some layers only.
	Len() int
	// Bound says that the cache will hold no more than n tokens, so that growing
	// reserves none beyond them. More are no error. 0 stands for no bound.
	Bound(n int)
	// Reach returns the largest length, at most n, that SetBack and Fork can go
	// back to. N is at most Len.
	Reach(n int) int
	// SetBack forgets the last n tokens and reports whether it could; where it
	// could not, nothing has changed.
	SetBack(n int) bool
	// Fork returns a cache of the first n tokens, at most Len, and reports whether
	// it could. The two share memory until one of them grows, which then copies.
	Fork(n int) (Cache, bool)
	// Layers is the number of layers.
	Layers() int
	// AppendRoots appends to dst the arrays whose evaluation brings layer i up to
	// date, the keys and values that are written to at the end. They are valid
	// until the next Append.
	AppendRoots(dst []mlx.Array, i int) []mlx.Array
	// Bytes is the memory that the cache holds on the device.
	Bytes() int64
	// Free drops everything. The cache is empty afterwards and may be used again.
	Free()
}

// Layer is the memory of one layer.
type Layer interface {
	// Offset is the number of tokens before those of the next Append.
	Offset() int
	// Append adds the keys and values [B, G, L, d] of L new tokens and returns
	// those that they may see, oldest first, [B, G, T, d], as arrays of s. A full
	// layer returns all tokens so far, a sliding one as Window says.
	Append(s *mlx.Scope, k, v mlx.Array) (keys, values mlx.Array)
}

// layer is what a Layer must do besides for layers to be a Cache.
type layer interface {
	Layer
	setBound(n int)
	// reach is Cache's, for one layer.
	reach(n int) int
	// setBack makes n, which is in reach, the offset.
	setBack(n int)
	// fork returns a layer of the first n tokens, which are in reach.
	fork(n int) layer
	appendRoots(dst []mlx.Array) []mlx.Array
	bytes() int64
	free()
}

// layers are a Cache.
type layers []layer

func (c layers) Layer(i int) Layer { return c[i] }

func (c layers) Len() int {
	n := c[0].Offset()
	for _, l := range c {
		n = min(n, l.Offset())
	}
	return n
}

func (c layers) Bound(n int) {
	for _, l := range c {
		l.setBound(n)
	}
}

// Reach asks every layer until all agree. Each round but the last lowers n.
func (c layers) Reach(n int) int {
	for i := 0; i < len(c); i++ {
		if r := c[i].reach(n); r < n {
			n, i = r, -1
		}
	}
	return n
}

func (c layers) SetBack(n int) bool {
	keep := c.Len() - n
	if n < 0 || keep < 0 || c.Reach(keep) != keep {
		return false
	}
	for _, l := range c {
		l.setBack(keep)
	}
	return true
}

func (c layers) Fork(n int) (Cache, bool) {
	if n < 0 || n > c.Len() || c.Reach(n) != n {
		return nil, false
	}
	f := make(layers, len(c))
	for i, l := range c {
		f[i] = l.fork(n)
	}
	return f, true
}

func (c layers) Layers() int { return len(c) }

func (c layers) AppendRoots(dst []mlx.Array, i int) []mlx.Array { return c[i].appendRoots(dst) }

func (c layers) Bytes() (n int64) {
	for _, l := range c {
		n += l.bytes()
	}
	return n
}

func (c layers) Free() {
	for _, l := range c {
		l.free()
	}
}
