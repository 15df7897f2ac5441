package conversation

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/gofrs/flock"
)

// filesystem is what a Store needs of the system, so that tests can make each
// call of it fail.
type filesystem interface {
	// mkdir makes a folder and those above it, durably.
	mkdir(dir string) error
	// list lists the names in a folder.
	list(dir string) ([]string, error)
	stat(name string) (fs.FileInfo, error)
	// open opens a file for reading, openAppend for reading and appending, and
	// create makes a new, empty one for both.
	open(name string) (file, error)
	openAppend(name string) (file, error)
	create(name string) (file, error)
	// rename replaces what has the new name. It and remove are durable after
	// syncDir.
	rename(from, to string) error
	remove(name string) error
	syncDir(dir string) error
	// lock takes the lock of a name or fails with *InUseError.
	lock(name string) (release func() error, err error)
}

// file is an open file. Write appends.
type file interface {
	io.ReaderAt
	io.Writer
	io.Closer
	Stat() (fs.FileInfo, error)
	Sync() error
	Truncate(size int64) error
}

// InUseError says that another process, or another part of this one, writes to a
// conversation.
type InUseError struct {
	// ID is the conversation.
	ID string
	// PID is the process that has it, 0 where that is not known.
	PID int
}

func (e *InUseError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("conversation %s is in use by another process", e.ID)
	}
	if e.PID == os.Getpid() {
		return fmt.Sprintf("conversation %s is already open in this process (%d)", e.ID, e.PID)
	}
	return fmt.Sprintf("conversation %s is in use by process %d", e.ID, e.PID)
}

// osFiles is the real file system. What it makes only its owner can read.
type osFiles struct{}

func (f osFiles) mkdir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err == nil {
		return f.syncDir(filepath.Dir(dir))
	} else if errors.Is(err, fs.ErrNotExist) && filepath.Dir(dir) != dir {
		if err := f.mkdir(filepath.Dir(dir)); err != nil {
			return err
		}
		return f.mkdir(dir)
	} else if st, _ := os.Stat(dir); st == nil || !st.IsDir() {
		return err
	}
	return nil
}

func (osFiles) list(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

func (osFiles) stat(name string) (fs.FileInfo, error) { return os.Stat(name) }

func (osFiles) open(name string) (file, error) { return orNil(os.Open(name)) }

func (osFiles) openAppend(name string) (file, error) {
	return orNil(os.OpenFile(name, os.O_RDWR|os.O_APPEND, 0))
}

func (osFiles) create(name string) (file, error) {
	return orNil(os.OpenFile(name, os.O_RDWR|os.O_APPEND|os.O_CREATE|os.O_TRUNC, 0o600))
}

// orNil keeps a nil *os.File out of an interface.
func orNil(f *os.File, err error) (file, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (osFiles) rename(from, to string) error { return os.Rename(from, to) }

func (osFiles) remove(name string) error { return os.Remove(name) }

func (osFiles) syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// lock takes an advisory lock of the system, which a process loses when it ends in
// whatever way. The file goes with the lock, so that a folder of closed conversations
// holds nothing else; a lock of a file that was removed meanwhile is no lock.
func (osFiles) lock(name string) (func() error, error) {
	for {
		l := flock.New(name, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
		got, err := l.TryLock()
		if err != nil {
			_ = l.Close()
			return nil, err
		}
		if !got {
			return nil, &InUseError{PID: readPID(name)}
		}
		mine, err := l.Stat()
		if err != nil {
			_ = l.Close()
			return nil, err
		}
		now, err := os.Stat(name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(mine, now) {
			_ = l.Close() // its holder has just removed it
			continue
		}
		release := func() error { return errors.Join(os.Remove(name), l.Close()) }
		if err == nil {
			err = os.WriteFile(name, strconv.AppendInt(nil, int64(os.Getpid()), 10), 0o600)
		}
		if err != nil {
			return nil, errors.Join(err, release())
		}
		return release, nil
	}
}

// readPID reads who holds a lock: 0 where the holder does not say so within 20 ms of
// taking it.
func readPID(name string) int {
	for range 20 {
		text, _ := os.ReadFile(name)
		if pid, err := strconv.Atoi(string(text)); err == nil && pid > 0 {
			return pid
		}
		time.Sleep(time.Millisecond)
	}
	return 0
}
