package enginetest

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/job"
)

// Runner is the part of an engine that Conformance exercises: all but Open,
// whose result is of another type in each engine.
type Runner interface {
	Models(ctx context.Context) ([]job.Model, error)
	Load(ctx context.Context, model string, report func(job.Progress)) error
	Unload(ctx context.Context, model string) error
	Start(req job.Request) (Generation, error)
}

// Subject is an engine under test, fresh for each case.
type Subject struct {
	Runner
	// Model is an installed model, not loaded, with room for Prompt and Long
	// tokens. It decodes greedily, and what it writes depends on its prompt only.
	Model  string
	Prompt []int32
	// Long is more tokens than the engine buffers for a consumer that is away.
	// The engine buffers at least 16 events.
	Long int
}

// hang bounds each case. It is far beyond what a case takes and only turns a
// deadlock into a failure that names its case.
const hang = 2 * time.Minute

// Conformance checks that an engine does what the agent relies on. Open
// returns a fresh engine and registers its end with t.Cleanup.
func Conformance(t *testing.T, open func(t *testing.T) Subject) {
	for _, c := range []struct {
		name  string
		check func(t *testing.T, s Subject)
	}{
		{"models", checkModels},
		{"refusals at start", checkRefusals},
		{"order of events", checkOrder},
		{"max tokens", checkMaxTokens},
		{"same prompt same tokens", checkRepeat},
		{"same seed same tokens", checkSeed},
		{"logprobs", checkLogprobs},
		{"stop at every token", checkStop},
		{"stop after the end", checkStopLate},
		{"cancel at every event", checkCancel},
		{"cancel while queued", checkCancelQueued},
		{"a consumer that is away loses nothing", checkBackPressure},
		{"the wait is bounded by its context", checkNextContext},
		{"loads are shared", checkLoads},
		{"unload under a generation", checkUnload},
		{"two priorities", checkPriorities},
	} {
		t.Run(c.name, func(t *testing.T) {
			guard := time.AfterFunc(hang, func() { panic("conformance: " + c.name + ": hangs") })
			defer guard.Stop()
			c.check(t, open(t))
		})
	}
}

func (s Subject) request(maxTokens int) job.Request {
	return job.Request{
		ID: "conformance", Model: s.Model, Prompt: s.Prompt, MaxTokens: maxTokens,
		IgnoreEOS: true, Priority: job.Interactive,
	}
}

func (s Subject) start(t *testing.T, req job.Request) Generation {
	t.Helper()
	g, err := s.Start(req)
	require.NoError(t, err)
	return g
}

// drain reads a generation to its end and returns all events.
func drain(t *testing.T, g Generation) []job.Event {
	t.Helper()
	var all []job.Event
	buf := make([]job.Event, 7)
	for {
		n, err := g.Next(t.Context(), buf)
		if errors.Is(err, io.EOF) {
			require.Zero(t, n)
			break
		}
		require.NoError(t, err)
		require.Positive(t, n, "Next returned neither an event nor an error")
		all = append(all, buf[:n]...)
	}
	require.NotEmpty(t, all)
	require.Equal(t, job.Done, all[len(all)-1].Kind, "Done is the last event")
	n, err := g.Next(t.Context(), buf)
	require.ErrorIs(t, err, io.EOF)
	require.Zero(t, n)
	return all
}

// tokens are the ids of the Token events.
func tokens(events []job.Event) []int32 {
	var ids []int32
	for _, ev := range events {
		if ev.Kind == job.Token {
			ids = append(ids, ev.ID)
		}
	}
	return ids
}

// run generates n tokens and returns them.
func (s Subject) run(t *testing.T, n int) []int32 {
	t.Helper()
	g := s.start(t, s.request(n))
	ids := tokens(drain(t, g))
	res, err := g.Wait()
	require.NoError(t, err)
	require.Equal(t, job.StopLength, res.Reason)
	require.Len(t, ids, n)
	return ids
}

// until reads up to and including the nth event of a kind.
func until(t *testing.T, g Generation, kind job.EventKind, n int) []job.Event {
	t.Helper()
	var all []job.Event
	buf := make([]job.Event, 1)
	for seen := 0; seen < n; {
		_, err := g.Next(t.Context(), buf)
		require.NoError(t, err)
		all = append(all, buf[0])
		if buf[0].Kind == kind {
			seen++
		}
	}
	return all
}

