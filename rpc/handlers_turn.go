package rpc

import (
	"context"
	"errors"

	"harmonyd/schema"
)

// This file is what the rows of methods.go do about sessions, tools and turns.

func (c *conn) sessionNew(ctx context.Context, p schema.SessionNewParams) (schema.SessionResult, error) {
	return c.agent.NewSession(ctx, p)
}

func (c *conn) sessionLoad(ctx context.Context, p schema.SessionLoadParams) (schema.SessionLoadResult, error) {
	return c.agent.LoadSession(ctx, p)
}

func (c *conn) sessionList(ctx context.Context, p schema.SessionListParams) (schema.SessionListResult, error) {
	return c.agent.ListSessions(ctx, p)
}

func (c *conn) sessionFork(ctx context.Context, p schema.SessionParams) (schema.SessionResult, error) {
	return c.agent.ForkSession(ctx, p)
}

func (c *conn) sessionSettings(ctx context.Context, p schema.SessionSettingsParams) (schema.SessionSettingsResult, error) {
	return c.agent.SessionSettings(ctx, p)
}

// sessionClose answers before the turns that it cancels do.
func (c *conn) sessionClose(r *request, p schema.SessionParams) (func(context.Context) (schema.Empty, error), error) {
	return func(ctx context.Context) (schema.Empty, error) {
		result, err := c.agent.CloseSession(ctx, p)
		if err != nil {
			return result, err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		found := c.find(func(g *request) bool { return g.session == p.SessionID })
		for _, g := range found {
			g.generation.pin()
		}
		r.after = cancelling(found)
		return result, nil
	}, nil
}

// toolRegister takes its place at once and its time, which may be long, on a
// goroutine of its own.
func (c *conn) toolRegister(r *request, p schema.ToolRegisterParams) (func(context.Context) (schema.ToolRegisterResult, error), error) {
	return inTurn(r.lineUp(&c.tools), func(ctx context.Context) (schema.ToolRegisterResult, error) {
		return c.agent.RegisterTools(ctx, p)
	}), nil
}

func (c *conn) toolsUnregister(r *request, p schema.ToolsUnregisterParams) (func(context.Context) (schema.ToolsListResult, error), error) {
	return inTurn(r.lineUp(&c.tools), func(ctx context.Context) (schema.ToolsListResult, error) {
		return c.agent.UnregisterTools(ctx, p)
	}), nil
}

func (c *conn) toolsSetEnabled(r *request, p schema.ToolsSetEnabledParams) (func(context.Context) (schema.ToolsListResult, error), error) {
	return inTurn(r.lineUp(&c.tools), func(ctx context.Context) (schema.ToolsListResult, error) {
		return c.agent.SetToolsEnabled(ctx, p)
	}), nil
}

func (c *conn) toolsList(r *request, p schema.ToolsListParams) (func(context.Context) (schema.ToolsListResult, error), error) {
	return inTurn(r.lineUp(&c.tools), func(ctx context.Context) (schema.ToolsListResult, error) {
		return c.agent.ListTools(ctx, p)
	}), nil
}

// generate claims the generation's id and its places: behind the tools that
// were registered before, behind the turns of its session, and behind the work
// that was asked for before.
func (c *conn) generate(r *request, p schema.GenerateParams) (func(context.Context) (schema.GenerateResult, error), error) {
	if err := c.admit(r, &p); err != nil {
		return nil, err
	}
	tools, session := r.lineUp(&c.tools), c.joinSession(r)
	var place *turn
	if session == nil || session.isFirst() {
		place = r.lineUp(&c.engine)
	}
	return func(ctx context.Context) (schema.GenerateResult, error) {
		err := tools.wait(ctx)
		tools.pass()
		if err == nil && session != nil {
			err = session.wait(ctx)
		}
		if place == nil {
			// Others must not wait for the turns before this one.
			place = r.lineUp(&c.engine)
		}
		r.generation.begun = place.pass
		if err == nil {
			err = place.wait(ctx)
		}
		var result schema.GenerateResult
		if err == nil {
			result, err = c.agent.Generate(ctx, p, r.generation, host{c, r})
		}
		if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
			// Some clients never call back after an error that says cancelled.
			result = schema.GenerateResult{
				StopReason: schema.StopCancelled,
				Message:    schema.Message{Role: schema.RoleAssistant, Content: schema.Content{}},
			}
			err = nil
		}
		result.GenerationID = p.GenerationID
		return result, err
	}, nil
}

// joinSession takes a place behind the turns of a generation's session, nil
// where it has none.
func (c *conn) joinSession(r *request) *turn {
	if r.session == "" {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.sessions[r.session]
	if l == nil {
		l = new(line)
		c.sessions[r.session] = l
	}
	return r.lineUp(l)
}

// leaveSession forgets the line of a session in which nobody stands any more: ids
// of sessions are whatever clients make up.
func (c *conn) leaveSession(r *request) {
	if r.session == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.sessions[r.session]; l != nil && l.empty() {
		delete(c.sessions, r.session)
	}
}
