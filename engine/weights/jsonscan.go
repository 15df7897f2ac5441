package weights

import (
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// A jsonScanner reads strict RFC 8259 JSON from memory. encoding/json is not
// used on model files because it keeps the last of duplicate keys, matches
// keys without regard to case and turns broken UTF-8 and lone surrogates into
// U+FFFD, so that two readers of one file could see two different models.
type jsonScanner struct {
	b   []byte
	pos int
}

// A jsonError is a syntax error at a byte of the text.
type jsonError struct {
	pos    int
	reason string
}

func (e *jsonError) Error() string { return fmt.Sprintf("byte %d: %s", e.pos, e.reason) }

func (s *jsonScanner) errorf(format string, args ...any) error {
	return &jsonError{s.pos, fmt.Sprintf(format, args...)}
}

// peek skips white space and returns the next byte, or 0 at the end.
func (s *jsonScanner) peek() byte {
	for s.pos < len(s.b) {
		switch s.b[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return s.b[s.pos]
		}
	}
	return 0
}

// expect consumes the byte c.
func (s *jsonScanner) expect(c byte) error {
	if s.peek() != c {
		return s.errorf("%s, want %q", s.found(), c)
	}
	s.pos++
	return nil
}

// found describes the next byte for a message.
func (s *jsonScanner) found() string {
	if s.pos >= len(s.b) {
		return "end of JSON"
	}
	return fmt.Sprintf("found %q", s.b[s.pos])
}

// end reports anything but white space after the value.
func (s *jsonScanner) end() error {
	s.peek()
	if s.pos < len(s.b) {
		return s.errorf("%s after the end of the JSON value", s.found())
	}
	return nil
}

// object calls member for each key, positioned at its value, which member
// must consume. Duplicates are the caller's to refuse.
func (s *jsonScanner) object(member func(key string) error) error {
	if err := s.expect('{'); err != nil {
		return err
	}
	if s.peek() == '}' {
		s.pos++
		return nil
	}
	for {
		if s.peek() != '"' {
			return s.errorf("%s, want a key", s.found())
		}
		key, err := s.str()
		if err != nil {
			return err
		}
		if err := s.expect(':'); err != nil {
			return err
		}
		if err := member(key); err != nil {
			return err
		}
		if s.peek() == ',' {
			s.pos++
			continue
		}
		return s.expect('}')
	}
}

// array calls element for each element, which it must consume.
func (s *jsonScanner) array(element func() error) error {
	if err := s.expect('['); err != nil {
		return err
	}
	if s.peek() == ']' {
		s.pos++
		return nil
	}
	for {
		if err := element(); err != nil {
			return err
		}
		if s.peek() == ',' {
			s.pos++
			continue
		}
		return s.expect(']')
	}
}

// natural reads a non-negative integer that fits an int64: digits only, so
// that 1.0, 1e3 and -0 are refused as the Rust crate refuses them.
func (s *jsonScanner) natural() (int64, error) {
	s.peek()
	start := s.pos
	for s.pos < len(s.b) && s.b[s.pos] >= '0' && s.b[s.pos] <= '9' {
		s.pos++
	}
	digits := s.b[start:s.pos]
	if len(digits) == 0 {
		return 0, s.errorf("%s, want a non-negative integer", s.found())
	}
	if digits[0] == '0' && len(digits) > 1 {
		return 0, s.errorf("number has a leading zero")
	}
	if s.pos < len(s.b) {
		switch s.b[s.pos] {
		case '.', 'e', 'E':
			return 0, s.errorf("number is not an integer")
		}
	}
	n, err := strconv.ParseInt(string(digits), 10, 64)
	if err != nil {
		return 0, s.errorf("number %s is out of range", quote(string(digits)))
	}
	return n, nil
}

// str reads a string whose quote is the next byte. Raw control bytes, broken
// UTF-8, unknown escapes and lone surrogates are refused.
func (s *jsonScanner) str() (string, error) {
	s.pos++
	start := s.pos
	for s.pos < len(s.b) {
		switch c := s.b[s.pos]; {
		case c == '"':
			text := s.b[start:s.pos]
			if !utf8.Valid(text) {
				return "", s.errorf("string is not valid UTF-8")
			}
			s.pos++
			return string(text), nil
		case c == '\\':
			return s.escaped(start)
		case c < 0x20:
			return "", s.errorf("control byte %#02x in a string", c)
		}
		s.pos++
	}
	return "", s.errorf("end of JSON in a string")
}

// escaped finishes a string whose plain part starts at start and whose first
// backslash is the next byte.
func (s *jsonScanner) escaped(start int) (string, error) {
	end := s.pos // the text is no longer than its source
	for end < len(s.b) && s.b[end] != '"' {
		if s.b[end] == '\\' {
			end++
		}
		end++
	}
	out := append(make([]byte, 0, end-start), s.b[start:s.pos]...)
	for s.pos < len(s.b) {
		switch c := s.b[s.pos]; {
		case c == '"':
			if !utf8.Valid(out) {
				return "", s.errorf("string is not valid UTF-8")
			}
			s.pos++
			return string(out), nil
		case c == '\\':
			r, err := s.escape()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, r)
		case c < 0x20:
			return "", s.errorf("control byte %#02x in a string", c)
		default:
			out = append(out, c)
			s.pos++
		}
	}
	return "", s.errorf("end of JSON in a string")
}

