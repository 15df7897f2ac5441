package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"harmonyd/engine/job"
)

// entry is one installed model.
type entry struct {
	id     string
	opened opened

	// Guarded by Engine.mu.
	gone   bool // its folder is; what was opened stays valid
	folder string
	info   job.Model // its State is Unloaded or Unavailable, see known
	ready  bool
	load   *load // the newest; nil where there was none since the last unload

	// The engine thread's own.
	backend  Backend
	prefixes prefixes
	pace     pace
	used     int64 // Engine.clock at the last load or turn
}

// touch notes a use of m. Engine thread only.
func (e *Engine) touch(m *entry) {
	e.clock++
	m.used = e.clock
}

// load is one load under way, shared by all who wait for it. Engine.mu guards
// its fields.
type load struct {
	waiters     int
	generations []*Generation // those among the waiters
	reports     map[int]func(job.Progress)
	nextReport  int
	at          job.Progress
	cancel      context.CancelCauseFunc
	done        chan struct{}
	err         error // set before done is closed
}

func (m *entry) state() job.ModelState {
	switch {
	case m.ready:
		return job.Ready
	case m.load != nil:
		return job.LoadingNow
	}
	return job.Unloaded
}

// drop frees the weights and the prefix cache. Engine thread only.
func (m *entry) drop() {
	m.prefixes.drop()
	if m.backend != nil {
		m.backend.Close()
		m.backend = nil
	}
}

// Load brings a model's weights into memory. It returns at once where they are
// there. Several callers share one load, which ends when all gave up. Report is
// called from other goroutines, one call at a time, and must not block.
func (e *Engine) Load(ctx context.Context, model string, report func(job.Progress)) error {
	m, _, err := e.find(model)
	if err != nil {
		return err
	}
	e.mu.Lock()
	if e.closed || m.ready {
		closed := e.closed
		e.mu.Unlock()
		if closed {
			return job.ErrClosed
		}
		return m.opened.wait(ctx)
	}
	l := e.join(m)
	id := l.nextReport
	l.nextReport++
	if report != nil {
		l.reports[id] = report
	}
	e.mu.Unlock()

	select {
	case <-l.done:
		if l.err == nil {
			return m.opened.wait(ctx)
		}
		return l.err
	case <-ctx.Done():
	}
	e.mu.Lock()
	delete(l.reports, id)
	e.leave(l)
	e.mu.Unlock()
	return fmt.Errorf("load model %q: %w", m.id, job.ErrCancelled)
}

// join makes the caller a waiter of m's load and starts one where there is none.
// Engine.mu is held.
func (e *Engine) join(m *entry) *load {
	if l := m.load; l != nil && l.waiters > 0 {
		l.waiters++
		return l
	}
	before := m.load // given up, but perhaps not yet gone
	l := &load{waiters: 1, reports: make(map[int]func(job.Progress)), done: make(chan struct{})}
	var ctx context.Context
	ctx, l.cancel = context.WithCancelCause(e.ctx)
	m.load = l
	folder, info := m.folder, m.info
	m.opened.start(folder)
	e.work.Go(func() {
		if before != nil {
			<-before.done // its memory must be free first
		}
		b, err := e.open(ctx, folder, info, func(p job.Progress) { e.progress(l, p) })
		e.loaded(ctx, m, l, b, err)
	})
	return l
}

// leave takes back a join. Engine.mu is held.
func (e *Engine) leave(l *load) {
	if l.waiters--; l.waiters == 0 {
		l.cancel(job.ErrCancelled)
	}
}

// progress tells everybody who waits. It runs on goroutines of the load.
func (e *Engine) progress(l *load, p job.Progress) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p.Done < l.at.Done {
		return // two tensors ended at the same time
	}
	l.at = p
	for _, report := range l.reports {
		report(p)
	}
	if p.Total == 0 {
		return
	}
	ev := job.Event{Kind: job.Loading, Done: int32(p.Done * 1000 / p.Total), Total: 1000}
	generations := l.generations
	// Rings are filled by the engine thread alone.
	e.thread.post(control, func() {
		for _, g := range generations {
			if g.phase == waiting && !g.finished {
				g.ring.offer(ev)
			}
		}
	})
}

// loaded ends a load: the engine thread takes over the backend, and the
// generations that waited go on or fail.
func (e *Engine) loaded(ctx context.Context, m *entry, l *load, b Backend, err error) {
	if err != nil {
		err = loadError(m.id, context.Cause(ctx), err)
	}
	finish := func() error {
		e.mu.Lock()
		if err == nil && l.waiters <= 0 { // the last one left just now
			b.Close()
			err = loadError(m.id, context.Cause(ctx), context.Canceled)
		}
		if err == nil {
			m.backend, m.ready = b, true
			e.touch(m)
			m.prefixes.most, m.prefixes.mostBytes = e.opts.PrefixCaches, e.prefixBytes
		}
		if m.load == l {
			m.load = nil
		}
		l.err = err
		generations := l.generations
		e.mu.Unlock()
		for _, g := range generations {
			switch {
			case g.finished:
			case err != nil:
				g.finish(job.StopError, err)
			default:
				g.phase, g.times.loaded = prefilling, time.Now()
			}
		}
		close(l.done)
		return nil
	}
	// The thread outlives all loads.
	_ = e.thread.do(control, finish)
	if err != nil {
		e.opts.Log.Warn("load", "model", m.id, "err", err)
	}
}

// loadError makes an error of a load one of the seam.
func loadError(id string, cause, err error) error {
	for _, plain := range []error{job.ErrClosed, job.ErrUnloaded, job.ErrCancelled} {
		if errors.Is(cause, plain) {
			return fmt.Errorf("load model %q: %w", id, plain)
		}
	}
	var le *job.LoadError
	if errors.As(err, &le) {
		return err
	}
	return &job.LoadError{Model: id, Cause: err.Error()}
}

// Unload frees a model's weights and fails what runs on it with job.ErrUnloaded.
func (e *Engine) Unload(_ context.Context, model string) error {
	m, _, err := e.find(model)
	if err != nil {
		return err
	}
	e.mu.Lock()
	l := m.load
	if l != nil {
		l.cancel(job.ErrUnloaded)
		l.waiters = 0 // whoever comes now starts another one
	}
	e.mu.Unlock()
	if l != nil {
		<-l.done
	}
	return e.thread.do(control, func() error {
		e.mu.Lock()
		m.ready = false
		e.mu.Unlock()
		for _, g := range e.sched.all() {
			if g.entry == m && g.phase != waiting {
				g.finish(job.StopError, job.ErrUnloaded)
			}
		}
		m.drop()
		return nil
	})
}
