package terminal

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"harmonyd/schema"
)

// ChatAgent is what the chat command needs of an agent.
type ChatAgent interface {
	Agent
	Models(ctx context.Context) (schema.ModelsListResult, error)
	LoadSession(ctx context.Context, p schema.SessionLoadParams) (schema.SessionLoadResult, error)
	CloseSession(ctx context.Context, p schema.SessionParams) (schema.Empty, error)
	SessionSettings(ctx context.Context, p schema.SessionSettingsParams) (schema.SessionSettingsResult, error)
	ListSessions(ctx context.Context, p schema.SessionListParams) (schema.SessionListResult, error)
}

// chatFlags are the flags of the chat command.
type chatFlags struct {
	configFlags
	system                    string
	settings                  json.RawMessage // of settingFlags
	resume, last              bool
	noKeep, noMarkdown, quiet bool
}

func chatCommand(c Commands, o *Options) *cobra.Command {
	var f chatFlags
	var settings settingFlags
	cmd := &cobra.Command{
		Use:   "chat [MESSAGE]",
		Short: "Talk with a model",
		Long: `chat holds a conversation. Answers are written as they come, Markdown is
rendered, and reasoning is shown dimmed. Conversations are kept; sessions lists them.

Ctrl-C ends an answer, Ctrl-D the chat. \help lists what else can be said. Shift-Enter
or Ctrl-J begins another line of a message; so does a backslash at the end of one, and
between two lines that are a backslash alone stands a message of several lines.

Where standard input is no terminal, each of its lines is a message.`,
		Example: `  harmonyd chat
  harmonyd chat "Why is the sky blue?"
  harmonyd chat --continue                  # the last conversation
  harmonyd chat --resume 20260102-0304      # another one, by the beginning of its id
  harmonyd chat --system "Be brief." --temperature 0.7 --set loop_detection=full
  harmonyd chat --prompt-config tutor.json`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) > 1:
				return usage(fmt.Errorf("chat: got %d messages, want one (quote it)", len(args)))
			case f.last && f.resume:
				return usage(errors.New("chat: --continue is --resume of the last conversation; give one of them"))
			case f.noKeep && (f.last || f.resume):
				return usage(errors.New("chat: --no-keep is for a new conversation"))
			case f.system != "" && (f.last || f.resume):
				return usage(errors.New("chat: --system is for a new conversation"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if f.settings, err = settings.object(); err != nil {
				return usage(err)
			}
			return runChat(cmd.Context(), c, *o, f, args)
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.system, "system", "s", "", "system message")
	fl.BoolVarP(&f.last, "continue", "c", false, "go on with the last conversation")
	fl.BoolVarP(&f.resume, "resume", "r", false, "go on with the conversation whose id the argument begins, or with one of a list")
	fl.BoolVar(&f.noKeep, "no-keep", false, "write nothing down: neither the conversation nor what is typed")
	fl.BoolVar(&f.noMarkdown, "no-markdown", false, "show answers as they were written")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "show no counts of tokens and no times")
	f.configFlags.add(cmd)
	settings.add(cmd)
	return cmd
}

// chat is one run of the command.
type chat struct {
	commands Commands
	options  Options
	flags    chatFlags
	agent    ChatAgent
	reader   lineReader
	view     chatView
	signals  chan os.Signal // of Ctrl-C
	// interrupted is when Ctrl-C ended a turn last, in nanoseconds since 1970.
	interrupted atomic.Int64

	conversation
	model string // as it was asked for; empty leaves the choice to the agent
	turns int    // generations so far
	leave bool
	// abandoned says that Ctrl-C leaves.
	abandoned bool
	set       map[string]json.RawMessage // what \set says
}

// conversation is what is talked about.
type conversation struct {
	id        string
	keep      bool             // it is written down
	said      bool             // something was said in it
	greeting  []schema.Message // to be shown
	messages  []schema.Message // what was said before, to be shown
	assistant string
	display   schema.Display
}

