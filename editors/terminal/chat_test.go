package terminal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/agent"
	"harmonyd/schema"
)

func TestChatShowsAConversation(t *testing.T) {
	f := &chatFake{turn: says("think:Hm, ", "think:let me see.", "The **ans", "wer**.\n"), result: schema.SessionResult{
		Model: "m", Assistant: "Ada", Display: &schema.Display{Thinking: 8, Response: 100}, Warnings: []string{"a key has no effect"},
		Messages: []schema.Message{{Role: schema.RoleAssistant, Content: schema.TextContent("*Hello.*")}},
	}}
	tb := sitDown(t, f, chatFlags{system: "Be brief.", settings: json.RawMessage(`{}`)}, "What?", "  ", "and\nthen")
	require.Equal(t, `warning: a key has no effect
m, conversation new-1. \help lists the commands, Ctrl-D leaves.

Ada
Hello.

Ada
Hm, let …
(8 of 15 characters of reasoning)

The answer.
3 + 5 tokens, 7.0 tokens/s


Ada
Hm, let …
(8 of 15 characters of reasoning)

The answer.
3 + 5 tokens, 7.0 tokens/s`, tb.talk(t))
	require.Equal(t, schema.SessionNewParams{System: "Be brief.", Keep: true, Settings: json.RawMessage(`{}`)}, f.news[0])
	require.Len(t, f.said, 2)
	require.Equal(t, "new-1", f.said[0].SessionID)
	require.Equal(t, "m", f.said[0].Model)
	require.Equal(t, "and\nthen", f.said[1].Messages[0].Content.Text())
	require.NotEqual(t, f.said[0].GenerationID, f.said[1].GenerationID)
	require.Equal(t, []string{"new-1"}, f.closes)
	require.Empty(t, tb.store.deleted)
}

func TestChatKeepsNothingEmpty(t *testing.T) {
	f := &chatFake{}
	tb := sitDown(t, f, chatFlags{}, `\reset`)
	require.Contains(t, tb.talk(t), `A new conversation, new-2. \load new-1 goes back.`)
	require.Equal(t, []string{"new-1", "new-2"}, tb.store.deleted)

	f = &chatFake{noStore: true}
	tb = sitDown(t, f, chatFlags{}, `\save`, `\reset`)
	seen := tb.talk(t)
	require.Contains(t, seen, "this conversation is not kept: no store")
	require.Contains(t, seen, "not kept: start without --no-keep")
	require.Empty(t, tb.store.deleted)
}

// TestChatCommands says commands in their forms, and looks at what is seen of each.
func TestChatCommands(t *testing.T) {
	folder := t.TempDir()
	log := filepath.Join(folder, "old.json")
	require.NoError(t, os.WriteFile(log, []byte("{}"), 0o600))
	broken := filepath.Join(folder, "broken.json")
	require.NoError(t, os.WriteFile(broken, []byte("broken"), 0o600))
	for _, c := range []struct {
		say, see string
		answers  string
	}{
		{say: `\help`, see: `\save [FILE]`},
		{say: `/HELP`, see: `\save [FILE]`},
		{say: `\?`, see: `\save [FILE]`},
		{say: `\help me`, see: `\help takes no argument, got "me"`},
		{say: `\list`, see: "temperature = 0.5  (prompt config tutor.json)"},
		{say: `/Show`, see: "stats       = on  (chat)"},
		{say: `\list all`, see: "logs_dir"},
		{say: `\list some`, see: `\list all; got "some"`},
		{say: `\set temperature = 0.5`, see: "temperature = 0.5"},
		{say: `/set TEMPERATURE=0.5`, see: "temperature = 0.5"},
		{say: `\Set temperature=0.5`, see: `there is no command \Set; did you mean \set?`},
		{say: `\set temperature`, see: `got "temperature", want name=value`},
		{say: `\set nonsense=1`, see: "is no key"},
		{say: `\set stats=perhaps`, see: `got "perhaps", want on or off`},
		{say: `\models`, see: "* default  (loaded, 1.0 MB)\n  other  (unusable: no weights)"},
		{say: `\model`, see: "The model is default."},
		{say: `\model other`, see: "The model is other now."},
		{say: `\model gone`, see: `model "gone" is not installed; installed are a, b.`},
		{say: `\save`, see: "Conversation new-1 is kept as it is said"},
		{say: `\save ` + filepath.Join(folder, "out.md"), see: "Wrote "},
		{say: `\save ` + filepath.Join(folder, "no", "out.md"), see: "no such file"},
		{say: `\load 2026`, see: "old question"},
		{say: `\load none`, see: "no such conversation"},
		{say: `\load`, answers: "2", see: "1  last  "},
		{say: `\load`, answers: "\x00", see: "none was chosen"},
		{say: `\load ` + log, see: "one repaired"},
		{say: `\load ` + broken, see: "broken.json: no chat log"},
		{say: `\reset`, see: "A new conversation"},
		{say: `\rest`, see: `there is no command \rest; did you mean \reset?`},
		{say: `\frac{1}{2}`, see: "A message that begins with a\nbackslash is sent with two"},
	} {
		f := &chatFake{
			settings: []schema.Setting{
				{Key: "temperature", Value: json.RawMessage("0.5"), Source: schema.FromPromptConfig, Name: "tutor.json", When: schema.WhenTurn},
				{Key: "logs_dir", Value: json.RawMessage(`"logs"`), Source: schema.FromDefault, When: schema.WhenSession},
			},
			models: []schema.ModelInfo{{ID: "default", State: "loaded", SizeBytes: 1_000_000}, {ID: "other", Problem: "no weights"}},
			loaded: schema.SessionLoadResult{Messages: []schema.Message{
				{Role: schema.RoleUser, Content: schema.TextContent("old question")}, {Role: schema.RoleAssistant, Content: schema.TextContent("old answer")},
			}},
			sessions: []schema.SessionInfo{{SessionID: "new-1"}, {SessionID: "last", Title: "The last"}, {SessionID: "before"}},
		}
		tb := sitDown(t, f, chatFlags{}, c.say)
		tb.reader.answers = []rune(strings.ReplaceAll(c.answers, "\x00", string(rune(0))))
		require.Contains(t, tb.talk(t), c.see, c.say)
		require.Empty(t, f.said, "%s is not said to the model", c.say)
	}
	text, err := os.ReadFile(filepath.Join(folder, "out.md"))
	require.NoError(t, err)
	require.Equal(t, "new-1-whole as markdown", string(text))
}

