package terminal

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/chroma/v2"
	"github.com/alecthomas/chroma/v2/lexers"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	extast "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// markdown renders GitHub's Markdown as lines for a terminal. It is for one goroutine.
type markdown struct {
	parser  parser.Parser
	colours bool
}

func newMarkdown(colours bool) *markdown {
	return &markdown{goldmark.New(goldmark.WithExtensions(extension.GFM)).Parser(), colours}
}

// lastBlock is where the last of several blocks of a document begins; 0 where there are
// no two.
func (m *markdown) lastBlock(source []byte) int {
	last := m.parser.Parse(text.NewReader(source)).LastChild()
	if last == nil || last.PreviousSibling() == nil || last.Pos() < 0 {
		return 0
	}
	at := min(last.Pos(), len(source))
	for at > 0 && source[at-1] != '\n' { // indented code begins behind its indentation
		at--
	}
	return at
}

// render makes lines of a document, none of them wider than width columns where width
// is 4 or more.
func (m *markdown) render(source []byte, width int) []string {
	p := page{source: source, colours: m.colours}
	return p.blocks(m.parser.Parse(text.NewReader(source)), max(width, 4), true)
}

// page is one rendering.
type page struct {
	source  []byte
	colours bool
}

// Containers need so many columns, or their content goes to the margin.
const narrow = 10

// blocks renders what a container holds.
func (p *page) blocks(container ast.Node, width int, apart bool) []string {
	var lines []string
	for n := container.FirstChild(); n != nil; n = n.NextSibling() {
		block := p.block(n, width)
		if len(block) == 0 {
			continue
		}
		if apart && len(lines) > 0 {
			lines = append(lines, "")
		}
		lines = append(lines, block...)
	}
	return lines
}

// block renders one block, without empty lines around it.
func (p *page) block(n ast.Node, width int) []string {
	switch n := n.(type) {
	case *ast.Heading:
		l := look{bold: true, colour: magenta, underline: n.Level == 1}
		return p.wrapped(p.inline(n, l), width)
	case *ast.Paragraph, *ast.TextBlock:
		return p.wrapped(p.inline(n, look{}), width)
	case *ast.ThematicBreak:
		return []string{p.paint(strings.Repeat("─", min(width, 40)), look{faint: true})}
	case *ast.Blockquote:
		return p.hang(p.paint("│ ", look{faint: true}), p.paint("│ ", look{faint: true}), 2, width, func(w int) []string { return p.blocks(n, w, true) })
	case *ast.List:
		return p.list(n, width)
	case *ast.FencedCodeBlock:
		return p.code(string(n.Language(p.source)), n, width)
	case *ast.CodeBlock:
		return p.code("", n, width)
	case *ast.HTMLBlock:
		raw := p.raw(n)
		if n.HasClosure() {
			raw += string(n.ClosureLine.Value(p.source))
		}
		return p.lines(chop(cells(strings.TrimRight(raw, "\n"), look{faint: true}), width))
	case *ast.LinkReferenceDefinition:
		return nil
	case *extast.Table:
		return p.table(n, width)
	}
	return p.blocks(n, width, true)
}

// hang renders content behind a prefix of its first line and one of the others, both of
// so many columns. Where there is too little room it stands on its own.
func (p *page) hang(first, others string, columns, width int, content func(width int) []string) []string {
	if width-columns < narrow {
		lines := content(width)
		if strings.TrimSpace(first) != strings.TrimSpace(others) { // a mark and no bar
			lines = append([]string{first}, lines...)
		}
		return lines
	}
	lines := content(width - columns)
	if len(lines) == 0 {
		lines = []string{""}
	}
	for i := range lines {
		if i == 0 {
			lines[i] = first + lines[i]
		} else {
			lines[i] = strings.TrimRight(others+lines[i], " ")
		}
	}
	return lines
}

func (p *page) list(n *ast.List, width int) []string {
	var lines []string
	number := n.Start
	for item := n.FirstChild(); item != nil; item = item.NextSibling() {
		mark := "• "
		if n.IsOrdered() {
			mark = fmt.Sprintf("%d. ", number)
			number++
		}
		if len(lines) > 0 && !n.IsTight {
			lines = append(lines, "")
		}
		columns := widthOf(cells(mark, look{}))
		lines = append(lines, p.hang(p.paint(mark, look{colour: cyan}), strings.Repeat(" ", columns), columns, width, func(w int) []string {
			return p.blocks(item, w, !n.IsTight)
		})...)
	}
	return lines
}

// code renders a block of code, whose lines are broken where they are full.
func (p *page) code(language string, n ast.Node, width int) []string {
	source := strings.Trim(strings.ReplaceAll(p.raw(n), "\t", "    "), "\n")
	var lines []string
	if language != "" {
		lines = p.lines(chop(cells(language, look{faint: true, italic: true}), width))
	}
	indent := "  "
	if width < narrow {
		indent = ""
	}
	for _, line := range p.lines(chop(highlight(language, source), width-len(indent))) {
		lines = append(lines, strings.TrimRight(indent+line, " "))
	}
	return lines
}

// raw is the text of a block whose lines are no Markdown.
func (p *page) raw(n ast.Node) string {
	var b strings.Builder
	for i := range n.Lines().Len() {
		s := n.Lines().At(i)
		b.Write(s.Value(p.source))
	}
	return b.String()
}

// languages are those that are coloured, as chroma calls them. Some of its other lexers do
// not come to an end on text that is not theirs, and a model decides what they get.
var languages = strings.Split("Bash|Bash Session|C|C++|C#|CMake|CSS|Dart|Diff|Docker|Elixir|Erlang|Go|GraphQL|Haskell|HTML|HTTP|INI|Java|"+
	"JavaScript|JSON|Julia|Kotlin|Lua|Makefile|Nix|OCaml|Objective-C|Perl|PHP|PowerShell|Protocol Buffer|Python|R|react|Ruby|Rust|Scala|SQL|Swift|"+
	"Terraform|TOML|TypeScript|VimL|XML|YAML|Zig", "|")

