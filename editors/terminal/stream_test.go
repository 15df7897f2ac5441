package terminal

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/vt"
	"github.com/stretchr/testify/require"

	"harmonyd/schema"
)

// pieces are parts that documents are made of.
var pieces = []string{
	"A line of text.\n", "text with *emphasis*, **strong** words and `code` that goes on for longer than most screens are wide, so it is broken\n",
	"\n", "\n\n", "# Heading\n", "Title\n=====\n", "Sub\n---\n", "- one\n", "- two\n  - nested with a long text that has to be broken\n", "\n  more of an item\n",
	"1. first\n2. second\n", "10. tenth\n", "> quoted\n", "> > deeper\nlazy\n", "```go\nfunc f() {\n\treturn\n}\n", "```\n", "~~~\nplain\n~~~\n", "    indented code\n",
	"| a | b |\n|---|--:|\n", "| 1 | two words |\n", "| 東京 | é |\n", "---\n", "<div>\nhtml\n</div>\n", "[ref]: https://example.org\n",
	"a [link](https://example.org/with/a/long/path) and https://example.org\n", "- [x] done\n- [ ] not\n", "日本語の文章は空白なしで続きます。とても長い文です。\n",
	"e\u0301 combining n\u0303, \U0001F468\u200D\U0001F469\u200D\U0001F467 family, \u200B zero\n", "&amp; &#27;[2J \x1b[2J \x07 \u202E\n", "**never closed\n", "`never closed\n", "word ", "x", " ", "\t", "|", "\r\n",
	"averyveryveryverylongwordwithoutanyspacesinitthatisbrokenwhereverthelineisfullbecausethereisnowhereelse ",
	"![image](a.png) ~~gone~~ <br>next\\\nhard\n", "```python\nx = '''\n", "/* open comment\n", "**bold `code** x`\n", "***\n", "+ plus\n", "1) paren\n",
}

func document(r *rand.Rand, n int) string {
	var b strings.Builder
	for range n {
		b.WriteString(pieces[r.IntN(len(pieces))])
	}
	return b.String()
}

// runesOf cuts text into random parts that end at characters.
func cutUp(r *rand.Rand, text string) (parts []string) {
	runes := []rune(text)
	for len(runes) > 0 {
		n := min(1+r.IntN(1+r.IntN(40)), len(runes))
		parts, runes = append(parts, string(runes[:n])), runes[n:]
	}
	return parts
}

// window is a virtual terminal that remembers what scrolled off. One goroutine may write
// while another one looks.
type window struct {
	*vt.Emulator
	columns, rows int
	mu            sync.Mutex
}

func (w *window) WriteString(s string) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.Emulator.WriteString(s)
}

func (w *window) Write(b []byte) (int, error) { return w.WriteString(string(b)) }

func newWindow(columns, rows int) *window {
	w := &window{Emulator: vt.NewEmulator(columns, rows), columns: columns, rows: rows}
	w.SetScrollbackSize(1 << 20)
	return w
}

func (w *window) size() (columns, rows int) { return w.columns, w.rows }

// gone is what scrolled off, lines what can be seen from the first line ever to the last
// that is not empty.
func (w *window) gone() (lines []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.scrolled()
}

func (w *window) scrolled() (lines []string) {
	for i := range w.ScrollbackLen() {
		lines = append(lines, plainLine(w.Scrollback().Line(i).String()))
	}
	return lines
}

