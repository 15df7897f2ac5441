package schema

import (
	"bytes"
	"cmp"
	"hash/maphash"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Scan goes once through one JSON value and reports what makes it unusable:
// parse_error where it is no JSON, invalid_request where more than maxDepth
// objects and arrays stand in one another, or an object has a member twice
// (which of the two is meant, every reader would guess differently). Member,
// if not nil, is called for each member of the outermost object; value is part
// of data. Members are reported even where a problem is found later, up to the
// first malformed byte.
//
// Scan does not recurse beyond maxDepth, and the memory it needs is 16 bytes
// for each member of the objects that are open.
func Scan(data []byte, maxDepth int, member func(name string, value []byte)) *Error {
	s := scanner{data: data, maxDepth: maxDepth, member: member}
	if s.value(1) {
		if s.space(); s.pos == len(data) {
			return s.problem
		}
	}
	if s.pos >= len(data) {
		return Errorf(KindParse, "no JSON: it ends after %d bytes", len(data))
	}
	return Errorf(KindParse, "no JSON: byte %#02x at offset %d, want %s", data[s.pos], s.pos, cmp.Or(s.want, "the end"))
}

type scanner struct {
	data     []byte
	pos      int    // on failure, the byte that does not fit
	want     string // on failure, what would have
	maxDepth int
	member   func(name string, value []byte)
	names    []name // of all open objects, outermost first
	problem  *Error // the first that is no malformation
}

// name is the name of a member. Its hash is keyed by the process, so nobody
// can provoke a collision, and none is to be expected: a message has fewer
// than 2^24 members.
type name struct {
	hash   uint64
	offset int
}

var hashSeed = maphash.MakeSeed()

func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\r', '\n':
			s.pos++
		default:
			return
		}
	}
}

// fail says what was wanted at the scanner's place.
func (s *scanner) fail(want string) bool {
	s.want = want
	return false
}

// next is the byte at the scanner's place, 0 at the end.
func (s *scanner) next() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

// value scans a value; if it is an object or array, it is the depth-th one.
func (s *scanner) value(depth int) bool {
	s.space()
	switch c := s.next(); c {
	case '{', '[':
		if depth > s.maxDepth {
			return s.tooDeep()
		}
		if c == '{' {
			return s.object(depth)
		}
		return s.array(depth)
	case '"':
		return s.text()
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	default:
		return s.number()
	}
}

// tooDeep passes over a container without looking into it: what is nested
// needs no more than finding its end.
func (s *scanner) tooDeep() bool {
	if s.problem == nil {
		s.problem = Errorf(KindInvalidRequest, "the message nests deeper than %d levels", s.maxDepth)
	}
	n := valueLen(s.data[s.pos:])
	s.pos += n
	last := s.data[s.pos-1]
	return n > 1 && (last == '}' || last == ']')
}

func (s *scanner) object(depth int) bool {
	s.pos++
	base := len(s.names)
	if s.space(); s.next() == '}' {
		s.pos++
		return true
	}
	for {
		s.space()
		start := s.pos
		if s.next() != '"' {
			return s.fail("a name")
		}
		if !s.text() {
			return false
		}
		quoted := s.data[start:s.pos]
		s.names = append(s.names, name{hashName(quoted), start})
		if s.space(); s.next() != ':' {
			return s.fail("a colon")
		}
		s.pos++
		s.space()
		start = s.pos
		if !s.value(depth + 1) {
			return false
		}
		if depth == 1 && s.member != nil {
			s.member(Unquote(quoted), s.data[start:s.pos])
		}
		s.space()
		switch s.next() {
		case ',':
			s.pos++
		case '}':
			s.pos++
			s.closeObject(base)
			return true
		default:
			return s.fail("a comma or }")
		}
	}
}

// closeObject looks for a name that stands twice among those from base on.
func (s *scanner) closeObject(base int) {
	names := s.names[base:]
	s.names = s.names[:base]
	if s.problem != nil || len(names) < 2 {
		return
	}
	slices.SortFunc(names, func(a, b name) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.offset, b.offset))
	})
	for i := 1; i < len(names); i++ {
		if names[i].hash == names[i-1].hash {
			quoted := s.data[names[i].offset:]
			text := clip(Unquote(quoted[:valueLen(quoted)]))
			s.problem = Errorf(KindInvalidRequest, "member %q stands twice in one object, again at offset %d", text, names[i].offset)
			return
		}
	}
}

func hashName(quoted []byte) uint64 {
	if bytes.IndexByte(quoted, '\\') >= 0 {
		return maphash.String(hashSeed, Unquote(quoted))
	}
	return maphash.Bytes(hashSeed, quoted[1:len(quoted)-1])
}

