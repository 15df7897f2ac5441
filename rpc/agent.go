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
// first report. RegisterTools and ListTools are called one at a time, and no
// generation begins before the registrations that the client sent before it.
type Agent interface {
	Models(ctx context.Context) (schema.ModelsListResult, error)
	// LoadModel reports progress from any goroutine; report must not block.
	LoadModel(ctx context.Context, p schema.ModelLoadParams, report func(done, total int64)) (schema.ModelLoadResult, error)
	UnloadModel(ctx context.Context, p schema.ModelUnloadParams) (schema.ModelUnloadResult, error)
	CountTokens(ctx context.Context, p schema.TokensCountParams) (schema.TokensCountResult, error)
	// Generate answers a cancelled ctx with a result whose stop reason is
	// cancelled and which holds what was generated, never with an error.
	Generate(ctx context.Context, p schema.GenerateParams, s Sink) (schema.GenerateResult, error)
	RegisterTools(ctx context.Context, p schema.ToolRegisterParams) (schema.ToolRegisterResult, error)
	ListTools(ctx context.Context) (schema.ToolsListResult, error)
}

// Sink takes what a generation says while it runs, in order, from one
// goroutine.
type Sink interface {
	// Text adds text that the given number of tokens produced. It returns at
	// once unless 8 MiB of this generation wait for a client that does not
	// read; then it blocks until the client reads or ctx is done.
	Text(ctx context.Context, channel schema.Channel, text string, tokens int)
	// Logprobs says how probable the tokens were that the next Text counts: they
	// go out with it.
	Logprobs(tokens []schema.TokenLogprobs)
	// Status reports a change of state. It flushes the text before it.
	Status(s schema.GenerateStatus)
}
