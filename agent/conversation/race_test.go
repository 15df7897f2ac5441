//go:build race

package conversation

// raceEnabled makes the longest loops shorter.
const raceEnabled = true
