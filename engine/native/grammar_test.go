package native

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest"
)

// padding is how many logits there are beyond the tokenizer's vocabulary.
const padding = 71

func grammarTokenizer(t testing.TB, tok *Tokenizer) (*GrammarTokenizer, int32) {
	t.Helper()
	eos, ok := tok.ID("<|im_end|>")
	if !ok {
		eos, ok = tok.ID("</s>")
	}
	require.True(t, ok)
	g, err := NewGrammarTokenizer(tok, tok.VocabSize()+padding, []int32{eos})
	require.NoError(t, err)
	t.Cleanup(g.Close)
	return g, eos
}

func matcher(t testing.TB, g *GrammarTokenizer, kind, source string) *Matcher {
	t.Helper()
	grammar, err := g.Compile(kind, source)
	require.NoError(t, err)
	defer grammar.Close() // a matcher outlives it
	m, err := grammar.NewMatcher()
	require.NoError(t, err)
	t.Cleanup(m.Close)
	return m
}

// generate takes random allowed tokens until an end token, or gives up.
func generate(t *testing.T, r *rand.Rand, m *Matcher, eos int32, limit int) ([]int32, bool) {
	t.Helper()
	mask := make([]uint32, m.MaskWords())
	var ids []int32
	for range limit {
		require.NoError(t, m.Mask(mask))
		choice := enginetest.MaskTokens(mask)
		require.NotEmpty(t, choice)
		id := choice[r.IntN(len(choice))]
		// Lean to the ends, or free text never ends.
		for range 3 {
			if c := choice[r.IntN(len(choice))]; c == eos || c < 256 {
				id = c
			}
		}
		if id == eos {
			accepting, err := m.IsAccepting()
			require.NoError(t, err)
			require.True(t, accepting || m.IsStopped())
			return ids, true
		}
		require.NoError(t, m.Consume(id), "after %v of %d", ids, len(choice))
		ids = append(ids, id)
	}
	return ids, false
}

var schemas = []string{
	`{"type":"object","properties":{"city":{"type":"string","maxLength":12},"days":{"type":"integer","minimum":1,"maximum":14}},"required":["city","days"],"additionalProperties":false}`,
	`{"type":"object","properties":{"unit":{"enum":["celsius","fahrenheit"]},"on":{"type":"boolean"}},"required":["unit"],"additionalProperties":false}`,
	`{"type":"array","items":{"type":"number"},"minItems":1,"maxItems":3}`,
	`{"anyOf":[{"type":"null"},{"type":"string","pattern":"^[a-c]{1,5}$"}]}`,
	`{"type":"object","properties":{"next":{"$ref":"#"},"v":{"const":7}},"required":["v"],"additionalProperties":false}`,
	`{"type":"object","properties":{"日本":{"type":"string","maxLength":3}},"required":["日本"],"additionalProperties":false}`,
}

func TestGeneratedTextIsValid(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, f := range fixtures[:3] {
		tok := load(t, f.json(t))
		g, eos := grammarTokenizer(t, tok)
		for _, source := range schemas {
			if f.name == "unigram" && strings.Contains(source, "const") {
				continue // it has no 7
			}
			doc, err := jsonschema.UnmarshalJSON(strings.NewReader(source))
			require.NoError(t, err)
			compiler := jsonschema.NewCompiler()
			require.NoError(t, compiler.AddResource("mem:s", doc))
			schema, err := compiler.Compile("mem:s")
			require.NoError(t, err)
			grammar, err := g.Compile("json_schema", source)
			require.NoError(t, err)
			done := 0
			for range 30 {
				m, err := grammar.NewMatcher()
				require.NoError(t, err)
				ids, complete := generate(t, r, m, eos, 200)
				m.Close()
				if !complete {
					continue
				}
				done++
				text := spelled(tok, ids)
				v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
				require.NoError(t, err, "%s: %q", f.name, text)
				require.NoError(t, schema.Validate(v), "%s: %q", f.name, text)
			}
			grammar.Close()
			require.NotZero(t, done, "%s: %s", f.name, source)
		}
		m := matcher(t, g, "regex", `[a-f]{2,4}:(foo|日本)`)
		ids, complete := generate(t, r, m, eos, 200)
		require.True(t, complete)
		require.Regexp(t, regexp.MustCompile(`^[a-f]{2,4}:(foo|日本)$`), spelled(tok, ids))
	}
}

