package mlx

// #include "shim.h"
import "C"

import (
	"fmt"
	"sync/atomic"
	"unsafe"
)

// Counters are totals since the start of the process.
type Counters struct {
	Ops          uint64 // operations handed to MLX
	Calls        uint64 // crossings from Go to C
	Reads        uint64 // blocking reads of array contents
	BytesRead    uint64 // bytes that the reads copied
	BytesWritten uint64 // bytes that From functions copied into arrays
}

// Counts returns the counters. It may be called from any goroutine.
func Counts() Counters {
	c := &C.hm_counts
	return Counters{
		Ops:          atomic.LoadUint64((*uint64)(unsafe.Pointer(&c.ops))),
		Calls:        atomic.LoadUint64((*uint64)(unsafe.Pointer(&c.calls))),
		Reads:        atomic.LoadUint64((*uint64)(unsafe.Pointer(&c.reads))),
		BytesRead:    atomic.LoadUint64((*uint64)(unsafe.Pointer(&c.read_bytes))),
		BytesWritten: atomic.LoadUint64((*uint64)(unsafe.Pointer(&c.write_bytes))),
	}
}

// Live returns the number of array handles not yet freed. It must be equal
// before and after every test. It may be called from any goroutine.
func Live() int {
	return int(atomic.LoadInt64((*int64)(unsafe.Pointer(&C.hm_counts.live))))
}

// ActiveMemory returns the bytes that MLX's allocator has given out: to arrays and
// to Buffers.
func ActiveMemory() int64 { return int64(C.hm_memory(C.HM_MEM_ACTIVE)) }

// PeakMemory returns the highest ActiveMemory since the start or ResetPeak.
func PeakMemory() int64 { return int64(C.hm_memory(C.HM_MEM_PEAK)) }

// CacheMemory returns the bytes that MLX keeps for reuse.
func CacheMemory() int64 { return int64(C.hm_memory(C.HM_MEM_CACHE)) }

// BufferMemory returns the bytes of the Buffers that are neither freed nor arrays
// yet.
func BufferMemory() int64 {
	return atomic.LoadInt64((*int64)(unsafe.Pointer(&C.hm_counts.buffer_bytes)))
}

// ResetPeak starts a new measurement of PeakMemory.
func ResetPeak() { C.hm_reset_peak() }

// ClearCache gives the memory kept for reuse back to the system.
func ClearCache() { C.hm_clear_cache() }

// SetMemoryLimit sets the bytes above which MLX waits for memory to come free and
// returns the former limit.
func SetMemoryLimit(bytes int64) (old int64, err error) {
	return setLimit(C.HM_LIMIT_MEMORY, "memory", bytes)
}

// SetCacheLimit sets the most bytes that MLX keeps for reuse and returns the
// former limit.
func SetCacheLimit(bytes int64) (old int64, err error) {
	return setLimit(C.HM_LIMIT_CACHE, "cache", bytes)
}

// SetWiredLimit sets the bytes that may stay resident and returns the former
// limit. Only Metal acts on it.
func SetWiredLimit(bytes int64) (old int64, err error) {
	return setLimit(C.HM_LIMIT_WIRED, "wired", bytes)
}

func setLimit(which C.int, name string, bytes int64) (int64, error) {
	if bytes < 0 {
		return 0, fmt.Errorf("mlx: set %s limit: %d bytes", name, bytes)
	}
	var old C.size_t
	if !C.hm_set_limit(which, C.size_t(bytes), &old) {
		return 0, lastError("set " + name + " limit")
	}
	return int64(old), nil
}

// lastError makes an error from the message of the call that just failed.
func lastError(what string) error {
	return fmt.Errorf("mlx: %s: %s", what, C.GoString(C.hm_last_error()))
}
