//go:build !scripted

package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/agent"
	"harmonyd/editors/terminal"
	"harmonyd/schema"
	"harmonyd/tools"
)

// weatherClient runs two tools and remembers what was called.
type weatherClient struct{ called []schema.ToolCallParams }

func (c *weatherClient) CallTool(_ context.Context, p schema.ToolCallParams) (schema.ToolResult, error) {
	c.called = append(c.called, p)
	return schema.ToolResult{Content: schema.TextContent("12 degrees and rain")}, nil
}

func (c *weatherClient) Approve(context.Context, schema.ToolApproveParams) (schema.ToolApproveResult, error) {
	return schema.ToolApproveResult{}, nil
}

// quiet is a sink that keeps nothing.
type quiet struct{}

func (quiet) Text(context.Context, schema.Channel, string, int)      {}
func (quiet) Arguments(context.Context, string, string, string, int) {}
func (quiet) Logprobs([]schema.TokenLogprobs)                        {}
func (quiet) Status(schema.GenerateStatus)                           {}
func (quiet) ToolCall(schema.GenerateToolCall)                       {}

// realAgent is an agent over the real engine with two tools.
func realAgent(t *testing.T) *agent.Agent {
	t.Helper()
	engineEnv(t)
	e, closeEngine, err := openEngine(terminal.Options{ModelsRoot: testModels.root, Model: defaultModel}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(closeEngine)
	box := tools.NewRegistry(schema.DefaultLimits(), nil)
	_, err = box.Register(schema.ToolRegisterParams{Tools: []schema.ToolSpec{
		{Name: "get_weather", Description: "The weather of a city.", InputSchema: json.RawMessage(
			`{"type":"object","properties":{"city":{"type":"string","minLength":1,"maxLength":20},"unit":{"enum":["celsius","fahrenheit"]}},"required":["city","unit"],"additionalProperties":false}`)},
		{Name: "get_time", Description: "The time of a city.", InputSchema: json.RawMessage(
			`{"type":"object","properties":{"city":{"type":"string","minLength":1,"maxLength":20}},"required":["city"],"additionalProperties":false}`)},
	}})
	require.NoError(t, err)
	a := agent.New(e, box, agent.Options{})
	t.Cleanup(a.Close)
	return a
}

// TestTheDefaultModelCallsATool must call one of two tools: the client answers, and
// the model ends the turn in words. A small model left to itself would not.
func TestTheDefaultModelCallsATool(t *testing.T) {
	a := realAgent(t)
	ask := schema.GenerateParams{
		GenerationID: "g", MaxTokens: 120,
		Messages:   []schema.Message{{Role: schema.RoleUser, Content: schema.TextContent("What is the weather in Paris?")}},
		ToolChoice: &schema.ToolChoice{Mode: schema.ToolChoiceRequired},
		ToolMode:   schema.ToolCallback,
	}
	no := false
	ask.ParallelToolCalls = &no
	client := new(weatherClient)
	res, err := a.Generate(t.Context(), ask, quiet{}, client)
	require.NoError(t, err)
	require.Len(t, client.called, 1)
	require.Contains(t, []string{"get_weather", "get_time"}, client.called[0].Name)
	require.Equal(t, schema.RoleAssistant, res.Message.Role)
	require.NotEmpty(t, res.Message.Content.Text())
	require.Contains(t, []schema.StopReason{schema.StopEndTurn, schema.StopMaxTokens}, res.StopReason)
	require.Len(t, res.Messages, 3, "the call, its result, the answer")
	t.Logf("%s %s\n%s", client.called[0].Name, client.called[0].Arguments, res.Message.Content.Text())

	ask.ToolMode, ask.ToolChoice = schema.ToolReturn, &schema.ToolChoice{Name: "get_weather"}
	res, err = a.Generate(t.Context(), ask, quiet{}, nil)
	require.NoError(t, err)
	require.Equal(t, schema.StopToolCalls, res.StopReason)
	require.Len(t, res.ToolCalls, 1)
	require.Equal(t, "get_weather", res.ToolCalls[0].Name)
	var args struct{ City, Unit string }
	require.NoError(t, json.Unmarshal(res.ToolCalls[0].Arguments, &args))
	require.NotEmpty(t, args.City)
	require.Contains(t, []string{"celsius", "fahrenheit"}, args.Unit)

	// The form of a response.
	ask.ToolMode, ask.ToolChoice = schema.ToolNone, nil
	ask.ResponseFormat = &schema.ResponseFormat{Type: schema.FormatJSONSchema,
		Schema: json.RawMessage(`{"type":"object","properties":{"answer":{"enum":["yes","no"]}},"required":["answer"],"additionalProperties":false}`)}
	res, err = a.Generate(t.Context(), ask, quiet{}, nil)
	require.NoError(t, err)
	require.Contains(t, []string{`{"answer": "yes"}`, `{"answer": "no"}`}, res.Message.Content.Text())
}
