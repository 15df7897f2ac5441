package schema

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