func (w *window) lines() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	lines := w.scrolled()
	for _, line := range strings.Split(w.String(), "\n") {
		lines = append(lines, plainLine(line))
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

var sequences = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// plainLine is a line without colours and spaces at its end.
func plainLine(line string) string {
	return strings.TrimRight(sequences.ReplaceAllString(line, ""), " ")
}

func plainLines(lines []string) []string {
	var all []string
	for _, line := range lines {
		all = append(all, plainLine(line))
	}
	for len(all) > 0 && all[len(all)-1] == "" {
		all = all[:len(all)-1]
	}
	return all
}

// TestStreamsEndUpTheSame writes random documents in random pieces, drawn at random
// moments, on terminals of many sizes. What can be read in the end, also by scrolling back,
// is what the document is in one piece; what scrolled off never changes.
func TestStreamsEndUpTheSame(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 1))
		columns, rows := 4+r.IntN(90), 3+r.IntN(28)
		text := document(r, 1+r.IntN(40))
		flows := func() flow {
			if seed%5 == 0 {
				return &textFlow{width: columns}
			}
			return &documentFlow{markdown: newMarkdown(seed%2 == 0), width: columns, rows: rows}
		}
		once := flows()
		want := append(once.feed(text), once.end()...)

		w := newWindow(columns, rows)
		s := &screen{w: w, size: w.size}
		f := flows()
		var settled, all []string
		for _, part := range cutUp(r, text) {
			settled = append(settled, f.feed(part)...)
			if r.IntN(3) == 0 {
				continue
			}
			open := f.open()
			s.show(settled, open)
			all, settled = append(all, settled...), nil
			gone := w.gone()
			require.LessOrEqual(t, len(gone), len(all), "seed %d: what is open does not scroll off", seed)
			require.Equal(t, strings.Join(plainLines(append(all, open...)[:len(gone)]), "\n"), strings.Join(plainLines(gone), "\n"), "seed %d", seed)
			seen := plainLines(append(append([]string{}, all...), open[max(len(open)-rows+1, 0):]...))
			require.Equal(t, strings.Join(seen, "\n"), strings.Join(w.lines(), "\n"), "seed %d: %q", seed, text)
		}
		settled = append(settled, f.end()...)
		s.show(settled, nil)
		require.Equal(t, want, append(all, settled...), "seed %d: %q", seed, text)
		require.Equal(t, strings.Join(plainLines(want), "\n"), strings.Join(w.lines(), "\n"), "seed %d: %q", seed, text)
		for _, line := range want {
			require.LessOrEqual(t, ansi.StringWidth(line), columns, "seed %d: %q", seed, line)
			require.NotContains(t, sequences.ReplaceAllString(line, ""), "\x1b", "seed %d", seed)
		}
	}
}

// TestStreamIsTheDocument compares what comes block by block with the whole document in
// one rendering, where no block is long enough to be given out in parts.
func TestStreamIsTheDocument(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 2))
		text := strings.ReplaceAll(document(r, 1+r.IntN(30)), "[ref]", "ref") // a reference counts backwards as well
		m := newMarkdown(true)
		f := &documentFlow{markdown: m, width: 60, rows: 1 << 20}
		got := append(f.feed(text), f.end()...)
		require.Equal(t, m.render([]byte(strings.ReplaceAll(text, "\r", "")), 60), got, "seed %d: %q", seed, text)
	}
}

func TestLongBlocksAreCutAndBounded(t *testing.T) {
	for name, text := range map[string]string{
		"code":      "```go\n" + strings.Repeat("x := 1 // a comment\n", 400) + "```\n",
		"no line":   strings.Repeat("word ", 4000),
		"no space":  strings.Repeat("é", 9000),
		"paragraph": strings.Repeat("a line of text\n", 800),
		"list":      strings.Repeat("- an item\n", 800),
		"quotes":    strings.Repeat(">", 9000),
	} {
		f := &documentFlow{markdown: newMarkdown(true), width: 80, rows: 24}
		var got []string
		for _, part := range cutUp(rand.New(rand.NewPCG(1, 1)), text[:len(text)/2]) {
			got = append(got, f.feed(part)...)
			require.LessOrEqual(t, len(f.source), maxBlock, name)
		}
		got = append(got, f.feed(text[len(text)/2:])...)
		got = append(got, f.end()...)
		whole := &documentFlow{markdown: newMarkdown(true), width: 80, rows: 24}
		require.Equal(t, append(whole.feed(text), whole.end()...), got, name)
		if name == "code" {
			highlighted := 0
			for _, line := range got {
				if strings.Contains(line, "\x1b[2;3m// a comment") {
					highlighted++
				}
			}
			require.Equal(t, 400, highlighted, "a cut block stays code")
		}
	}
}

// TestScreenSurvivesResizing makes the terminal narrower while something is open, as
// terminals do that break the lines anew.
func TestScreenCountsBrokenLines(t *testing.T) {
	columns := 40
	var out strings.Builder
	s := &screen{w: &out, size: func() (int, int) { return columns, 10 }}
	s.show(nil, []string{strings.Repeat("a", 40), strings.Repeat("b", 15)})
	columns = 20
	out.Reset()
	s.show([]string{"done"}, nil)
	require.Contains(t, out.String(), "\r\x1b[2A\x1b[J", "40 columns are two rows of 20")
	out.Reset()
	s.show(nil, nil)
	require.Empty(t, out.String(), "nothing changed")
}

