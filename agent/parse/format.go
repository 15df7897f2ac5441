package parse

import (
	"bytes"
	"slices"
	"strings"
)

// Format is a format of answers: how calls are written, and reasoning.
type Format struct {
	// Name is what the format is called in settings.
	Name string
	// families are beginnings of the model types that have the format, signs are
	// texts of which a chat template that teaches it has all those of one entry.
	families []string
	signs    [][]string
	calls    func(*tagger, *toolbox) dialect
	// write gives the grammar of calls; nil where they are told in Hermes' format.
	write    func(*writer) form
	thinking [2]string // the marks around reasoning
	exact    *string   // the mark of calls in an answer that a grammar writes
	harmony  bool
}

var (
	think        = [2]string{"<think>", "</think>"}
	mistralThink = [2]string{"[THINK]", "[/THINK]"}
	cohereThink  = [2]string{"<|START_THINKING|>", "<|END_THINKING|>"}
	gemmaThink   = [2]string{"<|channel>", "<channel|>"}
)

// formats are all formats. The first whose signs are in a model's template is the
// model's; a model whose template shows none has the one of its type.
var formats = []Format{
	{Name: "harmony", families: []string{"gpt_oss"}, signs: [][]string{{"<|channel|>", "<|message|>", "<|start|>"}}, harmony: true},
	{Name: "qwen-coder", families: []string{"qwen3_5", "qwen3_next"}, signs: [][]string{{"<tool_call>", "<function="}}, calls: newHermes, write: writeCoder, thinking: think},
	{Name: "glm", families: []string{"glm4_moe", "glm"}, signs: [][]string{{"<tool_call>", "<arg_key>"}}, calls: newHermes, write: writeGLM, thinking: think},
	{Name: "hermes", families: []string{"qwen", "smollm3", "hermes", "granitemoehybrid"}, signs: [][]string{{"<tool_call>"}}, calls: newHermes, write: writeHermes, thinking: think},
	{Name: "mistral", families: []string{"mistral", "mixtral", "ministral", "pixtral"}, signs: [][]string{{"[TOOL_CALLS]"}, {"[AVAILABLE_TOOLS]"}}, calls: newMistral, write: writeMistral, thinking: mistralThink},
	{Name: "deepseek-v3.2", families: []string{"deepseek_v32"}, signs: [][]string{{dsml}}, calls: newDeepSeek32, write: writeDeepSeek32, thinking: think},
	{Name: "deepseek-v3", signs: [][]string{{"<｜tool▁calls▁begin｜>", "```json"}}, calls: newDeepSeek, write: writeDeepSeek3, thinking: think},
	{Name: "deepseek", families: []string{"deepseek"}, signs: [][]string{{"<｜tool▁calls▁begin｜>"}, {"<｜tool▁call▁begin｜>"}}, calls: newDeepSeek, write: writeDeepSeek, thinking: think},
	{Name: "minimax", families: []string{"minimax"}, signs: [][]string{{"<minimax:tool_call>"}, {"<tool_calls>"}}, calls: newMiniMax, write: writeMiniMax, thinking: think},
	{Name: "kimi", families: []string{"kimi"}, signs: [][]string{{"<|tool_calls_section_begin|>"}}, calls: newKimi, write: writeKimi, thinking: think},
	{Name: "gemma", families: []string{"gemma4", "functiongemma"}, signs: [][]string{{"<|tool_call>"}, {"<start_function_call>"}}, calls: newGemma, write: writeGemma, thinking: gemmaThink},
	{Name: "cohere", families: []string{"cohere2", "cohere"}, signs: [][]string{{"<|START_ACTION|>"}}, calls: newCohere, write: writeCohere, thinking: cohereThink},
	{Name: "granite", families: []string{"granite", "phi4"}, signs: [][]string{{"<|tool_call|>"}}, calls: newGranite, write: writeGranite, thinking: think},
	{Name: "functools", signs: [][]string{{"functools["}}, calls: newFunctools, write: writeFunctools, thinking: think},
	{Name: "pythonic", families: []string{"llama4", "lfm2"}, signs: [][]string{{"<|python_start|>"}, {"<|tool_call_start|>"}, {"[func_name1("}, {"<|tool_list_start|>"}}, calls: newPythonic, write: writePythonic, thinking: think},
	{Name: "llama", families: []string{"mllama"}, signs: [][]string{{"<|python_tag|>"}, {`"parameters":`, "<|start_header_id|>"}, {"Environment: ipython"}, {"<|start_header_id|>", "tool_calls"}}, calls: newLlama, write: writeLlama, thinking: think},
	{Name: "fenced", families: []string{"gemma3"}, signs: [][]string{{"```tool_code"}}, calls: newGeneric, write: writeFenced, thinking: think},
	// Models that know of no tools are told of them in the Hermes format.
	{Name: "generic", calls: newGeneric, thinking: think},
	{Name: "text"},
}

