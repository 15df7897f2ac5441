// Package parse finds in what a model writes the text for people, the model's
// reasoning and its calls of tools. Models write these in formats of their own,
// one file each here. A parser loses no byte and never gives up: what looks like
// a call and is none becomes a call with a problem, which the model can be told.
// What it makes of an answer does not depend on the pieces in which that arrives.
//
// Start with Detect, which chooses a Format, and Parser.
package parse

import (
	"encoding/json"

	"harmonyd/schema"
)

// Parser takes one answer of a model, token by token. It holds text back while
// that may be a mark of its format: fewer bytes than the longest mark, and up to
// 32 of white space. It is for one goroutine.
type Parser interface {
	// Token takes a token and the text that it completes, as a streaming decoder
	// gives it: nothing for a special token. The parts, which may be none, are valid
	// until the next call.
	Token(id int32, text []byte) []Part
	// Next is Token for text of which no token is known.
	Next(text []byte) []Part
	// Reasons reports whether what comes next is reasoning, as far as it is known.
	Reasons() bool
	// Flush takes the end of the answer and returns what is left. A call that has
	// no end gets a problem. The parser is then as new.
	Flush() []Part
}

// Kind says what a Part is.
type Kind uint8

// The kinds of parts. Text, Reasoning and Markup parts and the Raw of finished
// calls are, one after the other, the answer to the byte.
const (
	// Text is for people.
	Text Kind = iota
	// Reasoning is for the model itself.
	Reasoning
	// Markup is what the format puts around the others, white space included. It
	// belongs to no message.
	Markup
	// CallBegun comes as soon as a call has a name. Some bad calls finish without it.
	CallBegun
	// CallArguments brings more of the arguments of the call that has begun, as
	// JSON. Joined they are Call.Arguments, where it has no problem.
	CallArguments
	// CallFinished ends a call, good or bad.
	CallFinished
)

// Part is a piece of an answer. Neighbours may be of the same kind.
type Part struct {
	Kind Kind
	// Text is what a Text, Reasoning, Markup or CallArguments part says.
	Text string
	// Call is the call of a CallBegun part, which has Index and Name only, or of a
	// CallFinished part.
	Call *Call
}

// Call is a call as a model wrote it.
type Call struct {
	// Index counts the calls of an answer from 0.
	Index int
	// Name is the tool's name; with a problem it may be empty.
	Name string
	// Arguments is a JSON object, in the model's own order of members.
	Arguments json.RawMessage
	// Problem says, for the model to read, what makes this no call and where. Then
	// there are no Arguments.
	Problem string
	// Raw is what the model wrote, from the mark that opens the call on. The mark
	// that closes it is Markup.
	Raw string
}

// Tokenizer is what a parser needs of a model's tokenizer. A nil one means that
// nothing is known of tokens: all marks are then looked for in the text.
type Tokenizer interface {
	// Encode returns the ids of text; where special is set, literals of control
	// tokens become those tokens.
	Encode(text string, special bool) ([]int32, error)
	// SpecialLiterals are the texts that Encode turns into control tokens.
	SpecialLiterals() []string
	// TokenBytes is what a token adds to a text: the literal of a control token.
	TokenBytes(id int32) []byte
}

// Options are what a parser knows of the request. The zero value is usable.
type Options struct {
	// Tools are those that the model was offered. Without any, what looks like a
	// call is text, but for Harmony. Their schemas give arguments of formats
	// without types their types.
	Tools []schema.ToolSpec
	// Prompt is what the answer follows. Its end says whether the answer begins
	// inside of reasoning or of a message's header.
	Prompt []int32
}

// bounds of what is read.
const (
	// maxCall is how many bytes a call may have: some hundred thousand tokens.
	maxCall = 1 << 20
	// maxHeldSpace is how much white space before a mark is the format's.
	maxHeldSpace = 32
	// maxUndecided is how many bytes a text without a mark may have until it is
	// clear whether it is a call.
	maxUndecided = 16 << 10
	// maxDepth bounds the nesting of arguments, as the wire does.
	maxDepth = 128
)
