package engine

import (
	"fmt"
	"time"

	"harmonyd/engine/job"
)

const (
	// chunkTime is what a prompt may take at a time, so that a cancel or a more
	// urgent request waits no longer. Where a chunk comes in one piece, two chunks
	// may be in flight.
	chunkTime = 150 * time.Millisecond
	minChunk  = 16
	maxChunk  = 2048 // as mlx-lm; larger ones gain nothing
	// maxPieces bounds a chunk that comes in pieces: by then reading and unpacking
	// the weights is little beside the products.
	maxPieces = 512
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

// took notes that a chunk of n tokens in so many pieces needed d. The size moves by a
// factor of two at most, since one odd measurement must not decide.
func (p *pace) took(n, pieces int, d time.Duration) {
	if n < p.size/2 || n == 0 || d <= 0 {
		return // none, or one that is mostly fixed costs
	}
	fit := float64(n) * float64(pieces) * float64(chunkTime) * 0.8 / float64(d)
	next := int(max(float64(p.size)/2, min(fit, 2*float64(p.size))))
	p.size = min(max(next/minChunk*minChunk, minChunk), mostTokens(pieces))
}

// mostTokens is the most tokens in a chunk of so many pieces, but for a last one that
// is a quarter larger.
func mostTokens(pieces int) int {
	if pieces > 1 {
		return maxPieces
	}
	return maxChunk
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
// through Extend, which also chooses the first token. It returns between chunks, and
// between pieces of one, where someone wants the thread.
func (e *Engine) prefill(g *Generation) error {
	if !g.started {
		return e.begin(g) // back to where room in the ring is looked for
	}
	for before := 0; ; {
		start := time.Now()
		if g.chunk == 0 {
			g.chunk = g.entry.pace.chunk(len(g.req.Prompt) - g.fed)
			if err := g.feed(); err != nil {
				return g.chunkError(err)
			}
		}
		left, err := g.seq.Proceed(chunkTime)
		g.spent += time.Since(start)
		if err != nil {
			return g.chunkError(err)
		}
		pieces, total := g.entry.backend.Limits().Pieces, int32(len(g.req.Prompt))
		if left > 0 {
			done := g.fed + g.chunk*max(pieces-left, 0)/pieces
			g.ring.offer(job.Event{Kind: job.Prefill, Done: int32(done), Total: total})
		} else {
			timed := g.chunk
			if pieces == 1 {
				timed = before // which is the one that Prefill waited for
			}
			g.entry.pace.took(timed, pieces, g.spent)
			before = g.chunk
			g.fed += g.chunk
			g.chunk, g.spent = 0, 0
			g.ring.push(job.Event{Kind: job.Prefill, Done: int32(g.fed), Total: total})
		}
		if g.fed == len(g.req.Prompt) {
			g.phase = decoding
			if g.walk == nil {
				g.flight = 1
				g.times.steps++
			}
			g.times.prefilled = time.Now()
			return nil
		}
		if e.thread.attention.Load() || g.stopped() || !g.ring.room() {
			return nil
		}
	}
}

// feed hands the chunk over.
func (g *Generation) feed() error {
	chunk := g.req.Prompt[g.fed:][:g.chunk]
	switch {
	case g.fed+g.chunk < len(g.req.Prompt):
		return g.seq.Prefill(chunk)
	case g.walk != nil:
		return g.seq.Score(chunk)
	}
	return g.seq.Extend(chunk)
}

func (g *Generation) chunkError(err error) error {
	return fmt.Errorf("prefill: tokens %d to %d: %w", g.fed, g.fed+g.chunk, err)
}
