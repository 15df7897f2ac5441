package engine

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"harmonyd/engine/job"
)

// The hot loop checklist. Each line is held by a test of this package.
//
//   - Step n+1 is dispatched before token n is read, so the device never waits
//     for Go. The token goes from step to step on the device.
//   - One blocking read of 4 bytes a token. Scores never leave the device, but for
//     the logprobs that a request asks for, which come with the token in one read.
//   - No allocation, string, map, interface conversion, closure or new constant
//     per token. What a token needs is made before the loop: the ring, the room
//     for tokens, the stop ids, the random keys.
//   - Fields that the loop reads are locals where the loop does not change them.
//   - No clock, no log and no lock per token. Statistics come from the first and
//     the last token.
//   - Stop ids are compared here; text, stop strings and tools are the
//     consumer's, who gets ids through the ring and one wake-up.
//   - Buffers are cleared when a turn ends, never per token.
//   - The loop gives way at every step boundary, and looks at one flag to learn
//     whether anybody wants it to.

// step runs the generation whose turn it is until it ends, cannot go on or
// someone wants the thread. It reports whether there was anything to run.
func (e *Engine) step() bool {
	g := e.sched.pick()
	if g == nil {
		return false
	}
	err := guard(func() error { return e.advance(g) })
	if err != nil {
		g.finish(job.StopError, stepError(err))
	}
	return true
}

// stepError makes what went wrong in a step an error of the seam.
func stepError(err error) error {
	var known *job.EngineError
	var refused *job.MemoryError
	if errors.As(err, &known) || errors.As(err, &refused) {
		return err
	}
	return &job.EngineError{Cause: err.Error()}
}

// advance does one phase of work on g. An error ends g.
func (e *Engine) advance(g *Generation) error {
	if g.stopped() {
		g.finish(job.StopCancelled, nil)
		return nil
	}
	if g.phase == prefilling {
		return e.prefill(g)
	}
	return e.decode(g)
}

// decode is the hot loop. It returns at a step boundary; everything it needs to
// go on later is in g.
func (e *Engine) decode(g *Generation) error {
	if g.walk != nil {
		return e.constrained(g)
	}
	seq, ring, limit := g.seq, g.ring, g.limit
	for {
		// The first token is read before the second step is dispatched: where
		// dispatching waits for the device, as on the CPU, it would come a whole
		// step late. From then on the device is one step ahead.
		ahead := maxInFlight
		if g.count == 0 {
			ahead = 1
		}
		for g.flight < ahead && g.count+g.flight < limit {
			if err := seq.Dispatch(); err != nil {
				return fmt.Errorf("decode: %w", err)
			}
			g.flight++
			g.times.steps++
		}
		id, err := seq.Read()
		if err != nil {
			return fmt.Errorf("decode: %w", err)
		}
		g.flight--
		if ring.logprobs != nil {
			seq.Logprobs(ring.slot())
		}
		if ended, err := g.emit(id); ended || err != nil {
			return err
		}
		if e.thread.attention.Load() || g.stopped() || !ring.room() {
			return g.boundary()
		}
	}
}

// emit hands a token out and reports whether it was the last one. The ring has room,
// and in its next slot the token's logprobs where they were asked for.
func (g *Generation) emit(id int32) (ended bool, err error) {
	g.tokens = append(g.tokens, id) // within its capacity
	if slices.Contains(g.stops, id) {
		return true, g.end(job.StopEOS)
	}
	g.count++
	g.ring.push(job.Event{Kind: job.Token, ID: id})
	if g.count == 1 {
		g.times.first = time.Now()
	}
	if g.count == g.limit {
		return true, g.end(g.limitReason())
	}
	return false, nil
}

// boundary settles what a step boundary must leave the same however fast the
// consumer is: the token just read has been fed.
func (g *Generation) boundary() error {
	if g.flight == 0 && g.count < g.limit {
		if err := g.seq.Dispatch(); err != nil {
			return fmt.Errorf("decode: %w", err)
		}
		g.flight++
		g.times.steps++
	}
	return nil
}

// end finishes g in good order.
func (g *Generation) end(reason job.StopReason) error {
	g.times.last = time.Now()
	g.finish(reason, nil)
	return nil
}

func (g *Generation) limitReason() job.StopReason {
	if g.req.MaxTokens > 0 && g.limit == g.req.MaxTokens {
		return job.StopLength
	}
	return job.StopContext
}
