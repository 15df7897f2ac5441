package terminal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"harmonyd/schema"
)

// leaveWithin is how soon after Ctrl-C a second one leaves the chat.
const leaveWithin = time.Second

// say has the model answer a message.
func (t *chat) say(ctx context.Context, text string) error {
	ctx, stop := t.untilInterrupt(ctx)
	defer stop()
	t.turns++
	arguments := true
	answer := t.view.answer(t.assistant, t.display)
	host := &turnHost{chat: t, answer: answer, interrupt: func() { t.signals <- os.Interrupt }}
	r, err := t.agent.Generate(ctx, schema.GenerateParams{
		GenerationID: fmt.Sprintf("chat-%d", t.turns),
		SessionID:    t.id,
		Model:        t.model,
		Messages:     []schema.Message{{Role: schema.RoleUser, Content: schema.TextContent(strings.ToValidUTF8(text, "\uFFFD"))}},
		ToolMode:     schema.ToolCallback,
		Settings:     t.turnSettings(),
		Stream:       schema.StreamPolicy{ToolArguments: &arguments},
	}, answer, host)
	answer.end()
	if err != nil {
		return t.failed(err)
	}
	t.said = true
	if note := endNote(r.StopReason); note != "" {
		t.view.remark(note)
	}
	if !t.flags.quiet {
		t.view.remark(usageLine(r.Usage))
	}
	return nil
}

// untilInterrupt ends work at Ctrl-C. A second one within a second leaves the chat when
// the work has ended; where no person sits at it, the first one does.
func (t *chat) untilInterrupt(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stopped, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-t.signals:
				now := time.Now()
				before := time.Unix(0, t.interrupted.Swap(now.UnixNano()))
				t.abandoned = t.abandoned || now.Sub(before) < leaveWithin || !t.view.interactive()
				cancel()
			case <-stopped:
				return
			}
		}
	}()
	return ctx, sync.OnceFunc(func() { close(stopped); <-done; cancel() })
}

// endNote says how an answer ended that did not end by itself.
func endNote(r schema.StopReason) string {
	switch r {
	case schema.StopEndTurn, schema.StopStopSequence:
		return ""
	case schema.StopCancelled:
		return "The answer was cancelled."
	case schema.StopMaxTokens:
		return "The answer was cut off: it had as many tokens as are allowed."
	case schema.StopContextFull:
		return "The answer was cut off: the context is full."
	case schema.StopMaxRounds, schema.StopToolLoop:
		return "The model called tools too often."
	}
	return "The answer ended: " + strings.ReplaceAll(string(r), "_", " ") + "."
}

// usageLine is what a turn cost.
func usageLine(u schema.Usage) string {
	parts := []string{fmt.Sprintf("%d + %d tokens", u.PromptTokens, u.CompletionTokens)}
	if u.CachedTokens > 0 {
		parts[0] += fmt.Sprintf(" (%d cached)", u.CachedTokens)
	}
	if u.TokensPerSecond > 0 {
		parts = append(parts, fmt.Sprintf("%.1f tokens/s", u.TokensPerSecond))
	}
	if u.TTFTMS > 0 {
		parts = append(parts, "first after "+milliseconds(u.TTFTMS))
	}
	if u.OmittedMessages > 0 {
		parts = append(parts, fmt.Sprintf("%d messages left out", u.OmittedMessages))
	}
	return strings.Join(parts, ", ")
}

// turnHost is asked on behalf of a turn. It implements agent.Host.
type turnHost struct {
	chat      *chat
	answer    answerView
	interrupt func()

	asking sync.Mutex // one question at a time
}

// CallTool implements agent.Host. The chat registers no tools, so that nothing is there
// to be called: tools that the agent runs itself do not come here.
func (h *turnHost) CallTool(_ context.Context, p schema.ToolCallParams) (schema.ToolResult, error) {
	return schema.ToolResult{}, schema.Errorf(schema.KindMethodNotFound, "the chat has no tool %q", p.Name)
}

// Approve implements agent.Host: it shows the whole call, and asks. Whatever is no plain
// yes forbids it.
func (h *turnHost) Approve(ctx context.Context, p schema.ToolApproveParams) (schema.ToolApproveResult, error) {
	h.asking.Lock()
	defer h.asking.Unlock()
	if ctx.Err() != nil {
		return schema.ToolApproveResult{}, ctx.Err()
	}
	title := p.Title
	if title != p.Name {
		title = strings.TrimSpace(p.Title + " (" + p.Name + ")")
	}
	h.answer.settle()
	h.chat.view.print(append([]string{"The model wants to call " + title + ":"}, strings.Split(indented(p.Arguments), "\n")...)...)
	key, err := h.chat.reader.Choose(ctx, "Allow it? [y]es, [N]o, [a]lways", "yna")
	if errors.Is(err, errInterrupted) {
		h.interrupt()
	}
	if err != nil {
		return schema.ToolApproveResult{}, err
	}
	wanted := map[rune]schema.ApproveKind{'y': schema.AllowOnce, 'a': schema.AllowAlways}[key]
	for _, o := range p.Options {
		if wanted != "" && o.Kind == wanted {
			return schema.ToolApproveResult{Outcome: schema.OutcomeSelected, OptionID: o.OptionID}, nil
		}
	}
	return schema.ToolApproveResult{}, errors.New("nobody allowed it")
}

// indented is JSON for people.
func indented(raw json.RawMessage) string {
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "  ", "  "); err != nil {
		return "  " + string(raw)
	}
	return "  " + b.String()
}

// maxShort is how much inShort leaves, in characters.
const maxShort = 200

// inShort is text on one line, cut where it is long.
func inShort(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > maxShort {
		return fmt.Sprintf("%s… (%d characters)", string(runes[:maxShort]), len(runes))
	}
	return text
}
