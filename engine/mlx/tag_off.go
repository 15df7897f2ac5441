//go:build !mlxdebug

package mlx

// #include "shim.h"
import "C"

// Without the tag mlxdebug the checks below cost nothing.

type (
	arrayTag struct{}
	scopeTag struct{}
)

func (a Array) use() C.hm_array { return a.h }

func (s *Scope) ptr() *C.hm_scope { return s.c }

func (s *Scope) made(h C.hm_array) Array { return Array{h: h} }

func (s *Scope) dropTags() {}

func onThread() {}

func (v *Var) untag() {}

func (v *Var) retag() {}

// BindThread declares the calling OS thread the only one that may use arrays and
// scopes. It does nothing unless built with the tag mlxdebug.
func BindThread() {}

// Leaks returns where the live handles were made; nil unless built with the tag
// mlxdebug.
func Leaks() []string { return nil }
