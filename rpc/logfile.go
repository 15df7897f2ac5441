//go:build unix

package rpc

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// LogFile is a file that is appended to until it is full. Then it takes the place of
// its one predecessor, whose name ends with .1, and a new one begins. What is no
// regular file, such as /dev/stderr, is only written to.
//
// Several processes may have the same one, as the windows of an editor do; the
// libraries for this take themselves to be alone. A process that finds the file full
// renames it only where it is still the one at its path; the others notice at their
// next write. It is for one goroutine, which may wait for the disk and for them: see
// LogSink.
type LogFile struct {
	path string
	max  int64 // bytes
	file *os.File
}

// maxLogFile is large enough for days of errors and hours of debugging.
const maxLogFile = 16 << 20

// OpenLogFile opens or begins a log file.
func OpenLogFile(path string) (*LogFile, error) { return openLogFile(path, maxLogFile) }

func openLogFile(path string, most int64) (*LogFile, error) {
	l := &LogFile{path: path, max: most}
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("log file: %w", err)
	}
	// A link stays where it is; what it leads to is renamed.
	if real, err := filepath.EvalSymlinks(path); err == nil {
		l.path = real
	}
	return l, nil
}

func (l *LogFile) open() error {
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if l.file != nil {
		_ = l.file.Close() // appended to without a buffer
	}
	l.file = f
	return nil
}

// Write appends whole lines.
func (l *LogFile) Write(lines []byte) (int, error) {
	if is, err := l.file.Stat(); err == nil && is.Mode().IsRegular() && is.Size() > 0 && is.Size()+int64(len(lines)) > l.max {
		l.turn(is)
	}
	return l.file.Write(lines)
}

// turn begins a new file. Where it cannot, it begins anew in this one: that the disk
// fills up would be worse.
func (l *LogFile) turn(is os.FileInfo) {
	fd := int(l.file.Fd())
	_ = unix.Flock(fd, unix.LOCK_EX) // where a disk has no locks there is but the race
	// Where it is not the one at the path, another process has renamed it, or a person.
	at, err := os.Stat(l.path)
	if err != nil || !os.SameFile(is, at) || os.Rename(l.path, l.path+".1") == nil {
		if l.open() == nil {
			return // the lock is gone with the file that it was on
		}
	}
	_ = l.file.Truncate(0)
	_ = unix.Flock(fd, unix.LOCK_UN)
}

// Close closes the file.
func (l *LogFile) Close() error { return l.file.Close() }
