package terminal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
)

// lineReader reads what a person says in a chat.
type lineReader interface {
	// Read reads a message of one line or several. The error is io.EOF where none will
	// come, and that of a ctx that ended.
	Read(ctx context.Context) (string, error)
	// Choose has a person answer a question with one of keys. It returns 0 where nobody
	// did, errInterrupted where Ctrl-C was pressed, and never takes for an answer what was
	// typed before the question.
	Choose(ctx context.Context, question, keys string) (rune, error)
}

// pipeReader reads messages that no person types: a line each, or the lines between two
// that are a backslash alone.
type pipeReader struct {
	in    *bufio.Reader
	lines chan pipeLine // of the read that is under way, nil where none is
}

type pipeLine struct {
	text string
	err  error
}

func newPipeReader(in io.Reader) *pipeReader { return &pipeReader{in: bufio.NewReader(in)} }

// Read implements lineReader. It leaves out empty messages.
func (r *pipeReader) Read(ctx context.Context) (string, error) {
	var written string
	for more := false; ; {
		line, err := r.line(ctx)
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		if err != nil && line == "" {
			if errors.Is(err, io.EOF) && more { // what is there counts
				return strings.TrimPrefix(written, "\\\n"), nil
			}
			return "", err
		}
		if more {
			written += "\n"
		}
		written += strings.TrimRight(line, "\r\n")
		text, whole := message(written)
		if more = !whole; more {
			if continued(written) {
				written = written[:len(written)-1]
			}
			continue
		}
		if strings.TrimSpace(text) != "" {
			return text, nil
		}
		written = ""
	}
}

// line reads a line, or gives up when ctx ends; the next call gets it then.
func (r *pipeReader) line(ctx context.Context) (string, error) {
	if r.lines == nil {
		lines := make(chan pipeLine, 1)
		go func() {
			text, err := r.in.ReadString('\n')
			lines <- pipeLine{text, err}
		}()
		r.lines = lines
	}
	select {
	case l := <-r.lines:
		r.lines = nil
		return l.text, l.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// Choose implements lineReader: nobody is there.
func (*pipeReader) Choose(context.Context, string, string) (rune, error) { return 0, nil }

// typedReader reads what a person types on a terminal.
type typedReader struct {
	in, out  *os.File
	screen   *screen // which waits while a person types
	colours  bool
	history  *history
	complete func(line string) []string
	warn     func(error)
	// interrupted is when Ctrl-C ended something last: soon after, it leaves.
	interrupted func() time.Time
}

// Read implements lineReader. The error is errInterrupted where Ctrl-C is pressed again
// within a second. What is sent goes into the history.
func (r *typedReader) Read(ctx context.Context) (string, error) {
	e := &editor{prompt: "> ", more: "  ", colours: r.colours, history: r.history, complete: r.complete, entry: len(r.history.entries), leaveUntil: r.interrupted().Add(leaveWithin)}
	if err := r.run(ctx, e); err != nil {
		return "", err
	}
	if e.err != nil {
		return "", e.err
	}
	if err := r.history.add(e.text); err != nil {
		r.warn(err)
	}
	return e.text, nil
}

// Choose implements lineReader.
func (r *typedReader) Choose(ctx context.Context, question, keys string) (rune, error) {
	if err := discardInput(r.in); err != nil {
		return 0, fmt.Errorf("terminal: %w", err)
	}
	c := &choice{question: question, keys: keys}
	if err := r.run(ctx, c); err != nil {
		return 0, err
	}
	if c.interrupted {
		return 0, errInterrupted
	}
	return c.answer, nil
}

func (r *typedReader) run(ctx context.Context, m tea.Model) error {
	defer r.screen.hold()()
	_, err := tea.NewProgram(m, tea.WithContext(ctx), tea.WithInput(r.in), tea.WithOutput(r.out), tea.WithoutSignalHandler()).Run()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("terminal: %w", err)
	}
	return nil
}
