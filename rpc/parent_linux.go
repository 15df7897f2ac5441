package rpc

import (
	"errors"

	"golang.org/x/sys/unix"
)

// watch holds on to a process by a descriptor, which can be read once it has ended,
// whether or not anybody has waited for it.
func watch(pid int64) process {
	fd, err := unix.PidfdOpen(int(pid), 0)
	switch {
	case errors.Is(err, unix.ESRCH):
		return process{pid, func() bool { return true }, func() {}}
	case err != nil: // an old kernel, or no permission
		return watchByNumber(pid)
	}
	gone := func() bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return err == nil && n > 0
	}
	return process{pid, gone, func() { _ = unix.Close(fd) }}
}