// highlight colours code in a language by its name.
func highlight(language, source string) []cell {
	lexer := lexers.Get(language)
	if language == "" || lexer == nil || !slices.Contains(languages, lexer.Config().Name) {
		return cells(source, look{})
	}
	next, err := lexer.Tokenise(nil, source)
	if err != nil {
		return cells(source, look{})
	}
	var all []cell
	var whole strings.Builder
	// Tokens may be empty, but a lexer that makes many of these makes them for ever.
	for range 4*len(source) + 64 {
		t := next()
		if t == chroma.EOF {
			break
		}
		whole.WriteString(t.Value)
		all = append(all, cells(t.Value, tokenLook(t.Type))...)
	}
	if strings.TrimRight(whole.String(), "\n") != strings.TrimRight(source, "\n") {
		return cells(source, look{})
	}
	for len(all) > 0 && all[len(all)-1].text == "\n" { // lexers end with a line end
		all = all[:len(all)-1]
	}
	return all
}

// tokenLook is how a kind of token looks.
func tokenLook(t chroma.TokenType) look {
	switch {
	case t.InCategory(chroma.Comment):
		return look{faint: true, italic: true}
	case t == chroma.NameFunction, t == chroma.NameClass, t == chroma.NameTag:
		return look{colour: blue}
	case t == chroma.NameBuiltin, t == chroma.NameBuiltinPseudo, t == chroma.NameDecorator, t == chroma.NameAttribute, t.InSubCategory(chroma.LiteralNumber):
		return look{colour: cyan}
	case t.InCategory(chroma.Keyword):
		return look{colour: magenta}
	case t.InSubCategory(chroma.LiteralString):
		return look{colour: green}
	case t == chroma.GenericDeleted:
		return look{colour: red}
	case t == chroma.GenericInserted:
		return look{colour: green}
	}
	return look{}
}

// inline renders text with its emphasis, links and code.
func (p *page) inline(parent ast.Node, l look) []cell {
	var all []cell
	for n := parent.FirstChild(); n != nil; n = n.NextSibling() {
		switch n := n.(type) {
		case *ast.Text:
			value := n.Value(p.source)
			if !n.IsRaw() {
				value = unescape(value)
			}
			all = append(all, cells(string(value), l)...)
			if n.SoftLineBreak() || n.HardLineBreak() { // models mean the lines that they write
				all = append(all, cell{text: "\n", look: l})
			}
		case *ast.String:
			all = append(all, cells(string(n.Value), l)...)
		case *ast.CodeSpan:
			code := l
			code.colour = yellow
			for _, c := range p.inline(n, code) {
				if c.text == "\n" {
					c.text, c.width = " ", 1
				}
				all = append(all, c)
			}
		case *ast.Emphasis:
			strong := l
			if n.Level > 1 {
				strong.bold = true
			} else {
				strong.italic = true
			}
			all = append(all, p.inline(n, strong)...)
		case *extast.Strikethrough:
			gone := l
			gone.strike = true
			all = append(all, p.inline(n, gone)...)
		case *ast.Link:
			all = append(all, p.link(p.inline(n, l), string(unescape(n.Destination)), l)...)
		case *ast.AutoLink:
			all = append(all, p.link(nil, string(n.URL(p.source)), l)...)
		case *ast.Image:
			all = append(all, p.link(append(cells("image: ", l), p.inline(n, l)...), string(unescape(n.Destination)), l)...)
		case *ast.RawHTML:
			all = append(all, p.html(n, l)...)
		case *extast.TaskCheckBox:
			mark := "☐ "
			if n.IsChecked {
				mark = "☑ "
			}
			all = append(all, cells(mark, l)...)
		default:
			all = append(all, p.inline(n, l)...)
		}
	}
	return all
}

// html shows inline HTML as it is, but for line breaks.
func (p *page) html(n *ast.RawHTML, l look) []cell {
	var raw []byte
	for i := range n.Segments.Len() {
		s := n.Segments.At(i)
		raw = append(raw, s.Value(p.source)...)
	}
	switch strings.ToLower(strings.ReplaceAll(string(raw), " ", "")) {
	case "<br>", "<br/>":
		return []cell{{text: "\n", look: l}}
	}
	l.faint = true
	return cells(string(raw), l)
}

// link shows where a link goes: a person is not to be misled by its text.
func (p *page) link(shown []cell, to string, l look) []cell {
	l.underline, l.colour = true, blue
	var said strings.Builder
	for i := range shown {
		shown[i].look.underline = true
		said.WriteString(shown[i].text)
	}
	switch {
	case said.Len() == 0 || said.String() == to || "mailto:"+said.String() == to:
		return cells(to, l)
	case to == "":
		return shown
	}
	l.faint, l.underline = true, false
	return append(shown, cells(" ("+to+")", l)...)
}

// unescape resolves what stands for other characters in Markdown.
func unescape(s []byte) []byte {
	return util.ResolveEntityNames(util.ResolveNumericReferences(util.UnescapePunctuations(s)))
}

func (p *page) paint(s string, l look) string { return paint(cells(s, l), p.colours) }

// wrapped breaks text into lines and paints them.
func (p *page) wrapped(text []cell, width int) []string {
	lines, _ := wrap(text, width)
	return p.lines(lines)
}

// lines paints lines.
func (p *page) lines(all [][]cell) []string {
	lines := make([]string, len(all))
	for i := range all {
		lines[i] = paint(all[i], p.colours)
	}
	return lines
}
