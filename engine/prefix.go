package engine

import "slices"

// prefixes keeps the sequences of the last few generations of one model, so
// that the next turn of a conversation computes its new tokens only. Engine
// thread only; the zero value keeps nothing.
type prefixes struct {
	most      int      // sequences
	mostBytes int64    // of all of them
	kept      []prefix // least recently used first
}

type prefix struct {
	seq    Sequence
	tokens []int32 // what the sequence holds
}

// take returns a sequence with the longest beginning of prompt that is kept and
// can be gone back to, and its length; nil where there is none. At least one token
// of the prompt is left to compute, since its scores are wanted. A sequence that
// goes on is handed out itself; one that would lose more than it saves stays where
// there is room for both, and forked is set.
func (p *prefixes) take(prompt []int32, room bool) (seq Sequence, n int, forked bool) {
	best, shared := -1, 0
	for i := range p.kept {
		n := commonPrefix(p.kept[i].tokens, prompt[:len(prompt)-1])
		if n = p.kept[i].seq.Reach(n); n > 0 && n >= shared {
			best, shared = i, n
		}
	}
	if best < 0 {
		return nil, 0, false
	}
	f := p.kept[best]
	p.kept = slices.Delete(p.kept, best, best+1)
	lost := len(f.tokens) - shared
	if (lost <= shared || !room) && f.seq.SetBack(lost) {
		return f.seq, shared, false
	}
	p.kept = append(p.kept, f) // used just now
	if fork := f.seq.Fork(shared); fork != nil {
		return fork, shared, true
	}
	return nil, 0, false
}

// put takes over seq, which holds tokens. It drops what is a beginning of it and
// then the oldest, until the rest is within bounds.
func (p *prefixes) put(seq Sequence, tokens []int32) {
	p.kept = slices.DeleteFunc(p.kept, func(f prefix) bool {
		old := commonPrefix(f.tokens, tokens) == len(f.tokens)
		if old {
			f.seq.Close()
		}
		return old
	})
	p.kept = append(p.kept, prefix{seq, slices.Clone(tokens)})
	for len(p.kept) > p.most || len(p.kept) > 1 && p.bytes() > p.mostBytes {
		p.dropOldest()
	}
}

// dropOldest frees one sequence and reports whether there was any.
func (p *prefixes) dropOldest() bool {
	if len(p.kept) == 0 {
		return false
	}
	p.kept[0].seq.Close()
	p.kept = slices.Delete(p.kept, 0, 1)
	return true
}

func (p *prefixes) bytes() (n int64) {
	for _, f := range p.kept {
		n += f.seq.Bytes()
	}
	return n
}

// truncate sets seq back to tokens where it is still kept and begins so.
func (p *prefixes) truncate(seq Sequence, tokens []int32) {
	for i := range p.kept {
		f := &p.kept[i]
		if f.seq != seq || len(f.tokens) <= len(tokens) || commonPrefix(f.tokens, tokens) < len(tokens) {
			continue
		}
		// What is beyond stays right where the cache cannot go back to it.
		if n := f.seq.Reach(len(tokens)); n > 0 && f.seq.SetBack(len(f.tokens)-n) {
			f.tokens = f.tokens[:n]
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
