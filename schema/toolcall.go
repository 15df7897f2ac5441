package schema

import (
	"encoding/json"

	"github.com/invopop/jsonschema"
)

// ToolCallParams asks the client to run one of its tools. The id of the request
// is callId, and a cancelled generation cancels it with $/cancelRequest.
type ToolCallParams struct {
	// CallID names the call in tool/progress and generate/toolCall.
	CallID string `json:"callId"`
	// GenerationID names the generation that calls.
	GenerationID string `json:"generationId"`
	// SessionID names its session, where it has one.
	SessionID string `json:"sessionId,omitempty"`
	// Name is the tool's name.
	Name string `json:"name"`
	// Arguments is a JSON object that satisfies the tool's inputSchema.
	Arguments json.RawMessage `json:"arguments"`
	// Index is the place of the call among those of the same answer, from 0.
	// They are asked for at the same time.
	Index int `json:"index"`
	// Batch is how many calls there are in that answer.
	Batch int `json:"batch"`
}

// ToolResult answers tool/call. On the wire a string is short for one text part.
// A JSON-RPC error is as good: the model reads its message.
type ToolResult struct {
	// Content is what the model reads.
	Content Content `json:"content,omitzero"`
	// StructuredContent is the result as data. It has to satisfy the tool's
	// outputSchema, and is what the model reads where there is no content.
	StructuredContent json.RawMessage `json:"structuredContent,omitempty"`
	// IsError says that the tool failed; the content says how.
	IsError bool `json:"isError,omitempty"`
}

// UnmarshalJSON decodes a string or an object.
func (r *ToolResult) UnmarshalJSON(data []byte) error { return Decode(data, r) }

func (r *ToolResult) wire(d *decoder) {
	if d.peek() == '"' {
		r.Content = TextContent(d.text())
		return
	}
	type plain ToolResult
	d.value((*plain)(r), "a string or an object")
}

// JSONSchemaExtend publishes a string or an object.
func (ToolResult) JSONSchemaExtend(s *jsonschema.Schema) {
	eitherForm(s, &jsonschema.Schema{Type: "string"}, members(s))
}

// ToolApproveParams asks a person, by way of the client, whether a tool may be
// called. Only a selected option that allows lets the call happen: an error, any
// other answer and a client without the capability tools.approve do not.
type ToolApproveParams struct {
	// CallID names the call.
	CallID string `json:"callId"`
	// GenerationID names the generation that calls.
	GenerationID string `json:"generationId"`
	// SessionID names its session, where it has one.
	SessionID string `json:"sessionId,omitempty"`
	// Name is the tool's name.
	Name string `json:"name"`
	// Source says where the tool comes from.
	Source ToolSource `json:"source"`
	// Arguments is what the tool would be called with.
	Arguments json.RawMessage `json:"arguments"`
	// Title is the tool's name for people to read.
	Title string `json:"title"`
	// Kind says what sort of work the tool does.
	Kind string `json:"kind,omitempty"`
	// Options are the answers to choose from.
	Options []ApproveOption `json:"options"`
}

// ApproveOption is one answer that a person may choose.
type ApproveOption struct {
	// OptionID names the option in the answer.
	OptionID string `json:"optionId"`
	// Name is for people to read.
	Name string `json:"name"`
	// Kind says what the option means.
	Kind ApproveKind `json:"kind"`
}

// ApproveKind says what an option means.
type ApproveKind string

// The kinds of option. What is always allowed is the tool as it is defined now:
// one that is registered anew with another definition is asked about again.
const (
	AllowOnce   ApproveKind = "allow_once"
	AllowAlways ApproveKind = "allow_always"
	RejectOnce  ApproveKind = "reject_once"
)

// ToolApproveResult answers tool/approve.
type ToolApproveResult struct {
	// Outcome is selected or cancelled. The set is open: all but selected
	// forbid the call.
	Outcome string `json:"outcome" jsonschema:"maxLength=64"`
	// OptionID is the option that was selected.
	OptionID string `json:"optionId,omitempty" jsonschema:"maxLength=128"`
}

// OutcomeSelected is the outcome of a question that was answered.
const OutcomeSelected = "selected"

// ToolProgressParams tells how far a call has got. What is shown of it goes out
// as generate/toolCall, and as $/progress where the generation has a
// workDoneToken.
type ToolProgressParams struct {
	// CallID names the call.
	CallID string `json:"callId" jsonschema:"minLength=1,maxLength=160"`
	// Message says what is being done.
	Message string `json:"message,omitempty" jsonschema:"maxLength=1024"`
	// Progress is how much is done, in any unit.
	Progress float64 `json:"progress,omitempty" jsonschema:"minimum=0"`
	// Total is how much there is to do, where that is known.
	Total float64 `json:"total,omitempty" jsonschema:"minimum=0"`
	// Content is what the tool has produced so far, for people to read.
	Content Content `json:"content,omitzero"`
}

// CallStatus says how far a call of a tool has got.
type CallStatus string

// The stages of a call. It is pending until it is allowed, running until the
// tool answers, and rejected where a person did not allow it.
const (
	CallPending   CallStatus = "pending"
	CallRunning   CallStatus = "running"
	CallCompleted CallStatus = "completed"
	CallFailed    CallStatus = "failed"
	CallCancelled CallStatus = "cancelled"
	CallRejected  CallStatus = "rejected"
)

// GenerateToolCall is the notification generate/toolCall: a generation calls a
// tool, or a call got further.
type GenerateToolCall struct {
	// GenerationID names the generation.
	GenerationID string `json:"generationId"`
	// Seq counts the notifications of this generation from 0 without gaps.
	Seq int64 `json:"seq"`
	// Round counts the answers of the model within this generation, from 0.
	Round int `json:"round,omitempty"`
	// CallID names the call.
	CallID string `json:"callId"`
	// Name is the tool's name.
	Name string `json:"name"`
	// Arguments is a JSON object; pending only.
	Arguments json.RawMessage `json:"arguments,omitempty"`
	// Status is how far the call has got.
	Status CallStatus `json:"status"`
	// Message, Progress, Total and Content repeat tool/progress; running only.
	Message string `json:"message,omitempty"`
	// Progress is how much is done.
	Progress float64 `json:"progress,omitempty"`
	// Total is how much there is to do.
	Total float64 `json:"total,omitempty"`
	// Content is what the tool has produced so far.
	Content Content `json:"content,omitzero"`
	// Result is what the model reads where that is not the client's own answer:
	// a refusal, a time limit, an answer that is none.
	Result *ToolResult `json:"result,omitempty"`
}
