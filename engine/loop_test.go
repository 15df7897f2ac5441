package engine

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/job"
)

func TestStepIsDispatchedBeforeTheTokenIsRead(t *testing.T) {
	b := newBench(t, Options{})
	generate(t, b.Engine, request(pseudoPrompt(5, 96), 1)) // loads
	b.intercept(nil)
	o := generate(t, b.Engine, request(pseudoPrompt(9, 96), 50))
	require.NoError(t, o.err)
	log := b.steps()
	require.Equal(t, 50, count(log, "Read"), "one read a token")
	require.Equal(t, 49, count(log, "Dispatch"), "no step beyond the last token")
	require.Equal(t, 50, o.result.Stats.Steps)
	dispatched, read := 1, 0 // the prompt's last chunk put the first in flight
	for _, s := range log {
		switch s {
		case "Dispatch":
			dispatched++
		case "Read":
			read++
			if read > 1 && read < 50 {
				require.Equal(t, read+1, dispatched, "at the read of token %d", read)
			}
		}
	}
}

func TestEndOfSequenceAndStopIDsEnd(t *testing.T) {
	b := newBench(t, Options{})
	prompt := pseudoPrompt(9, 96)
	all := generate(t, b.Engine, request(prompt, 40)).ids
	for _, at := range []int{0, 1, 2, 7, 38} {
		cut := slices.Index(all, all[at])
		req := request(prompt, 40)
		req.StopIDs = []int32{all[at]}
		o := generate(t, b.Engine, req)
		require.Equal(t, job.StopEOS, o.result.Reason)
		require.Equal(t, all[:cut], append([]int32{}, o.ids...))
		require.Equal(t, cut, o.result.Usage.GeneratedTokens)
		require.LessOrEqual(t, o.result.Stats.Steps, cut+2, "one surplus step at most")
	}
	b.backend.EOS = []int32{all[3]}
	require.Less(t, len(generate(t, b.Engine, request(prompt, 40)).ids), 40)
	ignore := request(prompt, 40)
	ignore.IgnoreEOS = true
	require.Equal(t, all, generate(t, b.Engine, ignore).ids)
}

func TestContextEndsAGeneration(t *testing.T) {
	b := newBench(t, Options{})
	prompt := pseudoPrompt(500, 96)
	for _, maxTokens := range []int{0, 13, 100} {
		o := generate(t, b.Engine, request(prompt, maxTokens))
		require.NoError(t, o.err)
		require.Equal(t, job.StopContext, o.result.Reason)
		require.Len(t, o.ids, 12)
	}
	o := generate(t, b.Engine, request(prompt, 12))
	require.Equal(t, job.StopLength, o.result.Reason)
}

// TestStopAtEveryPositionAndRunAhead fixes how far the loop is ahead when the
// consumer finds a stop, and requires that nobody can tell afterwards.
func TestStopAtEveryPositionAndRunAhead(t *testing.T) {
	const longest = 12
	b := newBench(t, Options{})
	prompt := pseudoPrompt(20, 96)
	all := generate(t, b.Engine, request(prompt, 30)).ids
	for n := range longest + 1 {
		next := append(append(slices.Clone(prompt), all[:n]...), 1, 2, 3)
		var want *outcome
		for ahead := -1; ahead <= 8; ahead++ {
			name := fmt.Sprintf("stop at %d, %d ahead", n, ahead)
			// A fresh model, so that nothing is cached from before.
			require.NoError(t, b.Unload(t.Context(), "tiny"))
			stopped := stopWith(t, b, prompt, n, ahead)
			require.NoError(t, stopped.err, name)
			require.Equal(t, job.StopConsumer, stopped.result.Reason, name)
			require.Equal(t, job.Usage{PromptTokens: 20, GeneratedTokens: n}, stopped.result.Usage, name)
			require.Equal(t, all[:n], append([]int32{}, stopped.ids[:n]...), name)
			require.Equal(t, 20+n, b.keptTokens(t), name)
			turn := generate(t, b.Engine, request(next, 10))
			turn.result.Stats, turn.kinds = job.Stats{}, nil
			if want == nil {
				want = &turn
				// What the stop kept is reused: all that was fed before it.
				require.Equal(t, 20+n, turn.result.Usage.CachedTokens, name)
			}
			require.Equal(t, *want, turn, name)
		}
	}
}