func runChat(ctx context.Context, c Commands, o Options, f chatFlags, args []string) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	t := &chat{commands: c, options: o, flags: f, model: o.Model, signals: make(chan os.Signal, 1)}
	signal.Notify(t.signals, os.Interrupt)
	defer signal.Stop(t.signals)
	restore, err := t.openTerminal()
	if err != nil {
		return err
	}
	defer restore()
	if t.options, err = f.begin(c, o, f.settings); err != nil {
		return err
	}
	a, closeAgent, err := c.Chat(ctx, t.options, t.view.log())
	if err != nil {
		return err
	}
	defer closeAgent()
	t.agent = a
	if err := t.begin(ctx, args); err != nil {
		return err
	}
	defer t.close()
	if len(args) == 1 && !f.resume {
		if err := t.say(ctx, args[0]); err != nil {
			return err
		}
	}
	return t.loop(ctx)
}

// openTerminal chooses how to read and to show: on a terminal where both ends are one.
func (t *chat) openTerminal() (restore func(), err error) {
	in, typed := terminalOf(t.commands.In)
	out, shown := terminalOf(t.commands.Out)
	if !typed || !shown || os.Getenv("TERM") == "dumb" {
		view := &plainView{out: t.commands.Out, err: t.commands.Err}
		view.isTerminal = shown
		view.prompts = shown && typed
		t.reader, t.view = newPipeReader(t.commands.In), view
		return func() {}, nil
	}
	colours := os.Getenv("NO_COLOR") == ""
	view := newTerminalView(out, colours, !t.flags.noMarkdown)
	file := ""
	if !t.flags.noKeep {
		file = filepath.Join(t.commands.State(t.options), "chat-history")
	}
	h, err := openHistory(file)
	if err != nil {
		view.fail(err)
	}
	t.view = view
	t.reader = &typedReader{in: in, out: out, screen: view.screen, colours: colours, history: h, complete: t.complete, warn: view.fail, interrupted: func() time.Time { return time.Unix(0, t.interrupted.Load()) }}
	return quiet(in)
}

// begin opens the conversation and loads its model.
func (t *chat) begin(ctx context.Context, args []string) (err error) {
	ctx, stop := t.untilInterrupt(ctx)
	defer stop()
	switch {
	case t.flags.resume || t.flags.last:
		prefix := ""
		if t.flags.resume && len(args) == 1 {
			prefix = args[0]
		}
		var id string
		if id, err = t.chooseConversation(ctx, prefix); err == nil {
			err = t.load(ctx, id)
		}
	default:
		err = t.start(ctx)
	}
	if err != nil {
		return interrupted(ctx, err)
	}
	if err := t.loadModel(ctx); err != nil {
		t.close()
		return interrupted(ctx, err)
	}
	t.banner()
	t.show()
	return nil
}

// loadModel brings the model of the conversation into memory.
func (t *chat) loadModel(ctx context.Context) error {
	bar := newProgress(t.commands.Err, t.commands.ErrIsTerminal, "load")
	// A person who asks for a model that crashed has seen it crash.
	r, err := t.agent.LoadModel(ctx, schema.ModelLoadParams{Model: t.model, Force: true}, bar.report)
	bar.done()
	if err != nil {
		return modelProblem(err)
	}
	t.model = r.Model
	return nil
}

// modelProblem says of a model that is not there how to get one.
func modelProblem(err error) error {
	var wire *schema.Error
	if !errors.As(err, &wire) || wire.Data.Kind != schema.KindModelNotFound {
		return err
	}
	if len(wire.Data.Available) == 0 {
		return fmt.Errorf("%w; none is installed. Fetch one: harmonyd pull mlx-community/NAME, or import one: harmonyd import FILE.gguf", err)
	}
	return fmt.Errorf("%w; installed are %s. Fetch another: harmonyd pull mlx-community/NAME", err, strings.Join(wire.Data.Available, ", "))
}

// banner says what is talked with.
func (t *chat) banner() {
	what := t.model
	if t.keep {
		what += ", conversation " + t.id
	} else {
		what += ", not kept"
	}
	t.view.remark(what + `. \help lists the commands, Ctrl-D leaves.`)
}

// loop talks until there is nothing more to say.
func (t *chat) loop(ctx context.Context) error {
	for !t.leave && !t.abandoned {
		text, err := t.read(ctx)
		switch {
		case errors.Is(err, io.EOF):
			return t.view.failure()
		case ctx.Err() != nil:
			return &ExitError{Code: ExitFailed}
		case errors.Is(err, errInterrupted):
			return &ExitError{Code: exitInterrupted}
		case err != nil:
			return err
		}
		if err := t.answer(ctx, text); err != nil {
			return err
		}
	}
	if t.abandoned {
		return &ExitError{Code: exitInterrupted}
	}
	return t.view.failure()
}

