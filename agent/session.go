package agent

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"harmonyd/agent/conversation"
	"harmonyd/agent/profile"
	"harmonyd/schema"
)

// session is a conversation that is kept between turns, one of which runs at a
// time.
type session struct {
	model string
	tools *[]schema.ToolRef
	turn  chan struct{} // holds a value while a turn runs

	config  *configuration // nil where the session has no settings
	prompt  profile.Prompt // of config
	display schema.Display

	mu       sync.Mutex
	log      *conversation.Log // nil where nothing is written down
	messages []schema.Message  // never changed in place
	closed   bool
}

func emptySession(model string, tools *[]schema.ToolRef) *session {
	return &session{model: model, tools: tools, turn: make(chan struct{}, 1)}
}

// NewSession opens a session.
func (a *Agent) NewSession(_ context.Context, p schema.SessionNewParams) (schema.SessionResult, error) {
	if err := a.room(); err != nil {
		return schema.SessionResult{}, err
	}
	s := emptySession(p.Model, p.Tools)
	if w := (wanted{p.PromptConfig, p.Profile, p.ProfilesFile, p.Settings}); !w.nothing() {
		if err := a.furnish(s, w, former{}, time.Now()); err != nil {
			return schema.SessionResult{}, err
		}
	}
	if p.System != "" {
		s.messages = []schema.Message{{Role: schema.RoleSystem, Content: schema.TextContent(p.System)}}
	}
	greeting := s.greeting()
	s.messages = append(s.messages, greeting...)
	if p.Keep {
		if err := a.writeDown(s); err != nil {
			return schema.SessionResult{}, err
		}
	}
	r, err := a.keep(s)
	r.Messages = greeting
	return r, err
}

// room is the error where there is none for another session, before anything is written
// down for it.
func (a *Agent) room() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.full()
}

// full is room with a.mu held.
func (a *Agent) full() error {
	if most := a.maxSessions; len(a.sessions) >= most {
		return schema.Overloaded(0, "%d sessions are open; close one", most)
	}
	return nil
}

// keep gives a session its id.
func (a *Agent) keep(s *session) (schema.SessionResult, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.full(); err != nil {
		s.close()
		return schema.SessionResult{}, err
	}
	var id string
	if s.log != nil {
		id = s.log.Header().ID
	} else {
		a.named++
		id = fmt.Sprintf("s%d", a.named)
	}
	a.sessions[id] = s
	r := schema.SessionResult{SessionID: id, Model: s.model}
	r.Assistant, r.Display, r.Warnings = s.told()
	return r, nil
}

// CloseSession forgets a session, its tools and what was allowed in it. A turn that
// runs goes on; nobody will read what it adds.
func (a *Agent) CloseSession(_ context.Context, p schema.SessionParams) (schema.Empty, error) {
	s, err := a.session(p.SessionID)
	if err != nil {
		return schema.Empty{}, err
	}
	a.mu.Lock()
	delete(a.sessions, p.SessionID)
	for key := range a.allowed {
		if key.session == p.SessionID {
			delete(a.allowed, key)
		}
	}
	a.mu.Unlock()
	a.tools.Forget(p.SessionID)
	s.close()
	return schema.Empty{}, nil
}

// ForkSession opens a session that begins with what the turns of another have added
// to it, and has its tools. What was allowed there is not allowed here.
func (a *Agent) ForkSession(_ context.Context, p schema.SessionParams) (schema.SessionResult, error) {
	s, err := a.session(p.SessionID)
	if err != nil {
		return schema.SessionResult{}, err
	}
	if err := a.room(); err != nil {
		return schema.SessionResult{}, err
	}
	fork, err := s.fork(func() (*conversation.Log, error) { return a.conversations.Fork(p.SessionID, "") })
	if err != nil {
		return schema.SessionResult{}, keptError(p.SessionID, err)
	}
	r, err := a.keep(fork)
	if err != nil {
		return r, err
	}
	if err := a.tools.Fork(p.SessionID, r.SessionID); err != nil {
		_, _ = a.CloseSession(context.Background(), schema.SessionParams{SessionID: r.SessionID})
		return schema.SessionResult{}, err
	}
	return r, nil
}

// fork copies a session, and with copied what is written down of it. No turn ends
// between the two.
func (s *session) fork(copied func() (*conversation.Log, error)) (fork *session, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fork = emptySession(s.model, s.tools)
	fork.config, fork.prompt, fork.display, fork.messages = s.config, s.prompt, s.display, s.messages
	if s.log != nil {
		fork.log, err = copied()
	}
	return fork, err
}

// session finds an open session.
func (a *Agent) session(id string) (*session, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.sessions[id]
	if s == nil {
		return nil, schema.Errorf(schema.KindSessionNotFound, "session %q is not open", id)
	}
	return s, nil
}

// checkSession is the error of a session that is not open; none needs none.
func (a *Agent) checkSession(id string) error {
	if id == "" {
		return nil
	}
	_, err := a.session(id)
	return err
}

// enter waits for the turn before.
func (s *session) enter(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *session) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		s.shut()
	}
	<-s.turn
}

// conversation is what was said so far, and then what is said now. A nil session is
// a conversation that begins now.
func (s *session) conversation(now []schema.Message) []schema.Message {
	if s == nil {
		return now
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Concat(s.messages, now)
}

// add adds what a turn was asked and what it answered, to the disk first where the
// session is kept.
func (s *session) add(asked, answered []schema.Message, turn conversation.Turn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.log != nil {
		if err := s.write(asked, answered, turn); err != nil {
			return err
		}
	}
	s.messages = slices.Concat(s.messages, asked, answered)
	return nil
}

// allowance is a tool, as it is defined, that a person has allowed for good.
type allowance struct{ session, digest string }

func (a *Agent) isAllowed(key allowance) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.allowed[key]
}

func (a *Agent) allow(key allowance) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.allowed[key] = true
}

// unknown takes a tool away that the client says it does not have.
func (a *Agent) unknown(session string, tool *schema.Tool) {
	for _, t := range a.tools.List(session).Tools {
		if t.Name == tool.Name && t.Digest == tool.Digest {
			a.log.Warn("the client does not know its tool; it is unregistered", "tool", tool.Name)
			_ = a.tools.Unregister(t.SessionID, []string{t.Name}) // whoever was faster has done the same
		}
	}
}