// keptTokens is the length of the newest sequence in the prefix cache.
func (b *bench) keptTokens(t *testing.T) (n int) {
	t.Helper()
	require.NoError(t, b.thread.do(control, func() error {
		m, _ := b.known("tiny")
		n = m.prefixes.kept[len(m.prefixes.kept)-1].seq.Len()
		return nil
	}))
	return n
}

// stopWith stops a generation after n tokens when exactly ahead more have been
// read from the device. Ahead -1 is the moment when the loop has handed over the
// last one and not yet looked around.
func stopWith(t *testing.T, b *bench, prompt []int32, n, ahead int) outcome {
	t.Helper()
	if ahead < 0 {
		return stopAtOnce(t, b, prompt, n)
	}
	reached, resume := make(chan struct{}), make(chan struct{})
	reads, after := 0, 0
	b.intercept(func(step string, _ int) error {
		if step == "Read" {
			if reads++; reads == n+ahead+1 {
				close(reached)
				<-resume
			}
		}
		if reads > n+ahead && step == "Dispatch" {
			after++
		}
		return nil
	})
	g, err := b.Start(request(prompt, 30))
	require.NoError(t, err)
	ids := readTokens(t, g, n)
	<-reached
	g.Stop(n)
	close(resume)
	o := consume(t, g)
	b.intercept(nil)
	require.LessOrEqual(t, after, 2, "steps after the stop")
	o.ids = append(ids, o.ids...)
	return o
}

func stopAtOnce(t *testing.T, b *bench, prompt []int32, n int) outcome {
	t.Helper()
	var g *Generation
	started := make(chan struct{})
	reads := 0
	b.intercept(func(step string, _ int) error {
		<-started
		if step == "Read" {
			reads++
		}
		if reads == n && (step == "Read" || step == "Extend") {
			g.Stop(n)
		}
		return nil
	})
	var err error
	g, err = b.Start(request(prompt, 30))
	require.NoError(t, err)
	close(started)
	o := consume(t, g)
	b.intercept(nil)
	return o
}

// TestStopGoesBackToACheckpoint has a cache that cannot go back to every length:
// it goes back as far as it must, and the next turn computes the rest.
func TestStopGoesBackToACheckpoint(t *testing.T) {
	const every = 8
	prompt := pseudoPrompt(20, 96)
	fresh := newBench(t, Options{})
	all := generate(t, fresh.Engine, request(prompt, 30)).ids
	for n := range 10 {
		b := newBench(t, Options{})
		b.backend.Checkpoints = every
		stopped := stopWith(t, b, prompt, n, 3)
		require.NoError(t, stopped.err)
		require.Equal(t, all[:n], append([]int32{}, stopped.ids[:n]...))
		kept := (20 + n) / every * every
		require.Equal(t, kept, b.keptTokens(t))
		for _, same := range []int{20 + n, 19, 17} {
			next := append(slices.Clone(append(slices.Clone(prompt), all[:n]...)[:same]), 1, 2, 3)
			turn := generate(t, b.Engine, request(next, 5))
			require.Equal(t, min(kept, same/every*every), turn.result.Usage.CachedTokens)
			require.Equal(t, generate(t, fresh.Engine, request(next, 5)).ids, turn.ids)
		}
	}
}

func TestStopAfterTheEndCutsBack(t *testing.T) {
	b := newBench(t, Options{})
	prompt := pseudoPrompt(20, 96)
	all := generate(t, b.Engine, request(prompt, 10)).ids
	for n := range 11 {
		g, err := b.Start(request(prompt, 10))
		require.NoError(t, err)
		consume(t, g)
		g.Stop(n)
		g.Stop(n + 1) // the first decides
		res, err := g.Wait()
		require.NoError(t, err)
		require.Equal(t, job.StopConsumer, res.Reason)
		require.Equal(t, n, res.Usage.GeneratedTokens)
		// The last of all tokens was never fed.
		require.Equal(t, min(20+n, 29), b.keptTokens(t))
		next := append(append(slices.Clone(prompt), all[:n]...), 5, 6)
		o := generate(t, b.Engine, request(next, 5))
		fresh := newBench(t, Options{})
		require.Equal(t, generate(t, fresh.Engine, request(next, 5)).ids, o.ids)
	}
}