// newGeneric takes calls in any of the forms that models use without having learnt
// one.
func newGeneric(tags *tagger, tools *toolbox) dialect {
	return &joint{forms: []dialect{newHermes(tags, tools), newFenced(tags, tools)}}
}

// Names lists the formats.
func Names() []string {
	names := make([]string, len(formats))
	for i := range formats {
		names[i] = formats[i].Name
	}
	return names
}

// Named returns the format of a name.
func Named(name string) (Format, bool) {
	i := slices.IndexFunc(formats, func(f Format) bool { return f.Name == name })
	if i < 0 {
		return Format{}, false
	}
	return formats[i], true
}

// Detect chooses the format of a model by the text of its chat template, which
// says best what it has learnt, and else by its type, as config.json has it. Both
// may be empty: the result is then generic.
func Detect(modelType, template string) Format {
	for _, f := range formats {
		for _, sign := range f.signs {
			if !slices.ContainsFunc(sign, func(s string) bool { return !strings.Contains(template, s) }) {
				return f.thinks(template)
			}
		}
	}
	found, longest := len(formats)-2, 0
	for i, f := range formats {
		for _, family := range f.families {
			if strings.HasPrefix(modelType, family) && len(family) > longest {
				found, longest = i, len(family)
			}
		}
	}
	f := formats[found]
	if calls := f.calls; calls != nil && f.Name != "generic" {
		// The template may show no tools at all, and the model be told of them in the
		// generic way.
		f.write = nil
		f.calls = func(tags *tagger, tools *toolbox) dialect {
			return &joint{forms: []dialect{calls(tags, tools), newGeneric(tags, tools)}}
		}
	}
	return f.thinks(template)
}

// thinks gives f the marks of reasoning that the template shows.
func (f Format) thinks(template string) Format {
	for _, marks := range [][2]string{think, mistralThink, cohereThink, gemmaThink, {"<seed:think>", "</seed:think>"}} {
		if strings.Contains(template, marks[1]) {
			f.thinking = marks
			break
		}
	}
	return f
}

// Reasoning is the mark that opens reasoning; empty where the format has none, or, as
// Harmony, no one token that only opens it.
func (f Format) Reasoning() string { return f.thinking[0] }

// EndOfReasoning is what a model writes where its reasoning ends and its answer begins;
// empty where the format has no reasoning. A grammar, where there is one, holds the
// answer to its form from there on.
func (f Format) EndOfReasoning(constrained bool) string {
	switch {
	case f.harmony && constrained:
		return "<|end|><|start|>assistant"
	case f.harmony:
		return "<|end|><|start|>assistant<|channel|>final<|message|>"
	case f.thinking[1] == "":
		return ""
	}
	return "\n" + f.thinking[1] + "\n\n"
}

// New returns a parser of one answer. A nil tokenizer is allowed.
func (f Format) New(tokenizer Tokenizer, o Options) (Parser, error) {
	tags := &tagger{tokenizer: tokenizer}
	if f.harmony {
		return newHarmony(tags, o)
	}
	m := &machine{exact: f.exact}
	if f.thinking[0] != "" {
		m.think = thinking{tags.tag(f.thinking[0]), tags.tag(f.thinking[1])}
	}
	if f.calls != nil && len(o.Tools) > 0 {
		m.dialect = f.calls(tags, &toolbox{o.Tools})
	}
	m.known = tags.known
	if m.think.open != nil && tags.endsWith(o.Prompt, m.think.open) {
		m.initial = Reasoning
	}
	m.reset()
	return m, tags.err
}

// tagger finds out which marks are control tokens of a model.
type tagger struct {
	tokenizer Tokenizer
	literals  []string
	known     []*tag
	err       error
}

// tag returns the mark of a literal.
func (g *tagger) tag(literal string) *tag {
	t := textTag(literal)
	if g.tokenizer == nil {
		return t
	}
	if g.literals == nil {
		g.literals = g.tokenizer.SpecialLiterals()
	}
	if !slices.Contains(g.literals, literal) {
		return t
	}
	ids, err := g.tokenizer.Encode(literal, true)
	if err != nil {
		g.err = err
	}
	// A literal of several ids is text that is split somehow.
	if len(ids) == 1 {
		t.id = ids[0]
		g.known = append(g.known, t)
	}
	return t
}

// inline makes a token as good as its characters, for marks of which it is a part.
func (g *tagger) inline(literal string) {
	if t := g.tag(literal); t.isToken() {
		t.inline = true
	}
}

// endsWith reports whether a prompt ends with a mark, but for white space.
func (g *tagger) endsWith(prompt []int32, t *tag) bool {
	if g.tokenizer == nil {
		return false
	}
	var end []byte
	for i := len(prompt) - 1; i >= 0 && len(bytes.TrimSpace(end)) < len(t.literal); i-- {
		end = slices.Concat(g.tokenizer.TokenBytes(prompt[i]), end)
	}
	return bytes.HasSuffix(bytes.TrimSpace(end), []byte(t.literal))
}
