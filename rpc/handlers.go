package rpc

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"harmonyd/schema"
)

// This file is what the rows of methods.go do. Nearly all of the work is the
// Agent's.

func (c *conn) initialize(r *request, p schema.InitializeParams) (func(context.Context) (schema.InitializeResult, error), error) {
	return func(context.Context) (schema.InitializeResult, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.phase = ready
		if p.Trace != "" {
			c.trace = p.Trace
		}
		if own := p.Capabilities.Harmonyd; own != nil {
			c.client, c.activity.told = own.Tools, true
			c.surface.Stream = own.Stream.Over(c.surface.Stream)
		}
		r.after = func() {
			if p.ProcessID != nil {
				c.parent <- *p.ProcessID
			}
			if n := p.InitializationOptions.Servers(); n > 0 {
				c.log.Warn("initializationOptions: this version starts no MCP servers; register their tools with tool-register", "mcpServers", n)
			}
		}
		if p.ClientInfo != nil {
			c.opts.Log.Info("client", "name", clip(p.ClientInfo.Name), "version", clip(p.ClientInfo.Version))
		}
		return schema.InitializeResult{
			Capabilities:    schema.ServerCapabilities{Harmonyd: c.surface},
			ServerInfo:      schema.PeerInfo{Name: c.opts.Name, Version: c.opts.Version},
			ProtocolVersion: schema.Version,
			Limits:          c.opts.Limits,
		}, nil
	}, nil
}

func (c *conn) ignore(context.Context, schema.Empty) (schema.Empty, error) {
	return schema.Empty{}, nil
}

// shutdown is answered at once; what runs is answered as it ends.
func (c *conn) shutdown(r *request, _ schema.Empty) (func(context.Context) (any, error), error) {
	return func(context.Context) (any, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.phase = closing
		r.after = func() { c.stop(errEnding) }
		return nil, nil
	}, nil
}

func (c *conn) exit(context.Context, schema.Empty) (schema.Empty, error) {
	close(c.exited)
	return schema.Empty{}, nil
}

func (c *conn) cancelRequest(_ context.Context, p schema.CancelRequestParams) (schema.Empty, error) {
	key, ok := idKey(p.ID)
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.requests[key]; ok && r != nil {
		r.cancel(errByClient)
	}
	return schema.Empty{}, nil
}

func (c *conn) setTrace(_ context.Context, p schema.SetTraceParams) (schema.Empty, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trace = p.Value
	return schema.Empty{}, nil
}

func (c *conn) modelsList(ctx context.Context, _ schema.Empty) (schema.ModelsListResult, error) {
	return c.agent.Models(ctx)
}

func (c *conn) modelLoad(r *request, p schema.ModelLoadParams) (func(context.Context) (schema.ModelLoadResult, error), error) {
	r.progress = c.newProgress(p.WorkDoneToken, "Loading "+p.Model)
	r.model = p.Model
	place := r.lineUp(&c.engine)
	return inTurn(place, func(ctx context.Context) (schema.ModelLoadResult, error) {
		return c.agent.LoadModel(ctx, p, func(done, total int64) {
			place.pass()
			c.mu.Lock()
			c.note(r, loading, nil)
			c.mu.Unlock()
			r.progress.report("", share(done, total))
		})
	}), nil
}

func (c *conn) modelUnload(r *request, p schema.ModelUnloadParams) (func(context.Context) (schema.ModelUnloadResult, error), error) {
	return inTurn(r.lineUp(&c.engine), func(ctx context.Context) (schema.ModelUnloadResult, error) {
		return c.agent.UnloadModel(ctx, p)
	}), nil
}

func (c *conn) tokensCount(ctx context.Context, p schema.TokensCountParams) (schema.TokensCountResult, error) {
	return c.agent.CountTokens(ctx, p)
}

