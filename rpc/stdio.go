//go:build unix

package rpc

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// ClaimStdio takes the process's standard input and output for the protocol
// alone and returns them as private descriptors. Afterwards descriptor 0 is
// /dev/null and descriptor 1 is standard error, so that nothing that prints,
// be it Go, C or a child process, can put a byte between two messages. Call it
// first of all, and once.
//
// A client that goes away is an error of a write from then on, not a signal
// that ends the process: also on standard error, where logs go.
func ClaimStdio() (in, out *os.File, err error) {
	if in, err = private(0, "protocol input"); err != nil {
		return nil, nil, err
	}
	if out, err = private(1, "protocol output"); err != nil {
		return nil, nil, err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, nil, err
	}
	defer null.Close()
	if err := replace(int(null.Fd()), 0); err != nil {
		return nil, nil, fmt.Errorf("stdin: %w", err)
	}
	if err := replace(2, 1); err != nil {
		return nil, nil, fmt.Errorf("stdout: %w", err)
	}
	// Ignoring the signal would be inherited by child processes.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	return in, out, nil
}

// EndSignals are those that end the server in good order. That of a terminal which is
// closed is one of them, unless somebody has the server ignore it, as nohup does.
func EndSignals() []os.Signal {
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		ends = append(ends, syscall.SIGHUP)
	}
	return ends
}

// private duplicates a descriptor to one above the standard ones that child
// processes do not inherit.
func private(fd int, name string) (*os.File, error) {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return os.NewFile(uintptr(dup), name), nil
}
