package engine

import (
	"cmp"
	"fmt"
	"slices"

	"harmonyd/engine/job"
)

// Memory is promised before it is taken: to a load all that its plan needs, to a
// turn the cache of its prompt and of every token that it may generate. What is
// free is what the device has left less what was promised and is not taken yet,
// so that nothing that was admitted runs out half way. Where that does not
// suffice, what nobody uses makes room: the conversations kept for their next
// turn, then models on which nothing runs. All of this happens on the engine
// thread, between steps.

// free returns the bytes that are neither taken nor promised.
func (e *Engine) free() int64 {
	n := e.available()
	for _, g := range e.sched.all() {
		n -= max(0, g.promised-g.holds())
	}
	for l := range e.loads {
		n -= max(0, l.needed-l.taken.Load())
	}
	return n
}

// holds is what g's cache has taken of what g was promised. A fork has nothing
// of its own until its first step.
func (g *Generation) holds() int64 {
	if g.seq == nil || g.forked && g.fed == g.cached {
		return 0
	}
	return g.seq.Bytes()
}

// inMemory returns the models that are loaded, the least recently used first, and
// of these the idle ones: nothing runs on them and they are not keep.
// Engine.mu is held.
func (e *Engine) inMemory(keep *entry) (all, idle []*entry) {
	busy := map[*entry]bool{keep: true}
	for _, g := range e.sched.all() {
		busy[g.entry] = true
	}
	for _, m := range e.entries {
		if m.backend != nil {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b *entry) int { return cmp.Compare(a.used, b.used) })
	for _, m := range all {
		if !busy[m] {
			idle = append(idle, m)
		}
	}
	return all, idle
}

// obtainable returns the bytes that makeRoom can bring about for the model keep.
func (e *Engine) obtainable(keep *entry) int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := e.free()
	all, idle := e.inMemory(keep)
	for _, m := range all {
		n += m.prefixes.bytes()
	}
	for _, m := range idle {
		n += m.backend.Bytes()
	}
	return n
}

// makeRoom frees what nobody uses, the least recently used first, until need
// bytes are free, and returns what is free then.
func (e *Engine) makeRoom(need int64, keep *entry) int64 {
	e.mu.Lock()
	all, _ := e.inMemory(keep)
	e.mu.Unlock()
	for _, m := range all {
		for e.free() < need && m.prefixes.dropOldest() {
			m.backend.EndTurn()
		}
	}
	for e.free() < need {
		m := e.retire(keep)
		if m == nil {
			break
		}
		e.opts.Log.Info("unload an idle model to make room", "model", m.id, "bytes", m.backend.Bytes())
		m.drop()
	}
	return e.free()
}

// retire takes the least recently used idle model out of service, if there is
// one. Whoever asks for it from now on loads it again.
func (e *Engine) retire(keep *entry) *entry {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, idle := e.inMemory(keep)
	if len(idle) == 0 {
		return nil
	}
	idle[0].ready = false
	return idle[0]
}

// admitLoad promises a load what its plan needs, or refuses it.
func (e *Engine) admitLoad(l *loading, m *entry) error {
	room := e.obtainable(m)
	if l.needed <= room {
		room = e.makeRoom(l.needed, m)
	}
	if room = max(0, room); l.needed > room {
		return &job.LoadError{Model: m.id, NeededBytes: l.needed, AvailableBytes: room,
			Cause: fmt.Sprintf("needs %s of memory, %s are free", bytesText(l.needed), bytesText(room))}
	}
	e.loads[l] = struct{}{}
	return nil
}

// bound sets how many tokens g may generate, and returns the fewest tokens of
// prompt and answer that it is worth to begin with: all of them, but for a turn
// without a bound of its own, which is content with what a model is planned for.
func (g *Generation) bound() (least int) {
	prompt := len(g.req.Prompt)
	g.limit = g.entry.backend.Limits().ContextLength - prompt
	if n := g.req.MaxTokens; n > 0 {
		g.limit = min(g.limit, n)
		return prompt + g.limit
	}
	return prompt + min(g.limit, plannedTokens)
}

// screen refuses a turn as it arrives where it would not fit even if it were
// alone: it need not wait for its turn to learn that.
func (e *Engine) screen(g *Generation) {
	if g.finished || g.started || g.phase == waiting {
		return
	}
	room := e.obtainable(g.entry)
	for _, other := range e.sched.all() {
		room += max(other.promised, other.holds())
	}
	if least := g.bound(); g.entry.backend.Cost(least) > room {
		g.finish(job.StopError, e.refusal(g, least, room))
	}
}

// admit promises g the memory of its whole turn and finds it a sequence, or
// refuses it with numbers before anything is computed.
func (e *Engine) admit(g *Generation) error {
	b, prompt := g.entry.backend, g.req.Prompt
	least := g.bound()
	all := e.obtainable(g.entry)
	if b.Cost(least) > all {
		return e.refusal(g, least, all)
	}
	// A fork is a second copy, so that what it was taken from must not be needed.
	fork := b.Cost(least) <= all-g.entry.prefixes.bytes()
	g.seq, g.cached, g.forked = g.entry.prefixes.take(prompt, fork)
	g.fed = g.cached
	g.promised = g.holds()
	room := g.promised + e.makeRoom(b.Cost(least)-g.promised, g.entry)
	if b.Cost(least) > room { // less came free than was thought
		if g.seq != nil {
			g.entry.prefixes.put(g.seq, prompt[:g.cached])
			g.seq, g.promised = nil, 0
		}
		return e.refusal(g, least, room)
	}
	tokens := max(least, largest(b, len(prompt)+g.limit, room))
	g.limit, g.promised = tokens-len(prompt), b.Cost(tokens)
	if g.seq == nil {
		var err error
		if g.seq, err = b.NewSequence(); err != nil {
			return fmt.Errorf("new sequence: %w", err)
		}
	}
	g.seq.Bound(tokens)
	return nil
}

// refusal says what a turn of so many tokens lacks. Another try helps where
// memory is promised to others.
func (e *Engine) refusal(g *Generation, tokens int, room int64) error {
	b := g.entry.backend
	others := slices.ContainsFunc(e.sched.all(), func(o *Generation) bool { return o != g && o.promised > 0 })
	return &job.MemoryError{Tokens: tokens, FittingTokens: largest(b, tokens, room), NeededBytes: b.Cost(tokens),
		AvailableBytes: max(0, room), Retryable: others || len(e.loads) > 0}
}

// largest returns the most tokens, at most most, whose cost is at most room.
func largest(b Backend, most int, room int64) int {
	lo, hi := 0, most+1
	for hi-lo > 1 {
		if mid := lo + (hi-lo)/2; b.Cost(mid) <= room {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo
}
