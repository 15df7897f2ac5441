package rpc

import (
	"context"

	"harmonyd/schema"
)

// Agent does the work that a connection's requests ask for. Its methods run on
// goroutines of their own, many at a time, and are cancelled through ctx. An
// error that is (or wraps) a *schema.Error reaches the client as it is; any
// other becomes an internal error with an id that the log explains.
//
// Calls of Generate, LoadModel and UnloadModel begin in the order of the
// client's messages, each when the one before has ended or has its place: a
// generation with its first status that says more than queued, a load with its
// first report. Of one session, one generation runs at a time. RegisterTools,
// UnregisterTools, SetToolsEnabled and ListTools are called one at a time, and no generation begins
// before those that the client sent before it.
type Agent interface {
	Models(ctx context.Context) (schema.ModelsListResult, error)
	// LoadModel reports progress from any goroutine; report must not block.
	LoadModel(ctx context.Context, p schema.ModelLoadParams, report func(done, total int64)) (schema.ModelLoadResult, error)
	UnloadModel(ctx context.Context, p schema.ModelUnloadParams) (schema.ModelUnloadResult, error)
	CountTokens(ctx context.Context, p schema.TokensCountParams) (schema.TokensCountResult, error)
	NewSession(ctx context.Context, p schema.SessionNewParams) (schema.SessionResult, error)
	// CloseSession and ForkSession are called from the reader's goroutine: they must be
	// quick, but for what the disk takes where a session is kept.
	CloseSession(ctx context.Context, p schema.SessionParams) (schema.Empty, error)
	ForkSession(ctx context.Context, p schema.SessionParams) (schema.SessionResult, error)
	LoadSession(ctx context.Context, p schema.SessionLoadParams) (schema.SessionLoadResult, error)
	ListSessions(ctx context.Context, p schema.SessionListParams) (schema.SessionListResult, error)
	SessionSettings(ctx context.Context, p schema.SessionSettingsParams) (schema.SessionSettingsResult, error)
	// Generate answers a cancelled ctx with a result whose stop reason is
	// cancelled and which holds what was generated, never with an error.
	Generate(ctx context.Context, p schema.GenerateParams, s Sink, h Host) (schema.GenerateResult, error)
	RegisterTools(ctx context.Context, p schema.ToolRegisterParams) (schema.ToolRegisterResult, error)
	UnregisterTools(ctx context.Context, p schema.ToolsUnregisterParams) (schema.ToolsListResult, error)
	SetToolsEnabled(ctx context.Context, p schema.ToolsSetEnabledParams) (schema.ToolsListResult, error)
	ListTools(ctx context.Context, p schema.ToolsListParams) (schema.ToolsListResult, error)
}

// Sink takes what a generation says while it runs, in order, from one
// goroutine.
type Sink interface {
	// Text adds text that the given number of tokens produced. It returns at
	// once unless 8 MiB of this generation wait for a client that does not
	// read; then it blocks until the client reads or ctx is done.
	Text(ctx context.Context, channel schema.Channel, text string, tokens int)
	// Arguments adds to the arguments of a call that the model is writing, where the
	// request asks for them. Name is the tool's, with the first of each call, whose
	// text may be empty. It blocks as Text does.
	Arguments(ctx context.Context, callID, name, text string, tokens int)
	// Logprobs says how probable the tokens were that the next Text counts: they
	// go out with it.
	Logprobs(tokens []schema.TokenLogprobs)
	// Status reports a change of state. It flushes the text before it.
	Status(s schema.GenerateStatus)
	// ToolCall reports a call of a tool, or that one got further. It flushes the
	// text before it.
	ToolCall(u schema.GenerateToolCall)
}

// Host asks the client on behalf of a generation. Its methods may be called from
// several goroutines; they block until the client answers or ctx is done, and then
// tell the client that no answer is needed any more. A JSON-RPC error of the
// client's comes back as the *schema.Error that it is.
type Host interface {
	CallTool(ctx context.Context, p schema.ToolCallParams) (schema.ToolResult, error)
	// Approve fails where the client lacks the capability.
	Approve(ctx context.Context, p schema.ToolApproveParams) (schema.ToolApproveResult, error)
}
