package enginetest

import (
	"slices"
	"time"

	"harmonyd/engine/job"
)

// loop runs steps, one at a time, until nothing is queued.
func (e *Engine) loop() {
	for {
		e.mu.Lock()
		if len(e.queue) == 0 {
			e.looping = false
			e.mu.Unlock()
			return
		}
		g := e.pick()
		if g == nil {
			e.mu.Unlock()
			<-e.wake
			continue
		}
		g.enter()
		wait := g.cost()
		e.current = g
		e.mu.Unlock()
		if wait > 0 {
			time.Sleep(wait)
		}
		e.mu.Lock()
		e.current = nil
		if g.halted != "" {
			e.finish(g)
		} else {
			e.step(g)
		}
		e.mu.Unlock()
	}
}

// nudge tells the loop to look at the queue again.
func (e *Engine) nudge() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// pick chooses what runs the next step: the highest priority, then what has
// begun, then what came first. A generation that waits for its model or for
// its consumer holds up nobody.
func (e *Engine) pick() *generation {
	var best *generation
	for _, g := range e.queue {
		if !g.ready || g.paused() {
			continue
		}
		if best == nil || g.req.Priority > best.req.Priority ||
			(g.req.Priority == best.req.Priority && g.begun && !best.begun) {
			best = g
		}
	}
	return best
}

// enter begins a generation with its first step: it finds out what of the
// prompt is cached. One token at least is left, for its scores are needed.
func (g *generation) enter() {
	if g.begun {
		return
	}
	g.begun, g.begin = true, time.Now()
	g.stats.Queue = g.begin.Sub(g.start) - g.stats.Load
	for g.cached < len(g.req.Prompt)-1 && g.cached < len(g.model.cached) &&
		g.req.Prompt[g.cached] == g.model.cached[g.cached] {
		g.cached++
	}
	g.prefill = g.cached
	g.push(job.Event{Kind: job.Prefill, Done: int32(g.prefill), Total: int32(len(g.req.Prompt))})
}

// cost is the time that g's next step takes.
func (g *generation) cost() time.Duration {
	if rest := len(g.req.Prompt) - g.prefill; rest > 0 {
		return pace(min(rest, g.model.PrefillChunk), g.model.PrefillTokensPerSecond)
	}
	rate := g.model.TokensPerSecond
	if g.reply.TokensPerSecond > 0 {
		rate = g.reply.TokensPerSecond
	}
	return pace(1, rate)
}

// step does one prefill chunk or makes one token.
func (e *Engine) step(g *generation) {
	if rest := len(g.req.Prompt) - g.prefill; rest > 0 {
		g.prefill += min(rest, g.model.PrefillChunk)
		g.stats.Prefill = time.Since(g.begin)
		g.push(job.Event{Kind: job.Prefill, Done: int32(g.prefill), Total: int32(len(g.req.Prompt))})
		return
	}
	g.stats.Steps++
	i := len(g.made)
	switch {
	case g.reply.Fail != "" && i == g.reply.FailAt:
		e.end(g, job.StopError, &job.EngineError{Cause: g.reply.Fail})
		return
	case i >= len(g.tokens) && !g.endless:
		e.end(g, job.StopEOS, nil)
		return
	}
	id := g.tokens[i%len(g.tokens)]
	g.made = append(g.made, id)
	g.last = time.Now()
	if i == 0 {
		g.first = g.last
	}
	g.push(job.Event{Kind: job.Token, ID: id})
	switch {
	case len(g.made) == g.req.MaxTokens:
		e.end(g, job.StopLength, nil)
	case len(g.req.Prompt)+len(g.made) == g.model.ContextLength:
		e.end(g, job.StopContext, nil)
	}
}

// halt asks g to end at its next step boundary; the first reason counts. It is
// called with the lock held.
func (e *Engine) halt(g *generation, why job.StopReason, err error) {
	if g.ended || g.halted != "" {
		return
	}
	g.halted, g.haltErr = why, err
	g.giveUp()
	if e.current != g {
		e.finish(g)
	}
}

func (e *Engine) end(g *generation, why job.StopReason, err error) {
	g.halted, g.haltErr = why, err
	e.finish(g)
}

// finish closes the books of a generation and leaves its tokens in the model's
// cache.
func (e *Engine) finish(g *generation) {
	kept := len(g.made)
	if g.keep >= 0 {
		kept = min(kept, g.keep)
	}
	if m := g.model; g.begun && g.haltErr == nil && m.state == job.Ready {
		m.cached = append(slices.Clone(g.req.Prompt[:g.prefill]), g.made[:kept]...)
		m.cachedBy = g
	}
	if len(g.made) > 0 {
		g.stats.FirstToken = g.first.Sub(g.start)
		g.stats.Decode = g.last.Sub(g.first)
	}
	for _, m := range e.models {
		if m.state == job.Ready {
			g.stats.ActiveBytes += m.SizeBytes
		}
	}
	g.stats.PeakBytes = g.stats.ActiveBytes
	g.result = job.Result{
		Reason: g.halted,
		Usage:  job.Usage{PromptTokens: len(g.req.Prompt), CachedTokens: g.cached, GeneratedTokens: kept},
		Stats:  g.stats,
	}
	if i := slices.Index(e.queue, g); i >= 0 {
		e.queue = slices.Delete(e.queue, i, i+1)
	}
	g.ended = true
	g.giveUp()
	close(g.done)
	g.tell()
	e.nudge()
}
