package engine

import (
	"context"
	"runtime"
	"testing"

	"harmonyd/engine/job"
)

// BenchmarkRing is what the engine's thread spends on handing a token over. While a
// client reads, and where none wants the text, the turn empties the ring all the
// time; a client that has stopped reading for good comes to this thread as a ring
// without room, which it sees once a step.
func BenchmarkRing(b *testing.B) {
	b.Run("emptied", func(b *testing.B) {
		r := newRing(1<<12, func() {})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			events := make([]job.Event, 64)
			for {
				if _, err := r.next(ctx, events); err != nil {
					return
				}
			}
		}()
		b.ReportAllocs()
		for b.Loop() {
			for !r.room() { // the turn is behind, as it never is in a step of milliseconds
				runtime.Gosched()
			}
			r.push(job.Event{Kind: job.Token, ID: 1})
		}
		cancel()
		<-done
	})
	b.Run("full", func(b *testing.B) {
		r := newRing(4, func() {})
		for r.room() {
			r.push(job.Event{Kind: job.Token})
		}
		b.ReportAllocs()
		for b.Loop() {
			if r.room() {
				b.Fatal("nobody took an event")
			}
		}
	})
}
