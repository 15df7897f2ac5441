package job

import "fmt"

// Ending is an error that says all there is to say. Two with the same text are
// the same error, also where one of them was decoded in another process.
type Ending string

func (e Ending) Error() string { return string(e) }

// The errors that a caller branches on. An engine wraps them with what failed.
const (
	// ErrCancelled reports work that its caller gave up.
	ErrCancelled Ending = "cancelled"
	// ErrUnloaded reports a generation whose model was unloaded under it.
	ErrUnloaded Ending = "the model was unloaded while it ran"
	// ErrClosed reports a request to an engine that is shutting down.
	ErrClosed Ending = "the engine is shut down"
)

// ModelNotFoundError reports a model id that no folder has.
type ModelNotFoundError struct {
	Model     string
	Available []string
}

func (e *ModelNotFoundError) Error() string {
	if len(e.Available) == 0 {
		return fmt.Sprintf("model %q: not found, and no model is installed; get one with `harmonyd import FILE` or `harmonyd pull REPO`", e.Model)
	}
	return fmt.Sprintf("model %q: not found; installed are %q", e.Model, e.Available)
}

// LoadError reports a model that cannot be loaded: a broken folder, an
// architecture that is not known, or too little memory. NeededBytes and
// AvailableBytes are set in the last case only.
type LoadError struct {
	Model          string
	Cause          string
	NeededBytes    int64
	AvailableBytes int64
}

func (e *LoadError) Error() string { return fmt.Sprintf("load model %q: %s", e.Model, e.Cause) }

// ContextOverflowError reports a prompt that leaves no room for an answer.
type ContextOverflowError struct {
	PromptTokens  int
	ContextLength int
}

func (e *ContextOverflowError) Error() string {
	return fmt.Sprintf("prompt: %d tokens do not fit into the model's context of %d", e.PromptTokens, e.ContextLength)
}

// MemoryError reports a turn that was refused because the memory of its prompt
// and of all the tokens that it may generate is not there.
type MemoryError struct {
	// Tokens is the length of prompt and answer together, FittingTokens the most
	// that there is memory for.
	Tokens, FittingTokens int
	// NeededBytes and AvailableBytes are of the cache and the scratch memory.
	NeededBytes, AvailableBytes int64
	// Retryable says that others hold memory which they will give back.
	Retryable bool
}

func (e *MemoryError) Error() string {
	return fmt.Sprintf("memory: prompt and answer of %d tokens need %d bytes, %d are free; %d tokens fit: "+
		"shorten the prompt or lower maxTokens", e.Tokens, e.NeededBytes, e.AvailableBytes, e.FittingTokens)
}

// RequestError reports a field of a Request that is out of its range.
type RequestError struct {
	Field   string
	Problem string
}

func (e *RequestError) Error() string { return e.Field + ": " + e.Problem }

// UnsupportedError reports a feature that this engine or model lacks.
type UnsupportedError struct {
	Feature string
}

func (e *UnsupportedError) Error() string { return e.Feature + ": not supported by this model" }

// EngineError reports a failure of the device or the native library while a
// generation ran. Nothing is known to be wrong with the request itself.
type EngineError struct {
	Cause string
}

func (e *EngineError) Error() string { return "engine: " + e.Cause }
