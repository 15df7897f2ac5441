package parse

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/schema"
)

func constrain(t *testing.T, format string, v vocabulary, a Answer) (lark, written string) {
	t.Helper()
	f, ok := Named(format)
	require.True(t, ok)
	var tokenizer Tokenizer
	if v != nil {
		tokenizer = v
	}
	lark, w, err := f.Constrain(tokenizer, a)
	require.NoError(t, err)
	return lark, w.Name
}

var noArguments = []Callable{{Name: "f", Schema: json.RawMessage(`{"type":"object","properties":{}}`)}}

// TestConstrain shows some grammars whole. That what they allow is what the parsers
// read is shown where there is something that walks through them.
func TestConstrain(t *testing.T) {
	const object = `{"type":"object","properties":{},` + guidance + `}`
	prompt, _ := qwen.Encode("<think>", true)
	for _, c := range []struct {
		name, format string
		vocabulary   vocabulary
		answer       Answer
		want         []string
	}{
		{"one call", "hermes", qwen, Answer{Must: true}, []string{
			`start: (<[256]> TEXT2? <[257]> /[ \n]{1,3}/?)? <[258]> "\n" call1 <[259]>`,
			`json0: %json ` + object,
			`call1: "{\"name\": \"f\", \"arguments\": " json0 "}\n"`,
			`TEXT2: /(?s:.{1,})/`}},
		{"the prompt thinks", "hermes", qwen, Answer{Must: true, Prompt: prompt}, []string{
			`start: TEXT2? <[257]> /[ \n]{1,3}/? <[258]> "\n" call1 <[259]>`}},
		{"words or calls", "hermes", nil, Answer{Several: true}, []string{
			`HAS2: /(?s:.*)/ "<tool_call>" /(?s:.*)/`,
			`WORDS3: /(?s:.+)/ & ~HAS2`,
			`until4[suffix="<tool_call>"]: /(?s:.{0,})/ & ~HAS2`,
			`call1 "</tool_call>" ("\n" "<tool_call>" "\n" call1 "</tool_call>")*)`}},
		{"an answer of a schema", "llama", llama3, Answer{Response: json.RawMessage(`{"const":1}`)}, []string{
			`start: (call1 | json2)`, `json2: %json {"const":1,` + guidance + "}"}},
		{"words, where calls have no mark", "llama", llama3, Answer{}, []string{
			`start: (WORDS2 | call1)`, `WORDS2: /(?s:.+)/ & ~/\s*[{](?s:.*)/`}},
		{"a token within a mark", "deepseek-v3.2", v32, Answer{Must: true}, []string{`"<" <[256]> "function_calls>" "\n" call`, `"<" <[256]> "invoke name=\"f\">\n"`}},
		{"the end of a message is the engine's", "harmony", gptOSS, Answer{Must: true, Stops: []int32{262}}, []string{
			`start: (<[259]> "analysis" <[258]> TEXT2? <[257]> <[256]> "assistant")? <[259]> call1`,
			`call1: "commentary to=functions.f " <[260]> "json" <[258]> json0`, `%json {"type":"object","properties":{},` + compact}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.answer.Tools = noArguments
			lark, written := constrain(t, c.format, c.vocabulary, c.answer)
			require.Equal(t, c.format, written)
			for _, line := range c.want {
				require.Contains(t, lark, line)
			}
		})
	}
}

