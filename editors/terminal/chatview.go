package terminal

import (
	"context"
	"fmt"
	"io"
	"strings"

	"harmonyd/agent"
	"harmonyd/schema"
)

// chatView shows a chat.
type chatView interface {
	// interactive says that a person sees it.
	interactive() bool
	// answer begins to show an answer of one who is called name.
	answer(name string, d schema.Display) answerView
	// whole shows a message that is there already.
	whole(name, markdown string)
	// print shows what was asked for, remark what was not, warn what may be wrong and fail
	// what went wrong.
	print(lines ...string)
	remark(text string)
	warn(text string)
	fail(err error)
	// gap sets what comes next apart from what is there, prompt what a person types.
	gap()
	prompt()
	// log is where the log of the agent goes.
	log() io.Writer
	// failure is the first error of a write.
	failure() error
}

// answerView shows an answer while it is written.
type answerView interface {
	agent.Sink
	// settle leaves what is there as it is, since something else is to be shown.
	settle()
	end()
}

// plainView writes the answers as they are, and all else where the diagnostics go.
type plainView struct {
	out, err io.Writer
	// isTerminal says that out is a terminal, if one without any abilities, and prompts
	// that a person types there as well.
	isTerminal, prompts bool
	answers             int
	failed              error
}

func (v *plainView) interactive() bool { return false }

func (v *plainView) answer(string, schema.Display) answerView {
	v.apart()
	return &plainAnswer{view: v}
}

// apart separates answers by an empty line.
func (v *plainView) apart() {
	if v.answers++; v.answers > 1 {
		v.print("")
	}
}

func (v *plainView) whole(_, markdown string) {
	v.apart()
	v.print(markdown)
}

func (v *plainView) print(lines ...string) {
	for _, line := range lines {
		v.write(line + "\n")
	}
}

func (v *plainView) remark(string) {}

func (v *plainView) gap() {}

func (v *plainView) prompt() {
	if v.prompts {
		v.write("> ")
	}
}

func (v *plainView) warn(text string) { fmt.Fprintln(v.err, "harmonyd: warning:", text) }

func (v *plainView) fail(err error) { fmt.Fprintln(v.err, "harmonyd:", err) }

func (v *plainView) log() io.Writer { return v.err }

func (v *plainView) failure() error {
	if v.failed != nil {
		return fmt.Errorf("write the answer: %w", v.failed)
	}
	return nil
}

func (v *plainView) write(text string) {
	if v.isTerminal {
		text = printable(text)
	}
	if v.failed == nil {
		_, v.failed = io.WriteString(v.out, text)
	}
}

// plainAnswer writes the text of an answer.
type plainAnswer struct {
	view *plainView
	last string
}

// Text implements agent.Sink.
func (a *plainAnswer) Text(_ context.Context, channel schema.Channel, text string, _ int) {
	if channel == schema.ChannelText && text != "" {
		a.last = text
		a.view.write(text)
	}
}

// Arguments implements agent.Sink.
func (*plainAnswer) Arguments(context.Context, string, string, string, int) {}

// Logprobs implements agent.Sink.
func (*plainAnswer) Logprobs([]schema.TokenLogprobs) {}

// Status implements agent.Sink.
func (*plainAnswer) Status(schema.GenerateStatus) {}

// ToolCall implements agent.Sink.
func (a *plainAnswer) ToolCall(u schema.GenerateToolCall) {
	if line := callLine(u); line != "" {
		fmt.Fprintln(a.view.err, line)
	}
}

func (a *plainAnswer) settle() {}

// end ends the last line.
func (a *plainAnswer) end() {
	if !strings.HasSuffix(a.last, "\n") {
		a.view.write("\n")
	}
}

// callLine says in one line how far a call of a tool got, where that is worth one.
func callLine(u schema.GenerateToolCall) string {
	result := ""
	if u.Result != nil {
		result = ": " + inShort(u.Result.Content.Text())
	}
	name := printable(u.Name)
	switch u.Status {
	case schema.CallPending:
		return "→ " + name + " " + printable(inShort(string(u.Arguments)))
	case schema.CallCompleted:
		return "✓ " + name + printable(result)
	case schema.CallFailed, schema.CallRejected, schema.CallCancelled:
		return "✗ " + name + " " + string(u.Status) + printable(result)
	}
	return ""
}
