package parse

import (
	"bytes"
	"slices"
)

// tag is a mark of a format. Where the model's vocabulary has it as a control
// token, only the token is the mark and the same characters are text; where not,
// its characters are the mark.
type tag struct {
	literal string
	id      int32 // -1 where the characters are the mark
	// inline says that the token is a part of longer marks, and as good as its
	// characters.
	inline bool
}

func textTag(literal string) *tag { return &tag{literal: literal, id: -1} }

func (t *tag) isToken() bool { return t != nil && t.id >= 0 }

// mark is a control token in an input.
type mark struct {
	at  int
	tag *tag
}

// input is the part of an answer that is not parsed yet. A control token of the
// format stands in it with its literal.
type input struct {
	buf   []byte
	marks []mark // in order
	known []*tag // the control tokens
}

// push appends a token. Whether the decoder leaves out control tokens or not, the
// literal stands in buf once.
func (in *input) push(id int32, text []byte) {
	if id >= 0 {
		for _, t := range in.known {
			if t.id != id {
				continue
			}
			in.buf = append(in.buf, bytes.TrimSuffix(text, []byte(t.literal))...)
			if !t.inline {
				in.marks = append(in.marks, mark{len(in.buf), t})
			}
			in.buf = append(in.buf, t.literal...)
			return
		}
	}
	in.buf = append(in.buf, text...)
}

// drop removes the first n bytes.
func (in *input) drop(n int) {
	in.buf = append(in.buf[:0], in.buf[n:]...)
	gone := 0
	for gone < len(in.marks) && in.marks[gone].at < n {
		gone++
	}
	in.marks = append(in.marks[:0], in.marks[gone:]...)
	for i := range in.marks {
		in.marks[i].at -= n
	}
}

// find returns the place of the first of tags at or behind from and which it is;
// -1 and nil where there is none yet.
func (in *input) find(tags []*tag, from int) (at int, found *tag) {
	at = len(in.buf)
	for _, m := range in.marks {
		if m.at >= from && slices.Contains(tags, m.tag) {
			at, found = m.at, m.tag
			break
		}
	}
	for _, t := range tags {
		if t.isToken() {
			continue
		}
		end := min(len(in.buf), at+len(t.literal))
		for begin := min(from, end); ; {
			i := bytes.Index(in.buf[begin:end], []byte(t.literal))
			if i < 0 {
				break
			}
			if i += begin; in.overlaps(i, i+len(t.literal)) {
				begin = i + 1
				continue
			}
			if i < at || i == at && (found == nil || len(t.literal) > len(found.literal)) {
				at, found = i, t
			}
			break
		}
	}
	if found == nil {
		return -1, nil
	}
	return at, found
}

// overlaps reports whether a control token has a byte in [from, to): characters
// are a mark only where no token is among them.
func (in *input) overlaps(from, to int) bool {
	return slices.ContainsFunc(in.marks, func(m mark) bool { return m.at < to && from < m.at+len(m.tag.literal) })
}

// markAt returns the control token that begins at a place.
func (in *input) markAt(at int) *tag {
	for _, m := range in.marks {
		if m.at == at {
			return m.tag
		}
	}
	return nil
}

// isAt reports whether a mark stands at a place.
func (in *input) isAt(t *tag, at int) bool {
	if t.isToken() {
		return in.markAt(at) == t
	}
	return bytes.HasPrefix(in.buf[at:], []byte(t.literal)) && !in.overlaps(at, at+len(t.literal))
}

// begun returns how many bytes at the end may be the beginning of one of tags.
func (in *input) begun(tags []*tag) int {
	most := 0
	for _, t := range tags {
		if !t.isToken() {
			most = max(most, begun(in.buf, t.literal))
		}
	}
	return most
}

// begun returns how many bytes at the end of text may be the beginning of mark.
func begun(text []byte, mark string) int {
	for n := min(len(text), len(mark)-1); n > 0; n-- {
		if string(text[len(text)-n:]) == mark[:n] {
			return n
		}
	}
	return 0
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

// spaceAfter returns the first place from i on that is no white space.
func spaceAfter(text []byte, i int) int {
	for i < len(text) && isSpace(text[i]) {
		i++
	}
	return i
}

// spaceBefore returns how much white space, of what may be held, stands before
// the end of text.
func spaceBefore(text []byte) int {
	n := 0
	for n < len(text) && n < maxHeldSpace && isSpace(text[len(text)-1-n]) {
		n++
	}
	return n
}

// tokensOf are those of tags that are control tokens.
func tokensOf(tags []*tag) []*tag {
	return slices.DeleteFunc(slices.Clone(tags), func(t *tag) bool { return !t.isToken() })
}
