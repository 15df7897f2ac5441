package weights

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A Folder opens the files of one model by plain name. The tests put one in
// between that fails at chosen reads.
type Folder interface {
	Open(name string) (File, error)
}

// A File is what the readers need of *os.File. ReadAt must be safe for
// concurrent use, as os.File's is.
type File interface {
	io.ReaderAt
	io.Closer
	Stat() (fs.FileInfo, error)
}

// Dir is the Folder at a path of the operating system. It follows symbolic
// links: the hub cache that other tools share keeps models as links to blobs.
type Dir string

// Open opens a regular file of the folder. Anything else is refused before it
// is opened, because opening a FIFO would block for ever.
func (d Dir) Open(name string) (File, error) {
	if err := plainName(name); err != nil {
		return nil, err
	}
	path := filepath.Join(string(d), name)
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: is not a regular file", path)
	}
	return os.Open(path)
}

// plainName refuses a file name that could leave its folder on any platform.
func plainName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return fmt.Errorf("file name %s is empty or a folder", quote(name))
	case strings.ContainsAny(name, `/\:`):
		return fmt.Errorf("file name %s is a path, want a plain name", quote(name))
	case len(name) > 255:
		return fmt.Errorf("file name %s is longer than 255 bytes", quote(name))
	}
	if i := badText(name); i != "" {
		return fmt.Errorf("file name %s %s", quote(name), i)
	}
	return nil
}

// readWhole reads a file of at most most bytes. The size is taken from the
// file system and the content must have exactly that size.
func readWhole(folder Folder, name string, most int64) (data []byte, err error) {
	f, err := folder.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	defer func() {
		if e := f.Close(); err == nil && e != nil {
			data, err = nil, fmt.Errorf("%s: close: %w", name, e)
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%s: stat: %w", name, err)
	}
	if info.Size() > most {
		return nil, &FormatError{File: name,
			Reason: fmt.Sprintf("is %d bytes, at most %d are read", info.Size(), most)}
	}
	data = make([]byte, info.Size())
	if err := readFull(f, data, 0); err != nil {
		return nil, fmt.Errorf("%s: read: %w", name, err)
	}
	again, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: stat: %w", name, err)
	case changed(info, again):
		return nil, fmt.Errorf("%s: the file changed while it was being read", name)
	}
	return data, nil
}

// changed tells whether a file was written to between two looks at it.
func changed(before, after fs.FileInfo) bool {
	return before.Size() != after.Size() || !before.ModTime().Equal(after.ModTime())
}

// readFull reads len(p) bytes at off. io.ReaderAt may return io.EOF together
// with all the bytes; too few bytes are always io.ErrUnexpectedEOF or the
// reader's own error.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