func spelled(tok *Tokenizer, ids []int32) string {
	var out []byte
	for _, id := range ids {
		out = append(out, tok.TokenBytes(id)...)
	}
	return string(out)
}

func TestControlTokensAreNoText(t *testing.T) {
	tok := load(t, byteLevelJSON(t))
	// An end token that the tokenizer takes for an ordinary one.
	ordinary, ok := tok.ID("er")
	require.True(t, ok)
	end, _ := tok.ID("<|im_end|>")
	call, _ := tok.ID("<tool_call>")
	g, err := NewGrammarTokenizer(tok, tok.VocabSize()+padding, []int32{end, ordinary})
	require.NoError(t, err)
	defer g.Close()

	m := matcher(t, g, "regex", `(?s:.)+`)
	mask := make([]uint32, m.MaskWords())
	require.NoError(t, m.Mask(mask))
	for _, id := range enginetest.MaskTokens(mask) {
		require.Less(t, int(id), tok.VocabSize(), "padding is never allowed")
		require.Zero(t, tok.table.flags[id]&control, "%q", tok.TokenBytes(id))
		require.NotEqual(t, ordinary, id)
	}
	require.NotContains(t, enginetest.MaskTokens(mask), int32(0xff), "a lone 0xFF is llguidance's marker")
	require.NoError(t, m.Consume('x'))
	require.NoError(t, m.Mask(mask))
	require.Contains(t, enginetest.MaskTokens(mask), end)
	require.Contains(t, enginetest.MaskTokens(mask), ordinary)

	m = matcher(t, g, "lark", "start: <tool_call> \"x\" </tool_call>")
	require.NoError(t, m.Mask(mask))
	require.Equal(t, []int32{call}, enginetest.MaskTokens(mask))
	require.NoError(t, m.Consume(call))
	require.NoError(t, m.Mask(mask))
	require.Equal(t, []int32{'x'}, enginetest.MaskTokens(mask))
}

func TestRefusedTokensChangeNothing(t *testing.T) {
	tok := load(t, byteLevelJSON(t))
	g, eos := grammarTokenizer(t, tok)
	m := matcher(t, g, "regex", "abc")
	for _, id := range []int32{'b', -1, 1 << 30, eos, int32(tok.VocabSize() + 3)} {
		require.Error(t, m.Consume(id), id)
	}
	for _, c := range []int32{'a', 'b', 'c'} {
		require.NoError(t, m.Consume(c))
	}
	require.True(t, m.IsStopped())
	accepting, err := m.IsAccepting()
	require.NoError(t, err)
	require.True(t, accepting)
	mask := make([]uint32, m.MaskWords())
	require.NoError(t, m.Mask(mask))
	require.Equal(t, []int32{eos}, enginetest.MaskTokens(mask))
	require.Error(t, m.Consume('a'))
	forced, err := m.ForcedTokens()
	require.NoError(t, err)
	require.Empty(t, forced)
	require.Error(t, m.Mask(mask[1:]))
	require.Error(t, m.Mask(nil))
}

func TestForcedTokensAreWhatTheTokenizerWouldSay(t *testing.T) {
	for _, f := range fixtures[:2] {
		tok := load(t, f.json(t))
		g, _ := grammarTokenizer(t, tok)
		m := matcher(t, g, "json_schema",
			`{"type":"object","properties":{"temperature":{"type":"boolean"}},"required":["temperature"],"additionalProperties":false}`)
		forced, err := m.ForcedTokens()
		require.NoError(t, err)
		require.NotEmpty(t, forced, f.name)
		text := spelled(tok, forced)
		require.True(t, strings.HasPrefix(`{"temperature":`, text), "%s: %q", f.name, text)
		for _, id := range forced {
			require.NoError(t, m.Consume(id))
		}
	}
}