func (s *scanner) array(depth int) bool {
	s.pos++
	if s.space(); s.next() == ']' {
		s.pos++
		return true
	}
	for {
		if !s.value(depth + 1) {
			return false
		}
		s.space()
		switch s.next() {
		case ',':
			s.pos++
		case ']':
			s.pos++
			return true
		default:
			return s.fail("a comma or ]")
		}
	}
}

func (s *scanner) word(w string) bool {
	for i := range len(w) {
		if s.next() != w[i] {
			return s.fail(w)
		}
		s.pos++
	}
	return true
}

func (s *scanner) number() bool {
	if c := s.next(); c == '-' {
		s.pos++
	} else if c < '0' || c > '9' {
		return s.fail("a value")
	}
	if s.next() == '0' {
		s.pos++
	} else if !s.digits() {
		return false
	}
	if s.next() == '.' {
		s.pos++
		if !s.digits() {
			return false
		}
	}
	if c := s.next(); c == 'e' || c == 'E' {
		s.pos++
		if c := s.next(); c == '+' || c == '-' {
			s.pos++
		}
		return s.digits()
	}
	return true
}

// digits passes over at least one digit.
func (s *scanner) digits() bool {
	start := s.pos
	for c := s.next(); c >= '0' && c <= '9'; c = s.next() {
		s.pos++
	}
	return s.pos > start || s.fail("a digit")
}

// text passes over a string: no control characters, sound escapes, UTF-8.
func (s *scanner) text() bool {
	s.pos++
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; {
		case c == '"':
			s.pos++
			return true
		case c == '\\':
			if !s.escape() {
				return false
			}
		case c < 0x20:
			return s.fail("no control character in a string")
		case c < utf8.RuneSelf:
			s.pos++
		default:
			r, n := utf8.DecodeRune(s.data[s.pos:])
			if r == utf8.RuneError && n == 1 {
				return s.fail("UTF-8")
			}
			s.pos += n
		}
	}
	return false
}

func (s *scanner) escape() bool {
	s.pos++
	c := s.next()
	if c == 0 || bytes.IndexByte([]byte(`"\/bfnrtu`), c) < 0 {
		return s.fail("an escape")
	}
	s.pos++
	if c != 'u' {
		return true
	}
	for range 4 {
		c := s.next() | 0x20 // lower case
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') || s.next() < '0' {
			return s.fail("a hexadecimal digit")
		}
		s.pos++
	}
	return true
}

// valueLen is the length of the value that data begins with, which is sound or
// cut off. Of data that is neither it is some length, at least 1 where there
// is a byte.
func valueLen(data []byte) int {
	if len(data) == 0 {
		return 0
	}
	open := 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			i += textLen(data[i:]) - 1
		case '{', '[':
			open++
			continue
		case '}', ']':
			open--
		default:
			if open == 0 {
				i += scalarLen(data[i:]) - 1
			}
		}
		if open <= 0 {
			return min(i+1, len(data))
		}
	}
	return len(data)
}

// textLen is the length of the string that data begins with.
func textLen(data []byte) int {
	for i := 1; i < len(data); i++ {
		switch data[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(data)
}

// scalarLen is the length of the number or word that data begins with.
func scalarLen(data []byte) int {
	if n := bytes.IndexAny(data, " \t\r\n,:]}"); n > 0 {
		return n
	} else if n < 0 {
		return len(data)
	}
	return 1
}

// Unquote returns the text of a JSON string that Scan has found sound. Halves
// of surrogate pairs that stand alone become U+FFFD.
func Unquote(quoted []byte) string {
	if len(quoted) < 2 {
		return ""
	}
	in := quoted[1 : len(quoted)-1]
	first := bytes.IndexByte(in, '\\')
	if first < 0 {
		return string(in)
	}
	out := append(make([]byte, 0, len(in)), in[:first]...)
	for i := first; i < len(in); i++ {
		if in[i] != '\\' || i+1 == len(in) {
			out = append(out, in[i])
			continue
		}
		i++
		switch c := in[i]; c {
		case 'u':
			r, n := escapedRune(in[i+1:])
			out = utf8.AppendRune(out, r)
			i += n
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		default:
			out = append(out, c)
		}
	}
	return string(out)
}

// escapedRune reads what follows \u: four digits, or two surrogates.
func escapedRune(in []byte) (rune, int) {
	high := hex4(in)
	if !utf16.IsSurrogate(high) {
		return high, min(4, len(in))
	}
	if len(in) >= 10 && in[4] == '\\' && in[5] == 'u' {
		if r := utf16.DecodeRune(high, hex4(in[6:])); r != utf8.RuneError {
			return r, 10
		}
	}
	return utf8.RuneError, min(4, len(in))
}

func hex4(in []byte) rune {
	if len(in) < 4 {
		return utf8.RuneError
	}
	n, err := strconv.ParseUint(string(in[:4]), 16, 32)
	if err != nil {
		return utf8.RuneError
	}
	return rune(n)
}
