package rpc

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/sourcegraph/jsonrpc2"

	"harmonyd/schema"
)

// conn dispatches the messages of one client. Handle runs on the reader's
// goroutine: what it enters into the tables is there before the next message
// is read, so a cancel can never overtake its generate.
type conn struct {
	agent  Agent
	opts   Options
	log    *slog.Logger
	stream *stream

	came   int64         // messages so far; the reader's alone
	exited chan struct{} // closed by exit
	parent chan int64    // takes the processes to live no longer than

	// ctx is that of all requests; stop ends them.
	ctx  context.Context
	stop context.CancelCauseFunc

	// engine is the line of requests for which the order of the client's
	// messages is that of the engine's work. A place in it is given up as soon as
	// the agent has it. In tools, registrations come before what is to see them.
	engine, tools line

	mu          sync.Mutex
	phase       phase
	trace       schema.TraceValue
	client      schema.ClientTools
	surface     schema.ServerHarmonyd // the protocol's own part of initialize's answer
	activity    activity
	sessions    map[string]*line     // of generations, by sessionId; not the empty ones
	questions   map[string]*question // requests of ours, by id
	requests    map[string]*request  // in flight, by message.key
	generations map[string]*request  // in flight, by generationId
	queued      int                  // generations that wait for the engine
	assigned    int                  // generation ids given out
	bodies      int64                // bytes of the requests that are not answered
	active      int                  // requests whose answer is not in the writer's queue
	idle        []chan struct{}      // to be closed when active is 0

	// answers is held from the moment when a query's answer is found to have room
	// until it is in the writer's queue, so that answers cannot all find the same
	// room. Nothing that the reader does waits for it.
	answers sync.Mutex
}

// request is a request in flight, or a notification while it is handled. Being
// in the table of requests is what entitles to the one answer.
type request struct {
	message
	conn   *jsonrpc2.Conn
	row    *method
	number int64 // in the order of the client's messages
	began  time.Time
	ctx    context.Context
	cancel context.CancelCauseFunc
	after  func() // runs when the answer is queued

	// Of generate and model/load.
	generation *generation
	session    string // of the generation
	model      string // as it was asked for
	waiting    bool   // counted in conn.queued; guarded by conn.mu
	stage      stage  // guarded by conn.mu, as is left
	left       bool   // it is answered
	progress   *progress

	turns []*turn // places in lines, given up with the answer at the latest
}

// lineUp takes a place on behalf of a request. Where bind calls it, on the
// reader's goroutine, the order is that of the messages.
func (r *request) lineUp(l *line) *turn {
	t := l.join()
	r.turns = append(r.turns, t)
	return t
}

// Why a request's context is done.
var (
	errByClient = errors.New("cancelled by the client")
	errEnding   = errors.New("the server is ending")
)

func newConn(agent Agent, s *stream, o Options) *conn {
	c := &conn{
		agent: agent, opts: o, stream: s, surface: surface(),
		exited: make(chan struct{}), parent: make(chan int64, 2),
		phase: opening, trace: schema.TraceOff,
		requests: map[string]*request{}, generations: map[string]*request{},
		sessions: map[string]*line{}, questions: map[string]*question{},
		activity: activity{last: schema.AgentStatus{State: schema.AgentIdle}},
	}
	s.answered = c.answered
	c.log = slog.New(clientLog{o.Log.Handler(), c})
	c.ctx, c.stop = context.WithCancelCause(context.Background())
	return c
}

// Handle implements jsonrpc2.Handler for the message that the stream has just
// returned.
func (c *conn) Handle(_ context.Context, conn *jsonrpc2.Conn, _ *jsonrpc2.Request) {
	c.came++
	r := &request{message: c.stream.current, conn: conn, number: c.came, began: time.Now()}
	c.stream.current = message{}
	r.row = byName[r.method]
	r.ctx, r.cancel = context.WithCancelCause(c.ctx)
	select {
	case <-c.exited:
		r.cancel(errEnding)
		return
	default:
	}
	if err := c.enter(r); err != nil {
		// Not in the tables, so answered from here.
		r.cancel(err)
		if r.id == nil {
			c.log.Debug("notification ignored", "method", clip(r.method), "err", err)
			return
		}
		c.stream.out.add(item{body: appendError(nil, r.id, err), atOnce: true})
		return
	}
	run, err := c.bind(r)
	r.params = nil // and with it the body
	switch {
	case err != nil:
		c.leave(r, nil, err)
	case r.row.inline:
		c.work(r, run)
	default:
		go c.work(r, run)
	}
}

