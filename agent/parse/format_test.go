package parse

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDetect(t *testing.T) {
	for _, c := range []struct{ family, template, want, think string }{
		{"", "", "generic", "<think>"},
		{"gpt_oss", "", "harmony", ""},
		{"whatever", "<|start|>{{ role }}<|channel|>final<|message|>", "harmony", ""},
		{"qwen2", "", "hermes", "<think>"},
		{"qwen3_moe", "<tool_call>\n<function=example>", "qwen-coder", "<think>"},
		{"glm4_moe", "<tool_call>{name}<arg_key>", "glm", "<think>"},
		{"granite", "<tool_call></tool_call>", "hermes", "<think>"},
		{"mistral", "[AVAILABLE_TOOLS]", "mistral", "[THINK]"},
		{"mistral", "[TOOL_CALLS]<think></think>", "mistral", "<think>"},
		{"llama", "<|start_header_id|> {\"parameters\": {}}", "llama", "<think>"},
		{"llama", `<|start_header_id|> {"name": function name, "parameters": dictionary}`, "llama", "<think>"},
		{"llama", "", "generic", "<think>"},
		{"llama4", "", "pythonic", "<think>"},
		{"llama4_text", "", "pythonic", "<think>"},
		{"deepseek_v3", "", "deepseek", "<think>"},
		{"deepseek_v32", "", "deepseek-v3.2", "<think>"},
		{"deepseek_v3", "<｜DSML｜function_calls>", "deepseek-v3.2", "<think>"},
		{"minimax", "", "minimax", "<think>"},
		{"minimax_m2", "<minimax:tool_call>", "minimax", "<think>"},
		{"llama", "<|start_header_id|> functools[{\"name\": tool_calls", "functools", "<think>"},
		{"qwen2", "<｜tool▁calls▁begin｜></think>", "deepseek", "<think>"},
		{"gemma3_text", "", "fenced", "<think>"},
		{"gemma4", "<|tool_call>call:<channel|>", "gemma", "<channel|>"},
		{"cohere2", "", "cohere", "<|END_THINKING|>"},
		{"seed_oss", "</seed:think>", "generic", "</seed:think>"},
	} {
		f := Detect(c.family, c.template)
		require.Equal(t, c.want, f.Name, "%+v", c)
		if c.think != "" {
			require.Contains(t, f.thinking, c.think, "%+v", c)
		}
	}
}

// TestDetectByType: a model whose template shows no tools is told of them in the
// generic way, and may answer in that or in its own.
func TestDetectByType(t *testing.T) {
	for _, family := range []string{"mistral", "qwen2", "gemma3_text", "llama4", "deepseek_v3"} {
		f := Detect(family, "{{ messages }}")
		for answer, want := range map[string]string{
			`<tool_call>{"name":"f"}</tool_call>`: `C[f {}] M[</tool_call>]`,
			"```json\n{\"name\":\"f\"}\n```":      "C[f {}] M[\n```]",
			"just text":                           "T[just text]",
			map[string]string{"mistral": `[TOOL_CALLS]f[ARGS]{}`, "llama4": `[f()]`}[family]: map[string]string{"mistral": `C[f {}]`, "llama4": `C[f {}]`}[family],
		} {
			p, err := f.New(mistral3, Options{Tools: offered})
			require.NoError(t, err)
			tokens := mistral3.tokens(answer)
			require.Equal(t, want, show(parse(t, p, tokens, mistral3.input(tokens))), "%s: %s", family, answer)
		}
	}
}

func TestNames(t *testing.T) {
	for _, name := range Names() {
		f, ok := Named(name)
		require.True(t, ok)
		require.Equal(t, name, f.Name)
	}
	_, ok := Named("nothing")
	require.False(t, ok)
}

// deaf is a tokenizer that cannot encode.
type deaf struct{ vocabulary }

func (deaf) Encode(string, bool) ([]int32, error) { return nil, errors.New("deaf") }

func TestNewFails(t *testing.T) {
	f, _ := Named("hermes")
	_, err := f.New(deaf{qwen}, Options{Tools: offered})
	require.ErrorContains(t, err, "deaf")
	f, _ = Named("harmony")
	_, err = f.New(deaf{gptOSS}, Options{})
	require.ErrorContains(t, err, "deaf")
	_, err = f.New(qwen, Options{})
	require.ErrorContains(t, err, "no token <|")
	_, err = f.New(nil, Options{})
	require.ErrorContains(t, err, "no token <|")
}

func TestWithoutTools(t *testing.T) {
	f, _ := Named("hermes")
	p, err := f.New(qwen, Options{})
	require.NoError(t, err)
	tokens := qwen.tokens("<think>a</think>⟦<tool_call>⟧{}")
	require.Equal(t, "M[<think>] R[a] M[</think>] T[<tool_call>{}]", show(parse(t, p, tokens, qwen.input(tokens))))
}
