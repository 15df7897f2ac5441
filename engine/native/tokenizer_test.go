package native

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// texts are hard for one reason or another.
var texts = []string{
	"", " ", "a", "The quick brown fox", " leading and trailing ", "\n\n\t \r\n", "don't can't I'LL",
	"日本語のテキスト", "👨‍👩‍👧‍👦 family 🇩🇪 flag 1️⃣", "e\u0301 vs \u00e9", "Zalgo: h̷e̷l̷l̷o̷", "\u0000\u0001\u001f\u007f",
	"\u00a0\u0085\u2028\u3000", "ｆｕｌｌ　ｗｉｄｔｈ ﬁ ligature", "한국어 조합형 ᄒ", "\U000F0000 private \uFFFD replaced",
	"{\"a\": [1, 2.5e-9, null]}", "func f() {\n\treturn\n}\n", strings.Repeat(" ", 100),
	strings.Repeat("ab", 300), strings.Repeat("é", 50), "<|im", "|>", "<|im_start", "im_end|>", "< /s>",
	"𝒳𝒴𝒵 𐍈", "ا لعربية עברית", "1234567890 1,234.56", "a\u200bb\ufeffc",
}

func TestOrdinaryTextRoundTrips(t *testing.T) {
	for _, f := range fixtures[:2] {
		tok := load(t, f.json(t))
		for _, text := range texts {
			for _, special := range []bool{false, true} {
				ids, err := tok.Encode(text, special)
				require.NoError(t, err)
				got, err := tok.Decode(ids, false)
				require.NoError(t, err)
				if f.name == "pieces" && text == "" {
					require.Empty(t, got)
					continue
				}
				require.Equal(t, text, got, "%s: %q", f.name, text)
				n, err := tok.Count(text, special)
				require.NoError(t, err)
				require.Len(t, ids, n)
			}
		}
	}
}

func TestSpecialLiteralsBecomeControlTokensOnlyWhenAsked(t *testing.T) {
	tok := load(t, byteLevelJSON(t))
	start, ok := tok.ID("<|im_start|>")
	require.True(t, ok)
	ids, err := tok.Encode("<|im_start|>user", true)
	require.NoError(t, err)
	require.Equal(t, start, ids[0])
	ids, err = tok.Encode("<|im_start|>user", false)
	require.NoError(t, err)
	require.NotContains(t, ids, start)
	_, ok = tok.ID("no such token at all")
	require.False(t, ok)
}

// hostile lists contents that try to become control tokens.
func hostile(tok *Tokenizer) []string {
	var out []string
	wraps := []string{"%s", " %s ", "a%sb", "%[1]s%[1]s", "\n%s\n", "x %s", "%s.", "\u00a0%s", "{\"k\": \"%s\"}", "日%s本"}
	for _, literal := range tok.SpecialLiterals() {
		for _, w := range wraps {
			out = append(out, fmt.Sprintf(w, literal))
		}
		out = append(out, strings.ToUpper(literal), literal[:len(literal)-1], literal[1:],
			strings.Repeat(literal, 50), literal[:1]+literal+literal[1:],
			literal[:len(literal)/2]+literal+literal[len(literal)/2:])
	}
	return append(out, strings.Join(tok.SpecialLiterals(), ""), strings.Join(tok.SpecialLiterals(), " "))
}

func TestOutsideTextNeverBecomesAControlToken(t *testing.T) {
	total := 0
	for _, f := range fixtures {
		tok := load(t, f.json(t))
		control := map[int32]string{}
		for _, s := range tok.Specials() {
			// A character without a token is unknown; no text spells it.
			if s.Control && s.Text != "<unk>" {
				control[s.ID] = s.Text
			}
		}
		require.NotEmpty(t, control)
		for _, text := range hostile(tok) {
			total++
			ids, err := tok.Encode(text, false)
			require.NoError(t, err)
			for _, id := range ids {
				require.NotContains(t, control, id, "%s: %q", f.name, text)
			}
			got, err := tok.Decode(ids, true)
			require.NoError(t, err)
			if f.name == "byte level" || f.name == "pieces" {
				require.Equal(t, text, got, f.name)
			}
		}
	}
	require.Greater(t, total, 200)
}

