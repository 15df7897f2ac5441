package kv

import "harmonyd/engine/mlx"

const (
	// spare is how many tokens a sliding layer can always go back without a
	// checkpoint: more than are ever in flight or speculated.
	spare = 64
	// checkpoints is how many former pages a sliding layer keeps besides the first.
	checkpoints = 2
)

// NewWindow returns an empty cache for a model whose layers mostly slide: the
// tokens of layer i, where sliding[i], see the last window tokens, themselves
// included. The other layers are those of NewFull.
//
// A sliding layer's Append of L tokens returns the min(Offset, window-1) tokens
// before them and then the L: all that any of them may see, and for a single
// token no more than that.
//
// Tokens are written to a page of about twice the window. A full page is
// followed by a new one that begins with the tokens that the next ones may see,
// so keys stay in order, a step writes in place, and a token costs less than
// two copies of itself. That is simpler than a ring, whose order changes all
// the time, and it gives checkpoints for nothing: a former page that is kept
// restores any length from a window after its beginning to its end. Kept are the
// first page, which other conversations have in common, and the last two to which
// a prompt added something, since a changed or repeated question goes back to
// the prompt. Pages that an answer filled alone are dropped. So a layer holds at
// most four pages, whatever the length of the text, and a fifth while it turns to
// a new one.
func NewWindow(sliding []bool, window int) Cache {
	c := make(layers, len(sliding))
	for i := range c {
		if sliding[i] {
			c[i] = &windowLayer{window: window}
		} else {
			c[i] = new(fullLayer)
		}
	}
	return c
}

// windowLayer is a sliding layer.
type windowLayer struct {
	window int
	page          // the one that is written to
	former []page // oldest first; none begins after the next
	prompt int    // where the last Append of several tokens ended
	bound  int    // see Cache.Bound; for the growth of the first page
}

// page holds the tokens from first to end. One that does not begin the text can
// be gone back to only where it has the window before that place.
type page struct {
	buffer
	first, end int
}

// least is the smallest length that p can restore.
func (p *page) least(window int) int {
	if p.first == 0 {
		return 0
	}
	return p.first + window - 1
}

// move makes p, which is empty, take over from, which is empty afterwards.
func (p *page) move(from *page) {
	p.share(&from.buffer)
	p.first, p.end = from.first, from.end
	from.free()
}

func (l *windowLayer) Offset() int    { return l.end }
func (l *windowLayer) setBound(n int) { l.bound = n }

func (l *windowLayer) Append(s *mlx.Scope, k, v mlx.Array) (keys, values mlx.Array) {
	if s.Err() != nil {
		return keys, values // and the layer is as it was
	}
	n := k.Dim(2)
	end := l.end + n
	seen := max(0, l.end-l.window+1)
	fits := end-l.first <= l.most()
	if !fits && n > 1 {
		// The tokens may be more than a page. What they see is a copy.
		keys, values = k, v
		if l.end > seen {
			before, beforeV := l.view(s, seen-l.first, l.end-l.first)
			keys, values = s.Concatenate(2, before, k), s.Concatenate(2, beforeV, v)
		}
	}
	for at := 0; at < n; {
		if l.end-l.first == l.most() && !l.turn(s, n > 1) {
			return mlx.Array{}, mlx.Array{}
		}
		m := min(n-at, l.most()-(l.end-l.first))
		if m == n {
			l.put(s, k, v, m)
		} else {
			l.put(s, s.SliceAxis(k, 2, at, at+m), s.SliceAxis(v, 2, at, at+m), m)
		}
		at += m
	}
	if n > 1 {
		l.prompt = end
	}
	if !keys.Valid() {
		keys, values = l.view(s, seen-l.first, end-l.first)
	}
	return keys, values
}

// most is how many tokens a page has room for: those that a new one begins with,
// and as many again.
func (l *windowLayer) most() int { return Capacity(2 * l.carried()) }

// carried is how many tokens go over to the next page.
func (l *windowLayer) carried() int { return l.window - 1 + spare }

// WindowCapacity is the most tokens that a sliding layer bounded to n has room for
// at any time while it gets there.
func WindowCapacity(n, window int) int {
	l := windowLayer{window: window}
	most := l.most()
	if n <= most {
		return Capacity(n)
	}
	added := most - l.carried() // by each page after the first
	pages := 1 + (n-most+added-1)/added
	// The first, the checkpoints, the current one, and one that is being left.
	return min(pages, 1+checkpoints+2) * most
}