// TestChatMessages are no commands, whatever they begin with.
func TestChatMessages(t *testing.T) {
	for say, want := range map[string]string{
		`\\help`: `\help`, `\\\\server\share`: `\\\server\share`, "/etc/hosts is a file": "/etc/hosts is a file", "// a comment": "// a comment",
		" /help": " /help", `\set a=b` + "\nand more": `\set a=b` + "\nand more", "q is a letter": "q is a letter", "/": "/", "/1": "/1", "bad \xff": "bad \uFFFD",
	} {
		f := &chatFake{}
		sitDown(t, f, chatFlags{}, say).talk(t)
		require.Len(t, f.said, 1, say)
		require.Equal(t, want, f.said[0].Messages[0].Content.Text())
	}
	for _, say := range []string{"q", " Q ", `\quit`, "/exit", `\q`} {
		f := &chatFake{}
		tb := sitDown(t, f, chatFlags{}, say, "not said")
		tb.talk(t)
		require.Empty(t, f.said, say)
	}
}

func TestChatSettingsGoAlong(t *testing.T) {
	f := &chatFake{turn: says("think:long", "ok"), settings: []schema.Setting{
		{Key: "top_k", Value: json.RawMessage("4"), When: schema.WhenTurn}, {Key: "truncate_thinking", Value: json.RawMessage("2"), When: schema.WhenTurn},
	}}
	tb := sitDown(t, f, chatFlags{}, `\set stats=off`, "one", `\set top_k=4`, `\set nonsense=1`, `\set stop=["a"]`, "two", `\reset`, "three", `\load x`, "four")
	seen := tb.talk(t)
	require.NotContains(t, seen, "tokens/s")
	require.Contains(t, seen, "lo…\n(2 of 4 characters of reasoning)")
	require.Empty(t, f.said[0].Settings)
	require.JSONEq(t, `{"top_k":"4","stop":["a"]}`, string(f.said[1].Settings))
	require.JSONEq(t, `{"top_k":"4","stop":["a"]}`, string(f.said[2].Settings))
	require.Empty(t, f.said[3].Settings, "another conversation has its own")
	require.Equal(t, []string{`\set `}, tb.complete(`\se`))
	require.Equal(t, []string{`\set stats=`}, tb.complete(`\set st`))
	require.Equal(t, []string{`/set top_k=`}, tb.complete(`/set top`))
	require.Empty(t, tb.complete("set"))
	require.Empty(t, tb.complete(`\reset t`))
}

