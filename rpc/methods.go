package rpc

import (
	"context"
	"reflect"

	"harmonyd/schema"
)

// method is one row: all there is to know about a method of the client's.
type method struct {
	name string
	doc  string
	kind kind
	when phase
	// inline methods run on the reader's goroutine before the next message is
	// read, so they must be quick; the others run on goroutines of their own.
	inline bool
	// A query changes nothing. Where its answer has no room, the client is told to
	// ask again.
	query          bool
	params, result reflect.Type
	// bind decodes params and claims what the method needs, on the reader's
	// goroutine, and returns the work.
	bind func(c *conn, r *request, params []byte) (work, error)
}

type work func(ctx context.Context) (any, error)

// kind says whether a method is answered.
type kind int

const (
	call   kind = iota // a request
	notify             // a notification
	either             // what the client makes it
)

// phase is how far a connection has come. As a method's when it is the phase
// that the method belongs to.
type phase int

const (
	ready   phase = iota // after initialize
	opening              // before it
	closing              // after shutdown
	always               // any of them
)

// methods is the table of what a client may send.
var methods = []method{
	begin("initialize", "Opens the connection.", call, (*conn).initialize).during(opening).now(),
	row("initialized", "Says that the client has read initialize's result.", notify, (*conn).ignore).now(),
	begin("shutdown", "Cancels what runs; only exit may follow.", call, (*conn).shutdown).now(),
	row("exit", "Ends the process.", notify, (*conn).exit).during(always).now(),
	row("$/cancelRequest", "Ends a request early.", notify, (*conn).cancelRequest).now(),
	row("$/setTrace", "Sets how much $/logTrace tells.", notify, (*conn).setTrace).now(),
	row("models/list", "Lists the installed models.", call, (*conn).modelsList).asking(),
	begin("model/load", "Brings a model into memory.", call, (*conn).modelLoad),
	begin("model/unload", "Frees a model's memory.", call, (*conn).modelUnload),
	row("tokens/count", "Counts the tokens of a text or a conversation.", call, (*conn).tokensCount).asking(),
	row("session/new", "Opens a conversation that the server keeps.", call, (*conn).sessionNew),
	begin("session/close", "Ends what a session generates, and forgets it.", call, (*conn).sessionClose).now(),
	row("session/load", "Opens a session over a conversation that was kept.", call, (*conn).sessionLoad),
	row("session/list", "Lists the conversations that were kept.", call, (*conn).sessionList).asking(),
	row("session/fork", "Copies a session as it is after its finished turns.", call, (*conn).sessionFork).now(),
	row("session/settings", "Says what settings are in force in a session, and why.", call, (*conn).sessionSettings).asking(),
	begin("generate", "Generates, and streams while it does.", call, (*conn).generate),
	begin("cancel", "Ends generations early.", either, (*conn).cancel).now(),
	begin("tool-register", "Registers tools for later generations.", call, (*conn).toolRegister),
	begin("tools/register", "The same as tool-register.", call, (*conn).toolRegister),
	begin("tools/unregister", "Takes registered tools away.", call, (*conn).toolsUnregister),
	begin("tools/setEnabled", "Switches registered tools off or on.", call, (*conn).toolsSetEnabled),
	begin("tools/list", "Lists the registered tools.", call, (*conn).toolsList).asking(),
	row("tool/progress", "Tells how far a tool/call has got.", notify, (*conn).toolProgress).now(),
}

// emitted is one row: a request or notification of the server's.
type emitted struct {
	name   string
	doc    string
	params reflect.Type
	result reflect.Type // nil of a notification
}

// questions is the table of what the server asks the client.
var questions = []emitted{
	pose[schema.ToolCallParams, schema.ToolResult]("tool/call", "Asks the client to run a tool that a generation calls."),
	pose[schema.ToolApproveParams, schema.ToolApproveResult]("tool/approve", "Asks a person whether a tool may be called."),
}

// notifications is the table of what the server sends unasked.
var notifications = []emitted{
	emit[schema.GenerateDelta]("generate/delta", "New text of a generation."),
	emit[schema.GenerateStatus]("generate/status", "A generation reached another stage."),
	emit[schema.GenerateToolCall]("generate/toolCall", "A generation calls a tool, or a call got further."),
	emit[schema.AgentStatus]("agent/status", "The server as a whole does something else than before."),
	emit[schema.CancelRequestParams]("$/cancelRequest", "A request of the server's needs no answer any more."),
	emit[schema.ProgressParams]("$/progress", "Progress, where a workDoneToken asked for it."),
	emit[schema.LogMessageParams]("window/logMessage", "A warning for the client's log."),
	emit[schema.LogTraceParams]("$/logTrace", "A line for each request, where trace is on."),
}

// byName finds a row. Names match exactly.
var byName = func() map[string]*method {
	rows := make(map[string]*method, len(methods))
	for i := range methods {
		rows[methods[i].name] = &methods[i]
	}
	return rows
}()

// row makes a method of a function that needs its params and nothing else.
func row[P, R any](name, doc string, k kind, fn func(*conn, context.Context, P) (R, error)) method {
	return begin(name, doc, k, func(c *conn, _ *request, p P) (func(context.Context) (R, error), error) {
		return func(ctx context.Context) (R, error) { return fn(c, ctx, p) }, nil
	})
}

// begin makes a method of a function that is called on the reader's goroutine,
// where it may claim what later messages can name, and returns the rest.
func begin[P, R any](name, doc string, k kind, fn func(*conn, *request, P) (func(context.Context) (R, error), error)) method {
	return method{
		name: name, doc: doc, kind: k,
		params: reflect.TypeFor[P](), result: reflect.TypeFor[R](),
		bind: func(c *conn, r *request, params []byte) (work, error) {
			if params == nil {
				params = []byte("{}")
			}
			var p P
			if err := schema.Decode(params, &p); err != nil {
				return nil, err
			}
			run, err := fn(c, r, p)
			if err != nil {
				return nil, err
			}
			return func(ctx context.Context) (any, error) { return run(ctx) }, nil
		},
	}
}

func (m method) during(p phase) method {
	m.when = p
	return m
}

func (m method) now() method {
	m.inline = true
	return m
}

func (m method) asking() method {
	m.query = true
	return m
}

func emit[P any](name, doc string) emitted {
	return emitted{name: name, doc: doc, params: reflect.TypeFor[P]()}
}

func pose[P, R any](name, doc string) emitted {
	e := emit[P](name, doc)
	e.result = reflect.TypeFor[R]()
	return e
}

// surface is what initialize says of the tables.
func surface() schema.ServerHarmonyd {
	h := schema.ServerHarmonyd{ProtocolVersion: schema.Version, Stream: defaultStream()}
	for i := range methods {
		h.Methods = append(h.Methods, methods[i].name)
	}
	for i := range questions {
		h.Requests = append(h.Requests, questions[i].name)
	}
	for i := range notifications {
		h.Notifications = append(h.Notifications, notifications[i].name)
	}
	return h
}
