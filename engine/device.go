package engine

import (
	"context"
	"fmt"

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
	mlx.BindThread()
	d := e.device()
	e.prefixBytes = d.available / prefixShare
	_, err := mlx.SetCacheLimit(min(max(d.available/cacheShare, minCache), maxCache))
	return err
}

// device says what there is to load a model into. Engine thread only.
func (e *Engine) device() device {
	dev := mlx.DefaultStream().Device()
	d := device{gpu: dev.GPU, available: dev.Memory}
	if !dev.GPU || dev.Memory == 0 {
		d.available = hostMemory()
	} else {
		d.available -= mlx.ActiveMemory()
	}
	if e.opts.MemoryBytes > 0 {
		d.available = e.opts.MemoryBytes - mlx.ActiveMemory()
	}
	return d
}

// openMLX loads a model's weights. It is the production Engine.open.
func (e *Engine) openMLX(ctx context.Context, folder string, info job.Model,
	report func(job.Progress)) (Backend, error) {
	var d device
	err := e.thread.do(control, func() error {
		d = e.device()
		return nil
	})
	if err != nil {
		return nil, err
	}
	p, err := newPlan(weights.Dir(folder), d)
	if err != nil {
		return nil, err
	}
	defer p.close()
	if p.needed > d.available {
		return nil, &job.LoadError{Model: info.ID, NeededBytes: p.needed, AvailableBytes: d.available,
			Cause: fmt.Sprintf("needs %s of memory, %s are free", bytesText(p.needed), bytesText(d.available))}
	}
	l := &loading{plan: p, thread: e.thread, report: report}
	if err := l.run(ctx); err != nil {
		return nil, err
	}
	var b Backend
	err = e.thread.do(control, func() error {
		b = newMLXBackend(p.model, p.slots, Limits{
			ContextLength: info.ContextLength, Vocab: info.Vocab, StopIDs: info.StopIDs,
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