// escape reads one escape sequence, or the two of a surrogate pair.
func (s *jsonScanner) escape() (rune, error) {
	s.pos++ // the backslash
	if s.pos >= len(s.b) {
		return 0, s.errorf("end of JSON in an escape")
	}
	c := s.b[s.pos]
	if c != 'u' {
		const from, to = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
		for i := range len(from) {
			if c == from[i] {
				s.pos++
				return rune(to[i]), nil
			}
		}
		return 0, s.errorf("unknown escape %q", c)
	}
	r, err := s.hex4()
	if err != nil || !utf16.IsSurrogate(r) {
		return r, err
	}
	if s.pos+1 < len(s.b) && s.b[s.pos] == '\\' && s.b[s.pos+1] == 'u' {
		s.pos++
		low, err := s.hex4()
		if err != nil {
			return 0, err
		}
		if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
			return pair, nil
		}
	}
	return 0, s.errorf("lone surrogate \\u%04x", r)
}

// hex4 reads u and four hexadecimal digits.
func (s *jsonScanner) hex4() (rune, error) {
	s.pos++ // the u
	if s.pos+4 > len(s.b) {
		return 0, s.errorf("end of JSON in an escape")
	}
	n, err := strconv.ParseUint(string(s.b[s.pos:s.pos+4]), 16, 16)
	if err != nil {
		return 0, s.errorf("escape %q is not hexadecimal", s.b[s.pos:s.pos+4])
	}
	s.pos += 4
	return rune(n), nil
}

// skip checks one value of any kind and moves past it. At most depth levels
// may be nested; duplicate keys are refused at every level.
func (s *jsonScanner) skip(depth int) error {
	switch c := s.peek(); {
	case (c == '{' || c == '[') && depth == 0:
		return s.errorf("nested too deeply")
	case c == '{':
		seen := make(map[string]struct{})
		return s.object(func(key string) error {
			if _, dup := seen[key]; dup {
				return s.errorf("duplicate key %s", quote(key))
			}
			seen[key] = struct{}{}
			return s.skip(depth - 1)
		})
	case c == '[':
		return s.array(func() error { return s.skip(depth - 1) })
	case c == '"':
		_, err := s.str()
		return err
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	}
	for _, word := range []string{"true", "false", "null"} {
		if len(s.b)-s.pos >= len(word) && string(s.b[s.pos:s.pos+len(word)]) == word {
			s.pos += len(word)
			return nil
		}
	}
	return s.errorf("%s, want a value", s.found())
}

// number moves past a number of the JSON grammar.
func (s *jsonScanner) number() error {
	if s.b[s.pos] == '-' {
		s.pos++
	}
	lead := s.pos
	if !s.digits() {
		return s.errorf("%s, want a digit", s.found())
	}
	if s.b[lead] == '0' && s.pos > lead+1 {
		return s.errorf("number has a leading zero")
	}
	if s.pos < len(s.b) && s.b[s.pos] == '.' {
		s.pos++
		if !s.digits() {
			return s.errorf("%s, want a digit after the point", s.found())
		}
	}
	if s.pos < len(s.b) && (s.b[s.pos] == 'e' || s.b[s.pos] == 'E') {
		s.pos++
		if s.pos < len(s.b) && (s.b[s.pos] == '+' || s.b[s.pos] == '-') {
			s.pos++
		}
		if !s.digits() {
			return s.errorf("%s, want a digit in the exponent", s.found())
		}
	}
	return nil
}

// digits moves past a run of digits and reports whether there was one.
func (s *jsonScanner) digits() bool {
	start := s.pos
	for s.pos < len(s.b) && s.b[s.pos] >= '0' && s.b[s.pos] <= '9' {
		s.pos++
	}
	return s.pos > start
}
