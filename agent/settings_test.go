package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/agent/conversation"
	"harmonyd/agent/profile"
	"harmonyd/engine/job"
	"harmonyd/schema"
)

// spy keeps what the engine is asked. Its models are of the family gpt_oss where harmony is
// set.
type spy struct {
	scripted
	harmony bool
	marked  bool // its tokenizer has withMarks' tokens
	mu      sync.Mutex
	asked   []job.Request
}

func (e *spy) Start(r job.Request) (Generation, error) {
	e.mu.Lock()
	e.asked = append(e.asked, r)
	e.mu.Unlock()
	return e.scripted.Start(r)
}

func (e *spy) Open(ctx context.Context, model string) (*Model, error) {
	m, err := e.scripted.Open(ctx, model)
	if err == nil && (e.harmony || e.marked) {
		m.Tokenizer = withMarks{m.Tokenizer.(tokenizer)}
	}
	if err == nil && e.harmony {
		m.Info.Family = "gpt_oss"
	}
	return m, err
}

// harmonyMarks are words of the scripted vocabulary that withMarks makes control tokens.
var harmonyMarks = []string{"<|start|>", "<|message|>", "<|channel|>", "<|constrain|>", "<|end|>", "<|call|>", "<|return|>", "<think>", "</think>"}

type withMarks struct{ tokenizer }

func (w withMarks) SpecialLiterals() []string {
	return append(w.tokenizer.SpecialLiterals(), harmonyMarks...)
}

func (w withMarks) NewStream() TokenStream { return markless{w, w.tokenizer.NewStream()} }

type markless struct {
	w withMarks
	TokenStream
}

func (s markless) AppendStep(dst []byte, id int32) []byte {
	if slices.Contains(harmonyMarks, string(s.w.TokenBytes(id))) {
		return dst
	}
	return s.TokenStream.AppendStep(dst, id)
}

// world is an agent with settings, and what is seen of it.
type world struct {
	t       *testing.T
	engine  *spy
	agent   *Agent
	log     bytes.Buffer
	session schema.SessionResult
	turn    string // settings of each turn
	folder  string
}

// worldScript has answers of all kinds, by what the prompt has in it.
const worldScript = `{"models": [{"id": "m", "contextLength": 8195, "vocabulary": ["<|start|>", "<|message|>", "<|channel|>", "<|constrain|>", "<|end|>", "<|call|>", "<|return|>"],
	"replies": [
	{"contains": "</think>", "text": "thought"},
	{"contains": "use a tool", "text": "<tool_call>\n{\"name\": \"look\", \"arguments\": {}}\n</tool_call>"},
	{"contains": "think long", "text": "<think>hmmm, one more thought, and ", "endless": true},
	{"contains": "zilch", "text": ""},
	{"contains": "for ever", "text": "abcdefgh", "endless": true},
	{"contains": "numbers", "text": "0123456789, 9876543210; 1324354657 687980 112358132134 then 2718281828 and 3141595653 END of it"},
	{"text": "fine"}]}]}`

func newWorld(t *testing.T, harmony bool) *world {
	w := &world{t: t, engine: &spy{scripted: newScripted(t, worldScript), harmony: harmony}, folder: t.TempDir()}
	w.agent = New(w.engine, newBox(t, schema.ToolSpec{Name: "look"}), Options{
		Configs: []string{w.folder}, Log: slog.New(slog.NewTextHandler(&w.log, nil)),
	})
	return w
}

// open opens the session; a file is the content of a prompt config.
func (w *world) open(file, settings string) {
	w.t.Helper()
	p := schema.SessionNewParams{}
	if file != "" {
		require.NoError(w.t, os.WriteFile(filepath.Join(w.folder, "p.json"), []byte(file), 0o600))
		p.PromptConfig = "p.json"
	}
	if settings != "" {
		p.Settings = json.RawMessage(settings)
	}
	var err error
	w.session, err = w.agent.NewSession(w.t.Context(), p)
	require.NoError(w.t, err)
}

