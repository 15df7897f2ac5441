package mlx

// #include "shim.h"
import "C"

import (
	"errors"
	"runtime/cgo"
)

// A Compiled is a function that MLX has traced and fused. The trace runs the Go
// function once for each new combination of shapes and dtypes; later calls do not
// enter Go. On the CPU MLX compiles by running a C++ compiler, so the engine leaves
// it off there.
type Compiled struct {
	c      C.hm_compiled
	handle cgo.Handle // names trace to C
	trace  *traced
}

type traced struct {
	fn func(s *Scope, in []Array) []Array
	st Stream
	// Why the last call's trace failed. It is kept here because the text of an error
	// must not reach mlx-c and a panic must not unwind C++.
	err    error
	panics any
}

var errTrace = errors.New("mlx: compile: the function returned a failed scope")

// Compile prepares fn, which must be a pure function of its arrays: what it
// captures is frozen by the trace. shapeless reuses one trace for all sizes. The
// caller frees the result.
func Compile(fn func(s *Scope, in []Array) []Array, shapeless bool) (*Compiled, error) {
	c := &Compiled{trace: &traced{fn: fn}}
	c.handle = cgo.NewHandle(c.trace)
	if !C.hm_compile(C.uintptr_t(c.handle), C.bool(shapeless), &c.c) {
		c.handle.Delete()
		return nil, lastError("compile")
	}
	return c, nil
}

// Call appends the results of the function, arrays of s, to dst and returns it;
// dst unchanged after an error.
func (c *Compiled) Call(s *Scope, dst []Array, in ...Array) []Array {
	if s.Err() != nil {
		return dst
	}
	n := s.pass(in)
	c.trace.st, c.trace.err, c.trace.panics = Stream{c: s.ptr().stream}, nil, nil
	got := int(C.hm_compiled_call(s.ptr(), c.c, n))
	if p := c.trace.panics; p != nil {
		panic(p)
	}
	if err := c.trace.err; err != nil {
		s.err = err
		return dst
	}
	for _, h := range s.args(got) {
		dst = append(dst, s.made(h))
	}
	return dst
}

// Free releases the traces. A second Free does nothing.
func (c *Compiled) Free() {
	if c.handle == 0 {
		return
	}
	C.hm_compiled_free(c.c)
	c.handle.Delete()
	c.handle = 0
}

//export hmTrace
func hmTrace(out *C.mlx_vector_array, in C.mlx_vector_array, id C.uintptr_t) (status C.int) {
	t := cgo.Handle(id).Value().(*traced)
	s := NewScope(t.st)
	defer s.Close()
	defer func() {
		if t.panics = recover(); t.panics != nil {
			status = 1
		}
	}()
	args := make([]Array, C.hm_trace_inputs(s.ptr(), in))
	for i, h := range s.args(len(args)) {
		args[i] = s.made(h)
	}
	if !C.hm_trace_outputs(s.ptr(), out, s.pass(t.fn(s, args))) {
		if t.err = s.Err(); t.err == nil {
			t.err = errTrace
		}
		return 1
	}
	return 0
}

// A CompileMode says how far Compile goes.
type CompileMode int

// The compile modes of MLX.
const (
	CompileOff        CompileMode = C.MLX_COMPILE_MODE_DISABLED
	CompileNoSimplify CompileMode = C.MLX_COMPILE_MODE_NO_SIMPLIFY
	CompileNoFuse     CompileMode = C.MLX_COMPILE_MODE_NO_FUSE
	CompileOn         CompileMode = C.MLX_COMPILE_MODE_ENABLED
)

// SetCompileMode sets the mode for all functions compiled or called afterwards.
func SetCompileMode(m CompileMode) { C.hm_set_compile(C.int(m)) }
