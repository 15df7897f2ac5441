package conversation

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// The suffixes of the files of a conversation.
const (
	logSuffix   = ".jsonl"
	lockSuffix  = ".lock"
	newSuffix   = ".new"     // a log that is being made
	asideSuffix = ".damaged" // what was cut off a log; more follows
)

// ErrNotFound says that there is no such conversation.
var ErrNotFound = errors.New("no such conversation")

// Store is a folder of conversations, a file each. It is safe for concurrent use, also
// by several processes.
type Store struct {
	dir string
	fs  filesystem

	mu sync.Mutex
	// known is what the last List found, or what the file of it says; nil before.
	known map[string]Summary
}

// OpenStore opens a folder, which it makes where it is not there.
func OpenStore(dir string) (*Store, error) { return openStore(dir, osFiles{}) }

func openStore(dir string, fs filesystem) (*Store, error) {
	s := &Store{dir: dir, fs: fs}
	if err := fs.mkdir(dir); err != nil {
		return nil, fmt.Errorf("conversations: %w", err)
	}
	s.sweep()
	return s, nil
}

// sweep removes logs that a process died over while it made them. What cannot be
// removed takes room and does no harm.
func (s *Store) sweep() {
	names, _ := s.fs.list(s.dir)
	for _, name := range names {
		id, ok := strings.CutSuffix(name, newSuffix)
		if !ok {
			continue
		}
		if release, err := s.lock(id); err == nil {
			_, _ = s.discard(filepath.Join(s.dir, name)), release()
		}
	}
}

// Dir is the folder.
func (s *Store) Dir() string { return s.dir }

func (s *Store) file(id, suffix string) string { return filepath.Join(s.dir, id+suffix) }

// Create begins a conversation. What h says of version, id and time is filled in where
// it is empty.
func (s *Store) Create(h Header) (*Log, error) {
	return s.create(h, func(io.Writer) error { return nil })
}

// create makes a log of a header and the lines that rest writes. It is there with all of
// them or not at all.
func (s *Store) create(h Header, rest func(io.Writer) error) (*Log, error) {
	h.Version = Version
	if h.Created.IsZero() {
		h.Created = time.Now().UTC()
	}
	if h.ID == "" {
		// A time for people to sort by, and 30 random bits.
		h.ID = h.Created.UTC().Format("20060102-150405-") + strings.ToLower(rand.Text()[:6])
	}
	if !validID(h.ID) {
		return nil, fmt.Errorf("conversation %.80q: the id must be 1 to 64 letters, digits, - and _", h.ID)
	}
	l, err := s.locked(h.ID, func() (*Log, error) {
		if err := s.writeNew(h, rest); err != nil {
			return nil, err
		}
		l, err := s.openLocked(h.ID)
		if err != nil { // what was not acknowledged must not come up again
			err = errors.Join(err, s.discard(s.file(h.ID, logSuffix)))
		}
		return l, err
	})
	if err != nil {
		return nil, fmt.Errorf("conversation %s: create: %w", h.ID, err)
	}
	return l, nil
}