func TestCancelAtEveryStep(t *testing.T) {
	b := newBench(t, Options{})
	prompt := pseudoPrompt(30, 96)
	want := generate(t, b.Engine, request(prompt, 70)).ids
	for k := range 65 {
		require.NoError(t, b.Unload(t.Context(), "tiny"))
		o, seen := b.cancelAt(t, k, b.starting(t, request(prompt, 70)),
			func(step string) bool { return step == "Extend" || step == "Dispatch" })
		require.Equal(t, job.StopCancelled, o.result.Reason, "cancel at step %d", k)
		require.Equal(t, want[:len(o.ids)], append([]int32{}, o.ids...))
		require.Equal(t, len(o.ids), o.result.Usage.GeneratedTokens)
		require.LessOrEqual(t, seen, k+2, "steps after the cancel")
		again := generate(t, b.Engine, request(prompt, 70))
		require.Equal(t, want, again.ids, "after a cancel at step %d", k)
		require.Equal(t, 29, again.result.Usage.CachedTokens, "the prompt stays cached")
	}
}

func TestInteractivePreemptsBackground(t *testing.T) {
	for k := range 20 {
		b := newBench(t, Options{})
		generate(t, b.Engine, request(pseudoPrompt(3, 96), 1))
		want := generate(t, b.Engine, request(pseudoPrompt(11, 96), 30)).ids
		require.NoError(t, b.Unload(t.Context(), "tiny"))
		generate(t, b.Engine, request(pseudoPrompt(3, 96), 1))

		var urgent *Generation
		arrived := -1
		b.intercept(func(step string, n int) error {
			if step == "Read" && urgent == nil && n >= k {
				var err error
				urgent, err = b.Start(request(pseudoPrompt(7, 96), 10))
				arrived = n
				return err
			}
			return nil
		})
		slow := request(pseudoPrompt(11, 96), 30)
		slow.Priority = job.Background
		o := generate(t, b.Engine, slow)
		require.Equal(t, want, o.ids)
		u := consume(t, urgent)
		require.Len(t, u.ids, 10)
		require.Contains(t, u.kinds, job.Queued)
		// Between its arrival and its last token nothing else ran but the step
		// boundary of the background generation.
		log := b.steps()[arrived+1:]
		first := slices.Index(log, "NewSequence")
		require.LessOrEqual(t, first, 1, "%v", log[:first+1])
		last := first
		for reads := 0; reads < 10; last++ {
			if log[last] == "Read" {
				reads++
			}
		}
		require.Equal(t, 9, count(log[first:last], "Dispatch"), "no other dispatch in between")
		require.NoError(t, b.Close())
	}
}

func TestFullRingPausesOneGenerationOnly(t *testing.T) {
	b := newBench(t, Options{RingSize: 16})
	prompt := pseudoPrompt(9, 96)
	want := generate(t, b.Engine, request(prompt, 200)).ids
	away, err := b.Start(request(prompt, 200))
	require.NoError(t, err)
	// Others run to their end while nobody reads.
	for range 3 {
		require.Len(t, generate(t, b.Engine, request(pseudoPrompt(8, 96), 100)).ids, 100)
	}
	require.Equal(t, 15, int(away.ring.tail.Load()), "one slot is kept for Done")
	require.Equal(t, want, consume(t, away).ids)
}

