package engine

import (
	"context"
	"fmt"
	"time"

	"harmonyd/engine/job"
	"harmonyd/engine/native"
)

// matcher walks through a grammar, one token after the other. Package native has the
// one that counts.
type matcher interface {
	MaskWords() int
	// Mask sets the bits of the tokens that may come next.
	Mask(dst []uint32) error
	Consume(token int32) error
	// ForcedTokens are those that must come next.
	ForcedTokens() ([]int32, error)
	// IsStopped reports that the text is complete and nothing can follow.
	IsStopped() bool
	Close()
}

// walk is a constrained generation's place in its grammar. Engine thread only.
type walk struct {
	matcher matcher
	mask    []uint32
	// forced are tokens that must come and have not been handed out, unfed those of
	// the text that the sequence does not have yet.
	forced, unfed []int32
	ahead         bool // the token in flight is fed already

	stats job.ConstraintStats
}

// constrain compiles the request's grammar where it has one. The generation waits.
func (e *Engine) constrain(g *Generation, info job.Model) {
	m := g.entry
	m.opened.start(m.folder)
	g.blocked = true
	e.work.Go(func() {
		w, err := e.newWalk(e.ctx, m, info, g.req.Constraint)
		// The thread outlives all work.
		e.thread.post(control, func() {
			g.blocked = false
			switch {
			case g.finished && w != nil:
				w.matcher.Close()
			case g.finished:
			case err != nil:
				g.finish(job.StopError, err)
			default:
				g.walk = w
			}
		})
	})
}

// Check makes a constraint's grammar for a model, which is kept for the generations to
// come. What is wrong with it is a *job.RequestError.
func (e *Engine) Check(ctx context.Context, model string, c job.Constraint) error {
	if _, err := e.Open(ctx, model); err != nil {
		return err
	}
	m, info, err := e.find(model)
	if err != nil {
		return err
	}
	w, err := e.newWalk(ctx, m, info, c)
	if err == nil {
		w.matcher.Close()
	}
	return err
}

// compileWalk is the engine's newWalk.
func compileWalk(ctx context.Context, m *entry, info job.Model, c job.Constraint) (*walk, error) {
	if err := m.opened.wait(ctx); err != nil {
		return nil, loadError(m.id, context.Cause(ctx), err)
	}
	matcher, err := m.opened.text.matcher(info, c)
	if err != nil {
		return nil, &job.RequestError{Field: "constraint", Problem: err.Error()}
	}
	return &walk{matcher: matcher, mask: make([]uint32, matcher.MaskWords())}, nil
}

// matcher starts a walk through a constraint's grammar over the model's vocabulary.
func (t *texts) matcher(info job.Model, c job.Constraint) (*native.Matcher, error) {
	t.once.Do(func() { t.words, t.wordsErr = native.NewGrammarTokenizer(t.tokenizer, info.Vocab, info.StopIDs) })
	if t.wordsErr != nil {
		return nil, t.wordsErr
	}
	return t.grammars.matcher(c)
}

// constrained is decode for a generation with a grammar. A step's mask depends on the
// token before it, so that token is fed before it is read, and while the device
// computes the scores that follow, the mask is made. Where the grammar leaves no
// choice, tokens are not chosen at all: a run of them is one evaluation.
func (e *Engine) constrained(g *Generation) error {
	for {
		if ended, err := g.handOut(); ended || err != nil {
			return err
		}
		if g.flight == 0 {
			if done, err := g.advanceWalk(); done || err != nil {
				return err
			}
			if len(g.walk.forced) > 0 {
				continue
			}
		}
		if e.thread.attention.Load() || g.stopped() || !g.ring.room() {
			return nil
		}
		if err := g.readConstrained(); err != nil || g.finished {
			return err
		}
	}
}

// handOut gives the consumer the tokens that had to come, as far as it has room for
// them. Ended says that the loop must stop here.
func (g *Generation) handOut() (ended bool, err error) {
	w := g.walk
	for len(w.forced) > 0 {
		if !g.ring.room() || g.stopped() {
			return true, nil
		}
		id := w.forced[0]
		w.forced = w.forced[1:]
		w.stats.Forced++
		if g.ring.logprobs != nil {
			*g.ring.slot() = job.Logprobs{Chosen: job.Logprob{ID: id}, Top: [job.MaxLogprobs]job.Logprob{{ID: id}}, N: 1}
		}
		if ended, err := g.emit(id); ended || err != nil {
			return true, err
		}
	}
	return false, nil
}

// advanceWalk feeds what must be fed and puts the next choice in flight, or finds that
// there is none: the text is complete, or tokens are forced.
func (g *Generation) advanceWalk() (done bool, err error) {
	w := g.walk
	if w.matcher.IsStopped() {
		return true, g.end(job.StopEOS)
	}
	if len(w.unfed) > 0 {
		if err := g.seq.Score(w.unfed); err != nil {
			return true, fmt.Errorf("decode: %w", err)
		}
		w.unfed = w.unfed[:0]
	}
	forced, err := w.matcher.ForcedTokens()
	if err != nil {
		return true, fmt.Errorf("constraint: %w", err)
	}
	for _, id := range forced {
		if err := w.matcher.Consume(id); err != nil {
			return true, fmt.Errorf("constraint: %w", err)
		}
	}
	if len(forced) > 0 {
		w.forced = forced
		w.unfed = append(w.unfed, forced...)
		return false, nil
	}
	begin := time.Now()
	if err := w.matcher.Mask(w.mask); err != nil {
		return true, fmt.Errorf("constraint: %w", err)
	}
	w.stats.Masks++
	took := time.Since(begin)
	w.stats.MaskTime += took
	w.stats.LongestMask = max(w.stats.LongestMask, took)
	if g.seq.Scored() {
		w.stats.LateMasks++
	}
	if err := g.seq.Choose(w.mask); err != nil {
		return true, fmt.Errorf("decode: %w", err)
	}
	g.flight = 1
	g.times.steps++
	return false, nil
}

// readConstrained reads the token in flight.
func (g *Generation) readConstrained() error {
	w := g.walk
	// As in decode, the first token does not wait for the second step's dispatch.
	if !w.ahead && g.count > 0 && g.count+1 < g.limit {
		if err := g.seq.Score(nil); err != nil {
			return fmt.Errorf("decode: %w", err)
		}
		w.ahead = true
	}
	id, err := g.seq.Read()
	if err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	g.flight = 0
	if !w.ahead {
		w.unfed = append(w.unfed, id)
	}
	w.ahead = false
	if g.ring.logprobs != nil {
		g.seq.Logprobs(g.ring.slot())
	}
	if ended, err := g.emit(id); ended || err != nil {
		return err
	}
	if err := w.matcher.Consume(id); err != nil {
		return fmt.Errorf("constraint: %w", err)
	}
	return nil
}
