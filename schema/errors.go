package schema

import (
	"fmt"
	"strings"
)

// Kind names an error for programs. Clients branch on it, not on the code:
// codes are shared by several kinds and by other protocols.
type Kind string

// The kinds of error.
const (
	KindParse           Kind = "parse_error"
	KindInvalidRequest  Kind = "invalid_request"
	KindMethodNotFound  Kind = "method_not_found"
	KindInvalidParams   Kind = "invalid_params"
	KindInternal        Kind = "internal"
	KindNotInitialized  Kind = "not_initialized"
	KindCancelled       Kind = "cancelled"
	KindServerCancelled Kind = "server_cancelled"
	KindRequestFailed   Kind = "request_failed"
	KindOverloaded      Kind = "overloaded"
	KindModelNotFound   Kind = "model_not_found"
	KindModelLoadFailed Kind = "model_load_failed"
	KindContextOverflow Kind = "context_overflow"
	KindSessionNotFound Kind = "session_not_found"
	KindDuplicateID     Kind = "duplicate_id"
	KindToolConflict    Kind = "tool_conflict"
	KindToolNotFound    Kind = "tool_not_found"
	KindToolSchema      Kind = "tool_schema_invalid"
	KindEngine          Kind = "engine_error"
	KindUnsupported     Kind = "unsupported"
	KindOutOfMemory     Kind = "out_of_memory"
)

// ErrorCode is one row of the table of errors.
type ErrorCode struct {
	// Kind names the error for programs.
	Kind Kind
	// Code is the JSON-RPC error code.
	Code int64
	// Retryable says that the same request may succeed later. An error of this
	// kind can say otherwise for itself.
	Retryable bool
	// Meaning says when the error is answered.
	Meaning string
}

// ErrorCodes is the table of all errors that the server answers. Codes of our
// own lie outside the range that JSON-RPC reserves and the part of it that MCP
// and LSP use with meanings that conflict.
var ErrorCodes = []ErrorCode{
	{KindParse, -32700, false, "the message is no JSON, or its header cannot be read"},
	{KindInvalidRequest, -32600, false, "the message is JSON but no request: batch, bad id, duplicate member, too large, too deep, or out of turn"},
	{KindMethodNotFound, -32601, false, "no such method"},
	{KindInvalidParams, -32602, false, "params break the method's rules; data.errors names the places"},
	{KindInternal, -32603, false, "the server is at fault; data.errorId names the entry in its log"},
	{KindNotInitialized, -32002, false, "a request before initialize"},
	{KindCancelled, -32800, false, "the client cancelled the request; generate answers a result instead"},
	{KindServerCancelled, -32802, true, "the server gave the request up: it shuts down, or the model was unloaded under it"},
	{KindRequestFailed, -32803, false, "the request is well formed and cannot be carried out"},
	{KindOverloaded, -31001, true, "too many requests wait; data.retryAfterMs says when to try again"},
	{KindModelNotFound, -31002, false, "no such model; data.available lists the installed ones"},
	{KindModelLoadFailed, -31003, false, "the model cannot be loaded; data.cause says why"},
	{KindContextOverflow, -31004, false, "the prompt leaves no room in the model's context"},
	{KindSessionNotFound, -31005, false, "no session of this id is open"},
	{KindDuplicateID, -31006, false, "the generationId is in use"},
	{KindToolConflict, -31007, false, "a tool of this name is registered and replace is not set, or the set is full"},
	{KindToolNotFound, -31007, false, "no tool of this name is registered"},
	{KindToolSchema, -31007, false, "a tool's schema is no usable JSON Schema, or the tool is strict and no grammar holds all of it; data.errors names the places"},
	{KindEngine, -31008, true, "the engine failed while it ran; data.partial holds what was generated"},
	{KindUnsupported, -31009, false, "this model or server lacks data.feature"},
	{KindOutOfMemory, -31010, false, "prompt and answer need more memory than is free; data.fittingTokens of them fit"},
}

// Error is an error as it is answered on the wire.
type Error struct {
	// Code is the JSON-RPC error code.
	Code int64 `json:"code"`
	// Message is for people to read.
	Message string `json:"message"`
	// Data is for programs.
	Data ErrorData `json:"data"`
}

// ErrorData is the part of an error that programs read. Members beyond the
// first two belong to the kinds that the table of errors names.
type ErrorData struct {
	// Kind names the error.
	Kind Kind `json:"kind"`
	// Retryable says that the same request may succeed later.
	Retryable bool `json:"retryable"`
	// RetryAfterMS says when to try again, in milliseconds.
	RetryAfterMS int `json:"retryAfterMs,omitempty"`
	// Errors are the places in params that break a rule, 16 at most.
	Errors []FieldError `json:"errors,omitempty"`
	// ErrorID names the entry in the server's log.
	ErrorID string `json:"errorId,omitempty"`
	// Available lists what could have been named instead.
	Available []string `json:"available,omitempty"`
	// Cause says what is behind the error.
	Cause string `json:"cause,omitempty"`
	// NeededBytes is the memory that was needed.
	NeededBytes int64 `json:"neededBytes,omitempty"`
	// AvailableBytes is the memory that there was.
	AvailableBytes int64 `json:"availableBytes,omitempty"`
	// FittingTokens is the most tokens of prompt and answer that fit into it.
	FittingTokens int `json:"fittingTokens,omitempty"`
	// PromptTokens is the length of the prompt.
	PromptTokens int `json:"promptTokens,omitempty"`
	// ContextLength is the number of tokens that the model holds.
	ContextLength int `json:"contextLength,omitempty"`
	// Feature is what is not supported.
	Feature string `json:"feature,omitempty"`
	// Partial is what a generation had produced when it failed.
	Partial *Partial `json:"partial,omitempty"`
}

