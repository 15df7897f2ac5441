package engine

import (
	"bytes"
	"math"
	"os"
	"strconv"
	"strings"
)

// hostMemory returns the bytes that this process may still use: what the kernel
// calls available, or less where a control group limits it.
func hostMemory() int64 {
	free := int64(math.MaxInt64)
	info, _ := os.ReadFile("/proc/meminfo")
	// Every turn asks, so the fifty other lines are not taken apart.
	_, info, _ = bytes.Cut(info, []byte("MemAvailable:"))
	info, _, _ = bytes.Cut(info, []byte("kB"))
	if kB, err := strconv.ParseInt(string(bytes.TrimSpace(info)), 10, 64); err == nil {
		free = kB << 10
	}
	for _, g := range []struct{ limit, used string }{
		{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
		{"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"},
	} {
		limit, ok := readNumber(g.limit)
		used, ok2 := readNumber(g.used)
		if ok && ok2 {
			free = min(free, max(0, limit-used))
		}
	}
	return free
}

func readNumber(file string) (int64, bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return n, err == nil
}
