package agent

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/agent/parse"
	"harmonyd/engine/job"
	"harmonyd/schema"
)

// grammarian is an engine that writes down the constraints of its generations and
// refuses what has a word in it.
type grammarian struct {
	scripted
	refused string
	seen    *[]job.Constraint
}

func (g grammarian) Check(_ context.Context, _ string, c job.Constraint) error {
	if g.refused != "" && strings.Contains(c.Source, g.refused) {
		return &job.RequestError{Field: "constraint", Problem: g.refused + " is not supported"}
	}
	return nil
}

func (g grammarian) Start(r job.Request) (Generation, error) {
	*g.seen = append(*g.seen, r.Constraint)
	return g.scripted.Start(r)
}

// constrained has a model write replies and returns what they were held to.
func constrained(t *testing.T, b *box, refused string, change func(p *schema.GenerateParams), replies ...string) ([]job.Constraint, schema.GenerateResult, error) {
	t.Helper()
	var seen []job.Constraint
	a := New(grammarian{newScripted(t, toolScript(replies...)), refused, &seen}, b, Options{})
	p := chat("x")
	change(&p)
	res, err := a.Generate(t.Context(), p, &recorder{}, &fakeHost{})
	return seen, res, err
}

const callOfA = "<tool_call>\n{\"name\": \"a\", \"arguments\": {\"q\": \"1\"}}\n</tool_call>"

// TestConstraints: what a request asks for becomes what the answer is held to.
func TestConstraints(t *testing.T) {
	tools := newBox(t, schema.ToolSpec{Name: "a"}, schema.ToolSpec{Name: "b"})
	strict := newBox(t, schema.ToolSpec{Name: "a", Strict: true}, schema.ToolSpec{Name: "b"})
	tools.tools[1].Held = json.RawMessage(`{"type":"object","properties":{}}`)
	// calls is the grammar of an answer of the model, which has learnt no format.
	calls := func(box *box, a parse.Answer) job.Constraint {
		a.Tools = []parse.Callable{{Name: "a", Schema: box.tools[0].InputSchema, Strict: box.tools[0].Strict}, {Name: "b", Schema: box.tools[1].InputSchema}}
		if box == tools {
			a.Tools[1].Schema = box.tools[1].Held
		}
		m, err := newScripted(t, "{}").Open(t.Context(), "")
		require.NoError(t, err)
		hermes, _ := parse.Named("hermes")
		source, _, err := hermes.Constrain(m.Tokenizer, a)
		require.NoError(t, err)
		return job.Constraint{Kind: job.Lark, Source: source}
	}
	object := json.RawMessage(`{"type":"object"}`)
	none := newBox(t)
	no := false
	for name, c := range map[string]struct {
		box    *box
		change func(p *schema.GenerateParams)
		want   job.Constraint
	}{
		"nothing":   {tools, func(p *schema.GenerateParams) {}, job.Constraint{}},
		"free text": {none, func(p *schema.GenerateParams) { p.ResponseFormat = &schema.ResponseFormat{Type: schema.FormatText} }, job.Constraint{}},
		"json": {none, func(p *schema.GenerateParams) { p.ResponseFormat = &schema.ResponseFormat{Type: schema.FormatJSON} },
			job.Constraint{Kind: job.JSONSchema, Source: parse.Guided(object)}},
		"json schema": {none, func(p *schema.GenerateParams) {
			p.ResponseFormat = &schema.ResponseFormat{Type: schema.FormatJSONSchema, Schema: json.RawMessage(` { } `)}
		}, job.Constraint{Kind: job.JSONSchema, Source: parse.Guided(json.RawMessage(`{}`))}},
		"regex": {none, func(p *schema.GenerateParams) {
			p.ResponseFormat = &schema.ResponseFormat{Type: schema.FormatRegex, Source: "a+"}
		}, job.Constraint{Kind: job.Regex, Source: "a+"}},
		"lark": {none, func(p *schema.GenerateParams) {
			p.ResponseFormat = &schema.ResponseFormat{Type: schema.FormatLark, Source: "start: A"}
		}, job.Constraint{Kind: job.Lark, Source: "start: A"}},
		"required": {tools, func(p *schema.GenerateParams) { p.ToolChoice = &schema.ToolChoice{Mode: schema.ToolChoiceRequired} },
			calls(tools, parse.Answer{Must: true, Several: true})},
		"required, one": {tools, func(p *schema.GenerateParams) {
			p.ToolChoice, p.ParallelToolCalls = &schema.ToolChoice{Mode: schema.ToolChoiceRequired}, &no
		}, calls(tools, parse.Answer{Must: true})},
		"strict": {strict, func(p *schema.GenerateParams) {}, calls(strict, parse.Answer{Several: true})},
		"strict, json": {strict, func(p *schema.GenerateParams) { p.ResponseFormat = &schema.ResponseFormat{Type: schema.FormatJSON} },
			calls(strict, parse.Answer{Several: true, Response: object})},
	} {
		seen, _, err := constrained(t, c.box, "", c.change, "", "fine")
		require.NoError(t, err, name)
		require.Equal(t, []job.Constraint{c.want}, seen, name)
	}
}