func checkModels(t *testing.T, s Subject) {
	models, err := s.Models(t.Context())
	require.NoError(t, err)
	ids := make([]string, len(models))
	for i, m := range models {
		ids[i] = m.ID
	}
	require.True(t, slices.IsSorted(ids), "sorted by id: %q", ids)
	i := slices.Index(ids, s.Model)
	require.GreaterOrEqual(t, i, 0)
	require.Equal(t, job.Unloaded, models[i].State)
	require.Greater(t, models[i].ContextLength, len(s.Prompt)+s.Long)
	require.NoError(t, s.Load(t.Context(), s.Model, nil))
	models, err = s.Models(t.Context())
	require.NoError(t, err)
	require.Equal(t, job.Ready, models[i].State)
}

func checkRefusals(t *testing.T, s Subject) {
	models, err := s.Models(t.Context())
	require.NoError(t, err)
	for _, m := range models {
		if m.ID != s.Model {
			continue
		}
		long := s.request(1)
		long.Prompt = make([]int32, m.ContextLength)
		for i := range long.Prompt {
			long.Prompt[i] = s.Prompt[0]
		}
		_, err = s.Start(long)
		var overflow *job.ContextOverflowError
		require.ErrorAs(t, err, &overflow)
		require.Equal(t, job.ContextOverflowError{PromptTokens: m.ContextLength, ContextLength: m.ContextLength}, *overflow)
	}
	for name, change := range map[string]func(*job.Request){
		"no prompt":          func(r *job.Request) { r.Prompt = nil },
		"negative id":        func(r *job.Request) { r.Prompt = []int32{-1} },
		"id beyond the last": func(r *job.Request) { r.Prompt = []int32{1 << 30} },
		"negative maxTokens": func(r *job.Request) { r.MaxTokens = -1 },
		"temperature":        func(r *job.Request) { r.Sampling.Temperature = -1 },
		"bias of no token":   func(r *job.Request) { r.Sampling.LogitBias = []job.LogitBias{{ID: 1 << 30}} },
		"spared no token":    func(r *job.Request) { r.Sampling.XTCSpared = []int32{-1} },
		"negative logprobs":  func(r *job.Request) { r.Logprobs = -1 },
		"too many logprobs":  func(r *job.Request) { r.Logprobs = job.MaxLogprobs + 1 },
	} {
		req := s.request(1)
		change(&req)
		_, err := s.Start(req)
		var refused *job.RequestError
		require.ErrorAs(t, err, &refused, name)
		require.NotEmpty(t, refused.Field, name)
	}
	req := s.request(1)
	req.Model = "no-such-model"
	_, err = s.Start(req)
	var missing *job.ModelNotFoundError
	require.ErrorAs(t, err, &missing)
	require.Contains(t, missing.Available, s.Model)
	require.ErrorAs(t, s.Load(t.Context(), "no-such-model", nil), &missing)
	require.Len(t, s.run(t, 2), 2, "the engine goes on")
}

func checkOrder(t *testing.T, s Subject) {
	g := s.start(t, s.request(5))
	events := drain(t, g)
	last, done := job.Queued, int32(0)
	for _, ev := range events {
		require.GreaterOrEqual(t, ev.Kind, last, "kinds do not go back")
		if ev.Kind != last {
			last, done = ev.Kind, 0
		}
		if ev.Kind == job.Loading || ev.Kind == job.Prefill {
			require.GreaterOrEqual(t, ev.Done, done, "progress does not go back")
			require.LessOrEqual(t, ev.Done, ev.Total)
			done = ev.Done
		}
		if ev.Kind == job.Prefill {
			require.EqualValues(t, len(s.Prompt), ev.Total)
		}
	}
	i := slices.IndexFunc(events, func(ev job.Event) bool { return ev.Kind == job.Token })
	require.Positive(t, i)
	require.Equal(t, job.Prefill, events[i-1].Kind, "the prompt's end is reported")
	require.Equal(t, events[i-1].Total, events[i-1].Done)
	require.Len(t, tokens(events), 5)
}

