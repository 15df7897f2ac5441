// Package agent runs turns: it renders a conversation, has an engine generate,
// watches the text for its end and for calls of tools, has those carried out, and
// says what happens while it does. It must never know what an engine is made of,
// who listens or who runs a tool: they come in as interfaces. Its state is the
// sessions.
//
// Start with Agent.Generate, then turn, which is one generation.
package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"harmonyd/agent/conversation"
	"harmonyd/agent/parse"
	"harmonyd/agent/profile"
	"harmonyd/agent/prompt"
	"harmonyd/engine/job"
	"harmonyd/schema"
)

// Toolbox holds the tools that models may call. Its methods may be called from
// any goroutine.
type Toolbox interface {
	// Register adds tools, all or none. An error is a *schema.Error.
	Register(p schema.ToolRegisterParams) (schema.ToolRegisterResult, error)
	// Unregister takes tools away that were registered for a session, or for all
	// where that is empty. The error is a *schema.Error.
	Unregister(session string, names []string) error
	// SetEnabled switches tools that a session sees, or those for all where that is
	// empty, on or off. The error is a *schema.Error.
	SetEnabled(session string, names []string, on bool) error
	// List returns the tools that a session sees, or those for all, in the order of
	// their registration.
	List(session string) schema.ToolsListResult
	// Resolve returns the tools of one generation; a nil refs means all that its
	// session sees. Those that are switched off are in neither. An error is a *schema.Error.
	Resolve(session string, refs *[]schema.ToolRef) ([]schema.Tool, error)
	// Fork registers a session's tools for another one; Forget takes them away.
	Fork(from, to string) error
	Forget(session string)
}

// Sink takes what a generation says while it runs, in order, from one
// goroutine.
type Sink interface {
	// Text adds text that the given number of tokens produced. It may block
	// where the listener is far behind, until ctx is done.
	Text(ctx context.Context, channel schema.Channel, text string, tokens int)
	// Arguments adds to the arguments of a call that the model is writing, where the
	// request asks for them. Name is the tool's, with the first of each call, whose
	// text may be empty. It blocks as Text does.
	Arguments(ctx context.Context, callID, name, text string, tokens int)
	// Logprobs says how probable the tokens were that the next Text counts. It is
	// called before that, where the request asks for logprobs.
	Logprobs(tokens []schema.TokenLogprobs)
	// Status reports a change of state.
	Status(s schema.GenerateStatus)
	// ToolCall reports a call of a tool, or that one got further.
	ToolCall(u schema.GenerateToolCall)
}

// Options are the settings of an Agent. The zero value is usable.
type Options struct {
	// Log receives one record for each generation, never its text. Nil discards
	// them.
	Log *slog.Logger
	// State is the folder of what outlives the process: which models are being
	// loaded. Empty keeps nothing.
	State string
	// Configs are the folders of prompt configs and profiles, the first that has a file
	// first.
	Configs []string
	// Folders are those of settings that the program has begun with.
	Folders profile.Folders
	// Conversations is where sessions are written down that are to be kept. Nil keeps
	// none.
	Conversations *conversation.Store
	// MaxSessions is how many may be open; 0 means the wire's default.
	MaxSessions int
}

// Agent answers requests with the help of an engine. All methods may be called
// from any goroutine. Their errors are *schema.Error, but for that of a ctx that
// ended, which is the context's own, and for faults of the program itself.
type Agent struct {
	engine Engine
	tools  Toolbox
	log    *slog.Logger
	marks  *marks // nil where nothing is kept

	configs       []string
	folders       profile.Folders
	conversations *conversation.Store // nil where there are none
	maxSessions   int

	mu sync.Mutex
	// opened holds what was opened, by the names that were asked for and the
	// models' ids.
	opened   map[string]*opened
	sessions map[string]*session
	named    int // sessions so far
	allowed  map[allowance]bool
}

// opened is a model with its renderer.
type opened struct {
	*Model
	renderer prompt.ChatRenderer
	format   parse.Format // of answers
}