// Partial is what a generation had produced when it failed.
type Partial struct {
	// Message is the message so far.
	Message Message `json:"message"`
	// Usage counts what it cost.
	Usage Usage `json:"usage"`
}

// FieldError names one place that breaks a rule.
type FieldError struct {
	// Tool is the tool whose schema is meant, where one is.
	Tool string `json:"tool,omitempty"`
	// InstancePath is the place as a JSON Pointer from params (or from the
	// tool's schema); empty is the whole.
	InstancePath string `json:"instancePath"`
	// Message says what was found and what is wanted.
	Message string `json:"message"`
}

// Error is the message. Whatever wraps an *Error is answered with it.
func (e *Error) Error() string { return e.Message }

// Errorf returns an error of a kind, with the code and retryability that the
// table gives it. A kind that is not in the table becomes internal.
func Errorf(kind Kind, format string, args ...any) *Error {
	for i := range ErrorCodes {
		if c := &ErrorCodes[i]; c.Kind == kind {
			return &Error{
				Code:    c.Code,
				Message: fmt.Sprintf(format, args...),
				Data:    ErrorData{Kind: kind, Retryable: c.Retryable},
			}
		}
	}
	return Errorf(KindInternal, format, args...)
}

// InvalidParams returns an invalid_params error for the given places. The
// message spells out the first.
func InvalidParams(places ...FieldError) *Error {
	e := Errorf(KindInvalidParams, "invalid params%s", describe(places))
	e.Data.Errors = places
	return e
}

// InvalidParam returns an invalid_params error for one place, given as a JSON
// Pointer such as /sampling/topK.
func InvalidParam(path, format string, args ...any) *Error {
	return InvalidParams(FieldError{InstancePath: path, Message: fmt.Sprintf(format, args...)})
}

func describe(places []FieldError) string {
	if len(places) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString(": ")
	if p := places[0]; p.InstancePath != "" {
		b.WriteString(p.InstancePath + ": ")
	}
	b.WriteString(places[0].Message)
	if n := len(places) - 1; n > 0 {
		fmt.Fprintf(&b, " (and %d more)", n)
	}
	return b.String()
}

// Overloaded returns an error that asks to try again.
func Overloaded(retryAfterMS int, format string, args ...any) *Error {
	e := Errorf(KindOverloaded, format, args...)
	e.Data.RetryAfterMS = retryAfterMS
	return e
}

// ModelNotFound returns an error for a model that is not installed.
func ModelNotFound(model string, available []string) *Error {
	e := Errorf(KindModelNotFound, "model %q is not installed", model)
	e.Data.Available = available
	return e
}

// ModelLoadFailed returns an error for a model that cannot be loaded. The two
// sizes are 0 where memory is not the cause.
func ModelLoadFailed(model, cause string, neededBytes, availableBytes int64) *Error {
	e := Errorf(KindModelLoadFailed, "load model %q: %s", model, cause)
	e.Data.Cause = cause
	e.Data.NeededBytes, e.Data.AvailableBytes = neededBytes, availableBytes
	return e
}

// ContextOverflowed returns an error for a prompt that is too long.
func ContextOverflowed(promptTokens, contextLength int) *Error {
	e := Errorf(KindContextOverflow, "the prompt is %d tokens long and the model holds %d", promptTokens, contextLength)
	e.Data.PromptTokens, e.Data.ContextLength = promptTokens, contextLength
	return e
}

// OutOfMemory returns an error for a turn whose prompt and answer, of so many
// tokens together, need more memory than is free. Retryable says that others hold
// memory which they will give back.
func OutOfMemory(tokens, fittingTokens int, neededBytes, availableBytes int64, retryable bool) *Error {
	e := Errorf(KindOutOfMemory, "prompt and answer of %d tokens need %d bytes of memory and %d are free, "+
		"enough for %d tokens", tokens, neededBytes, availableBytes, fittingTokens)
	e.Data.NeededBytes, e.Data.AvailableBytes = neededBytes, availableBytes
	e.Data.FittingTokens, e.Data.Retryable = fittingTokens, retryable
	return e
}

// EngineFailed returns an error for an engine that failed. Partial is nil
// where nothing had been generated.
func EngineFailed(cause string, partial *Partial) *Error {
	e := Errorf(KindEngine, "the engine failed: %s", cause)
	e.Data.Cause, e.Data.Partial = cause, partial
	return e
}

// Unsupported returns an error for a feature that is not there.
func Unsupported(feature, format string, args ...any) *Error {
	e := Errorf(KindUnsupported, format, args...)
	e.Data.Feature = feature
	return e
}

// ToolSchemaInvalid returns an error for tools whose schemas cannot be used.
func ToolSchemaInvalid(places ...FieldError) *Error {
	e := Errorf(KindToolSchema, "invalid tool schema%s", describe(places))
	e.Data.Errors = places
	return e
}