func TestChatFlagsAreSettings(t *testing.T) {
	f := &chatFake{}
	run := func(args ...string) ran {
		t.Helper()
		return run(t, Commands{
			In:      strings.NewReader(""),
			Chat:    func(context.Context, Options, io.Writer) (ChatAgent, func(), error) { return f, func() {}, nil },
			Folders: noFolders,
		}, append([]string{"chat", "--no-keep"}, args...)...)
	}
	r := run("-t", "0", "--top-k", "4", "-n", "100", "--reasoning-effort", "low", "--loop-detection", "full", "--logit-bias", "5=1", "--reseed-each-turn",
		"--performance-mode", "--max-context-tokens", "99", "--set", "Stop=[\"x\"]", "--set", "context_overflow=error", "--prompt-config", "p.json",
		"--profile", "small", "--profiles-file", "all.json", "-m", "some/model", "Hi")
	require.NoError(t, r.failure)
	p := f.news[0]
	require.JSONEq(t, `{"temperature":0,"top_k":4,"max_tokens":100,"max_context_tokens":99,"reasoning_effort":"low","loop_detection":"full","logit_bias":[{"token":5,"bias":1}],
		"reseed_each_turn":true,"performance_mode":true,"stop":["x"],"context_overflow":"error"}`, string(p.Settings))
	require.Equal(t, []string{"p.json", "small", "all.json", "some/model"}, []string{p.PromptConfig, p.Profile, p.ProfilesFile, p.Model})
	require.Equal(t, "Hi", f.said[0].Messages[0].Content.Text())
	for _, args := range [][]string{{"--set", "x"}, {"a", "b"}, {"--continue", "--resume"}, {"--continue"}, {"--resume", "--system", "x"}} {
		require.Equal(t, ExitUsage, run(args...).code, "%q", args)
	}
	require.Contains(t, run("-m", "gone").failure.Error(), "installed are a, b. Fetch another: harmonyd pull")
}

func TestChatResumes(t *testing.T) {
	long := strings.Repeat("word ", 100)
	f := &chatFake{sessions: []schema.SessionInfo{{SessionID: "last"}, {SessionID: "other"}}, loaded: schema.SessionLoadResult{
		Model: "m", Problem: "4 bytes follow", Display: &schema.Display{Response: 20}, Messages: []schema.Message{
			{Role: schema.RoleUser, Content: schema.TextContent("first")}, {Role: schema.RoleAssistant, Content: schema.TextContent("one")},
			{Role: schema.RoleUser, Content: schema.TextContent("second")}, {Role: schema.RoleAssistant, Content: schema.TextContent(long)},
			{Role: schema.RoleTool, Content: schema.TextContent("a result")},
		}}}
	tb := sitDown(t, f, chatFlags{last: true})
	seen := tb.talk(t)
	require.Equal(t, "last", f.loads[0].SessionID)
	require.Contains(t, seen, "4 bytes follow")
	require.Contains(t, seen, "> second\nAssistant\nword word word word…\n(20 of 500 characters)")
	require.NotContains(t, seen, "first")
	require.Empty(t, tb.store.deleted, "it was there before")

	tb = sitDown(t, f, chatFlags{resume: true})
	tb.reader.answers = []rune{'2'}
	tb.talk(t)
	require.Equal(t, "other", f.loads[1].SessionID)
	tb = sitDown(t, f, chatFlags{resume: true})
	require.ErrorIs(t, tb.begin(t.Context(), nil), errInterrupted)
	tb = sitDown(t, f, chatFlags{resume: true})
	require.NoError(t, tb.begin(t.Context(), []string{"2026"}))
	require.Equal(t, "2026-whole", f.loads[2].SessionID)
	tb = sitDown(t, &chatFake{}, chatFlags{last: true})
	require.EqualError(t, tb.begin(t.Context(), nil), "no other conversation is kept")
	tb = sitDown(t, f, chatFlags{resume: true})
	tb.view = &plainView{}
	require.ErrorContains(t, tb.begin(t.Context(), nil), "harmonyd sessions lists them")
}