// TestOnlyTheFirstAnswerMustCall: the result of the tool may be answered in words.
func TestOnlyTheFirstAnswerMustCall(t *testing.T) {
	must := func(p *schema.GenerateParams) {
		p.ToolMode, p.ToolChoice = schema.ToolCallback, &schema.ToolChoice{Name: "a"}
	}
	seen, res, err := constrained(t, newBox(t, schema.ToolSpec{Name: "a"}, schema.ToolSpec{Name: "b"}), "", must, "result of a", "done", "", callOfA)
	require.NoError(t, err)
	require.Equal(t, "done", res.Message.Content.Text())
	require.Len(t, seen, 2)
	require.NotContains(t, seen[0].Source, `\"b\"`, "the tool that was not named")
	require.Equal(t, job.Constraint{}, seen[1])
}

// TestConstraintsThatCannotBeHeld: a tool's schema is held as far as it goes, unless
// the tool is strict; a format is refused.
func TestConstraintsThatCannotBeHeld(t *testing.T) {
	must := func(p *schema.GenerateParams) { p.ToolChoice = &schema.ToolChoice{Mode: schema.ToolChoiceRequired} }
	seen, _, err := constrained(t, newBox(t, schema.ToolSpec{Name: "a"}), `"q"`, must, "", "fine")
	require.NoError(t, err)
	require.Contains(t, seen[0].Source, `%json {"type":"object","x-guidance"`, "of which nothing is held but that it is an object")
	for name, c := range map[string]struct {
		box    *box
		change func(p *schema.GenerateParams)
		kind   schema.Kind
		place  schema.FieldError
	}{
		"strict tool": {newBox(t, schema.ToolSpec{Name: "a", Strict: true}), must, schema.KindToolSchema,
			schema.FieldError{Tool: "a", InstancePath: "/inputSchema", Message: `the tool is strict, and no grammar can hold this: "q" is not supported`}},
		"format": {newBox(t), func(p *schema.GenerateParams) {
			p.ResponseFormat = &schema.ResponseFormat{Type: schema.FormatJSONSchema, Schema: json.RawMessage(`{"q":1}`)}
		}, schema.KindInvalidParams, schema.FieldError{InstancePath: "/responseFormat/schema", Message: `"q" is not supported`}},
		"regex": {newBox(t), func(p *schema.GenerateParams) {
			p.ResponseFormat = &schema.ResponseFormat{Type: schema.FormatRegex, Source: `"q"`}
		}, schema.KindInvalidParams, schema.FieldError{InstancePath: "/responseFormat/source", Message: `"q" is not supported`}},
		"no such tool": {newBox(t, schema.ToolSpec{Name: "a"}), func(p *schema.GenerateParams) { p.ToolChoice = &schema.ToolChoice{Name: "c"} },
			schema.KindInvalidParams, schema.FieldError{InstancePath: "/toolChoice", Message: `no tool of this request has the name "c"`}},
		"no tools": {newBox(t), must,
			schema.KindInvalidParams, schema.FieldError{InstancePath: "/toolChoice", Message: "a tool must be called, and the request has none"}},
	} {
		_, _, err := constrained(t, c.box, `"q"`, c.change, "", "fine")
		var wire *schema.Error
		require.ErrorAs(t, err, &wire, name)
		require.Equal(t, c.kind, wire.Data.Kind, name)
		require.Equal(t, []schema.FieldError{c.place}, wire.Data.Errors, name)
	}
}

