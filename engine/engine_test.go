package engine

import (
	"context"
	"errors"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest"
	"harmonyd/engine/job"
	"harmonyd/engine/native"
)

// TestCloseEndsEverything closes with work of all kinds under way.
func TestCloseEndsEverything(t *testing.T) {
	b := newBench(t, Options{RingSize: 16})
	generate(t, b.Engine, request(pseudoPrompt(3, 96), 1))
	blocked, resume := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(blocked); <-resume })
	after := 0
	b.intercept(func(step string, n int) error {
		if n > 20 {
			once()
			after++
		}
		return nil
	})
	var all []*Generation
	for i := range 6 {
		req := request(pseudoPrompt(5+i, 96), 400)
		req.Priority = job.Priority(i % 2)
		g, err := b.Start(req)
		require.NoError(t, err)
		all = append(all, g)
	}
	<-blocked
	closed := make(chan error)
	go func() { closed <- b.Close() }()
	for !b.isClosed() {
		time.Sleep(time.Millisecond)
	}
	close(resume)
	require.NoError(t, <-closed)
	require.LessOrEqual(t, after, 3, "the step under way, no more")
	for _, g := range all {
		o := consume(t, g)
		require.ErrorIs(t, o.err, job.ErrClosed)
		require.Equal(t, job.StopError, o.result.Reason)
		g.Cancel()
		g.Stop(0)
	}
	_, err := b.Start(request([]int32{1}, 1))
	require.ErrorIs(t, err, job.ErrClosed)
	require.ErrorIs(t, b.Load(t.Context(), "tiny", nil), job.ErrClosed)
	_, err = b.Open(t.Context(), "tiny")
	require.ErrorIs(t, err, job.ErrClosed)
	require.NoError(t, b.Close())
}

// isClosed reports whether the thread has been told to close.
func (b *bench) isClosed() bool {
	b.thread.mu.Lock()
	defer b.thread.mu.Unlock()
	return b.thread.closed
}

func TestLoadFailureReachesEverybody(t *testing.T) {
	b := newBench(t, Options{})
	planted := errors.New("planted")
	hold := make(chan struct{})
	b.open = func(context.Context, string, job.Model, func(job.Progress)) (Backend, error) {
		<-hold
		return nil, planted
	}
	var all []*Generation
	for range 3 {
		g, err := b.Start(request(pseudoPrompt(3, 96), 4))
		require.NoError(t, err)
		all = append(all, g)
	}
	loaded := make(chan error, 1)
	go func() { loaded <- b.Load(t.Context(), "tiny", nil) }()
	close(hold)
	var failed *job.LoadError
	for _, g := range all {
		require.ErrorAs(t, consume(t, g).err, &failed)
		require.Equal(t, "planted", failed.Cause)
	}
	require.ErrorAs(t, <-loaded, &failed)
}

// TestModelIsLoadedOnDemand follows one request through load, prompt and tokens.
func TestModelIsLoadedOnDemand(t *testing.T) {
	e := tinyEngine(t, enginetest.Checkpoint{Bits: 8, Group: 32, EOS: []int32{90}}, Options{})
	m, err := e.Open(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, job.Unloaded, m.Info.State)
	require.Equal(t, []int32{90}, m.Info.StopIDs)
	require.Equal(t, "affine 8-bit, groups of 32", m.Info.Quantization)
	require.Nil(t, m.Template)
	require.Equal(t, 1, native.Live())
	ids, err := m.Tokenizer.Encode("t5 t7 t11", false)
	require.NoError(t, err)
	require.Equal(t, []int32{5, 7, 11}, ids)
	o := generate(t, e, job.Request{Prompt: ids, MaxTokens: 5, IgnoreEOS: true})
	require.NoError(t, o.err)
	require.Len(t, o.ids, 5)
	require.Contains(t, o.kinds, job.Loading)
	s := o.result.Stats
	require.Positive(t, s.Load)
	require.Positive(t, s.Prefill)
	require.Greater(t, s.FirstToken, s.Load)
	require.Positive(t, s.Decode)
	require.Positive(t, s.ActiveBytes)
	require.GreaterOrEqual(t, s.PeakBytes, s.ActiveBytes)
	require.Positive(t, o.result.TokensPerSecond())
}

// TestSeedsRepeat samples with and without a seed.
func TestSeedsRepeat(t *testing.T) {
	e := tinyEngine(t, enginetest.Checkpoint{Seed: 9}, Options{})
	run := func(seed uint64, has bool) []int32 {
		req := request(pseudoPrompt(9, 96), 40)
		req.Sampling = job.Sampling{Temperature: 3, Seed: seed, HasSeed: has}
		return generate(t, e, req).ids
	}
	first := run(7, true)
	require.Equal(t, first, run(7, true), "the prompt is cached now")
	require.NotEqual(t, first, run(8, true))
	require.NotEqual(t, run(0, false), run(0, false))
	// What was generated may become prompt: the draw for a position does not
	// depend on how it was reached.
	req := request(append(pseudoPrompt(9, 96), first[:15]...), 25)
	req.Sampling = job.Sampling{Temperature: 3, Seed: 7, HasSeed: true}
	require.Equal(t, first[15:], generate(t, e, req).ids)
}

func TestWrongRequests(t *testing.T) {
	e := tinyEngine(t, enginetest.Checkpoint{}, Options{})
	for field, change := range map[string]func(*job.Request){
		"prompt":    func(r *job.Request) { r.Prompt = []int32{0, 96} },
		"maxTokens": func(r *job.Request) { r.MaxTokens = math.MinInt },
		"priority":  func(r *job.Request) { r.Priority = 2 },
		"sampling":  func(r *job.Request) { r.Sampling.TopP = float32(math.NaN()) },
		"constraint": func(r *job.Request) {
			r.Constraint, r.IgnoreEOS = job.Constraint{Kind: job.Regex, Source: "a"}, true
		},
	} {
		req := request([]int32{1}, 1)
		change(&req)
		_, err := e.Start(req)
		var refused *job.RequestError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, field, refused.Field)
	}
}
