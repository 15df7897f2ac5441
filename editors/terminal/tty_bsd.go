//go:build unix && !linux

package terminal

import (
	"os"

	"golang.org/x/sys/unix"
)

const (
	getTermios = unix.TIOCGETA
	setTermios = unix.TIOCSETA
	noKey      = 0xff // _POSIX_VDISABLE
)

// discardInput throws away what was typed and not read.
func discardInput(f *os.File) error {
	const read = 1 // FREAD of sys/fcntl.h
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.TIOCFLUSH, read)
}
