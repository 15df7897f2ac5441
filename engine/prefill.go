package engine

import (
	"fmt"
	"time"

	"harmonyd/engine/job"
)

const (
	// chunkTime is what one evaluation of a prompt may take, so that a cancel
	// or a more urgent request waits no longer. Two chunks may be in flight.
	chunkTime = 150 * time.Millisecond
	minChunk  = 16
	maxChunk  = 2048 // as mlx-lm; larger ones gain nothing
	// firstChunk is tried before anything is known of the device's speed.
	firstChunk = 64
)

// pace chooses the size of prefill chunks from how long the last ones took.
// One belongs to each loaded model.
type pace struct {
	size int
}

// chunk returns how many of the rest tokens to process next.
func (p *pace) chunk(rest int) int {
	if p.size == 0 {
		p.size = firstChunk
	}
	// A rest a little larger than a chunk would leave a tail that costs nearly
	// as much as a chunk: evaluation reads all weights, however few the tokens.
	if rest <= p.size+p.size/4 {
		return rest
	}
	return p.size
}

// took notes that a chunk of n tokens needed d. The size moves by a factor of
// two at most, since one odd measurement must not decide.
func (p *pace) took(n int, d time.Duration) {
	if n < p.size/2 || n == 0 || d <= 0 {
		return // none, or one that is mostly fixed costs
	}
	fit := float64(n) * float64(chunkTime) * 0.8 / float64(d)
	next := int(max(float64(p.size)/2, min(fit, 2*float64(p.size))))
	p.size = min(max(next/minChunk*minChunk, minChunk), maxChunk)
}

// begin has g admitted, which finds its prompt in the prefix cache, and makes its
// sequence ready.
func (e *Engine) begin(g *Generation) error {
	g.started = true
	g.times.began = time.Now()
	e.touch(g.entry)
	if err := e.admit(g); err != nil {
		return err
	}
	prompt := g.req.Prompt
	g.stops = append(g.stops, g.req.StopIDs...)
	if !g.req.IgnoreEOS {
		g.stops = append(g.stops, g.entry.backend.Limits().StopIDs...)
	}
	g.tokens = append(make([]int32, 0, len(prompt)+g.limit), prompt...)
	if err := g.seq.SetSampling(g.req.Sampling, g.req.Logprobs, prompt[:g.cached]); err != nil {
		return fmt.Errorf("sampling: %w", err)
	}
	g.ring.offer(job.Event{Kind: job.Prefill, Done: int32(g.fed), Total: int32(len(prompt))})
	return nil
}

// prefill feeds the prompt, all but the last chunk through Prefill, the last
// through Extend, which also chooses the first token. It returns between chunks
// where someone wants the thread.
func (e *Engine) prefill(g *Generation) error {
	if !g.started {
		return e.begin(g) // back to where room in the ring is looked for
	}
	prompt := g.req.Prompt
	for before := 0; ; {
		n := g.entry.pace.chunk(len(prompt) - g.fed)
		chunk := prompt[g.fed : g.fed+n]
		if g.fed+n == len(prompt) {
			return e.lastChunk(g, chunk)
		}
		start := time.Now()
		if err := g.seq.Prefill(chunk); err != nil {
			return fmt.Errorf("prefill: tokens %d to %d: %w", g.fed, g.fed+n, err)
		}
		// What Prefill waited for is the chunk before this one.
		g.entry.pace.took(before, time.Since(start))
		before = n
		g.fed += n
		g.ring.push(job.Event{Kind: job.Prefill, Done: int32(g.fed), Total: int32(len(prompt))})
		if e.thread.attention.Load() || g.stopped() || !g.ring.room() {
			return nil
		}
	}
}

// lastChunk ends the prefill and puts the first token in flight.
func (e *Engine) lastChunk(g *Generation, chunk []int32) error {
	if err := g.seq.Extend(chunk); err != nil {
		return fmt.Errorf("prefill: tokens %d to %d: %w", g.fed, g.fed+len(chunk), err)
	}
	g.fed += len(chunk)
	g.flight, g.phase = 1, decoding
	g.times.steps++
	g.times.prefilled = time.Now()
	n := int32(len(g.req.Prompt))
	g.ring.push(job.Event{Kind: job.Prefill, Done: n, Total: n})
	return nil
}
