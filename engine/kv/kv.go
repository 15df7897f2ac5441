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
	// Len is the number of tokens held, at most those appended.
	Len() int
	// Bound says that the cache will hold no more than n tokens, so that growing
	// reserves none beyond them. More are no error. 0 stands for no bound.
	Bound(n int)
	// SetBack forgets the last n tokens and reports whether it could; where it
	// could not, nothing has changed.
	SetBack(n int) bool
	// Fork returns a cache of the first n tokens, at most Len, and reports whether
	// it could. The two share memory until one of them grows, which then copies.
	Fork(n int) (Cache, bool)
	// AppendRoots appends to dst the arrays whose evaluation brings the cache up
	// to date. They are valid until the next Append.
	AppendRoots(dst []mlx.Array) []mlx.Array
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
	// those of all T tokens so far, [B, G, T, d], as arrays of s.
	Append(s *mlx.Scope, k, v mlx.Array) (keys, values mlx.Array)
}
