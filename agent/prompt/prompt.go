// Package prompt turns a conversation into the token ids that a model reads.
// What users, tools and earlier answers say is data: it must never become a
// control token, whatever it looks like and whatever the model's template does
// with it.
//
// Start with Renderer.
package prompt

import (
	"fmt"
	"sync"
	"time"

	"harmonyd/schema"
)

// Tokenizer is what a Renderer needs of a model's tokenizer.
type Tokenizer interface {
	// Encode returns the ids of text. Where special is set, the literals of
	// control tokens in text become those tokens.
	Encode(text string, special bool) ([]int32, error)
	// EncodePlain is Encode with control tokens, but for the literals that have
	// a byte in one of the ranges [from, to) of plain: they are ordinary text, of
	// one piece with what stands around them. Ranges are in order and apart;
	// without any it is Encode(text, true).
	EncodePlain(text string, plain [][2]int) ([]int32, error)
	// SpecialLiterals are the texts that Encode turns into control tokens.
	SpecialLiterals() []string
}

// Template is a model's chat template. Render takes a JSON object and keeps the
// order of its keys; a zero now is the present.
type Template interface {
	Render(context []byte, now time.Time) (string, error)
}

// Renderer renders conversations for one model through its chat template. It
// is safe for concurrent use where its Tokenizer and Template are.
type Renderer struct {
	tokenizer Tokenizer
	template  Template
	literals  *literals
	control   map[int32]bool // the ids of the control tokens
	once      sync.Once
	able      abilities // valid after once
}

// New returns a Renderer. A template of nil is a model without one: Render
// then refuses, because no format can be guessed that such a model was trained
// on; a client sends it a raw prompt instead.
func New(tokenizer Tokenizer, template Template) (*Renderer, error) {
	r := &Renderer{tokenizer: tokenizer, template: template, control: make(map[int32]bool)}
	var known []string
	for _, text := range tokenizer.SpecialLiterals() {
		ids, err := tokenizer.Encode(text, true)
		if err != nil {
			return nil, fmt.Errorf("control token %q: %w", text, err)
		}
		// A literal of several ids is no control token but text that Encode
		// happens to split.
		if len(ids) == 1 {
			r.control[ids[0]] = true
			known = append(known, text)
		}
	}
	r.literals = newLiterals(known)
	return r, nil
}

// Render returns the ids of a conversation, ending where the model is to
// answer. Where messages hold nothing that looks like a control token, these
// are the ids of the rendered text. Errors are *schema.Error: unsupported for a
// kind of message or part that cannot be rendered, request_failed where the
// template refuses the conversation, invalid_params where a message has a
// control token in it that the template does not merely pass through.
func (r *Renderer) Render(messages []schema.Message) ([]int32, error) {
	if r.template == nil {
		return nil, schema.Unsupported("messages", "the model has no chat template; send prompt instead of messages")
	}
	for i := range messages {
		if err := check(&messages[i], i); err != nil {
			return nil, err
		}
		if len(messages[i].ToolCalls) > 0 {
			return nil, schema.Unsupported("toolCalls", "/messages/%d/toolCalls: WithTools was not asked", i)
		}
	}
	return r.encode(variablesOf(Chat{Messages: messages}, form{}), time.Time{})
}

// encode returns the ids of what the template makes of v.
func (r *Renderer) encode(v variables, now time.Time) ([]int32, error) {
	if err := r.refuseCharacters(v); err != nil {
		return nil, err
	}
	var text string
	var spans []span
	// The second try is for a template that shows the time.
	for ok, try := false, 0; !ok; try++ {
		if try == 2 {
			return nil, r.refusal(v)
		}
		var err error
		if text, err = r.render(v, now); err != nil {
			return nil, err
		}
		spans, ok = r.controlSpans(v, now, text)
	}
	plain, ok := r.plain(text, spans)
	if !ok {
		return nil, r.refusal(v)
	}
	ids, err := r.tokenizer.EncodePlain(text, plain)
	if err != nil {
		return nil, err
	}
	// The last line of defence: a tokenizer whose normalizer or vocabulary makes
	// a control token out of ordinary text.
	n := 0
	for _, id := range ids {
		if r.control[id] {
			n++
		}
	}
	if n > len(spans) {
		return nil, schema.InvalidParam("/messages", "the text becomes %d control tokens of the model and the chat template wrote %d", n, len(spans))
	}
	return ids, nil
}

// check refuses a message, the ith, that no model of this package understands.
func check(m *schema.Message, i int) error {
	at := fmt.Sprintf("/messages/%d", i)
	switch m.Role {
	case schema.RoleSystem, schema.RoleUser, schema.RoleAssistant, schema.RoleTool:
	case schema.RoleDeveloper:
		return schema.Unsupported("role developer", "%s/role: messages of the developer are not supported by this model", at)
	default:
		return schema.InvalidParam(at+"/role", "got %q, want system, user, assistant or tool", m.Role)
	}
	for j := range m.Content {
		if t := m.Content[j].Type; t != schema.PartText {
			return schema.Unsupported("content part "+string(t), "%s/content/%d: parts of type %q are not supported by this model", at, j, t)
		}
	}
	return nil
}

func (r *Renderer) render(v variables, now time.Time) (string, error) {
	text, err := r.template.Render(v.json(nil), now)
	if err != nil {
		e := schema.Errorf(schema.KindRequestFailed, "chat template: %v", err)
		e.Data.Cause = err.Error()
		return "", e
	}
	return text, nil
}