func TestScreenWritesOnlyWhatChanges(t *testing.T) {
	var out strings.Builder
	s := &screen{w: &out, size: func() (int, int) { return 40, 10 }}
	s.show(nil, []string{"one", "tw"})
	out.Reset()
	s.show(nil, []string{"one", "two"})
	require.Equal(t, ansi.SetModeSynchronizedOutput+wrapOff+"o"+wrapOn+ansi.ResetModeSynchronizedOutput, out.String())
	out.Reset()
	s.show(nil, []string{"one", "two", "three"})
	require.NotContains(t, out.String(), "two")
	s.print("log")
	require.Contains(t, out.String(), "log\r\n"+wrapOff+"one\r\ntwo\r\nthree")
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, fmt.Errorf("gone") }

func TestScreenKeepsTheFirstError(t *testing.T) {
	s := &screen{w: brokenWriter{}, size: func() (int, int) { return 40, 10 }}
	require.NoError(t, s.failure())
	s.show([]string{"a"}, nil)
	s.show([]string{"b"}, nil)
	require.EqualError(t, s.failure(), "gone")
}

// TestScreenWaitsForOthers: what is shown while another program has the terminal comes
// when it is done.
func TestScreenWaitsForOthers(t *testing.T) {
	w := newWindow(40, 10)
	s := &screen{w: w, size: w.size}
	s.show([]string{"settled"}, []string{"open"})
	release, again := s.hold(), s.hold()
	s.print("log")
	s.show([]string{"more"}, []string{"old"})
	s.show(nil, []string{"new"})
	release()
	release()
	require.Equal(t, []string{"settled", "open"}, w.lines(), "one holds it yet")
	_, _ = w.WriteString("asked\r\n")
	again()
	require.Equal(t, []string{"settled", "open", "asked", "log", "more", "new"}, w.lines())
	s.show([]string{"newer"}, nil)
	require.Equal(t, []string{"settled", "open", "asked", "log", "more", "newer"}, w.lines())
}

// TestAnswersSayWhatIsDone shows what a turn waits for, once it waits for long, until there
// is text.
func TestAnswersSayWhatIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWindow(60, 10)
		v := &terminalView{screen: &screen{w: w, size: w.size}, markdown: newMarkdown(true), colours: true}
		a := v.answer("Ada", schema.Display{Thinking: 3})
		for _, c := range []struct {
			status schema.GenerateStatus
			see    string
		}{
			{schema.GenerateStatus{State: schema.StateQueued}, "waiting…"},
			{schema.GenerateStatus{State: schema.StateLoading, LoadedShare: 0.5}, "loading the model, 50 %"},
			{schema.GenerateStatus{State: schema.StatePrefill, PromptTokens: 300, ProcessedTokens: 100}, "reading, 100 of 300 tokens"},
		} {
			before := w.lines()
			a.Status(c.status)
			require.Equal(t, before, w.lines(), "not at once")
			time.Sleep(statusAfter)
			synctest.Wait()
			require.Equal(t, []string{c.see}, w.lines())
		}
		a.Status(schema.GenerateStatus{State: schema.StateDecoding})
		a.Text(t.Context(), schema.ChannelReasoning, "1234", 1)
		time.Sleep(drawEvery)
		synctest.Wait()
		require.Equal(t, []string{"Ada", "123…", "… thinking, 4 characters"}, w.lines())
		a.Text(t.Context(), schema.ChannelText, "Hi", 1)
		a.Arguments(t.Context(), "c.0", "weather", `{"place"`, 1)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, []string{"Ada", "123…", "(3 of 4 characters of reasoning)", "", "Hi", `→ weather {"place"`}, w.lines())
		a.Status(schema.GenerateStatus{State: schema.StateTool})
		a.end()
		a.Status(schema.GenerateStatus{State: schema.StateQueued})
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, []string{"Ada", "123…", "(3 of 4 characters of reasoning)", "", "Hi"}, w.lines(), "nothing is drawn behind the end")
	})
}
