package rpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"

	"github.com/sourcegraph/jsonrpc2"

	"harmonyd/schema"
)

// stream is the jsonrpc2.ObjectStream between a connection and the wire. The
// connection sees small sound envelopes only: messages that are none are
// answered here, and params and results pass by it as the bytes that they are,
// since jsonrpc2 would sort their members, escape them for HTML and decode
// them three times.
//
// The id that the connection sees is the JSON text of the client's id as a
// string. jsonrpc2 reads numbers into a uint64 and would answer -1 with
// 18446744073709551615.
type stream struct {
	in     *frames
	out    *writer
	closer func() error
	log    *slog.Logger
	// answered takes the responses, on the reader's goroutine.
	answered func(message)

	// current is the message that ReadObject returned last. The connection
	// calls its handler on the same goroutine before it reads on.
	current message
	// outgoing is the response that WriteObject is about to be called with.
	// jsonrpc2 hands that one to it in a type that only marshals.
	outgoing *jsonrpc2.Response

	ended  chan struct{} // closed when the input has come to its end
	closed chan struct{} // closed by Close
	once   sync.Once
}

func newStream(in io.Reader, out io.Writer, o Options, closer func() error) *stream {
	s := &stream{
		in: newFrames(in, o.Limits), closer: closer, log: o.Log,
		ended: make(chan struct{}), closed: make(chan struct{}),
	}
	s.in.glimpsed = s.glimpsed
	s.out = newWriter(out, s.in.framing, o.WriteStall)
	return s
}

// glimpsed finds out of whom an answer is that is passed over: a tool that read a huge file
// has failed, and need not be waited for.
func (s *stream) glimpsed(begin []byte, problem *schema.Error) {
	var m members
	_ = schema.Scan(begin, s.in.limits.MaxDepth, m.add) // which breaks off
	if m.method == nil && m.ids == 1 {
		s.answered(message{id: bytes.Clone(m.id), response: true, problem: problem})
	}
}

// ReadObject waits for the next request or notification. At the end of the
// input it waits for Close: jsonrpc2 answers nothing any more once ReadObject
// has failed, and what was asked before may still want an answer.
func (s *stream) ReadObject(v any) error {
	m, err := s.read()
	if err != nil {
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			s.log.Info("input ended", "err", err)
		}
		close(s.ended)
		<-s.closed
		return io.EOF
	}
	s.current = m
	envelope := append([]byte(`{"method":`), schema.AppendString(nil, m.method)...)
	if m.id != nil {
		envelope = append(envelope, `,"id":`...)
		envelope = schema.AppendString(envelope, m.id)
	}
	return json.Unmarshal(append(envelope, '}'), v)
}

// read returns the next message that can be dispatched.
func (s *stream) read() (message, error) {
	for {
		s.out.waitForRoom()
		body, problem, err := s.in.next()
		if err != nil {
			return message{}, err
		}
		var m message
		if problem == nil {
			m, problem = parse(body, s.in.limits)
		}
		switch {
		case problem != nil:
			s.log.Info("bad message", "err", problem)
			s.out.add(item{body: appendError(nil, m.id, problem), atOnce: true})
		case m.response:
			s.answered(m)
		default:
			return m, nil
		}
	}
}

// sending is jsonrpc2's OnSend hook. It is called under the same lock as the
// WriteObject that follows it.
func (s *stream) sending(_ *jsonrpc2.Request, r *jsonrpc2.Response) { s.outgoing = r }

// WriteObject writes the response that sending has seen. It never waits.
func (s *stream) WriteObject(any) error {
	r := s.outgoing
	s.outgoing = nil
	if r == nil {
		return fmt.Errorf("rpc: only responses go through the connection")
	}
	if err := s.out.failure(); err != nil {
		return err
	}
	s.out.add(item{body: appendResponse(nil, r)})
	return nil
}

// Close closes the descriptors. What was not flushed is lost.
func (s *stream) Close() error {
	var err error
	s.once.Do(func() {
		close(s.closed)
		s.out.fail(io.ErrClosedPipe)
		err = s.closer()
	})
	return err
}

func appendResponse(dst []byte, r *jsonrpc2.Response) []byte {
	dst = append(dst, `{"jsonrpc":"2.0","id":`...)
	dst = append(dst, r.ID.Str...)
	if r.Error == nil {
		dst = append(dst, `,"result":`...)
		dst = append(dst, *r.Result...)
		return append(dst, '}')
	}
	dst = append(dst, `,"error":{"code":`...)
	dst = strconv.AppendInt(dst, r.Error.Code, 10)
	dst = append(dst, `,"message":`...)
	dst = schema.AppendString(dst, r.Error.Message)
	dst = append(dst, `,"data":`...)
	dst = append(dst, *r.Error.Data...)
	return append(dst, `}}`...)
}

// appendError is the answer to a message that is no request. Id is nil where
// it is not known.
func appendError(dst, id []byte, e *schema.Error) []byte {
	if id == nil {
		id = []byte("null")
	}
	return appendResponse(dst, &jsonrpc2.Response{ID: jsonrpc2.ID{Str: string(id)}, Error: wireError(e)})
}

// wireError is e as jsonrpc2 has it.
func wireError(e *schema.Error) *jsonrpc2.Error {
	data, err := schema.Encode(e.Data)
	if err != nil { // a raw message inside that is no JSON
		data = []byte(`{"kind":"internal","retryable":false}`)
	}
	return &jsonrpc2.Error{Code: e.Code, Message: e.Message, Data: (*json.RawMessage)(&data)}
}

func appendNotification(dst []byte, method string, params []byte) []byte {
	dst = append(dst, `{"jsonrpc":"2.0","method":`...)
	dst = schema.AppendString(dst, method)
	dst = append(dst, `,"params":`...)
	dst = append(dst, params...)
	return append(dst, '}')
}
