package engine

import (
	"bytes"
	"log/slog"
	"math"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest"
	"harmonyd/engine/job"
	"harmonyd/engine/mlx"
	"harmonyd/engine/weights"
)

// onThread runs fn on the engine thread.
func (e *Engine) onThread(t *testing.T, fn func()) {
	t.Helper()
	require.NoError(t, e.thread.do(control, func() error { fn(); return nil }))
}

// planAlone plans a load with one thread and all memory there could be.
func planAlone(t *testing.T, folder string) *plan {
	newTestEngine(t, Options{Threads: 1}) // what a CPU needs besides depends on the threads
	p, err := newPlan(weights.Dir(folder), device{available: math.MaxInt64})
	require.NoError(t, err)
	p.close()
	return p
}

// limited gives the bench that much memory besides the weights.
func (b *bench) limited(bytes int64) {
	b.available = func() int64 {
		used, _ := b.backend.Memory()
		return bytes - used
	}
}

// TestE5OverTheLimitIsRefusedWithNumbers asks a hundred times for a model and for
// turns that do not fit. Each is refused with numbers that are true: what is said
// to fit does, within the limit, and one token more does not.
//
// Planted break: admit that promises nothing (see planted_test.go).
func TestE5OverTheLimitIsRefusedWithNumbers(t *testing.T) {
	root := t.TempDir()
	c := enginetest.Checkpoint{Layers: 2, KVHeads: 4, HeadDim: 32, Hidden: 128, Context: 1 << 15}
	require.NoError(t, c.Write(filepath.Join(root, "tiny")))
	p := planAlone(t, filepath.Join(root, "tiny"))
	small := newTestEngine(t, Options{Root: root, Threads: 1, MemoryBytes: p.needed - 1})
	for range 100 {
		var refused *job.LoadError
		require.ErrorAs(t, small.Load(t.Context(), "tiny", nil), &refused)
		require.Equal(t, p.needed, refused.NeededBytes)
		require.Equal(t, p.needed-1, refused.AvailableBytes)
	}

	limit := p.bytes + p.cost(2500)
	e := newTestEngine(t, Options{Root: root, Threads: 1, MemoryBytes: limit})
	require.NoError(t, e.Load(t.Context(), "tiny", nil))
	prompt := pseudoPrompt(300, 96)
	handles, active := mlx.Live(), mlx.ActiveMemory()
	for range 100 {
		o := generate(t, e, request(prompt, 9000))
		var refused *job.MemoryError
		require.ErrorAs(t, o.err, &refused)
		require.Empty(t, o.ids)
		require.Equal(t, job.MemoryError{Tokens: 9300, FittingTokens: 2560, NeededBytes: p.cost(9300),
			AvailableBytes: p.cost(2500)}, *refused)
	}
	require.Equal(t, handles, mlx.Live())
	require.Equal(t, active, mlx.ActiveMemory())
	require.Error(t, generate(t, e, request(prompt, 2560-300+1)).err)
	// A turn without a bound gets what is free.
	mlx.ResetPeak()
	for _, maxTokens := range []int{0, 2560 - 300} {
		o := generate(t, e, request(prompt, maxTokens))
		require.NoError(t, o.err)
		require.Len(t, o.ids, 2560-300)
	}
	require.LessOrEqual(t, mlx.PeakMemory(), limit, "what was promised was enough")
}

// TestKeptConversationsMakeRoom: what is kept for a next turn goes, oldest
// first, before a turn is refused, and stays where that would not help.
func TestKeptConversationsMakeRoom(t *testing.T) {
	const token = enginetest.TokenBytes
	b := newBench(t, Options{})
	b.limited(300 * token)
	kept := func() (n []int) {
		b.onThread(t, func() {
			m, _ := b.known("tiny")
			for _, f := range m.prefixes.kept {
				n = append(n, len(f.tokens))
			}
		})
		return n
	}
	begin := func(first int32, n int) []int32 { return append([]int32{first}, pseudoPrompt(100, 96)[:n-1]...) }
	for first := range int32(3) {
		prompt := begin(first, 60)
		require.NoError(t, generate(t, b.Engine, request(prompt, 1)).err)
	}
	require.Equal(t, []int{60, 60, 60}, kept())
	turn := func(first int32, maxTokens int) outcome {
		return generate(t, b.Engine, request(begin(first, 40), maxTokens))
	}
	var refused *job.MemoryError
	require.ErrorAs(t, turn(9, 261).err, &refused)
	require.Equal(t, job.MemoryError{Tokens: 301, FittingTokens: 300, NeededBytes: 301 * token,
		AvailableBytes: 300 * token}, *refused)
	require.Equal(t, []int{60, 60, 60}, kept(), "nothing is given up for nothing")
	require.NoError(t, turn(10, 80).err)
	require.Equal(t, []int{60, 60, 60, 119}, kept(), "all fits: 180 and 120")
	require.NoError(t, turn(11, 1).err)
	require.Equal(t, []int{60, 60, 119, 40}, kept(), "the oldest made room")
	// The conversation that goes on is not the one that makes room for itself.
	o := generate(t, b.Engine, request(begin(1, 80), 60))
	require.NoError(t, o.err)
	require.Equal(t, 60, o.result.Usage.CachedTokens)
	// Nor does one that goes back to its beginning keep a copy of its end for which
	// there is no room.
	again := generate(t, b.Engine, request(append(begin(1, 20), 7), 260))
	require.NoError(t, again.err)
	require.Equal(t, 20, again.result.Usage.CachedTokens)
	require.Equal(t, []int{280}, kept())
}

