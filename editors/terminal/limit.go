package terminal

import (
	"fmt"
	"strconv"
	"strings"

	"harmonyd/schema"
)

// limitFlag is the flag that sets one limit of the server's.
type limitFlag struct{ limits *schema.Limits }

// String implements pflag.Value.
func (limitFlag) String() string { return "" }

// Set implements pflag.Value.
func (f limitFlag) Set(text string) error {
	name, number, found := strings.Cut(text, "=")
	value, err := strconv.ParseInt(number, 10, 64)
	if !found || err != nil {
		return fmt.Errorf("got %q, want NAME=NUMBER", text)
	}
	return f.limits.Set(name, value)
}

// Type implements pflag.Value.
func (limitFlag) Type() string { return "limit" }
