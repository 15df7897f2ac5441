package rpc

import (
	"errors"
	"io"
	"strconv"
	"sync"
	"time"
)

// Bounds of what waits for a client that does not read. Text of generations is
// bounded by itself, see batch.go.
const (
	overloadBytes = 16 << 20          // new requests are refused
	atOnceBytes   = 2 * overloadBytes // of answers given at once; then reading pauses
	writeBytes    = 64 << 10          // of one write, a pipe's capacity on Linux
)

var errStalled = errors.New("the client reads nothing")

// writer puts messages onto the protocol's descriptor from one goroutine.
// Adding a message never waits. A generation is added as itself: the goroutine
// takes its text when its turn comes, so that text which waits grows together
// instead of queueing up.
type writer struct {
	out     io.Writer
	framing func() framing
	stall   time.Duration // 0: a client may take as long as it likes

	mu    sync.Mutex
	work  sync.Cond // pairs with add and close
	room  sync.Cond // pairs with write: bytes has fallen
	queue []item
	bytes int // of the messages that are queued or being written
	once  int // of those, the bytes of answers given at once
	err   error

	gone chan struct{} // closed when err is set: nobody reads any more
	done chan struct{} // closed when run has returned
}

// item is one of: a message, a generation with something to say, a mark that
// is closed when everything before it has been written.
type item struct {
	body []byte
	// atOnce marks an answer that the reader gave itself, which no limit refuses.
	atOnce  bool
	source  *generation
	flushed chan struct{}
}

func newWriter(out io.Writer, framing func() framing, stall time.Duration) *writer {
	w := &writer{
		out: out, framing: framing, stall: stall,
		gone: make(chan struct{}), done: make(chan struct{}),
	}
	w.work.L, w.room.L = &w.mu, &w.mu
	go w.run()
	return w
}

// add queues an item. It takes ownership of a body.
func (w *writer) add(it item) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return
	}
	w.queue = append(w.queue, it)
	w.bytes += len(it.body)
	if it.atOnce {
		w.once += len(it.body)
	}
	w.work.Signal()
}

// pending is the size of the messages that wait.
func (w *writer) pending() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bytes
}

// waitForRoom blocks while more than atOnceBytes of answers wait that were given
// at once. Only the reader calls it: a client that goes on sending requests and
// reads not one of the refusals can neither fill the memory nor be dropped, so
// its requests have to wait. Other answers have bounds of their own, and it must
// not wait for them: the next request may be a cancel.
func (w *writer) waitForRoom() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.once > atOnceBytes && w.err == nil {
		w.room.Wait()
	}
}

// flush returns a channel that is closed when all that was added before has
// been written. It stays open where the writer fails; see gone.
func (w *writer) flush() <-chan struct{} {
	flushed := make(chan struct{})
	w.add(item{flushed: flushed})
	return flushed
}

// fail ends the writer: nothing is written any more.
func (w *writer) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return
	}
	w.err = err
	w.queue = nil
	close(w.gone)
	w.work.Signal()
	w.room.Broadcast()
}

// failure is why nothing is written any more, nil while it is.
func (w *writer) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

func (w *writer) run() {
	defer close(w.done)
	var out output
	for batch := w.take(nil); batch != nil; batch = w.take(batch) {
		for i := range batch {
			switch it := &batch[i]; {
			case it.source != nil:
				w.drain(it.source, &out)
			case it.flushed != nil:
				w.write(&out)
				close(it.flushed)
			default:
				out.counted += len(it.body)
				if it.atOnce {
					out.once += len(it.body)
				}
				w.frame(&out, it.body)
			}
			batch[i] = item{}
		}
		w.write(&out)
	}
}

// take waits for items and returns all there are, nil at the end. The batch
// before gives its memory back.
func (w *writer) take(before []item) []item {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.queue) == 0 && w.err == nil {
		w.work.Wait()
	}
	if w.err != nil {
		return nil
	}
	batch := w.queue
	w.queue = before[:0]
	return batch
}

// output is the writer's own memory.
type output struct {
	framed  []byte // to be written
	scratch []byte // a body in the making
	counted int    // how much of framed counts as pending
	once    int    // and how much of that was given at once
}

// drain writes what a generation has to say.
func (w *writer) drain(g *generation, out *output) {
	for n := g.seal(); n > 0; n-- {
		out.scratch = g.next(out.scratch[:0])
		w.frame(out, out.scratch)
	}
}

// frame adds a body to what is to be written, and writes when that is enough.
func (w *writer) frame(out *output, body []byte) {
	if w.framing() == ndjson {
		out.framed = append(append(out.framed, body...), '\n')
	} else {
		out.framed = append(out.framed, "Content-Length: "...)
		out.framed = strconv.AppendInt(out.framed, int64(len(body)), 10)
		out.framed = append(append(out.framed, "\r\n\r\n"...), body...)
	}
	if len(out.framed) >= writeBytes {
		w.write(out)
	}
}

// write writes what is framed, in pieces: each piece that goes through shows
// that the client reads.
func (w *writer) write(out *output) {
	for rest := out.framed; len(rest) > 0 && w.failure() == nil; {
		piece := rest[:min(len(rest), writeBytes)]
		var timer *time.Timer
		if w.stall > 0 {
			timer = time.AfterFunc(w.stall, func() { w.fail(errStalled) })
		}
		if _, err := w.out.Write(piece); err != nil {
			w.fail(err)
		}
		if timer != nil {
			timer.Stop()
		}
		rest = rest[len(piece):]
	}
	w.mu.Lock()
	w.bytes -= out.counted
	w.once -= out.once
	w.room.Broadcast()
	w.mu.Unlock()
	out.framed, out.scratch, out.counted = keep(out.framed), keep(out.scratch), 0
	out.once = 0
}

// keep empties a buffer for its next use, unless it has grown out of
// proportion.
func keep(b []byte) []byte {
	if cap(b) > 4*writeBytes {
		return nil
	}
	return b[:0]
}
