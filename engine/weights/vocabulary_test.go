package weights

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// readTokenizer reads the vocabulary of a file with the keys of tinyLlama and
// those given, and renders its tokenizer.json.
func readTokenizer(t *testing.T, extra ...[]byte) (*vocabulary, map[string]any, error) {
	t.Helper()
	f := tinyLlama{extra: extra}.file()
	g, err := OpenGGUFIn(&memFolder{files: map[string][]byte{"m.gguf": f.bytes()}}, "m.gguf")
	require.NoError(t, err)
	v, err := readVocabulary(g, tinyVocab)
	if err != nil {
		return nil, nil, err
	}
	text, err := v.tokenizerJSON()
	if err != nil {
		return nil, nil, err
	}
	var file map[string]any
	require.NoError(t, json.Unmarshal(text, &file))
	return v, file, nil
}

// at follows keys and indices into decoded JSON and returns what is there as
// JSON text.
func at(t *testing.T, v any, path ...any) string {
	t.Helper()
	for _, p := range path {
		switch p := p.(type) {
		case string:
			v = v.(map[string]any)[p]
		case int:
			v = v.([]any)[p]
		}
	}
	out, err := json.Marshal(v)
	require.NoError(t, err)
	return string(out)
}

func tokens(names ...string) []byte {
	var values [][]byte
	for _, s := range names {
		values = append(values, str(s))
	}
	return list("tokenizer.ggml.tokens", ggufString, values...)
}

func types(names ...uint32) []byte {
	var values [][]byte
	for _, n := range names {
		values = append(values, u32(n))
	}
	return list("tokenizer.ggml.token_type", ggufInt32, values...)
}

func flag(name string, b byte) []byte { return key("tokenizer.ggml."+name, ggufBool, []byte{b}) }

func TestByteLevelTokenizer(t *testing.T) {
	v, file, err := readTokenizer(t)
	require.NoError(t, err)
	require.JSONEq(t, `[["a","b"]]`, at(t, file, "model", "merges"))
	require.JSONEq(t, `"BPE"`, at(t, file, "model", "type"))
	require.JSONEq(t, `13`, at(t, file, "model", "vocab", "ab"))
	require.NotContains(t, file["model"].(map[string]any)["vocab"], "<s>", "added tokens at the end stay out")
	require.JSONEq(t, `{"id":14,"content":"<s>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}`,
		at(t, file, "added_tokens", 0))
	require.JSONEq(t, `"Split"`, at(t, file, "pre_tokenizer", "pretokenizers", 0, "type"))
	require.JSONEq(t, `"ByteLevel"`, at(t, file, "pre_tokenizer", "pretokenizers", 1, "type"))
	require.JSONEq(t, `null`, at(t, file, "post_processor"))
	require.JSONEq(t, `null`, at(t, file, "normalizer"))
	require.Equal(t, map[string]any{"bos_token_id": 14, "eos_token_id": 15}, v.generationConfig())
	config := v.config(128)
	require.Equal(t, "<s>", config["bos_token"])
	require.Equal(t, "{{ messages }}", config["chat_template"])
	require.Equal(t, 128, config["model_max_length"])
	require.Equal(t, false, config["add_bos_token"])

	// Without types every token is an ordinary one; a missing pre-tokenizer is
	// llama.cpp's default; an empty token gets its stand-in.
	_, file, err = readTokenizer(t, str("tokenizer.ggml.token_type"), str("tokenizer.ggml.pre"), tokens("a", "b", "ab", ""),
		str("tokenizer.ggml.bos_token_id"), str("tokenizer.ggml.eos_token_id"))
	require.NoError(t, err)
	require.JSONEq(t, `{"a":0,"b":1,"ab":2,"[EMPTY_3]":3}`, at(t, file, "model", "vocab"))
	require.JSONEq(t, `null`, at(t, file, "added_tokens"))
	require.Len(t, file["pre_tokenizer"].(map[string]any)["pretokenizers"], 5)

	// A control token that merges make cannot stay out of the model.
	_, file, err = readTokenizer(t, tokens("a", "b", "x", "y", "ab"), types(1, 1, 1, 1, 3),
		number("tokenizer.ggml.bos_token_id", 0), number("tokenizer.ggml.eos_token_id", 0))
	require.NoError(t, err)
	require.JSONEq(t, `{"a":0,"b":1,"x":2,"y":3,"ab":4}`, at(t, file, "model", "vocab"))
}