func (w *world) try(texts ...string) (schema.GenerateResult, error) {
	p := chat(texts[len(texts)-1])
	var before []schema.Message
	for i, text := range texts[:len(texts)-1] {
		before = append(before, schema.Message{Role: []schema.Role{schema.RoleUser, schema.RoleAssistant}[i%2], Content: schema.TextContent(text)})
	}
	p.Messages = append(before, p.Messages...)
	p.SessionID = w.session.SessionID
	p.ToolMode = schema.ToolNone
	if strings.Contains(texts[0], "tool") {
		p.ToolMode = schema.ToolCallback
	}
	if w.turn != "" {
		p.Settings = json.RawMessage(w.turn)
	}
	return w.agent.Generate(w.t.Context(), p, &recorder{}, counting())
}

func (w *world) ask(texts ...string) schema.GenerateResult {
	w.t.Helper()
	r, err := w.try(texts...)
	require.NoError(w.t, err)
	return r
}

func (w *world) last() job.Request { return w.engine.asked[len(w.engine.asked)-1] }

// prompt is the text of the last prompt.
func (w *world) prompt() string { return w.promptOf(w.last()) }

func (w *world) promptOf(r job.Request) string {
	m, err := w.engine.Open(w.t.Context(), "m")
	require.NoError(w.t, err)
	var b []byte
	for _, id := range r.Prompt {
		b = append(b, m.Tokenizer.TokenBytes(id)...)
	}
	return string(b)
}

// shows asks and reports whether the prompt has a text in it.
func shows(text string, say ...string) func(w *world) any {
	return func(w *world) any {
		w.ask(append(say, "hi {n} {DATE}")...)
		return strings.Contains(w.prompt(), text)
	}
}

// sampled asks and looks at the sampling.
func sampled(see func(s job.Sampling) any) func(w *world) any {
	return func(w *world) any { w.ask("hi"); return see(w.last().Sampling) }
}

func long() []string {
	var all []string
	for i := range 14 {
		all = append(all, fmt.Sprintf("%d %s", i, strings.Repeat("words ", 40)))
	}
	return append(all, "and now")
}

func omitted(w *world) any { return w.ask(long()...).Usage.OmittedMessages > 0 }

func warned(key string) func(w *world) any {
	return func(w *world) any {
		return slices.ContainsFunc(w.session.Warnings, func(s string) bool {
			return strings.HasSuffix(s, key+" has no effect on a session: the program has opened its folders before; give it to the program")
		})
	}
}

func reason(text string) func(w *world) any {
	return func(w *world) any { return w.ask(text).StopReason }
}

