package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"harmonyd/engine/job"
	"harmonyd/engine/mlx"
	"harmonyd/engine/nn"
	"harmonyd/engine/weights"
)

// loadWorkers is how many tensors are read and converted at a time. Each holds
// the memory of one tensor besides the weights themselves, which is what bounds
// the peak of a load.
const loadWorkers = 2

// loading is the work of one load. Reading and converting happen on goroutines;
// the engine thread only takes over finished memory, one tensor at a step
// boundary.
type loading struct {
	*plan
	thread *thread
	report func(job.Progress)

	taken atomic.Int64 // bytes allocated so far
	next  atomic.Int64 // index of the next slot to take
	mu    sync.Mutex
	read  int64
	wait  sync.WaitGroup
	first error
	stop  context.CancelCauseFunc
}

// run fills all slots or frees those it filled. It may be called from any
// goroutine but the engine thread.
func (l *loading) run(ctx context.Context) error {
	ctx, l.stop = context.WithCancelCause(ctx)
	defer l.stop(nil)
	// The largest first: the last ones are then small, and the workers end at
	// about the same time.
	slices.SortStableFunc(l.slots, func(a, b nn.Slot) int {
		return cmp.Compare(l.slotBytes(&b), l.slotBytes(&a))
	})
	for range loadWorkers {
		l.wait.Go(func() {
			if err := l.work(ctx); err != nil {
				l.stop(err)
			}
		})
	}
	l.wait.Wait()
	err := context.Cause(ctx)
	if err == nil {
		return nil
	}
	// The thread frees what it took over. Where it is closed it has done so.
	_ = l.thread.do(pieces, func() error {
		for i := range l.slots {
			l.slots[i].Free()
		}
		mlx.ClearCache()
		return nil
	})
	return err
}

// work takes slots until there are none left.
func (l *loading) work(ctx context.Context) error {
	var staging *mlx.Buffer
	defer func() {
		if staging != nil {
			staging.Free()
		}
	}()
	for ctx.Err() == nil {
		i := int(l.next.Add(1)) - 1
		if i >= len(l.slots) {
			return nil
		}
		sl := &l.slots[i]
		if need := l.stagingBytes(sl); need > 0 && staging == nil {
			// Sized for the largest that is still to come, so it is made once.
			for j := i; j < len(l.slots); j++ {
				need = max(need, l.stagingBytes(&l.slots[j]))
			}
			var err error
			if staging, err = mlx.NewBuffer(int(need)); err != nil {
				return fmt.Errorf("%s: %w", sl.Name(), err)
			}
		}
		if err := l.fill(sl, staging); err != nil {
			return err
		}
	}
	return nil
}

// fill brings one slot's array to the device.
func (l *loading) fill(sl *nn.Slot, staging *mlx.Buffer) error {
	buf, err := mlx.NewBuffer(int(l.slotBytes(sl)))
	if err != nil {
		return fmt.Errorf("%s: %w", sl.Name(), err)
	}
	defer buf.Free() // nothing once it was handed over
	l.taken.Add(l.slotBytes(sl))
	read, err := l.convert(sl, buf.Bytes(), staging)
	if err != nil {
		return err
	}
	err = l.thread.do(pieces, func() error {
		s := mlx.NewScope(mlx.Stream{})
		defer s.Close()
		a := buf.Array(s, l.target(sl), sl.Shape...)
		if err := s.Err(); err != nil {
			return err
		}
		return sl.Set(s, a)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", sl.Name(), err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.read += read
	l.report(job.Progress{Done: min(l.read, l.files.Bytes()), Total: l.files.Bytes()})
	return nil
}

// convert reads a slot's tensors and writes its array to dst. It returns how many
// bytes of the files that were.
func (l *loading) convert(sl *nn.Slot, dst []byte, staging *mlx.Buffer) (int64, error) {
	switch {
	case sl.Values != nil:
		for i, v := range sl.Values {
			putF32(dst, i, v)
		}
		return 0, nil
	case sl.Packing.Bits > 0:
		var parts [len(packedLeaves)][]byte
		var t weights.Tensor
		var read int64
		rest := staging.Bytes()
		for i, leaf := range packedLeaves {
			t, _ = l.files.Tensor(sl.Path + "." + leaf)
			parts[i], rest = rest[:t.Bytes], rest[t.Bytes:]
			if err := l.files.ReadTensor(t, parts[i]); err != nil {
				return 0, err
			}
			read += t.Bytes
		}
		unpackAffine(dst, parts[0], parts[1], parts[2], sl.Dtype, sl.Packing.GroupSize, sl.Packing.Bits)
		return read, nil
	}
	t, _ := l.files.Tensor(sl.Name())
	if l.target(sl) == sl.Dtype {
		return t.Bytes, l.files.ReadTensor(t, dst)
	}
	raw := staging.Bytes()[:t.Bytes]
	if err := l.files.ReadTensor(t, raw); err != nil {
		return 0, err
	}
	return t.Bytes, convertFloats(dst, l.target(sl), raw, sl.Dtype)
}