func TestPreTokenizersDiffer(t *testing.T) {
	_, file, err := readTokenizer(t, text("tokenizer.ggml.pre", "qwen2"))
	require.NoError(t, err)
	require.JSONEq(t, `{"type":"NFC"}`, at(t, file, "normalizer"))
	v, file, err := readTokenizer(t, text("tokenizer.ggml.pre", "llama-bpe"))
	require.NoError(t, err)
	require.JSONEq(t, `true`, at(t, file, "model", "ignore_merges"))
	require.True(t, v.addBOS)
	require.JSONEq(t, `{"type":"TemplateProcessing",
		"single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],
		"pair":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}},
			{"SpecialToken":{"id":"<s>","type_id":1}},{"Sequence":{"id":"B","type_id":1}}],
		"special_tokens":{"<s>":{"id":"<s>","ids":[14],"tokens":["<s>"]}}}`, at(t, file, "post_processor"))
	v, _, err = readTokenizer(t, text("tokenizer.ggml.pre", "llama-bpe"), flag("add_bos_token", 0))
	require.NoError(t, err)
	require.False(t, v.addBOS)
}

func TestEndOfText(t *testing.T) {
	_, file, err := readTokenizer(t, flag("add_bos_token", 1), flag("add_eos_token", 1))
	require.NoError(t, err)
	require.JSONEq(t, `[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"</s>","type_id":0}}]`,
		at(t, file, "post_processor", "single"))
	require.JSONEq(t, `[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"</s>","type_id":0}},
		{"SpecialToken":{"id":"<s>","type_id":1}},{"Sequence":{"id":"B","type_id":1}},{"SpecialToken":{"id":"</s>","type_id":1}}]`,
		at(t, file, "post_processor", "pair"))

	v, _, err := readTokenizer(t, number("tokenizer.ggml.eot_token_id", 14), number("tokenizer.ggml.eom_token_id", 15),
		number("tokenizer.ggml.padding_token_id", 3), str("tokenizer.ggml.bos_token_id"))
	require.NoError(t, err)
	require.Equal(t, map[string]any{"eos_token_id": []int{15, 14}, "pad_token_id": 3}, v.generationConfig())
	v, _, err = readTokenizer(t, str("tokenizer.ggml.eos_token_id"), str("tokenizer.ggml.bos_token_id"))
	require.NoError(t, err)
	require.Empty(t, v.generationConfig())
}

func TestNamedChatTemplates(t *testing.T) {
	v, _, err := readTokenizer(t, list("tokenizer.chat_templates", ggufString, str("tool_use"), str("rag")),
		text("tokenizer.chat_template.tool_use", "T"), text("tokenizer.chat_template.rag", "R"))
	require.NoError(t, err)
	require.Equal(t, []map[string]string{{"name": "default", "template": "{{ messages }}"},
		{"name": "rag", "template": "R"}, {"name": "tool_use", "template": "T"}}, v.config(1)["chat_template"])
	v, _, err = readTokenizer(t, str("tokenizer.chat_template"))
	require.NoError(t, err)
	require.NotContains(t, v.config(1), "chat_template")
}

// TestTurnEnds: where no key says what ends a turn, the text of a token does.
func TestTurnEnds(t *testing.T) {
	ends := func(kind uint32, extra ...[]byte) any {
		v, _, err := readTokenizer(t, append([][]byte{tokens("a", "b", "<eos>", "<end_of_turn>", "ab"),
			types(1, 1, 3, kind, 1), number("tokenizer.ggml.eos_token_id", 2), str("tokenizer.ggml.bos_token_id")}, extra...)...)
		require.NoError(t, err)
		return v.generationConfig()["eos_token_id"]
	}
	require.Equal(t, []int{2, 3}, ends(3))
	require.Equal(t, 2, ends(1), "an ordinary token")
	require.Equal(t, []int{2, 4}, ends(3, number("tokenizer.ggml.eot_token_id", 4)), "a key goes before the text")
}

