package profile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"harmonyd/schema"
)

// ParseDialogue reads a dialogue as people write it down: a line that begins with user:,
// assistant: or tool:, in any case and behind any white space, begins a message; the lines
// after it belong to it, blank ones between them too. What stands before the first message
// is left out, and so are messages that say nothing.
func ParseDialogue(text string) []ExampleTurn {
	var all []ExampleTurn
	var lines []string
	role := ""
	end := func() {
		if content := strings.TrimSpace(strings.Join(lines, "\n")); role != "" && content != "" {
			all = append(all, ExampleTurn{Role: role, Content: content})
		}
		lines = nil
	}
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		line = strings.TrimRight(line, "\r\n")
		before, rest, ok := strings.Cut(strings.TrimLeft(line, " \t"), ":")
		if name := strings.ToLower(before); ok && (name == "user" || name == "assistant" || name == "tool") {
			end()
			role, lines = name, []string{rest}
			continue
		}
		lines = append(lines, line)
	}
	end()
	return all
}

// ConvertDialogue is a dialogue as a JSON list of messages, or, asExamples, as the value of
// example_dialogues with this one dialogue.
func ConvertDialogue(text string, asExamples bool) ([]byte, error) {
	turns := ParseDialogue(text)
	if len(turns) == 0 {
		return nil, fmt.Errorf("there is no message in it: none of its lines begins with user:, assistant: or tool:")
	}
	var v any = turns
	if asExamples {
		v = [][]ExampleTurn{turns}
	}
	compact, err := schema.Encode(v)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, compact, "", "  "); err != nil {
		return nil, err
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}
