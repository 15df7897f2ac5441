package terminal

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/stretchr/testify/require"
)

// key is the message of a key by its name.
func key(name string) tea.KeyPressMsg {
	named := map[string]rune{
		"enter": tea.KeyEnter, "left": tea.KeyLeft, "right": tea.KeyRight, "up": tea.KeyUp, "down": tea.KeyDown, "home": tea.KeyHome, "end": tea.KeyEnd,
		"backspace": tea.KeyBackspace, "delete": tea.KeyDelete, "tab": tea.KeyTab, "esc": tea.KeyEscape, "space": tea.KeySpace,
	}
	k := tea.Key{}
	for {
		rest, ok := strings.CutPrefix(name, "ctrl+")
		if ok {
			k.Mod |= tea.ModCtrl
		} else if rest, ok = strings.CutPrefix(name, "alt+"); ok {
			k.Mod |= tea.ModAlt
		} else if rest, ok = strings.CutPrefix(name, "shift+"); ok {
			k.Mod |= tea.ModShift
		} else {
			break
		}
		name = rest
	}
	if code, ok := named[name]; ok {
		k.Code = code
	} else {
		k.Code = []rune(name)[0]
		if k.Mod == 0 {
			k.Text = name
		}
	}
	return tea.KeyPressMsg(k)
}

func newEditor(entries ...string) *editor {
	e := &editor{prompt: "> ", more: "  ", history: &history{entries: entries}, entry: len(entries)}
	e.Update(tea.WindowSizeMsg{Width: 20, Height: 8})
	return e
}

// press presses keys, which stand in brackets where they are not the text itself.
func press(e *editor, keys string) {
	for len(keys) > 0 {
		if keys[0] == '<' {
			end := strings.IndexByte(keys, '>')
			e.Update(key(keys[1:end]))
			keys = keys[end+1:]
			continue
		}
		cluster, _ := ansi.FirstGraphemeCluster(keys, ansi.GraphemeWidth)
		e.Update(key(cluster))
		keys = keys[len(cluster):]
	}
}

func TestEditorKeys(t *testing.T) {
	for keys, want := range map[string]string{
		"abc":                              "abc|",
		"abc<left>x":                       "abx|c",
		"abc<home>x<end>y":                 "xabcy|",
		"abc<ctrl+a><right><delete>":       "a|c",
		"one two<ctrl+w>":                  "one |",
		"one two <alt+b><alt+b>x":          "x|one two ",
		"one two<ctrl+a><alt+f>x":          "onex| two",
		"one two<ctrl+a><alt+d>":           "| two",
		"one<ctrl+u>":                      "|",
		"one<ctrl+u><ctrl+y><ctrl+y>":      "oneone|",
		"one<ctrl+a><ctrl+k>two":           "two|",
		"a<ctrl+j>b":                       "a\nb|",
		"a<alt+enter>b<shift+enter>c":      "a\nb\nc|",
		"a<ctrl+j>b<home>x":                "a\nx|b",
		"a<ctrl+j>b<home><backspace>":      "a|b",
		"a<ctrl+j>b<up>x":                  "ax|\nb",
		"ab<ctrl+j>c<up><end><ctrl+k>":     "ab|c",
		"a<ctrl+j>b<ctrl+home>x":           "x|a\nb",
		"a<ctrl+j>b<ctrl+home><ctrl+end>x": "a\nbx|",
		"日本<left>x":                        "日x|本",
		"e\u0301x<left><backspace>":        "|x",
		"👨‍👩‍👧<backspace>a":                "a|",
		"one<ctrl+c>":                      "|",
		"a<ctrl+d>":                        "a|",
		"a<left><ctrl+d>":                  "|",
		"a\\<enter>b":                      "a\nb|",
		"\\<enter>a<enter>b":               "\\\na\nb|",
		"a<space>b":                        "a b|",
		"<backspace><left><right><delete><ctrl+w><alt+d><alt+b><alt+f><down>": "|",
	} {
		e := newEditor()
		press(e, keys)
		require.Equal(t, want, e.text[:e.at]+"|"+e.text[e.at:], keys)
		require.False(t, e.done, keys)
	}
}

func TestEditorEnds(t *testing.T) {
	for keys, want := range map[string]string{
		"abc<enter>": "abc", "a<ctrl+j>b<up><enter>": "a\nb", "a\\<enter>b<enter>": "a\nb", "\\<enter>a<enter><enter>\\help<enter>\\<enter>": "a\n\n\\help",
		"\\<enter>\\<enter>": "", "\\help<enter>": "\\help",
	} {
		e := newEditor()
		press(e, keys)
		require.True(t, e.done, keys)
		require.Equal(t, want, e.text, keys)
	}
	e := newEditor()
	press(e, "<ctrl+d>")
	require.Equal(t, io.EOF, e.err)
	e = newEditor()
	press(e, "<ctrl+c>")
	require.Equal(t, "Ctrl-D leaves.", e.note)
	require.Contains(t, e.View().Content, "Ctrl-D leaves.")
	press(e, "a")
	require.Empty(t, e.note)
	e = newEditor()
	e.leaveUntil = time.Now().Add(time.Hour)
	press(e, "<ctrl+c>")
	require.Equal(t, errInterrupted, e.err)
}

