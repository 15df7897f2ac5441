package conversation

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"harmonyd/schema"
)

// Summary is what a list shows of a conversation.
type Summary struct {
	ID string
	// Title is the first line of the first user message where the conversation has no
	// title, cut to 80 characters; empty where there is neither.
	Title string
	// Created is when the conversation began, Updated when its log last changed.
	Created, Updated time.Time
	// Messages counts those of all branches.
	Messages int
	Bytes    int64
	// ForkedFrom is the conversation of which this one is a copy up to some message.
	ForkedFrom string
	// Problem says why the log cannot be read, or how far; empty means that it is sound
	// as far as was looked.
	Problem string
}

// List lists the conversations, those that changed last first. Of a log that has changed
// since the last list it reads the two ends, of the others nothing.
func (s *Store) List(ctx context.Context) ([]Summary, error) {
	ids, err := s.ids()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = s.readCache()
	}
	all := make([]Summary, len(ids))
	var read atomic.Int64
	err = parallel(ctx, len(ids), func(i int) error {
		if m, ok := s.known[ids[i]]; ok && s.unchanged(m) {
			all[i] = m
			return nil
		}
		read.Add(1)
		all[i] = s.summarize(ids[i])
		return nil
	})
	if err != nil {
		return nil, err
	}
	// Another process may have deleted some meanwhile.
	all = slices.DeleteFunc(all, func(m Summary) bool { return m.Problem == ErrNotFound.Error() })
	slices.SortStableFunc(all, func(a, b Summary) int {
		return cmp.Or(b.Updated.Compare(a.Updated), cmp.Compare(b.ID, a.ID))
	})
	s.remember(all)
	if n := int(read.Load()); n > 16 && n > len(all)/20 {
		s.writeCache(all)
	}
	return slices.Clone(all), nil
}

// parallel calls work with 0 to n-1 on all processors, until one call fails or ctx ends.
func parallel(ctx context.Context, n int, work func(i int) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var wg sync.WaitGroup
	workers := max(1, min(n, runtime.GOMAXPROCS(0)))
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n && ctx.Err() == nil; i += workers {
				if err := work(i); err != nil {
					stop(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// The bytes that List reads of a log: the header and the first messages, more of them
// only where the first user message is not among them, and the end of the last line.
const (
	headBytes    = 4 << 10
	maxHeadBytes = 1 << 20
	tailBytes    = 64
)

// summarize reads the ends of a log, or all of it where they do not tell.
func (s *Store) summarize(id string) Summary {
	m := Summary{ID: id}
	f, err := s.fs.open(s.file(id, logSuffix))
	if err != nil {
		m.Problem = notFound(err).Error()
		return m
	}
	defer f.Close()
	if err := m.read(f); err != nil {
		m.Problem = err.Error()
	}
	return m
}

func (m *Summary) read(f file) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	m.Bytes, m.Updated = st.Size(), st.ModTime()
	head, err := readAt(f, 0, min(headBytes, m.Bytes))
	if err != nil {
		return err
	}
	tail := head[max(0, len(head)-tailBytes):]
	if m.Bytes > int64(len(head)) {
		if tail, err = readAt(f, m.Bytes-tailBytes, tailBytes); err != nil {
			return err
		}
	}
	if m.Messages = lastSeq(tail); m.Messages < 0 || bytes.IndexByte(head, '\n') < 0 {
		return m.readAll(f)
	}
	for n := int64(len(head)); ; n *= 8 {
		known, err := m.readHead(head)
		if err != nil || known || n >= min(m.Bytes, maxHeadBytes) {
			return err
		}
		if head, err = readAt(f, 0, min(8*n, m.Bytes)); err != nil {
			return err
		}
	}
}

func readAt(f file, offset, n int64) ([]byte, error) {
	b := make([]byte, n)
	if _, err := f.ReadAt(b, offset); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}

// readHead takes header and title from the first lines of a log. It reports whether the
// title is known: there is none, or it was found.
func (m *Summary) readHead(head []byte) (bool, error) {
	for seq := 0; ; seq++ {
		text, rest, whole := bytes.Cut(head, []byte("\n"))
		if !whole {
			return false, nil
		}
		head = rest
		l, problem := parseLine(text, seq)
		if problem != "" {
			return false, fmt.Errorf("line %d: %s", seq+1, problem)
		}
		if seq == 0 {
			x := index{}
			if err := x.readHeader(l.body); err != nil {
				return false, err
			}
			m.header(x.header)
		} else if m.Title = titleOf(l.body); m.Title == "" {
			continue
		}
		if m.Title != "" {
			return true, nil
		}
	}
}

func (m *Summary) header(h Header) {
	m.Created, m.Title = h.Created, firstLine(h.Title)
	if h.ForkedFrom != nil {
		m.ForkedFrom = h.ForkedFrom.Conversation
	}
}

// readAll scans a log whose ends do not tell what it holds.
func (m *Summary) readAll(f file) error {
	x, damage, err := scan(f, m.Bytes, func(_ string, body []byte) error {
		if m.Title == "" {
			m.Title = titleOf(body)
		}
		return nil
	})
	if err != nil {
		return err
	}
	title := m.Title
	m.header(x.header)
	m.Title = cmp.Or(m.Title, title)
	m.Messages = len(x.items)
	if damage != nil {
		return errors.New(damage.String())
	}
	return nil
}

// titleOf is the title that a message gives a conversation, if it is a user's.
func titleOf(body []byte) string {
	var e struct{ Message schema.Message }
	if !bytes.Contains(body, []byte(`"role":"user"`)) || json.Unmarshal(body, &e) != nil || e.Message.Role != schema.RoleUser {
		return ""
	}
	return firstLine(e.Message.Content.Text())
}

// firstLine is the first line of text that is not blank, without control characters,
// cut to 80 characters.
func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	line = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.TrimSpace(line))
	if runes := []rune(line); len(runes) > 80 {
		return string(runes[:79]) + "…"
	}
	return line
}