// read reads the next message. An interrupt that comes as a signal, and not as a key, ends
// it, but not one that was meant for what has ended meanwhile.
func (t *chat) read(ctx context.Context) (string, error) {
	select {
	case <-t.signals:
		t.interrupted.Store(time.Now().UnixNano())
	default:
	}
	waiting, stop := t.untilInterrupt(ctx)
	defer stop()
	t.view.prompt()
	text, err := t.reader.Read(waiting)
	if err != nil && waiting.Err() != nil && ctx.Err() == nil {
		return "", errInterrupted
	}
	return text, err
}

// answer does what a person says: a command, or a message to the model.
func (t *chat) answer(ctx context.Context, text string) error {
	command, argument, isCommand := parseCommand(text)
	switch {
	case isCommand:
		ctx, stop := t.untilInterrupt(ctx)
		defer stop()
		return t.failed(t.command(ctx, command, argument))
	case strings.TrimSpace(argument) == "":
		return nil
	}
	return t.say(ctx, argument)
}

// failed shows what went wrong. Where no person reads it, it ends the chat.
func (t *chat) failed(err error) error {
	if err == nil || !t.view.interactive() {
		return err
	}
	t.view.fail(err)
	return nil
}

// close ends the conversation. One in which nothing was said is not kept.
func (t *chat) close() {
	if t.id == "" {
		return
	}
	// Nobody can do anything about it: what was said is on the disk.
	_, _ = t.agent.CloseSession(context.Background(), schema.SessionParams{SessionID: t.id})
	if t.keep && !t.said {
		if s, err := t.commands.Conversations(t.options); err == nil {
			_ = s.Delete(t.id)
		}
	}
	t.id = ""
}

// start begins a new conversation.
func (t *chat) start(ctx context.Context) error {
	p := t.flags.session(t.flags.settings)
	p.Model, p.System, p.Keep = t.model, t.flags.system, !t.flags.noKeep
	r, err := t.agent.NewSession(ctx, p)
	var wire *schema.Error
	if errors.As(err, &wire) && wire.Data.Kind == schema.KindUnsupported && p.Keep {
		t.view.fail(fmt.Errorf("this conversation is not kept: %w", err))
		p.Keep = false
		r, err = t.agent.NewSession(ctx, p)
	}
	if err != nil {
		return err
	}
	t.close()
	t.open(conversation{id: r.SessionID, keep: p.Keep}, r.Model, r.Assistant, r.Display, r.Warnings)
	t.greeting = r.Messages
	return nil
}

// load goes on with a conversation that was kept.
func (t *chat) load(ctx context.Context, id string) error {
	if id == t.id {
		return fmt.Errorf("this is conversation %s", id)
	}
	r, err := t.agent.LoadSession(ctx, schema.SessionLoadParams{
		SessionID: id, Model: t.options.Model,
		PromptConfig: t.flags.promptConfig, Profile: t.flags.profile, ProfilesFile: t.flags.profilesFile, Settings: t.flags.settings,
	})
	if err != nil {
		return err
	}
	t.close()
	t.open(conversation{id: id, keep: true, said: true}, r.Model, r.Assistant, r.Display, r.Warnings)
	if r.Problem != "" {
		t.view.fail(fmt.Errorf("conversation %s: %s", id, r.Problem))
	}
	t.messages = r.Messages
	return nil
}

// open goes over to a conversation.
func (t *chat) open(c conversation, model, assistant string, d *schema.Display, warnings []string) {
	c.assistant, c.display = cmp.Or(assistant, "Assistant"), schema.Display{Thinking: 1000, Response: 1000}
	if d != nil {
		c.display = *d
	}
	t.conversation, t.model = c, model
	for _, w := range warnings {
		t.view.warn(w)
	}
}

// show shows how far the conversation has come: its greeting, or its end.
func (t *chat) show() {
	if len(t.greeting)+len(t.messages) > 0 {
		t.view.gap()
	}
	for _, m := range t.greeting {
		t.view.whole(t.assistant, m.Content.Text())
	}
	t.showEnd(t.messages)
	t.greeting, t.messages = nil, nil
}
