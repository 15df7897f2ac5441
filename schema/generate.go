package schema

import "encoding/json"

// GenerateParams asks a model to generate. Exactly one of Messages and Prompt
// is given.
type GenerateParams struct {
	// GenerationID names the generation in its notifications and in cancel. The
	// client chooses it, unique among its running generations; the server
	// assigns one where it is absent.
	GenerationID string `json:"generationId,omitempty" jsonschema:"maxLength=128"`
	// SessionID names the session that this is a turn of. Messages are then what
	// the turn adds to it; the answer is added when it has ended, also where it
	// was cancelled. A turn that ends with an error adds nothing, unless tools
	// have run: then it adds what was said and done.
	SessionID string `json:"sessionId,omitempty" jsonschema:"minLength=1,maxLength=128"`
	// Model is the id of the model; absent means the session's, or the default
	// model.
	Model string `json:"model,omitempty" jsonschema:"maxLength=512"`
	// Messages is the conversation so far, rendered by the model's chat
	// template.
	Messages []Message `json:"messages,omitempty" jsonschema:"maxItems=16384"`
	// Prompt is raw text that no template touches; special tokens in it count.
	// It has neither tools nor a session.
	Prompt *string `json:"prompt,omitempty"`
	// Tools are the tools that the model may call: names of registered tools
	// and tools given in place. Absent means the session's, or all registered
	// tools.
	Tools *[]ToolRef `json:"tools,omitempty" jsonschema:"maxItems=256"`
	// ToolMode says who runs the tools. Absent means callback where the client
	// has the capability tools.call, else return.
	ToolMode ToolMode `json:"toolMode,omitempty" jsonschema:"enum=callback,enum=return,enum=none"`
	// ToolChoice says whether the model must call a tool. Absent means auto.
	ToolChoice *ToolChoice `json:"toolChoice,omitempty"`
	// ParallelToolCalls says whether one answer may call several tools, which
	// then run at the same time. Absent means true; false ends an answer behind
	// its first call.
	ParallelToolCalls *bool `json:"parallelToolCalls,omitempty"`
	// MaxRounds bounds the answers of the model within this generation; absent
	// means 25.
	MaxRounds int `json:"maxRounds,omitempty" jsonschema:"minimum=1,maximum=1000"`
	// Settings is an object with those keys of a prompt config that take effect with a
	// turn, as the published schema prompt-config has them. They go before the session's,
	// and the members of this request before both. A request that has it, if an empty one,
	// has settings also where its session has none; see session/new.
	Settings json.RawMessage `json:"settings,omitempty"`
	// Sampling chooses tokens.
	Sampling Sampling `json:"sampling,omitzero"`
	// Logprobs asks for the log-probability of each generated token, and of so many
	// of the most probable tokens in its place. Absent means neither.
	Logprobs int `json:"logprobs,omitempty" jsonschema:"minimum=0,maximum=20"`
	// MaxTokens bounds the output, that of all rounds together; absent means what
	// the context still holds.
	MaxTokens int `json:"maxTokens,omitempty" jsonschema:"minimum=1,maximum=2147483647"`
	// Stop are texts that end the generation; they are not part of the output.
	Stop []string `json:"stop,omitempty" jsonschema:"maxItems=16,minLength=1,maxLength=1024"`
	// ResponseFormat restricts the output. Absent means free text.
	ResponseFormat *ResponseFormat `json:"responseFormat,omitempty"`
	// ContextOverflow says what happens to a prompt that is too long. Absent
	// means error.
	ContextOverflow ContextOverflow `json:"contextOverflow,omitempty" jsonschema:"enum=error,enum=truncateMiddle,enum=rollingWindow"`
	// Stream says how text is batched into notifications; false sends none. Members
	// that are absent are those that initialize has answered.
	Stream StreamPolicy `json:"stream,omitzero"`
	// Priority orders generations that wait. Absent means interactive.
	Priority Priority `json:"priority,omitempty" jsonschema:"enum=interactive,enum=background"`
	// WorkDoneToken asks for $/progress reports while the model loads and the
	// prompt is processed.
	WorkDoneToken ProgressToken `json:"workDoneToken,omitempty"`
}

// Role says who speaks a message.
type Role string

// The roles.
const (
	RoleSystem    Role = "system"
	RoleDeveloper Role = "developer"
	RoleUser      Role = "user"
	RoleAssistant Role = "assistant"
	RoleTool      Role = "tool"
)

