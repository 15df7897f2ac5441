package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"harmonyd/agent/parse"
	"harmonyd/engine/job"
	"harmonyd/schema"
)

// guidance are the options of llguidance for a schema: objects without white space
// that a small model could go on with for ever, and with one spelling of what stands
// between members, so that more tokens are forced.
const (
	spelling = `"x-guidance":{"whitespace_flexible":false,"item_separator":", ","key_separator":": "`
	guidance = spelling + `}`
	lenient  = spelling + `,"lenient":true}`
)

// guided is a schema with options for the grammar. They come last: of two members of
// a name the grammar takes the later one, and a schema's own are not its author's to
// give.
func guided(source []byte, options string) string {
	source = bytes.TrimSpace(source)
	inner := bytes.TrimSpace(bytes.TrimPrefix(source, []byte("{")))
	if !bytes.HasPrefix(source, []byte("{")) || bytes.Equal(inner, []byte("}")) { // true, or empty
		return "{" + options + "}"
	}
	return string(source[:len(source)-1]) + "," + options + "}"
}

// constraint is what the model's next answer is held to: the form of the response, a
// call that must be made, arguments of strict tools. Only the first answer must call.
func (t *turn) constraint(ctx context.Context) (job.Constraint, error) {
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
		return t.formatConstraint(ctx, format)
	case !must && format != nil && (format.Type == schema.FormatRegex || format.Type == schema.FormatLark):
		return job.Constraint{}, schema.Unsupported("responseFormat",
			"/responseFormat: %s does not go with tools; json_schema does", format.Type)
	}
	return t.envelope(ctx, must, format)
}

// formatConstraint is a response format without tools.
func (t *turn) formatConstraint(ctx context.Context, f *schema.ResponseFormat) (job.Constraint, error) {
	c := job.Constraint{Kind: job.JSONSchema, Source: guided(formatSchema(f), guidance)}
	switch f.Type {
	case schema.FormatRegex:
		c = job.Constraint{Kind: job.Regex, Source: f.Source}
	case schema.FormatLark:
		c = job.Constraint{Kind: job.Lark, Source: f.Source}
	}
	if err := t.agent.engine.Check(ctx, t.model.Info.ID, c); err != nil {
		return job.Constraint{}, formatError(f, err)
	}
	return c, nil
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

// envelope is a grammar of answers that call tools, in Lark: text and calls where
// nothing must be called, else calls alone. Without a strict one the arguments of a
// tool are held to as much of its schema as a grammar can hold; they are validated
// afterwards anyway.
func (t *turn) envelope(ctx context.Context, must bool, format *schema.ResponseFormat) (job.Constraint, error) {
	var calls, rules []string
	for i := range t.tools {
		tool := &t.tools[i]
		if must && t.params.ToolChoice.Name != "" && tool.Name != t.params.ToolChoice.Name {
			continue
		}
		source, err := t.arguments(ctx, tool)
		if err != nil {
			return job.Constraint{}, err
		}
		calls = append(calls, fmt.Sprintf("%s args%d", quoted(`{"name": "`+tool.Name+`", "arguments": `), len(rules)))
		rules = append(rules, fmt.Sprintf("args%d: %%json %s", len(rules), source))
	}
	switch {
	case len(calls) > 0:
	case t.params.ToolChoice.Name != "":
		return job.Constraint{}, schema.InvalidParam("/toolChoice", "no tool of this request has the name %q", t.params.ToolChoice.Name)
	default:
		return job.Constraint{}, schema.InvalidParam("/toolChoice", "a tool must be called, and the request has none")
	}
	t.enveloped = true
	open, close := t.grammarMark(parse.HermesOpen), t.grammarMark(parse.HermesClose)
	rules = append(rules, fmt.Sprintf(`call: %s "\n" object "}\n" %s`, open, close), "object: "+strings.Join(calls, " | "))
	several := t.params.ParallelToolCalls == nil || *t.params.ParallelToolCalls
	start := "call"
	if several && (!must || t.params.ToolChoice.Name == "") {
		start = `call ("\n" call)*`
	}
	if !must {
		switch {
		case format != nil:
			start += " | response"
			rules = append(rules, "response: %json "+guided(formatSchema(format), guidance))
		default:
			// What is text ends where a mark stands whole.
			start = "TEXT | TEXT? " + start
			rules = append(rules, fmt.Sprintf("TEXT: /(?s:.+)/ & ~/(?s:.*%s.*)/", parse.HermesOpen))
		}
	}
	c := job.Constraint{Kind: job.Lark, Source: "start: " + start + "\n" + strings.Join(rules, "\n") + "\n"}
	if err := t.agent.engine.Check(ctx, t.model.Info.ID, c); err != nil {
		var refused *job.RequestError
		if errors.As(err, &refused) && format != nil {
			return job.Constraint{}, formatError(format, err)
		}
		return job.Constraint{}, err
	}
	return c, nil
}

// arguments is the schema of a tool's arguments for the grammar: all of it where that
// can be, what can be held of it where the tool is not strict.
func (t *turn) arguments(ctx context.Context, tool *schema.Tool) (string, error) {
	source := guided(tool.InputSchema, guidance)
	err := t.agent.engine.Check(ctx, t.model.Info.ID, job.Constraint{Kind: job.JSONSchema, Source: source})
	var refused *job.RequestError
	switch {
	case err == nil:
		return source, nil
	case !errors.As(err, &refused):
		return "", err
	case tool.Strict:
		return "", schema.ToolSchemaInvalid(schema.FieldError{Tool: tool.Name, InstancePath: "/inputSchema",
			Message: "the tool is strict, and no grammar can hold this: " + refused.Problem})
	}
	return guided(tool.InputSchema, lenient), nil
}

// grammarMark is a mark of the call's format as a grammar names it: a token where the model
// has one.
func (t *turn) grammarMark(literal string) string {
	if slices.Contains(t.model.Tokenizer.SpecialLiterals(), literal) {
		return literal
	}
	return quoted(literal)
}

// quoted is a string of Lark.
func quoted(s string) string { return string(schema.AppendString(nil, s)) }
