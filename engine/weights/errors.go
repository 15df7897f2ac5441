package weights

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// A FormatError reports a file that breaks the rules of its format. Callers
// tell it from an I/O error with errors.As: reading again does not help.
type FormatError struct {
	File   string // base name of the file
	Tensor string // tensor at fault, or ""
	Field  string // header or JSON field at fault, or ""
	Reason string // what is wrong, with the numbers
}

// Error joins the parts that are present: file, tensor, field, reason.
func (e *FormatError) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Tensor != "" {
		b.WriteString(": tensor " + quote(e.Tensor))
	}
	if e.Field != "" {
		b.WriteString(": " + e.Field)
	}
	b.WriteString(": " + e.Reason)
	return b.String()
}

// quote makes text from a file fit for a message: escaped, and cut short
// because such text may be as long as the file.
func quote(s string) string {
	const most = 120
	if len(s) <= most {
		return fmt.Sprintf("%q", s)
	}
	cut := most
	for cut > most-utf8.UTFMax && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return fmt.Sprintf("%q… (%d bytes)", s[:cut], len(s))
}