// TestConstraintBehindReasoning: where the budget of reasoning ends it, what follows is held
// to a grammar that begins there, and does not let the model think again.
func TestConstraintBehindReasoning(t *testing.T) {
	script := strings.Replace(worldScript, `{"contains": "</think>", "text": "thought"}`,
		`{"contains": "found", "text": "<|channel|>final<|message|>done"},
		{"contains": "on and on<|end|>", "text": "<|channel|>commentary to=functions.look <|constrain|>json<|message|>{\"q\":\"x\"}"},
		{"contains": "ponder", "text": "<|channel|>analysis<|message|>on and on and on and on"}`, 1)
	spied := &spy{scripted: newScripted(t, script), harmony: true}
	a := New(spied, newBox(t, schema.ToolSpec{Name: "look"}), Options{})
	defer a.Close()
	s, err := a.NewSession(t.Context(), schema.SessionNewParams{Settings: json.RawMessage(`{"reasoning_budget": 9}`)})
	require.NoError(t, err)
	p := chat("ponder with a tool")
	p.SessionID, p.ToolMode, p.ToolChoice = s.SessionID, schema.ToolCallback, &schema.ToolChoice{Mode: schema.ToolChoiceRequired}
	res, err := a.Generate(t.Context(), p, &recorder{}, &fakeHost{call: func(context.Context, schema.ToolCallParams) (schema.ToolResult, error) {
		return schema.ToolResult{Content: schema.TextContent("found")}, nil
	}})
	require.NoError(t, err)
	require.Equal(t, "done", res.Message.Content.Text())
	require.Equal(t, "on and on", res.Messages[0].Content.Reasoning())
	require.JSONEq(t, `{"q":"x"}`, string(res.Messages[0].ToolCalls[0].Arguments))
	require.Len(t, spied.asked, 3)
	require.Contains(t, spied.asked[0].Constraint.Source, `"analysis"`)
	require.Contains(t, spied.asked[1].Constraint.Source, "functions.look")
	require.NotContains(t, spied.asked[1].Constraint.Source, `"analysis"`)
	require.Equal(t, job.Constraint{}, spied.asked[2].Constraint)
}

// TestFormatsBehindHeaders: the form of a response is that of its text, behind what the
// model's own format puts before it.
func TestFormatsBehindHeaders(t *testing.T) {
	spied := &spy{scripted: newScripted(t, worldScript), harmony: true}
	a := New(spied, newBox(t), Options{})
	defer a.Close()
	for rule, f := range map[string]*schema.ResponseFormat{
		`response: %json {"type":"object",`: {Type: schema.FormatJSON},
		"response: /a\\/b/":                 {Type: schema.FormatRegex, Source: "a/b"},
		"response: %lark {\nstart: A":       {Type: schema.FormatLark, Source: "start: A"},
	} {
		p := chat("x")
		p.ResponseFormat = f
		_, err := a.Generate(t.Context(), p, &recorder{}, nil)
		require.NoError(t, err)
		c := spied.asked[len(spied.asked)-1].Constraint
		require.Equal(t, job.Lark, c.Kind)
		require.Contains(t, c.Source, rule)
		require.Contains(t, c.Source, `"final"`)
		// A prompt is no conversation.
		text := "x"
		_, err = a.Generate(t.Context(), schema.GenerateParams{GenerationID: "g", Prompt: &text, ResponseFormat: f}, &recorder{}, nil)
		require.NoError(t, err)
		require.NotContains(t, spied.asked[len(spied.asked)-1].Constraint.Source, "final")
	}
}
