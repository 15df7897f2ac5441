package schema

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// InitializeParams opens a connection. It is LSP's InitializeParams as far as
// this server reads it: an LSP client's own params are valid, and what is not
// listed here is ignored.
type InitializeParams struct {
	// ProcessID is the process that started the server. The server exits when
	// that process is gone, even if the pipe stays open elsewhere.
	ProcessID *int64 `json:"processId,omitempty" jsonschema:"minimum=0,maximum=4294967295"`
	// ClientInfo names the client in the log.
	ClientInfo *PeerInfo `json:"clientInfo,omitempty"`
	// Capabilities says what the client can do.
	Capabilities ClientCapabilities `json:"capabilities,omitzero"`
	// Trace is the initial value of $/setTrace.
	Trace TraceValue `json:"trace,omitempty" jsonschema:"enum=off,enum=messages,enum=compact,enum=verbose"`
	// InitializationOptions is configuration by the client's user.
	InitializationOptions InitializationOptions `json:"initializationOptions,omitzero"`
}

// InitializationOptions is configuration by the client's user. On the wire an empty
// array is as good as an empty object: clients in Lua write that.
type InitializationOptions struct {
	// MCPServers are servers of the Model Context Protocol whose tools models may
	// call, by name. This version starts none, and says so in window/logMessage.
	MCPServers json.RawMessage `json:"mcpServers,omitempty"`
}

// PeerInfo names one side of the connection.
type PeerInfo struct {
	// Name is the program's name.
	Name string `json:"name"`
	// Version is the program's version, for people to read.
	Version string `json:"version,omitempty"`
}

// ClientCapabilities is what a client can do. Members of LSP that this server
// has no use for are ignored.
type ClientCapabilities struct {
	// Harmonyd holds the capabilities that are this protocol's own.
	Harmonyd *ClientHarmonyd `json:"harmonyd,omitempty"`
}

// ClientHarmonyd is the client's part of this protocol's capabilities.
type ClientHarmonyd struct {
	// ProtocolVersion is the newest version that the client speaks.
	ProtocolVersion int `json:"protocolVersion,omitempty" jsonschema:"minimum=1,maximum=1000000"`
	// Tools is what the client does for the tools of generations.
	Tools ClientTools `json:"tools,omitzero"`
	// Stream is how the client wants the text of generations batched. What a generate
	// says itself counts before that, member by member.
	Stream StreamPolicy `json:"stream,omitzero"`
}

// ClientTools is what the client does for the tools of generations.
type ClientTools struct {
	// Call says that the client answers tool/call. It makes callback the tool
	// mode of generations that name none.
	Call bool `json:"call,omitempty"`
	// Approve says that the client answers tool/approve. Without it, tools that
	// have to be approved are never called.
	Approve bool `json:"approve,omitempty"`
}

// InitializeResult answers initialize.
type InitializeResult struct {
	// Capabilities says what the server can do.
	Capabilities ServerCapabilities `json:"capabilities"`
	// ServerInfo names the server.
	ServerInfo PeerInfo `json:"serverInfo"`
	// ProtocolVersion is the version of this connection: the client's where the
	// server has it, else the server's newest.
	ProtocolVersion int `json:"protocolVersion"`
	// Limits bounds what the client may send.
	Limits Limits `json:"limits"`
}

// ServerCapabilities is what the server can do, as LSP names it, plus one
// member for all that is this protocol's own.
type ServerCapabilities struct {
	// Harmonyd holds the capabilities that are this protocol's own.
	Harmonyd ServerHarmonyd `json:"harmonyd"`
}

// ServerHarmonyd is the server's part of this protocol's capabilities.
type ServerHarmonyd struct {
	// ProtocolVersion is the version of this connection.
	ProtocolVersion int `json:"protocolVersion"`
	// Methods lists the methods that the server takes, requests and
	// notifications, in the order of the documentation.
	Methods []string `json:"methods"`
	// Requests lists what the server may ask the client.
	Requests []string `json:"requests"`
	// Notifications lists what the server may send.
	Notifications []string `json:"notifications"`
	// Stream is the batching policy of a request that names none: the client's, and
	// the server's where that says nothing.
	Stream StreamPolicy `json:"stream"`
}

