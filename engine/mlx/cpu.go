package mlx

// #include "cpu.h"
import "C"

// SetThreads sets how many threads work on one operation of the CPU's stream, the
// stream's own included, in the whole process. It also keeps OpenBLAS from having
// threads of its own, which would compete with these.
func SetThreads(n int) {
	onThread()
	C.hm_cpu_set_threads(C.int(min(max(n, 1), 256)))
}

// ThreadScratch is the most bytes that a thread unpacks weights into.
const ThreadScratch = C.HM_CPU_SCRATCH

// Threads returns what SetThreads set, 1 before.
func Threads() int { return int(C.hm_cpu_threads()) }
