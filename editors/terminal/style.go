package terminal

import (
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// look is how text looks on a terminal. The zero value is plain text.
type look struct {
	bold, faint, italic, underline, strike bool
	// colour is the SGR parameter of one of the sixteen colours, which people choose so
	// that they can read them; 0 is the terminal's own.
	colour uint8
}

// The colours in use.
const (
	red     = 31
	green   = 32
	yellow  = 33
	blue    = 34
	magenta = 35
	cyan    = 36
)

// sgr is the sequence that begins the look; empty for plain text.
func (l look) sgr(colours bool) string {
	var s ansi.Style
	if l.bold {
		s = s.Bold()
	}
	if l.faint {
		s = s.Faint()
	}
	if l.italic {
		s = s.Italic(true)
	}
	if l.underline {
		s = s.Underline(true)
	}
	if l.strike {
		s = s.Strikethrough(true)
	}
	if l.colour != 0 && colours {
		s = s.ForegroundColor(ansi.BasicColor(l.colour - 30))
	}
	if len(s) == 0 {
		return ""
	}
	return s.String()
}

const sgrReset = "\x1b[m"

// cell is what a terminal shows as one character: a grapheme cluster, of zero to two
// columns. The text "\n" ends a line.
type cell struct {
	text  string
	width int
	look  look
}

// cells takes text apart. What could steer a terminal is replaced, see printable; what has
// no width of its own cannot be seen, and terminals differ in where they put it.
func cells(text string, l look) []cell {
	text = printable(strings.ReplaceAll(text, "\r", ""))
	all := make([]cell, 0, len(text))
	for len(text) > 0 {
		cluster, width := ansi.FirstGraphemeCluster(text, ansi.GraphemeWidth)
		text = text[len(cluster):]
		switch {
		case cluster == "\n":
			all = append(all, cell{"\n", 0, l})
		case cluster == "\t":
			all = append(all, cell{" ", 1, l}, cell{" ", 1, l}, cell{" ", 1, l}, cell{" ", 1, l})
		case width > 0:
			all = append(all, cell{cluster, width, l})
		}
	}
	return all
}

func widthOf(all []cell) (w int) {
	for i := range all {
		w += all[i].width
	}
	return w
}

// wrap breaks cells into lines of at most width columns: at line ends, between words,
// beside wide characters, and within words that are longer than a line. Spaces at the end
// of a line are dropped. A longer text has the same lines, but for the last, which begins
// at the index last.
func wrap(all []cell, width int) (lines [][]cell, last int) {
	for {
		end, next := lineEnd(all, last, max(width, 1))
		line := all[last:end]
		for len(line) > 0 && line[len(line)-1].text == " " {
			line = line[:len(line)-1]
		}
		lines = append(lines, line)
		if next < 0 {
			return lines, last
		}
		last = next
	}
}

// lineEnd is where the line ends that begins at start, and where the next one begins; -1
// where there is none.
func lineEnd(all []cell, start, width int) (end, next int) {
	w, word := 0, -1 // columns so far, the last place to break at
	for i := start; i < len(all); i++ {
		c, inside := all[i], i > start && all[i-1].text != " "
		switch {
		case c.text == "\n":
			return i, i + 1
		case c.text == " ":
			if inside {
				word = i
			}
			w++ // which may be beyond the width: nobody sees it there
			continue
		case c.width > 1 && inside, inside && all[i-1].width > 1:
			word = i
		}
		if w+c.width > width && i > start {
			if word < 0 {
				return i, i
			}
			for next = word; all[next].text == " "; next++ {
			}
			return word, next
		}
		w += c.width
	}
	return len(all), -1
}

// chop breaks cells into lines of at most width columns wherever they are full, as code
// has to be.
func chop(all []cell, width int) [][]cell {
	var lines [][]cell
	start, w := 0, 0
	for i, c := range all {
		switch {
		case c.text == "\n":
			lines, start, w = append(lines, all[start:i]), i+1, 0
			continue
		case w+c.width > max(width, 1) && i > start:
			lines, start, w = append(lines, all[start:i]), i, 0
		}
		w += c.width
	}
	return append(lines, all[start:])
}

// paint makes a line for a terminal of cells. It needs nothing of the lines around it and
// leaves nothing behind.
func paint(all []cell, colours bool) string {
	var b strings.Builder
	var now string
	for _, c := range all {
		if sgr := c.look.sgr(colours); sgr != now {
			if now != "" {
				b.WriteString(sgrReset)
			}
			b.WriteString(sgr)
			now = sgr
		}
		b.WriteString(c.text)
	}
	if now != "" {
		b.WriteString(sgrReset)
	}
	return b.String()
}
