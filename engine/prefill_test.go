package engine

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest"
	"harmonyd/engine/job"
)

// TestCancelBetweenPieces ends a turn between any two pieces of its prompt. The
// chunks before stay in the prefix cache, and the next turn is as if nothing had been.
func TestCancelBetweenPieces(t *testing.T) {
	b := newBench(t, Options{})
	b.backend.Pieces = 3
	prompt := pseudoPrompt(200, 96) // a chunk of 64 and one of 136
	want := generate(t, b.Engine, request(prompt, 9)).ids
	for k := range 6 {
		require.NoError(t, b.Unload(t.Context(), "tiny"))
		m, _ := b.known("tiny")
		m.pace = pace{}
		o, seen := b.cancelAt(t, k, b.starting(t, request(prompt, 9)), func(step string) bool { return step == "Proceed" })
		require.Equal(t, job.StopCancelled, o.result.Reason, "cancel at piece %d", k)
		require.Equal(t, k+1, seen, "pieces after the cancel")
		again := generate(t, b.Engine, request(prompt, 9))
		require.Equal(t, want, again.ids, "after a cancel at piece %d", k)
		kept := []int{0, 0, 64, 64, 64, 199}[k]
		require.Equal(t, kept, again.result.Usage.CachedTokens, "chunks before piece %d", k)
	}
}

// TestOthersRunBetweenPieces starts a more urgent turn in the middle of a chunk.
func TestOthersRunBetweenPieces(t *testing.T) {
	for k := range 6 {
		b := newBench(t, Options{})
		prompt, urgent := pseudoPrompt(100, 96), pseudoPrompt(7, 96)
		want, wantUrgent := generate(t, b.Engine, request(prompt, 5)).ids, generate(t, b.Engine, request(urgent, 5)).ids
		require.NoError(t, b.Unload(t.Context(), "tiny"))
		b.backend.Pieces = 6
		others := make(chan *Generation, 1)
		at, seen := -1, 0
		b.intercept(func(step string, n int) error {
			if step != "Proceed" {
				return nil
			}
			if seen == k {
				at = n
				g, err := b.Start(request(urgent, 5))
				require.NoError(t, err)
				others <- g
			}
			seen++
			return nil
		})
		req := request(prompt, 5)
		req.Priority = job.Background
		g, err := b.Start(req)
		require.NoError(t, err)
		o := consume(t, <-others)
		require.NoError(t, o.err)
		require.Equal(t, wantUrgent, o.ids)
		require.Equal(t, want, consume(t, g).ids)
		// The urgent turn is done before another piece of the other one, but for the
		// pieces of its own.
		log := b.steps()[at+1:]
		require.Equal(t, "NewSequence", log[0], "the step after piece %d", k)
	}
}

// TestLeavingAChunkHalfWay sets a sequence back at every layer of a chunk. What comes
// then is what would have come without the chunk.
func TestLeavingAChunkHalfWay(t *testing.T) {
	eachCache(t, testLeaving)
}

func testLeaving(t *testing.T, c enginetest.Checkpoint) {
	root := t.TempDir()
	require.NoError(t, c.Write(root))
	m := loadFolder(t, newTestEngine(t, Options{}), root, math.MaxInt64)
	m.do(t, func(t must) error {
		start := func(tokens []int32) Sequence {
			q, err := m.NewSequence()
			require.NoError(t, err)
			require.NoError(t, q.SetSampling(job.Sampling{}, 0, nil))
			require.NoError(t, q.Prefill(tokens))
			return q
		}
		next := func(q Sequence, tokens ...int32) []int32 {
			require.NoError(t, q.Extend(tokens))
			ids := make([]int32, 6)
			for i := range ids {
				var err error
				ids[i], err = q.Read()
				require.NoError(t, err)
				require.NoError(t, q.Dispatch())
			}
			return ids
		}
		// Longer than a page of a sliding cache, which the chunk leaves.
		begin, chunk := pseudoPrompt(300, 96), pseudoPrompt(400, 96)
		plain := start(begin)
		want := next(plain, 5, 6, 7)
		plain.Close()
		pieces := m.limits.Pieces
		require.Greater(t, pieces, 2)
		for done := range pieces {
			for _, feed := range []func(Sequence, []int32) error{Sequence.Prefill, Sequence.Extend} {
				q := start(begin)
				require.NoError(t, feed(q, chunk))
				for i := range done {
					left, err := q.Proceed(1)
					require.NoError(t, err)
					// Prefill has no scores to compute at the end.
					require.InDelta(t, float64(pieces-i)-1.5, left, 0.5)
				}
				require.True(t, q.SetBack(len(chunk)))
				require.Equal(t, want, next(q, 5, 6, 7), "after %d pieces", done)
				q.Close()
			}
		}
		return nil
	})
}