// observed has each key of prompt configs that has an effect, with a value and what that
// changes.
var observed = []struct {
	key, value string
	with       string // other keys that it needs
	harmony    bool
	see        func(w *world) any
	want       any
	before     any
}{
	{key: "system_model_identity", value: `"You are Dixie."`, see: shows("<|im_start|>system\nYou are Dixie."), want: true, before: false},
	{key: "reasoning_effort", value: `"High"`, harmony: true, see: shows("Reasoning: high"), want: true, before: false},
	{key: "conversation_start_date", value: `"2020-02-02"`, harmony: true, see: shows("Current date: 2020-02-02"), want: true, before: false},
	{key: "knowledge_cutoff", value: `"2030-06"`, harmony: true, see: shows("Knowledge cutoff: 2030-06"), want: true, before: false},
	{key: "developer_instructions", value: `"Be brief."`, see: shows("Be brief."), want: true, before: false},
	{key: "assistant_greeting", value: `"Hello!"`, see: func(w *world) any {
		w.ask("hi")
		return len(w.session.Messages) == 1 && strings.Contains(w.prompt(), "<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nhi")
	}, want: true, before: false},
	{key: "example_dialogues", value: `[[{"role":"user","content":"2+2?"},{"role":"assistant","content":"4"}]]`, see: shows("<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n<|im_start|>user\nhi"), want: true, before: false},
	{key: "placeholders", value: `{"n":"seven"}`, see: shows("hi seven"), want: true, before: false},
	{key: "deterministic_time_enabled", value: `true`, see: shows("2000-01-01"), want: true, before: false},
	{key: "deterministic_time_iso", value: `"2001-02-03T04:05:06Z"`, with: `"deterministic_time_enabled":true`, see: shows("2001-02-03"), want: true, before: false},
	{key: "max_tokens", value: `7`, see: func(w *world) any { r := w.ask("numbers"); return []any{r.Usage.CompletionTokens, r.StopReason} }, want: []any{7, schema.StopMaxTokens}, before: []any{95, schema.StopEndTurn}},
	{key: "max_context_tokens", value: `1500`, see: omitted, want: true, before: false},
	{key: "max_context_tokens_margin", value: `7000`, see: omitted, want: true, before: false},
	{key: "performance_mode", value: `true`, with: `"perf_max_tokens":9`, see: func(w *world) any { return w.ask("numbers").Usage.CompletionTokens }, want: 9, before: 95},
	{key: "perf_max_tokens", value: `9`, with: `"performance_mode":true`, see: func(w *world) any { return w.ask("numbers").Usage.CompletionTokens }, want: 9, before: 95},
	{key: "perf_max_context_tokens", value: `1500`, with: `"performance_mode":true`, see: omitted, want: true, before: false},
	{key: "perf_max_kv_size", value: `80`, with: `"performance_mode":true`, see: reason("numbers"), want: schema.StopContextFull, before: schema.StopEndTurn},
	{key: "perf_prompt_token_budget", value: `1500`, with: `"performance_mode":true`, see: omitted, want: true, before: false},
	{key: "temperature", value: `0.25`, see: sampled(func(s job.Sampling) any { return s.Temperature }), want: float32(0.25), before: float32(1)},
	{key: "top_p", value: `0.5`, see: sampled(func(s job.Sampling) any { return s.TopP }), want: float32(0.5), before: float32(0)},
	{key: "min_p", value: `0.25`, see: sampled(func(s job.Sampling) any { return s.MinP }), want: float32(0.25), before: float32(0)},
	{key: "min_tokens_to_keep", value: `3`, see: sampled(func(s job.Sampling) any { return s.MinTokensToKeep }), want: 3, before: 1},
	{key: "top_k", value: `40`, see: sampled(func(s job.Sampling) any { return s.TopK }), want: 40, before: 0},
	{key: "xtc_probability", value: `0.5`, see: sampled(func(s job.Sampling) any { return s.XTCProbability }), want: float32(0.5), before: float32(0)},
	{key: "xtc_threshold", value: `0.25`, with: `"xtc_probability":1`, see: sampled(func(s job.Sampling) any { return s.XTCThreshold }), want: float32(0.25), before: float32(0.1)},
	{key: "xtc_special_tokens", value: `[1,2]`, with: `"xtc_probability":1`, see: sampled(func(s job.Sampling) any { return s.XTCSpared }), want: []int32{1, 2}, before: []int32{'\n'}},
	{key: "repetition_penalty", value: `1.5`, see: sampled(func(s job.Sampling) any { return s.RepetitionPenalty }), want: float32(1.5), before: float32(1)},
	{key: "repetition_context_size", value: `9`, see: sampled(func(s job.Sampling) any { return s.RepetitionContext }), want: 9, before: 20},
	{key: "loop_detection", value: `"off"`, with: `"max_resume_attempts":0`, see: reason("for ever"), want: schema.StopMaxTokens, before: schema.StopLoop},
	{key: "max_kv_size", value: `80`, see: reason("numbers"), want: schema.StopContextFull, before: schema.StopEndTurn},
	{key: "seed", value: `5`, see: sampled(func(s job.Sampling) any { return []any{s.HasSeed, s.Seed} }), want: []any{true, uint64(5)}, before: []any{false, uint64(0)}},
	{key: "reseed_each_turn", value: `true`, with: `"seed":5`, see: func(w *world) any {
		w.ask("one")
		w.ask("two")
		return w.engine.asked[0].Sampling.Seed == w.last().Sampling.Seed
	}, want: true, before: false},
	{key: "log_memory_stats", value: `true`, see: func(w *world) any { w.ask("hi"); return strings.Contains(w.log.String(), "peakBytes=") }, want: true, before: false},
	{key: "log_timing_stats", value: `true`, see: func(w *world) any { w.ask("hi"); return strings.Contains(w.log.String(), "prefillMs=") }, want: true, before: false},
	{key: "end_token_strings", value: `["<|im_start|>"]`, see: func(w *world) any { w.ask("hi"); return w.last().StopIDs }, want: []int32{256}, before: []int32(nil)},
	{key: "truncate_thinking", value: `5`, see: func(w *world) any { return *w.session.Display }, want: schema.Display{Thinking: 5, Response: 1000}, before: schema.Display{Thinking: 1000, Response: 1000}},
	{key: "truncate_response", value: `5`, see: func(w *world) any { return *w.session.Display }, want: schema.Display{Thinking: 1000, Response: 5}, before: schema.Display{Thinking: 1000, Response: 1000}},
	{key: "logs_dir", value: `"l"`, see: warned("logs_dir"), want: true, before: false},
	{key: "chats_dir", value: `"l"`, see: warned("chats_dir"), want: true, before: false},
	{key: "models_dir", value: `"l"`, see: warned("models_dir"), want: true, before: false},
	{key: "max_tool_iterations", value: `2`, see: func(w *world) any { r := w.ask("use a tool"); return []any{r.Usage.Rounds, r.StopReason} }, want: []any{3, schema.StopMaxRounds}, before: []any{11, schema.StopMaxRounds}},
	{key: "max_resume_attempts", value: `1`, see: func(w *world) any { w.ask("zilch"); return len(w.engine.asked) }, want: 2, before: 3},
	{key: "reasoning_budget", value: `20`, see: func(w *world) any { return len(w.ask("think long").Message.Content.Reasoning()) }, want: 20, before: 256},
	{key: "stop", value: `["END"]`, see: reason("numbers"), want: schema.StopStopSequence, before: schema.StopEndTurn},
	{key: "context_overflow", value: `"error"`, with: `"max_context_tokens":1500`, see: func(w *world) any { _, err := w.try(long()...); return err != nil }, want: true, before: false},
	{key: "presence_penalty", value: `0.5`, see: sampled(func(s job.Sampling) any { return s.PresencePenalty }), want: float32(0.5), before: float32(0)},
	{key: "presence_context_size", value: `9`, see: sampled(func(s job.Sampling) any { return s.PresenceContext }), want: 9, before: 20},
	{key: "frequency_penalty", value: `0.5`, see: sampled(func(s job.Sampling) any { return s.FrequencyPenalty }), want: float32(0.5), before: float32(0)},
	{key: "frequency_context_size", value: `9`, see: sampled(func(s job.Sampling) any { return s.FrequencyContext }), want: 9, before: 20},
	{key: "logit_bias", value: `[{"token":5,"bias":-100}]`, see: sampled(func(s job.Sampling) any { return s.LogitBias }), want: []job.LogitBias{{ID: 5, Value: -100}}, before: []job.LogitBias(nil)},
}