// TestChatAsksBeforeATool is asked in all ways, and lets through what is a plain yes.
func TestChatAsksBeforeATool(t *testing.T) {
	options := []schema.ApproveOption{{OptionID: "1", Kind: schema.AllowOnce}, {OptionID: "2", Kind: schema.AllowAlways}, {OptionID: "3", Kind: schema.RejectOnce}}
	for _, c := range []struct {
		answers string
		want    string
	}{{"y", "1"}, {"a", "2"}, {"n", ""}, {"\x00", ""}, {"", ""}} {
		f := &chatFake{}
		got, interrupted := "", false
		f.turn = func(ctx context.Context, s agent.Sink, h agent.Host) schema.StopReason {
			s.Text(ctx, schema.ChannelText, "Let me see.", 1)
			s.Arguments(ctx, "c.0", "weather", `{"place":`, 1)
			s.ToolCall(schema.GenerateToolCall{CallID: "c.0", Name: "weather", Arguments: json.RawMessage(`{"place":"Oslo"}`), Status: schema.CallPending})
			s.Status(schema.GenerateStatus{State: schema.StateTool})
			r, err := h.Approve(ctx, schema.ToolApproveParams{Name: "weather", Title: "The weather", Arguments: json.RawMessage(`{"place":"Oslo"}`), Options: options})
			if err == nil && r.Outcome == schema.OutcomeSelected {
				got = r.OptionID
				s.ToolCall(schema.GenerateToolCall{Name: "weather", Status: schema.CallRunning})
				s.ToolCall(schema.GenerateToolCall{Name: "weather", Status: schema.CallCompleted, Result: &schema.ToolResult{Content: schema.TextContent("4 degrees,\nrain")}})
			} else {
				s.ToolCall(schema.GenerateToolCall{Name: "weather", Status: schema.CallRejected})
			}
			if c.answers == "" {
				<-ctx.Done()
				interrupted = true
			}
			s.Status(schema.GenerateStatus{State: schema.StateQueued, Round: 1})
			s.Text(ctx, schema.ChannelText, "Done.", 1)
			return schema.StopEndTurn
		}
		tb := sitDown(t, f, chatFlags{quiet: true}, "How is it?")
		tb.reader.answers = []rune(c.answers)
		seen := tb.talk(t)
		require.Equal(t, c.want, got, "%q", c.answers)
		require.Equal(t, c.answers == "", interrupted)
		require.Contains(t, seen, `Assistant
Let me see.

→ weather {"place":"Oslo"}
The model wants to call The weather (weather):
  {
    "place": "Oslo"
  }
`)
		result := "✗ weather rejected"
		if c.want != "" {
			result = "✓ weather: 4 degrees, rain"
		}
		require.Contains(t, seen, result+"\n\nDone.")
	}
}

func TestChatHasNoToolsOfItsOwn(t *testing.T) {
	_, err := (&turnHost{}).CallTool(t.Context(), schema.ToolCallParams{Name: "x"})
	var wire *schema.Error
	require.ErrorAs(t, err, &wire)
	require.Equal(t, schema.KindMethodNotFound, wire.Data.Kind)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = (&turnHost{}).Approve(ctx, schema.ToolApproveParams{})
	require.ErrorIs(t, err, context.Canceled)
}

// TestChatInterrupts: one interrupt ends a turn, and a second one soon after the chat.
func TestChatInterrupts(t *testing.T) {
	f := &chatFake{}
	var tb *table
	f.turn = func(ctx context.Context, s agent.Sink, _ agent.Host) schema.StopReason {
		s.Text(ctx, schema.ChannelText, "and", 1)
		tb.signals <- os.Interrupt
		<-ctx.Done()
		return schema.StopCancelled
	}
	tb = sitDown(t, f, chatFlags{}, "one", "two", "three")
	require.NoError(t, tb.begin(t.Context(), nil))
	require.Equal(t, exitInterrupted, ExitCode(tb.loop(t.Context())))
	require.Len(t, f.said, 2, "the second interrupt left")
	require.Contains(t, strings.Join(tb.window.lines(), "\n"), "and\nThe answer was cancelled.\n")

	tb = sitDown(t, f, chatFlags{}, "one")
	tb.view = &plainView{out: io.Discard}
	require.NoError(t, tb.begin(t.Context(), nil))
	require.Equal(t, exitInterrupted, ExitCode(tb.loop(t.Context())), "nobody sits there")
	require.Len(t, f.said, 3)

	tb = sitDown(t, f, chatFlags{}, "one")
	require.NoError(t, tb.begin(t.Context(), nil))
	tb.signals <- os.Interrupt // for what has ended
	require.Equal(t, exitInterrupted, ExitCode(tb.loop(t.Context())), "twice within a second")
	require.Len(t, f.said, 4)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, sitDown(t, f, chatFlags{}, "x").loop(ctx))
}

