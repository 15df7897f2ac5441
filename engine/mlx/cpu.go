package mlx

// #include "shim.h"
import "C"

// SetThreads sets how many threads work on one operation of the CPU's stream, the
// stream's own included, in the whole process. It also keeps OpenBLAS from having
// threads of its own, which would compete with these.
func SetThreads(n int) {
	onThread()
	C.hm_cpu_set_threads(C.int(min(max(n, 1), 256)))
}

// Skip makes the arrays ready without the work of the CPU's own operations: what
// those would have computed is undefined, and what they would have written in place
// stays as it was. It is the way out of a step that nobody wants any more, whose
// arrays others build on.
func (s *Scope) Skip(a ...Array) error {
	if n := s.pass(a); n > 0 {
		C.hm_skip(s.ptr(), n)
	}
	return s.Err()
}

// ThreadScratch is the most bytes that a thread unpacks weights into.
const ThreadScratch = C.HM_CPU_SCRATCH

// Threads returns what SetThreads set, 1 before.
func Threads() int { return int(C.hm_cpu_threads()) }
