package parse

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest/leaks"
	"harmonyd/schema"
)

func TestMain(m *testing.M) { os.Exit(leaks.Run(m)) }

// vocabulary is a Tokenizer of control tokens, whose ids are 256 and up, and
// bytes.
type vocabulary []string

func (v vocabulary) SpecialLiterals() []string { return v }

func (v vocabulary) Encode(text string, special bool) ([]int32, error) {
	if i := slices.Index(v, text); special && i >= 0 {
		return []int32{256 + int32(i)}, nil
	}
	ids := make([]int32, len(text))
	for i := range ids {
		ids[i] = int32(text[i])
	}
	return ids, nil
}

func (v vocabulary) TokenBytes(id int32) []byte {
	if id >= 256 {
		return []byte(v[id-256])
	}
	return []byte{byte(id)}
}

// token is what a parser is given at once.
type token struct {
	id   int32
	text string
}

// tokens cuts an answer at the literals of v; what stands between ⟦ and ⟧ is text,
// though it may look like one.
func (v vocabulary) tokens(answer string) []token {
	var out []token
	text := func(s string) {
		if s != "" {
			out = append(out, token{-1, s})
		}
	}
	plain := func(s string) {
		for s != "" {
			at, found := len(s), -1
			for i, literal := range v {
				if k := strings.Index(s, literal); k >= 0 && k < at {
					at, found = k, i
				}
			}
			if text(s[:at]); found < 0 {
				return
			}
			out = append(out, token{256 + int32(found), ""})
			s = s[at+len(v[found]):]
		}
	}
	for answer != "" {
		before, rest, _ := strings.Cut(answer, "⟦")
		inside, after, _ := strings.Cut(rest, "⟧")
		plain(before)
		text(inside)
		answer = after
	}
	return out
}

// input is what the tokens say, with the literals of control tokens.
func (v vocabulary) input(tokens []token) string {
	var b strings.Builder
	for _, t := range tokens {
		if t.id >= 0 {
			b.Write(v.TokenBytes(t.id))
		}
		b.WriteString(t.text)
	}
	return b.String()
}

// cut cuts the texts of tokens where at says so: places in their bytes.
func cut(tokens []token, at func(place int) bool) []token {
	var out []token
	place := 0
	for _, t := range tokens {
		from := 0
		for i := 1; i < len(t.text); i++ {
			if at(place + i) {
				out = append(out, token{-1, t.text[from:i]})
				from = i
			}
		}
		place += len(t.text)
		out = append(out, token{t.id, t.text[from:]})
	}
	return out
}

// parse runs a parser over tokens and returns its parts, neighbours of one kind
// joined. It fails where a byte was lost or the parts of a call do not fit.
func parse(t require.TestingT, p Parser, tokens []token, input string) []Part {
	var parts []Part
	take := func(more []Part) {
		for _, part := range more {
			if last := len(parts) - 1; last >= 0 && parts[last].Kind == part.Kind && part.Call == nil {
				parts[last].Text += part.Text
			} else {
				parts = append(parts, part)
			}
		}
	}
	for _, tok := range tokens {
		take(p.Token(tok.id, []byte(tok.text)))
	}
	take(p.Flush())
	var all strings.Builder
	var begun *Call
	arguments, calls := "", 0
	for _, part := range parts {
		switch part.Kind {
		case Text, Reasoning, Markup:
			require.NotEmpty(t, part.Text)
			all.WriteString(part.Text)
		case CallBegun:
			require.Nil(t, begun, "a call begins within another")
			begun, arguments = part.Call, ""
			require.Equal(t, calls, begun.Index)
		case CallArguments:
			require.NotNil(t, begun)
			arguments += part.Text
		case CallFinished:
			c := part.Call
			all.WriteString(c.Raw)
			require.Equal(t, calls, c.Index)
			if c.Problem == "" {
				require.NotNil(t, begun, "a good call has no beginning")
				require.Equal(t, begun.Name, c.Name)
				require.Equal(t, string(c.Arguments), arguments)
				require.Nil(t, schema.Scan(c.Arguments, maxDepth, nil))
				require.Equal(t, byte('{'), c.Arguments[0])
			} else {
				require.Nil(t, c.Arguments)
			}
			begun = nil
			calls++
		}
	}
	require.Nil(t, begun, "a call has no end")
	require.Equal(t, input, all.String(), "bytes were lost")
	return parts
}

// show writes parts in a form for people: T text, R reasoning, M markup, C a call,
// X what is none. What streams of a call is left out.
func show(parts []Part) string {
	var out []string
	for _, p := range parts {
		switch p.Kind {
		case CallBegun, CallArguments:
		case CallFinished:
			if p.Call.Problem != "" {
				out = append(out, fmt.Sprintf("X[%s: %s]", p.Call.Problem, p.Call.Raw))
			} else {
				out = append(out, fmt.Sprintf("C[%s %s]", p.Call.Name, p.Call.Arguments))
			}
		default:
			out = append(out, fmt.Sprintf("%c[%s]", "TRM"[p.Kind], p.Text))
		}
	}
	return strings.Join(out, " ")
}

