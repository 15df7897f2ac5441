package engine

import (
	"context"
	"errors"
	"io"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest"
	"harmonyd/engine/job"
)

// scripted gives the backend of package enginetest the engine's types.
type scripted struct{ *enginetest.Backend }

func (b scripted) Limits() Limits {
	return Limits{ContextLength: b.Context, Vocab: b.Vocab, StopIDs: b.EOS, Pieces: max(b.Pieces, 1)}
}

func (b scripted) NewSequence() (Sequence, error) {
	q, err := b.Backend.NewSequence()
	if err != nil {
		return nil, err
	}
	return scriptedSequence{q}, nil
}

type scriptedSequence struct{ *enginetest.Sequence }

func (q scriptedSequence) Fork(n int) Sequence {
	f := q.Sequence.Fork(n)
	if f == nil {
		return nil
	}
	return scriptedSequence{f}
}

// bench is an engine over a scripted backend, and the log of its steps.
type bench struct {
	*Engine
	backend *enginetest.Backend

	mu   sync.Mutex
	log  []string
	hook func(step string, n int) error // n is the index in the log
}

// newBench returns an engine with one model, "tiny", of 96 tokens. When the test
// ends every sequence must have been closed, once.
func newBench(t *testing.T, o Options) *bench {
	t.Helper()
	o.Root = t.TempDir()
	require.NoError(t, enginetest.Checkpoint{Context: 512}.Write(filepath.Join(o.Root, "tiny")))
	b := &bench{Engine: newEngine(o), backend: &enginetest.Backend{Vocab: 96, Context: 512}}
	b.prefixBytes = 1 << 30
	b.available = func() int64 { return math.MaxInt64 / 2 }
	b.backend.Before = b.before
	b.open = func(context.Context, string, job.Model, func(job.Progress)) (Backend, error) {
		return scripted{b.backend}, nil
	}
	t.Cleanup(func() {
		require.NoError(t, b.Close())
		require.Equal(t, b.backend.Sequences, b.backend.Closed, "open sequences")
		require.Equal(t, b.backend.Sequences > 0, b.backend.Released)
	})
	return b
}

func (b *bench) before(step string) error {
	b.mu.Lock()
	b.log = append(b.log, step)
	hook, n := b.hook, len(b.log)-1
	b.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(step, n)
}

// intercept empties the log and installs a hook.
func (b *bench) intercept(hook func(step string, n int) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.log, b.hook = nil, hook
}

// cancelAt consumes a generation that is cancelled at the kth of the steps that count. It
// returns how many of these there were.
func (b *bench) cancelAt(t *testing.T, k int, start func() *Generation, counts func(step string) bool) (o outcome, seen int) {
	t.Helper()
	var g *Generation
	started := make(chan struct{})
	b.intercept(func(step string, _ int) error {
		if counts(step) {
			<-started
			if seen == k {
				g.Cancel()
			}
			seen++
		}
		return nil
	})
	g = start()
	close(started)
	o = consume(t, g)
	b.intercept(nil)
	require.NoError(t, o.err)
	return o, seen
}

// starting is start for cancelAt.
func (b *bench) starting(t *testing.T, req job.Request) func() *Generation {
	return func() *Generation {
		g, err := b.Start(req)
		require.NoError(t, err)
		return g
	}
}

func (b *bench) steps() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.log)
}

func count(log []string, step string) (n int) {
	for _, s := range log {
		if s == step {
			n++
		}
	}
	return n
}

func request(prompt []int32, maxTokens int) job.Request {
	return job.Request{Prompt: prompt, MaxTokens: maxTokens, Priority: job.Interactive}
}

// outcome is all that a consumer gets of a generation.
type outcome struct {
	ids    []int32
	kinds  []job.EventKind
	result job.Result
	err    error
}

func consume(t *testing.T, g *Generation) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // a hang guard
	defer cancel()
	var o outcome
	buf := make([]job.Event, 16)
	for {
		n, err := g.Next(ctx, buf)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		for _, ev := range buf[:n] {
			o.kinds = append(o.kinds, ev.Kind)
			if ev.Kind == job.Token {
				o.ids = append(o.ids, ev.ID)
			}
		}
	}
	o.result, o.err = g.Wait()
	return o
}

func generate(t *testing.T, e *Engine, req job.Request) outcome {
	t.Helper()
	g, err := e.Start(req)
	require.NoError(t, err)
	return consume(t, g)
}

// readTokens reads events until n tokens have come.
func readTokens(t *testing.T, g *Generation, n int) []int32 {
	t.Helper()
	var ids []int32
	buf := make([]job.Event, 1)
	for len(ids) < n {
		_, err := g.Next(t.Context(), buf)
		require.NoError(t, err)
		if buf[0].Kind == job.Token {
			ids = append(ids, buf[0].ID)
		}
	}
	return ids
}
