package rpc

import (
	"context"
	"slices"
	"sync"
)

// line keeps requests in the order in which they came where that matters: each
// waits on its own goroutine until all before it have passed. The reader joins
// on their behalf and never waits.
type line struct {
	mu    sync.Mutex
	turns []*turn // those that have not passed, in order; the first one has come
}

// turn is a request's place in a line.
type turn struct {
	line *line
	came chan struct{} // closed when nobody is before it any more
}

// join takes the last place.
func (l *line) join() *turn {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &turn{line: l, came: make(chan struct{})}
	if l.turns = append(l.turns, t); len(l.turns) == 1 {
		close(t.came)
	}
	return t
}

// isFirst says whether nobody is before it any more.
func (t *turn) isFirst() bool {
	select {
	case <-t.came:
		return true
	default:
		return false
	}
}

// empty says whether nobody stands in line.
func (l *line) empty() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.turns) == 0
}

// wait returns when the turn has come, or with ctx's error when that ends first.
func (t *turn) wait(ctx context.Context) error {
	if t.isFirst() {
		return nil
	}
	select {
	case <-t.came:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pass gives the place up, also before the turn has come. It may be called
// again, from any goroutine.
func (t *turn) pass() {
	l := t.line
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.turns, t)
	if i < 0 {
		return
	}
	if l.turns = slices.Delete(l.turns, i, i+1); i == 0 && len(l.turns) > 0 {
		close(l.turns[0].came)
	}
}

// inTurn is fn once the turn has come.
func inTurn[R any](t *turn, fn func(context.Context) (R, error)) func(context.Context) (R, error) {
	return func(ctx context.Context) (result R, err error) {
		if err := t.wait(ctx); err != nil {
			return result, err
		}
		return fn(ctx)
	}
}
