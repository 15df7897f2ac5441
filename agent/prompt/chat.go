package prompt

import (
	"time"

	"harmonyd/schema"
)

// Chat is what a model is to answer.
type Chat struct {
	Messages []schema.Message
	// Tools are those that the model may call, in the order in which it reads them.
	Tools []schema.ToolSpec
	// Effort says how much the model is to reason before it answers. Models that
	// know no such thing pay no attention.
	Effort Effort
	// Identity is who the system message says the model is; empty leaves that to the
	// format. No template has a place for it: it becomes the first system message.
	Identity string
	// KnowledgeCutoff is a month, for Harmony alone; empty is the model's own.
	KnowledgeCutoff string
	// Date is the current date that the model is told, as YYYY-MM-DD, in formats that have
	// a place for it; empty is today.
	Date string
	// Now is the time that a template sees; zero is the present.
	Now time.Time
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
