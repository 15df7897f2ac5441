//go:build unix && !linux

package rpc

// watch has only the number of a process.
func watch(pid int64) process { return watchByNumber(pid) }
