package schema

// ModelsListResult answers models/list.
type ModelsListResult struct {
	// Models are the installed models, sorted by id.
	Models []ModelInfo `json:"models"`
}

// ModelState says whether a model can run at once.
type ModelState string

// The states of a model.
const (
	ModelUnloaded    ModelState = "unloaded"
	ModelLoading     ModelState = "loading"
	ModelReady       ModelState = "ready"
	ModelUnavailable ModelState = "unavailable"
)

// ModelInfo describes an installed model.
type ModelInfo struct {
	// ID names the model in requests.
	ID string `json:"id"`
	// Name is for people to read.
	Name string `json:"name"`
	// Family is the architecture, such as llama.
	Family string `json:"family"`
	// Quantization says how the weights are stored; absent means as they are.
	Quantization string `json:"quantization,omitempty"`
	// ContextLength is the number of tokens of prompt and output together.
	ContextLength int `json:"contextLength"`
	// MaxOutputTokens is the most that one generation may produce.
	MaxOutputTokens int `json:"maxOutputTokens"`
	// Capabilities says what the model can do.
	Capabilities ModelCapabilities `json:"capabilities"`
	// State says whether the model can run at once.
	State ModelState `json:"state" jsonschema:"enum=unloaded,enum=loading,enum=ready,enum=unavailable"`
	// Problem says why the state is unavailable and how to mend it.
	Problem string `json:"problem,omitempty"`
	// SizeBytes is the size of the weights on disk.
	SizeBytes int64 `json:"sizeBytes"`
	// Default marks the model that a request without a model runs.
	Default bool `json:"default,omitempty"`
}

// ModelCapabilities says what a model can do.
type ModelCapabilities struct {
	// Chat says that the model has a chat template and takes messages.
	Chat bool `json:"chat"`
	// Tools says that the model can call tools.
	Tools bool `json:"tools"`
	// Vision says that the model takes images.
	Vision bool `json:"vision"`
	// FIM says that the model can fill in the middle of a text.
	FIM bool `json:"fim"`
	// Thinking says that the model reasons on a channel of its own.
	Thinking bool `json:"thinking"`
}

// ModelLoadParams asks to bring a model's weights into memory. A generate
// loads its model by itself; this makes the wait visible and earlier.
type ModelLoadParams struct {
	// Model is the id of the model; absent means the default model.
	Model string `json:"model,omitempty" jsonschema:"maxLength=512"`
	// Force loads a model although the process that loaded it last ended while it
	// did. Without it, such a model is refused with model_load_failed.
	Force bool `json:"force,omitempty"`
	// WorkDoneToken asks for $/progress reports.
	WorkDoneToken ProgressToken `json:"workDoneToken,omitempty"`
}

// ModelLoadResult answers model/load.
type ModelLoadResult struct {
	// Model is the id of the model.
	Model string `json:"model"`
	// LoadMS is the time it took in milliseconds, 0 where it was loaded already.
	LoadMS float64 `json:"loadMs"`
}

// ModelUnloadParams asks to free a model's weights.
type ModelUnloadParams struct {
	// Model is the id of the model; absent means the default model.
	Model string `json:"model,omitempty" jsonschema:"maxLength=512"`
}

// ModelUnloadResult answers model/unload.
type ModelUnloadResult struct {
	// Model is the id of the model.
	Model string `json:"model"`
}

// TokensCountParams asks how many tokens a text or a conversation is. Exactly
// one of Text and Messages is given.
type TokensCountParams struct {
	// Model is the id of the model; absent means the default model.
	Model string `json:"model,omitempty" jsonschema:"maxLength=512"`
	// Text is counted as ordinary text, with nothing added.
	Text *string `json:"text,omitempty"`
	// Messages are counted as generate would render them.
	Messages []Message `json:"messages,omitempty" jsonschema:"maxItems=16384"`
	// Tools are rendered with the messages.
	Tools []ToolSpec `json:"tools,omitempty" jsonschema:"maxItems=256"`
}

// TokensCountResult answers tokens/count.
type TokensCountResult struct {
	// Tokens is the number of tokens.
	Tokens int `json:"tokens"`
}
