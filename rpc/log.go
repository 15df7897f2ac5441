package rpc

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"harmonyd/schema"
)

// clientLog passes records on and shows the client those that a person may
// want to act on.
type clientLog struct {
	slog.Handler
	c *conn
}

// clientLogBytes is how much may wait for the client before log messages to it
// are left out: they must not take the place of answers.
const clientLogBytes = 1 << 20

func (l clientLog) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn || l.Handler.Enabled(ctx, level)
}

func (l clientLog) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn && l.c.stream.out.pending() < clientLogBytes {
		l.c.notify("window/logMessage", logMessage(r))
	}
	if !l.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return l.Handler.Handle(ctx, r)
}

// logMessage is a record in one line. Stacks are for the log file.
func logMessage(r slog.Record) schema.LogMessageParams {
	p := schema.LogMessageParams{Type: schema.MessageWarning}
	if r.Level >= slog.LevelError {
		p.Type = schema.MessageError
	}
	var b strings.Builder
	b.WriteString(r.Message)
	r.Attrs(func(a slog.Attr) bool {
		if a.Key != "stack" {
			fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		}
		return true
	})
	p.Message = b.String()
	return p
}

// LogSink is a writer that never blocks, for logs: a client that does not read
// our standard error must not stop the server. It keeps up to 1 MiB, writes it
// from a goroutine of its own and drops what is beyond, or what cannot be written,
// saying how much.
type LogSink struct {
	out  io.Writer
	note func(dropped int) []byte

	mu      sync.Mutex
	work    sync.Cond // pairs with Write and Close
	buf     []byte
	dropped int // lines
	closed  bool
	done    chan struct{}
}

const logSinkBytes = 1 << 20

// NewLogSink returns a sink that writes to out. Close it to write the rest. Note
// makes the line that says how many lines were dropped, in the form of the others.
func NewLogSink(out io.Writer, note func(dropped int) []byte) *LogSink {
	s := &LogSink{out: out, note: note, done: make(chan struct{})}
	s.work.L = &s.mu
	go s.run()
	return s
}

// Write takes a line. It never blocks and never fails.
func (s *LogSink) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed || len(s.buf)+len(line) > logSinkBytes:
		s.dropped++
	default:
		s.tell()
		s.buf = append(s.buf, line...)
		s.work.Signal()
	}
	return len(line), nil
}

// tell says what was dropped.
func (s *LogSink) tell() {
	if s.dropped > 0 {
		s.buf = append(s.buf, s.note(s.dropped)...)
		s.dropped = 0
	}
}

func (s *LogSink) run() {
	defer close(s.done)
	var spare []byte
	for {
		s.mu.Lock()
		for len(s.buf) == 0 && !s.closed {
			s.work.Wait()
		}
		chunk := s.buf
		s.buf = spare[:0]
		s.mu.Unlock()
		if len(chunk) == 0 {
			return
		}
		// A disk that is full may have room again, and then is told of this.
		if n, err := s.out.Write(chunk); err != nil {
			s.mu.Lock()
			s.dropped += bytes.Count(chunk[n:], []byte("\n"))
			s.mu.Unlock()
		}
		spare = chunk
	}
}

// Close waits until everything is written, but no longer than a moment: the
// process is about to end, and whoever does not read now never will.
func (s *LogSink) Close() error {
	s.mu.Lock()
	s.tell()
	s.closed = true
	s.work.Signal()
	s.mu.Unlock()
	select {
	case <-s.done:
		return nil
	case <-time.After(patience):
		return errStalled
	}
}
