package terminal

import (
	"fmt"
	"io"
	"log/slog"
)

// NewLog returns a log that writes text to w at the level of o.
func NewLog(w io.Writer, o Options) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: o.level}))
}

// levelFlag is the flag for a log level.
type levelFlag struct{ level *slog.Level }

// String implements pflag.Value.
func (f levelFlag) String() string {
	if f.level == nil {
		return ""
	}
	return f.level.String()
}

// Set implements pflag.Value.
func (f levelFlag) Set(text string) error {
	if err := f.level.UnmarshalText([]byte(text)); err != nil {
		return fmt.Errorf("got %q, want debug, info, warn or error", text)
	}
	return nil
}

// Type implements pflag.Value.
func (f levelFlag) Type() string { return "level" }
