package schema

import (
	"encoding/json"
	"time"
)

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
	// PromptConfig is a file of keys, as the published schema prompt-config has them:
	// its path, or its name in the folder of configurations.
	PromptConfig string `json:"promptConfig,omitempty" jsonschema:"maxLength=4096"`
	// Profile is the name of a profile: a model and a prompt config.
	Profile string `json:"profile,omitempty" jsonschema:"maxLength=512"`
	// ProfilesFile is where that profile stands. Absent means profiles.json.
	ProfilesFile string `json:"profilesFile,omitempty" jsonschema:"maxLength=4096"`
	// Settings is an object with keys of a prompt config, which go before the file's.
	// A session that is given one, if an empty one, or a prompt config or a profile, has
	// settings: what nobody gives a value has the default of the published schema. A
	// session without them has what its requests say, and nothing else.
	Settings json.RawMessage `json:"settings,omitempty"`
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
	// PromptConfig is a file of keys, as the published schema prompt-config has them:
	// its path, or its name in the folder of configurations.
	PromptConfig string `json:"promptConfig,omitempty" jsonschema:"maxLength=4096"`
	// Profile is the name of a profile: a model and a prompt config.
	Profile string `json:"profile,omitempty" jsonschema:"maxLength=512"`
	// ProfilesFile is where that profile stands. Absent means profiles.json.
	ProfilesFile string `json:"profilesFile,omitempty" jsonschema:"maxLength=4096"`
	// Settings is an object with keys of a prompt config, which go before the file's.
	// They go before what the conversation was held with, which else counts.
	Settings json.RawMessage `json:"settings,omitempty"`
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
	// Assistant is what the model is called; of a session with settings.
	Assistant string `json:"assistant,omitempty"`
	// Display says how much of long texts a client shows; of a session with settings.
	Display *Display `json:"display,omitempty"`
	// Warnings are for the person whose settings these are.
	Warnings []string `json:"warnings,omitempty"`
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
	// Model is the model of its generations that name none.
	Model string `json:"model,omitempty"`
	// Messages are what was said so far: the greeting of a prompt config, and in a fork
	// what is copied.
	Messages []Message `json:"messages,omitempty"`
	// Assistant is what the model is called; of a session with settings.
	Assistant string `json:"assistant,omitempty"`
	// Display says how much of long texts a client shows; of a session with settings.
	Display *Display `json:"display,omitempty"`
	// Warnings are for the person whose settings these are.
	Warnings []string `json:"warnings,omitempty"`
}

// Display says how much of long texts a client shows, in characters. What is kept and
// what the model reads is whole.
type Display struct {
	// Thinking is how much of the reasoning of an answer.
	Thinking int `json:"thinking"`
	// Response is how much of the last answer where a conversation is taken up again.
	Response int `json:"response"`
}

// SessionSettingsParams asks what is in force in a session.
type SessionSettingsParams struct {
	// SessionID names the session.
	SessionID string `json:"sessionId" jsonschema:"minLength=1,maxLength=128"`
	// Settings are those that the next generate would bring.
	Settings json.RawMessage `json:"settings,omitempty"`
}

// SessionSettingsResult answers session/settings.
type SessionSettingsResult struct {
	// Model is the model that they are for.
	Model string `json:"model"`
	// Settings has a row for each key of a prompt config that has an effect, in the order
	// of the published schema; none of a session without settings.
	Settings []Setting `json:"settings"`
	// Warnings are for the person whose settings these are.
	Warnings []string `json:"warnings,omitempty"`
}

// Setting is a key of a prompt config and its value.
type Setting struct {
	// Key is its name.
	Key string `json:"key"`
	// Value is what counts; absent where its absence says something.
	Value json.RawMessage `json:"value,omitempty"`
	// Source is where the value came from.
	Source SettingSource `json:"source" jsonschema:"enum=request,enum=saved chat,enum=prompt config,enum=profile,enum=model,enum=default"`
	// Name is the file, profile or model, where the source is one.
	Name string `json:"name,omitempty"`
	// When is when a change takes effect: with the next turn, or the next session.
	When SettingWhen `json:"when" jsonschema:"enum=turn,enum=session"`
}

// SettingSource is a kind of place that values come from.
type SettingSource string

// The sources, the one that wins first.
const (
	FromRequest      SettingSource = "request"
	FromSavedChat    SettingSource = "saved chat"
	FromPromptConfig SettingSource = "prompt config"
	FromProfile      SettingSource = "profile"
	FromModel        SettingSource = "model"
	FromDefault      SettingSource = "default"
)

// SettingWhen is when a change of a setting takes effect.
type SettingWhen string

// The moments.
const (
	WhenTurn    SettingWhen = "turn"
	WhenSession SettingWhen = "session"
)

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
