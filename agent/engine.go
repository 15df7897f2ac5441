package agent

import (
	"context"
	"time"

	"harmonyd/engine/job"
)

// Engine runs models. It is implemented by package engine over MLX and by the
// scripted engine of the tests; this package knows neither. All methods may be
// called from any goroutine.
type Engine interface {
	// Models lists the installed models, sorted by id.
	Models(ctx context.Context) ([]job.Model, error)
	// Open makes a model's tokenizer and template ready without its weights, and
	// keeps them: it takes time only once. The empty name means the default
	// model. The result stays valid until the engine is closed.
	Open(ctx context.Context, model string) (*Model, error)
	// Load brings a model's weights into memory. It returns at once where they
	// are there; several callers share one load, which ends when all gave up.
	// Report is called from another goroutine and must not block.
	Load(ctx context.Context, model string, report func(job.Progress)) error
	// Unload frees a model's weights and fails what runs on it with
	// job.ErrUnloaded. An unloaded model is no error.
	Unload(ctx context.Context, model string) error
	// Check makes a constraint's grammar for a model and throws it away. What is
	// wrong with it is a *job.RequestError.
	Check(ctx context.Context, model string, c job.Constraint) error
	// Start queues a generation and returns at once. Errors are those that the
	// request alone can tell; all others come from Generation.Wait.
	Start(req job.Request) (Generation, error)
}

// Generation is one running generation. Its events are buffered in a bounded
// ring: where the consumer falls behind by a ring, the generation pauses at a
// step boundary and loses nothing.
type Generation interface {
	// Next copies the events that are there into dst, blocking until there is at
	// least one, and returns their number. Ctx bounds the wait and does not
	// cancel the generation. After the Done event it returns 0, io.EOF.
	Next(ctx context.Context, dst []job.Event) (int, error)
	// Logprobs are those of the Token events that Next returned last, in order,
	// where the request asked for them. They are valid until Next is called again.
	Logprobs() []job.Logprobs
	// Stop ends the generation so that only its first n tokens count: the loop
	// halts within two steps, later tokens are in no usage, and the model's cache
	// is set back to prompt plus n tokens. The caller has read them already.
	Stop(n int)
	// Cancel ends the generation at the next step or prefill chunk. What was
	// computed stays cached. It may be called at any time, more than once.
	Cancel()
	// Wait blocks until the loop has let go of the generation.
	Wait() (job.Result, error)
}

// Model is an opened model: what turns text into its tokens and back.
type Model struct {
	Info      job.Model
	Tokenizer Tokenizer
	// Template is nil where the model has no chat template.
	Template Template
	// TemplateSource is the text of Template, which tells in what format the model
	// writes calls and reasoning.
	TemplateSource string
}

// Tokenizer turns text into the token ids of one model and back. It is safe
// for use from several goroutines, and two values of it are equal where they are
// the same tokenizer.
type Tokenizer interface {
	// Encode returns the ids of text. Where special is set, the literals of
	// special tokens in text become those tokens; otherwise they are ordinary
	// text. Nothing is added around the text.
	Encode(text string, special bool) ([]int32, error)
	// EncodePlain is Encode with special set, but for the literals that have a
	// byte in one of the ranges [from, to) of plain: they are ordinary text, of
	// one piece with what stands around them. Ranges are in order and apart.
	EncodePlain(text string, plain [][2]int) ([]int32, error)
	// TokenBytes is what a token adds to a text, nil for an id without a token.
	// The caller must not change it.
	TokenBytes(id int32) []byte
	// SpecialLiterals are the texts that Encode turns into control tokens.
	SpecialLiterals() []string
	// NewStream starts a streaming decode.
	NewStream() TokenStream
}

// TokenStream decodes one token at a time. It is not safe for concurrent use.
type TokenStream interface {
	// AppendStep appends to dst the text that id completes and returns it. It
	// holds back bytes that are not yet a whole character and leaves out special
	// tokens.
	AppendStep(dst []byte, id int32) []byte
	// AppendFlush appends what is held back, as U+FFFD where it is no character.
	AppendFlush(dst []byte) []byte
}

// Template is a model's chat template.
type Template interface {
	// Render returns the prompt text for a context given as a JSON object:
	// messages, tools, add_generation_prompt and whatever else the template
	// reads. Key order is kept. A zero now is the present.
	Render(context []byte, now time.Time) (string, error)
}