// TestPromisesOfOthersCount: a turn that is paused keeps what it was promised,
// also what it has not taken yet.
func TestPromisesOfOthersCount(t *testing.T) {
	const token = enginetest.TokenBytes
	b := newBench(t, Options{RingSize: 16})
	b.limited(400 * token)
	paused, err := b.Start(request(pseudoPrompt(20, 96), 200)) // nobody reads it
	require.NoError(t, err)
	var refused *job.MemoryError
	require.ErrorAs(t, generate(t, b.Engine, request(pseudoPrompt(30, 96), 151)).err, &refused)
	require.Equal(t, job.MemoryError{Tokens: 181, FittingTokens: 180, NeededBytes: 181 * token,
		AvailableBytes: 180 * token, Retryable: true}, *refused)
	require.Len(t, generate(t, b.Engine, request(pseudoPrompt(30, 96), 150)).ids, 150)
	require.Len(t, consume(t, paused).ids, 200)
	require.Len(t, generate(t, b.Engine, request(pseudoPrompt(30, 96), 151)).ids, 151)
	// Whoever would not fit even alone learns it while the other one runs.
	hold := make(chan struct{})
	b.intercept(func(string, int) error { <-hold; return nil })
	running, err := b.Start(request(pseudoPrompt(20, 96), 100))
	require.NoError(t, err)
	hopeless, err := b.Start(request(pseudoPrompt(30, 96), 371))
	require.NoError(t, err)
	close(hold)
	require.ErrorAs(t, consume(t, hopeless).err, &refused)
	require.Equal(t, 401, refused.Tokens)
	require.Less(t, len(running.tokens), 120, "the other one was not waited for")
	require.Len(t, consume(t, running).ids, 100)
}

// TestIdleModelsMakeRoom loads models one after the other into memory that holds
// one or two of them.
func TestIdleModelsMakeRoom(t *testing.T) {
	root := t.TempDir()
	for id, c := range map[string]enginetest.Checkpoint{
		"a": {Seed: 1, Hidden: 512, Vocab: 5000}, "b": {Seed: 2, Hidden: 512, Vocab: 5000}, "c": {Seed: 3, Hidden: 512, Vocab: 5000},
		"large": {Layers: 40, Intermediate: 2048},
	} {
		require.NoError(t, c.Write(filepath.Join(root, id)))
	}
	p := planAlone(t, filepath.Join(root, "a"))
	limit := p.bytes + p.needed + p.cost(10) + p.scratch // a step in flight counts twice
	require.Less(t, limit, 2*p.bytes+p.needed, "three do not fit")
	var log bytes.Buffer
	e := newTestEngine(t, Options{Root: root, Threads: 1, MemoryBytes: limit, Log: slog.New(slog.NewTextHandler(&log, nil))})
	states := func() map[string]job.ModelState {
		list, err := e.Models(t.Context())
		require.NoError(t, err)
		all := map[string]job.ModelState{}
		for _, m := range list {
			all[m.ID] = m.State
		}
		return all
	}
	ask := func(model string) job.Request {
		return job.Request{Model: model, Prompt: pseudoPrompt(5, 96), MaxTokens: 5, Priority: job.Interactive}
	}
	require.NoError(t, e.Load(t.Context(), "a", nil))
	require.NoError(t, e.Load(t.Context(), "b", nil))
	want := generate(t, e, ask("a")).ids // used last
	require.NoError(t, e.Load(t.Context(), "c", nil))
	require.Equal(t, map[string]job.ModelState{
		"a": job.Ready, "b": job.Unloaded, "c": job.Ready, "large": job.Unloaded}, states())
	require.Contains(t, log.String(), `msg="unload an idle model to make room" model=b`)

	// What would not help is not done.
	var refused *job.LoadError
	for range 100 {
		require.ErrorAs(t, e.Load(t.Context(), "large", nil), &refused)
		require.Equal(t, limit, refused.AvailableBytes)
		require.Greater(t, refused.NeededBytes, refused.AvailableBytes)
	}
	require.Equal(t, job.Ready, states()["a"])
	require.Equal(t, job.Ready, states()["c"])

	// A model at work stays, and its generation does not notice.
	e.opts.RingSize = 2
	busy, err := e.Start(ask("a"))
	require.NoError(t, err)
	require.Equal(t, want[0], readTokens(t, busy, 1)[0])
	require.NoError(t, e.Load(t.Context(), "b", nil))
	require.Equal(t, job.Unloaded, states()["c"])
	require.Equal(t, job.Ready, states()["a"])
	require.Equal(t, want[1:], consume(t, busy).ids)
	// What was unloaded comes back by itself.
	require.Len(t, generate(t, e, ask("c")).ids, 5)
}
