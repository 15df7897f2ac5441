package conversation

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"harmonyd/schema"
)

// Log is a conversation that is being written to. It holds the lock of the
// conversation until Close.
type Log struct {
	Conversation
	fs      filesystem
	path    string
	release func() error
	// dirty says that the file may hold more than was acknowledged, because an
	// append failed and so did setting the file back.
	dirty  bool
	closed bool
}

// errClosed is the error of a Log that was closed.
var errClosed = errors.New("the conversation is closed")

// Append adds entries and returns when they are safe on the disk, with their ids,
// parents and times. An entry without a parent follows the one before it. After an
// error none of the entries is part of the conversation, and Append may be called
// again: it first sets the file back.
func (l *Log) Append(entries ...Entry) ([]Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, l.failed("append", errClosed)
	}
	if l.dirty {
		if err := l.setBack(); err != nil {
			return nil, l.failed("set back after an append that failed", err)
		}
	}
	next := index{byID: map[string]int{}, end: l.index.end}
	added, text, err := l.encode(entries, &next)
	if err != nil {
		return nil, l.failed("append", err)
	}
	if err := l.write(text); err != nil {
		// What a failed write or fsync left is not known: the file goes back to what
		// was acknowledged, through a new descriptor, since the error of an old one is
		// told but once.
		if back := l.setBack(); back != nil {
			l.dirty = true
			err = errors.Join(err, fmt.Errorf("set back: %w", back))
		}
		return nil, l.failed("append", err)
	}
	for _, it := range next.items {
		l.index.byID[it.id] = len(l.index.items)
		l.index.items = append(l.index.items, it)
	}
	l.index.end = next.end
	return added, nil
}

func (l *Log) failed(what string, err error) error {
	return fmt.Errorf("conversation %s: %s: %w", l.index.header.ID, what, err)
}

// encode makes the lines of entries. What they add to the index goes to next.
func (l *Log) encode(entries []Entry, next *index) (added []Entry, text []byte, err error) {
	added = make([]Entry, len(entries))
	leaf, from := l.leaf(), len(l.index.items)
	for i, e := range entries {
		if e.Parent == "" {
			e.Parent = leaf
		}
		if e.ID == "" {
			e.ID = newMessageID()
		}
		if e.Time.IsZero() {
			e.Time = time.Now().UTC()
		}
		parent, err := l.parent(e, next)
		if err != nil {
			return nil, nil, err
		}
		body, err := checkedBody(e)
		if err != nil {
			return nil, nil, fmt.Errorf("message %s: %w", e.ID, err)
		}
		before := len(text)
		text = appendMessage(text, e.ID, e.Parent, body, from+i+1)
		next.byID[e.ID] = from + i
		next.items = append(next.items, item{e.ID, parent, next.end, len(text) - before})
		next.end += int64(len(text) - before)
		added[i], leaf = e, e.ID
	}
	return added, text, nil
}

// parent is the index of e's parent among the entries that are there and those of
// next, -1 for Root.
func (l *Log) parent(e Entry, next *index) (int, error) {
	_, old := l.index.byID[e.ID]
	if _, taken := next.byID[e.ID]; old || taken {
		return 0, fmt.Errorf("message %s: the id is taken", e.ID)
	}
	if !validID(e.ID) {
		return 0, fmt.Errorf("message %.80q: the id must be 1 to 64 letters, digits, - and _, and not %q", e.ID, Root)
	}
	if e.Parent == Root {
		return -1, nil
	}
	if i, ok := l.index.byID[e.Parent]; ok {
		return i, nil
	}
	if i, ok := next.byID[e.Parent]; ok {
		return i, nil
	}
	return 0, fmt.Errorf("message %s: there is no message %.80q for it to follow", e.ID, e.Parent)
}

// checkedBody is the body of an entry that will be read back as it is.
func checkedBody(e Entry) ([]byte, error) {
	for _, p := range e.Message.Content {
		if !utf8.ValidString(p.Text) {
			return nil, errors.New("its text is not UTF-8")
		}
	}
	for _, c := range e.Message.ToolCalls {
		if !json.Valid(c.Arguments) {
			return nil, fmt.Errorf("the arguments of call %q are not JSON", c.CallID)
		}
	}
	return encodeBody(e)
}

// write adds text to the file and waits until it is on the disk.
func (l *Log) write(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	n, err := l.file.Write(text)
	if err == nil && n < len(text) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return err
	}
	return l.file.Sync()
}

// setBack opens the file anew and cuts it to what was acknowledged.
func (l *Log) setBack() error {
	f, err := l.fs.openAppend(l.path)
	if err != nil {
		return err
	}
	_ = l.file.Close() // its error says nothing that is not known
	l.file = f
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Size() < l.index.end {
		return fmt.Errorf("%s has %d bytes and should have %d: another program has cut it", l.path, st.Size(), l.index.end)
	}
	if n := len(l.index.items); n > 0 {
		if _, err := l.line(n - 1); err != nil {
			return err
		}
	}
	if err := cut(f, l.index.end); err != nil {
		return err
	}
	l.dirty = false
	return nil
}

// cut makes a file durably shorter.
func cut(f file, size int64) error {
	if err := f.Truncate(size); err != nil {
		return err
	}
	return f.Sync()
}

// Close ends the writing and gives the lock back.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	return errors.Join(l.file.Close(), l.release())
}

// newMessageID is 32 random hexadecimal digits.
func newMessageID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Say is an entry of a text, as a user says it.
func Say(role schema.Role, text string) Entry {
	return Entry{Message: schema.Message{Role: role, Content: schema.TextContent(text)}}
}