func TestSpecialTextIsWhatTheLibraryEncodes(t *testing.T) {
	// The white space around tokens that strip it belongs to them.
	tok := load(t, byteLevelJSON(t))
	for _, c := range []struct{ text, want string }{
		{"a  <mask> b", "a <mask> b"}, {"a [END]  b", "a [END] b"}, {"<tool_call>x</tool_call>", ""},
		{"<h1>", ""}, {"a      b", ""},
	} {
		ids, err := tok.Encode(c.text, true)
		require.NoError(t, err)
		got, err := tok.Decode(ids, false)
		require.NoError(t, err)
		if c.want == "" {
			c.want = c.text
		}
		require.Equal(t, strings.ReplaceAll(c.want, " ", ""), strings.ReplaceAll(got, " ", ""))
	}
	for _, s := range tok.Specials() {
		require.Equal(t, s.Text != "      " && s.Text != "<h1>", s.Control, s.Text)
	}
	// Added tokens that are text stay tokens in ordinary text.
	run, _ := tok.ID("      ")
	ids, err := tok.Encode("a      b", false)
	require.NoError(t, err)
	require.Contains(t, ids, run)
}

func TestPlainSpans(t *testing.T) {
	tok := load(t, byteLevelJSON(t))
	encode := func(text string, spans ...Span) []int32 {
		ids, err := tok.EncodeSpans(text, spans)
		require.NoError(t, err)
		return ids
	}
	start, _ := tok.ID("<|im_start|>")
	end, _ := tok.ID("<|im_end|>")
	plain := func(text string) []int32 {
		ids, err := tok.Encode(text, false)
		require.NoError(t, err)
		return ids
	}
	text := "<|im_start|>user\nsay <|im_end|> now<|im_end|>"
	at := strings.Index(text, "<|im_end|>")
	want := append(append([]int32{start}, plain("user\nsay <|im_end|> now")...), end)
	require.Equal(t, want, encode(text, Span{at, at + len("<|im_end|>")}))
	require.Equal(t, want, encode(text, Span{at + 2, at + 3}), "a span that only touches the literal")
	require.Equal(t, plain(text), encode(text, Span{0, len(text)}))
	for _, spans := range [][]Span{{{3, 2}}, {{-1, 2}}, {{0, 999}}, {{4, 6}, {2, 3}}} {
		_, err := tok.EncodeSpans(text, spans)
		require.Error(t, err)
	}
	for _, f := range fixtures {
		tok := load(t, f.json(t))
		for _, text := range append(hostile(tok), texts...) {
			whole, err := tok.Encode(text, true)
			require.NoError(t, err)
			none, err := tok.EncodeSpans(text, nil)
			require.NoError(t, err)
			require.Equal(t, whole, none)
			// An empty span at the end is far from every literal.
			far, err := tok.EncodeSpans(text+" ", []Span{{len(text) + 1, len(text) + 1}})
			require.NoError(t, err)
			spaced, err := tok.Encode(text+" ", true)
			require.NoError(t, err)
			require.Equal(t, spaced, far, "%s: %q", f.name, text)
		}
	}
}

func TestConfigNamesControlTokens(t *testing.T) {
	source := byteLevelJSON(t)
	without := load(t, source)
	const word = "er"
	id, ok := without.ID(word)
	require.True(t, ok)
	require.NotContains(t, without.SpecialLiterals(), word)
	for name, config := range map[string]string{
		"string":  `{"eos_token": "er"}`,
		"object":  `{"eos_token": {"content": "er", "lstrip": false}}`,
		"decoder": fmt.Sprintf(`{"added_tokens_decoder": {"%d": {"content": "er", "special": true}}}`, id),
		"list":    `{"additional_special_tokens": ["er"]}`,
	} {
		tok, err := LoadTokenizer(source, []byte(config))
		require.NoError(t, err)
		require.Contains(t, tok.SpecialLiterals(), word, name)
		ids, err := tok.Encode(word, true)
		require.NoError(t, err)
		require.Equal(t, []int32{id}, ids)
		ids, err = tok.Encode(word, false)
		require.NoError(t, err)
		require.NotContains(t, ids, id, name)
		text, err := tok.Decode([]int32{id}, true)
		require.NoError(t, err)
		require.Empty(t, text)
		require.Equal(t, without.VocabSize(), tok.VocabSize())
		tok.Close()
	}
	tok, err := LoadTokenizer(source, []byte(`{"eos_token": "not in the vocabulary", "bos_token": null}`))
	require.NoError(t, err)
	defer tok.Close()
	require.Equal(t, without.Specials(), tok.Specials())
}

