package agent

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest"
	"harmonyd/engine/enginetest/leaks"
	"harmonyd/engine/job"
	"harmonyd/schema"
)

func TestMain(m *testing.M) { os.Exit(leaks.Run(m)) }

// scripted gives the scripted engine the types of this package.
type scripted struct{ *enginetest.Engine }

func (e scripted) Open(ctx context.Context, model string) (*Model, error) {
	o, err := e.Engine.Open(ctx, model)
	if err != nil {
		return nil, err
	}
	m := &Model{Info: o.Info, Tokenizer: tokenizer{o.Tokenizer}}
	if o.Template != nil {
		m.Template = o.Template
	}
	return m, nil
}

func (e scripted) Start(r job.Request) (Generation, error) { return e.Engine.Start(r) }

type tokenizer struct{ *enginetest.Tokenizer }

func (t tokenizer) NewStream() TokenStream { return t.Tokenizer.NewStream() }

// noTools is a toolbox without tools.
type noTools struct{}

func (noTools) Register(schema.ToolRegisterParams) (schema.ToolRegisterResult, error) {
	return schema.ToolRegisterResult{Revision: 1}, nil
}
func (noTools) Unregister(string, []string) error                        { return nil }
func (noTools) SetEnabled(string, []string, bool) error                  { return nil }
func (noTools) List(string) schema.ToolsListResult                       { return schema.ToolsListResult{Revision: 1} }
func (noTools) Resolve(string, *[]schema.ToolRef) ([]schema.Tool, error) { return nil, nil }
func (noTools) Fork(string, string) error                                { return nil }
func (noTools) Forget(string)                                            {}

// newScripted opens an engine that follows a script.
func newScripted(t *testing.T, script string) scripted {
	t.Helper()
	s, err := enginetest.ReadScript(strings.NewReader(script))
	require.NoError(t, err)
	e, err := enginetest.New(s)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return scripted{e}
}

func newAgent(t *testing.T, script string) *Agent {
	t.Helper()
	return New(newScripted(t, script), noTools{}, Options{})
}

// model is a script with one model that answers text.
func model(fields, text string) string {
	b, _ := json.Marshal(text)
	if fields != "" {
		fields += ", "
	}
	return `{"models": [{"id": "m", ` + fields + `"replies": [{"text": ` + string(b) + `}]}]}`
}

// recorder is a Sink that keeps what it is told.
type recorder struct {
	mu       sync.Mutex
	pieces   []string
	thoughts string
	// arguments are those of calls by their ids, and written the names of their tools.
	arguments, written map[string]string
	argued             int // pieces of them

	tokens   int
	logprobs []schema.TokenLogprobs
	statuses []schema.GenerateStatus
	calls    []schema.GenerateToolCall
	// text, where it is set, is called by Text.
	text func(ctx context.Context)
	// status, where it is set, is called by Status.
	status func(s schema.GenerateStatus)
}

func (r *recorder) Text(ctx context.Context, channel schema.Channel, text string, tokens int) {
	r.mu.Lock()
	if text == "" {
		panic("no text")
	}
	if channel == schema.ChannelText {
		r.pieces = append(r.pieces, text)
	} else {
		r.thoughts += text
	}
	r.tokens += tokens
	r.mu.Unlock()
	if r.text != nil {
		r.text(ctx)
	}
}

func (r *recorder) Arguments(_ context.Context, callID, name, text string, tokens int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.arguments == nil {
		r.arguments, r.written = map[string]string{}, map[string]string{}
	}
	if _, begun := r.written[callID]; begun == (name != "") || name == "" && text == "" {
		panic("a call begins once, with a name, and goes on with text")
	}
	r.written[callID] += name
	r.arguments[callID] += text
	r.argued++
	r.tokens += tokens
}

func (r *recorder) Logprobs(tokens []schema.TokenLogprobs) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.logprobs = append(r.logprobs, tokens...)
	if len(r.logprobs) == 0 {
		panic("no logprobs")
	}
}

func (r *recorder) Status(s schema.GenerateStatus) {
	r.mu.Lock()
	r.statuses = append(r.statuses, s)
	r.mu.Unlock()
	if r.status != nil {
		r.status(s)
	}
}

func (r *recorder) ToolCall(u schema.GenerateToolCall) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, u)
}

func (r *recorder) all() string { return strings.Join(r.pieces, "") }

// states are the states reported, each once.
func (r *recorder) states() []schema.GenerateState {
	var out []schema.GenerateState
	for _, s := range r.statuses {
		if len(out) == 0 || out[len(out)-1] != s.State {
			out = append(out, s.State)
		}
	}
	return out
}

func raw(text string) schema.GenerateParams {
	return schema.GenerateParams{GenerationID: "g", Prompt: &text}
}

func chat(text string) schema.GenerateParams {
	return schema.GenerateParams{GenerationID: "g", Messages: []schema.Message{
		{Role: schema.RoleUser, Content: schema.TextContent(text)},
	}}
}

func ptr[T any](v T) *T { return &v }

// generate runs a generation that must not fail and checks what holds for all.
func generate(t *testing.T, a *Agent, p schema.GenerateParams) (schema.GenerateResult, *recorder) {
	t.Helper()
	var r recorder
	res, err := a.Generate(t.Context(), p, &r, nil)
	require.NoError(t, err)
	checkResult(t, res, &r)
	return res, &r
}

func checkResult(t *testing.T, res schema.GenerateResult, r *recorder) {
	t.Helper()
	require.Equal(t, r.all(), res.Message.Content.Text(), "the result is what was streamed")
	require.Equal(t, schema.RoleAssistant, res.Message.Role)
	require.LessOrEqual(t, r.tokens, res.Usage.CompletionTokens)
	require.Equal(t, schema.StateQueued, r.statuses[0].State)
	require.Equal(t, schema.StateDone, r.statuses[len(r.statuses)-1].State)
	for _, s := range r.statuses {
		require.Equal(t, res.GenerationID, s.GenerationID)
	}
}

// counts are the parts of a usage that no clock changes.
func counts(u schema.Usage) schema.Usage {
	return schema.Usage{PromptTokens: u.PromptTokens, CachedTokens: u.CachedTokens, CompletionTokens: u.CompletionTokens, Rounds: u.Rounds}
}
