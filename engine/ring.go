package engine

import (
	"context"
	"io"
	"sync/atomic"

	"harmonyd/engine/job"
)

// ring carries events from the engine thread to the one goroutine that reads a
// generation. It is bounded and never drops: the producer asks for room first
// and pauses its generation where there is none. Pushing costs two atomic
// operations and one channel send that never blocks, and allocates nothing.
type ring struct {
	events []job.Event // a power of two long
	// logprobs goes with the Token events, entry for entry; nil where nobody asked.
	// Taken are those of the events that next handed over last.
	logprobs, taken []job.Logprobs
	head            atomic.Uint64
	tail            atomic.Uint64
	ended           atomic.Bool // the Done event was pushed

	wake chan struct{} // producer to consumer, one slot
	// starved is set by a producer that found no room and cleared by the
	// consumer that makes some; resume then tells the producer's thread.
	starved atomic.Bool
	resume  func()
}

// newRing returns a ring for at least size events. Resume is called on the
// consumer's goroutine when a starved producer may go on.
func newRing(size int, resume func()) *ring {
	n := 2
	for n < size {
		n *= 2
	}
	return &ring{events: make([]job.Event, n), wake: make(chan struct{}, 1), resume: resume}
}

// withLogprobs makes room for logprobs. Before the first push.
func (r *ring) withLogprobs() { r.logprobs = make([]job.Logprobs, len(r.events)) }

// slot is where the logprobs of the event go that is pushed next. Engine thread
// only, after room.
func (r *ring) slot() *job.Logprobs {
	return &r.logprobs[r.tail.Load()&uint64(len(r.events)-1)]
}

// room reports whether push may be called for an event other than Done. One
// slot is kept for Done, so that a generation can always end.
func (r *ring) room() bool {
	if r.free() > 1 {
		return true
	}
	// The flag must be up before the second look: a consumer that empties the
	// ring in between then sees it and resumes the producer.
	r.starved.Store(true)
	if r.free() > 1 {
		r.starved.Store(false)
		return true
	}
	return false
}

func (r *ring) free() int { return len(r.events) - int(r.tail.Load()-r.head.Load()) }

// push appends an event. Engine thread only, after room, except for Done.
func (r *ring) push(e job.Event) {
	t := r.tail.Load()
	r.events[t&uint64(len(r.events)-1)] = e
	r.tail.Store(t + 1)
	if e.Kind == job.Done {
		r.ended.Store(true)
	}
	select {
	case r.wake <- struct{}{}:
	default: // the consumer has a wake-up coming already
	}
}

// offer pushes an event that may be lost, such as one of progress.
func (r *ring) offer(e job.Event) {
	if r.free() > 1 {
		r.push(e)
	}
}

// next copies what is there into dst, waiting for at least one event.
func (r *ring) next(ctx context.Context, dst []job.Event) (int, error) {
	for {
		ended := r.ended.Load() // before looking: Done is the last event
		if n := r.take(dst); n > 0 || len(dst) == 0 {
			return n, nil
		}
		if ended {
			return 0, io.EOF
		}
		select {
		case <-r.wake:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func (r *ring) take(dst []job.Event) int {
	h, t := r.head.Load(), r.tail.Load()
	n := min(len(dst), int(t-h))
	r.taken = r.taken[:0]
	for i := range n {
		at := (h + uint64(i)) & uint64(len(r.events)-1)
		dst[i] = r.events[at]
		if r.logprobs != nil && dst[i].Kind == job.Token {
			r.taken = append(r.taken, r.logprobs[at])
		}
	}
	if n == 0 {
		return 0
	}
	r.head.Store(h + uint64(n))
	if r.starved.Swap(false) {
		r.resume()
	}
	return n
}
