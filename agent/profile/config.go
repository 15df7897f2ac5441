package profile

import (
	"encoding/json"

	"harmonyd/schema"
)

// Config is a prompt config: what a person wants of the conversations with a model. Every
// key may be left out.
//
// The fields are those of mlx-harmony's files and, after them, ours. The tag jsonschema
// holds the range of a value, when says when a change takes effect (turn: with the next
// turn; session: when a conversation begins), default what counts where no one has a value,
// and refused why a key has no effect here.
type Config struct {
	// SystemModelIdentity replaces what the system message says the model is.
	SystemModelIdentity *string `json:"system_model_identity,omitempty" when:"session" default:"the model's own"`
	// ReasoningEffort is how much the model is to think, where it knows of that.
	ReasoningEffort *string `json:"reasoning_effort,omitempty" jsonschema:"enum=low,enum=medium,enum=high" when:"turn" default:"medium"`
	// ConversationStartDate is the date that the model is told, as YYYY-MM-DD.
	ConversationStartDate *string `json:"conversation_start_date,omitempty" when:"session" default:"the day on which the conversation began"`
	// KnowledgeCutoff is the month that the model is told its knowledge ends in.
	KnowledgeCutoff *string `json:"knowledge_cutoff,omitempty" when:"session" default:"2024-06"`
	// DeveloperInstructions is the developer message, or the system message of a model
	// that knows no developer.
	DeveloperInstructions *string `json:"developer_instructions,omitempty" when:"session" default:"none"`
	// AssistantGreeting is the first message of a new conversation, as if the model had
	// said it.
	AssistantGreeting *string `json:"assistant_greeting,omitempty" when:"session" default:"none"`
	// ExampleDialogues are conversations that show the model how to answer; they come
	// before each conversation.
	ExampleDialogues *[][]ExampleTurn `json:"example_dialogues,omitempty" when:"session" default:"none"`
	// Placeholders are texts by name, which replace <|NAME|> and {name} in the texts of
	// this file and in user messages. The one named assistant is what the model is called.
	Placeholders json.RawMessage `json:"placeholders,omitempty" when:"session" default:"DATE, DATETIME, TIME, TIMEA, TIMEU, TIMEZ"`
	// DeterministicTimeEnabled makes all times that of deterministic_time_iso, and the
	// seed 0 where there is none.
	DeterministicTimeEnabled *bool `json:"deterministic_time_enabled,omitempty" when:"session" default:"false"`
	// DeterministicTimeISO is the time, in ISO 8601; without a zone it is UTC.
	DeterministicTimeISO *string `json:"deterministic_time_iso,omitempty" when:"session" default:"2000-01-01T00:00:00Z"`

	// MaxTokens is the most that one answer may be, in tokens.
	MaxTokens *int `json:"max_tokens,omitempty" jsonschema:"minimum=1,maximum=2147483647" when:"turn" default:"1024 for Harmony models, else 512"`
	// MaxContextTokens is the most that a prompt may be, in tokens.
	MaxContextTokens *int `json:"max_context_tokens,omitempty" jsonschema:"minimum=1,maximum=2147483647" when:"turn" default:"what the model is made for, else 4096"`
	// MaxContextTokensMargin is taken off max_context_tokens.
	MaxContextTokensMargin *int `json:"max_context_tokens_margin,omitempty" jsonschema:"minimum=0,maximum=2147483647" when:"turn" default:"0"`
	// PerformanceMode puts the keys that begin with perf_ into force.
	PerformanceMode *bool `json:"performance_mode,omitempty" when:"turn" default:"false"`
	// PerfMaxTokens is max_tokens in performance mode.
	PerfMaxTokens *int `json:"perf_max_tokens,omitempty" jsonschema:"minimum=1,maximum=2147483647" when:"turn" default:"max_tokens"`
	// PerfMaxContextTokens is max_context_tokens in performance mode.
	PerfMaxContextTokens *int `json:"perf_max_context_tokens,omitempty" jsonschema:"minimum=1,maximum=2147483647" when:"turn" default:"max_context_tokens"`
	// PerfMaxKVSize is max_kv_size in performance mode.
	PerfMaxKVSize *int `json:"perf_max_kv_size,omitempty" jsonschema:"minimum=1,maximum=2147483647" when:"turn" default:"max_kv_size"`
	// PerfPromptTokenBudget bounds the prompt in performance mode, beside max_context_tokens.
	PerfPromptTokenBudget *int `json:"perf_prompt_token_budget,omitempty" jsonschema:"minimum=1,maximum=2147483647" when:"turn" default:"none"`

	// Temperature divides the scores of tokens; 0 always takes the most probable one.
	Temperature *float64 `json:"temperature,omitempty" jsonschema:"minimum=0,maximum=2" when:"turn" default:"1"`
	// TopP keeps the most probable tokens that together reach it; 0 and 1 are off.
	TopP *float64 `json:"top_p,omitempty" jsonschema:"minimum=0,maximum=1" when:"turn" default:"0"`
	// MinP drops tokens less probable than this share of the best; 0 is off.
	MinP *float64 `json:"min_p,omitempty" jsonschema:"minimum=0,maximum=1" when:"turn" default:"0"`
	// MinTokensToKeep is how many tokens min_p never drops.
	MinTokensToKeep *int `json:"min_tokens_to_keep,omitempty" jsonschema:"minimum=1,maximum=2147483647" when:"turn" default:"1"`
	// TopK keeps the k most probable tokens; 0 is off.
	TopK *int `json:"top_k,omitempty" jsonschema:"minimum=0,maximum=2147483647" when:"turn" default:"0"`
	// XTCProbability is how often XTC acts: of the tokens more probable than xtc_threshold
	// it keeps the least probable; 0 is off.
	XTCProbability *float64 `json:"xtc_probability,omitempty" jsonschema:"minimum=0,maximum=1" when:"turn" default:"0"`
	// XTCThreshold is a probability. Mlx-harmony's default, 0, would leave the least probable
	// token of all.
	XTCThreshold *float64 `json:"xtc_threshold,omitempty" jsonschema:"minimum=0,maximum=0.5" when:"turn" default:"0.1"`
	// XTCSpecialTokens are the ids of tokens that XTC never drops.
	XTCSpecialTokens *[]int `json:"xtc_special_tokens,omitempty" jsonschema:"maxItems=1024" when:"turn" default:"line ends and the tokens that end an answer"`
	// RepetitionPenalty divides the scores of tokens seen lately; 0 and 1 are off.
	RepetitionPenalty *float64 `json:"repetition_penalty,omitempty" jsonschema:"minimum=0,maximum=100" when:"turn" default:"1.05 for Harmony models, else off"`
	// RepetitionContextSize is how many tokens are lately; 0 is all.
	RepetitionContextSize *int `json:"repetition_context_size,omitempty" jsonschema:"minimum=0,maximum=2147483647" when:"turn" default:"256 for Harmony models, else 20"`
	// LoopDetection ends an answer that repeats itself: off, cheap for texts of a few
	// tokens, full for texts of up to 1024.
	LoopDetection *string `json:"loop_detection,omitempty" jsonschema:"enum=off,enum=cheap,enum=full" when:"turn" default:"cheap"`
	// MaxKVSize bounds the cache of keys and values, in tokens: what is older is forgotten.
	MaxKVSize *int `json:"max_kv_size,omitempty" jsonschema:"minimum=1,maximum=2147483647" when:"turn" default:"no bound"`

	// MLock is no setting here.
	MLock *bool `json:"mlock,omitempty" refused:"on Metal the weights of a loaded model always stay resident, elsewhere the system decides"`
	// Lazy is no setting here.
	Lazy *bool `json:"lazy,omitempty" refused:"a model is loaded whole before its first token, so that no answer waits for the disk"`
	// Seed makes answers repeatable; a negative one is drawn anew for each.
	Seed *int64 `json:"seed,omitempty" jsonschema:"minimum=-9007199254740991,maximum=9007199254740991" when:"turn" default:"-1"`
	// ReseedEachTurn gives each turn the same seed; without it each turn has one of its
	// own, made of the seed and the turn's number.
	ReseedEachTurn *bool `json:"reseed_each_turn,omitempty" when:"turn" default:"false"`
	// ClearCache is no setting here.
	ClearCache *bool `json:"clear_cache,omitempty" refused:"the engine gives unused buffers back when a turn ends"`
	// ClearCacheInterval is no setting here.
	ClearCacheInterval *int `json:"clear_cache_interval,omitempty" refused:"the engine gives unused buffers back when a turn ends"`
	// ClearCacheGeneration is no setting here.
	ClearCacheGeneration *bool `json:"clear_cache_generation,omitempty" refused:"the engine gives unused buffers back when a turn ends"`
	// LogMemoryStats writes the memory that each turn used into the log.
	LogMemoryStats *bool `json:"log_memory_stats,omitempty" when:"turn" default:"false"`
	// LogTimingStats writes the times of each turn into the log.
	LogTimingStats *bool `json:"log_timing_stats,omitempty" when:"turn" default:"false"`
	// EndTokenStrings are control tokens that end an answer, beside those of the model.
	EndTokenStrings *[]string `json:"end_token_strings,omitempty" jsonschema:"maxItems=64,minLength=1,maxLength=256" when:"turn" default:"<|endoftext|> for Harmony models, else none"`
	// TruncateThinking is how many characters of the reasoning are shown; all of it is kept.
	TruncateThinking *int `json:"truncate_thinking,omitempty" jsonschema:"minimum=0,maximum=2147483647" when:"turn" default:"1000"`
	// TruncateResponse is how many characters of the last answer are shown when a
	// conversation is taken up again; all of it is kept.
	TruncateResponse *int `json:"truncate_response,omitempty" jsonschema:"minimum=0,maximum=2147483647" when:"turn" default:"1000"`
	// LogsDir is the folder of logs.
	LogsDir *string `json:"logs_dir,omitempty" when:"session" default:"the platform's"`
	// ChatsDir is the folder of conversations.
	ChatsDir *string `json:"chats_dir,omitempty" when:"session" default:"the platform's"`
	// ModelsDir is the folder of models.
	ModelsDir *string `json:"models_dir,omitempty" when:"session" default:"the platform's"`

	// MaxToolIterations is how often in one turn the model may be asked again with the
	// results of its calls.
	MaxToolIterations *int `json:"max_tool_iterations,omitempty" jsonschema:"minimum=1,maximum=1000" when:"turn" default:"10"`
	// MaxResumeAttempts is how often a bad answer, which is empty or a loop, is asked for
	// again.
	MaxResumeAttempts *int `json:"max_resume_attempts,omitempty" jsonschema:"minimum=0,maximum=10" when:"turn" default:"2"`
	// ReasoningBudget is the most that the model may think in one answer, in tokens; 0 is no
	// bound but that half of max_tokens is kept for the answer.
	ReasoningBudget *int `json:"reasoning_budget,omitempty" jsonschema:"minimum=0,maximum=2147483647" when:"turn" default:"0"`
	// Stop are texts that end an answer; they are not part of it.
	Stop *[]string `json:"stop,omitempty" jsonschema:"maxItems=16,minLength=1,maxLength=1024" when:"turn" default:"none"`
	// ContextOverflow says which messages a prompt leaves out that is too long: none, the
	// middle ones or the oldest.
	ContextOverflow *string `json:"context_overflow,omitempty" jsonschema:"enum=error,enum=truncateMiddle,enum=rollingWindow" when:"turn" default:"rollingWindow"`
	// PresencePenalty is taken from the scores of tokens seen lately; 0 is off.
	PresencePenalty *float64 `json:"presence_penalty,omitempty" jsonschema:"minimum=-100,maximum=100" when:"turn" default:"0"`
	// PresenceContextSize is how many tokens are lately for presence_penalty; 0 is all.
	PresenceContextSize *int `json:"presence_context_size,omitempty" jsonschema:"minimum=0,maximum=2147483647" when:"turn" default:"20"`
	// FrequencyPenalty is taken from the scores of tokens as often as they were seen lately;
	// 0 is off.
	FrequencyPenalty *float64 `json:"frequency_penalty,omitempty" jsonschema:"minimum=-100,maximum=100" when:"turn" default:"0"`
	// FrequencyContextSize is how many tokens are lately for frequency_penalty; 0 is all.
	FrequencyContextSize *int `json:"frequency_context_size,omitempty" jsonschema:"minimum=0,maximum=2147483647" when:"turn" default:"20"`
	// LogitBias is added to the scores of tokens.
	LogitBias *[]schema.LogitBias `json:"logit_bias,omitempty" jsonschema:"maxItems=1024" when:"turn" default:"none"`
}

// ExampleTurn is a message of an example dialogue.
type ExampleTurn struct {
	// Role is who speaks: user, assistant, tool, system or developer, in any case.
	Role string `json:"role" jsonschema:"maxLength=32"`
	// Content is what is said.
	Content string `json:"content"`
	// Name is the tool that a tool's message comes from.
	Name string `json:"name,omitempty" jsonschema:"maxLength=64"`
	// Recipient is whom the message is for: the tool that an assistant's message calls.
	Recipient string `json:"recipient,omitempty" jsonschema:"maxLength=64"`
}