// TestEveryKeyActs sets each key through a file, a session and a turn, and sees what a turn
// does about it; \set in a chat is a turn's.
func TestEveryKeyActs(t *testing.T) {
	seen := map[string]bool{}
	for _, o := range observed {
		seen[o.key] = true
		t.Run(o.key, func(t *testing.T) {
			with := "{}"
			if o.with != "" {
				with = "{" + o.with + "}"
			}
			all := strings.TrimSuffix(with, "}") + fmt.Sprintf("%q:%s}", o.key, o.value)
			if o.with != "" {
				all = strings.TrimSuffix(with, "}") + fmt.Sprintf(",%q:%s}", o.key, o.value)
			}
			in := func(file, session, turn string) any {
				w := newWorld(t, o.harmony)
				defer w.agent.Close()
				w.open(file, session)
				w.turn = turn
				return o.see(w)
			}
			require.Equal(t, o.before, in("", with, ""), "without it")
			require.Equal(t, o.want, in(all, "", ""), "of a file")
			require.Equal(t, o.want, in("", all, ""), "of a session")
			if k := slices.IndexFunc(profile.Keys(), func(k profile.Key) bool { return k.Name == o.key }); profile.Keys()[k].When == schema.WhenTurn && !strings.HasPrefix(o.key, "truncate_") {
				other := with // keys of the session stay there
				require.Equal(t, o.want, in("", other, fmt.Sprintf("{%q:%s}", o.key, o.value)), "of a turn")
			}
		})
	}
	for _, k := range profile.Keys() {
		require.Equal(t, k.Refused == "", seen[k.Name], k.Name)
	}
}