// offered are the tools of the tests.
var offered = []schema.ToolSpec{
	{Name: "f", InputSchema: []byte(`{"type":"object","properties":{"s":{"type":"string"},"n":{"type":"integer"},"o":{"type":"object"},"b":{"type":"boolean"},"l":{"type":["array","null"]}}}`)},
	{Name: "get_weather", InputSchema: []byte(`{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer"}},"required":["city"]}`)},
	{Name: "g", InputSchema: []byte(`{"type":"object"}`)},
}

// example is an answer and what it is.
type example struct {
	format, answer, want string
	vocabulary           vocabulary
	prompt               string
}

func (e *example) parser(t require.TestingT) Parser {
	f, ok := Named(e.format)
	require.True(t, ok, e.format)
	var prompt []int32
	for _, tok := range e.vocabulary.tokens(e.prompt) {
		if tok.id >= 0 {
			prompt = append(prompt, tok.id)
		}
		for _, c := range []byte(tok.text) {
			prompt = append(prompt, int32(c))
		}
	}
	var tokenizer Tokenizer
	if e.vocabulary != nil {
		tokenizer = e.vocabulary
	}
	p, err := f.New(tokenizer, Options{Tools: offered, Prompt: prompt})
	require.NoError(t, err)
	return p
}

// checkSplits parses an answer in many pieces, always with the same result: each
// place where it can be cut alone, each length of pieces, and random ones. A short
// answer is cut in every way there is.
func (e *example) checkSplits(t require.TestingT, random int) string {
	tokens := e.vocabulary.tokens(e.answer)
	input := e.vocabulary.input(tokens)
	p := e.parser(t)
	want := parse(t, p, tokens, input)
	again := func(at func(int) bool) {
		require.Equal(t, show(want), show(parse(t, p, cut(tokens, at), input)), "%s: %q", e.format, e.answer)
	}
	n := len(input)
	for k := 1; k < n; k++ {
		again(func(place int) bool { return place == k })
		if k <= 40 {
			again(func(place int) bool { return place%k == 0 })
		}
	}
	if n <= 12 {
		for set := range 1 << n {
			again(func(place int) bool { return set>>place&1 == 1 })
		}
	}
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for range random {
		share := 1 + r.IntN(20)
		again(func(int) bool { return r.IntN(share) == 0 })
	}
	return show(want)
}

// parses is how many executions TestP6Mutants makes at least.
var parses = flag.Int("parses", 0, "make at least so many executions over mutants, with a seed of their own")

// TestP6 shows the figure P6: of each example every split gives the same result,
// and the parts are the answer to the byte.
func TestP6EverySplit(t *testing.T) {
	require.Greater(t, len(examples), 150)
	for _, e := range examples {
		require.Equal(t, e.want, e.checkSplits(t, 30), "%s: %q", e.format, e.answer)
	}
}

// TestP6Mutants: the same of answers with pieces taken out, doubled or exchanged,
// in each format and with marks that are tokens and marks that are text.
func TestP6Mutants(t *testing.T) {
	seed := uint64(6)
	if *parses > 0 {
		seed = rand.Uint64()
		t.Logf("seed %d", seed)
	}
	r := rand.New(rand.NewPCG(6, seed))
	checked, broken, executions := 0, 0, 0
	for checked == 0 || executions < *parses {
		for _, e := range slices.Repeat(examples, 12) {
			m := e
			m.answer = mutate(r, e.answer, examples[r.IntN(len(examples))].answer)
			if e.vocabulary != nil && e.format != "harmony" && r.IntN(3) == 0 {
				m.vocabulary = nil
			}
			tokens := m.vocabulary.tokens(m.answer)
			input := m.vocabulary.input(tokens)
			p := m.parser(t)
			want := show(parse(t, p, tokens, input))
			for range 6 {
				share := 1 + r.IntN(20)
				got := show(parse(t, p, cut(tokens, func(int) bool { return r.IntN(share) == 0 }), input))
				require.Equal(t, want, got, "%s: %q", m.format, m.answer)
			}
			executions += 7
			checked++
			broken += strings.Count(want, "X[")
		}
	}
	require.Greater(t, checked, 1800)
	require.Greater(t, broken, 200)
	t.Logf("parsers: %d executions over %d mutants in %d formats, %d calls with a problem, no finding", executions, checked, len(formats), broken)
}

// mutate changes an answer in one or two places. What it puts in reaches to the bounds of
// headers and of space that is held back.
func mutate(r *rand.Rand, answer, other string) string {
	for range 1 + r.IntN(2) {
		a, b := r.IntN(len(answer)+1), r.IntN(len(answer)+1)
		a, b = min(a, b), max(a, b)
		switch r.IntN(5) {
		case 0:
			answer = answer[:a] + strings.Repeat(string(" x\n="[r.IntN(4)]), r.IntN(2*maxHeader)) + answer[a:]
		case 1:
			answer = answer[:a] + answer[min(len(answer), a+r.IntN(8)):]
		case 2:
			answer = answer[:b] + answer[a:b] + answer[b:]
		case 3:
			answer = answer[:a] + other[min(len(other), r.IntN(len(other)+1)):] + answer[b:]
		default:
			answer = answer[:a]
		}
	}
	return answer
}