// writeNew writes a log under another name and renames it when it is on the disk.
func (s *Store) writeNew(h Header, rest func(io.Writer) error) error {
	if f, err := s.fs.open(s.file(h.ID, logSuffix)); err == nil {
		return errors.Join(fmt.Errorf("%s is there already", s.file(h.ID, logSuffix)), f.Close())
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text, err := appendHeader(nil, h)
	if err != nil {
		return err
	}
	name := s.file(h.ID, newSuffix)
	err = s.writeFile(name, func(w io.Writer) error {
		if _, err := w.Write(text); err != nil {
			return err
		}
		return rest(w)
	})
	if err != nil {
		return errors.Join(err, s.discard(name))
	}
	if err := s.fs.rename(name, s.file(h.ID, logSuffix)); err != nil {
		return errors.Join(err, s.discard(name))
	}
	if err := s.fs.syncDir(s.dir); err != nil {
		return errors.Join(err, s.discard(s.file(h.ID, logSuffix)))
	}
	return nil
}

// writeFile makes a file whose content is on the disk when it returns.
func (s *Store) writeFile(name string, content func(io.Writer) error) error {
	f, err := s.fs.create(name)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	if err = content(w); err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// discard removes what a failed step may have left.
func (s *Store) discard(name string) error {
	if err := s.fs.remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Open opens a conversation for writing. Damage that it finds is moved aside first. It
// fails with *InUseError where the conversation is open already, and with ErrNotFound.
func (s *Store) Open(id string) (*Log, error) {
	if !validID(id) {
		return nil, fmt.Errorf("conversation %.80q: %w", id, ErrNotFound)
	}
	// First, so that no lock is made of what is not there.
	if f, err := s.fs.open(s.file(id, logSuffix)); err != nil {
		return nil, fmt.Errorf("conversation %s: %w", id, notFound(err))
	} else if err := f.Close(); err != nil {
		return nil, fmt.Errorf("conversation %s: %w", id, err)
	}
	l, err := s.locked(id, func() (*Log, error) { return s.openLocked(id) })
	if err != nil {
		return nil, fmt.Errorf("conversation %s: open: %w", id, err)
	}
	return l, nil
}

// locked opens a conversation under its lock, which the Log keeps.
func (s *Store) locked(id string, open func() (*Log, error)) (*Log, error) {
	release, err := s.lock(id)
	if err != nil {
		return nil, err
	}
	l, err := open()
	if err != nil {
		return nil, errors.Join(err, release())
	}
	l.release = release
	return l, nil
}

// lock takes the lock of a conversation or fails with *InUseError.
func (s *Store) lock(id string) (release func() error, err error) {
	release, err = s.fs.lock(s.file(id, lockSuffix))
	var used *InUseError
	if errors.As(err, &used) {
		used.ID = id
	}
	return release, err
}

func (s *Store) openLocked(id string) (*Log, error) {
	path := s.file(id, logSuffix)
	f, err := s.fs.openAppend(path)
	if err != nil {
		return nil, notFound(err)
	}
	x, damage, err := s.scanFile(f, nil)
	switch {
	case err != nil:
	case damage != nil:
		err = s.moveAside(id, f, damage)
	default:
		// What a process that died had written and not synced is part of the
		// conversation from now on, and may be built upon.
		err = f.Sync()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Log{Conversation: Conversation{file: f, index: x, damage: damage}, fs: s.fs, path: path}, nil
}

func (s *Store) scanFile(f file, visit visitor) (*index, *Damage, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	return scan(f, st.Size(), visit)
}

// moveAside copies what follows the sound part of a log into a file beside it, and cuts
// it off once the copy is on the disk. The name is that of its content, so that a repeated
// attempt makes no second copy.
func (s *Store) moveAside(id string, f file, d *Damage) error {
	buf := make([]byte, min(d.Bytes, 1<<15))
	copyTo := func(w io.Writer) error {
		_, err := io.CopyBuffer(struct{ io.Writer }{w}, io.NewSectionReader(f, d.Offset, d.Bytes), buf)
		return err
	}
	sum := crc32.New(castagnoli)
	if err := copyTo(sum); err != nil {
		return err
	}
	name := s.file(id, fmt.Sprintf("%s-%d-%08x", asideSuffix, d.Offset, sum.Sum32()))
	err := s.writeFile(name, copyTo)
	if err == nil {
		err = s.fs.syncDir(s.dir)
	}
	if err == nil {
		err = cut(f, d.Offset)
	}
	if err != nil {
		return fmt.Errorf("%s; move the rest aside: %w", d, err)
	}
	d.Aside = name
	return nil
}

// Load opens a conversation for reading, also while another process writes to it.
func (s *Store) Load(id string) (*Conversation, error) {
	c, err := s.load(id, nil)
	if err != nil {
		return nil, fmt.Errorf("conversation %.80s: %w", id, err)
	}
	return c, nil
}

func (s *Store) load(id string, visit visitor) (*Conversation, error) {
	if !validID(id) {
		return nil, ErrNotFound
	}
	f, err := s.fs.open(s.file(id, logSuffix))
	if err != nil {
		return nil, notFound(err)
	}
	x, damage, err := s.scanFile(f, visit)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Conversation{file: f, index: x, damage: damage}, nil
}

func notFound(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNotFound
	}
	return err
}

// Fork begins a conversation that is a copy of another one up to the message at; an
// empty at is its newest. The copied messages keep their ids.
func (s *Store) Fork(id, at string) (*Log, error) {
	c, err := s.Load(id)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	path, err := c.path(at)
	if err != nil {
		return nil, err
	}
	h := Header{Title: c.index.header.Title, ForkedFrom: &Ref{Conversation: id, Message: Root}}
	if n := len(path); n > 0 {
		h.ForkedFrom.Message = c.index.items[path[n-1]].id
	}
	return s.create(h, func(w io.Writer) error {
		for seq, i := range path {
			l, err := c.line(i)
			if err != nil {
				return err
			}
			// The body as it is: it may hold what this version does not know.
			if _, err := w.Write(appendMessage(nil, string(l.id), string(l.parent), l.body, seq+1)); err != nil {
				return err
			}
		}
		return nil
	})
}

// Delete removes a conversation and what was moved aside of it. It fails with
// *InUseError where the conversation is open.
func (s *Store) Delete(id string) error {
	if !validID(id) {
		return fmt.Errorf("conversation %.80q: %w", id, ErrNotFound)
	}
	release, err := s.lock(id)
	if err == nil {
		err = errors.Join(s.deleteLocked(id), release())
	}
	if err != nil {
		return fmt.Errorf("conversation %s: delete: %w", id, err)
	}
	return nil
}

func (s *Store) deleteLocked(id string) error {
	names, err := s.fs.list(s.dir)
	if err != nil {
		return err
	}
	if !slices.Contains(names, id+logSuffix) {
		return ErrNotFound
	}
	for _, name := range names {
		if strings.HasPrefix(name, id+asideSuffix+"-") {
			if err := s.discard(filepath.Join(s.dir, name)); err != nil {
				return err
			}
		}
	}
	// Last, for without it nobody finds the others.
	if err := s.discard(s.file(id, logSuffix)); err != nil {
		return err
	}
	return s.fs.syncDir(s.dir)
}

// Resolve returns the id of the only conversation whose id begins with prefix.
func (s *Store) Resolve(prefix string) (string, error) {
	ids, err := s.ids()
	if err != nil {
		return "", err
	}
	if slices.Contains(ids, prefix) {
		return prefix, nil
	}
	var found []string
	for _, id := range ids {
		if strings.HasPrefix(id, prefix) {
			found = append(found, id)
		}
	}
	switch {
	case prefix == "" || len(found) == 0:
		return "", fmt.Errorf("conversation %.80q: %w", prefix, ErrNotFound)
	case len(found) > 1:
		return "", fmt.Errorf("conversation %q: %d ids begin so, the first two are %s and %s", prefix, len(found), found[0], found[1])
	}
	return found[0], nil
}

// ids lists the conversations, sorted.
func (s *Store) ids() ([]string, error) {
	names, err := s.fs.list(s.dir)
	if err != nil {
		return nil, fmt.Errorf("conversations: %w", err)
	}
	var ids []string
	for _, name := range names {
		if id, ok := strings.CutSuffix(name, logSuffix); ok && validID(id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}
