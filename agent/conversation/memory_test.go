package conversation

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// memory is a file system that forgets what was not synced, and that fails on demand.
// It knows one folder.
type memory struct {
	mu sync.Mutex
	// files are what programs see, durable what is there after a crash.
	files, durable map[string]*content
	locks          map[string]bool
	// calls counts the calls that may fail, by what they are; fail is asked before each.
	calls int
	fail  func(call int, what string) fault
	// opened counts files that were opened and not closed, reads and readBytes what was
	// read of them.
	opened, opens, reads int
	readBytes            int64
}

// fault is how a call fails. The zero value is success.
type fault struct {
	err   error
	short bool // of a write: half of it is written, with err or without
}

// content is what a file holds, and what is on the disk of it.
type content struct {
	now, synced []byte
	modified    time.Time
}

func newMemory() *memory {
	return &memory{files: map[string]*content{}, durable: map[string]*content{}, locks: map[string]bool{}}
}

func (m *memory) step(what string) fault {
	m.calls++
	if m.fail == nil {
		return fault{}
	}
	return m.fail(m.calls, what)
}

func (m *memory) mkdir(string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.step("mkdir").err
}

func (m *memory) list(string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.step("list"); f.err != nil {
		return nil, f.err
	}
	var names []string
	for name := range m.files {
		names = append(names, filepath.Base(name))
	}
	return names, nil
}

func (m *memory) stat(name string) (fs.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.step("stat"); f.err != nil {
		return nil, f.err
	}
	c, ok := m.files[name]
	if !ok {
		return nil, syscall.ENOENT
	}
	return info{name, int64(len(c.now)), c.modified}, nil
}

func (m *memory) at(name string, make, writing bool) (file, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.step("open"); f.err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: f.err}
	}
	c, ok := m.files[name]
	if !ok && !make {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.ENOENT}
	}
	if !ok {
		c = &content{}
		m.files[name] = c
	} else if make {
		c.now = nil
	}
	m.opened++
	m.opens++
	return &handle{m, c, name, writing}, nil
}

func (m *memory) open(name string) (file, error)       { return m.at(name, false, false) }
func (m *memory) openAppend(name string) (file, error) { return m.at(name, false, true) }
func (m *memory) create(name string) (file, error)     { return m.at(name, true, true) }

func (m *memory) rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.step("rename"); f.err != nil {
		return f.err
	}
	m.files[to] = m.files[from]
	delete(m.files, from)
	return nil
}

func (m *memory) remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.step("remove"); f.err != nil {
		return f.err
	}
	if m.files[name] == nil {
		return syscall.ENOENT
	}
	delete(m.files, name)
	return nil
}

func (m *memory) syncDir(string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.step("fsync"); f.err != nil {
		return f.err
	}
	m.durable = maps.Clone(m.files)
	return nil
}

func (m *memory) lock(name string) (func() error, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.step("lock"); f.err != nil {
		return nil, f.err
	}
	if m.locks[name] {
		return nil, &InUseError{PID: os.Getpid()}
	}
	m.locks[name] = true
	return func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.locks, name) // whatever happens to the file, its closing gives the lock back
		return m.step("unlock").err
	}, nil
}

// handle is an open file.
type handle struct {
	m       *memory
	c       *content
	name    string
	writing bool
}

func (h *handle) ReadAt(b []byte, offset int64) (int, error) {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if f := h.m.step("read"); f.err != nil {
		return 0, f.err
	}
	h.m.reads++
	if offset > int64(len(h.c.now)) {
		return 0, io.EOF
	}
	n := copy(b, h.c.now[offset:])
	h.m.readBytes += int64(n)
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (h *handle) Write(b []byte) (int, error) {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	f := h.m.step("write")
	n := len(b)
	if f.short {
		n /= 2
	} else if f.err != nil {
		n = 0
	}
	h.c.now = append(h.c.now[:len(h.c.now):len(h.c.now)], b[:n]...)
	h.c.modified = time.Now()
	return n, f.err
}

func (h *handle) Close() error {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	h.m.opened--
	if !h.writing {
		return h.m.step("close a file that was read").err
	}
	return h.m.step("close").err
}

func (h *handle) Sync() error {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if f := h.m.step("fsync"); f.err != nil {
		return f.err
	}
	h.c.synced = h.c.now
	return nil
}

func (h *handle) Truncate(size int64) error {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if f := h.m.step("truncate"); f.err != nil {
		return f.err
	}
	h.c.now = h.c.now[:size:size]
	return nil
}

func (h *handle) Stat() (fs.FileInfo, error) {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	return info{h.name, int64(len(h.c.now)), h.c.modified}, h.m.step("stat").err
}

// info is what Stat says.
type info struct {
	name     string
	size     int64
	modified time.Time
}

func (i info) Name() string       { return filepath.Base(i.name) }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return 0o600 }
func (i info) ModTime() time.Time { return i.modified }
func (i info) IsDir() bool        { return false }
func (i info) Sys() any           { return nil }

// crash is what a machine finds that lost its power: of names what was synced, or also
// what came after; of contents what was synced, and of what came after any part, or zeros
// in its place.
func (m *memory) crash(r *rand.Rand) *memory {
	after := newMemory()
	names := m.durable
	if r.IntN(2) == 0 {
		names = m.files
	}
	for name, c := range names {
		left := slices.Clone(c.synced)
		if grown := len(c.now) - len(c.synced); grown > 0 && string(c.now[:len(c.synced)]) == string(c.synced) {
			more := slices.Clone(c.now[len(c.synced):][:r.IntN(grown+1)])
			if r.IntN(4) == 0 {
				clear(more[r.IntN(len(more)+1):])
			}
			left = append(left, more...)
		} else if r.IntN(2) == 0 {
			left = slices.Clone(c.now)
		}
		after.files[name] = &content{now: left, synced: left}
	}
	after.durable = maps.Clone(after.files)
	return after
}

// left reports files that are open and locks that are held.
func (m *memory) left() error {
	if m.opened != 0 || len(m.locks) > 0 {
		return errors.New("files or locks are left: " + strings.Join(slices.Collect(maps.Keys(m.locks)), " "))
	}
	return nil
}

// put makes a file that was there before.
func (m *memory) put(name string, text []byte) {
	text = text[:len(text):len(text)] // contents are never written into
	m.files[name] = &content{now: text, synced: text, modified: time.Unix(1e9, 5)}
	m.durable[name] = m.files[name]
}

func memoryStore(t testing.TB, m *memory) *Store {
	t.Helper()
	s, err := openStore("c", m)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
