package prompt

import (
	"fmt"
	"strings"

	"harmonyd/agent/parse"
	"harmonyd/schema"
)

// WithTools rewrites a conversation for templates that know nothing of tools: the
// tools stand in the system message, calls in the text of the answers that made
// them, and results in messages of the user, all in the Hermes format. Without
// tools and calls it returns messages as they are. It refuses what Render would,
// because places in errors are those of the messages that came.
func WithTools(messages []schema.Message, tools []schema.ToolSpec) ([]schema.Message, error) {
	involved := len(tools) > 0
	for i := range messages {
		involved = involved || len(messages[i].ToolCalls) > 0
	}
	if !involved {
		return messages, nil
	}
	var out []schema.Message
	for i := range messages {
		m := messages[i]
		if err := check(&m, i); err != nil {
			return nil, err
		}
		last := len(out) - 1
		switch {
		case m.Role == schema.RoleTool:
			text := "<tool_response>\n" + m.Content.Text() + "\n</tool_response>"
			if last >= 0 && messages[i-1].Role == schema.RoleTool { // templates want roles to alternate
				out[last].Content = schema.TextContent(out[last].Content.Text() + "\n" + text)
				continue
			}
			m = schema.Message{Role: schema.RoleUser, Content: schema.TextContent(text)}
		case len(m.ToolCalls) > 0:
			var b strings.Builder
			b.WriteString(m.Content.Text())
			for _, c := range m.ToolCalls {
				if b.Len() > 0 {
					b.WriteByte('\n')
				}
				b.WriteString(parse.HermesOpen + "\n" + string(called(&c)) + "\n" + parse.HermesClose)
			}
			m.Content, m.ToolCalls = schema.TextContent(b.String()), nil
		}
		out = append(out, m)
	}
	if len(tools) == 0 {
		return out, nil
	}
	offer, err := offered(tools)
	if err != nil {
		return nil, err
	}
	if len(out) > 0 && out[0].Role == schema.RoleSystem {
		out[0].Content = schema.TextContent(out[0].Content.Text() + "\n\n" + offer)
		return out, nil
	}
	return append([]schema.Message{{Role: schema.RoleSystem, Content: schema.TextContent(offer)}}, out...), nil
}

// called is a call as a model writes it.
func called(c *schema.ToolCall) []byte {
	b := append([]byte(`{"name": `), schema.AppendString(nil, c.Name)...)
	b = append(append(b, `, "arguments": `...), c.Arguments...)
	return append(b, '}')
}

// offered tells a model of its tools and how to call one.
func offered(tools []schema.ToolSpec) (string, error) {
	var b strings.Builder
	b.WriteString("You may call these tools. Each line describes one; its parameters are a JSON Schema.\n<tools>\n")
	for _, t := range tools {
		line, err := schema.Encode(struct {
			Type     string `json:"type"`
			Function any    `json:"function"`
		}{"function", struct {
			Name        string `json:"name"`
			Description string `json:"description,omitempty"`
			Parameters  any    `json:"parameters"`
		}{t.Name, t.Description, t.InputSchema}})
		if err != nil {
			return "", fmt.Errorf("tool %q: %w", t.Name, err)
		}
		b.Write(line)
		b.WriteByte('\n')
	}
	b.WriteString("</tools>\nTo call a tool, write its name and its arguments as one JSON object between marks, and nothing after it:\n" +
		parse.HermesOpen + "\n{\"name\": \"NAME\", \"arguments\": {}}\n" + parse.HermesClose +
		"\nWhat the tool returns is then given to you between <tool_response> and </tool_response>.")
	return b.String(), nil
}
