package agent

import (
	"fmt"
	"math"
	"unicode/utf8"

	"harmonyd/engine/job"
	"harmonyd/schema"
)

// Bounds of GenerateParams.Stop, as the schema publishes them.
const (
	maxStops      = 16
	maxStopLength = 1024 // in characters
)

// checkGenerate reports all members of p that break a rule, or the first one
// that asks for what is not there. The wire has checked most of this; callers
// in this process have not.
func checkGenerate(p *schema.GenerateParams) error {
	if err := exactlyOne("prompt", p.Prompt, p.Messages); err != nil {
		return err
	}
	var bad []schema.FieldError
	add := func(path, format string, args ...any) {
		bad = append(bad, schema.FieldError{InstancePath: path, Message: fmt.Sprintf(format, args...)})
	}
	if p.MaxTokens < 0 || p.MaxTokens > math.MaxInt32 {
		add("/maxTokens", "got %d, want 1 to %d", p.MaxTokens, math.MaxInt32)
	}
	checkSampling(&p.Sampling, add)
	if len(p.Stop) > maxStops {
		add("/stop", "got %d strings, want at most %d", len(p.Stop), maxStops)
	}
	for i, s := range p.Stop {
		if n := utf8.RuneCountInString(s); n < 1 || n > maxStopLength {
			add(fmt.Sprintf("/stop/%d", i), "got %d characters, want 1 to %d", n, maxStopLength)
		} else if !utf8.ValidString(s) { // text would be cut within a character
			add(fmt.Sprintf("/stop/%d", i), "is not UTF-8")
		}
	}
	switch p.Priority {
	case "", schema.PriorityInteractive, schema.PriorityBackground:
	default:
		add("/priority", "got %q, want interactive or background", p.Priority)
	}
	switch p.ContextOverflow {
	case "", schema.OverflowError, schema.OverflowTruncateMiddle, schema.OverflowRollingWindow:
	default:
		add("/contextOverflow", "got %q, want error, truncateMiddle or rollingWindow", p.ContextOverflow)
	}
	if len(bad) > 0 {
		return schema.InvalidParams(bad...)
	}
	return checkSupported(p)
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

func checkSampling(s *schema.Sampling, add func(path, format string, args ...any)) {
	for _, r := range []struct {
		name     string
		value    *float64
		min, max float64
	}{
		{"temperature", s.Temperature, 0, 100},
		{"topP", s.TopP, 0, 1},
		{"minP", s.MinP, 0, 1},
		{"repetitionPenalty", s.RepetitionPenalty, 0.01, 100},
	} {
		// NaN is in no range, hence the negation.
		if r.value != nil && !(*r.value >= r.min && *r.value <= r.max) {
			add("/sampling/"+r.name, "got %v, want %v to %v", *r.value, r.min, r.max)
		}
	}
	if s.TopK != nil && (*s.TopK < 0 || *s.TopK > math.MaxInt32) {
		add("/sampling/topK", "got %d, want 0 to %d", *s.TopK, math.MaxInt32)
	}
	if s.Seed != nil && *s.Seed < 0 {
		add("/sampling/seed", "got %d, want 0 or more", *s.Seed)
	}
}

// checkSupported refuses by name what a client asked for and would not get.
// Registered tools that a request does not name are no part of it yet: a model
// never sees them, and so never calls them.
func checkSupported(p *schema.GenerateParams) error {
	switch {
	case p.Tools != nil && len(*p.Tools) > 0:
		return schema.Unsupported("tools", "/tools: generations with tools are not supported yet")
	case p.ToolChoice != nil && p.ToolChoice.Mode != schema.ToolChoiceNone:
		return schema.Unsupported("toolChoice", "/toolChoice: generations with tools are not supported yet; none is")
	case p.ToolMode != "" && p.ToolMode != schema.ToolNone:
		return schema.Unsupported("toolMode", "/toolMode: generations with tools are not supported yet; none is")
	case p.ResponseFormat != nil && p.ResponseFormat.Type != schema.FormatText:
		return schema.Unsupported("responseFormat", "/responseFormat: %q is not supported yet; text is", p.ResponseFormat.Type)
	case p.ContextOverflow != "" && p.ContextOverflow != schema.OverflowError:
		return schema.Unsupported("contextOverflow", "/contextOverflow: %q is not supported yet; error is", p.ContextOverflow)
	case p.Sampling.RepetitionPenalty != nil && *p.Sampling.RepetitionPenalty != 1:
		return schema.Unsupported("sampling.repetitionPenalty", "/sampling/repetitionPenalty: is not supported yet; 1 is")
	}
	return nil
}

// jobRequest is p as an engine knows it.
func jobRequest(p *schema.GenerateParams, model string, ids []int32) job.Request {
	r := job.Request{
		ID:        p.GenerationID,
		Model:     model,
		Prompt:    ids,
		MaxTokens: p.MaxTokens,
		Priority:  job.Interactive,
		Sampling: job.Sampling{
			Temperature: float32(value(p.Sampling.Temperature)),
			TopP:        float32(value(p.Sampling.TopP)),
			TopK:        value(p.Sampling.TopK),
			MinP:        float32(value(p.Sampling.MinP)),
			Seed:        uint64(value(p.Sampling.Seed)),
			HasSeed:     p.Sampling.Seed != nil,
		},
	}
	if p.Priority == schema.PriorityBackground {
		r.Priority = job.Background
	}
	return r
}

// value is *p, or zero, which turns the option off.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
