package parse

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest/leaks"
)

func TestMain(m *testing.M) { os.Exit(leaks.Run(m)) }

// parsed shows an answer, cut into pieces of n bytes. Neighbouring texts are one.
func parsed(answer string, n int) string {
	p := NewHermes()
	var b strings.Builder
	inText := false
	show := func(pieces []Piece) {
		for _, piece := range pieces {
			switch c := piece.Call; {
			case c == nil && inText:
				b.WriteString(piece.Text)
			case c == nil:
				fmt.Fprintf(&b, "text %s", piece.Text)
			case c.Problem != "":
				fmt.Fprintf(&b, "[problem %s: %s]", c.Problem, c.Raw)
			default:
				fmt.Fprintf(&b, "[call %s %s]", c.Name, c.Arguments)
			}
			inText = piece.Call == nil
		}
	}
	for len(answer) > 0 {
		k := min(n, len(answer))
		show(p.Next([]byte(answer[:k])))
		answer = answer[k:]
	}
	show(p.Flush())
	return b.String()
}

func TestHermes(t *testing.T) {
	for _, c := range []struct{ answer, want string }{
		{"just text", "text just text"},
		{"", ""},
		{"a < b <tool", "text a < b <tool"},
		{`<tool_call>{"name":"f","arguments":{"z":1,"a":[2]}}</tool_call>`, `[call f {"z":1,"a":[2]}]`},
		{"Let me see.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>\n", "text Let me see.\n[call f {}]"},
		{`<tool_call>{"name":"f"}</tool_call> <tool_call>{"name":"g","parameters":{"x":"}"}}</tool_call> then`, `[call f {}][call g {"x":"}"}]text then`},
		{`<tool_call>{"name":"f","arguments":{"s":"</tool_call> \" { <tool_call>"}}</tool_call>`, `[call f {"s":"</tool_call> \" { <tool_call>"}]`},
		{`<tool_call>{"name":"f","arguments":"{\"a\":1}"}`, `[call f {"a":1}]`},
		{`<tool_call>{"name":"f","arguments":null}`, `[call f {}]`},
		{`<tool_call>{"name":"f"}<tool_call>{"name":"g"}`, `[call f {}][call g {}]`},
		{`<tool_call>{"name":"f"}</tool_cal`, `[call f {}]`},
		{`<tool_call>{"name":"f","arg`, `[problem it has no end: {"name":"f","arg]`},
		{`<tool_call>f(x)</tool_call>ok`, `[problem it is no JSON object: f(x)]text ok`},
		{`<tool_call>f(x)`, `[problem it has no end: f(x)]`},
		{`<tool_call>{"name":7}</tool_call>`, `[problem it has no name: {"name":7}]`},
		{`<tool_call>{"name":""}</tool_call>`, `[problem its name has 0 characters, want 1 to 64: {"name":""}]`},
		{`<tool_call>{"name":"f","arguments":[1]}</tool_call>`, `[problem its arguments are no object: {"name":"f","arguments":[1]}]`},
		{`<tool_call>{"name":"f","arguments":"x"}</tool_call>`, `[problem its arguments are a string that is no JSON: byte 0x78 at offset 0, want a value: {"name":"f","arguments":"x"}]`},
		{`<tool_call>{"name":"f",}</tool_call>`, `[problem no JSON: byte 0x7d at offset 12, want a name: {"name":"f",}]`},
		{`<tool_call>{"name":"f","name":"g"}</tool_call>`, `[problem member "name" stands twice in one object, again at offset 12: {"name":"f","name":"g"}]`},
		{`<tool_call>{"name":"f","arguments":` + strings.Repeat(`{"a":`, 128) + `1` + strings.Repeat(`}`, 129), `[problem the message nests deeper`},
	} {
		whole := parsed(c.answer, 1<<20)
		if strings.HasSuffix(c.want, "]") || !strings.HasPrefix(c.want, "[problem") {
			require.Equal(t, c.want, whole)
		} else {
			require.Contains(t, whole, c.want)
		}
		for n := 1; n < len(c.answer); n++ {
			require.Equal(t, whole, parsed(c.answer, n), "%s in pieces of %d", c.answer, n)
		}
	}
}

// FuzzHermes: the pieces do not matter, and text without a mark stays as it is.
func FuzzHermes(f *testing.F) {
	f.Add(`a <tool_call>{"name":"f"}</tool_call> b`, 3)
	f.Add(`<tool_call>{"name":"f","arguments":{"s":"</tool_call>"}}`, 1)
	f.Add(`<tool_call>x</tool_call><tool`, 2)
	f.Fuzz(func(t *testing.T, answer string, n int) {
		whole := parsed(answer, len(answer)+1)
		require.Equal(t, whole, parsed(answer, max(1, n%(len(answer)+1))))
		if !strings.Contains(answer, HermesOpen) && answer != "" {
			require.Equal(t, "text "+answer, whole)
		}
	})
}
