package terminal

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"harmonyd/schema"
)

// generateFlags are the flags of the generate command.
type generateFlags struct {
	configFlags
	set        []string
	system     string
	raw, stats bool
	maxTokens  int
	logprobs   int
	sampling   schema.Sampling
	stop       []string
}

func generateCommand(c Commands, o *Options) *cobra.Command {
	var f generateFlags
	cmd := &cobra.Command{
		Use:   "generate PROMPT",
		Short: "Answer one prompt, streamed to the terminal",
		Long: `generate asks the model once and prints the answer as it is written. Ctrl-C
ends the answer. The prompt may be "-" for standard input.`,
		Example: `  harmonyd generate "Why is the sky blue?"
  harmonyd generate --temperature 0.7 --seed 1 "Write a haiku about rain"
  git diff | harmonyd generate --system "Write a commit message for this diff." -
  harmonyd generate --prompt-config tutor.json --set max_tokens=200 "What is a monad?"
  harmonyd generate --raw "def fibonacci(n):"     # no chat template`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage(fmt.Errorf("generate: got %d prompts, want one (quote it)", len(args)))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFlags(f.params("")); err != nil {
				return usage(err)
			}
			if f.raw && f.promptConfig+f.profile != "" {
				return usage(errors.New("generate: --raw is for a prompt as it is, a prompt config for a conversation; give one of them"))
			}
			text := args[0]
			if text == "-" {
				b, err := io.ReadAll(c.In)
				if err != nil {
					return fmt.Errorf("read the prompt from standard input: %w", err)
				}
				text = string(b)
			}
			p := f.params(text)
			p.Model = o.Model
			return generate(cmd.Context(), c, *o, p, &f)
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.system, "system", "s", "", "system message")
	fl.BoolVar(&f.raw, "raw", false, "give the prompt to the model as it is, without the chat template")
	fl.BoolVar(&f.stats, "stats", false, "print token counts and speeds afterwards")
	fl.IntVarP(&f.maxTokens, "max-tokens", "n", 0, "most tokens to write; 0 means as many as the context holds")
	addSamplingFlags(cmd, &f.sampling)
	fl.IntVar(&f.logprobs, "logprobs", 0, "print each token's probability afterwards, and so many others in its place")
	f.configFlags.add(cmd)
	fl.StringArrayVar(&f.set, "set", nil, "set a key of a prompt config, as in `key=value`; may be repeated")
	fl.StringArrayVar(&f.stop, "stop", nil, "end the answer before this `text`; may be repeated")
	return cmd
}

// params makes the request.
func (f generateFlags) params(text string) schema.GenerateParams {
	p := schema.GenerateParams{
		GenerationID: "terminal", MaxTokens: f.maxTokens, Stop: f.stop, Sampling: f.sampling, Logprobs: f.logprobs,
	}
	switch {
	case f.raw:
		p.Prompt = &text
	default:
		if f.system != "" {
			p.Messages = append(p.Messages, schema.Message{Role: schema.RoleSystem, Content: schema.TextContent(f.system)})
		}
		p.Messages = append(p.Messages, schema.Message{Role: schema.RoleUser, Content: schema.TextContent(text)})
	}
	none := []schema.ToolRef{}
	p.Tools = &none
	return p
}

// checkFlags holds the flags in a request against the ranges of the protocol, so
// that a slip costs no load of a model.
func checkFlags(p schema.GenerateParams) error {
	data, err := schema.Encode(p)
	if err != nil {
		return err
	}
	err = schema.Decode(data, new(schema.GenerateParams))
	var bad *schema.Error
	if !errors.As(err, &bad) || len(bad.Data.Errors) == 0 {
		return err
	}
	place := bad.Data.Errors[0]
	if place.InstancePath == "" {
		return err
	}
	return fmt.Errorf("--%s: %s", flagOf(place.InstancePath), place.Message)
}

// configured reports whether settings count.
func (f *generateFlags) configured() bool { return f.promptConfig+f.profile != "" || len(f.set) > 0 }

// settings are the keys that were given. A bad answer is not asked for again unless they
// say so: what was printed cannot be taken back.
func (f *generateFlags) settings() (json.RawMessage, error) {
	return (&settingFlags{others: append([]string{"max_resume_attempts=0"}, f.set...)}).object()
}

