package terminal

import (
	"errors"
	"io"
	"strings"
	"time"
	"unicode"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
)

// errInterrupted says that Ctrl-C was pressed.
var errInterrupted = errors.New("interrupted")

// editor is the line that a person writes on, of one line or several. It is a model of
// Bubble Tea, whose program it ends with a text or an error.
type editor struct {
	prompt, more string // before the first line and the others, of the same width
	colours      bool
	history      *history
	complete     func(line string) []string // what a line may become

	text          string
	at            int // the cursor, in bytes
	killed        string
	width, height int

	entry   int    // of the history that is shown; behind the last for what is written
	written string // where an entry is shown
	note    string // below the line, until the next key

	leaveUntil time.Time // until when Ctrl-C leaves

	done bool
	err  error
}

// Init implements tea.Model.
func (e *editor) Init() tea.Cmd { return nil }

// Update implements tea.Model.
func (e *editor) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		e.width, e.height = msg.Width, msg.Height
	case tea.PasteMsg:
		// Terminals send line ends as the key does.
		e.insert(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(msg.Content))
	case tea.KeyPressMsg:
		e.note = ""
		if act := editorKeys[msg.String()]; act != nil {
			if cmd := act(e); cmd != nil {
				return e, cmd
			}
		} else if msg.Text != "" {
			e.insert(msg.Text)
		}
	}
	if e.done {
		return e, tea.Quit
	}
	return e, nil
}

// editorKeys are the keys that do something, after Emacs and readline.
var editorKeys = func() map[string]func(*editor) tea.Cmd {
	keys := map[string]func(*editor) tea.Cmd{}
	for names, act := range map[string]func(*editor){
		"enter":                               (*editor).enter,
		"shift+enter alt+enter ctrl+j":        func(e *editor) { e.insert("\n") },
		"left ctrl+b":                         func(e *editor) { e.at = e.clusterBefore() },
		"right ctrl+f":                        func(e *editor) { e.at = e.clusterAfter() },
		"alt+left ctrl+left alt+b":            func(e *editor) { e.at = e.wordBefore() },
		"alt+right ctrl+right alt+f":          func(e *editor) { e.at = e.wordAfter() },
		"home ctrl+a":                         func(e *editor) { e.at = e.lineStart() },
		"end ctrl+e":                          func(e *editor) { e.at = e.lineEnd() },
		"ctrl+home alt+<":                     func(e *editor) { e.at = 0 },
		"ctrl+end alt+>":                      func(e *editor) { e.at = len(e.text) },
		"up ctrl+p":                           func(e *editor) { e.vertical(-1) },
		"down ctrl+n":                         func(e *editor) { e.vertical(1) },
		"backspace ctrl+h shift+backspace":    func(e *editor) { e.remove(e.clusterBefore(), e.at) },
		"delete":                              func(e *editor) { e.remove(e.at, e.clusterAfter()) },
		"ctrl+d":                              (*editor).endOrDelete,
		"ctrl+c":                              (*editor).clear,
		"ctrl+k":                              func(e *editor) { e.kill(e.at, max(e.lineEnd(), min(e.at+1, len(e.text)))) },
		"ctrl+u":                              func(e *editor) { e.kill(min(e.lineStart(), max(e.at-1, 0)), e.at) },
		"ctrl+w alt+backspace ctrl+backspace": func(e *editor) { e.kill(e.wordBefore(), e.at) },
		"alt+d ctrl+delete alt+delete":        func(e *editor) { e.kill(e.at, e.wordAfter()) },
		"ctrl+y":                              func(e *editor) { e.insert(e.killed) },
		"tab":                                 (*editor).completed,
		"space":                               func(e *editor) { e.insert(" ") },
	} {
		for _, name := range strings.Fields(names) {
			keys[name] = func(e *editor) tea.Cmd { act(e); return nil }
		}
	}
	keys["ctrl+l"] = func(*editor) tea.Cmd { return tea.ClearScreen }
	keys["ctrl+z"] = func(*editor) tea.Cmd { return tea.Suspend }
	return keys
}()

func (e *editor) insert(text string) {
	e.text = e.text[:e.at] + text + e.text[e.at:]
	e.at += len(text)
	e.entry, e.written = len(e.history.entries), ""
}

func (e *editor) remove(from, to int) {
	e.text, e.at = e.text[:from]+e.text[to:], from
	e.entry, e.written = len(e.history.entries), ""
}

func (e *editor) kill(from, to int) {
	if from < to {
		e.killed = e.text[from:to]
		e.remove(from, to)
	}
}