// TestWithoutSettings a turn has what its request says and nothing else.
func TestWithoutSettings(t *testing.T) {
	w := newWorld(t, false)
	defer w.agent.Close()
	w.open("", "")
	require.Nil(t, w.session.Display)
	w.ask("hi {DATE}")
	r := w.last()
	require.Equal(t, job.Sampling{RepetitionContext: 20, PresenceContext: 20, FrequencyContext: 20}, r.Sampling)
	require.Zero(t, r.MaxTokens)
	require.Contains(t, w.prompt(), "{DATE}")
	s, err := w.agent.SessionSettings(t.Context(), schema.SessionSettingsParams{SessionID: w.session.SessionID})
	require.NoError(t, err)
	require.Empty(t, s.Settings)
	// A turn's own settings are whole.
	w.turn = `{"top_p": 0.5}`
	w.ask("hi")
	require.Equal(t, float32(1), w.last().Sampling.Temperature)
	require.Equal(t, 512, w.last().MaxTokens)
}

// TestRequestGoesBeforeSettings of every kind, and session/settings says so.
func TestRequestGoesBeforeSettings(t *testing.T) {
	w := newWorld(t, false)
	defer w.agent.Close()
	w.open(`{"temperature": 0.1, "top_p": 0.2, "top_k": 3, "min_p": 0.4}`, `{"top_p": 0.5, "top_k": 6}`)
	p := on(w.session.SessionID, "hi")
	p.Settings = json.RawMessage(`{"top_k": 7}`)
	p.Sampling = schema.Sampling{Temperature: ptr(2.5), Seed: ptr(int64(9))}
	p.MaxTokens = 3
	for range 2 {
		generate(t, w.agent, p)
		r := w.last()
		require.Equal(t, []float32{2.5, 0.5, 0.4}, []float32{r.Sampling.Temperature, r.Sampling.TopP, r.Sampling.MinP})
		require.Equal(t, []any{7, uint64(9), 3}, []any{r.Sampling.TopK, r.Sampling.Seed, r.MaxTokens})
	}
	s, err := w.agent.SessionSettings(t.Context(), schema.SessionSettingsParams{SessionID: w.session.SessionID, Settings: p.Settings})
	require.NoError(t, err)
	rows := map[string]string{}
	for _, row := range s.Settings {
		rows[row.Key] = string(row.Value) + " " + string(row.Source) + " " + row.Name
	}
	require.Equal(t, "0.1 prompt config p.json", rows["temperature"])
	require.Equal(t, "0.5 request ", rows["top_p"])
	require.Equal(t, "7 request ", rows["top_k"])
	require.Equal(t, "512 default ", rows["max_tokens"])
	require.Equal(t, "8195 model m", rows["max_context_tokens"])
	require.Equal(t, " default ", rows["max_kv_size"])
	require.NotContains(t, rows, "mlock")
}

