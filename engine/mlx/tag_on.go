//go:build mlxdebug

package mlx

// #include "shim.h"
// #include <pthread.h>
// static uintptr_t hm_thread(void) { return (uintptr_t)pthread_self(); }
import "C"

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
)

// A handle's record says where it was made and, once it is freed, where that
// happened. Arrays point to their record, so use after free is found even when C
// reuses the address.
type handle struct {
	made  string
	freed string // "" while the handle lives
}

type arrayTag struct{ r *handle }

type scopeTag struct{ made []*handle }

var debug struct {
	sync.Mutex
	live   map[*handle]bool
	bound  bool
	thread C.uintptr_t
}

// BindThread declares the calling OS thread the only one that may use arrays and
// scopes; a use on another thread panics from now on.
func BindThread() {
	debug.Lock()
	defer debug.Unlock()
	debug.bound, debug.thread = true, C.hm_thread()
}

// Leaks returns, sorted, where the live handles were made.
func Leaks() []string {
	debug.Lock()
	defer debug.Unlock()
	var sites []string
	for r := range debug.live {
		sites = append(sites, r.made)
	}
	slices.Sort(sites)
	return sites
}

// site is the nearest caller outside this package.
func site() string {
	var pc [32]uintptr
	frames := runtime.CallersFrames(pc[:runtime.Callers(2, pc[:])])
	for {
		f, more := frames.Next()
		inside := strings.Contains(f.Function, "engine/mlx.") && !strings.HasSuffix(f.File, "_test.go")
		if !inside || !more {
			return fmt.Sprintf("%s:%d", f.File, f.Line)
		}
	}
}

func onThread() {
	if debug.bound && debug.thread != C.hm_thread() {
		panic("mlx: used off the engine thread at " + site())
	}
}

func newHandle() *handle {
	r := &handle{made: site()}
	debug.Lock()
	defer debug.Unlock()
	if debug.live == nil {
		debug.live = map[*handle]bool{}
	}
	debug.live[r] = true
	return r
}

func (r *handle) free() {
	r.freed = site()
	debug.Lock()
	defer debug.Unlock()
	delete(debug.live, r)
}

func (a Array) use() C.hm_array {
	onThread()
	if r := a.tag.r; r != nil && r.freed != "" {
		panic(fmt.Sprintf("mlx: array used after it was freed at %s; made at %s; used at %s",
			r.freed, r.made, site()))
	}
	return a.h
}

func (s *Scope) ptr() *C.hm_scope {
	onThread()
	if s.c == nil {
		panic("mlx: scope used after Close at " + site())
	}
	return s.c
}

func (s *Scope) made(h C.hm_array) Array {
	if h == nil {
		return Array{}
	}
	r := newHandle()
	s.tag.made = append(s.tag.made, r)
	return Array{arrayTag{r}, h}
}

func (s *Scope) dropTags() {
	onThread()
	for _, r := range s.tag.made {
		r.free()
	}
	s.tag.made = s.tag.made[:0]
}

func (v *Var) untag() {
	onThread()
	if r := v.a.tag.r; r != nil {
		r.free()
		v.a.tag.r = nil
	}
}

func (v *Var) retag() { v.a.tag.r = newHandle() }