func TestWhatTheVocabularyCannotSpellIsAnError(t *testing.T) {
	tok := load(t, unigramJSON(t))
	g, _ := grammarTokenizer(t, tok)
	m := matcher(t, g, "regex", "a7")
	a, ok := tok.ID("a")
	require.True(t, ok)
	require.NoError(t, m.Consume(a))
	require.Error(t, m.Mask(make([]uint32, m.MaskWords())))
}

func TestGrammarsThatCannotBeEnforcedAreRefusedByName(t *testing.T) {
	tok := load(t, byteLevelJSON(t))
	g, _ := grammarTokenizer(t, tok)
	before := Live()
	for _, c := range []struct{ kind, source, names string }{
		{"json_schema", `{"not":{"type":"string"}}`, "not"},
		{"json_schema", `{"type":"array","uniqueItems":true}`, "uniqueItems"},
		{"json_schema", `{"if":{"type":"string"},"then":{"minLength":3}}`, "if"},
		{"json_schema", `{"$ref":"http://example.invalid/x"}`, "example.invalid"},
		{"json_schema", `{"type":"string","pattern":"("}`, "("},
		{"json_schema", `{`, "EOF"},
		{"json_schema", strings.Repeat(`{"items":`, 500) + "1" + strings.Repeat("}", 500), "recursion"},
		{"regex", `(`, "regex"},
		{"regex", strings.Repeat("(", 5000), "deeper"},
		{"lark", `start: unknown_rule`, "unknown_rule"},
		{"lark", `start: <no_such_token>`, "no_such_token"},
		{"lark", ``, "start"},
		{"gbnf", `root ::= "a"`, "gbnf"},
	} {
		_, err := g.Compile(c.kind, c.source)
		require.ErrorContains(t, err, c.names, "%s %.40s", c.kind, c.source)
		require.Less(t, len(err.Error()), 1000)
		require.NotContains(t, err.Error(), "backtrace")
	}
	require.Equal(t, before, Live())
	m := matcher(t, g, "json_schema", `{"x-guidance":{"lenient":true},"type":"array","uniqueItems":true,"maxItems":1}`)
	require.NoError(t, m.Consume('['))
}

func TestVocabularyMustFit(t *testing.T) {
	tok := load(t, byteLevelJSON(t))
	for _, c := range []struct {
		vocab int
		eos   []int32
	}{
		{0, []int32{1}}, {-5, []int32{1}}, {1 << 30, []int32{1}}, {600, nil}, {600, []int32{600}}, {600, []int32{-1}},
	} {
		_, err := NewGrammarTokenizer(tok, c.vocab, c.eos)
		require.Error(t, err, c)
	}
	// Fewer logits than tokens: the tokens beyond do not exist.
	g, err := NewGrammarTokenizer(tok, 256, []int32{0})
	require.NoError(t, err)
	defer g.Close()
	m := matcher(t, g, "json_schema", schemas[0])
	forced, err := m.ForcedTokens()
	require.NoError(t, err)
	for _, id := range forced {
		require.Less(t, id, int32(256))
	}
}

func TestMatcherAfterClose(t *testing.T) {
	tok := load(t, byteLevelJSON(t))
	g, _ := grammarTokenizer(t, tok)
	grammar, err := g.Compile("regex", "a")
	require.NoError(t, err)
	m, err := grammar.NewMatcher()
	require.NoError(t, err)
	m.Close()
	m.Close()
	grammar.Close()
	require.ErrorIs(t, m.Consume(1), ErrClosed)
	require.ErrorIs(t, m.Mask(nil), ErrClosed)
	require.True(t, m.IsStopped())
	_, err = m.ForcedTokens()
	require.ErrorIs(t, err, ErrClosed)
	_, err = grammar.NewMatcher()
	require.ErrorIs(t, err, ErrClosed)
}

func TestMasksDoNotAllocate(t *testing.T) {
	tok := load(t, byteLevelJSON(t))
	g, _ := grammarTokenizer(t, tok)
	m := matcher(t, g, "regex", "a*")
	mask := make([]uint32, m.MaskWords())
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if m.Mask(mask) != nil || m.Consume('a') != nil {
			panic("mask")
		}
	}))
}
