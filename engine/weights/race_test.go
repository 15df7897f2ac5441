//go:build race

package weights

// allowance is what reading a file may allocate, in sizes of the file. The race
// detector keeps the compiler from looking up a map with bytes without a copy.
const allowance = 5
