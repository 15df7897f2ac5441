//go:build !scripted

package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/agent/parse"
	"harmonyd/engine/enginetest"
	"harmonyd/engine/native"
	"harmonyd/schema"
)

// marksOf are the control tokens of a model with a format's marks, by format; the first
// one opens calls.
var marksOf = map[string][]string{
	"harmony":       {"<|channel|>", "<|start|>", "<|message|>", "<|end|>", "<|constrain|>", "<|return|>", "<|call|>"},
	"qwen-coder":    {"<tool_call>", "</tool_call>", "<think>", "</think>"},
	"glm":           {"<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "<think>", "</think>"},
	"hermes":        {"<tool_call>", "</tool_call>", "<think>", "</think>"},
	"mistral":       {"[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "[THINK]", "[/THINK]"},
	"deepseek":      {"<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>", "<think>", "</think>"},
	"deepseek-v3.2": {"｜DSML｜", "<think>", "</think>"},
	"minimax":       {"<minimax:tool_call>", "</minimax:tool_call>", "<think>", "</think>"},
	"kimi":          {"<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", "<|tool_call_begin|>", "<|tool_call_end|>", "<|tool_call_argument_begin|>"},
	"gemma":         {"<|tool_call>", "<tool_call|>", `<|"|>`, "<|channel>", "<channel|>"},
	"cohere":        {"<|START_ACTION|>", "<|END_ACTION|>", "<|START_THINKING|>", "<|END_THINKING|>"},
	"granite":       {"<|tool_call|>", "<|/tool_call|>"},
	"pythonic":      {"<|tool_call_start|>", "<|tool_call_end|>"},
	"llama":         {"<|python_tag|>"},
	"functools":     {},
	"fenced":        {},
}

// wordless are formats whose calls begin an answer or not at all.
var wordless = map[string]bool{"llama": true, "pythonic": true, "harmony": true}

// temptations are texts that are marks of some format, or calls.
var temptations = []string{"\n</parameter>\n", "</parameter>\n", "<parameter=city>\n", "<tool_call>\n", "</tool_call>", "</arg_value>", "<arg_key>on</arg_key>", `<|"|>`,
	"<function=now>\n</function>", "```tool_code\nnow()\n```", "[now()]", `{"name": "now", "arguments": {}}`, "functools[", `<invoke name="now">`, "</think>\n", "</｜DSML｜parameter>\n",
	"<｜tool▁call▁begin｜>", "[TOOL_CALLS][", `"}`, `")]`, "})"}

// thoughts are the marks that open reasoning, by those that end it.
var thoughts = map[string]string{"</think>": "<think>", "[/THINK]": "[THINK]", "<|END_THINKING|>": "<|START_THINKING|>", "<channel|>": "<|channel>"}

// pieces are tokens of more than a byte, which lie across what grammars put beside each
// other.
var pieces = []string{`": `, `", "`, `</`, `"}`, `}}`, "}\n", ">\n", "\n<", `">`, "get", "city", "<tool", "arg", "```", "[{", "}]", "})", "')", "ab"}

// walker is a byte-level tokenizer with marks.
func walker(t testing.TB, marks []string) *native.Tokenizer {
	t.Helper()
	char := make([]string, 256)
	next := rune(0x100)
	for b := range 256 {
		char[b] = string(rune(b))
		if b <= 0x20 || b >= 0x7f && b <= 0xa0 || b == 0xad {
			char[b] = string(next)
			next++
		}
	}
	vocab := map[string]int{}
	for _, c := range char {
		vocab[c] = len(vocab)
	}
	var merges [][2]string
	for _, p := range pieces {
		left := char[p[0]]
		for _, b := range []byte(p[1:]) {
			whole := left + char[b]
			if _, ok := vocab[whole]; !ok {
				vocab[whole] = len(vocab)
				merges = append(merges, [2]string{left, char[b]})
			}
			left = whole
		}
	}
	type object = map[string]any
	var added []object
	for _, m := range append([]string{"<end>"}, marks...) {
		added = append(added, object{"id": len(vocab) + len(added), "content": m, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true})
	}
	level := object{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}
	file, err := json.Marshal(object{"version": "1.0", "pre_tokenizer": level, "decoder": level, "added_tokens": added,
		"model": object{"type": "BPE", "vocab": vocab, "merges": merges}})
	require.NoError(t, err)
	tok, err := native.LoadTokenizer(file, nil)
	require.NoError(t, err)
	t.Cleanup(tok.Close)
	return tok
}

// callables are tools of all that formats must write in their own ways.
var callables = []parse.Callable{
	{Name: "get_weather", Strict: true, Schema: json.RawMessage(`{"type":"object","properties":{"city":{"type":"string","minLength":1,"maxLength":6},"days":{"type":"integer","minimum":1,"maximum":14},"unit":{"enum":["c","f"]},"on":{"type":"boolean"}},"required":["city","unit"],"additionalProperties":false}`)},
	{Name: "b-2", Schema: json.RawMessage(`{"type":"object","$defs":{"color":{"enum":["red","blue"]},"point":{"type":"object","properties":{"x":{"type":"integer","minimum":0,"maximum":9},"s":{"type":"string","maxLength":3}},"required":["x"],"additionalProperties":false}},
		"properties":{"l":{"type":"array","items":{"type":"integer","minimum":0,"maximum":99},"minItems":1,"maxItems":3},"c":{"$ref":"#/$defs/color"},"o":{"$ref":"#/$defs/point"},"m":{"anyOf":[{"type":"string","maxLength":3},{"type":"null"}]},"names":{"anyOf":[{"type":"array","items":{"type":"string","maxLength":2},"maxItems":2},{"type":"null"}]},"text":{"type":"string"}},"required":["l"],"additionalProperties":false}`)},
	{Name: "now", Schema: json.RawMessage(`{"type":"object","properties":{},"additionalProperties":false}`)},
}

// walk takes random tokens that the grammar allows, until it is complete. It leans to
// marks and ends, or free text would go on for ever.
func walk(t *testing.T, r *rand.Rand, g *native.Grammar, lead []int32, eos int32, marks int32) (ids []int32, complete bool) {
	t.Helper()
	m, err := g.NewMatcher()
	require.NoError(t, err)
	defer m.Close()
	mask := make([]uint32, m.MaskWords())
	for len(ids) < 800 {
		if m.IsStopped() {
			return ids, true
		}
		forced, err := m.ForcedTokens()
		require.NoError(t, err)
		if len(forced) == 0 && len(ids) < len(lead) {
			forced = lead[len(ids) : len(ids)+1]
		}
		if len(forced) == 0 && r.IntN(6) == 0 {
			// What would mislead a reader, as far as the grammar lets it in.
			for _, b := range []byte(temptations[r.IntN(len(temptations))]) {
				if m.Consume(int32(b)) != nil {
					break
				}
				ids = append(ids, int32(b))
			}
			continue
		}
		if len(forced) == 0 {
			require.NoError(t, m.Mask(mask))
			choice := enginetest.MaskTokens(mask)
			var leaning []int32
			for _, id := range choice {
				if id >= marks || strings.ContainsAny(string(rune(id)), "\"}])<\n") {
					leaning = append(leaning, id)
				}
			}
			require.NotEmpty(t, choice)
			if len(leaning) > 0 && r.IntN(2) == 0 {
				choice = leaning
			}
			forced = []int32{choice[r.IntN(len(choice))]}
		}
		for _, id := range forced {
			if id == eos {
				return ids, true
			}
			require.NoError(t, m.Consume(id), "behind %v", ids)
			ids = append(ids, id)
		}
	}
	return ids, false
}

// envelope is a grammar of one of the formats, with what its tests need.
type envelope struct {
	title   string
	tok     *native.Tokenizer
	grammar *native.Grammar
	lark    string
	written parse.Format
	answer  parse.Answer
	eos     int32
	calls   map[string]*schema.Validator
}

// check parses an answer, which the grammar has allowed, and returns how many calls are
// in it. Each of them is good.
func (e *envelope) check(t *testing.T, ids []int32) (calls int) {
	t.Helper()
	o := parse.Options{Prompt: e.answer.Prompt}
	for _, c := range e.answer.Tools {
		o.Tools = append(o.Tools, schema.ToolSpec{Name: c.Name, InputSchema: c.Schema})
	}
	p, err := e.written.New(e.tok, o)
	require.NoError(t, err)
	var parts []parse.Part
	stream := e.tok.NewStream()
	for _, id := range ids {
		parts = append(parts, slices.Clone(p.Token(id, stream.AppendStep(nil, id)))...)
	}
	parts = append(append(parts, slices.Clone(p.Next(stream.AppendFlush(nil)))...), p.Flush()...)
	for _, part := range parts {
		require.False(t, e.answer.Must && part.Kind == parse.Text, "%s: text %q in %q", e.title, part.Text, spelling(e.tok, ids))
		if part.Kind != parse.CallFinished {
			continue
		}
		calls++
		require.Empty(t, part.Call.Problem, "%s: %q\n%s", e.title, spelling(e.tok, ids), e.lark)
		v := e.calls[part.Call.Name]
		require.NotNil(t, v, part.Call.Name)
		require.Empty(t, v.Check(part.Call.Arguments), "%s: %s in %q", e.title, part.Call.Arguments, spelling(e.tok, ids))
	}
	if e.answer.Must {
		require.GreaterOrEqual(t, calls, 1, "%s: %q", e.title, spelling(e.tok, ids))
	}
	if !e.answer.Several {
		require.LessOrEqual(t, calls, 1, "%s: %q", e.title, spelling(e.tok, ids))
	}
	return calls
}

// TestFunctoolsIsAWord that models may say, and write Python with, where they may call tools.
func TestFunctoolsIsAWord(t *testing.T) {
	tok := walker(t, nil)
	eos, _ := tok.ID("<end>")
	grammars, err := native.NewGrammarTokenizer(tok, tok.VocabSize(), []int32{eos})
	require.NoError(t, err)
	defer grammars.Close()
	f, _ := parse.Named("functools")
	lark, _, err := f.Constrain(tok, parse.Answer{Several: true, Tools: callables})
	require.NoError(t, err)
	g, err := grammars.Compile("lark", lark)
	require.NoError(t, err)
	defer g.Close()
	for text, good := range map[string]bool{
		"import functools\n@functools.cache\nx = functools[0]": true,
		`Now: functools[{"name": "now", "arguments": {}}]`:     true,
		`functools [ {"name": "now", "arguments": {}}]`:        false,
		"functools\n[\n{": false,
		`functools[{"name": "now", "arguments": {}}] and words`: false,
		`functools[{"name": "none", "arguments": {}}]`:          false,
		`functools[{"name": "now", "arguments": {"extra": 1}}]`: false,
	} {
		m, err := g.NewMatcher()
		require.NoError(t, err)
		ids, err := tok.Encode(text, false)
		require.NoError(t, err)
		for _, id := range append(ids, eos) {
			if id == eos && m.IsStopped() {
				break
			}
			if err = m.Consume(id); err != nil {
				break
			}
		}
		require.Equal(t, good, err == nil, "%q: %v", text, err)
		m.Close()
	}
}

// TestConstrainedCallsAreCalls: whatever a model chooses among the tokens that a grammar
// of a format's calls allows, the format's own parser finds calls in it that are good,
// with valid arguments, and where one call is asked for exactly that: with marks that are
// tokens and marks that are text, where nothing but calls may come, where words may come
// first, and where the prompt has the model think.
func TestConstrainedCallsAreCalls(t *testing.T) {
	valid := map[string]*schema.Validator{}
	for _, c := range callables {
		v, bad := schema.Compile(c.Schema)
		require.Empty(t, bad)
		valid[c.Name] = v
	}
	object := json.RawMessage(`{"type":"object","properties":{"answer":{"type":"string","maxLength":9}},"required":["answer"],"additionalProperties":false}`)
	ended, called, began := 0, 0, 0
	for _, name := range parse.Names() {
		f, _ := parse.Named(name)
		marks, known := marksOf[strings.TrimSuffix(name, "-v3")]
		require.True(t, known || name == "text" || name == "generic", name)
		for _, tokens := range []bool{true, false} {
			if !tokens && name == "harmony" {
				continue
			}
			if !tokens {
				marks = nil
			}
			tok := walker(t, marks)
			eos, _ := tok.ID("<end>")
			grammars, err := native.NewGrammarTokenizer(tok, tok.VocabSize()+9, []int32{eos})
			require.NoError(t, err)
			answers := []parse.Answer{{Must: true}, {Must: true, Several: true}, {Several: true}, {Response: object}}
			if open := thoughts[strings.TrimSpace(f.EndOfReasoning(false))]; open != "" {
				prompt, err := tok.Encode(open, true)
				require.NoError(t, err)
				answers = append(answers, parse.Answer{Must: true, Prompt: prompt})
			}
			var good [][]int32 // calls, which words may stand before
			for _, a := range answers {
				a.Tools = callables
				e := envelope{tok: tok, answer: a, eos: eos, calls: valid}
				e.title = fmt.Sprintf("%s, tokens %t, must %t, several %t, response %t, prompt %t", name, tokens, a.Must, a.Several, a.Response != nil, a.Prompt != nil)
				e.lark, e.written, err = f.Constrain(tok, a)
				require.NoError(t, err, e.title)
				e.grammar, err = grammars.Compile("lark", e.lark)
				require.NoError(t, err, "%s:\n%s", e.title, e.lark)
				n := 0
				for seed := range 12 {
					r := rand.New(rand.NewPCG(uint64(seed), 7))
					var lead []int32
					if !a.Must && a.Response == nil && seed%3 > 0 && !wordless[name] {
						text, err := tok.Encode("So 1 < 2, \"a\" [1] {x} </b> `y`\n", false)
						require.NoError(t, err)
						lead = append(text, good[seed%len(good)]...)
					}
					ids, complete := walk(t, r, e.grammar, lead, eos, eos)
					if !complete {
						continue
					}
					ended++
					n = e.check(t, ids)
					called += min(n, 1)
					if lead != nil {
						require.Positive(t, n, "%s: %q", e.title, spelling(tok, ids))
						began++
					}
					think, thinks := tok.ID(thoughts[strings.TrimSpace(f.EndOfReasoning(false))])
					if a.Must && !a.Several && a.Prompt == nil && !(thinks && ids[0] == think) {
						good = append(good, ids)
					}
				}
				e.grammar.Close()
			}
			grammars.Close()
		}
	}
	t.Logf("%d answers ended, %d of them with calls, %d of these behind words", ended, called, began)
	require.Greater(t, ended, 1500)
	require.Greater(t, called, 1200)
	require.Greater(t, began, 150)
}

func spelling(tok *native.Tokenizer, ids []int32) string {
	var b strings.Builder
	for _, id := range ids {
		b.Write(tok.TokenBytes(id))
	}
	return b.String()
}

// TestResponsesBehindThoughts: a model that thinks does so before an answer that is held
// to a form, and the form holds what people get.
func TestResponsesBehindThoughts(t *testing.T) {
	forms := []struct{ rule, want string }{
		{"%json " + parse.Guided(json.RawMessage(`{"type":"object","properties":{"a":{"enum":["x","y"]}},"required":["a"],"additionalProperties":false}`)), `^\{"a": "[xy]"\}$`},
		{parse.Expression(`a/+b//\/[/]{1,2}\\?`), `^a/+b///[/]{1,2}\\?$`},
		{parse.Expression(""), `^$`},
		{parse.Nested("start: A \"}\" // a comment {\nA: /[xy]{2,3}/ # another"), `^[xy]{2,3}\}$`},
	}
	ended := 0
	for name, marks := range marksOf {
		f, ok := parse.Named(name)
		require.True(t, ok)
		tok := walker(t, marks)
		open := thoughts[strings.TrimSpace(f.EndOfReasoning(false))]
		_, thinks := tok.ID(open)
		eos, _ := tok.ID("<end>")
		grammars, err := native.NewGrammarTokenizer(tok, tok.VocabSize(), []int32{eos})
		require.NoError(t, err)
		prompts := [][]int32{nil}
		if open != "" {
			prompt, err := tok.Encode(open, true)
			require.NoError(t, err)
			prompts = append(prompts, prompt)
		}
		for _, prompt := range prompts {
			for _, form := range forms {
				lark, err := f.Respond(tok, parse.Answer{Prompt: prompt}, form.rule)
				require.NoError(t, err)
				if prompt == nil && !thinks && name != "harmony" {
					require.Empty(t, lark, "%s: nothing comes before the answer", name)
					continue
				}
				g, err := grammars.Compile("lark", lark)
				require.NoError(t, err, "%s:\n%s", name, lark)
				for seed := range 6 {
					ids, complete := walk(t, rand.New(rand.NewPCG(uint64(seed), 11)), g, nil, eos, eos)
					if !complete {
						continue
					}
					ended++
					p, err := f.New(tok, parse.Options{Prompt: prompt})
					require.NoError(t, err)
					var text strings.Builder
					stream := tok.NewStream()
					for _, id := range ids {
						for _, part := range p.Token(id, stream.AppendStep(nil, id)) {
							if part.Kind == parse.Text {
								text.WriteString(part.Text)
							}
						}
					}
					for _, part := range p.Flush() {
						if part.Kind == parse.Text {
							text.WriteString(part.Text)
						}
					}
					require.Regexp(t, form.want, text.String(), "%s: %q", name, spelling(tok, ids))
				}
				g.Close()
			}
		}
		grammars.Close()
	}
	require.Greater(t, ended, 200)
}
