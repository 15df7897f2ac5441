package agent

import (
	"fmt"
	"unicode/utf8"

	"harmonyd/engine/job"
	"harmonyd/schema"
)

// checkGenerate reports all members of p that break a rule, or the first one
// that asks for what is not there. The wire has checked most of this; callers
// in this process have not.
func checkGenerate(p *schema.GenerateParams) error {
	if err := exactlyOne("prompt", p.Prompt, p.Messages); err != nil {
		return err
	}
	for i, s := range p.Stop {
		if !utf8.ValidString(s) { // text would be cut within a character
			return schema.InvalidParam(fmt.Sprintf("/stop/%d", i), "is not UTF-8")
		}
	}
	if err := checkRules(*p); err != nil {
		return err
	}
	return checkSupported(p)
}

// checkRules holds p to the rules that stand next to its fields, as the wire
// does: by reading what it would be there. The text is left out, for it is long
// and has no rules that rendering does not check.
func checkRules(p schema.GenerateParams) error {
	if p.Messages != nil {
		p.Messages = []schema.Message{{Role: schema.RoleUser}}
	} else {
		p.Prompt = new(string)
	}
	data, err := schema.Encode(p)
	if err != nil { // such as NaN, which JSON does not have
		return schema.InvalidParam("", "%v", err)
	}
	return schema.Decode(data, new(schema.GenerateParams))
}

// exactlyOne checks that a request has either its text, named name, or
// messages, and that there is something in it.
func exactlyOne(name string, text *string, messages []schema.Message) error {
	switch {
	case text != nil && messages != nil:
		return schema.InvalidParam("", "got both messages and %s, want one of them", name)
	case text == nil && messages == nil:
		return schema.InvalidParam("", "got neither messages nor %s, want one of them", name)
	case text != nil && !utf8.ValidString(*text):
		return schema.InvalidParam("/"+name, "is not UTF-8")
	case messages != nil && len(messages) == 0:
		return schema.InvalidParam("/messages", "is empty")
	}
	return nil
}

// checkSupported refuses by name what a client asked for and would not get.
func checkSupported(p *schema.GenerateParams) error {
	switch {
	case p.Prompt != nil && p.Tools != nil && len(*p.Tools) > 0:
		return schema.InvalidParam("/tools", "a prompt has no tools; give messages")
	case p.Prompt != nil && mustCall(p):
		return schema.InvalidParam("/toolChoice", "a prompt has no tools; give messages")
	case p.Prompt != nil && p.ContextOverflow != "" && p.ContextOverflow != schema.OverflowError:
		return schema.InvalidParam("/contextOverflow", "%q is for messages, of which some may be left out; a prompt is one text", p.ContextOverflow)
	}
	return nil
}

// mustCall reports whether the first answer has to call a tool.
func mustCall(p *schema.GenerateParams) bool {
	return p.ToolChoice != nil && (p.ToolChoice.Name != "" || p.ToolChoice.Mode == schema.ToolChoiceRequired)
}

// jobRequest is p as an engine knows it.
func jobRequest(p *schema.GenerateParams, m *Model, ids []int32) (job.Request, error) {
	s, err := jobSampling(&p.Sampling, m.Tokenizer)
	if err != nil {
		return job.Request{}, err
	}
	r := job.Request{
		ID:        p.GenerationID,
		Model:     m.Info.ID,
		Prompt:    ids,
		MaxTokens: p.MaxTokens,
		Priority:  job.Interactive,
		Sampling:  s,
		Logprobs:  p.Logprobs,
	}
	if p.Priority == schema.PriorityBackground {
		r.Priority = job.Background
	}
	return r, nil
}

// value is *p, or otherwise where there is none.
func value[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