// TestHeldBack: text is held back only while it may be a mark.
func TestHeldBack(t *testing.T) {
	for _, e := range examples {
		p := e.parser(t)
		in := p.(interface{ held() int })
		for _, tok := range cut(e.vocabulary.tokens(e.answer), func(int) bool { return true }) {
			calling := false
			for _, part := range p.Token(tok.id, []byte(tok.text)) {
				calling = part.Kind == CallBegun || calling && part.Kind != CallFinished
			}
			if in.held() >= 0 {
				require.LessOrEqual(t, in.held(), maxHeader+maxHeldSpace, "%s: %q", e.format, e.answer)
			}
		}
	}
	long := strings.Repeat("a < b ", 1<<12)
	p := (&example{format: "hermes"}).parser(t)
	given := 0
	for i := range long {
		for _, part := range p.Token(-1, []byte(long[i:i+1])) {
			given += len(part.Text)
		}
		require.Less(t, i-given, len("<tool_call>")+maxHeldSpace)
	}
}

// held is how many bytes of prose are held back, or -1 within a call.
func (m *machine) held() int {
	if m.calling || m.dialect != nil && m.fresh {
		return -1
	}
	return len(m.buf)
}

// TestEndlessCalls: what is too long to be a call is a bad one, and the rest of the
// answer is read on.
func TestEndlessCalls(t *testing.T) {
	long := strings.Repeat("é", maxCall/2)
	for _, e := range []example{
		{format: "hermes", answer: `<tool_call>{"name":"f","arguments":{"s":"` + long},
		{format: "hermes", answer: `<tool_call>{"name":"f","arguments":{"s":"` + long + `"}}`},
		{format: "hermes", answer: `<tool_call>[` + long},
		{format: "glm", answer: `<tool_call>f<arg_key>s</arg_key><arg_value>` + long, vocabulary: qwen},
		{format: "qwen-coder", answer: `<tool_call><function=f><parameter=s>` + long, vocabulary: qwen},
		{format: "pythonic", answer: `[f(s="` + long},
		{format: "mistral", answer: `[TOOL_CALLS][{"name":"f","arguments":{"s":"` + long, vocabulary: mistral3},
		{format: "mistral", answer: `[TOOL_CALLS]f[ARGS]{"s":"` + long, vocabulary: mistral3},
		{format: "gemma", answer: `<|tool_call>call:f{s:<|"|>` + long, vocabulary: gemma4},
		{format: "deepseek", answer: v3Open + "function" + v3Sep + long, vocabulary: dseek},
		{format: "minimax", answer: `<minimax:tool_call><invoke name="f"><parameter name="s">` + long, vocabulary: m2},
		{format: "deepseek-v3.2", answer: v32Open + `<｜DSML｜parameter name="s" string="true">` + long, vocabulary: v32},
		{format: "functools", answer: `functools[{"name":"f","arguments":{"s":"` + long},
		{format: "harmony", answer: `<|channel|>commentary to=functions.f<|message|>{"s":"` + long, vocabulary: gptOSS, prompt: begins},
	} {
		tokens := e.vocabulary.tokens(e.answer)
		input := e.vocabulary.input(tokens)
		want := show(parse(t, e.parser(t), tokens, input))
		require.Regexp(t, `^(M\[[^]]*\] )?X\[`, want, e.format)
		for _, n := range []int{65537, maxCall - 1} {
			got := show(parse(t, e.parser(t), cut(tokens, func(place int) bool { return place%n == 0 }), input))
			require.True(t, want == got, "%s in pieces of %d", e.format, n)
		}
	}
}

// FuzzParse: no input makes any format lose a byte, panic, loop, or depend on how
// the answer is cut.
func FuzzParse(f *testing.F) {
	for i, e := range examples {
		f.Add(uint8(slices.Index(Names(), e.format)), e.answer, uint64(i), e.vocabulary != nil)
	}
	vocabularies := map[string]vocabulary{
		"minimax": m2, "deepseek-v3.2": v32,
		"harmony": gptOSS, "hermes": qwen, "qwen-coder": qwen, "glm": qwen, "mistral": mistral3, "deepseek": dseek, "kimi": kimi, "gemma": gemma4, "llama": llama3, "pythonic": lfm,
	}
	f.Fuzz(func(t *testing.T, format uint8, answer string, seed uint64, tokenized bool) {
		e := example{format: Names()[int(format)%len(formats)], answer: answer}
		if v := vocabularies[e.format]; tokenized || e.format == "harmony" {
			e.vocabulary = v
		}
		if seed&1 == 1 && e.format == "harmony" {
			e.prompt = begins
		}
		tokens := e.vocabulary.tokens(answer)
		input := e.vocabulary.input(tokens)
		want := show(parse(t, e.parser(t), tokens, input))
		r := rand.New(rand.NewPCG(seed, 0))
		share := 1 + r.IntN(20)
		require.Equal(t, want, show(parse(t, e.parser(t), cut(tokens, func(int) bool { return r.IntN(share) == 0 }), input)))
	})
}
