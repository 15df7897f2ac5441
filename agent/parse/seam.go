package parse

import "strings"

// Piece is what package agent takes of an answer: of the kinds of parts it knows
// text and finished calls.
type Piece = Part

// The marks of the Hermes format.
const (
	HermesOpen  = "<tool_call>"
	HermesClose = "</tool_call>"
)

// NewHermes returns a parser of the Hermes format for answers of which nothing is
// known but their text, as models write it that were told of the format by
// prompt.WithTools. It gives out text and finished calls only, and the Raw of a
// call is what stands between the marks.
func NewHermes() Parser {
	h := newHermes(&tagger{}, &toolbox{})
	m := &machine{dialect: h}
	m.reset()
	return &pieces{machine: m}
}

// pieces leaves out the parts that are neither text nor finished calls. White space
// before a call is text here: package agent puts the texts of several answers one
// behind the other.
type pieces struct {
	*machine
	called bool // nothing but markup since a call
}

func (p *pieces) Next(text []byte) []Part            { return p.plain(p.machine.Next(text)) }
func (p *pieces) Token(id int32, text []byte) []Part { return p.plain(p.machine.Token(id, text)) }
func (p *pieces) Flush() []Part                      { return p.plain(p.machine.Flush()) }

func (p *pieces) plain(parts []Part) []Part {
	kept := parts[:0]
	for _, part := range parts {
		switch {
		case part.Kind == Markup && !p.called && strings.TrimSpace(part.Text) == "":
			part.Kind = Text
		case part.Kind == Text:
			p.called = false
		case part.Kind == CallFinished:
			p.called = true
			part.Call.Raw = strings.TrimPrefix(part.Call.Raw, HermesOpen)
		default:
			continue
		}
		kept = append(kept, part)
	}
	return kept
}
