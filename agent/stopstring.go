package agent

// stopStrings finds the first stop string in a text that arrives in pieces.
// First is the one that is complete first, and the longest of those that end
// there: the only choice that does not depend on where the pieces end. Text is
// held back only while it may be the beginning of a stop string.
//
// It runs Knuth's, Morris' and Pratt's automaton for each stop string, so a
// piece costs its length times the number of stop strings, whatever it holds.
type stopStrings struct {
	patterns []pattern
	text     []byte // held back text, then the piece at hand
	held     int    // how much of text the next call still has to give
	gone     int    // how much of text was given by the call before
}

type pattern struct {
	text string
	// border[i] is the length of the longest end of text[:i+1] that is a
	// beginning of text, and not all of it.
	border []int
	at     int // how much of text the input ends with
}

// newStopStrings takes texts of at least one byte.
func newStopStrings(texts []string) *stopStrings {
	s := &stopStrings{patterns: make([]pattern, len(texts))}
	for i, t := range texts {
		p := pattern{text: t, border: make([]int, len(t))}
		for j, n := 1, 0; j < len(t); j++ {
			for n > 0 && t[j] != t[n] {
				n = p.border[n-1]
			}
			if t[j] == t[n] {
				n++
			}
			p.border[j] = n
		}
		s.patterns[i] = p
	}
	return s
}

// next takes the next piece. It returns the text that is certain now and -1;
// or the text before a stop string and the index of that string, after which
// nothing may follow. The result is valid until the next call.
func (s *stopStrings) next(piece []byte) (out []byte, found int) {
	s.text = append(s.text[:0], s.text[s.gone:]...)
	begin := len(s.text)
	s.text = append(s.text, piece...)
	for i, c := range piece {
		found := -1
		for k := range s.patterns {
			if s.patterns[k].step(c) && (found < 0 || len(s.patterns[k].text) > len(s.patterns[found].text)) {
				found = k
			}
		}
		if found >= 0 {
			s.gone = begin + i + 1 - len(s.patterns[found].text)
			s.text = s.text[:s.gone]
			return s.text, found
		}
	}
	s.held = 0
	for k := range s.patterns {
		s.held = max(s.held, s.patterns[k].at)
	}
	s.gone = len(s.text) - s.held
	return s.text[:s.gone], -1
}

// step takes one byte and reports whether the pattern is complete with it.
func (p *pattern) step(c byte) bool {
	for p.at > 0 && (p.at == len(p.text) || p.text[p.at] != c) {
		p.at = p.border[p.at-1]
	}
	if p.text[p.at] == c {
		p.at++
	}
	return p.at == len(p.text)
}

// flush returns the text that is held back when no more will come.
func (s *stopStrings) flush() []byte { return s.text[s.gone:] }
