package native

import (
	"bytes"
	"strings"
	"unicode/utf8"
	"unsafe"
)

// The flags of a token, as in harmonyd_native.h.
const (
	present = 1 << iota
	control
	skipped
	byteToken
)

// How tokens join into text.
type join uint8

const (
	joinOther  join = iota // only the library knows
	joinBytes              // the bytes in a row are UTF-8
	joinPieces             // text, except for byte tokens
)

var joins = map[string]join{"bytes": joinBytes, "pieces": joinPieces}

// table is what each token adds to the text.
type table struct {
	data    []byte
	offsets []uint32
	flags   []uint8
	join    join
	// strip is the number of spaces that the start of a text loses, first
	// says that its first token loses all of them. Both are the prefix that
	// SentencePiece vocabularies put before a text.
	strip int
	first bool
}

func (t *table) bytes(id int32) []byte {
	if id < 0 || int(id) >= len(t.flags) || t.flags[id]&present == 0 {
		return nil
	}
	return t.data[t.offsets[id]:t.offsets[id+1]:t.offsets[id+1]]
}

// Stream decodes one token at a time. What it hands out, joined, is Decode of
// all ids, and each part is whole characters. One difference is deliberate: in
// a row of byte tokens that is broken somewhere, Decode turns every byte into
// U+FFFD, while a stream has handed out the characters before the break. It
// leaves out special tokens unless KeepSpecial was called. A stream is for one
// goroutine; it needs no Close.
type Stream struct {
	t    *Tokenizer
	skip uint8
	// held is the start of a character.
	held    [utf8.UTFMax]byte
	heldLen int
	strip   int
	first   bool
	slow    slowStream
}

// NewStream starts a streaming decode.
func (t *Tokenizer) NewStream() *Stream {
	return &Stream{t: t, skip: skipped, strip: t.table.strip, first: t.table.first}
}

// KeepSpecial makes the stream hand out the literals of special tokens too. It
// must be called before the first step.
func (s *Stream) KeepSpecial() *Stream {
	s.skip = 0
	return s
}

// Step takes the next id and returns the text that it completes, often none.
// The only error is the library's, on decoders that Go does not know.
func (s *Stream) Step(id int32) (string, error) {
	out := s.AppendStep(nil, id)
	return unsafe.String(unsafe.SliceData(out), len(out)), s.slow.err
}

// Flush returns what was held back, as U+FFFD where it is no character. The
// stream must not be used afterwards.
func (s *Stream) Flush() string { return string(s.AppendFlush(nil)) }

// Err returns the first error of a step.
func (s *Stream) Err() error { return s.slow.err }

// AppendStep is Step that appends to dst. It does not allocate while dst has
// room and Go knows the decoder.
func (s *Stream) AppendStep(dst []byte, id int32) []byte {
	t := &s.t.table
	if id < 0 || int(id) >= len(t.flags) {
		return dst
	}
	flags := t.flags[id]
	if flags&present == 0 || flags&s.skip != 0 {
		return dst
	}
	if t.join == joinOther {
		return s.slow.step(dst, s.t, id, s.skip != 0)
	}
	text := t.data[t.offsets[id]:t.offsets[id+1]]
	if t.join == joinBytes {
		return s.appendBytes(dst, text)
	}
	return s.appendPiece(dst, text, flags&byteToken != 0)
}

// AppendFlush is Flush that appends to dst.
func (s *Stream) AppendFlush(dst []byte) []byte {
	switch s.t.table.join {
	case joinBytes:
		if s.heldLen > 0 {
			dst = utf8.AppendRune(dst, utf8.RuneError)
		}
	case joinPieces:
		return s.breakOff(dst)
	case joinOther:
		return s.slow.flush(dst, s.t, s.skip != 0)
	}
	s.heldLen = 0
	return dst
}

// appendBytes appends text to what is held and hands out whole characters.
func (s *Stream) appendBytes(dst, text []byte) []byte {
	for s.heldLen > 0 && len(text) > 0 {
		// A held start of a character takes its bytes one at a time.
		s.held[s.heldLen] = text[0]
		n, whole := maximalSubpart(s.held[:s.heldLen+1])
		switch {
		case n == s.heldLen: // text[0] does not belong to it
			dst = utf8.AppendRune(dst, utf8.RuneError)
			s.heldLen = 0
			continue
		case whole:
			dst = append(dst, s.held[:n]...)
			s.heldLen = 0
		default:
			s.heldLen = n
		}
		text = text[1:]
	}
	for len(text) > 0 {
		if text[0] < utf8.RuneSelf {
			dst = append(dst, text[0])
			text = text[1:]
			continue
		}
		n, whole := maximalSubpart(text)
		switch {
		case whole:
			dst = append(dst, text[:n]...)
		case n == len(text) && n < sequenceLength(text[0]):
			s.heldLen = copy(s.held[:], text)
		default:
			dst = utf8.AppendRune(dst, utf8.RuneError)
		}
		text = text[n:]
	}
	return dst
}

