// Package mlx gives Go the arrays and operations of MLX, through mlx-c.
//
// It knows nothing of models, checkpoints or requests. Start at [Scope]: it owns
// the arrays that its operations return, carries the stream they run on and
// remembers the first error, so a forward pass reads as arithmetic and is checked
// once, at [Scope.Eval].
//
// Invariants:
//
//   - One goroutine, locked to its OS thread for life, calls this package; MLX
//     keeps streams and caches per thread. [BindThread] marks that thread and a
//     build with the tag mlxdebug panics on a call from another one. Only
//     [NewBuffer], Buffer's Bytes and Free, [Counts], [Live] and the memory
//     figures may be used from anywhere.
//   - An [Array] dies with the scope that made it. To outlive the scope it is
//     stored in a [Var]; there is no third way. There are no finalizers.
//   - Nothing is printed and nothing exits: our error handler is installed before
//     any other call of mlx-c, whose own handler does both.
//   - No text from outside reaches mlx-c, which uses its messages as formats:
//     modes are enums, and files, names and templates stay in Go.
//   - An operation returns its result through hm_leave of shim.c, which checks
//     the status; nothing else returns one.
//   - No operation converts a dtype silently beyond MLX's own promotion, and a
//     scalar has a dtype like any other array: float32 with float16 gives float32.
//
// On a CPU some operations are not MLX's but those of the cpu_*.cpp files: products
// with weights as they are stored, norms, rotations, gates and attention, on several
// threads and in float32. The files of shim*.c choose them where the operands are
// what they compute with. They need MLX's C++ headers, as buffer.cpp does; mlx-c has
// no way to add an operation.
//
// Operations are lazy: an Array is a node of a graph until it is evaluated. MLX
// reuses an operand's memory for the result when nobody else holds it. A scope
// left open holds all its arrays, so the scope of a decode step is reset as soon
// as the step is dispatched; otherwise each step copies the whole cache.
//
// Two things are not checked because the values live on the device: the indices
// of Take, TakeAlongAxis, PutAlongAxis, AddAlongAxis, GatherMM and GatherQMM must
// be in range, which callers ensure where they make them.
package mlx
