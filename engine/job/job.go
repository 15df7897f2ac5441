// Package job holds the words that both sides of the engine seam share: what
// the agent asks of an engine and what comes back. It is plain data: no
// behaviour beyond validation, no goroutines, no handles, so that every type
// survives a gob round trip and an engine can live in another process.
//
// Start with Request, which asks for one generation, and Event, which is what
// a generation says while it runs.
package job

import "time"

// Priority orders generations that wait for the same device. Interactive work
// runs before background work at every step boundary.
type Priority uint8

// The priorities, lowest first.
const (
	Background Priority = iota
	Interactive
)

// Request asks an engine for one generation. Token ids are those of the
// model's own tokenizer.
type Request struct {
	// ID names the generation in logs and errors. It need not be unique.
	ID string
	// Model is the id of the model to run. It is loaded first where needed.
	Model string
	// Prompt holds the token ids of the whole prompt, at least one.
	Prompt []int32
	// MaxTokens bounds the number of generated tokens. Zero means as many as
	// the context still holds.
	MaxTokens int
	// StopIDs end the generation besides the model's own end-of-sequence ids.
	// A stop id is not part of the output.
	StopIDs []int32
	// IgnoreEOS keeps the model's own end-of-sequence ids from ending the
	// generation. Benchmarks use it to run to a fixed length.
	IgnoreEOS bool
	Sampling  Sampling
	// Logprobs asks for the log-probability of each generated token and of this
	// many of the most probable ones in its place, up to MaxLogprobs. 0 means off.
	Logprobs int
	// Constraint restricts the output to a grammar. The zero value restricts
	// nothing.
	Constraint Constraint
	Priority   Priority
}

// ConstraintKind says which language a Constraint's source is written in.
type ConstraintKind string

// The kinds of constraint.
const (
	NoConstraint ConstraintKind = ""
	JSONSchema   ConstraintKind = "json_schema"
	Regex        ConstraintKind = "regex"
	Lark         ConstraintKind = "lark"
)

// Constraint is a grammar that the output must follow.
type Constraint struct {
	Kind   ConstraintKind
	Source string
}

// EventKind says what an Event reports.
type EventKind uint8

// The kinds of event, in the order in which a generation meets them. Queued
// and Loading may be absent; Prefill repeats; Done is the last.
const (
	Queued EventKind = iota + 1
	Loading
	Prefill
	Token
	Done
)

// Event is one thing that happened to a generation. It has no pointers, so a
// ring of events is one allocation for the life of a generation.
type Event struct {
	Kind EventKind
	// ID is the generated token of a Token event.
	ID int32
	// Done and Total measure progress: bytes in 1/1000 parts for Loading,
	// prompt tokens for Prefill. The Done of the first Prefill event is the
	// number of tokens that were cached; later ones include it.
	Done, Total int32
}

// MaxLogprobs is the most alternatives that a Request may ask for.
const MaxLogprobs = 20

// Logprobs says how probable a generated token was. The probabilities are those of
// the scores after bias and penalties, before filters and temperature. It has no
// pointers, so a ring of them is one allocation.
type Logprobs struct {
	Chosen Logprob
	// Top are the most probable tokens, the best first, of which the first N
	// count: fewer than were asked for where others are impossible.
	Top [MaxLogprobs]Logprob
	N   int
}

// Logprob is a token and the natural logarithm of its probability.
type Logprob struct {
	ID    int32
	Value float32
}

// StopReason says why a generation ended.
type StopReason string

// The reasons an engine gives. The agent has more of its own.
const (
	StopEOS       StopReason = "eos"        // an end-of-sequence or stop id
	StopLength    StopReason = "max_tokens" // MaxTokens were generated
	StopContext   StopReason = "context_full"
	StopConsumer  StopReason = "stopped" // the consumer set the end with Stop
	StopCancelled StopReason = "cancelled"
	StopError     StopReason = "error"
)

// Result is what a generation leaves behind. Tokens counts the generated
// tokens that are kept: surplus tokens after a stop are not among them.
type Result struct {
	Reason StopReason
	Usage  Usage
	Stats  Stats
}

// Usage counts tokens. CachedTokens of the PromptTokens needed no computation.
type Usage struct {
	PromptTokens    int
	CachedTokens    int
	GeneratedTokens int
}

// Stats are the timings of one generation and the memory of its engine.
type Stats struct {
	Queue      time.Duration // from submission to the first work on it
	Load       time.Duration // spent waiting for the model
	Prefill    time.Duration // processing the prompt
	FirstToken time.Duration // from submission to the first token
	Decode     time.Duration // from the first token to the last
	// Steps counts the decode steps run, surplus ones included.
	Steps int
	// ActiveBytes and PeakBytes are the device memory of the whole engine.
	ActiveBytes, PeakBytes int64
	Constraint             ConstraintStats
}

// ConstraintStats say what a Constraint cost.
type ConstraintStats struct {
	// Forced counts the tokens that the grammar left no choice for, Masks the
	// choices, and LateMasks those of which the device waited for the mask.
	Forced, Masks, LateMasks int
	// MaskTime is what all masks took to make, LongestMask what one did.
	MaskTime, LongestMask time.Duration
}

// TokensPerSecond is the decode rate, 0 where fewer than two tokens came.
func (r Result) TokensPerSecond() float64 {
	if r.Usage.GeneratedTokens < 2 || r.Stats.Decode <= 0 {
		return 0
	}
	return float64(r.Usage.GeneratedTokens-1) / r.Stats.Decode.Seconds()
}

// ModelState says whether a model can run at once.
type ModelState string

// The states of a model.
const (
	Unloaded    ModelState = "unloaded"
	LoadingNow  ModelState = "loading"
	Ready       ModelState = "ready"
	Unavailable ModelState = "unavailable" // its folder is broken; see Problem
)

// Model describes one model of an engine.
type Model struct {
	// ID names the model in requests: its folder under the models root.
	ID string
	// Family is the architecture, the config's model_type.
	Family string
	// Quantization is such as "affine 4-bit, groups of 32"; empty means none.
	Quantization string
	// ContextLength is the number of tokens of prompt and output together.
	ContextLength int
	Vocab         int
	// SizeBytes is the size of the weights on disk.
	SizeBytes int64
	// StopIDs are the model's own end-of-sequence ids.
	StopIDs []int32
	// Chat says that the model has a chat template.
	Chat bool
	// Default marks the model that an empty model id stands for.
	Default bool
	State   ModelState
	// Problem says why the state is Unavailable and how to mend it.
	Problem string
}

// Progress reports a load: Done of Total bytes.
type Progress struct {
	Done, Total int64
}
