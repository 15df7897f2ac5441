package engine

import (
	"context"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/job"
)

// TestRingLosesNothing has a producer and a consumer race over small rings.
func TestRingLosesNothing(t *testing.T) {
	for size := 1; size < 20; size++ {
		const n = 5000
		resumed := make(chan struct{}, 1)
		r := newRing(size, func() {
			select {
			case resumed <- struct{}{}:
			default:
			}
		})
		go func() {
			for i := range int32(n) {
				for !r.room() {
					<-resumed
				}
				r.push(job.Event{Kind: job.Token, ID: i})
			}
			r.push(job.Event{Kind: job.Done}) // needs no room
		}()
		buf := make([]job.Event, 3)
		next := int32(0)
		for {
			k, err := r.next(t.Context(), buf)
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			require.Positive(t, k)
			for _, ev := range buf[:k] {
				if ev.Kind == job.Token {
					require.Equal(t, next, ev.ID)
					next++
				}
			}
		}
		require.EqualValues(t, n, next)
	}
}

func TestRingKeepsASlotForDone(t *testing.T) {
	r := newRing(4, func() {})
	for range 3 {
		require.True(t, r.room())
		r.push(job.Event{Kind: job.Token})
	}
	require.False(t, r.room())
	r.offer(job.Event{Kind: job.Prefill})
	r.push(job.Event{Kind: job.Done})
	buf := make([]job.Event, 8)
	n, err := r.next(t.Context(), buf)
	require.NoError(t, err)
	require.Equal(t, 4, n, "what was offered to a full ring is lost")
	require.Equal(t, job.Done, buf[3].Kind)
	_, err = r.next(t.Context(), buf)
	require.ErrorIs(t, err, io.EOF)
}

func TestRingWaitEndsWithItsContext(t *testing.T) {
	r := newRing(4, func() {})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := r.next(ctx, make([]job.Event, 1))
	require.ErrorIs(t, err, context.Canceled)
	n, err := r.next(ctx, nil)
	require.NoError(t, err)
	require.Zero(t, n, "no room in dst")
}

func TestRingPushAllocatesNothing(t *testing.T) {
	r := newRing(64, func() {})
	buf := make([]job.Event, 8)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		r.push(job.Event{Kind: job.Token})
		_, _ = r.next(t.Context(), buf)
	}))
}