func checkMaxTokens(t *testing.T, s Subject) {
	for _, n := range []int{1, 2, 3, 17} {
		g := s.start(t, s.request(n))
		ids := tokens(drain(t, g))
		res, err := g.Wait()
		require.NoError(t, err)
		require.Equal(t, job.StopLength, res.Reason)
		require.Len(t, ids, n)
		require.Equal(t, n, res.Usage.GeneratedTokens)
		require.Equal(t, len(s.Prompt), res.Usage.PromptTokens)
		require.GreaterOrEqual(t, res.Usage.CachedTokens, 0)
		require.Less(t, res.Usage.CachedTokens, len(s.Prompt))
		require.GreaterOrEqual(t, res.Stats.Steps, n)
	}
}

func checkRepeat(t *testing.T, s Subject) {
	want := s.run(t, 12)
	require.Equal(t, want, s.run(t, 12), "with the prompt cached")
	require.NoError(t, s.Unload(t.Context(), s.Model))
	require.Equal(t, want, s.run(t, 12), "after a second load")
}

func checkStop(t *testing.T, s Subject) {
	const n = 12
	want := s.run(t, n)
	for keep := range n + 1 {
		g := s.start(t, s.request(s.Long))
		read := until(t, g, job.Token, max(keep, 1))
		g.Stop(keep)
		res, err := g.Wait()
		require.NoError(t, err)
		require.Equal(t, job.StopConsumer, res.Reason)
		require.Equal(t, keep, res.Usage.GeneratedTokens)
		drain(t, g)
		require.Equal(t, want[:keep], append([]int32{}, tokens(read)[:keep]...))
		require.Equal(t, want, s.run(t, n), "the cache is back after Stop(%d)", keep)
	}
}

func checkStopLate(t *testing.T, s Subject) {
	want := s.run(t, 9)
	g := s.start(t, s.request(9))
	drain(t, g)
	_, err := g.Wait()
	require.NoError(t, err)
	g.Stop(4)
	res, err := g.Wait()
	require.NoError(t, err)
	require.Equal(t, job.StopConsumer, res.Reason)
	require.Equal(t, 4, res.Usage.GeneratedTokens)
	require.Equal(t, want, s.run(t, 9))
}

func checkCancel(t *testing.T, s Subject) {
	want := s.run(t, 8)
	for k := range 24 {
		if k == 12 {
			require.NoError(t, s.Unload(t.Context(), s.Model))
		}
		g := s.start(t, s.request(s.Long))
		buf := make([]job.Event, 1)
		for range k % 12 {
			_, err := g.Next(t.Context(), buf)
			require.NoError(t, err)
		}
		g.Cancel()
		g.Cancel()
		res, err := g.Wait()
		require.NoError(t, err)
		require.Equal(t, job.StopCancelled, res.Reason)
		events := drain(t, g)
		require.LessOrEqual(t, len(tokens(events)), res.Usage.GeneratedTokens)
		g.Cancel()
		require.Equal(t, want, s.run(t, 8), "after a cancel at event %d", k%12)
	}
}

func checkCancelQueued(t *testing.T, s Subject) {
	first := s.start(t, s.request(s.Long))
	until(t, first, job.Token, 1)
	var waiting []Generation
	for range 8 {
		waiting = append(waiting, s.start(t, s.request(s.Long)))
	}
	for _, g := range waiting {
		g.Cancel()
	}
	for _, g := range waiting {
		res, err := g.Wait()
		require.NoError(t, err)
		require.Equal(t, job.StopCancelled, res.Reason)
		drain(t, g)
	}
	require.Len(t, tokens(drain(t, first)), s.Long-1)
}

func checkBackPressure(t *testing.T, s Subject) {
	want := s.run(t, s.Long)
	away := s.start(t, s.request(s.Long))
	until(t, away, job.Token, 1)
	// One that waits for its consumer holds up nobody else.
	require.Equal(t, want[:20], s.run(t, 20))
	require.Equal(t, want[1:], tokens(drain(t, away)))
	res, err := away.Wait()
	require.NoError(t, err)
	require.Equal(t, s.Long, res.Usage.GeneratedTokens)
	// One that waits for its consumer can be ended.
	for _, end := range []func(Generation){Generation.Cancel, func(g Generation) { g.Stop(1) }} {
		g := s.start(t, s.request(s.Long))
		until(t, g, job.Token, 1)
		end(g)
		_, err := g.Wait()
		require.NoError(t, err)
	}
}

