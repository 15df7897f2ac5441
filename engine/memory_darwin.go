package engine

import (
	"math"

	"golang.org/x/sys/unix"
)

// hostMemory returns three quarters of the memory: macOS does not tell how much
// of the rest it would give up.
func hostMemory() int64 {
	total, err := unix.SysctlUint64("hw.memsize")
	if err != nil || total > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(total / 4 * 3)
}