// put appends n tokens that the page has room for. The first page grows as it
// fills, most texts being short.
func (l *windowLayer) put(s *mlx.Scope, k, v mlx.Array, n int) {
	at := l.end - l.first
	if at+n > l.capacity {
		l.reserve(s, k, v, at, min(grown(l.capacity, at+n, l.bound), l.most()))
	}
	l.write(s, k, v, at)
	l.end += n
}

// turn begins a new page, and keeps the one before it where it is a checkpoint. It
// does not wait for the copy, which may be of keys that are not computed yet.
// Where an operation failed, it reports false and changes nothing.
func (l *windowLayer) turn(s *mlx.Scope, prompting bool) bool {
	if s.Err() != nil {
		return false
	}
	own := mlx.NewScope(mlx.Stream{}) // see reserve
	defer own.Close()
	first := l.end - l.carried()
	keys, values := l.view(own, first-l.first, l.end-l.first)
	keys = own.Concatenate(2, keys, zeros(own, keys, l.most()-l.carried()))
	values = own.Concatenate(2, values, zeros(own, values, l.most()-l.carried()))
	if err := own.Err(); err != nil {
		s.Fail(err)
		return false
	}
	if l.first == 0 || prompting || l.prompt > l.first+l.carried() {
		l.keep()
	}
	l.leave()
	l.keys.Set(keys)
	l.values.Set(values)
	l.capacity, l.first = l.most(), first
	return true
}

// keep makes the page a checkpoint, and drops the oldest but the first where
// there are too many.
func (l *windowLayer) keep() {
	if len(l.former) > checkpoints {
		l.former[1].free()
		for i := 1; i+1 < len(l.former); i++ {
			l.former[i].move(&l.former[i+1])
		}
		l.former = l.former[:len(l.former)-1]
	}
	l.former = append(l.former, page{})
	p := &l.former[len(l.former)-1]
	p.share(&l.buffer)
	p.first, p.end = l.first, l.end
}

func (l *windowLayer) reach(n int) int { return min(n, l.holds(n).end) }

// holds returns the page from which n tokens or, where none can, most of them can
// be restored: the newest that begins early enough. The first one always does.
func (l *windowLayer) holds(n int) *page {
	p := &l.page
	for i := len(l.former) - 1; n < p.least(l.window); i-- {
		p = &l.former[i]
	}
	return p
}

func (l *windowLayer) setBack(n int) {
	if p := l.holds(n); p != &l.page {
		l.page.free()
		l.page.move(p)
	}
	l.end, l.prompt = n, min(l.prompt, n)
	l.trim(n)
}

// trim drops the checkpoints that are not before the page, and what the others
// have beyond n.
func (l *windowLayer) trim(n int) {
	for len(l.former) > 0 {
		p := &l.former[len(l.former)-1]
		if p.first < l.first { // which the one that was restored is not
			break
		}
		p.free()
		l.former = l.former[:len(l.former)-1]
	}
	for i := range l.former {
		l.former[i].end = min(l.former[i].end, n)
	}
}

func (l *windowLayer) fork(n int) layer {
	f := &windowLayer{window: l.window, prompt: min(l.prompt, n)}
	from := l.holds(n)
	f.share(&from.buffer)
	f.first, f.end = from.first, n
	for i := range l.former {
		if p := &l.former[i]; p.first < f.first {
			f.former = append(f.former, page{first: p.first, end: min(p.end, n)})
			f.former[len(f.former)-1].share(&p.buffer)
		}
	}
	return f
}

func (l *windowLayer) appendRoots(dst []mlx.Array) []mlx.Array {
	for i := range l.former {
		dst = l.former[i].roots(dst)
	}
	return l.roots(dst)
}

func (l *windowLayer) bytes() int64 {
	n := l.page.bytes()
	for i := range l.former {
		n += l.former[i].bytes()
	}
	return n
}

func (l *windowLayer) free() {
	for i := range l.former {
		l.former[i].free()
	}
	l.page.free()
	l.former, l.page.first, l.page.end, l.prompt = nil, 0, 0, 0
}
