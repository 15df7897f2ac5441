package mlx

// #include "shim.h"
// #cgo noescape hm_scope_reset
// #cgo nocallback hm_scope_reset
// #cgo noescape hm_scope_args
// #cgo nocallback hm_scope_args
// #cgo noescape hm_eval
// #cgo nocallback hm_eval
// #cgo noescape hm_var_set
// #cgo nocallback hm_var_set
// #cgo noescape hm_var_free
// #cgo nocallback hm_var_free
import "C"

import (
	"errors"
	"fmt"
	"unsafe"
)

// A Scope owns every Array its operations return and frees them on Close or
// Reset. It carries the stream the operations run on and the first error: after
// an error each operation returns the zero Array, so a forward pass reads as
// arithmetic and is checked once, at Eval. A Scope is confined to the engine
// thread.
type Scope struct {
	c   *C.hm_scope
	err error // the first error, once made from c's text or set by Go code
	tag scopeTag
}

// NewScope returns an empty scope whose operations run on st; the zero Stream
// stands for DefaultStream. The caller closes it.
func NewScope(st Stream) *Scope {
	onThread()
	if st.c.ctx == nil {
		st = DefaultStream()
	}
	c := C.hm_scope_new(st.c)
	if c == nil {
		panic("mlx: out of memory for a scope") // as Go's own allocator does
	}
	return &Scope{c: c}
}

var errClosed = errors.New("mlx: the scope is closed")

// Close frees the scope and all its arrays. A second Close does nothing.
func (s *Scope) Close() {
	if s.c == nil {
		return
	}
	s.dropTags()
	C.hm_scope_free(s.c)
	s.c = nil
}

// Reset frees all arrays of s and forgets its error, so that one scope serves
// every decode step without an allocation.
func (s *Scope) Reset() {
	if s.c == nil {
		return
	}
	s.dropTags()
	C.hm_scope_reset(s.c)
	s.err = nil
}

// Len returns the number of arrays that s owns.
func (s *Scope) Len() int {
	if c := s.ptr(); c != nil {
		return int(c.n)
	}
	return 0
}

// Err returns the first error since the scope was made or reset, such as
// "mlx: matmul [4 8] x [16 8]: [matmul] Last dimension of first input ...".
func (s *Scope) Err() error {
	c := s.ptr()
	if c == nil {
		return errClosed
	}
	if c.failed != 0 && s.err == nil {
		s.err = errors.New("mlx: " + C.GoString(&c.err[0]))
	}
	return s.err
}

// Fail makes err the scope's error unless it has one already, for checks that
// layers above make in the middle of a forward pass.
func (s *Scope) Fail(err error) {
	if s.Err() == nil {
		s.err = err
		s.ptr().failed = 1
	}
}

// Eval computes the arrays and waits for them. It returns the scope's first
// error.
func (s *Scope) Eval(a ...Array) error { return s.eval(a, false) }

// AsyncEval starts to compute the arrays and does not wait. An error of the
// computation itself may show only when a result is read.
func (s *Scope) AsyncEval(a ...Array) error { return s.eval(a, true) }

func (s *Scope) eval(a []Array, async bool) error {
	if n := s.pass(a); n > 0 {
		C.hm_eval(s.ptr(), n, C.bool(async))
	}
	return s.Err()
}

// pass writes the handles into the scope's argument list for an operation that
// takes any number of arrays.
func (s *Scope) pass(a []Array) C.size_t {
	args := s.args(len(a))
	for i := range args {
		args[i] = a[i].use()
	}
	return C.size_t(len(args))
}

// args is the scope's argument list of n entries, in C memory.
func (s *Scope) args(n int) []C.hm_array {
	c := s.ptr()
	if c == nil {
		return nil
	}
	if C.size_t(n) > c.arg_cap && !bool(C.hm_scope_args(c, C.size_t(n))) {
		s.Fail(fmt.Errorf("mlx: no memory for %d operands", n))
		return nil
	}
	return unsafe.Slice(c.arg, n)
}

// A Var holds one array beyond the life of scopes: weights, caches, the token in
// flight. The zero Var is empty. A Var is confined to the engine thread, must be
// freed and must not be used through two copies.
type Var struct {
	a Array
}

// Set makes v hold a and drops what it held. Both handles share one value. The
// zero Array, which is what a failed operation returns, leaves v as it is: a
// failed step does not destroy the cache that it was to extend.
func (v *Var) Set(a Array) {
	if a.h == nil {
		return
	}
	h := a.use()
	v.untag()
	C.hm_var_set(&v.a.h, h)
	v.retag()
}

// Array returns the value, valid until the next Set or Free; the zero Array when
// v is empty. It makes no new handle.
func (v *Var) Array() Array { return v.a }

// Free empties v.
func (v *Var) Free() {
	if v.a.h == nil {
		return
	}
	v.untag()
	C.hm_var_free(&v.a.h)
}
