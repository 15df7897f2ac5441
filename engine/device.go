package engine

import (
	"context"
	"math"

	"harmonyd/engine/job"
	"harmonyd/engine/mlx"
	"harmonyd/engine/weights"
)

// cacheShare is the part of the memory that MLX may keep for reuse between
// steps; it is given back when a turn ends.
const (
	cacheShare = 16
	maxCache   = 1 << 30
	minCache   = 64 << 20
	// prefixShare is the part of the memory that the kept conversations of a
	// model may take.
	prefixShare = 8
)

// prepareDevice sets the limits that hold for the life of the process. Engine
// thread only.
func (e *Engine) prepareDevice() error {
	if err := checkMLX(mlx.Version()); err != nil {
		return err
	}
	mlx.BindThread()
	mlx.SetThreads(e.opts.Threads)
	d := e.device()
	e.prefixBytes = d.available / prefixShare
	_, err := mlx.SetCacheLimit(min(max(d.available/cacheShare, minCache), maxCache))
	return err
}

// device says what there is to load a model into. Engine thread only.
func (e *Engine) device() device {
	return device{gpu: mlx.DefaultStream().Device().GPU, weights: e.opts.Weights, available: e.available()}
}

// measure returns the bytes that may still be taken: of what Options allow, or
// else of what the device has. What MLX keeps for reuse counts as free. Engine
// thread only.
func (e *Engine) measure() int64 {
	dev := mlx.DefaultStream().Device()
	switch {
	case e.opts.MemoryBytes > 0:
		return e.opts.MemoryBytes - mlx.ActiveMemory()
	case dev.GPU && dev.Memory > 0:
		return dev.Memory - mlx.ActiveMemory()
	}
	return min(hostMemory(), math.MaxInt64/2) + mlx.CacheMemory() // it may be unknown, which is MaxInt64
}

// openMLX loads a model's weights. It is the production Engine.open.
func (e *Engine) openMLX(ctx context.Context, folder string, info job.Model,
	report func(job.Progress)) (Backend, error) {
	e.mu.Lock()
	m := e.entries[info.ID]
	e.mu.Unlock()
	var d device
	err := e.thread.do(control, func() error {
		d = e.device()
		d.available = e.obtainable(m)
		return nil
	})
	if err != nil {
		return nil, err
	}
	p, err := newPlan(e.folder(folder), d)
	if err != nil {
		return nil, err
	}
	defer p.close()
	l := &loading{plan: p, thread: e.thread, report: report}
	if err := e.thread.do(control, func() error { return e.admitLoad(l, m) }); err != nil {
		return nil, err
	}
	defer func() {
		_ = e.thread.do(control, func() error {
			delete(e.loads, l)
			return nil
		})
	}()
	if err := l.run(ctx); err != nil {
		return nil, err
	}
	var b Backend
	err = e.thread.do(control, func() error {
		b = newMLXBackend(p, Limits{
			ContextLength: info.ContextLength, Vocab: info.Vocab, StopIDs: info.StopIDs, Pieces: p.pieces(),
		})
		if d.gpu {
			// Only Metal acts on it. Caches stay out: wiring memory that grows has
			// brought whole machines down.
			_, err := mlx.SetWiredLimit(mlx.ActiveMemory())
			return err
		}
		return nil
	})
	if err != nil {
		_ = e.thread.do(control, func() error {
			b.Close()
			return nil
		})
		return nil, err
	}
	return b, nil
}

// bytesText writes a size for people as the terminal does, such as "92.9 MB".
func bytesText(n int64) string { return weights.SizeText(n) }