// Message is one message of a conversation.
type Message struct {
	// Role says who speaks.
	Role Role `json:"role" jsonschema:"enum=system,enum=developer,enum=user,enum=assistant,enum=tool"`
	// Content is what is said: a string, or a list of parts.
	Content Content `json:"content,omitzero"`
	// ToolCalls are the calls that an assistant message makes.
	ToolCalls []ToolCall `json:"toolCalls,omitempty" jsonschema:"maxItems=256"`
	// ToolCallID is the call that a tool message answers.
	ToolCallID string `json:"toolCallId,omitempty" jsonschema:"maxLength=128"`
	// Name is the tool that a tool message comes from.
	Name string `json:"name,omitempty" jsonschema:"maxLength=64"`
	// Interrupted marks an answer that was cancelled before its end.
	Interrupted bool `json:"interrupted,omitempty"`
}

// Content is what a message says. On the wire a string is short for one text
// part; the server itself sends lists.
type Content []Part

// maxParts bounds the parts of one Content.
const maxParts = 4096

// TextContent is content of one text part.
func TextContent(text string) Content { return Content{{Type: PartText, Text: text}} }

// Text is the text parts of c, one after the other.
func (c Content) Text() string { return c.join(PartText) }

// Reasoning is the reasoning parts of c, one after the other.
func (c Content) Reasoning() string { return c.join(PartReasoning) }

func (c Content) join(t PartType) string {
	var s []byte
	for i := range c {
		if c[i].Type != t {
			continue
		}
		if len(c) == 1 {
			return c[i].Text
		}
		s = append(s, c[i].Text...)
	}
	return string(s)
}

// PartType says what a Part holds.
type PartType string

// The types of a part. The set is open: a server answers one that it does not
// know with unsupported.
const (
	PartText      PartType = "text"
	PartReasoning PartType = "reasoning"
	PartImage     PartType = "image"
	PartResource  PartType = "resource"
)

// Part is one piece of a message.
type Part struct {
	// Type says which of the other members count.
	Type PartType `json:"type" jsonschema:"minLength=1,maxLength=64"`
	// Text is the text of a text or reasoning part.
	Text string `json:"text,omitempty"`
	// Data is the content of an image part in base64.
	Data string `json:"data,omitempty"`
	// MimeType is the format of an image part.
	MimeType string `json:"mimeType,omitempty" jsonschema:"maxLength=128"`
	// Resource is the content of a resource part; of a tool's result only.
	Resource *Resource `json:"resource,omitempty"`
}

// Resource is a document that a tool returns.
type Resource struct {
	// URI names the document.
	URI string `json:"uri" jsonschema:"maxLength=4096"`
	// MimeType is its format.
	MimeType string `json:"mimeType,omitempty" jsonschema:"maxLength=128"`
	// Text is its content, where that is text.
	Text string `json:"text,omitempty"`
}

// ToolCall is one call of a tool by a model.
type ToolCall struct {
	// CallID names the call; the message that answers it repeats it.
	CallID string `json:"callId" jsonschema:"minLength=1,maxLength=128"`
	// Name is the tool's name.
	Name string `json:"name" jsonschema:"minLength=1,maxLength=64"`
	// Arguments is a JSON object, in the model's own order of members.
	Arguments json.RawMessage `json:"arguments"`
}

// ToolMode says who runs the tools that a model calls.
type ToolMode string

// The tool modes. With ToolReturn a generation stops at calls with valid arguments, and
// the client runs the tools and generates again; with ToolNone the model sees no tools.
const (
	ToolCallback ToolMode = "callback"
	ToolReturn   ToolMode = "return"
	ToolNone     ToolMode = "none"
)

// ToolChoice says whether a model must call a tool. On the wire it is the
// string auto, required or none, or an object with the name of one tool.
type ToolChoice struct {
	// Mode is auto, required or none; empty where Name is given.
	Mode ToolChoiceMode `json:"-"`
	// Name is the tool that must be called.
	Name string `json:"name" jsonschema:"minLength=1,maxLength=64"`
}

// ToolChoiceMode is a ToolChoice that names no tool.
type ToolChoiceMode string

// The tool choices.
const (
	ToolChoiceAuto     ToolChoiceMode = "auto"
	ToolChoiceRequired ToolChoiceMode = "required"
	ToolChoiceNone     ToolChoiceMode = "none"
)

// FormatType says how ResponseFormat restricts the output.
type FormatType string

// The response formats.
const (
	FormatText       FormatType = "text"
	FormatJSON       FormatType = "json_object"
	FormatJSONSchema FormatType = "json_schema"
	FormatRegex      FormatType = "regex"
	FormatLark       FormatType = "lark"
)

// ResponseFormat restricts the output to a form.
type ResponseFormat struct {
	// Type says which form.
	Type FormatType `json:"type" jsonschema:"enum=text,enum=json_object,enum=json_schema,enum=regex,enum=lark"`
	// Schema is what output of type json_schema satisfies.
	Schema json.RawMessage `json:"schema,omitempty"`
	// Source is the expression or grammar of types regex and lark.
	Source string `json:"source,omitempty" jsonschema:"maxLength=65536"`
}

