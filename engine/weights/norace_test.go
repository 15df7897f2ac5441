//go:build !race

package weights

// allowance is what reading a file may allocate, in sizes of the file.
const allowance = 4