// enter puts a message into the tables unless it is out of turn or too much.
func (c *conn) enter(r *request) *schema.Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.turn(r); err != nil {
		return err
	}
	if r.id == nil {
		c.active++
		return nil
	}
	if c.requests[r.key] != nil {
		return invalid("a request with id %s is in flight", r.id)
	}
	if err := c.room(r); err != nil {
		return err
	}
	c.requests[r.key] = r
	c.active++
	return nil
}

// room claims what a request needs until it is answered, unless there is too
// little left. What is done at once needs nothing.
func (c *conn) room(r *request) *schema.Error {
	if r.row.inline {
		return nil
	}
	if len(c.requests) >= c.opts.Limits.MaxInFlight {
		return schema.Overloaded(retryAfterMS, "%d requests are in flight", len(c.requests))
	}
	// What is decoded from a body may be as large, or larger.
	if c.bodies+int64(r.size) > maxBodies*c.opts.Limits.MaxMessageBytes {
		return schema.Overloaded(retryAfterMS, "%d bytes of requests are in flight", c.bodies)
	}
	if err := c.unread(); err != nil {
		return err
	}
	c.bodies += int64(r.size)
	return nil
}

// maxBodies is how many of the largest messages may be in flight together.
const maxBodies = 4

// unread is the error of a request that would add to too much.
func (c *conn) unread() *schema.Error {
	if n := c.stream.out.pending(); n > overloadBytes {
		return schema.Overloaded(retryAfterMS, "%d bytes wait for the client to read them", n)
	}
	return nil
}

// retryAfterMS is what an overloaded client is told to wait: about the time of
// a short answer.
const retryAfterMS = 1000

// turn says whether a message may come now, and as what it came.
func (c *conn) turn(r *request) *schema.Error {
	first := r.row != nil && r.row.when == opening
	switch {
	case r.row != nil && r.row.when == always:
	case c.phase == opening && !first:
		return schema.Errorf(schema.KindNotInitialized, "%s before initialize", clip(r.method))
	case c.phase == closing:
		return invalid("%s after shutdown", clip(r.method))
	case r.row == nil:
		return schema.Errorf(schema.KindMethodNotFound, "no method %q", clip(r.method))
	case first && c.phase != opening:
		return invalid("initialize stands twice")
	}
	switch {
	case r.row.kind == notify && r.id != nil:
		return invalid("%s is a notification: send it without an id", r.method)
	case r.row.kind == call && r.id == nil:
		return invalid("%s is a request: send it with an id", r.method)
	}
	return nil
}

// bind decodes and claims on behalf of a request that is in the tables.
func (c *conn) bind(r *request) (run work, err error) {
	defer c.guard(r, &err)
	return r.row.bind(c, r, r.params)
}

// work runs a request to its end and answers it.
func (c *conn) work(r *request, run work) {
	result, err := func() (result any, err error) {
		defer c.guard(r, &err)
		return run(r.ctx)
	}()
	c.leave(r, result, err)
	if r.after != nil {
		r.after()
	}
}

