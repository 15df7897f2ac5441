package native

import (
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEmptyResultsOnStacksThatMove takes empty results of Rust on stacks that the
// collector shrinks, which it may do just when one has come. Rust's own address of
// an empty list is 1, which Go takes for a broken pointer and dies of.
func TestEmptyResultsOnStacksThatMove(t *testing.T) {
	tokenizer := load(t, byteLevelJSON(t))
	end, ok := tokenizer.ID("<|endoftext|>")
	require.True(t, ok)
	var done atomic.Bool
	collected := make(chan bool)
	go func() {
		for !done.Load() {
			runtime.GC()
		}
		close(collected)
	}()
	var deep func(n int) int
	deep = func(n int) int {
		if n == 0 {
			return 0
		}
		return deep(n-1) + 1
	}
	for range 400 {
		finished := make(chan error)
		go func() {
			deep(2000) // what the collector may take away again
			for range 400 {
				text, err := tokenizer.Decode([]int32{end}, true)
				if err != nil || text != "" {
					finished <- err
					return
				}
			}
			finished <- nil
		}()
		require.NoError(t, <-finished)
	}
	done.Store(true)
	<-collected
}
