package prompt

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"
)

// literals is a set of texts, sorted, in which the longest one at a place of a
// long text is found in time that does not grow with the set.
type literals struct {
	sorted []string
	starts [256]bool
	long   int // the longest, in bytes
	// reversed holds the same texts read backwards; its own is nil.
	reversed *literals
}

// span is a piece of a text, in bytes.
type span struct{ from, to int }

func newLiterals(texts []string) *literals {
	backwards := make([]string, len(texts))
	for i, s := range texts {
		backwards[i] = reverse(s)
	}
	l := index(texts)
	l.reversed = index(backwards)
	return l
}

func index(texts []string) *literals {
	l := &literals{sorted: slices.Compact(slices.Sorted(slices.Values(texts)))}
	for _, s := range l.sorted {
		l.starts[s[0]] = true
		l.long = max(l.long, len(s))
	}
	return l
}

// at returns the length of the longest literal that text begins with, 0 where
// there is none, and how many bytes of text begin some literal.
func (l *literals) at(text string) (whole, begun int) {
	if text == "" || !l.starts[text[0]] {
		return 0, 0
	}
	set := l.sorted
	for d := 0; d < len(text); d++ {
		c := text[d]
		from, _ := slices.BinarySearchFunc(set, c, func(s string, c byte) int { return byteAt(s, d, int(c)) })
		to, _ := slices.BinarySearchFunc(set, int(c)+1, func(s string, c int) int { return byteAt(s, d, c) })
		if set = set[from:to]; len(set) == 0 {
			return whole, d
		}
		if len(set[0]) == d+1 {
			whole = d + 1
		}
	}
	return whole, len(text)
}

// byteAt compares byte d of s to c; a string that ends before it comes first.
func byteAt(s string, d, c int) int {
	if len(s) <= d {
		return -1
	}
	return cmp.Compare(int(s[d]), c)
}

// find returns the literals in text, the leftmost first and the longest of
// those that begin there, as tokenizers look for them.
func (l *literals) find(text string) []span {
	var spans []span
	for i := 0; i < len(text); {
		if !l.starts[text[i]] {
			i++
			continue
		}
		if n, _ := l.at(text[i:]); n > 0 {
			spans = append(spans, span{i, i + n})
			i += n
		} else {
			i++
		}
	}
	return spans
}

// touches reports whether text, put between others, could complete a literal
// with them: it ends with the beginning of one, begins with the end of one, or
// is the inside of one.
func (l *literals) touches(text string) bool {
	if l.endsIn(text) || l.reversed.endsIn(reverse(text[:min(l.long, len(text))])) {
		return true
	}
	return len(text) < l.long && slices.ContainsFunc(l.sorted, func(s string) bool {
		return text != "" && strings.Contains(s, text)
	})
}

// endsIn reports whether the end of text is the beginning of a literal.
func (l *literals) endsIn(text string) bool {
	for i := max(0, len(text)-l.long); i < len(text); i++ {
		if _, begun := l.at(text[i:]); begun == len(text)-i {
			return true
		}
	}
	return false
}

func reverse(s string) string {
	b := []byte(s)
	slices.Reverse(b)
	return string(b)
}

// firstRune is the length of the first character of text.
func firstRune(text string) int {
	_, n := utf8.DecodeRuneInString(text)
	return n
}