// set shows another text.
func (e *editor) set(text string) { e.text, e.at = text, len(text) }

// enter ends the message, or its line where more lines are to come.
func (e *editor) enter() {
	e.at = len(e.text)
	text, whole := message(e.text)
	if !whole {
		if continued(e.text) {
			e.text = e.text[:len(e.text)-1]
			e.at--
		}
		e.insert("\n")
		return
	}
	e.text, e.done = text, true
}

// message is what the lines of a person say. Between lines that are a backslash alone
// stands a message of several lines; a backslash at the end of the last line announces
// another one, where the message is not whole.
func message(written string) (text string, whole bool) {
	if first, rest, more := strings.Cut(written, "\n"); first == `\` {
		if end := strings.LastIndex("\n"+rest, "\n"); more && rest[end:] == `\` {
			return strings.TrimSuffix(rest[:end], "\n"), true
		}
		return "", false
	}
	return written, !continued(written)
}

// continued reports whether a message goes on in another line, which takes the place of
// its last character.
func continued(written string) bool {
	first, _, _ := strings.Cut(written, "\n")
	return first != `\` && strings.HasSuffix(written, `\`)
}

func (e *editor) endOrDelete() {
	if e.text == "" {
		e.done, e.err = true, io.EOF
		return
	}
	e.remove(e.at, e.clusterAfter())
}

func (e *editor) clear() {
	switch {
	case time.Now().Before(e.leaveUntil):
		e.done, e.err = true, errInterrupted
		return
	case e.text == "":
		e.note = "Ctrl-D leaves."
		return
	}
	e.set("")
	e.entry, e.written = len(e.history.entries), ""
}

// vertical moves the cursor to the row above or below, and beyond the first and last row
// through the history: the entries that begin as what is written.
func (e *editor) vertical(by int) {
	rows := e.rows()
	y, x := e.cursor(rows)
	if y += by; y >= 0 && y < len(rows) {
		e.at = rows[y].offset(x)
		return
	}
	if e.entry == len(e.history.entries) {
		e.written = e.text
	}
	next := e.history.before(e.entry, e.written)
	if by > 0 {
		if next = e.history.after(e.entry, e.written); next < 0 && e.entry < len(e.history.entries) {
			e.set(e.written)
			e.entry = len(e.history.entries)
			return
		}
	}
	if next >= 0 {
		e.entry = next
		e.set(e.history.entries[next])
	}
}

// completed completes what is written, as far as there is one way to.
func (e *editor) completed() {
	if e.complete == nil || e.at != len(e.text) {
		return
	}
	ways := e.complete(e.text)
	if len(ways) == 0 {
		return
	}
	common := ways[0]
	for _, w := range ways[1:] {
		for !strings.HasPrefix(w, common) {
			common = common[:len(common)-1]
		}
	}
	if len(common) > len(e.text) {
		e.set(common)
	}
	if len(ways) > 1 {
		e.note = strings.Join(ways, "  ")
	}
}

func (e *editor) lineStart() int { return strings.LastIndexByte(e.text[:e.at], '\n') + 1 }

func (e *editor) lineEnd() int {
	if i := strings.IndexByte(e.text[e.at:], '\n'); i >= 0 {
		return e.at + i
	}
	return len(e.text)
}

// clusterAfter is behind the character at the cursor; a line end is one.
func (e *editor) clusterAfter() int {
	cluster, _ := ansi.FirstGraphemeCluster(e.text[e.at:], ansi.GraphemeWidth)
	return e.at + len(cluster)
}

func (e *editor) clusterBefore() int {
	last := e.lineStart()
	if last == e.at {
		return max(e.at-1, 0)
	}
	for at := last; at < e.at; {
		cluster, _ := ansi.FirstGraphemeCluster(e.text[at:], ansi.GraphemeWidth)
		last, at = at, at+len(cluster)
	}
	return last
}

func (e *editor) wordBefore() int {
	before := []rune(strings.TrimRightFunc(e.text[:e.at], notWord))
	for len(before) > 0 && !notWord(before[len(before)-1]) {
		before = before[:len(before)-1]
	}
	return len(string(before))
}

func (e *editor) wordAfter() int {
	rest := e.text[e.at:]
	rest = strings.TrimLeftFunc(rest, notWord)
	rest = strings.TrimLeftFunc(rest, func(r rune) bool { return !notWord(r) })
	return len(e.text) - len(rest)
}

func notWord(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) && r != '_'
}
