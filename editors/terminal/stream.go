package terminal

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// flow makes lines of text that comes in pieces. What it gives out once never changes, and
// is the same however the text is cut.
type flow interface {
	// feed takes more text and returns the lines that it settles.
	feed(text string) (settled []string)
	// open is the lines of what is not settled.
	open() []string
	// end settles the rest.
	end() []string
}

// maxBlock bounds the part of a document that is rendered again as it grows, in bytes. A
// longer block is cut there.
const maxBlock = 8 << 10

// documentFlow is a flow of Markdown. A block is settled when the next one begins, since
// until then its last lines may mean something else; of a block that fills half of the
// screen all but the last line are settled, so that they can be scrolled to.
type documentFlow struct {
	markdown    *markdown
	width, rows int

	source  []byte // from the beginning of the first block that is not settled
	line    int    // where its last line begins
	empty   bool   // the line before that is
	given   int    // lines of that block that were given out
	filled  int    // rows that its source has filled since, about
	another bool   // something was given out before that block
}

func (f *documentFlow) feed(text string) (settled []string) {
	text = strings.ReplaceAll(text, "\r", "") // of the line ends of others
	for len(text) > 0 {
		n := max(maxBlock-len(f.source), 0)
		if n < len(text) {
			for n > 0 && !utf8.RuneStart(text[n]) {
				n--
			}
		}
		n = min(n, len(text))
		if n == 0 {
			settled = append(settled, f.cut()...)
			continue
		}
		if i := bytes.IndexByte([]byte(text[:n]), '\n'); i >= 0 {
			n = i + 1
		}
		f.source, text = append(f.source, text[:n]...), text[n:]
		if f.source[len(f.source)-1] == '\n' {
			settled = append(settled, f.lineEnded()...)
		}
	}
	return settled
}

// lineEnded looks at what is there now that a line is complete.
func (f *documentFlow) lineEnded() (settled []string) {
	line := f.source[f.line:]
	f.filled += 1 + widthOf(cells(string(line), look{}))/max(f.width, 1)
	full := f.filled >= max(f.rows/2, 4)
	if full || f.mayBegin(line) {
		if at := f.markdown.lastBlock(f.source); at > 0 {
			settled = f.give(f.markdown.render(f.source[:at], f.width))
			f.begin(f.source[at:])
		}
		if len(bytes.TrimSpace(f.source)) == 0 {
			f.begin(nil)
		}
	}
	f.line, f.empty = len(f.source), len(bytes.TrimSpace(line)) == 0
	if full {
		if lines := f.markdown.render(f.source, f.width); len(lines) > 0 {
			settled = append(settled, f.give(lines[:len(lines)-1])...)
		}
		f.filled = 0
	}
	return settled
}

// mayBegin reports whether a line is one of those that begin a block more often than not.
// To parse what is there at each line would take long; a block that is not noticed here is
// at another line.
func (f *documentFlow) mayBegin(line []byte) bool {
	switch first := bytes.TrimLeft(line, " "); {
	case f.line == 0, len(bytes.TrimSpace(line)) == 0:
		return f.line == 0
	case f.source[0] == '`' || f.source[0] == '~': // the end of a block of code, perhaps
		return f.empty || line[0] == f.source[0]
	case f.empty:
		return true
	case line[0] == f.source[0]: // such as another item of a list, or another row of a table
		return false
	default:
		return bytes.IndexByte([]byte("#`~>-*+|<=_0123456789"), first[0]) >= 0
	}
}

// give gives out those of the first block's lines that are not, with an empty line before
// the block.
func (f *documentFlow) give(lines []string) (settled []string) {
	if f.given >= len(lines) {
		return nil
	}
	settled = f.apart(lines[f.given:])
	f.given, f.another = len(lines), true
	return settled
}

// apart puts an empty line before lines that begin a block behind another.
func (f *documentFlow) apart(lines []string) []string {
	if f.another && f.given == 0 && len(lines) > 0 {
		return append([]string{""}, lines...)
	}
	return lines
}

// begin makes source what is not settled.
func (f *documentFlow) begin(source []byte) {
	f.source, f.given, f.filled = append(make([]byte, 0, maxBlock), source...), 0, 0
	f.line = bytes.LastIndexByte(f.source, '\n') + 1
}

// resize tells how large the screen is now. A block of which something was given out keeps
// its width, for its lines are counted.
func (f *documentFlow) resize(width, rows int) {
	f.rows = rows
	if f.given == 0 {
		f.width = width
	}
}

// cut settles the lines of a block that is too long, and begins another of its kind.
func (f *documentFlow) cut() []string {
	source := f.source
	if f.line > 0 {
		source = source[:f.line]
	}
	rest := append(openFence(source), f.source[len(source):]...)
	settled := f.give(f.markdown.render(source, f.width))
	f.begin(rest)
	return settled
}

// openFence is the first line of a block of code that has no end yet.
func openFence(source []byte) []byte {
	first, rest, _ := bytes.Cut(source, []byte("\n"))
	mark := bytes.TrimLeft(first, " ")
	for _, c := range []string{"`", "~"} {
		fence := mark[:len(mark)-len(bytes.TrimLeft(mark, c))]
		if len(fence) < 3 {
			continue
		}
		for line := range bytes.Lines(rest) {
			line = bytes.TrimSpace(line)
			if len(line) >= len(fence) && len(bytes.TrimLeft(line, c)) == 0 {
				return nil
			}
		}
		return append(append([]byte(nil), first...), '\n')
	}
	return nil
}

func (f *documentFlow) open() []string {
	lines := f.markdown.render(f.source, f.width)
	return f.apart(lines[min(f.given, len(lines)):])
}

func (f *documentFlow) end() []string {
	settled := f.give(f.markdown.render(f.source, f.width))
	f.begin(nil)
	return settled
}

// textFlow is a flow of plain text. A line is settled when the next one begins; empty ones
// at the ends of the text are left out.
type textFlow struct {
	width   int
	look    look
	colours bool

	source string // from the beginning of the line that is not settled
	empty  int    // lines that are settled where another follows
	begun  bool
}

func (f *textFlow) feed(text string) (settled []string) {
	all := cells(f.source+text, f.look)
	lines, last := wrap(all, f.width)
	for _, line := range lines[:len(lines)-1] {
		settled = append(settled, f.take(line)...)
	}
	var rest strings.Builder
	for _, c := range all[last:] {
		rest.WriteString(c.text)
	}
	f.source = rest.String()
	return settled
}

// take settles a line, and the empty ones before it.
func (f *textFlow) take(line []cell) (settled []string) {
	if len(line) == 0 {
		f.empty++
		return nil
	}
	if f.begun {
		settled = make([]string, f.empty)
	}
	f.empty, f.begun = 0, true
	return append(settled, paint(line, f.colours))
}

func (f *textFlow) open() []string {
	after := *f // which stays as it is
	return after.end()
}

func (f *textFlow) end() (settled []string) {
	lines, _ := wrap(cells(f.source, f.look), f.width)
	for _, line := range lines {
		settled = append(settled, f.take(line)...)
	}
	f.source = ""
	return settled
}