// ContextOverflow says what happens to a prompt that leaves no room.
type ContextOverflow string

// The ways to treat a prompt that is too long.
const (
	OverflowError          ContextOverflow = "error"
	OverflowTruncateMiddle ContextOverflow = "truncateMiddle"
	OverflowRollingWindow  ContextOverflow = "rollingWindow"
)

// Priority orders generations that wait for the same device.
type Priority string

// The priorities.
const (
	PriorityInteractive Priority = "interactive"
	PriorityBackground  Priority = "background"
)

// StreamPolicy says how the text of a generation is batched. The first text is
// sent at once; after it a notification is sent when any of the three bounds
// is reached. On the wire false stands for Off.
type StreamPolicy struct {
	// Off sends neither generate/delta, generate/status nor generate/toolCall.
	Off bool `json:"-"`
	// IntervalMS is the least time between two notifications in milliseconds;
	// absent means 33, two frames of a screen.
	IntervalMS *int `json:"intervalMs,omitempty" jsonschema:"minimum=0,maximum=1000"`
	// MaxTokens sends a batch of this many tokens early; absent means 64.
	MaxTokens int `json:"maxTokens,omitempty" jsonschema:"minimum=1,maximum=1048576"`
	// MaxBytes sends a batch of this much text early; absent means 4096.
	MaxBytes int `json:"maxBytes,omitempty" jsonschema:"minimum=1,maximum=8388608"`
	// ToolArguments sends the arguments of calls while the model writes them, on the
	// channel toolArguments; absent means false.
	ToolArguments *bool `json:"toolArguments,omitempty"`
}

// Channel says what a piece of generated text is.
type Channel string

// The channels.
const (
	ChannelText      Channel = "text"
	ChannelReasoning Channel = "reasoning"
	// ChannelToolArguments is the JSON text of a call's arguments, as far as it is
	// written.
	ChannelToolArguments Channel = "toolArguments"
)

// GenerateDelta is the notification generate/delta: new text of a generation.
// The text of all deltas, channel by channel, is the text of the result, but for the
// rounds that a generate/status with a retry takes back. That of
// toolArguments is, call by call, the arguments of the generate/toolCall that follows.
// A call that turns out to be none has no generate/toolCall: what the model wrote is
// then said on the channel text.
type GenerateDelta struct {
	// GenerationID names the generation.
	GenerationID string `json:"generationId"`
	// Seq counts the notifications of this generation from 0 without gaps.
	Seq int64 `json:"seq"`
	// Round counts the answers of the model within this generation, from 0.
	Round int `json:"round"`
	// Parts is the text, in order. Neighbours differ in their channels or calls, and
	// no part ends within a character.
	Parts []DeltaPart `json:"parts"`
	// Tokens is the number of tokens that produced the text.
	Tokens int `json:"tokens"`
	// Logprobs are those of these tokens, where the request asks for them.
	Logprobs []TokenLogprobs `json:"logprobs,omitempty"`
}

// DeltaPart is text of one channel.
type DeltaPart struct {
	// Channel says what the text is.
	Channel Channel `json:"channel"`
	// CallID is the call that the text is an argument of; toolArguments only.
	CallID string `json:"callId,omitempty"`
	// Name is the tool that is called. It stands in the first part of a call, whose
	// text may be empty.
	Name string `json:"name,omitempty"`
	// Text is the text.
	Text string `json:"text"`
}

// GenerateState is the stage that a generation has reached.
type GenerateState string

// The stages, in their order; loading is left out where the model is loaded.
// While tools run, the stage is tool; then it goes back to queued for the next
// round.
const (
	StateQueued   GenerateState = "queued"
	StateLoading  GenerateState = "loading"
	StatePrefill  GenerateState = "prefill"
	StateDecoding GenerateState = "decoding"
	StateTool     GenerateState = "tool"
	StateDone     GenerateState = "done"
)

// GenerateStatus is the notification generate/status: a generation reached
// another stage, or got further in the one it is in.
type GenerateStatus struct {
	// GenerationID names the generation.
	GenerationID string `json:"generationId"`
	// Seq counts the notifications of this generation from 0 without gaps.
	Seq int64 `json:"seq"`
	// State is the stage.
	State GenerateState `json:"state" jsonschema:"enum=queued,enum=loading,enum=prefill,enum=decoding,enum=tool,enum=done"`
	// Round counts the answers of the model within this generation, from 0.
	Round int `json:"round,omitempty"`
	// Retry says that the answer of the round before was bad and is asked for again: it is
	// no part of the result, and a client takes it off its screen.
	Retry Retry `json:"retry,omitempty" jsonschema:"enum=empty,enum=reasoning_only,enum=loop_detected"`
	// PromptTokens is the length of the prompt, once it is known.
	PromptTokens int `json:"promptTokens,omitempty"`
	// CachedTokens of the prompt need no processing.
	CachedTokens int `json:"cachedTokens,omitempty"`
	// ProcessedTokens of the prompt are done, the cached ones included.
	ProcessedTokens int `json:"processedTokens,omitempty"`
	// LoadedShare is the part of the model that is loaded, 0 to 1.
	LoadedShare float64 `json:"loadedShare,omitempty"`
}

