package engine

import (
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/job"
)

func TestThreadOrdersItsLanes(t *testing.T) {
	th := newThread()
	var order []string
	steps := 0
	note := func(s string) func() { return func() { order = append(order, s) } }
	th.post(pieces, note("piece 1"))
	th.post(pieces, note("piece 2"))
	th.post(control, note("control 1"))
	th.post(control, func() {
		order = append(order, "control 2")
		th.post(control, note("control 3"))
	})
	idle := make(chan struct{})
	go th.run(func() bool {
		if steps++; steps == 4 {
			close(idle)
		}
		order = append(order, "step")
		return steps < 4
	}, note("last"))
	<-idle
	th.close()
	require.Equal(t, []string{
		"control 1", "control 2", "control 3", "piece 1", "step", "piece 2",
	}, order[:6], "one piece at a step boundary, all control jobs before it")
	require.Equal(t, "last", order[len(order)-1])
	require.False(t, th.post(control, note("late")))
	require.ErrorIs(t, th.do(control, func() error { return nil }), job.ErrClosed)
}

func TestThreadOutlivesAPanic(t *testing.T) {
	th := newThread()
	go th.run(func() bool { return false }, func() {})
	defer th.close()
	var failed *job.EngineError
	require.ErrorAs(t, th.do(control, func() error { panic("planted") }), &failed)
	require.Contains(t, failed.Cause, "planted")
	require.Contains(t, failed.Cause, "TestThreadOutlivesAPanic", "says where")
	planted := errors.New("planted")
	require.ErrorIs(t, th.do(pieces, func() error { return planted }), planted)
}

func TestThreadServesManyCallers(t *testing.T) {
	th := newThread()
	go th.run(func() bool { return false }, func() {})
	n := 0 // the thread's own
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			for range 100 {
				if err := th.do(lane(i%2), func() error { n++; return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	th.close()
	require.Equal(t, 6400, n)
}