// TestFailureAtEveryStep lets each step fail in turn, by an error and by a panic.
func TestFailureAtEveryStep(t *testing.T) {
	prompt := pseudoPrompt(200, 96)
	b := newBench(t, Options{})
	generate(t, b.Engine, request(pseudoPrompt(3, 96), 1))
	want := generate(t, b.Engine, request(prompt, 8)).ids
	for _, panics := range []bool{false, true} {
		for k := 0; ; k++ {
			require.NoError(t, b.Unload(t.Context(), "tiny"))
			b.intercept(func(step string, n int) error {
				if n != k {
					return nil
				}
				if panics {
					panic("planted")
				}
				return errors.New("planted")
			})
			o := generate(t, b.Engine, request(prompt, 8))
			if o.err == nil { // there are no more steps
				require.GreaterOrEqual(t, k, 2+1+8+7)
				break
			}
			var failed *job.EngineError
			require.ErrorAs(t, o.err, &failed, "step %d", k)
			require.Contains(t, failed.Cause, "planted")
			require.Equal(t, job.StopError, o.result.Reason)
			require.Equal(t, want[:len(o.ids)], append([]int32{}, o.ids...))
			b.intercept(nil)
			again := generate(t, b.Engine, request(prompt, 8))
			require.Equal(t, want, again.ids)
			require.Zero(t, again.result.Usage.CachedTokens, "what failed is not reused")
		}
	}
}

func TestNextTurnComputesItsNewTokensOnly(t *testing.T) {
	b := newBench(t, Options{PrefixCaches: 2})
	prompt := pseudoPrompt(40, 96)
	first := generate(t, b.Engine, request(prompt, 10))
	next := append(append(slices.Clone(prompt), first.ids...), 7, 8, 9)
	second := generate(t, b.Engine, request(next, 10))
	// The last token of the first turn was never fed.
	require.Equal(t, 49, second.result.Usage.CachedTokens)
	require.Equal(t, 1, b.backend.Sequences, "the sequence goes on")
	// A conversation with the same beginning does not take the other's cache.
	other := append(slices.Clone(prompt[:30]), 90, 91)
	o := generate(t, b.Engine, request(other, 10))
	require.Equal(t, 30, o.result.Usage.CachedTokens)
	third := append(append(slices.Clone(next), second.ids...), 4)
	require.Equal(t, 62, generate(t, b.Engine, request(third, 1)).result.Usage.CachedTokens)
	// No more than two are kept.
	generate(t, b.Engine, request(pseudoPrompt(33, 96), 5))
	require.LessOrEqual(t, b.backend.Sequences-b.backend.Closed, 2)
}

func TestNothingIsKeptForTheNextTurn(t *testing.T) {
	b := newBench(t, Options{PrefixCaches: -1})
	want := generate(t, b.Engine, request(pseudoPrompt(40, 96), 10))
	again := generate(t, b.Engine, request(pseudoPrompt(40, 96), 10))
	require.Equal(t, want.ids, again.ids)
	require.Zero(t, again.result.Usage.CachedTokens)
	require.Equal(t, 2, b.backend.Closed, "sequences")
}

func TestDecodeAllocatesNothing(t *testing.T) {
	b := newBench(t, Options{})
	require.Zero(t, allocsPerToken(t, b.Engine, job.Sampling{}))
}

// allocsPerToken runs the loop token by token, as it runs when something waits at
// every step boundary, and counts what the Go heap is asked for.
func allocsPerToken(t *testing.T, e *Engine, s job.Sampling) float64 {
	t.Helper()
	require.NoError(t, e.Load(t.Context(), "tiny", nil))
	var allocs float64
	require.NoError(t, e.thread.do(control, func() error {
		m, _ := e.known("tiny")
		g := &Generation{req: request(pseudoPrompt(9, 96), 400), engine: e, entry: m, phase: prefilling,
			ring: newRing(64, func() {}), done: make(chan struct{})}
		g.req.Sampling = s
		g.stopAt.Store(-1)
		for g.phase == prefilling {
			if err := e.advance(g); err != nil {
				return err
			}
		}
		buf := make([]job.Event, 64)
		var err error
		allocs = testing.AllocsPerRun(300, func() {
			e.thread.attention.Store(true)
			err = errors.Join(err, e.advance(g))
			g.ring.take(buf)
		})
		if g.count < 300 {
			return fmt.Errorf("%d tokens", g.count)
		}
		g.finish(job.StopLength, nil)
		return err
	}))
	return allocs
}