// sentencePiece are the keys of a small SentencePiece vocabulary.
func sentencePiece(extra ...[]byte) [][]byte {
	var scores [][]byte
	for _, x := range []float32{0, 0, 0, 0, -1, -2, -3, -1, -3, -4} {
		scores = append(scores, f32(x))
	}
	return append([][]byte{
		text("tokenizer.ggml.model", "llama"),
		tokens("<unk>", "<s>", "</s>", "<0x0A>", "ab", "a", "b", "é", "abé", "bé"),
		types(2, 3, 3, 6, 1, 1, 1, 1, 1, 1),
		list("tokenizer.ggml.scores", ggufFloat32, scores...),
		str("tokenizer.ggml.bos_token_id"), str("tokenizer.ggml.eos_token_id"), str("tokenizer.ggml.merges"), str("tokenizer.ggml.pre"),
	}, extra...)
}

func TestSentencePieceTokenizer(t *testing.T) {
	v, file, err := readTokenizer(t, sentencePiece()...)
	require.NoError(t, err)
	require.JSONEq(t, `[["a","b"],["ab","é"],["a","bé"],["b","é"]]`, at(t, file, "model", "merges"), "best score first")
	require.JSONEq(t, `true`, at(t, file, "model", "byte_fallback"))
	require.JSONEq(t, `"<unk>"`, at(t, file, "model", "unk_token"))
	require.JSONEq(t, `[{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]`,
		at(t, file, "normalizer", "normalizers"))
	require.JSONEq(t, `{"type":"Strip","content":" ","start":1,"stop":0}`, at(t, file, "decoder", "decoders", 3))
	require.Len(t, file["added_tokens"], 3)
	require.JSONEq(t, `"<s>"`, at(t, file, "post_processor", "single", 0, "SpecialToken", "id"))
	require.Equal(t, "LlamaTokenizerFast", v.config(1)["tokenizer_class"])
	require.Equal(t, map[string]any{"bos_token_id": 1, "eos_token_id": 2}, v.generationConfig())

	_, file, err = readTokenizer(t, sentencePiece(flag("add_space_prefix", 0))...)
	require.NoError(t, err)
	require.Len(t, file["normalizer"].(map[string]any)["normalizers"], 1)
	require.Len(t, file["decoder"].(map[string]any)["decoders"], 3)
}

