package engine

import "slices"

// prefixes keeps the sequences of the last few generations of one model, so
// that the next turn of a conversation computes its new tokens only. A sequence
// is lent to one generation at a time. Engine thread only; the zero value keeps
// nothing.
type prefixes struct {
	most int
	kept []prefix // least recently used first
}

type prefix struct {
	seq    Sequence
	tokens []int32 // what the sequence holds
}

// take returns the sequence that shares most with prompt, set back to what they
// share, and how much that is; nil where starting afresh loses less. At least
// one token of the prompt is left to compute, since its scores are wanted.
func (p *prefixes) take(prompt []int32) (Sequence, int) {
	best, shared := -1, 0
	for i := range p.kept {
		n := commonPrefix(p.kept[i].tokens, prompt[:len(prompt)-1])
		// A sequence that would lose more than it saves stays for the
		// conversation it belongs to.
		if n > 0 && n >= shared && n >= len(p.kept[i].tokens)-n {
			best, shared = i, n
		}
	}
	if best < 0 {
		return nil, 0
	}
	f := p.kept[best]
	if !f.seq.SetBack(len(f.tokens) - shared) {
		return nil, 0
	}
	p.kept = slices.Delete(p.kept, best, best+1)
	return f.seq, shared
}

// put takes over seq, which holds tokens, and drops the oldest where there are
// too many, as well as every one that is a beginning of the new one.
func (p *prefixes) put(seq Sequence, tokens []int32) {
	p.kept = slices.DeleteFunc(p.kept, func(f prefix) bool {
		old := commonPrefix(f.tokens, tokens) == len(f.tokens)
		if old {
			f.seq.Close()
		}
		return old
	})
	p.kept = append(p.kept, prefix{seq, slices.Clone(tokens)})
	for len(p.kept) > p.most {
		p.kept[0].seq.Close()
		p.kept = slices.Delete(p.kept, 0, 1)
	}
}

// truncate sets seq back to tokens where it is still kept and begins so.
func (p *prefixes) truncate(seq Sequence, tokens []int32) {
	for i := range p.kept {
		f := &p.kept[i]
		if f.seq != seq || len(f.tokens) <= len(tokens) || commonPrefix(f.tokens, tokens) < len(tokens) {
			continue
		}
		if f.seq.SetBack(len(f.tokens) - len(tokens)) {
			f.tokens = f.tokens[:len(tokens)]
		}
		return
	}
}

// drop closes everything.
func (p *prefixes) drop() {
	for _, f := range p.kept {
		f.seq.Close()
	}
	p.kept = nil
}

func commonPrefix(a, b []int32) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