func checkNextContext(t *testing.T, s Subject) {
	blocker := s.start(t, s.request(s.Long))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	buf := make([]job.Event, 64)
	for {
		n, err := blocker.Next(ctx, buf)
		if err == nil {
			continue
		}
		require.Zero(t, n)
		if !errors.Is(err, io.EOF) { // the engine was never behind
			require.ErrorIs(t, err, context.Canceled)
			drain(t, blocker)
		}
		break
	}
	res, err := blocker.Wait()
	require.NoError(t, err)
	require.Equal(t, job.StopLength, res.Reason, "a wait given up ends nothing")
}

func checkLoads(t *testing.T, s Subject) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	var all sync.WaitGroup
	errs := make([]error, 6)
	for i := range errs {
		all.Go(func() {
			ctx := t.Context()
			if i == 0 {
				ctx = gone
			}
			errs[i] = s.Load(ctx, s.Model, func(p job.Progress) {
				if p.Done < 0 || p.Done > p.Total {
					panic("progress beyond its total")
				}
			})
		})
	}
	all.Wait()
	if errs[0] != nil {
		require.ErrorIs(t, errs[0], job.ErrCancelled)
	}
	for _, err := range errs[1:] {
		require.NoError(t, err)
	}
	require.NoError(t, s.Load(t.Context(), s.Model, nil), "a loaded model")
	require.NoError(t, s.Unload(t.Context(), s.Model))
	require.NoError(t, s.Unload(t.Context(), s.Model), "an unloaded model")
	require.Len(t, s.run(t, 2), 2)
}

func checkUnload(t *testing.T, s Subject) {
	want := s.run(t, 8)
	running := s.start(t, s.request(s.Long))
	until(t, running, job.Token, 1)
	queued := s.start(t, s.request(s.Long))
	require.NoError(t, s.Unload(t.Context(), s.Model))
	for _, g := range []Generation{running, queued} {
		drain(t, g)
		res, err := g.Wait()
		require.ErrorIs(t, err, job.ErrUnloaded)
		require.Equal(t, job.StopError, res.Reason)
	}
	require.Equal(t, want, s.run(t, 8))
}

// checkPriorities starts an interactive generation behind background ones whose
// consumers are there. An engine that serves in order of arrival ends it after
// all of them. A right one ends it before the last: that one's consumer comes
// only when the interactive one is queued, so it has steps left, and they wait,
// for the interactive one fits into its buffer. Which was first is read from the
// engine's own times, since a test may be woken late.
func checkPriorities(t *testing.T, s Subject) {
	const few, last = 8, 2
	want := s.run(t, s.Long)
	slow := s.request(s.Long)
	slow.Priority = job.Background
	var background [last + 1]Generation
	for i := range background {
		background[i] = s.start(t, slow)
	}
	slowStarted := time.Now() // at the latest
	until(t, background[0], job.Token, 1)
	var all sync.WaitGroup
	var got [len(background)][]int32
	var errs [len(background)]error
	queued := make(chan struct{})
	for i, g := range background {
		all.Go(func() {
			if i == last {
				<-queued
			}
			got[i], errs[i] = read(t.Context(), g)
		})
	}
	quickStarted := time.Now() // at the earliest
	quick, err := s.Start(s.request(few))
	close(queued)
	all.Wait()
	require.NoError(t, err)
	require.Equal(t, want[:few], tokens(drain(t, quick)))
	var results [len(background)]job.Result
	for i, g := range background {
		require.NoError(t, errs[i])
		results[i], err = g.Wait()
		require.NoError(t, err)
		require.Equal(t, job.StopLength, results[i].Reason)
		if i == 0 {
			got[i] = append(want[:1:1], got[i]...)
		}
		require.Equal(t, want, got[i])
	}
	res, err := quick.Wait()
	require.NoError(t, err)
	ended := func(started time.Time, r job.Result) time.Time {
		return started.Add(r.Stats.FirstToken + r.Stats.Decode)
	}
	require.True(t, ended(quickStarted, res).Before(ended(slowStarted, results[last])),
		"the interactive generation waited for all background ones")
}

// read reads a generation to its end, on any goroutine, and returns its tokens.
func read(ctx context.Context, g Generation) ([]int32, error) {
	var ids []int32
	buf := make([]job.Event, 7)
	for {
		n, err := g.Next(ctx, buf)
		if errors.Is(err, io.EOF) {
			return ids, nil
		}
		if err != nil {
			return ids, err
		}
		ids = append(ids, tokens(buf[:n])...)
	}
}
