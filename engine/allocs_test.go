//go:build !mlxdebug

package engine

import (
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest"
	"harmonyd/engine/job"
)

// TestDecodeWithMLXAllocatesNothing does not hold where every handle is tagged. A
// constant made in each step was seen to fail.
func TestDecodeWithMLXAllocatesNothing(t *testing.T) {
	e := tinyEngine(t, enginetest.Checkpoint{}, Options{})
	require.Zero(t, allocsPerToken(t, e, job.Sampling{}))
	require.Zero(t, allocsPerToken(t, e, job.Sampling{Temperature: 1, TopP: 0.9, TopK: 9, MinP: 0.01}))
	require.Zero(t, allocsPerToken(t, e, everyParameter))
}
