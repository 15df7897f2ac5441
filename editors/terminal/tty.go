//go:build unix

package terminal

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// quiet makes a terminal show nothing of what is typed, until restore is called: what is
// typed while an answer is written waits for the next prompt and does not stand in the
// middle of it. Ctrl-C sends its signal; Ctrl-Z would leave the shell a terminal that
// shows nothing, and does not.
func quiet(f *os.File) (restore func(), err error) {
	before, err := unix.IoctlGetTermios(int(f.Fd()), getTermios)
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	t := *before
	t.Lflag &^= unix.ECHO | unix.ICANON
	t.Iflag &^= unix.ICRNL // or the key that ends a message would end a line of it
	t.Cc[unix.VMIN], t.Cc[unix.VTIME], t.Cc[unix.VSUSP] = 1, 0, noKey
	if err := unix.IoctlSetTermios(int(f.Fd()), setTermios, &t); err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	return func() { _ = unix.IoctlSetTermios(int(f.Fd()), setTermios, before) }, nil
}
