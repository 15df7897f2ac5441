// Package loop finds a model that writes the same again and again. It sees tokens and
// nothing else, and must never take a table, a list or a matrix for a loop: what it finds
// ends an answer.
//
// Only exact repetition counts, that is, a text whose tokens have a period. How long it
// must go on depends on what is repeated: of zeros, rules of tables and empty rows people
// want many, of a sentence nobody wants the eighth copy. A text that repeats itself with
// changes, such as a list that counts up, is not told from a list.
//
// Start with Detector.
package loop

// Mode says how long a repeated text the detector looks for.
type Mode string

// The modes. Cheap finds texts of up to 8 tokens, Full of up to 1024.
const (
	Off   Mode = "off"
	Cheap Mode = "cheap"
	Full  Mode = "full"
)

// The bounds of what is a loop, in tokens.
const (
	// single is how often one token must come after itself. Mlx-harmony takes a loop to
	// need 96 tokens; a constant of 64 zeros may be 64.
	single = 96
	// rich is how long a text must repeat itself that has many different tokens, and poor
	// how long one that has fewer than fewTokens: a matrix of 16 × 16 zeros is the same row
	// for 705 tokens.
	rich, poor = 320, 768
	fewTokens  = 8
	// copies is how often a long text must come again, whatever its length.
	copies = 3
	// cheapPeriod and fullPeriod are the longest texts that the modes find.
	cheapPeriod, fullPeriod = 8, 1024
)

// The detector remembers a ring of tokens, and where each run of gram tokens stood last.
const (
	gram     = 6
	ringSize = 2 * fullPeriod // more than the longest period and a gram
	tabSize  = 4 * fullPeriod
)

// Detector watches the tokens of one answer. A token costs it one comparison while the text
// repeats itself, and else one look-up; it allocates nothing but itself. The zero value is
// of no use; see New.
type Detector struct {
	longest int // period; 0 finds nothing
	ring    [ringSize]int32
	n       int // tokens so far
	// period is how far back the tokens are the same, for run tokens now; 0 where they are
	// not known to be.
	period, run int
	// last holds one more than where a gram ended, by its hash; an old or a foreign entry
	// is found out by comparing.
	last [tabSize]int32
}

// New returns a detector, which is nil for Off and for modes that are none: a nil detector
// finds nothing.
func New(m Mode) *Detector {
	switch m {
	case Cheap:
		return &Detector{longest: cheapPeriod}
	case Full:
		return &Detector{longest: fullPeriod}
	}
	return nil
}

// Add takes the next token and reports whether the text has become a loop.
func (d *Detector) Add(token int32) bool {
	if d == nil {
		return false
	}
	at := d.n
	d.ring[at%ringSize] = token
	d.n++
	if d.period > 0 && d.ring[(at-d.period)%ringSize] == token {
		d.run++
		d.note(at)
		return d.looping()
	}
	d.period, d.run = 0, 0
	if before, ok := d.note(at); ok && at-before <= d.longest {
		d.period, d.run = at-before, gram
	}
	return false
}

// Period is the length of the text that is being repeated, 0 where none is.
func (d *Detector) Period() int {
	if d == nil {
		return 0
	}
	return d.period
}

// note remembers that a gram ends at a place, and returns where the same one ended before.
func (d *Detector) note(at int) (before int, ok bool) {
	if d.n < gram {
		return 0, false
	}
	// FNV-1a, over whole tokens.
	h := uint64(14695981039346656037)
	for i := at - gram + 1; i <= at; i++ {
		h = (h ^ uint64(uint32(d.ring[i%ringSize]))) * 1099511628211
	}
	slot := &d.last[(h^h>>32)%tabSize]
	before = int(*slot) - 1
	*slot = int32(at + 1)
	if before < gram-1 || at-before > fullPeriod {
		return 0, false
	}
	for i := range gram {
		if d.ring[(at-i)%ringSize] != d.ring[(before-i)%ringSize] {
			return 0, false
		}
	}
	return before, true
}

// looping reports whether the repetition has gone on for long enough.
func (d *Detector) looping() bool {
	switch {
	case d.period == 1:
		return d.run >= single
	case d.run < rich || d.run < copies*d.period:
		return false
	case d.run >= poor:
		return true
	}
	// Once a period is enough: the tokens stay the same.
	return (d.run == rich || d.run%d.period == 0) && d.different() >= fewTokens
}

// different counts the different tokens of a period, up to fewTokens.
func (d *Detector) different() int {
	var seen [fewTokens]int32
	n := 0
next:
	for i := 1; i <= d.period && n < fewTokens; i++ {
		token := d.ring[(d.n-i)%ringSize]
		for _, s := range seen[:n] {
			if s == token {
				continue next
			}
		}
		seen[n] = token
		n++
	}
	return n
}
