package rpc

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/schema"
)

// TestFindKeepsTheOrder: what is cancelled together is found in the order in which it
// came, also where all of it came at the same time. In another order a turn begins
// because the one before it was cancelled first.
func TestFindKeepsTheOrder(t *testing.T) {
	c := &conn{generations: map[string]*request{}}
	for i := range int64(100) {
		id := fmt.Sprint(i)
		c.generations[id] = &request{number: i, generation: newGeneration(id, nil, schema.StreamPolicy{})}
	}
	for i, g := range c.find(func(*request) bool { return true }) {
		require.EqualValues(t, i, g.number)
	}
}
