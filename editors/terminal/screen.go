package terminal

import (
	"io"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
)

// screen writes lines on a terminal: such that stay, and below them such that may change
// yet. Only these are ever written again, and there are never more of them than the screen
// has rows, so that nothing that scrolled off it is touched. It is safe for concurrent use.
type screen struct {
	mu   sync.Mutex
	w    io.Writer
	size func() (columns, rows int)
	// open is what was written last of what may change. The cursor stands behind it, or at
	// the beginning of an empty line where there is nothing.
	open    []string
	columns int // of the screen then
	err     error

	held    int      // others have the terminal
	waiting []string // lines that stay, for when they are done
	next    []string // what is open then
}

// Sequences that x/ansi does not put together.
const (
	wrapOff = "\x1b[?7l" // a line that is wider than we think is cut, and fills one row
	wrapOn  = "\x1b[?7h"
)

// show writes lines that stay in the place of what was open, and what is open now below.
func (s *screen) show(settled, open []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held > 0 {
		s.waiting, s.next = append(s.waiting, settled...), open
		return
	}
	s.draw(settled, open)
}

// hold leaves the terminal to others until release is called: what is shown meanwhile
// waits. What is open stays there, as lines that others wrote.
func (s *screen) hold() (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held++; s.held == 1 {
		s.draw(s.open, nil)
	}
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.held--; s.held == 0 {
			waiting, next := s.waiting, s.next
			s.waiting, s.next = nil, nil
			s.draw(waiting, next)
		}
	})
}

// draw is show with the lock held.
func (s *screen) draw(settled, open []string) {
	columns, rows := s.size()
	open = open[max(len(open)-max(rows-1, 1), 0):]
	same := 0
	for len(settled) == 0 && same < min(len(open), len(s.open)) && open[same] == s.open[same] {
		same++
	}
	if len(settled) == 0 && same == len(open) && same == len(s.open) {
		return
	}
	if same > 0 && same == len(open) { // what is left is less, and the cursor belongs behind it
		same--
	}
	var b strings.Builder
	b.WriteString(ansi.SetModeSynchronizedOutput)
	switch {
	case len(s.open) == 0:
	case len(settled) == 0 && same == len(s.open):
		b.WriteString("\r\n")
	case len(settled) == 0 && same == len(s.open)-1 && same < len(open) && continues(open[same], s.open[same]):
		// The usual case: a token more in the last line.
		b.WriteString(wrapOff + open[same][len(s.open[same]):] + wrapOn)
		if same++; same < len(open) {
			b.WriteString("\r\n")
		}
	default:
		b.WriteByte('\r')
		if up := s.rowsFrom(same, columns) - 1; up > 0 {
			b.WriteString(ansi.CursorUp(up))
		}
		b.WriteString(ansi.EraseScreenBelow)
	}
	for _, line := range settled {
		b.WriteString(line + "\r\n")
	}
	if same < len(open) {
		b.WriteString(wrapOff + strings.Join(open[same:], "\r\n") + wrapOn)
	}
	b.WriteString(ansi.ResetModeSynchronizedOutput)
	s.open, s.columns = append([]string(nil), open...), columns
	s.write(b.String())
}

// continues reports whether line is before with more behind it that cannot change how
// that looks, as a combining character would.
func continues(line, before string) bool {
	more, ok := strings.CutPrefix(line, before)
	return ok && (more == "" || more[0] < utf8.RuneSelf)
}

// rowsFrom is how many rows the open lines from one on fill. Where the screen has become
// narrower since, terminals have broken the lines that were wider.
func (s *screen) rowsFrom(from, columns int) (rows int) {
	for _, line := range s.open[from:] {
		rows++
		if columns > 0 && columns < s.columns {
			rows += max(ansi.StringWidth(line)-1, 0) / columns
		}
	}
	return rows
}

// print writes lines that stay, above what is open.
func (s *screen) print(lines ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held > 0 {
		s.waiting = append(s.waiting, lines...)
		return
	}
	s.draw(lines, s.open)
}

func (s *screen) write(text string) {
	if _, err := io.WriteString(s.w, text); err != nil && s.err == nil {
		s.err = err
	}
}

// failure is the first error of a write.
func (s *screen) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
