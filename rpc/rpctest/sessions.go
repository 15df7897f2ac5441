package rpctest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"harmonyd/schema"
)

// NewSession opens a session, which keeps nothing. With settings it greets.
func (a *Agent) NewSession(_ context.Context, p schema.SessionNewParams) (schema.SessionResult, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.opened++
	id := fmt.Sprintf("s%d", a.opened)
	a.sessions = append(a.sessions, id)
	r := schema.SessionResult{SessionID: id}
	if p.PromptConfig != "" || p.Profile != "" || p.Settings != nil {
		r.Model, r.Assistant, r.Display = "scripted", "Ada", &schema.Display{Thinking: 1000, Response: 1000}
		r.Messages = []schema.Message{{Role: schema.RoleAssistant, Content: schema.TextContent("Hello.")}}
		r.Warnings = []string{p.PromptConfig + ":2:3: colour: is no key"}
	}
	return r, nil
}

// SessionSettings lists two.
func (a *Agent) SessionSettings(_ context.Context, p schema.SessionSettingsParams) (schema.SessionSettingsResult, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.Contains(a.sessions, p.SessionID) {
		return schema.SessionSettingsResult{}, schema.Errorf(schema.KindSessionNotFound, "session %q is not open", p.SessionID)
	}
	return schema.SessionSettingsResult{Model: "scripted", Settings: []schema.Setting{
		{Key: "temperature", Value: json.RawMessage("0.5"), Source: schema.FromPromptConfig, Name: "ada.json", When: schema.WhenTurn},
		{Key: "max_kv_size", Source: schema.FromDefault, When: schema.WhenTurn},
	}}, nil
}

// CloseSession forgets a session.
func (a *Agent) CloseSession(_ context.Context, p schema.SessionParams) (schema.Empty, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	i := slices.Index(a.sessions, p.SessionID)
	if i < 0 {
		return schema.Empty{}, schema.Errorf(schema.KindSessionNotFound, "session %q is not open", p.SessionID)
	}
	a.sessions = slices.Delete(a.sessions, i, i+1)
	return schema.Empty{}, nil
}

// keptSession is the one conversation that an Agent has kept from another life.
const keptSession = "kept"

// ListSessions lists the one that was kept.
func (a *Agent) ListSessions(context.Context, schema.SessionListParams) (schema.SessionListResult, error) {
	day := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return schema.SessionListResult{Sessions: []schema.SessionInfo{
		{SessionID: keptSession, Title: "What is Go?", Created: day, Updated: day.Add(time.Hour), Messages: 2},
	}}, nil
}

// LoadSession opens that one.
func (a *Agent) LoadSession(_ context.Context, p schema.SessionLoadParams) (schema.SessionLoadResult, error) {
	if p.SessionID != keptSession {
		return schema.SessionLoadResult{}, schema.Errorf(schema.KindSessionNotFound, "no conversation %q was kept", p.SessionID)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.Contains(a.sessions, keptSession) {
		a.sessions = append(a.sessions, keptSession)
	}
	return schema.SessionLoadResult{SessionID: keptSession, Model: cmp.Or(p.Model, "scripted"), Messages: []schema.Message{
		{Role: schema.RoleUser, Content: schema.TextContent("What is Go?")},
		{Role: schema.RoleAssistant, Content: schema.TextContent("A language.")},
	}}, nil
}

// ForkSession opens another.
func (a *Agent) ForkSession(ctx context.Context, p schema.SessionParams) (schema.SessionResult, error) {
	a.mu.Lock()
	known := slices.Contains(a.sessions, p.SessionID)
	a.mu.Unlock()
	if !known {
		return schema.SessionResult{}, schema.Errorf(schema.KindSessionNotFound, "session %q is not open", p.SessionID)
	}
	return a.NewSession(ctx, schema.SessionNewParams{})
}