func TestExpression(t *testing.T) {
	for source, want := range map[string]string{"": `""`, "a": "/a/", "/": `/\//`, "//": `/\/\//`, `\/`: `/\//`, `\\/`: `/\\\//`, `[/]+`: `/[\/]+/`, `a\`: `/a\/`} {
		require.Equal(t, want, Expression(source), source)
	}
}

// TestExact: where a grammar writes the answer, what else looks like a call is text, but
// behind a call.
func TestExact(t *testing.T) {
	tools := []Callable{{Name: "f", Schema: offered[0].InputSchema}, {Name: "g", Schema: offered[2].InputSchema}}
	for _, c := range []struct {
		format, answer, want string
		vocabulary           vocabulary
	}{
		{"hermes", "a <function=f></function> <tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>", "T[a <function=f></function>] M[ ] C[g {}] M[\n</tool_call>]", qwen},
		{"generic", "```json\n{\"name\": \"f\"}\n```", "T[```json\n{\"name\": \"f\"}\n```]", nil},
		{"fenced", "{\"name\": \"f\"} ```tool_code\ng()\n```\n```tool_code\ng()\n```", "T[{\"name\": \"f\"}] M[ ] C[g {}] M[\n```\n] C[g {}] M[\n```]", nil},
		{"llama", `{"name": "f", "parameters": {}}; {"name": "g", "parameters": {}}`, `C[f {}] M[; ] C[g {}]`, llama3},
		{"llama", `a <function=f>{}</function>`, `T[a <function=f>{}</function>]`, llama3},
		{"pythonic", "[f()]", "T[[f()]]", lfm},
		{"minimax", "<invoke name=\"f\"> <minimax:tool_call>\n<invoke name=\"f\">\n</invoke>\n<invoke name=\"g\">\n</invoke>\n</minimax:tool_call>",
			"T[<invoke name=\"f\">] M[ ] C[f {}] M[\n] C[g {}] M[\n</minimax:tool_call>]", m2},
	} {
		f, _ := Named(c.format)
		var tokenizer Tokenizer
		if c.vocabulary != nil {
			tokenizer = c.vocabulary
		}
		_, written, err := f.Constrain(tokenizer, Answer{Tools: tools, Several: true})
		require.NoError(t, err)
		p, err := written.New(tokenizer, Options{Tools: offered})
		require.NoError(t, err)
		tokens := c.vocabulary.tokens(c.answer)
		require.Equal(t, c.want, show(parse(t, p, tokens, c.vocabulary.input(tokens))), "%s: %s", c.format, c.answer)
	}
}

