// Package parse finds in the text that a model writes what is meant for people
// and what is a call of a tool. Models write calls in formats of their own, one
// file each; a parser must never lose a byte, and what it makes of a text must
// not depend on the pieces in which the text arrives.
//
// Start with Parser.
package parse

import "encoding/json"

// Parser takes a model's answer in pieces. It holds text back while that may be
// the beginning of a call. It is not safe for concurrent use.
type Parser interface {
	// Next takes the next piece and returns what is certain now. The result is
	// valid until the next call.
	Next(text []byte) []Piece
	// Flush returns what is left at the end of the answer.
	Flush() []Piece
}

// Piece is a piece of an answer: text for people, or a call.
type Piece struct {
	Text string
	Call *Call
}

// Call is a call as a model wrote it.
type Call struct {
	Name string
	// Arguments is a JSON object in the model's own order of members.
	Arguments json.RawMessage
	// Problem says what makes this no call; then only Raw counts.
	Problem string
	// Raw is what the model wrote, without the marks around it.
	Raw string
}
