package agent

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"harmonyd/agent/conversation"
	"harmonyd/schema"
)

// writeDown gives a new session a log with what it begins with.
func (a *Agent) writeDown(s *session) (err error) {
	if a.conversations == nil {
		return schema.Unsupported("keep", "/keep: this server keeps no conversations")
	}
	if s.log, err = a.conversations.Create(conversation.Header{}); err != nil {
		return keptError("", err)
	}
	if err := s.write(s.messages, nil, s.held()); err != nil {
		s.close()
		return err
	}
	return nil
}

// write appends messages to the log. What is said of the turn stands with its last
// answer.
func (s *session) write(asked, answered []schema.Message, turn conversation.Turn) error {
	entries := make([]conversation.Entry, 0, len(asked)+len(answered))
	for _, m := range slices.Concat(asked, answered) {
		entries = append(entries, conversation.Entry{Message: m})
	}
	if len(entries) == 0 {
		return nil
	}
	if len(answered) > 0 || turn.Configured {
		entries[len(entries)-1].Turn = &turn
	}
	_, err := s.log.Append(entries...)
	if err != nil {
		return keptError(s.log.Header().ID, err)
	}
	return nil
}

// held is what is written down of how the conversation is held.
func (s *session) held() conversation.Turn {
	if s.config == nil {
		return conversation.Turn{}
	}
	c := s.config
	return conversation.Turn{PromptConfig: c.fileName, Profile: c.profileName, ProfilesFile: c.profilesFile, Configured: true}
}

// close ends the writing, once the turn that runs has ended. What was appended is on
// the disk.
func (s *session) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if len(s.turn) == 0 {
		s.shut()
	}
}

// shut closes the log. S.mu is held.
func (s *session) shut() {
	if s.log != nil {
		_ = s.log.Close()
		s.log = nil
	}
}

// keptError is the wire's error for one of the store.
func keptError(id string, err error) error {
	var used *conversation.InUseError
	switch {
	case errors.Is(err, conversation.ErrNotFound):
		return schema.Errorf(schema.KindSessionNotFound, "no conversation %q was kept", id)
	case errors.As(err, &used):
		return schema.Errorf(schema.KindRequestFailed, "%v", err)
	}
	e := schema.Errorf(schema.KindRequestFailed, "the conversation cannot be written down or read: %v", err)
	e.Data.Cause = err.Error()
	return e
}

// ListSessions lists the conversations that were kept.
func (a *Agent) ListSessions(ctx context.Context, p schema.SessionListParams) (schema.SessionListResult, error) {
	r := schema.SessionListResult{Sessions: []schema.SessionInfo{}}
	if a.conversations == nil {
		return r, nil
	}
	list, err := a.conversations.List(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return r, ctx.Err()
		}
		return r, keptError("", err)
	}
	for _, c := range list[:min(len(list), cmp.Or(p.Limit, len(list)))] {
		r.Sessions = append(r.Sessions, schema.SessionInfo{
			SessionID: c.ID, Title: c.Title, Created: c.Created, Updated: c.Updated,
			Messages: c.Messages, ForkedFrom: c.ForkedFrom, Problem: c.Problem,
		})
	}
	return r, nil
}

// LoadSession opens a session over a conversation that was kept. One that is open
// already stays as it is.
func (a *Agent) LoadSession(_ context.Context, p schema.SessionLoadParams) (schema.SessionLoadResult, error) {
	if s, err := a.session(p.SessionID); err == nil {
		return loaded(p.SessionID, s), nil
	}
	if a.conversations == nil {
		return schema.SessionLoadResult{}, keptError(p.SessionID, conversation.ErrNotFound)
	}
	log, err := a.conversations.Open(p.SessionID)
	if err != nil {
		return schema.SessionLoadResult{}, keptError(p.SessionID, err)
	}
	s, err := a.takeUp(log, p)
	if err != nil {
		_ = log.Close()
		return schema.SessionLoadResult{}, err
	}
	r := loaded(p.SessionID, s)
	if d := log.Damage(); d != nil {
		r.Problem = d.String()
	}
	_, err = a.keep(s)
	return r, err
}

// takeUp makes a session of what was kept. It is held as it was, but for what p says.
func (a *Agent) takeUp(log *conversation.Log, p schema.SessionLoadParams) (*session, error) {
	entries, err := log.Path("")
	if err != nil {
		return nil, keptError(p.SessionID, err)
	}
	s := emptySession(p.Model, p.Tools)
	s.log, s.messages = log, conversation.Messages(entries)
	then := formerly(entries)
	w := wanted{p.PromptConfig, p.Profile, p.ProfilesFile, p.Settings}
	if h := log.Header(); then.configured || !w.nothing() || h.Origin != nil {
		return s, a.furnish(s, w, then, h.Created.Local())
	}
	s.model = cmp.Or(s.model, then.saved.Model)
	return s, nil
}

// loaded is the answer to session/load.
func loaded(id string, s *session) schema.SessionLoadResult {
	r := schema.SessionLoadResult{SessionID: id, Model: s.model, Messages: s.conversation(nil)}
	r.Assistant, r.Display, r.Warnings = s.told()
	return r
}