// TestConstrainFallsBack: what a format cannot hold of a strict tool is held in the format
// of Hermes, and left to the validation of the arguments where the tool is not strict.
func TestConstrainFallsBack(t *testing.T) {
	for _, c := range []struct{ format, schema, strict, free string }{
		{"qwen-coder", `{"properties":{"a":{"type":"string","pattern":"^x"}}}`, "hermes", "qwen-coder"},
		{"qwen-coder", `{"properties":{"a":{"anyOf":[{"type":"string","minLength":1},{"type":"null"}]}}}`, "qwen-coder", "qwen-coder"},
		{"qwen-coder", `{"properties":{"a":{"anyOf":[{"type":"string","format":"date"},{"type":"null"}]}}}`, "hermes", "qwen-coder"},
		{"qwen-coder", `{"properties":{"a":{"enum":["</parameter>"]}}}`, "hermes", "hermes"},
		{"qwen-coder", `{"properties":{"a":{"const":"x\r"}}}`, "hermes", "hermes"},
		{"qwen-coder", `{"properties":{"a>":{}}}`, "hermes", "hermes"},
		{"qwen-coder", `{"properties":{"a":{"type":"string","enum":[1]}}}`, "hermes", "hermes"},
		{"glm", `{"minProperties":1,"properties":{"a":{}}}`, "hermes", "glm"},
		{"glm", `{"properties":{"a":false,"b":{}}}`, "glm", "glm"},
		{"glm", `{"properties":{"a":false},"required":["a"]}`, "hermes", "hermes"},
		{"glm", `{"properties":{},"required":["a"]}`, "hermes", "hermes"},
		{"glm", `{"properties":{"a":{"type":"integer","allOf":[{"$ref":"#/properties/b"}]},"b":{"type":"integer"}}}`, "hermes", "glm"},
		{"pythonic", `{"properties":{"a-b":{}}}`, "hermes", "hermes"},
		{"pythonic", `{"properties":{"ä":{}}}`, "hermes", "hermes"},
		{"pythonic", `{"properties":{"a":{"type":"boolean","not":{"const":true}}}}`, "hermes", "pythonic"},
		{"gemma", `{"properties":{"a":{}}}`, "hermes", "hermes"},
		{"gemma", `{"properties":{"a":{"type":"array"}}}`, "hermes", "hermes"},
		{"gemma", `{"properties":{"a":{"type":"array","items":{"type":"string","pattern":"x"},"maxItems":2}}}`, "hermes", "gemma"},
		{"gemma", `{"properties":{"a":{"type":["integer","null"],"minimum":1},"b":{"type":"object","properties":{"c":{"enum":["x",1,null]}}}}}`, "gemma", "gemma"},
		{"gemma", `{"properties":{"a":{"const":{"x":1}}}}`, "hermes", "hermes"},
		{"gemma", `{"properties":{"a":{"$ref":"#"}}}`, "hermes", "hermes"},
		{"llama", `{"minProperties":1}`, "llama", "llama"},
		{"generic", `{}`, "hermes", "hermes"},
		{"text", `{}`, "hermes", "hermes"},
	} {
		for strict, want := range map[bool]string{true: c.strict, false: c.free} {
			_, bad := schema.Compile(json.RawMessage(c.schema))
			require.Empty(t, bad, c.schema)
			_, written := constrain(t, c.format, nil, Answer{Must: true, Tools: []Callable{{Name: "f", Schema: json.RawMessage(c.schema), Strict: strict}}})
			require.Equal(t, want, written, "%s, strict %t: %s", c.format, strict, c.schema)
		}
	}
	// A model that is told of tools in the generic way calls in that.
	f := Detect("qwen2", "{{ messages }}")
	_, written, err := f.Constrain(nil, Answer{Must: true, Tools: noArguments})
	require.NoError(t, err)
	require.Equal(t, "hermes", written.Name)
	// The reasoning stays the model's.
	f = Detect("gemma4", "<|tool_call>call:<channel|>")
	_, written, err = f.Constrain(gemma4, Answer{Must: true, Tools: []Callable{{Name: "f", Schema: json.RawMessage(`{"properties":{"a":{}}}`)}}})
	require.NoError(t, err)
	require.Equal(t, gemmaThink, written.thinking)
	_, _, err = f.Constrain(deaf{gemma4}, Answer{Tools: noArguments})
	require.ErrorContains(t, err, "deaf")
}

// TestStringsBySchema: which parameters are strings follows references and alternatives.
func TestStringsBySchema(t *testing.T) {
	tools := toolbox{[]schema.ToolSpec{{Name: "f", InputSchema: json.RawMessage(`{"$defs":{"n":{"type":"integer"},"s":{"$ref":"#/$defs/t"},"t":{"enum":["a"]},"a/b":{"type":"array"},"loop":{"$ref":"#/$defs/loop"}},
		"properties":{"n":{"$ref":"#/$defs/n"},"s":{"$ref":"#/$defs/s"},"list":{"anyOf":[{"type":"array","items":{"type":"string"}},{"type":"null"}]},
		"text":{"anyOf":[{"type":"string"},{"type":"null"}]},"all":{"allOf":[{"type":"integer"},{}]},"one":{"oneOf":[{"$ref":"#/$defs/n"},{"$ref":"#/$defs/t"}]},
		"words":{"enum":[1,"x"]},"digits":{"enum":[1,{"a":"x"}]},"const":{"const":"x"},"other":{"const":1},"any":{},"true":true,"slash":{"$ref":"#/$defs/a~1b"},
		"nowhere":{"$ref":"#/$defs/none"},"loop":{"$ref":"#/$defs/loop"}}}`)}}}
	var found []string
	tools.properties("f", func(name string, _ []byte) {
		if tools.isString("f", name) {
			found = append(found, name)
		}
	})
	require.Equal(t, "s text one words const any true nowhere loop", strings.Join(found, " "))
	require.True(t, tools.isString("f", "unknown"))
	require.True(t, tools.isString("unknown", "n"))
}
