package engine

import (
	"slices"
	"sync"

	"harmonyd/engine/job"
)

// scheduler decides which generation owns the next step. One runs at a time:
// the first interactive one in order of arrival, or else the first background
// one. Whoever has to wait, for its model or for its consumer, lets the next one
// run, and keeps its place.
type scheduler struct {
	mu    sync.Mutex
	lanes [2][]*Generation // by priority, in order of arrival
}

// add queues g. It reports whether others are there already.
func (s *scheduler) add(g *Generation) (behind bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	behind = len(s.lanes[job.Interactive])+len(s.lanes[job.Background]) > 0
	p := g.req.Priority
	s.lanes[p] = append(s.lanes[p], g)
	return behind
}

// remove forgets g.
func (s *scheduler) remove(g *Generation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := g.req.Priority
	if i := slices.Index(s.lanes[p], g); i >= 0 {
		s.lanes[p] = slices.Delete(s.lanes[p], i, i+1)
	}
}

// pick returns the generation that owns the next step, nil where none can run.
// Engine thread only.
func (s *scheduler) pick() *Generation {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := len(s.lanes) - 1; p >= 0; p-- {
		for _, g := range s.lanes[p] {
			if g.runnable() {
				return g
			}
		}
	}
	return nil
}

// runnable reports whether a step of g would do anything. A generation that is
// to end always can.
func (g *Generation) runnable() bool {
	return g.stopped() || g.phase != waiting && !g.blocked && g.ring.room()
}

// all returns every generation, for unloading and closing.
func (s *scheduler) all() []*Generation {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Concat(s.lanes[job.Interactive], s.lanes[job.Background])
}