func TestChatShowsHowAnswersEnd(t *testing.T) {
	for reason, want := range map[schema.StopReason]string{
		schema.StopMaxTokens: "as many tokens as are allowed", schema.StopContextFull: "the context is full", schema.StopToolLoop: "called tools too often",
		schema.StopLoop: "The answer ended: loop detected.", schema.StopRefusal: "The answer ended: refusal.",
	} {
		f := &chatFake{turn: func(context.Context, agent.Sink, agent.Host) schema.StopReason { return reason }}
		require.Contains(t, sitDown(t, f, chatFlags{}, "x").talk(t), want)
	}
	f := &chatFake{turn: says("half"), fake: fake{}}
	tb := sitDown(t, f, chatFlags{}, "x")
	require.NoError(t, tb.begin(t.Context(), nil))
	f.err = errors.New("the engine is lost")
	require.NoError(t, tb.loop(t.Context()))
	require.Contains(t, strings.Join(tb.window.lines(), "\n"), "half\nthe engine is lost")
	require.Equal(t, "12 + 3 tokens (4 cached), first after 20ms, 2 messages left out",
		usageLine(schema.Usage{PromptTokens: 12, CachedTokens: 4, CompletionTokens: 3, TTFTMS: 20, OmittedMessages: 2}))
}

func TestRetriesAreTold(t *testing.T) {
	f := &chatFake{turn: func(ctx context.Context, s agent.Sink, _ agent.Host) schema.StopReason {
		s.Text(ctx, schema.ChannelText, "bad bad bad", 1)
		s.Status(schema.GenerateStatus{State: schema.StateQueued, Round: 1, Retry: schema.RetryLoop})
		s.Text(ctx, schema.ChannelText, "good", 1)
		return schema.StopEndTurn
	}}
	require.Contains(t, sitDown(t, f, chatFlags{quiet: true}, "x").talk(t),
		"bad bad bad\n(This answer does not count: it says the same again and again. The model is\nasked again.)\n\ngood")
}

func TestPipesAreReadInMessages(t *testing.T) {
	for written, want := range map[string][]string{
		"one\ntwo\n": {"one", "two"}, "no end": {"no end"}, "\n \n": nil, "a\\\nb\n": {"a\nb"}, "\\\na\n\nb\n\\\nc\n": {"a\n\nb", "c"},
		"\\\nno end\n": {"no end"}, "crlf\r\n": {"crlf"}, "a\\": {"a"}, "\\\n\\\nx\n": {"x"}, "\\\n\\help\n\\\n": {"\\help"},
	} {
		r := newPipeReader(strings.NewReader(written))
		var got []string
		for {
			text, err := r.Read(t.Context())
			if err != nil {
				require.ErrorIs(t, err, io.EOF)
				break
			}
			got = append(got, text)
		}
		require.Equal(t, want, got, "%q", written)
	}
	read, write := io.Pipe()
	r := newPipeReader(read)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := r.Read(ctx)
	require.ErrorIs(t, err, context.Canceled)
	wrote := make(chan error, 1)
	go func() { _, err := io.WriteString(write, "late\n"); wrote <- err }()
	text, err := r.Read(t.Context())
	require.NoError(t, err)
	require.NoError(t, <-wrote)
	require.Equal(t, "late", text, "what the reader gave up is not lost")
	key, err := r.Choose(t.Context(), "?", "y")
	require.NoError(t, err)
	require.Zero(t, key, "nobody is there")
}

func TestPlainViewTellsOfTools(t *testing.T) {
	var out, errs bytes.Buffer
	v := &plainView{out: &out, err: &errs}
	a := v.answer("", schema.Display{})
	a.Text(t.Context(), schema.ChannelReasoning, "hm", 1)
	a.Text(t.Context(), schema.ChannelText, "yes", 1)
	a.ToolCall(schema.GenerateToolCall{Name: "w", Arguments: json.RawMessage(`{"a":1}`), Status: schema.CallPending})
	a.ToolCall(schema.GenerateToolCall{Name: "w", Status: schema.CallRunning})
	a.ToolCall(schema.GenerateToolCall{Name: "w", Status: schema.CallFailed, Result: &schema.ToolResult{Content: schema.TextContent("bad\x1b[2J")}})
	a.end()
	require.Equal(t, "yes\n", out.String())
	require.Equal(t, "→ w {\"a\":1}\n✗ w failed: bad\uFFFD[2J\n", errs.String())
	out.Reset()
	v = &plainView{out: &out, isTerminal: true, prompts: true}
	v.prompt()
	v.whole("", "a\x1b[2Jb")
	require.Equal(t, "> a\uFFFD[2Jb\n", out.String())
	v = &plainView{out: brokenWriter{}, err: &errs}
	v.print("x")
	require.EqualError(t, v.failure(), "write the answer: gone")
}