// TestBadSettings names what is wrong and opens nothing.
func TestBadSettings(t *testing.T) {
	w := newWorld(t, false)
	defer w.agent.Close()
	ctx := t.Context()
	require.NoError(t, os.WriteFile(filepath.Join(w.folder, "bad.json"), []byte("{\n \"temperature\": 9}"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(w.folder, "profiles.json"), []byte(`{"one": {"prompt_config": "lost.json"}}`), 0o600))
	for _, c := range []struct {
		p    schema.SessionNewParams
		path string
		says string
	}{
		{schema.SessionNewParams{PromptConfig: "bad.json"}, "/promptConfig", "bad.json:2:17: temperature: "},
		{schema.SessionNewParams{PromptConfig: "lost.json"}, "/promptConfig", "there is no such file, neither here nor in " + w.folder},
		{schema.SessionNewParams{Profile: "two"}, "/profile", `no profile "two"; there are ["one"]`},
		{schema.SessionNewParams{Profile: "one"}, "/promptConfig", "lost.json"},
		{schema.SessionNewParams{Profile: "one", ProfilesFile: "other.json"}, "/profile", "other.json"},
		{schema.SessionNewParams{Settings: json.RawMessage(`[]`)}, "/settings", "want a JSON object"},
		{schema.SessionNewParams{Settings: json.RawMessage(`{"temprature": 1}`)}, "/settings/temprature", "did you mean temperature?"},
		{schema.SessionNewParams{Settings: json.RawMessage(`{"mlock": true}`)}, "/settings/mlock", "has no effect: "},
		{schema.SessionNewParams{Settings: json.RawMessage(`{"top_p": 2}`)}, "/settings/top_p", ""},
	} {
		_, err := w.agent.NewSession(ctx, c.p)
		requireInvalid(t, err, c.path, c.says)
	}
	w.open("", "{}")
	p := on(w.session.SessionID, "hi")
	for settings, says := range map[string]string{
		`{"assistant_greeting": "x"}`:       "counts when a conversation begins",
		`{"end_token_strings": ["<nope>"]}`: `"<nope>" is no control token of the model m`,
	} {
		p.Settings = json.RawMessage(settings)
		_, err := w.agent.Generate(ctx, p, &recorder{}, nil)
		var key string
		for k := range map[string]any{"assistant_greeting": 0, "end_token_strings": 0} {
			if strings.Contains(settings, k) {
				key = k
			}
		}
		requireInvalid(t, err, "/settings/"+key, says)
	}
	_, err := w.agent.SessionSettings(ctx, schema.SessionSettingsParams{SessionID: w.session.SessionID, Settings: json.RawMessage(`{"seed": "x"}`)})
	requireInvalid(t, err, "/settings/seed", "")
	_, err = w.agent.SessionSettings(ctx, schema.SessionSettingsParams{SessionID: "none"})
	requireKind(t, err, schema.KindSessionNotFound)
	// A token that a file names may belong to another model.
	w.open(`{"end_token_strings": ["<nope>", "<|im_start|>"]}`, "")
	w.ask("hi")
	require.Equal(t, []int32{256}, w.last().StopIDs)
}

func requireInvalid(t *testing.T, err error, path, says string) {
	t.Helper()
	var wire *schema.Error
	require.ErrorAs(t, err, &wire)
	require.Equal(t, schema.KindInvalidParams, wire.Data.Kind, err)
	require.Equal(t, path, wire.Data.Errors[0].InstancePath)
	require.Contains(t, wire.Data.Errors[0].Message, says)
}

// TestSettingsAreKept holds a conversation as it was when another process takes it up.
func TestSettingsAreKept(t *testing.T) {
	dir, configs := t.TempDir(), t.TempDir()
	file := filepath.Join(configs, "p.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"top_k": 5, "developer_instructions": "Be kind.", "assistant_greeting": "Hello."}`), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(configs, "profiles.json"), []byte(`{"kind": {"model": "m", "prompt_config": "p.json"}}`), 0o600))
	open := func() (*spy, *Agent) {
		store, err := conversation.OpenStore(dir)
		require.NoError(t, err)
		e := &spy{scripted: newScripted(t, worldScript)}
		a := New(e, noTools{}, Options{Conversations: store, Configs: []string{configs}})
		t.Cleanup(a.Close)
		return e, a
	}
	ctx := t.Context()
	_, a := open()
	s, err := a.NewSession(ctx, schema.SessionNewParams{Profile: "kind", Keep: true})
	require.NoError(t, err)
	require.Equal(t, "m", s.Model)
	require.Equal(t, []string{"assistant: Hello."}, texts(s.Messages))
	a.Close()

	e, a := open() // nothing was said yet
	l, err := a.LoadSession(ctx, schema.SessionLoadParams{SessionID: s.SessionID})
	require.NoError(t, err)
	require.Equal(t, "Assistant", l.Assistant)
	p := on(s.SessionID, "hi")
	p.Settings = json.RawMessage(`{"min_p": 0.25}`)
	generate(t, a, p)
	require.Equal(t, 5, e.asked[0].Sampling.TopK)
	again, err := a.LoadSession(ctx, schema.SessionLoadParams{SessionID: s.SessionID})
	require.NoError(t, err)
	require.Len(t, again.Messages, 3, "it is open")
	f, err := a.ForkSession(ctx, schema.SessionParams{SessionID: s.SessionID})
	require.NoError(t, err)
	require.NotNil(t, f.Display)
	a.Close()

	require.NoError(t, os.Remove(file))
	e, a = open()
	l, err = a.LoadSession(ctx, schema.SessionLoadParams{SessionID: s.SessionID, Settings: json.RawMessage(`{"top_p": 0.5}`)})
	require.NoError(t, err, "the conversation goes on without its file")
	require.Contains(t, strings.Join(l.Warnings, "\n"), "p.json")
	generate(t, a, on(s.SessionID, "more"))
	require.Equal(t, []float32{0.5, 0.25}, []float32{e.asked[0].Sampling.TopP, e.asked[0].Sampling.MinP})
}

// TestSessionsNeverTouch has two sessions of different settings take turns at the same time.
func TestSessionsNeverTouch(t *testing.T) {
	w := newWorld(t, false)
	defer w.agent.Close()
	var ids [2]string
	for i := range ids {
		s, err := w.agent.NewSession(t.Context(), schema.SessionNewParams{Settings: json.RawMessage(fmt.Sprintf(
			`{"top_k": %d, "developer_instructions": "You are number %d.", "stop": ["stop%d"], "placeholders": {"n": "%d"}}`, i+1, i, i, i))})
		require.NoError(t, err)
		ids[i] = s.SessionID
	}
	var turns sync.WaitGroup
	errs := make(chan error, 100)
	for turn := range 100 {
		turns.Go(func() {
			p := on(ids[turn%2], "I am {n}")
			p.GenerationID = fmt.Sprint("g", turn%2)
			_, err := w.agent.Generate(t.Context(), p, &recorder{}, nil)
			errs <- err
		})
	}
	turns.Wait()
	for range 100 {
		require.NoError(t, <-errs)
	}
	require.Len(t, w.engine.asked, 100)
	for _, r := range w.engine.asked {
		i := int(r.ID[1] - '0')
		require.Equal(t, i+1, r.Sampling.TopK)
		text := w.promptOf(r)
		require.Contains(t, text, fmt.Sprintf("You are number %d.", i))
		require.Contains(t, text, fmt.Sprintf("I am %d", i))
		require.NotContains(t, text, fmt.Sprintf("You are number %d.", 1-i))
		require.NotContains(t, text, fmt.Sprintf("I am %d", 1-i))
	}
}
