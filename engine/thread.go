package engine

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"harmonyd/engine/job"
)

// lane orders the jobs of the engine thread.
type lane int

const (
	// control jobs are short and run before the next step: set back a cache,
	// unload a model.
	control lane = iota
	// pieces are parts of long work, such as handing over one tensor of a load.
	// One runs at each step boundary, so that a generation keeps its pace.
	pieces
)

// thread is the one goroutine that touches MLX. MLX's streams, its compile
// cache and its random state belong to the OS thread that made them, so the
// goroutine stays on one OS thread for life and everything else sends it jobs.
type thread struct {
	mu     sync.Mutex
	lanes  [2][]func()
	closed bool

	// attention is up while something waits for a step boundary. The decode
	// loop looks at it once a step and returns to run where it is up.
	attention atomic.Bool
	wake      chan struct{} // one slot
	done      chan struct{}
}

func newThread() *thread {
	return &thread{wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// run is the body of the thread. Step does one piece of generation and reports
// whether there was any; last runs when the thread is told to close.
func (t *thread) run(step func() bool, last func()) {
	runtime.LockOSThread() // never unlocked: the OS thread ends with it
	defer close(t.done)
	for {
		t.attention.Store(false) // before looking, so that no request is missed
		ran, closed := t.boundary()
		if closed {
			last()
			return
		}
		if step() || ran {
			continue
		}
		<-t.wake
	}
}

// boundary runs all control jobs and one piece.
func (t *thread) boundary() (ran, closed bool) {
	for {
		fn, isPiece := t.take()
		if fn == nil {
			break
		}
		fn()
		ran = true
		if isPiece {
			break
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lanes[pieces]) > 0 {
		t.attention.Store(true) // the rest at the next boundary
	}
	return ran, t.closed && len(t.lanes[control])+len(t.lanes[pieces]) == 0
}

func (t *thread) take() (fn func(), isPiece bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for l := range t.lanes {
		if q := t.lanes[l]; len(q) > 0 {
			fn, q[0] = q[0], nil
			t.lanes[l] = q[1:]
			return fn, lane(l) == pieces
		}
	}
	return nil, false
}

// post queues fn without waiting for it. It reports false, and fn never runs,
// when the thread is closed; what was posted before runs first.
func (t *thread) post(l lane, fn func()) bool {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return false
	}
	t.lanes[l] = append(t.lanes[l], fn)
	t.mu.Unlock()
	t.nudge()
	return true
}

// do runs fn on the thread and returns its error. A panic in fn becomes one
// too: the caller is a load or an unload, and other models must live on.
func (t *thread) do(l lane, fn func() error) error {
	result := make(chan error, 1)
	if !t.post(l, func() { result <- guard(fn) }) {
		return job.ErrClosed
	}
	return <-result
}

// nudge makes the thread look around at the next step boundary.
func (t *thread) nudge() {
	t.attention.Store(true)
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// close lets the jobs that were posted run, then ends the thread.
func (t *thread) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.nudge()
	<-t.done
}

// guard turns a panic of fn into an error that says where it was.
func guard(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &job.EngineError{Cause: fmt.Sprintf("panic: %v\n%s", p, debug.Stack())}
		}
	}()
	return fn()
}
