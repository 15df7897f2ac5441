//go:build race

package rpc

// raceEnabled makes the longest loops shorter.
const raceEnabled = true