// openSession opens the session that the settings are for. A raw prompt has none, but the
// settings of a turn.
func (f *generateFlags) openSession(ctx context.Context, c Commands, a Agent, p *schema.GenerateParams, settings json.RawMessage) error {
	if f.raw {
		p.Settings = settings
		return nil
	}
	n := f.session(settings)
	n.Model = p.Model
	s, err := a.NewSession(ctx, n)
	if err != nil {
		return err
	}
	for _, w := range s.Warnings {
		fmt.Fprintln(c.Err, "harmonyd:", w)
	}
	p.SessionID, p.Model = s.SessionID, s.Model
	return nil
}

func generate(ctx context.Context, c Commands, o Options, p schema.GenerateParams, f *generateFlags) error {
	// The first Ctrl-C ends the answer; a second one ends the program as usual.
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop)
	var settings json.RawMessage
	if f.configured() {
		var err error
		if settings, err = f.settings(); err != nil {
			return usage(err)
		}
		if o, err = f.begin(c, o, settings); err != nil {
			return err
		}
	}
	a, closeAgent, err := c.Agent(ctx, o)
	if err != nil {
		return err
	}
	defer closeAgent()
	if settings != nil {
		if err := f.openSession(ctx, c, a, &p, settings); err != nil {
			return err
		}
	}

	bar := newProgress(c.Err, c.ErrIsTerminal, "load")
	// A person who asks for a model that crashed has seen it crash.
	_, err = a.LoadModel(ctx, schema.ModelLoadParams{Model: p.Model, Force: true}, bar.report)
	bar.done()
	if err != nil {
		return interrupted(ctx, err)
	}
	out := &printer{w: bufio.NewWriter(c.Out)}
	_, out.isTerminal = terminalOf(c.Out)
	r, err := a.Generate(ctx, p, out, nil)
	out.end()
	if err != nil {
		return err
	}
	if out.err != nil {
		return fmt.Errorf("write the answer: %w", out.err)
	}
	printLogprobs(c.Err, r.Logprobs)
	if f.stats {
		u := r.Usage
		fmt.Fprintf(c.Err, "%s after %d tokens; %d of %d prompt tokens cached, prefill %s, first token %s, %.1f tokens/s\n",
			r.StopReason, u.CompletionTokens, u.CachedTokens, u.PromptTokens,
			milliseconds(u.PrefillMS), milliseconds(u.TTFTMS), u.TokensPerSecond)
	}
	if r.StopReason == schema.StopCancelled {
		return &ExitError{Code: exitInterrupted}
	}
	return nil
}

// exitInterrupted is what shells report for a program that SIGINT ended.
const exitInterrupted = 130

// interrupted replaces the error of work that Ctrl-C ended.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return &ExitError{Code: exitInterrupted}
	}
	return err
}

func milliseconds(ms float64) string {
	return time.Duration(ms * float64(time.Millisecond)).Round(time.Millisecond).String()
}

// printer writes an answer as it comes. A terminal shows a token when it is
// flushed, so every piece is. What could steer it is replaced there; a file or a pipe gets
// the answer to the byte.
type printer struct {
	w          *bufio.Writer
	isTerminal bool
	last       string
	err        error
}

// Text implements agent.Sink.
func (p *printer) Text(_ context.Context, channel schema.Channel, text string, _ int) {
	if channel != schema.ChannelText || text == "" || p.err != nil {
		return
	}
	if p.isTerminal {
		text = printable(text)
	}
	p.last = text
	if _, err := p.w.WriteString(text); err != nil {
		p.err = err
		return
	}
	p.err = p.w.Flush()
}

// Arguments implements agent.Sink. There are no tools here.
func (p *printer) Arguments(context.Context, string, string, string, int) {}

// Logprobs implements agent.Sink.
func (p *printer) Logprobs([]schema.TokenLogprobs) {}

// Status implements agent.Sink.
func (p *printer) Status(schema.GenerateStatus) {}

// ToolCall implements agent.Sink.
func (p *printer) ToolCall(schema.GenerateToolCall) {}

// end ends the last line, so that a shell's prompt starts on its own.
func (p *printer) end() {
	if p.err == nil && p.last != "" && !strings.HasSuffix(p.last, "\n") {
		_ = p.w.WriteByte('\n')
		p.err = p.w.Flush()
	}
}
