package terminal

import (
	"fmt"
	"strings"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
)

// row is what a row of the screen shows of an editor's text.
type row struct {
	from     int // bytes into the text
	clusters []cluster
}

// cluster is a character of so many bytes.
type cluster struct {
	shown        string
	width, bytes int
}

// offset is where in the text a column is, or the end of the row before it.
func (r row) offset(column int) int {
	at := r.from
	for _, c := range r.clusters {
		if column -= c.width; column < 0 {
			break
		}
		at += c.bytes
	}
	return at
}

// rows lays the text out. A column is left for a cursor behind a full row.
func (e *editor) rows() []row {
	room := max(e.width-ansi.StringWidth(e.prompt)-1, 2)
	rows, w := []row{{}}, 0
	for at := 0; at < len(e.text); {
		text, _ := ansi.FirstGraphemeCluster(e.text[at:], ansi.GraphemeWidth)
		c := cluster{text, 1, len(text)}
		if len(text) > 1 || text < " " || text > "~" {
			c.shown, c.width = "", 0
			for _, one := range cells(text, look{}) { // several for a tab
				c.shown, c.width = c.shown+one.text, c.width+one.width
			}
		}
		at += len(text)
		switch {
		case text == "\n":
			rows, w = append(rows, row{from: at}), 0
			continue
		case w+c.width > room && w > 0:
			rows, w = append(rows, row{from: at - len(text)}), 0
		}
		r := &rows[len(rows)-1]
		r.clusters, w = append(r.clusters, c), w+c.width
	}
	return rows
}

// cursor is the row and the column of the cursor.
func (e *editor) cursor(rows []row) (y, x int) {
	y = len(rows) - 1
	for y > 0 && rows[y].from > e.at {
		y--
	}
	at := rows[y].from
	for _, c := range rows[y].clusters {
		if at >= e.at {
			break
		}
		at, x = at+c.bytes, x+c.width
	}
	return y, x
}

// View implements tea.Model. It shows as many rows as the screen has room for: those
// around the cursor, and the first ones when all is said.
func (e *editor) View() tea.View {
	rows := e.rows()
	y, x := e.cursor(rows)
	room, first := max(e.height-1, 1), 0
	if e.note != "" {
		room = max(room-1, 1)
	}
	left := len(rows) - room
	switch {
	case left <= 0:
	case e.done:
		rows, left = rows[:room-1], left+1
	default:
		first = min(max(y-room/2, 0), left)
		rows = rows[first : first+room]
	}
	var lines []string
	for i, r := range rows {
		before := e.prompt
		if first+i > 0 {
			before = e.more
		}
		line := paint(cells(before, look{bold: true, colour: green}), e.colours)
		for _, c := range r.clusters {
			line += c.shown
		}
		lines = append(lines, line)
	}
	if e.done && left > 0 {
		lines = append(lines, paint(cells(fmt.Sprintf("%s(%d more rows)", e.more, left), look{faint: true}), e.colours))
	}
	if e.note != "" {
		lines = append(lines, ansi.Truncate(paint(cells(e.note, look{faint: true}), e.colours), max(e.width, 1), "…"))
	}
	if e.done {
		return tea.NewView(strings.Join(lines, "\n") + "\n") // the cursor ends below
	}
	v := tea.NewView(strings.Join(lines, "\n"))
	v.Cursor = tea.NewCursor(ansi.StringWidth(e.prompt)+x, y-first)
	return v
}

// choice is a question that a key answers. It is a model of Bubble Tea.
type choice struct {
	question string
	keys     string // the answers
	answer   rune   // 0 where nobody gave one of them
	done     bool
	// interrupted says that it was Ctrl-C.
	interrupted bool
}

// Init implements tea.Model.
func (c *choice) Init() tea.Cmd { return nil }

// Update implements tea.Model.
func (c *choice) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	key, ok := msg.(tea.KeyPressMsg)
	if !ok {
		return c, nil
	}
	switch name := strings.ToLower(key.String()); name {
	case "ctrl+c":
		c.interrupted = true
	case "enter", "esc", "ctrl+d":
	default:
		if len(name) != 1 || !strings.Contains(c.keys, name) {
			return c, nil
		}
		c.answer = rune(name[0])
	}
	c.done = true
	return c, tea.Quit
}

// View implements tea.Model.
func (c *choice) View() tea.View {
	if !c.done {
		v := tea.NewView(c.question + " ")
		v.Cursor = tea.NewCursor(ansi.StringWidth(c.question)+1, 0)
		return v
	}
	answer := "no"
	if c.answer != 0 {
		answer = string(c.answer)
	}
	return tea.NewView(c.question + " " + answer + "\n")
}