// appendPiece appends a token of a vocabulary whose tokens are text or bytes.
func (s *Stream) appendPiece(dst, text []byte, isByte bool) []byte {
	if s.first {
		s.first = false
		// Every space here is a mark; the library refuses to say so otherwise.
		text = bytes.ReplaceAll(text, []byte(" "), nil)
	}
	if !isByte {
		dst = s.breakOff(dst)
		for s.strip > 0 && len(text) > 0 {
			if text[0] != ' ' {
				s.strip = 0
				break
			}
			text = text[1:]
			s.strip--
		}
		return append(dst, text...)
	}
	s.held[s.heldLen] = text[0]
	s.heldLen++
	for s.heldLen > 0 {
		n, whole := maximalSubpart(s.held[:s.heldLen])
		switch {
		case whole && s.strip > 0 && s.held[0] == ' ':
			s.strip--
		case whole:
			s.strip = 0
			dst = append(dst, s.held[:n]...)
		case n == s.heldLen && n < sequenceLength(s.held[0]):
			return dst
		default:
			// The library counts bytes here, not maximal subparts.
			s.strip, n = 0, 1
			dst = utf8.AppendRune(dst, utf8.RuneError)
		}
		s.heldLen = copy(s.held[:], s.held[n:s.heldLen])
	}
	return dst
}

// breakOff hands out the held bytes as what they are, no character.
func (s *Stream) breakOff(dst []byte) []byte {
	for ; s.heldLen > 0; s.heldLen-- {
		s.strip = 0
		dst = utf8.AppendRune(dst, utf8.RuneError)
	}
	return dst
}

// sequenceLength returns how many bytes a character has that begins with b, or
// 0 where none does.
func sequenceLength(b byte) int {
	switch {
	case b < 0x80:
		return 1
	case b < 0xc2:
		return 0
	case b < 0xe0:
		return 2
	case b < 0xf0:
		return 3
	case b < 0xf5:
		return 4
	}
	return 0
}

// maximalSubpart returns the length of the character at the start of b and
// true, or else the length of what Unicode calls the maximal subpart of an
// ill-formed sequence: what one U+FFFD stands for. b must not be empty.
func maximalSubpart(b []byte) (int, bool) {
	want := sequenceLength(b[0])
	if want <= 1 {
		return 1, want == 1
	}
	low, high := byte(0x80), byte(0xbf)
	switch b[0] {
	case 0xe0:
		low = 0xa0
	case 0xed:
		high = 0x9f
	case 0xf0:
		low = 0x90
	case 0xf4:
		high = 0x8f
	}
	n := 1
	for n < want && n < len(b) && b[n] >= low && b[n] <= high {
		low, high = 0x80, 0xbf
		n++
	}
	return n, n == want
}

// slowStream decodes through the library, with decoders that are not a sum over
// tokens. It decodes a window of the last ids, as DecodeStream of the HF
// library does: text is handed out once it no longer ends in U+FFFD.
type slowStream struct {
	ids    []int32
	prefix string // the text of the first n ids
	n      int
	err    error
}

func (s *slowStream) decode(t *Tokenizer, ids []int32, skip bool) string {
	text, err := t.Decode(ids, skip)
	if s.err == nil {
		s.err = err
	}
	return text
}

func (s *slowStream) step(dst []byte, t *Tokenizer, id int32, skip bool) []byte {
	s.ids = append(s.ids, id)
	text := s.decode(t, s.ids, skip)
	if len(text) <= len(s.prefix) || strings.HasSuffix(text, "\uFFFD") {
		return dst
	}
	dst = append(dst, text[commonPrefix(text, s.prefix):]...)
	s.ids = append(s.ids[:0], s.ids[s.n:]...)
	s.prefix = s.decode(t, s.ids, skip)
	s.n = len(s.ids)
	return dst
}

func (s *slowStream) flush(dst []byte, t *Tokenizer, skip bool) []byte {
	if len(s.ids) == s.n {
		return dst
	}
	text := s.decode(t, s.ids, skip)
	s.n = len(s.ids)
	return append(dst, text[commonPrefix(text, s.prefix):]...)
}

// commonPrefix returns the length of the longest common prefix. A decoder that
// rewrites what it said cannot be followed; what was handed out stays.
func commonPrefix(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	for n > 0 && n < len(a) && !utf8.RuneStart(a[n]) {
		n--
	}
	return n
}
