package terminal

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
)

// NewLog returns a log that writes to w in the form and at the level of o.
func NewLog(w io.Writer, o Options) *slog.Logger {
	handler := &slog.HandlerOptions{Level: o.level}
	if o.format == "json" {
		return slog.New(slog.NewJSONHandler(w, handler))
	}
	return slog.New(slog.NewTextHandler(w, handler))
}

// DroppedNote makes the record of a log of o that says how many of its lines were
// dropped.
func DroppedNote(o Options) func(lines int) []byte {
	return func(lines int) []byte {
		var b bytes.Buffer
		NewLog(&b, o).Error("log lines dropped: nobody read them, or they could not be written", "lines", lines)
		return b.Bytes()
	}
}

// formatFlag is the flag for the form of the log.
type formatFlag struct{ format *string }

// String implements pflag.Value.
func (f formatFlag) String() string {
	if f.format == nil {
		return ""
	}
	return *f.format
}

// Set implements pflag.Value.
func (f formatFlag) Set(text string) error {
	if text != "text" && text != "json" {
		return fmt.Errorf("got %q, want text or json", text)
	}
	*f.format = text
	return nil
}

// Type implements pflag.Value.
func (f formatFlag) Type() string { return "form" }

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