// guard turns a panic into an error of the request that it happened in.
func (c *conn) guard(r *request, err *error) {
	if p := recover(); p != nil {
		*err = c.internal(r, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	}
}

// internal logs what the client is not told and returns what it is.
func (c *conn) internal(r *request, log ...any) *schema.Error {
	id := strings.ToLower(rand.Text()[:8])
	c.log.Error("internal error", append([]any{"errorId", id, "method", r.method}, log...)...)
	e := schema.Errorf(schema.KindInternal, "internal error %s; the server's log has the cause", id)
	e.Data.ErrorID = id
	return e
}

// leave answers a request and takes it out of the tables, in the order that a
// client may rely on: the last notification of a generation comes before its
// answer, and once the answer is read the ids are free.
func (c *conn) leave(r *request, result any, err error) {
	if r.progress != nil {
		r.progress.end()
	}
	if r.generation != nil {
		r.generation.finish()
	}
	if r.row.query {
		// A client that does not read may have asked for more than there is room
		// for, when there was room. It can ask again.
		c.answers.Lock()
		defer c.answers.Unlock()
		if full := c.unread(); full != nil && err == nil {
			err = full
		}
	}
	var response jsonrpc2.Response
	if r.id != nil {
		response = c.response(r, result, err)
	} else if err != nil {
		c.log.Info("notification failed", "method", r.method, "err", err)
	}
	c.mu.Lock()
	if r.id != nil {
		delete(c.requests, r.key)
	}
	if !r.row.inline {
		c.bodies -= int64(r.size)
	}
	if r.generation != nil {
		delete(c.generations, r.generation.id)
	}
	if r.waiting {
		r.waiting = false
		c.queued--
	}
	c.note(r, waiting, err)
	r.left = true
	trace := c.trace
	c.mu.Unlock()
	r.cancel(nil)
	if r.id != nil {
		c.send(r, &response)
		if trace != schema.TraceOff {
			c.traceRequest(r, &response, trace)
		}
	}
	for _, t := range r.turns {
		t.pass()
	}
	c.leaveSession(r)
	c.settle()
}

// send queues an answer.
func (c *conn) send(r *request, response *jsonrpc2.Response) {
	if r.row.inline {
		c.stream.out.add(item{body: appendResponse(nil, response), atOnce: true})
		return
	}
	if err := r.conn.SendResponse(context.Background(), response); err != nil {
		c.log.Debug("answer lost", "method", r.method, "err", err)
	}
}

// settle counts a request as done.
func (c *conn) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.active--; c.active > 0 {
		return
	}
	for _, waiter := range c.idle {
		close(waiter)
	}
	c.idle = nil
}

// whenIdle returns a channel that is closed when no request is in flight.
func (c *conn) whenIdle() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	waiter := make(chan struct{})
	if c.active == 0 {
		close(waiter)
	} else {
		c.idle = append(c.idle, waiter)
	}
	return waiter
}

// inFlight is the number of requests that are not answered.
func (c *conn) inFlight() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.requests)
}

func (c *conn) response(r *request, result any, err error) jsonrpc2.Response {
	response := jsonrpc2.Response{ID: jsonrpc2.ID{Str: string(r.id), IsString: true}}
	if err == nil {
		var body json.RawMessage
		if body, err = schema.Encode(result); err == nil {
			response.Result = &body
			return response
		}
	}
	response.Error = wireError(c.failure(r, err))
	return response
}

// failure is what the client is told of an error: what says so itself, the
// cancellation that it asked for or has to expect, and otherwise only where to
// look it up.
func (c *conn) failure(r *request, err error) *schema.Error {
	var e *schema.Error
	if errors.As(err, &e) {
		return e
	}
	if errors.Is(err, context.Canceled) {
		switch cause := context.Cause(r.ctx); {
		case errors.Is(cause, errByClient):
			return schema.Errorf(schema.KindCancelled, "%s: %v", r.method, cause)
		case errors.Is(cause, errEnding):
			return schema.Errorf(schema.KindServerCancelled, "%s: %v", r.method, cause)
		}
	}
	return c.internal(r, "err", err)
}

// notify queues a notification.
func (c *conn) notify(name string, params any) {
	c.stream.out.add(item{body: notification(name, params)})
}

func notification(name string, params any) []byte {
	return appendNotification(nil, name, encoded(params))
}

// encoded is a value of a type of ours, which JSON has a form for unless an agent
// puts raw text into it that is none.
func encoded(v any) []byte {
	text, err := schema.Encode(v)
	if err != nil {
		return []byte("null")
	}
	return text
}

// traceRequest tells of a request and its answer, never of what is in them.
func (c *conn) traceRequest(r *request, response *jsonrpc2.Response, trace schema.TraceValue) {
	p := schema.LogTraceParams{
		Message: fmt.Sprintf("%s (%s) answered after %s", r.method, r.id, time.Since(r.began).Round(time.Millisecond)),
	}
	answer := 0
	if failed := response.Error; failed != nil {
		p.Message += fmt.Sprintf(" with error %d: %s", failed.Code, failed.Message)
	} else {
		answer = len(*response.Result)
	}
	if trace == schema.TraceVerbose {
		p.Verbose = fmt.Sprintf("request %d bytes, result %d bytes, %d others in flight", r.size, answer, c.inFlight())
	}
	c.stream.out.add(item{body: notification("$/logTrace", p), atOnce: r.row.inline})
}

// clip shortens a name that the client made up, for use in a message.
func clip(name string) string {
	const most = 64
	if len(name) <= most {
		return name
	}
	return strings.ToValidUTF8(name[:most], "") + "…"
}
