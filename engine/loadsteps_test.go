package engine

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest"
	"harmonyd/engine/job"
	"harmonyd/engine/mlx"
)

// watched is a backend whose sequences call before and after around each decode
// step.
type watched struct {
	Backend
	before, after func()
}

type watchedSequence struct {
	Sequence
	b watched
}

func (b watched) NewSequence() (Sequence, error) {
	q, err := b.Backend.NewSequence()
	return watchedSequence{q, b}, err
}

func (q watchedSequence) Fork(n int) Sequence {
	f := q.Sequence.Fork(n)
	if f == nil {
		return nil
	}
	return watchedSequence{f, q.b}
}

func (q watchedSequence) Dispatch() error {
	q.b.before()
	defer q.b.after()
	return q.Sequence.Dispatch()
}

// TestLoadGoesBetweenSteps loads a model of many tensors while another one
// decodes. At most one tensor is handed over between two steps, all of them come
// through while the generation runs, and its tokens are what they are alone.
//
// Planted break: a boundary that runs all pieces there are.
func TestLoadGoesBetweenSteps(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, enginetest.Checkpoint{Layers: 1, Context: 1 << 14}.Write(filepath.Join(root, "a")))
	require.NoError(t, enginetest.Checkpoint{Layers: 12}.Write(filepath.Join(root, "b")))
	e := newTestEngine(t, Options{Root: root})

	// A tensor that is handed over makes live arrays, which nothing else does
	// between two steps of the only generation. Where as many gaps between steps
	// saw that as there are tensors, no gap saw two.
	live, gaps := 0, 0
	e.open = func(ctx context.Context, folder string, m job.Model, report func(job.Progress)) (Backend, error) {
		b, err := e.openMLX(ctx, folder, m, report)
		if m.ID == "a" && err == nil {
			b = watched{b, func() {
				if live > 0 && mlx.Live() > live {
					gaps++
				}
			}, func() { live = mlx.Live() }}
		}
		return b, err
	}
	req := job.Request{Model: "a", Prompt: pseudoPrompt(5, 96), MaxTokens: 2000, Priority: job.Interactive}
	want := generate(t, e, req).ids
	require.Zero(t, gaps)

	live = 0
	g, err := e.Start(req)
	require.NoError(t, err)
	ids := readTokens(t, g, 1)
	require.NoError(t, e.Load(t.Context(), "b", nil))
	during := 0
	require.NoError(t, e.thread.do(control, func() error {
		during = g.count
		return nil
	}))
	require.Less(t, during, len(want), "the load ended first")
	tensors := 0
	require.NoError(t, e.thread.do(control, func() error {
		m, _ := e.known("b")
		tensors = len(m.backend.(*mlxBackend).slots)
		return nil
	}))
	require.Equal(t, want, append(ids, consume(t, g).ids...))
	require.Greater(t, tensors, 100)
	require.Equal(t, tensors, gaps, "steps of the other model with a tensor before them")
	require.Greater(t, during, tensors)
}
