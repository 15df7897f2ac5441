package terminal

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"harmonyd/schema"
)

// terminalView shows a chat on a terminal.
type terminalView struct {
	screen   *screen
	markdown *markdown // nil where Markdown is not to be rendered
	colours  bool
}

func newTerminalView(out *os.File, colours, render bool) *terminalView {
	v := &terminalView{colours: colours, screen: &screen{w: out, size: func() (columns, rows int) {
		columns, rows, err := term.GetSize(int(out.Fd()))
		if err != nil || columns <= 0 || rows <= 0 {
			return 80, 24
		}
		return columns, rows
	}}}
	if render {
		v.markdown = newMarkdown(colours)
	}
	return v
}

func (v *terminalView) interactive() bool { return true }

func (v *terminalView) answer(name string, d schema.Display) answerView {
	return &liveAnswer{view: v, name: name, thinking: d.Thinking}
}

func (v *terminalView) whole(name, markdown string) {
	a := v.answer(name, schema.Display{})
	a.Text(context.Background(), schema.ChannelText, markdown, 0)
	a.end()
}

func (v *terminalView) print(lines ...string) { v.paragraph(strings.Join(lines, "\n"), look{}) }

func (v *terminalView) gap() { v.screen.print("") }

func (v *terminalView) prompt() { v.gap() } // the editor writes its own

func (v *terminalView) remark(text string) { v.paragraph(text, look{faint: true}) }

func (v *terminalView) warn(text string) { v.paragraph("warning: "+text, look{colour: yellow}) }

func (v *terminalView) fail(err error) { v.paragraph(err.Error(), look{colour: red}) }

func (v *terminalView) paragraph(text string, l look) { v.screen.print(v.lines(text, l)...) }

// lines is text broken into lines of the terminal.
func (v *terminalView) lines(text string, l look) []string {
	columns, _ := v.screen.size()
	lines, _ := wrap(cells(text, l), columns)
	painted := make([]string, len(lines))
	for i := range lines {
		painted[i] = paint(lines[i], v.colours)
	}
	return painted
}

func (v *terminalView) log() io.Writer { return logLines{v} }

func (v *terminalView) failure() error {
	if err := v.screen.failure(); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

// logLines shows the lines of a log between the others.
type logLines struct{ view *terminalView }

// Write implements io.Writer, one record at a time.
func (l logLines) Write(record []byte) (int, error) {
	l.view.remark(string(bytes.TrimRight(record, "\n")))
	return len(record), nil
}

// How often an answer is drawn: at once, but not again within drawEvery, nor within
// drawShare times as long as drawing took, so that most of the machine is the engine's.
const (
	drawEvery = 30 * time.Millisecond
	drawShare = 10
	// statusAfter is how long a state lasts before it is shown.
	statusAfter = 300 * time.Millisecond
)

// liveAnswer shows an answer on a terminal while it is written.
type liveAnswer struct {
	view     *terminalView
	name     string
	thinking int // characters of reasoning to show

	mu      sync.Mutex
	flow    flow // of the channel that is written; nil before the first text
	channel schema.Channel
	settled []string // lines that are not drawn yet
	shown   bool     // something of the answer was
	status  string   // what is done while nothing is written
	thought int      // characters of reasoning so far
	call    string   // of a tool, as far as it is written
	drawn   time.Time
	pause   time.Duration
	timer   *time.Timer // of the next drawing, which is due then; nil where none is
	due     time.Time
	ended   bool
}

// Text implements agent.Sink.
func (a *liveAnswer) Text(_ context.Context, channel schema.Channel, text string, _ int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.flow == nil || channel != a.channel {
		if strings.Trim(text, "\n") == "" { // nothing to see yet
			return
		}
		a.close()
		a.begin(channel)
	}
	if channel == schema.ChannelReasoning {
		text = a.cut(text)
	}
	a.resize()
	a.settled = append(a.settled, a.flow.feed(text)...)
	a.status = ""
	if channel == schema.ChannelReasoning && a.thought > a.thinking {
		a.status = fmt.Sprintf("… thinking, %d characters", a.thought)
	}
	a.soon(a.pause - time.Since(a.drawn))
}

// begin begins a channel, with the name of who speaks before the first.
func (a *liveAnswer) begin(channel schema.Channel) {
	columns, rows := a.view.screen.size()
	if !a.shown {
		a.settled = append(a.settled, paint(cells(a.name, look{bold: true, colour: blue}), a.view.colours))
		a.shown = true
	} else {
		a.settled = append(a.settled, "")
	}
	a.channel = channel
	switch {
	case channel == schema.ChannelReasoning:
		a.flow = &textFlow{width: columns, look: look{faint: true, italic: true}, colours: a.view.colours}
		a.thought = 0
	case a.view.markdown == nil:
		a.flow = &textFlow{width: columns}
	default:
		a.flow = &documentFlow{markdown: a.view.markdown, width: columns, rows: rows}
	}
}

// cut is the part of more reasoning that is shown.
func (a *liveAnswer) cut(text string) string {
	room, n := a.thinking-a.thought, utf8.RuneCountInString(text)
	a.thought += n
	switch {
	case room <= 0:
		return ""
	case n <= room:
		return text
	}
	return string([]rune(text)[:room]) + "…"
}

// resize tells the flow how wide the screen is.
func (a *liveAnswer) resize() {
	columns, rows := a.view.screen.size()
	switch f := a.flow.(type) {
	case *textFlow:
		f.width = columns
	case *documentFlow:
		f.resize(columns, rows)
	}
}

// close settles the channel that is written.
func (a *liveAnswer) close() {
	a.status = ""
	if a.flow == nil {
		return
	}
	a.settled = append(a.settled, a.flow.end()...)
	if a.channel == schema.ChannelReasoning && a.thought > a.thinking {
		a.settled = append(a.settled, a.view.lines(fmt.Sprintf("(%d of %d characters of reasoning)", a.thinking, a.thought), look{faint: true})...)
	}
	a.flow = nil
}

// soon draws when wait is over, or before.
func (a *liveAnswer) soon(wait time.Duration) {
	at := time.Now().Add(wait)
	if a.ended || a.timer != nil && !at.Before(a.due) {
		return
	}
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
	if wait <= 0 {
		a.draw()
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.timer == timer { // or it was stopped too late
			a.timer = nil
			a.draw()
		}
	})
	a.timer, a.due = timer, at
}