// Limits bounds what the server takes. A message beyond MaxMessageBytes or
// MaxDepth is refused with invalid_request; a request beyond MaxInFlight or
// MaxQueuedGenerations is refused with overloaded, and so is one that comes while
// the messages of those in flight are larger than four of MaxMessageBytes. The
// connection stays open.
type Limits struct {
	// MaxMessageBytes bounds the body of one message.
	MaxMessageBytes int64 `json:"maxMessageBytes" jsonschema:"minimum=4096,maximum=4294967296"`
	// MaxHeaderLineBytes bounds one line of a message's header.
	MaxHeaderLineBytes int `json:"maxHeaderLineBytes" jsonschema:"minimum=64,maximum=1048576"`
	// MaxHeaderBytes bounds a message's whole header.
	MaxHeaderBytes int `json:"maxHeaderBytes" jsonschema:"minimum=64,maximum=16777216"`
	// MaxDepth bounds how deeply objects and arrays nest in params.
	MaxDepth int `json:"maxDepth" jsonschema:"minimum=16,maximum=1000"`
	// MaxIDBytes bounds the JSON text of a request id.
	MaxIDBytes int `json:"maxIdBytes" jsonschema:"minimum=32,maximum=65536"`
	// MaxInFlight bounds the requests that wait for their answers.
	MaxInFlight int `json:"maxInFlight" jsonschema:"minimum=1,maximum=65536"`
	// MaxQueuedGenerations bounds the generations that wait for the engine.
	MaxQueuedGenerations int `json:"maxQueuedGenerations" jsonschema:"minimum=1,maximum=65536"`
	// MaxTools bounds the number of registered tools.
	MaxTools int `json:"maxTools" jsonschema:"minimum=1,maximum=4096"`
	// MaxToolBytes bounds the size of all registered tools together.
	MaxToolBytes int `json:"maxToolBytes" jsonschema:"minimum=1024,maximum=67108864"`
	// MaxSessions bounds the sessions that are open.
	MaxSessions int `json:"maxSessions" jsonschema:"minimum=1,maximum=65536"`
}

// Set changes a limit by the name that it has on the wire. It has to be within the
// range that stands next to its field.
func (l *Limits) Set(name string, value int64) error {
	var names []string
	for _, f := range fieldsOf(reflect.TypeFor[Limits]()) {
		if f.name != name {
			names = append(names, f.name)
			continue
		}
		if problem := f.rules.checkNumber(float64(value)); problem != "" {
			return fmt.Errorf("%s: %s", name, problem)
		}
		reflect.ValueOf(l).Elem().Field(f.index).SetInt(value)
		return nil
	}
	return fmt.Errorf("no limit %q: want one of %s", name, strings.Join(names, ", "))
}

// DefaultLimits are the limits of a server that was started without others.
func DefaultLimits() Limits {
	return Limits{
		MaxMessageBytes:      32 << 20,
		MaxHeaderLineBytes:   8 << 10,
		MaxHeaderBytes:       64 << 10,
		MaxDepth:             128,
		MaxIDBytes:           130,
		MaxInFlight:          256,
		MaxQueuedGenerations: 32,
		MaxTools:             256,
		MaxToolBytes:         2 << 20,
		MaxSessions:          256,
	}
}

// CancelRequestParams is LSP's $/cancelRequest: the request with this id is
// to end early. It is answered all the same, as its method says.
type CancelRequestParams struct {
	// ID is the id of the request, a string or an integer.
	ID json.RawMessage `json:"id"`
}

// TraceValue says how much the server tells about its messages.
type TraceValue string

// The trace values. TraceCompact is what some clients send for messages.
const (
	TraceOff      TraceValue = "off"
	TraceMessages TraceValue = "messages"
	TraceCompact  TraceValue = "compact"
	TraceVerbose  TraceValue = "verbose"
)

// SetTraceParams is LSP's $/setTrace.
type SetTraceParams struct {
	// Value is the new trace value.
	Value TraceValue `json:"value" jsonschema:"enum=off,enum=messages,enum=compact,enum=verbose"`
}

// LogTraceParams is LSP's $/logTrace, sent for each request while trace is on.
type LogTraceParams struct {
	// Message is one line about one request.
	Message string `json:"message"`
	// Verbose says more, where trace is verbose.
	Verbose string `json:"verbose,omitempty"`
}

// MessageType is LSP's severity of a log message.
type MessageType int

// The severities.
const (
	MessageError   MessageType = 1
	MessageWarning MessageType = 2
	MessageInfo    MessageType = 3
	MessageLog     MessageType = 4
	MessageDebug   MessageType = 5
)

// LogMessageParams is LSP's window/logMessage: a line for the client's log.
type LogMessageParams struct {
	// Type is the severity.
	Type MessageType `json:"type"`
	// Message is the text.
	Message string `json:"message"`
}

// ProgressToken is a token that the client chose for progress reports: the
// JSON text of a string or an integer, echoed as it came.
type ProgressToken json.RawMessage

// ProgressParams is LSP's $/progress. It is sent only for a workDoneToken that
// a request carried.
type ProgressParams struct {
	// Token is the request's workDoneToken.
	Token ProgressToken `json:"token"`
	// Value is the report.
	Value WorkDoneProgress `json:"value"`
}

// WorkDoneProgress is LSP's work-done progress value. Reports begin with kind
// begin and finish with kind end.
type WorkDoneProgress struct {
	// Kind is begin, report or end.
	Kind string `json:"kind" jsonschema:"enum=begin,enum=report,enum=end"`
	// Title says what is in progress; begin only.
	Title string `json:"title,omitempty"`
	// Cancellable says that cancelling the request ends the work; begin only.
	Cancellable bool `json:"cancellable,omitempty"`
	// Message is the stage of the work.
	Message string `json:"message,omitempty"`
	// Percentage is between 0 and 100 and never falls.
	Percentage *int `json:"percentage,omitempty" jsonschema:"minimum=0,maximum=100"`
}