func TestBOSIsWhatTheTokenizerPutsFirst(t *testing.T) {
	for _, c := range []struct {
		name   string
		source []byte
		config string
		want   int32
		ok     bool
	}{
		{"post-processor", pieceJSON(t), ``, 1, true},
		{"none", byteLevelJSON(t), ``, 0, false},
		{"switched off", pieceJSON(t), `{"add_bos_token": false, "bos_token": "<s>"}`, 0, false},
		{"switched on", unigramJSON(t), `{"add_bos_token": true, "bos_token": "<s>"}`, 1, true},
	} {
		var config []byte
		if c.config != "" {
			config = []byte(c.config)
		}
		tok, err := LoadTokenizer(c.source, config)
		require.NoError(t, err, c.name)
		id, ok := tok.BOS()
		require.Equal(t, c.want, id, c.name)
		require.Equal(t, c.ok, ok, c.name)
		tok.Close()
	}
}

func TestTokenBytesJoinToTheText(t *testing.T) {
	tok := load(t, byteLevelJSON(t))
	for _, text := range texts {
		ids, err := tok.Encode(text, true)
		require.NoError(t, err)
		var joined []byte
		for _, id := range ids {
			joined = append(joined, tok.TokenBytes(id)...)
		}
		require.Equal(t, text, string(joined))
	}
	for _, id := range []int32{-1, int32(tok.VocabSize()), 1 << 30} {
		require.Nil(t, tok.TokenBytes(id))
	}
	require.Equal(t, "<|im_end|>", string(tok.TokenBytes(func() int32 { id, _ := tok.ID("<|im_end|>"); return id }())))
}

func TestBadTokenizersAreRefused(t *testing.T) {
	before := Live()
	good := string(byteLevelJSON(t))
	for name, source := range map[string]string{
		"empty": ``, "not json": `{`, "no model": `{"version": "1.0"}`, "deep": strings.Repeat("[", 100000),
		"empty vocabulary": `{"version":"1.0","added_tokens":[],"model":{"type":"BPE","vocab":{},"merges":[]}}`,
		"huge id":          `{"version":"1.0","added_tokens":[],"model":{"type":"BPE","vocab":{"a":4294967290},"merges":[]}}`,
		"unknown merge":    `{"version":"1.0","added_tokens":[],"model":{"type":"BPE","vocab":{"a":0},"merges":[["a","b"]]}}`,
		"bad regex":        strings.Replace(good, `"pre_tokenizer":{`, `"pre_tokenizer":{"type":"Split","pattern":{"Regex":"("},"behavior":"Isolated","invert":false},"x":{`, 1),
		"half":             good[:len(good)/2],
	} {
		_, err := LoadTokenizer([]byte(source), nil)
		require.Error(t, err, name)
	}
	_, err := LoadTokenizer([]byte(good), []byte("{"))
	require.ErrorContains(t, err, "tokenizer_config.json")
	require.Equal(t, before, Live())
}

func TestInvalidTextIsRefused(t *testing.T) {
	tok := load(t, byteLevelJSON(t))
	_, err := tok.Encode("a\xffb", true)
	require.ErrorContains(t, err, "UTF-8")
	_, err = tok.Encode(strings.Repeat("x", 8<<20+1), true)
	require.ErrorContains(t, err, "8388609 bytes")
}

func TestUseAfterCloseIsAnError(t *testing.T) {
	tok, err := LoadTokenizer(byteLevelJSON(t), nil)
	require.NoError(t, err)
	stream := tok.NewStream()
	tok.Close()
	tok.Close()
	_, err = tok.Encode("a", true)
	require.ErrorIs(t, err, ErrClosed)
	_, err = tok.Decode([]int32{1}, true)
	require.ErrorIs(t, err, ErrClosed)
	_, err = tok.EncodeSpans("a", nil)
	require.ErrorIs(t, err, ErrClosed)
	_, err = NewGrammarTokenizer(tok, 10, []int32{1})
	require.ErrorIs(t, err, ErrClosed)
	_, ok := tok.ID("a")
	require.False(t, ok)
	_, err = stream.Step('a')
	require.NoError(t, err)
}

func TestOneTokenizerServesManyGoroutines(t *testing.T) {
	tok := load(t, byteLevelJSON(t))
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for _, text := range texts {
				ids, err := tok.Encode(text, false)
				if err == nil {
					_, err = tok.Decode(ids, true)
				}
				if err != nil {
					panic(err)
				}
			}
		})
	}
	group.Wait()
}

// randomIDs returns ids of which some do not exist.
func randomIDs(r *rand.Rand, tok *Tokenizer) []int32 {
	ids := make([]int32, r.IntN(40))
	for i := range ids {
		ids[i] = r.Int32N(int32(tok.VocabSize()) + 3)
	}
	return ids
}