func (a *liveAnswer) draw() {
	a.drawn = time.Now()
	var open []string
	if a.flow != nil {
		open = a.flow.open()
	}
	if a.status != "" {
		open = append(open[:len(open):len(open)], a.view.lines(a.status, look{faint: true})...)
	}
	a.view.screen.show(a.settled, open)
	a.settled = nil
	a.pause = max(drawEvery, drawShare*time.Since(a.drawn))
}

// Arguments implements agent.Sink.
func (a *liveAnswer) Arguments(_ context.Context, _, name, text string, _ int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if name != "" {
		a.call = "→ " + name + " "
	}
	if a.call += text; len(a.call) > 2*maxShort {
		a.call = a.call[:2*maxShort] // which is not shown to its end
	}
	a.status = strings.ToValidUTF8(inShort(a.call), "")
	a.soon(a.pause - time.Since(a.drawn))
}

// Logprobs implements agent.Sink.
func (*liveAnswer) Logprobs([]schema.TokenLogprobs) {}

// Status implements agent.Sink.
func (a *liveAnswer) Status(s schema.GenerateStatus) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.Retry != "" {
		a.close()
		a.settled = append(a.settled, a.view.lines("(This answer does not count: "+retryReason(s.Retry)+". The model is asked again.)", look{faint: true})...)
		a.draw()
	}
	switch s.State {
	case schema.StateQueued:
		a.close() // another round
		a.status = "waiting…"
	case schema.StateLoading:
		a.status = fmt.Sprintf("loading the model, %.0f %%", 100*s.LoadedShare)
	case schema.StatePrefill:
		a.status = fmt.Sprintf("reading, %d of %d tokens", s.ProcessedTokens, s.PromptTokens)
	case schema.StateTool:
		a.close()
		a.status = "waiting for tools…"
	default:
		return
	}
	a.soon(statusAfter)
}

// retryReason says what was wrong with an answer.
func retryReason(r schema.Retry) string {
	switch r {
	case schema.RetryEmpty:
		return "it is empty"
	case schema.RetryReasoningOnly:
		return "it is nothing but reasoning"
	case schema.RetryLoop:
		return "it says the same again and again"
	}
	return strings.ReplaceAll(string(r), "_", " ")
}

// ToolCall implements agent.Sink.
func (a *liveAnswer) ToolCall(u schema.GenerateToolCall) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if line := callLine(u); line != "" {
		a.close()
		l := look{colour: cyan}
		if u.Status == schema.CallFailed || u.Status == schema.CallRejected || u.Status == schema.CallCancelled {
			l.colour = red
		}
		if u.Status == schema.CallPending && a.shown {
			a.settled = append(a.settled, "")
		}
		a.settled = append(a.settled, a.view.lines(line, l)...)
		a.shown = true
		a.draw()
	}
}

func (a *liveAnswer) settle() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.close()
	a.draw()
}

func (a *liveAnswer) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
	a.close()
	a.draw()
	a.ended = true
}