func (c *conn) admit(r *request, p *schema.GenerateParams) error {
	c.mu.Lock()
	if p.GenerationID == "" {
		for taken := true; taken; {
			c.assigned++
			p.GenerationID = fmt.Sprintf("g%d", c.assigned)
			_, taken = c.generations[p.GenerationID]
		}
	}
	if c.generations[p.GenerationID] != nil {
		c.mu.Unlock()
		return schema.Errorf(schema.KindDuplicateID, "generation %q is running", p.GenerationID)
	}
	if n := c.opts.Limits.MaxQueuedGenerations; c.queued >= n {
		c.mu.Unlock()
		return schema.Overloaded(retryAfterMS, "%d generations wait for the engine", n)
	}
	if p.ToolMode == "" {
		p.ToolMode = schema.ToolReturn
		if c.client.Call {
			p.ToolMode = schema.ToolCallback
		}
	}
	p.Stream = p.Stream.Over(c.surface.Stream)
	r.session, r.model = p.SessionID, p.Model
	r.generation = newGeneration(p.GenerationID, c.stream.out, p.Stream)
	r.waiting = true
	c.queued++
	c.generations[p.GenerationID] = r
	c.mu.Unlock()

	r.progress = c.newProgress(p.WorkDoneToken, "Generating")
	r.generation.entered = func(s schema.GenerateStatus) { c.entered(r, s) }
	r.generation.Status(schema.GenerateStatus{State: schema.StateQueued})
	return nil
}

// entered notes that a generation has got further. One that waits for its
// model is as much in the queue as one that waits for its turn.
func (c *conn) entered(r *request, s schema.GenerateStatus) {
	c.mu.Lock()
	switch s.State {
	case schema.StateQueued:
	case schema.StateLoading:
		c.note(r, loading, nil)
	default:
		if r.waiting {
			r.waiting = false
			c.queued--
		}
		c.note(r, running, nil)
	}
	c.mu.Unlock()
	switch s.State {
	case schema.StateLoading:
		// Half of the bar, so that the prompt has the other half.
		r.progress.report("loading the model", share(int64(1000*s.LoadedShare), 2000))
	case schema.StatePrefill:
		r.progress.report("reading the prompt", share(int64(s.ProcessedTokens), int64(s.PromptTokens)))
	}
}

// states orders the stages of a generation.
var states = []schema.GenerateState{
	schema.StateUnknown, schema.StateQueued, schema.StateLoading,
	schema.StatePrefill, schema.StateDecoding, schema.StateTool, schema.StateDone,
}

// cancel answers before what it cancels does.
func (c *conn) cancel(r *request, p schema.CancelParams) (func(context.Context) (schema.CancelResult, error), error) {
	return func(context.Context) (schema.CancelResult, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		found := c.find(func(g *request) bool {
			return p.All || g.generation.id == p.GenerationID || p.SessionID != "" && g.session == p.SessionID
		})
		result := schema.CancelResult{Cancelled: len(found) > 0, State: schema.StateUnknown}
		for _, g := range found {
			g.generation.pin()
			if s := g.generation.current(); slices.Index(states, s) > slices.Index(states, result.State) {
				result.State = s
			}
		}
		r.after = cancelling(found)
		return result, nil
	}, nil
}

// find returns the generations that are meant, the oldest first, but for those that
// are done: they have their results, though these are not sent yet. It is called
// with c.mu held.
func (c *conn) find(meant func(*request) bool) []*request {
	var found []*request
	for _, g := range c.generations {
		if meant(g) && g.generation.current() != schema.StateDone {
			found = append(found, g)
		}
	}
	slices.SortFunc(found, func(a, b *request) int { return cmp.Compare(a.number, b.number) })
	return found
}

// cancelling returns what cancels all of them: the last first, so that none begins
// because the one before it has ended.
func cancelling(found []*request) func() {
	return func() {
		for _, g := range slices.Backward(found) {
			g.cancel(errByClient)
		}
	}
}
