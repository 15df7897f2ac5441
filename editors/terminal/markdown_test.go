package terminal

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/alecthomas/chroma/v2/lexers"
	"github.com/charmbracelet/x/ansi"
	"github.com/stretchr/testify/require"
)

// TestMarkdownIsRendered has a case for each construct, its looks written as <b> bold, <i>
// italic, <d> faint, <u> underlined, <s> struck and <1> to <6> for the colours from red on.
func TestMarkdownIsRendered(t *testing.T) {
	for _, c := range []struct{ source, want string }{
		{"text *em* **strong** ***both*** ~~gone~~ `code  x`", "text <i>em</> <b>strong</> <bi>both</> <s>gone</> <3>code  x</>"},
		{"two\nlines  \nhard\\\nbreak<br>tag", "two\nlines\nhard\nbreak\ntag"},
		{"a line of text that is too long for it", "a line of text that is too long\nfor it"},
		{"# One\n## Two\nSet\n---", "<bu5>One</>\n\n<b5>Two</>\n\n<b5>Set</>"},
		{"- a\n- b that is long enough to be broken\n  - c\n\n    d\n1. x", "<6>• </>a\n<6>• </>b that is long enough to be\n  broken\n  <6>• </>c\n\n    d\n\n<6>1. </>x"},
		{"9. nine\n10. ten", "<6>9. </>nine\n<6>10. </>ten"},
		{"- loose\n\n- items", "<6>• </>loose\n\n<6>• </>items"},
		{"- [x] done\n- [ ] open", "<6>• </>☑ done\n<6>• </>☐ open"},
		{"-\n- b", "<6>• </>\n<6>• </>b"},
		{"> quoted text that is too long for it\n> > deeper", "<d>│ </>quoted text that is too long\n<d>│ </>for it\n<d>│ </>\n<d>│ </><d>│ </>deeper"},
		{"```go\nx := \"s\" // c\n\n\tlong_long_long_long_long_long_long\n```", "<di>go</>\n  x := <2>\"s\"</> <di>// c</>\n\n      long_long_long_long_long_l\n  ong_long"},
		{"```\nplain\n```\n    indented", "  plain\n\n  indented"},
		{"```nosuchlanguage\nx\n```", "<di>nosuchlanguage</>\n  x"},
		{"***", "<d>" + strings.Repeat("─", 32) + "</>"},
		{"[text](https://a.b) <https://c.d> <me@e.f> [https://g.h](https://g.h) ![pic](p.png)",
			"<u>text</><d4> (https://a.b)</> <u4>https://c.d</>\n<u4>me@e.f</> <u4>https://g.h</> <u>image: pic</>\n<d4>(p.png)</>"},
		{"[empty]() [ref]\n\n[ref]: https://r.s", "<u>empty</> <u>ref</><d4> (https://r.s)</>"},
		{"<b>bold</b>\n\n<div>\nblock\n</div>", "<d><b></>bold<d></b></>\n\n<d><div></>\n<d>block</>\n<d></div></>"},
		{"&amp; &#65; &copy; \\* \x1b[2J &#27;[2J \u202eabc", "& A © * \uFFFD[2J \uFFFD[2J \uFFFDabc"},
		{"| a | b |\n|:-:|--:|\n| x | long cell |\n| **y** |", "<b>a</><d> │ </>        <b>b</>\n<d>──┼──────────</>\nx<d> │ </>long cell\n<b>y</><d> │ </>"},
		{"| name | text |\n|---|---|\n| one | a text that has to be broken into lines |", "<b>name</><d> │ </><b>text</>\n<d>─────┼──────────────────────────</>\none <d> │ </>a text that has to be\n    <d> │ </>broken into lines"},
		{"| a | b | c | d | e | f |\n|---|---|---|---|---|---|\n| 1 | 2 | 3 | 4 | 5 | 6 |", "<b>a: </>1\n<b>b: </>2\n<b>c: </>3\n<b>d: </>4\n<b>e: </>5\n<b>f: </>6"},
		{"日本語の文章は空白なしで続きます。とても長い", "日本語の文章は空白なしで続きます\n。とても長い"},
		{"", ""},
	} {
		got := strings.Join(newMarkdown(true).render([]byte(c.source), 32), "\n")
		if looks(got) != c.want {
			t.Errorf("%q is rendered as %q, want %q", c.source, looks(got), c.want)
		}
		plain := strings.Join(newMarkdown(false).render([]byte(c.source), 32), "\n")
		require.Equal(t, ansi.Strip(got), ansi.Strip(plain), "%q", c.source)
		require.NotRegexp(t, `\x1b\[[0-9;]*3[0-9]m`, plain, "no colours")
	}
}

// looks writes sequences as tags.
func looks(text string) string {
	names := map[string]string{"1": "b", "2": "d", "3": "i", "4": "u", "9": "s"}
	return sequences.ReplaceAllStringFunc(text, func(s string) string {
		if s == sgrReset {
			return "</>"
		}
		tag := ""
		for _, p := range strings.Split(s[2:len(s)-1], ";") {
			if name, ok := names[p]; ok {
				tag += name
			} else {
				tag += p[1:]
			}
		}
		return "<" + tag + ">"
	})
}

// TestHighlightingKeepsCode has the lexers of all languages colour texts that are sound in
// none: each comes to an end, and none loses or adds a character.
func TestHighlightingKeepsCode(t *testing.T) {
	parts := []string{
		"def f(x):\n", "\"a", "'b'", "/* c */", "// d\n", "#if 0\n", "<a b=\"c\">", "&amp;", "</a>", "{{ x }}", "$y", "@z", "1.5e3", "'open", "\n", "  ", "end",
		"`", "${", "}", "(", ")", "[", "<<EOF\n", "EOF", ":", ";", "=", "\\", "%", "?", "日本", "--", "'''", "\"\"\"", "<?php", "<script>", "<style>", "class A", "import ", "|",
	}
	text := func(all []cell) string {
		var b strings.Builder
		for _, c := range all {
			b.WriteString(c.text)
		}
		return b.String()
	}
	for i, name := range append([]string{"nosuchlanguage", "markdown", "jsonata"}, languages...) {
		require.True(t, i == 0 || lexers.Get(name) != nil, name)
		r := rand.New(rand.NewPCG(uint64(i), 3))
		for range 8 {
			var b strings.Builder
			for range r.IntN(30) {
				b.WriteString(parts[r.IntN(len(parts))])
			}
			source := strings.TrimRight(b.String(), "\n")
			require.Equal(t, text(cells(source, look{})), text(highlight(name, source)), "%s: %q", name, source)
		}
	}
}
