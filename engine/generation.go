package engine

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"harmonyd/engine/job"
)

// phase is where a generation stands. Engine thread only.
type phase uint8

const (
	waiting    phase = iota // for its model
	prefilling              // its prompt is being processed
	decoding
)

// Generation is one request under way. Its exported methods may be called from
// any goroutine; Next from one goroutine at a time.
type Generation struct {
	req  job.Request
	ring *ring

	cancelled atomic.Bool
	stopAt    atomic.Int64 // number of tokens that count, or -1
	engine    *Engine

	// The engine thread's own.
	entry  *entry
	load   *load // the load that it waited for
	phase  phase
	seq    Sequence
	tokens []int32 // the prompt, then what was generated; never reallocated
	fed    int     // prompt tokens in the sequence's cache
	// chunk is how many more are on their way there, and spent the time that they
	// took so far.
	chunk  int
	spent  time.Duration
	cached int
	forked bool // seq is a fork of a kept one
	limit  int  // tokens to generate at most
	// promised is the memory of the whole turn, 0 before it was admitted.
	promised int64
	count    int // tokens read
	flight   int // tokens in flight
	stops    []int32
	started  bool
	times    times
	walk     *walk // nil without a constraint
	blocked  bool  // its grammar is being made

	mu       sync.Mutex // guards what follows
	finished bool
	result   job.Result
	err      error
	done     chan struct{}
}

// times are the moments that Stats are made of. Zero means not reached.
type times struct {
	submitted, loading, loaded, began, prefilled, first, last time.Time
	steps                                                     int
}

// Next copies the events that are there into dst, blocking until there is at
// least one. After the Done event it returns io.EOF. Ctx bounds the wait alone.
func (g *Generation) Next(ctx context.Context, dst []job.Event) (int, error) {
	return g.ring.next(ctx, dst)
}

// Logprobs are those of the Token events that Next returned last, in order, where
// the request asked for them. They are valid until Next is called again.
func (g *Generation) Logprobs() []job.Logprobs { return g.ring.taken }

// Cancel ends the generation at the next step or prefill chunk. What was
// computed stays in the prefix cache.
func (g *Generation) Cancel() {
	g.cancelled.Store(true)
	g.engine.thread.nudge()
}

// Stop makes the first n tokens the only ones that count. The loop halts within
// two steps; where it has ended already, its result and the cache are cut back.
// The first call decides.
func (g *Generation) Stop(n int) {
	if n < 0 || !g.stopAt.CompareAndSwap(-1, int64(n)) {
		return
	}
	g.mu.Lock()
	late := g.finished
	if late && g.err == nil {
		g.cut()
	}
	g.mu.Unlock()
	if !late {
		g.engine.thread.nudge()
		return
	}
	g.engine.thread.post(control, func() { g.truncate(n) })
}

// cut applies stopAt to a result. G.mu is held.
func (g *Generation) cut() {
	if n := g.stopAt.Load(); n >= 0 {
		u := &g.result.Usage
		u.GeneratedTokens = min(u.GeneratedTokens, int(n))
		g.result.Reason = job.StopConsumer
	}
}

// Wait blocks until the loop has let go of the generation.
func (g *Generation) Wait() (job.Result, error) {
	<-g.done
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.result, g.err
}

// stopped reports whether the consumer wants the end. Once a step.
func (g *Generation) stopped() bool { return g.cancelled.Load() || g.stopAt.Load() >= 0 }

// finish ends the generation: it settles the cache, publishes the result and
// pushes Done. Engine thread only; a second call does nothing.
func (g *Generation) finish(reason job.StopReason, err error) {
	if g.finished {
		return // only this goroutine sets it
	}
	if g.times.last.IsZero() && g.count > 0 {
		g.times.last = time.Now()
	}
	if err != nil {
		reason = job.StopError
	}
	g.engine.sched.remove(g)
	if g.phase == waiting {
		g.engine.mu.Lock()
		g.engine.leave(g.load)
		g.engine.mu.Unlock()
	}
	g.settle(reason == job.StopEOS, err)
	stats := g.stats()
	if g.walk != nil {
		g.walk.matcher.Close()
	}

	g.mu.Lock()
	g.result = job.Result{Reason: reason, Stats: stats, Usage: job.Usage{
		PromptTokens: len(g.req.Prompt), CachedTokens: g.cached, GeneratedTokens: g.count,
	}}
	g.err, g.finished = err, true
	if err == nil {
		g.cut()
	}
	kept := g.result.Usage.GeneratedTokens
	g.mu.Unlock()

	if kept < g.count {
		g.truncate(kept)
	}
	g.ring.push(job.Event{Kind: job.Done})
	close(g.done)
}

// settle hands the sequence to the prefix cache, or drops it after an error:
// nobody knows what a failed step left in it.
func (g *Generation) settle(eos bool, err error) {
	if g.seq == nil {
		return
	}
	// What was fed counts, a token that ended the generation too: templates put
	// the same token after the answer.
	want := min(g.fed+g.count, g.seq.Len())
	if eos {
		want = min(len(g.tokens), g.seq.Len())
	}
	if err == nil {
		want = g.seq.Reach(want)
	}
	if err == nil && want > 0 && g.seq.SetBack(g.seq.Len()-want) {
		g.entry.prefixes.put(g.seq, g.tokens[:want])
	} else {
		g.seq.Close()
	}
	g.entry.backend.EndTurn()
}

// truncate sets the kept sequence back to the first n generated tokens, if no
// other generation has it. Engine thread only.
func (g *Generation) truncate(n int) {
	if g.seq != nil {
		g.entry.prefixes.truncate(g.seq, g.tokens[:len(g.req.Prompt)+n])
	}
}

// stats turns the moments into durations.
func (g *Generation) stats() job.Stats {
	t := &g.times
	between := func(from, to time.Time) time.Duration {
		if from.IsZero() || to.IsZero() {
			return 0
		}
		return to.Sub(from)
	}
	s := job.Stats{
		Load:       between(t.loading, t.loaded),
		Prefill:    between(t.began, t.prefilled),
		FirstToken: between(t.submitted, t.first),
		Decode:     between(t.first, t.last),
		Steps:      t.steps,
	}
	if g.walk != nil {
		s.Constraint = g.walk.stats
	}
	s.Queue = max(0, between(t.submitted, t.began)-s.Load)
	if g.entry.backend != nil {
		s.ActiveBytes, s.PeakBytes = g.entry.backend.Memory()
	}
	return s
}
