// Package rpc serves an Agent to one client over a pair of byte streams in
// JSON-RPC 2.0. It frames, checks, dispatches and answers messages, batches
// what generations say, and owns the life of the process that serves.
//
// What it must never do: make the reader wait for the writer, answer a request
// twice or not at all, close the connection over a bad message, or know what
// is behind the Agent.
//
// A message comes in through frame.go (bytes to bodies), message.go (bodies to
// requests), stream.go (what jsonrpc2.Conn sees) and conn.go (dispatch), where
// a row of methods.go says what is done and line.go what has to wait for what. It
// goes out through conn.go (responses) or batch.go and delta.go (notifications of generations)
// and writer.go. Start with Serve in server.go.
package rpc
