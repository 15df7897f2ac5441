package prompt

import "harmonyd/schema"

// Chat is what a model is to answer.
type Chat struct {
	Messages []schema.Message
	// Tools are those that the model may call, in the order in which it reads them.
	Tools []schema.ToolSpec
	// Effort says how much the model is to reason before it answers. Models that
	// know no such thing pay no attention.
	Effort Effort
}

// Effort is how much a model reasons.
type Effort string

// The efforts. EffortDefault leaves it to the model.
const (
	EffortDefault Effort = ""
	EffortOff     Effort = "off"
	EffortLow     Effort = "low"
	EffortMedium  Effort = "medium"
	EffortHigh    Effort = "high"
)

// ChatRenderer renders chats for one model: a Renderer through its template, a
// Harmony in the format of GPT-OSS. It is safe for concurrent use.
type ChatRenderer interface {
	// RenderChat returns the ids of a chat, ending where the model is to answer.
	// Errors are *schema.Error.
	RenderChat(c Chat) ([]int32, error)
}
