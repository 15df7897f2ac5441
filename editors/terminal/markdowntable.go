package terminal

import (
	"strings"

	extast "github.com/yuin/goldmark/extension/ast"
)

// leastColumn is the least width of a column of a table, in columns of the terminal.
const leastColumn = 4

// table renders a table. Where its columns do not fit, those that are widest are broken
// into lines; where there is too little room for that, each row is a list.
func (p *page) table(n *extast.Table, width int) []string {
	var rows [][][]cell
	for r := n.FirstChild(); r != nil; r = r.NextSibling() {
		var row [][]cell
		for c := r.FirstChild(); c != nil; c = c.NextSibling() {
			row = append(row, p.inline(c, look{bold: r.Kind() == extast.KindTableHeader}))
		}
		rows = append(rows, row)
	}
	columns := len(n.Alignments)
	room := width - 3*(columns-1) // between them stands " │ "
	if columns == 0 || room < leastColumn*columns {
		return p.records(rows, width)
	}
	widths := columnWidths(rows, columns, room)
	var lines []string
	for i, row := range rows {
		lines = append(lines, p.row(row, widths, n.Alignments)...)
		if i == 0 {
			var bars []string
			for _, w := range widths {
				bars = append(bars, strings.Repeat("─", w))
			}
			lines = append(lines, p.paint(strings.Join(bars, "─┼─"), look{faint: true}))
		}
	}
	return lines
}

// columnWidths shares room among columns: as much as they need, and less for the widest.
func columnWidths(rows [][][]cell, columns, room int) []int {
	widths, sum := make([]int, columns), 0
	for i := range widths {
		widths[i] = 1
		for _, row := range rows {
			if i < len(row) {
				widths[i] = max(widths[i], widthOf(row[i]))
			}
		}
		sum += widths[i]
	}
	for ; sum > room; sum-- {
		widest := 0
		for i := range widths {
			if widths[i] > widths[widest] {
				widest = i
			}
		}
		widths[widest]--
	}
	return widths
}

// row renders one row, which has several lines where a cell does.
func (p *page) row(row [][]cell, widths []int, alignments []extast.Alignment) []string {
	broken, height := make([][][]cell, len(widths)), 1
	for i := range widths {
		if i < len(row) {
			broken[i], _ = wrap(row[i], widths[i])
			height = max(height, len(broken[i]))
		}
	}
	lines := make([]string, height)
	for y := range lines {
		var parts []string
		for i, w := range widths {
			var content []cell
			if y < len(broken[i]) {
				content = broken[i][y]
			}
			left, right := 0, max(w-widthOf(content), 0)
			switch alignments[i] {
			case extast.AlignRight:
				left, right = right, 0
			case extast.AlignCenter:
				left, right = right/2, right-right/2
			}
			parts = append(parts, strings.Repeat(" ", left)+paint(content, p.colours)+strings.Repeat(" ", right))
		}
		lines[y] = strings.TrimRight(strings.Join(parts, p.paint(" │ ", look{faint: true})), " ")
	}
	return lines
}

// records renders each row as lines of its own, behind the names of the columns.
func (p *page) records(rows [][][]cell, width int) []string {
	var lines []string
	for i, row := range rows {
		if i == 0 && len(rows) > 1 {
			continue
		}
		if len(lines) > 0 {
			lines = append(lines, "")
		}
		for c := range row {
			entry := row[c]
			if i > 0 && c < len(rows[0]) {
				entry = append(append(append([]cell{}, rows[0][c]...), cells(": ", look{bold: true})...), row[c]...)
			}
			lines = append(lines, p.wrapped(entry, width)...)
		}
	}
	return lines
}
