package agent

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"harmonyd/agent/parse"
	"harmonyd/engine/job"
	"harmonyd/schema"
)

// constraint is what the model's next answer is held to: the form of the response, a
// call that must be made, arguments of strict tools. Only the first answer must call.
func (t *turn) constraint(ctx context.Context, prompt []int32) (job.Constraint, error) {
	format := t.params.ResponseFormat
	if format != nil && format.Type == schema.FormatText {
		format = nil
	}
	must := t.round == t.retried && mustCall(t.params)
	strict := slices.ContainsFunc(t.tools, func(tool schema.Tool) bool { return tool.Strict })
	switch {
	case !must && !strict && format == nil:
		return job.Constraint{}, nil
	case !must && !strict && len(t.tools) == 0:
		return t.formatConstraint(ctx, format, prompt)
	case !must && format != nil && (format.Type == schema.FormatRegex || format.Type == schema.FormatLark):
		return job.Constraint{}, schema.Unsupported("responseFormat",
			"/responseFormat: %s does not go with tools; json_schema does", format.Type)
	}
	return t.envelope(ctx, must, format, prompt)
}

// formatConstraint is a response format without tools. A model that thinks does so
// first.
func (t *turn) formatConstraint(ctx context.Context, f *schema.ResponseFormat, prompt []int32) (job.Constraint, error) {
	c, rule := job.Constraint{Kind: job.JSONSchema, Source: parse.Guided(formatSchema(f))}, ""
	switch f.Type {
	case schema.FormatRegex:
		c = job.Constraint{Kind: job.Regex, Source: f.Source}
		rule = parse.Expression(f.Source)
	case schema.FormatLark:
		c = job.Constraint{Kind: job.Lark, Source: f.Source}
		rule = parse.Nested(f.Source)
	default:
		rule = "%json " + c.Source
	}
	// What is wrong with the format is told of it alone.
	if err := t.agent.engine.Check(ctx, t.model.Info.ID, c); err != nil || t.params.Messages == nil {
		return c, formatError(f, err)
	}
	lark, err := t.model.format.Respond(t.model.Tokenizer, t.asked(prompt), rule)
	if err != nil || lark == "" {
		return c, err
	}
	t.callForm = &t.model.format
	c = job.Constraint{Kind: job.Lark, Source: lark}
	return c, formatError(f, t.agent.engine.Check(ctx, t.model.Info.ID, c))
}

// asked is what a grammar must know of the answer to a prompt.
func (t *turn) asked(prompt []int32) parse.Answer {
	return parse.Answer{Prompt: prompt, Thought: t.before > 0, Stops: t.model.Info.StopIDs}
}

func formatError(f *schema.ResponseFormat, err error) error {
	var refused *job.RequestError
	if !errors.As(err, &refused) {
		return err
	}
	path := "/responseFormat/source"
	if f.Type == schema.FormatJSONSchema || f.Type == schema.FormatJSON {
		path = "/responseFormat/schema"
	}
	return schema.InvalidParam(path, "%s", refused.Problem)
}

// formatSchema is the JSON Schema of a format that is one.
func formatSchema(f *schema.ResponseFormat) []byte {
	if f.Type == schema.FormatJSON {
		return []byte(`{"type":"object"}`)
	}
	return f.Schema
}

// envelope is a grammar of answers that call tools in the format of the model: words and
// calls where nothing must be called, else calls alone, behind what the model thinks.
// Without a strict one the arguments of a tool are held to as much of its schema as a
// grammar can hold; they are validated afterwards anyway.
func (t *turn) envelope(ctx context.Context, must bool, format *schema.ResponseFormat, prompt []int32) (job.Constraint, error) {
	a := t.asked(prompt)
	a.Must = must
	named := ""
	if must {
		named = t.params.ToolChoice.Name
	}
	for i := range t.tools {
		tool := &t.tools[i]
		if named != "" && tool.Name != named {
			continue
		}
		held := tool.Held
		if held == nil {
			held = tool.InputSchema
		}
		a.Tools = append(a.Tools, parse.Callable{Name: tool.Name, Schema: held, Strict: tool.Strict})
	}
	switch {
	case len(a.Tools) > 0:
	case named != "":
		return job.Constraint{}, schema.InvalidParam("/toolChoice", "no tool of this request has the name %q", named)
	default:
		return job.Constraint{}, schema.InvalidParam("/toolChoice", "a tool must be called, and the request has none")
	}
	a.Several = (t.params.ParallelToolCalls == nil || *t.params.ParallelToolCalls) && named == ""
	if !must && format != nil {
		a.Response = formatSchema(format)
	}
	c, err := t.grammar(ctx, a)
	var refused *job.RequestError
	if !errors.As(err, &refused) {
		return c, err
	}
	if a.Response != nil {
		if err := t.agent.engine.Check(ctx, t.model.Info.ID, job.Constraint{Kind: job.JSONSchema, Source: parse.Guided(a.Response)}); err != nil {
			return job.Constraint{}, formatError(format, err)
		}
	}
	if err := t.loosen(ctx, a.Tools); err != nil {
		return job.Constraint{}, err
	}
	if c, err = t.grammar(ctx, a); errors.As(err, &refused) {
		return job.Constraint{}, schema.Unsupported("strict", "/tools: no grammar holds the calls of these tools: %s", refused.Problem)
	}
	return c, err
}

// loosen takes the schemas that no grammar holds for this model, or all where that is
// true of them only together, for those of any object. A strict tool's may not be one.
func (t *turn) loosen(ctx context.Context, tools []parse.Callable) error {
	held := make([]bool, len(tools))
	for i := range tools {
		err := t.agent.engine.Check(ctx, t.model.Info.ID, job.Constraint{Kind: job.JSONSchema, Source: parse.Guided(tools[i].Schema)})
		var refused *job.RequestError
		switch held[i] = err == nil; {
		case err == nil:
		case !errors.As(err, &refused):
			return err
		case tools[i].Strict:
			return schema.ToolSchemaInvalid(schema.FieldError{Tool: tools[i].Name, InstancePath: "/inputSchema",
				Message: "the tool is strict, and no grammar can hold this: " + refused.Problem})
		}
	}
	together := !slices.Contains(held, false)
	for i := range tools {
		if !tools[i].Strict && (together || !held[i]) {
			tools[i].Schema = json.RawMessage(`{"type":"object"}`)
		}
	}
	return nil
}

// grammar makes the constraint of an answer and notes the format that it is written in.
func (t *turn) grammar(ctx context.Context, a parse.Answer) (job.Constraint, error) {
	lark, written, err := t.model.format.Constrain(t.model.Tokenizer, a)
	if err != nil {
		return job.Constraint{}, err
	}
	t.callForm = &written
	c := job.Constraint{Kind: job.Lark, Source: lark}
	return c, t.agent.engine.Check(ctx, t.model.Info.ID, c)
}