func TestEditorPastes(t *testing.T) {
	e := newEditor()
	e.Update(tea.PasteMsg{Content: "\tif x {\r\n\t\ty\r}\\\n"})
	require.Equal(t, "\tif x {\n\t\ty\n}\\\n", e.text, "tabs and all")
	require.False(t, e.done)
	press(e, "<enter>")
	require.True(t, e.done)
}

func TestEditorGoesThroughTheHistory(t *testing.T) {
	e := newEditor("first", "second\nline", "other")
	for _, step := range []struct{ keys, want string }{
		{"<up>", "other"}, {"<up>", "second\nline"}, {"<up>", "second\nline"}, {"<up>", "first"}, {"<up>", "first"}, {"<down>", "second\nline"},
		{"<down>", "other"}, {"<down>", ""}, {"<down>", ""}, {"f<up>", "first"}, {"<down>", "f"}, {"x<up>", "fx"}, {"<ctrl+c>s<ctrl+p>", "second\nline"}, {"!", "second\nline!"}, {"<up><up>", "second\nline!"},
	} {
		press(e, step.keys)
		require.Equal(t, step.want, e.text, step.keys)
	}
}

func TestEditorCompletes(t *testing.T) {
	e := newEditor()
	press(e, "\\s<tab>")
	require.Equal(t, "\\s", e.text, "no way to")
	e.complete = func(line string) []string {
		return map[string][]string{"\\s": {"\\set ", "\\save "}, "\\l": {"\\list", "\\list all"}}[line]
	}
	press(e, "<tab>")
	require.Equal(t, "\\s", e.text)
	require.Equal(t, "\\set   \\save ", e.note)
	e.set("\\l")
	press(e, "<tab>")
	require.Equal(t, "\\list", e.text)
	press(e, "<left><tab>")
	require.Equal(t, "\\list", e.text)
}

// TestEditorIsSeen looks at the rows of the screen, which is 20 columns wide.
func TestEditorIsSeen(t *testing.T) {
	e := newEditor()
	press(e, "日本語の文章はとても長い")
	v := e.View()
	require.Equal(t, "> 日本語の文章はと\n  ても長い", ansi.Strip(v.Content))
	require.Equal(t, 10, v.Cursor.X)
	require.Equal(t, 1, v.Cursor.Y)
	press(e, "<up>")
	require.Equal(t, 10, e.View().Cursor.X)
	e.set(strings.Repeat("a", 17))
	require.Equal(t, 19, e.View().Cursor.X, "the cursor has a column")
	e.set("a\tb\x1b[2J")
	require.Equal(t, "> a    b\uFFFD[2J", ansi.Strip(e.View().Content))

	e.set(strings.Repeat("line\n", 20) + "end")
	v = e.View()
	require.Equal(t, 6, strings.Count(v.Content, "\n"), "the rows that the screen has room for")
	require.Contains(t, v.Content, "end")
	require.Equal(t, 6, v.Cursor.Y)
	e.at = 0
	require.Equal(t, 0, e.View().Cursor.Y)
	e.at, e.done = len(e.text), true
	require.Contains(t, ansi.Strip(e.View().Content), "(15 more rows)\n")
	e.width = 1
	e.View() // has a width that is none
}

func TestChoices(t *testing.T) {
	for name, want := range map[string]rune{"y": 'y', "Y": 'y', "n": 'n', "enter": 0, "esc": 0, "ctrl+c": 0, "ctrl+d": 0} {
		c := &choice{question: "Allow?", keys: "yn"}
		require.Contains(t, c.View().Content, "Allow? ")
		_, cmd := c.Update(key("x"))
		require.Nil(t, cmd, "no answer")
		_, cmd = c.Update(tea.PasteMsg{Content: "y"})
		require.Nil(t, cmd, "what is pasted is none")
		_, cmd = c.Update(key(name))
		require.NotNil(t, cmd)
		require.Equal(t, want, c.answer, name)
		require.Equal(t, name == "ctrl+c", c.interrupted)
		require.Contains(t, c.View().Content, "\n")
	}
}

func TestHistoryIsWrittenDown(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state", "chat-history")
	h, err := openHistory(file)
	require.NoError(t, err)
	for _, text := range []string{"one", "one", "two\nlines\n", "", strings.Repeat("x", maxHistoryEntry+1)} {
		require.NoError(t, h.add(text))
	}
	st, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), st.Mode().Perm())
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString("torn\n\"three\"\n\"to")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	h, err = openHistory(file)
	require.NoError(t, err)
	require.Equal(t, []string{"one", "two\nlines", "three"}, h.entries)
	require.NoError(t, h.add("four"))
	h, err = openHistory(file)
	require.NoError(t, err)
	require.Equal(t, []string{"one", "two\nlines", "three", "four"}, h.entries, "a torn line takes no other with it")

	require.NoError(t, os.WriteFile(file, []byte(strings.Repeat("\"a\"\n\"b\"\n", maxHistory+1)), 0o600))
	h, err = openHistory(file)
	require.NoError(t, err)
	require.Len(t, h.entries, maxHistory)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, maxHistory, strings.Count(string(text), "\n"), "it does not grow for ever")
	st, err = os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), st.Mode().Perm())

	h, err = openHistory(t.TempDir())
	require.ErrorContains(t, err, "history: ")
	require.NoError(t, h.add("x"), "it goes on without a file")
	h = &history{file: filepath.Join(file, "under", "a file")}
	require.ErrorContains(t, h.add("x"), "history: ")
	h = &history{file: t.TempDir()}
	require.ErrorContains(t, h.add("x"), "history: ")
}