// New returns an Agent over an engine and a toolbox, both of which stay the
// caller's to close. The Agent is closed before the engine.
func New(engine Engine, tools Toolbox, o Options) *Agent {
	a := &Agent{
		engine: engine, tools: tools, log: o.Log, configs: o.Configs, folders: o.Folders, conversations: o.Conversations,
		maxSessions: cmp.Or(o.MaxSessions, schema.DefaultLimits().MaxSessions),
		opened:      make(map[string]*opened), sessions: make(map[string]*session), allowed: make(map[allowance]bool),
	}
	if a.log == nil {
		a.log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if o.State != "" {
		a.marks = newMarks(filepath.Join(o.State, "loading"))
	}
	return a
}

// Close says that the process ends in good order: what still loads is no crash, and
// what is written down is complete.
func (a *Agent) Close() {
	if a.marks != nil {
		a.marks.close()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.sessions {
		s.close()
	}
}

// Models lists the installed models.
func (a *Agent) Models(ctx context.Context) (schema.ModelsListResult, error) {
	models, err := a.engine.Models(ctx)
	if err != nil {
		return schema.ModelsListResult{}, wireError(ctx, err)
	}
	r := schema.ModelsListResult{Models: make([]schema.ModelInfo, len(models))}
	for i, m := range models {
		r.Models[i] = schema.ModelInfo{
			ID:              m.ID,
			Name:            m.ID,
			Family:          m.Family,
			Quantization:    m.Quantization,
			ContextLength:   m.ContextLength,
			MaxOutputTokens: max(m.ContextLength-1, 0), // a prompt has one token at least
			State:           schema.ModelState(m.State),
			Problem:         m.Problem,
			SizeBytes:       m.SizeBytes,
			Default:         m.Default,
			Capabilities:    schema.ModelCapabilities{Chat: m.Chat, Tools: m.Chat},
		}
	}
	return r, nil
}

// LoadModel brings a model into memory, its weights and its tokenizer.
// Report is called from another goroutine, in bytes.
func (a *Agent) LoadModel(ctx context.Context, p schema.ModelLoadParams, report func(done, total int64)) (schema.ModelLoadResult, error) {
	type result struct {
		model *opened
		err   error
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	id, k, err := a.guard(ctx, p.Model, p.Force)
	if err != nil {
		return schema.ModelLoadResult{}, err
	}
	defer k.end()
	open := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			if p := recover(); p != nil { // which would end the process from here
				a.log.Error("open a model", "panic", p, "stack", string(debug.Stack()))
				r.err = fmt.Errorf("panic: %v", p)
			}
			open <- r
		}()
		r.model, r.err = a.open(ctx, p.Model)
	}()
	start := time.Now()
	err = a.engine.Load(ctx, p.Model, func(p job.Progress) {
		if report != nil {
			report(p.Done, p.Total)
		}
	})
	took := time.Since(start)
	if p.Force && ctx.Err() == nil {
		a.marks.forget(id) // it has come to an end, good or bad
	}
	if err != nil {
		err = wireError(ctx, err)
		stop() // Open need not go on
		<-open
		return schema.ModelLoadResult{}, err
	}
	o := <-open
	if o.err != nil {
		return schema.ModelLoadResult{}, wireError(ctx, o.err)
	}
	// A loaded model takes microseconds, which are not worth a fraction.
	return schema.ModelLoadResult{Model: o.model.Info.ID, LoadMS: float64(took.Milliseconds())}, nil
}

// UnloadModel frees a model's weights and ends what runs on it.
func (a *Agent) UnloadModel(ctx context.Context, p schema.ModelUnloadParams) (schema.ModelUnloadResult, error) {
	r := schema.ModelUnloadResult{Model: p.Model}
	if p.Model == "" {
		m, err := a.open(ctx, "")
		if err != nil {
			return schema.ModelUnloadResult{}, wireError(ctx, err)
		}
		r.Model = m.Info.ID
	}
	if err := a.engine.Unload(ctx, r.Model); err != nil {
		return schema.ModelUnloadResult{}, wireError(ctx, err)
	}
	return r, nil
}

// CountTokens counts the tokens of a text, or of messages as Generate would
// render them. It needs no weights.
func (a *Agent) CountTokens(ctx context.Context, p schema.TokensCountParams) (schema.TokensCountResult, error) {
	if err := exactlyOne("text", p.Text, p.Messages); err != nil {
		return schema.TokensCountResult{}, err
	}
	if p.Text != nil && len(p.Tools) > 0 {
		return schema.TokensCountResult{}, schema.InvalidParam("/tools", "a text has no tools; give messages")
	}
	m, err := a.open(ctx, p.Model)
	if err != nil {
		return schema.TokensCountResult{}, wireError(ctx, err)
	}
	var ids []int32
	if p.Text != nil {
		ids, err = m.Tokenizer.Encode(*p.Text, false)
	} else {
		ids, err = m.render(p.Messages, p.Tools)
	}
	if err != nil {
		return schema.TokensCountResult{}, wireError(ctx, err)
	}
	return schema.TokensCountResult{Tokens: len(ids)}, nil
}

// RegisterTools adds tools to the toolbox.
func (a *Agent) RegisterTools(_ context.Context, p schema.ToolRegisterParams) (schema.ToolRegisterResult, error) {
	if err := a.checkSession(p.SessionID); err != nil {
		return schema.ToolRegisterResult{}, err
	}
	r, err := a.tools.Register(p)
	if gone := a.checkSession(p.SessionID); gone != nil { // closed meanwhile
		a.tools.Forget(p.SessionID)
		return schema.ToolRegisterResult{}, gone
	}
	return r, err
}

// UnregisterTools takes tools out of the toolbox and lists what is left.
func (a *Agent) UnregisterTools(_ context.Context, p schema.ToolsUnregisterParams) (schema.ToolsListResult, error) {
	if err := a.checkSession(p.SessionID); err != nil {
		return schema.ToolsListResult{}, err
	}
	if err := a.tools.Unregister(p.SessionID, p.Names); err != nil {
		return schema.ToolsListResult{}, err
	}
	return a.tools.List(p.SessionID), nil
}

// SetToolsEnabled switches tools on or off and lists them.
func (a *Agent) SetToolsEnabled(_ context.Context, p schema.ToolsSetEnabledParams) (schema.ToolsListResult, error) {
	if err := a.checkSession(p.SessionID); err != nil {
		return schema.ToolsListResult{}, err
	}
	err := a.tools.SetEnabled(p.SessionID, p.Names, p.Enabled)
	if gone := a.checkSession(p.SessionID); gone != nil { // closed meanwhile
		a.tools.Forget(p.SessionID)
		err = gone
	}
	if err != nil {
		return schema.ToolsListResult{}, err
	}
	return a.tools.List(p.SessionID), nil
}

// ListTools lists the toolbox.
func (a *Agent) ListTools(_ context.Context, p schema.ToolsListParams) (schema.ToolsListResult, error) {
	if err := a.checkSession(p.SessionID); err != nil {
		return schema.ToolsListResult{}, err
	}
	return a.tools.List(p.SessionID), nil
}

// render returns the ids of a conversation with tools.
func (o *opened) render(messages []schema.Message, tools []schema.ToolSpec) ([]int32, error) {
	return o.renderer.RenderChat(prompt.Chat{Messages: messages, Tools: tools})
}

// controlToken is the id of a control token; a literal of several ids is none, but text that
// is split somehow.
func (o *opened) controlToken(literal string) (id int32, known bool, err error) {
	if !slices.Contains(o.Tokenizer.SpecialLiterals(), literal) {
		return 0, false, nil
	}
	ids, err := o.Tokenizer.Encode(literal, true)
	if err != nil || len(ids) != 1 {
		return 0, false, err
	}
	return ids[0], true, nil
}

// harmony reports whether the model has the format of GPT-OSS.
func (o *opened) harmony() bool { return isHarmony(o.Model) }

func isHarmony(m *Model) bool { return m.Info.Family == "gpt_oss" }

// newRenderer renders for a model: GPT-OSS has a format of its own, which its template
// only imitates.
func newRenderer(m *Model) (prompt.ChatRenderer, error) {
	if isHarmony(m) {
		return prompt.NewHarmony(m.Tokenizer, prompt.HarmonyOptions{Now: time.Now})
	}
	return prompt.New(m.Tokenizer, m.Template)
}

// open opens a model and gives it the renderer and the format that it had before, if
// they are of the same tokenizer: a new renderer encodes each control token, and the
// format is looked for in the whole template.
func (a *Agent) open(ctx context.Context, model string) (*opened, error) {
	m, err := a.engine.Open(ctx, model)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	o := &opened{Model: m}
	if before := a.opened[m.Info.ID]; before != nil && before.Tokenizer == m.Tokenizer {
		o.renderer, o.format = before.renderer, before.format
	} else if o.renderer, err = newRenderer(m); err != nil {
		return nil, err
	} else {
		o.format = parse.Detect(m.Info.Family, m.TemplateSource)
	}
	a.opened[m.Info.ID], a.opened[model] = o, o
	return o, nil
}

// isOpen reports whether a model was opened before, so that it opens at once.
func (a *Agent) isOpen(model string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.opened[model] != nil
}

// wireError turns what an engine reports into what the wire says. What it does
// not know it leaves alone: that is a fault of ours, and rpc says so.
func wireError(ctx context.Context, err error) error {
	var (
		wire      *schema.Error
		notFound  *job.ModelNotFoundError
		load      *job.LoadError
		overflow  *job.ContextOverflowError
		memory    *job.MemoryError
		request   *job.RequestError
		lacks     *job.UnsupportedError
		broken    *job.EngineError
		cancelled = errors.Is(err, job.ErrCancelled) || errors.Is(err, context.Canceled)
	)
	switch {
	case errors.As(err, &wire):
		return wire
	case ctx.Err() != nil: // whoever ended it knows why, and says so
		return ctx.Err()
	case cancelled:
		return schema.Errorf(schema.KindCancelled, "cancelled")
	case errors.As(err, &notFound):
		return schema.ModelNotFound(notFound.Model, notFound.Available)
	case errors.As(err, &load):
		return schema.ModelLoadFailed(load.Model, load.Cause, load.NeededBytes, load.AvailableBytes)
	case errors.As(err, &overflow):
		return schema.ContextOverflowed(overflow.PromptTokens, overflow.ContextLength)
	case errors.As(err, &memory):
		return schema.OutOfMemory(memory.Tokens, memory.FittingTokens, memory.NeededBytes, memory.AvailableBytes, memory.Retryable)
	case errors.As(err, &request):
		return schema.InvalidParam("/"+request.Field, "%s", request.Problem)
	case errors.As(err, &lacks):
		return schema.Unsupported(lacks.Feature, "%s", lacks.Error())
	case errors.As(err, &broken):
		return schema.EngineFailed(broken.Cause, nil)
	case errors.Is(err, job.ErrUnloaded), errors.Is(err, job.ErrClosed):
		return schema.Errorf(schema.KindServerCancelled, "%v", err)
	}
	return err
}