// Retry says what was wrong with an answer that is asked for again.
type Retry string

// The bad answers: no text at all, nothing but reasoning, the same again and again.
const (
	RetryEmpty         Retry = "empty"
	RetryReasoningOnly Retry = "reasoning_only"
	RetryLoop          Retry = "loop_detected"
)

// StopReason says why a generation ended.
type StopReason string

// The reasons for which a generation ends. The set is open.
const (
	StopEndTurn      StopReason = "end_turn"
	StopMaxTokens    StopReason = "max_tokens"
	StopStopSequence StopReason = "stop_sequence"
	StopToolCalls    StopReason = "tool_calls"
	StopMaxRounds    StopReason = "max_rounds"
	StopContextFull  StopReason = "context_full"
	StopCancelled    StopReason = "cancelled"
	StopRefusal      StopReason = "refusal"
	StopToolLoop     StopReason = "error_tool_loop"
	StopLoop         StopReason = "loop_detected" // the model said the same again and again
)

// GenerateResult answers generate. It is complete: a client that ignored every
// notification has lost nothing. A cancelled generation is answered with a
// result too.
type GenerateResult struct {
	// GenerationID names the generation.
	GenerationID string `json:"generationId"`
	// Model is the id of the model that ran.
	Model string `json:"model,omitempty"`
	// StopReason says why the generation ended.
	StopReason StopReason `json:"stopReason"`
	// StopSequence is the stop text that was found, where one was.
	StopSequence string `json:"stopSequence,omitempty"`
	// Message is the model's last message.
	Message Message `json:"message"`
	// ToolCalls are the calls that the client is to run; only with tool_calls.
	ToolCalls []ToolCall `json:"toolCalls,omitempty"`
	// Messages are all messages that this generation added; absent where that
	// is Message alone.
	Messages []Message `json:"messages,omitempty"`
	// Logprobs are those of all generated tokens, where the request asks for them.
	Logprobs []TokenLogprobs `json:"logprobs,omitempty"`
	// Usage counts tokens and time.
	Usage Usage `json:"usage"`
}

// Usage counts the tokens and the time of one generation. Times are in
// milliseconds; with several rounds they are the sum of all rounds, without the
// time that tools took.
type Usage struct {
	// PromptTokens is the length of the prompt, that of the last round.
	PromptTokens int `json:"promptTokens"`
	// CachedTokens of that prompt needed no processing.
	CachedTokens int `json:"cachedTokens"`
	// OmittedMessages of the conversation were left out of that prompt, as
	// contextOverflow allows.
	OmittedMessages int `json:"omittedMessages,omitempty"`
	// CompletionTokens is the number of generated tokens.
	CompletionTokens int `json:"completionTokens"`
	// Rounds is the number of answers of the model.
	Rounds int `json:"rounds"`
	// QueueMS is the wait for the engine.
	QueueMS float64 `json:"queueMs"`
	// LoadMS is the wait for the model.
	LoadMS float64 `json:"loadMs"`
	// PrefillMS is the time spent on the prompt.
	PrefillMS float64 `json:"prefillMs"`
	// TTFTMS is the time from the request to the first token.
	TTFTMS float64 `json:"ttftMs"`
	// DecodeMS is the time from the first token to the last.
	DecodeMS float64 `json:"decodeMs"`
	// TokensPerSecond is the decode rate.
	TokensPerSecond float64 `json:"tokensPerSecond"`
}

// CancelParams asks to end one generation, those of a session, or all. Exactly
// one member is given.
type CancelParams struct {
	// GenerationID names the generation.
	GenerationID string `json:"generationId,omitempty" jsonschema:"minLength=1,maxLength=128"`
	// SessionID names the session.
	SessionID string `json:"sessionId,omitempty" jsonschema:"minLength=1,maxLength=128"`
	// All ends every generation of this connection.
	All bool `json:"all,omitempty"`
}

// CancelResult answers cancel at once; the generation's own result follows.
type CancelResult struct {
	// Cancelled says that there was something to cancel.
	Cancelled bool `json:"cancelled"`
	// State is the stage that the generation was in, or unknown. Of several it is
	// the furthest.
	State GenerateState `json:"state"`
}

// StateUnknown is a CancelResult's state where no generation has the id: it
// never was, or has ended.
const StateUnknown GenerateState = "unknown"
