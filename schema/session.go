package schema

import "time"

// SessionNewParams opens a session: a conversation that the server keeps, so
// that a client sends each message once.
type SessionNewParams struct {
	// Model is the model of the session's generations that name none.
	Model string `json:"model,omitempty" jsonschema:"maxLength=512"`
	// System is the text of a system message that stands before all others.
	System string `json:"system,omitempty"`
	// Tools are those of the session's generations that name none. Absent means
	// all registered tools.
	Tools *[]ToolRef `json:"tools,omitempty" jsonschema:"maxItems=256"`
	// Keep writes the conversation to the disk, each turn before it is answered, so
	// that session/load finds it when this server is gone.
	Keep bool `json:"keep,omitempty"`
}

// SessionLoadParams opens a session over a conversation that was kept.
type SessionLoadParams struct {
	// SessionID names the conversation, as session/list does.
	SessionID string `json:"sessionId" jsonschema:"minLength=1,maxLength=128"`
	// Model is the model of the session's generations that name none; absent means
	// the one that wrote its last answer.
	Model string `json:"model,omitempty" jsonschema:"maxLength=512"`
	// Tools are those of the session's generations that name none. Absent means
	// all registered tools.
	Tools *[]ToolRef `json:"tools,omitempty" jsonschema:"maxItems=256"`
}

// SessionLoadResult answers session/load.
type SessionLoadResult struct {
	// SessionID names the session, which is open now.
	SessionID string `json:"sessionId"`
	// Model is the model of its generations that name none.
	Model string `json:"model,omitempty"`
	// Messages are what was said so far.
	Messages []Message `json:"messages"`
	// Problem says what of the conversation could not be read, where there is
	// something.
	Problem string `json:"problem,omitempty"`
}

// SessionListParams asks for the conversations that were kept.
type SessionListParams struct {
	// Limit is how many to list, those that changed last first. Absent means all.
	Limit int `json:"limit,omitempty" jsonschema:"minimum=1,maximum=100000"`
}

// SessionListResult answers session/list.
type SessionListResult struct {
	// Sessions are the conversations, those that changed last first.
	Sessions []SessionInfo `json:"sessions"`
}

// SessionInfo is a conversation that was kept.
type SessionInfo struct {
	// SessionID names the conversation.
	SessionID string `json:"sessionId"`
	// Title is its name, or the beginning of its first question.
	Title string `json:"title,omitempty"`
	// Created is when it began.
	Created time.Time `json:"created"`
	// Updated is when it changed last.
	Updated time.Time `json:"updated"`
	// Messages counts what was said.
	Messages int `json:"messages"`
	// ForkedFrom is the conversation that it began as a copy of.
	ForkedFrom string `json:"forkedFrom,omitempty"`
	// Problem says why it cannot be read, or how far.
	Problem string `json:"problem,omitempty"`
}

// SessionParams names a session.
type SessionParams struct {
	// SessionID names the session.
	SessionID string `json:"sessionId" jsonschema:"minLength=1,maxLength=128"`
}

// SessionResult answers session/new and session/fork.
type SessionResult struct {
	// SessionID names the new session.
	SessionID string `json:"sessionId"`
}

// AgentState is what the server is doing, for a status bar.
type AgentState string

// The states of the server.
const (
	AgentIdle    AgentState = "idle"
	AgentLoading AgentState = "loading"
	AgentBusy    AgentState = "busy"
	AgentError   AgentState = "error"
)

// AgentStatus is the notification agent/status: the server does something else
// than before. It is sent to clients with the capability harmonyd.
type AgentStatus struct {
	// State is loading where anything loads, else busy where anything generates,
	// else error where the last that ended failed for want of a model or an
	// engine.
	State AgentState `json:"state" jsonschema:"enum=idle,enum=loading,enum=busy,enum=error"`
	// Model is the model that this is about, where the request named one.
	Model string `json:"model,omitempty"`
	// Message says what failed; error only.
	Message string `json:"message,omitempty"`
}
