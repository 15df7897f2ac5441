package rpc

import (
	"context"
	"encoding/json"

	"harmonyd/schema"
)

// question is a request of ours that the client has not answered.
type question struct {
	answer chan message // takes the one answer
	// Of tool/call, for tool/progress.
	of   *request
	tool string
}

// host asks the client on behalf of a generation.
type host struct {
	c *conn
	r *request
}

// CallTool has the client run a tool. The id of the request is that of the call.
func (h host) CallTool(ctx context.Context, p schema.ToolCallParams) (schema.ToolResult, error) {
	p.GenerationID, p.SessionID = h.r.generation.id, h.r.session
	var result schema.ToolResult
	err := h.c.ask(ctx, p.CallID, "tool/call", p, &result, &question{of: h.r, tool: p.Name})
	return result, err
}

// Approve has the client ask a person.
func (h host) Approve(ctx context.Context, p schema.ToolApproveParams) (schema.ToolApproveResult, error) {
	h.c.mu.Lock()
	able := h.c.client.Approve
	h.c.mu.Unlock()
	if !able {
		return schema.ToolApproveResult{}, schema.Unsupported("tools.approve", "the client cannot ask a person")
	}
	p.GenerationID, p.SessionID = h.r.generation.id, h.r.session
	var result schema.ToolApproveResult
	err := h.c.ask(ctx, "approve:"+p.CallID, "tool/approve", p, &result, &question{})
	return result, err
}

// ask sends a request and waits for its answer, which it decodes into result.
// Ids of ours are strings, and nobody but the client chooses numbers.
func (c *conn) ask(ctx context.Context, id, method string, params, result any, q *question) error {
	q.answer = make(chan message, 1)
	c.mu.Lock()
	if c.questions[id] != nil {
		c.mu.Unlock()
		return schema.Errorf(schema.KindInternal, "two requests of ours have the id %q", id)
	}
	c.questions[id] = q
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.questions, id)
		c.mu.Unlock()
	}()
	body, err := schema.Encode(params)
	if err != nil {
		return err
	}
	c.stream.out.add(item{body: appendRequest(nil, id, method, body)})
	select {
	case m := <-q.answer:
		return m.into(result)
	case <-ctx.Done():
		c.notify("$/cancelRequest", schema.CancelRequestParams{ID: schema.AppendString(nil, id)})
		return ctx.Err()
	case <-c.stream.ended:
	}
	// What came before the end of the input counts.
	select {
	case m := <-q.answer:
		return m.into(result)
	default:
		return schema.Errorf(schema.KindRequestFailed, "%s: the client has closed its end and cannot answer", method)
	}
}

// answered hands an answer to whoever asked. One that comes too late, or twice,
// is of no use to anybody.
func (c *conn) answered(m message) {
	c.mu.Lock()
	q := c.questions[m.answerTo()]
	c.mu.Unlock()
	if q != nil {
		select {
		case q.answer <- m:
			return
		default:
		}
	}
	c.log.Info("an answer to no request is ignored", "id", clip(string(m.id)))
}

// answerTo is the id that a response names, as we wrote it.
func (m *message) answerTo() string {
	if firstByte(m.id) != '"' {
		return ""
	}
	return schema.Unquote(m.id)
}

// into decodes the result of a response; its error is returned as one.
func (m *message) into(result any) error {
	switch {
	case m.problem != nil:
		return schema.Errorf(schema.KindRequestFailed, "the client's answer cannot be read: %s", m.problem.Message)
	case m.failed != nil:
		var e struct {
			Code    int64  `json:"code"`
			Message string `json:"message"`
		}
		if json.Unmarshal(m.failed, &e) != nil || e.Message == "" {
			e.Message = "the client reports an error without a message"
		}
		return &schema.Error{Code: e.Code, Message: e.Message, Data: schema.ErrorData{Kind: schema.KindRequestFailed}}
	case m.result == nil:
		return schema.Errorf(schema.KindRequestFailed, "the client's answer has no result")
	}
	if err := schema.Decode(m.result, result); err != nil {
		return schema.Errorf(schema.KindRequestFailed, "the client's answer cannot be used: %v", err)
	}
	return nil
}

// toolProgress shows how far a call has got. A client that reports to itself faster
// than it reads must not fill the memory, so what is shown replaces what was.
func (c *conn) toolProgress(_ context.Context, p schema.ToolProgressParams) (schema.Empty, error) {
	c.mu.Lock()
	q := c.questions[p.CallID]
	c.mu.Unlock()
	if q == nil || q.of == nil {
		return schema.Empty{}, nil
	}
	q.of.generation.ToolCall(schema.GenerateToolCall{
		CallID: p.CallID, Name: q.tool, Status: schema.CallRunning,
		Message: p.Message, Progress: p.Progress, Total: p.Total, Content: p.Content,
	})
	if c.stream.out.pending() < clientLogBytes {
		stage := "running " + q.tool
		if p.Message != "" {
			stage = q.tool + ": " + p.Message
		}
		percent := 0
		if p.Total > 0 {
			percent = int(100 * min(p.Progress/p.Total, 1))
		}
		q.of.progress.report(stage, percent)
	}
	return schema.Empty{}, nil
}

func appendRequest(dst []byte, id, method string, params []byte) []byte {
	dst = append(dst, `{"jsonrpc":"2.0","id":`...)
	dst = schema.AppendString(dst, id)
	dst = append(dst, `,"method":`...)
	dst = schema.AppendString(dst, method)
	dst = append(dst, `,"params":`...)
	dst = append(dst, params...)
	return append(dst, '}')
}