func TestMalformedVocabulary(t *testing.T) {
	const k = "tokenizer.ggml."
	for want, extra := range map[string][][]byte{
		`key "tokenizer.ggml.model": is missing`:                                     {str(k + "model")},
		`key "tokenizer.ggml.model": is the integer 1, want a string`:                {number(k+"model", 1)},
		`key "tokenizer.ggml.model": "t5" is not supported (gpt2, llama)`:            {text(k+"model", "t5")},
		`key "tokenizer.ggml.tokens": is missing or empty`:                           {str(k + "tokens")},
		`key "tokenizer.ggml.tokens": is an array, want an array of strings`:         {list(k+"tokens", ggufInt32, u32(1))},
		`key "tokenizer.ggml.tokens": token "b" is both 1 and 3`:                     {tokens("a", "b", "c", "b")},
		`key "tokenizer.ggml.token_type": has 2 elements for 16 tokens`:              {types(1, 1)},
		`key "tokenizer.ggml.token_type": is a string, want an array of integers`:    {text(k+"token_type", "")},
		`key "tokenizer.ggml.merges": is missing`:                                    {str(k + "merges")},
		`key "tokenizer.ggml.merges": is a bool, want an array of strings`:           {flag("merges", 1)},
		`key "tokenizer.ggml.merges": merge 0 is "", want two tokens`:                {list(k+"merges", ggufString, str(""))},
		`key "tokenizer.ggml.merges": merge 1 is "ab", want two tokens`:              {list(k+"merges", ggufString, str("a b"), str("ab"))},
		`key "tokenizer.ggml.merges": merge 0: "bc" is not a token`:                  {list(k+"merges", ggufString, str("b c"))},
		`key "tokenizer.ggml.merges": merge 0: "é" is not a token`:                   {list(k+"merges", ggufString, str("é a"))},
		`key "tokenizer.ggml.pre": is a bool, want a string`:                         {flag("pre", 1)},
		`key "tokenizer.ggml.bos_token_id": is 16, there are 16 tokens`:              {number(k+"bos_token_id", 16)},
		`key "tokenizer.ggml.eos_token_id": is -1, want at least 0`:                  {key(k+"eos_token_id", ggufInt32, u32(0xffffffff))},
		`key "tokenizer.ggml.add_bos_token": is the integer 1, want a bool`:          {number(k+"add_bos_token", 1)},
		`key "tokenizer.ggml.add_eos_token": is true, and there is no eos token`:     {flag("add_eos_token", 1), str(k + "eos_token_id")},
		`key "tokenizer.chat_template": is a bool, want a string`:                    {key("tokenizer.chat_template", ggufBool, []byte{0})},
		`key "tokenizer.chat_templates": is a string, want an array of strings`:      {text("tokenizer.chat_templates", "x")},
		`key "tokenizer.chat_templates": names the template "rag", which is missing`: {list("tokenizer.chat_templates", ggufString, str("rag"))},
		`key "tokenizer.chat_template.rag": is the integer 1, want a string`:         {list("tokenizer.chat_templates", ggufString, str("rag")), number("tokenizer.chat_template.rag", 1)},
		`key "tokenizer.ggml.scores": has 1 elements for 10 tokens`:                  sentencePiece(list(k+"scores", ggufFloat32, f32(1))),
		`key "tokenizer.ggml.scores": has 0 elements for 10 tokens`:                  sentencePiece(str(k + "scores")),
		`key "tokenizer.ggml.scores": is an array, want an array of floats`:          sentencePiece(list(k+"scores", ggufInt32, u32(1))),
		`key "tokenizer.ggml.add_space_prefix": is the integer 1, want a bool`:       sentencePiece(number(k+"add_space_prefix", 1)),
	} {
		_, err := importTiny(t, tinyLlama{extra: extra}.file(), 1<<30)
		var format *FormatError
		require.True(t, errors.As(err, &format), "%v", err)
		require.EqualError(t, format, "m.gguf: "+want)
	}
	_, err := importTiny(t, tinyLlama{extra: [][]byte{text(k+"pre", "unheard-of")}}.file(), 1<<30)
	require.ErrorContains(t, err, `m.gguf: key "tokenizer.ggml.pre": "unheard-of" is not supported (chatglm-bpe, codeshell, `)
	many := make([]string, tinyVocab+1)
	_, err = importTiny(t, tinyLlama{extra: [][]byte{tokens(many...), str(k + "token_type")}}.file(), 1<<30)
	require.ErrorContains(t, err, `m.gguf: key "tokenizer.ggml.tokens": has 17 tokens, the embedding has 16 rows`)
}

// TestEmptyTokensAreCheap: a file that claims a wild vocabulary in 8 bytes a token
// must not cost more than reading it does.
func TestEmptyTokensAreCheap(t *testing.T) {
	const n = 1 << 20
	f := tinyLlama{extra: [][]byte{slices.Concat(str("tokenizer.ggml.tokens"), u32(ggufArray), u32(ggufString),
		u64(n), make([]byte, 8*n))}}.file()
	var before, after runtime.MemStats
	data := f.bytes()
	folder := &memFolder{files: map[string][]byte{"m.gguf": data}}
	runtime.ReadMemStats(&before)
	err := importGGUF(t.Context(), folder, "m.gguf", filepath.Join(t.TempDir(), "m"), 1<<30, nil)
	runtime.ReadMemStats(&after)
	require.ErrorContains(t, err, "has 1048576 tokens, the embedding has 16 rows")
	require.Less(t, (after.TotalAlloc-before.TotalAlloc)/n, uint64(100), "bytes allocated for a token")
}
