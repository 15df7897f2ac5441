package native

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest/mutate"
)

// The parts that tokenizer.json is made of.
var tokenizerParts = map[string][]string{
	"normalizer": {`null`, `{"type":"NFC"}`, `{"type":"NFKD"}`, `{"type":"Lowercase"}`, `{"type":"StripAccents"}`,
		`{"type":"Prepend","prepend":"▁"}`, `{"type":"Replace","pattern":{"String":" "},"content":"▁"}`,
		`{"type":"Replace","pattern":{"Regex":" {2,}"},"content":"▁"}`, `{"type":"Strip","strip_left":true,"strip_right":false}`,
		`{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true}`,
		`{"type":"Sequence","normalizers":[{"type":"NFD"},{"type":"Prepend","prepend":"x"}]}`},
	"pre_tokenizer": {`null`, `{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true}`, `{"type":"Whitespace"}`,
		`{"type":"WhitespaceSplit"}`, `{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":true}`,
		`{"type":"Digits","individual_digits":true}`, `{"type":"Punctuation","behavior":"Isolated"}`, `{"type":"BertPreTokenizer"}`,
		`{"type":"Split","pattern":{"Regex":"(?i:'s|'t)|\\p{L}+|\\s+(?!\\S)"},"behavior":"Removed","invert":true}`,
		`{"type":"Split","pattern":{"String":"a"},"behavior":"MergedWithNext","invert":false}`,
		`{"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":false},{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false}]}`},
	"post_processor": {`null`, `{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":false,"use_regex":true}`,
		`{"type":"BertProcessing","sep":["</s>",1],"cls":["<s>",0]}`,
		`{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[],"special_tokens":{"<s>":{"id":"<s>","ids":[0],"tokens":["<s>"]}}}`},
	"decoder": {`null`, `{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true}`, `{"type":"ByteFallback"}`,
		`{"type":"WordPiece","prefix":"##","cleanup":true}`, `{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true}`,
		`{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}`,
		`{"type":"CTC","pad_token":"a","word_delimiter_token":"|","cleanup":true}`, `{"type":"BPEDecoder","suffix":"</w>"}`},
	"model": {`{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"ignore_merges":false,"vocab":{"<s>":0,"</s>":1,"a":2,"b":3,"ab":4,"Ġ":5,"Ġa":6},"merges":[["a","b"],["Ġ","a"]]}`,
		`{"type":"BPE","unk_token":"<s>","byte_fallback":true,"ignore_merges":true,"vocab":{"<s>":0,"</s>":1,"<0x61>":2,"▁":3,"▁a":4,"a":5},"merges":["▁ a"]}`,
		`{"type":"WordPiece","unk_token":"<s>","continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{"<s>":0,"</s>":1,"a":2,"##b":3}}`,
		`{"type":"WordLevel","unk_token":"<s>","vocab":{"<s>":0,"</s>":1,"a":2}}`,
		`{"type":"Unigram","unk_id":0,"byte_fallback":false,"vocab":[["<s>",0.0],["</s>",0.0],["▁",-2.5],["a",-3.0],["▁ab",-4.5]]}`},
	"added_tokens": {`[]`, `[{"id":0,"content":"<s>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true},{"id":1,"content":"</s>","single_word":true,"lstrip":true,"rstrip":true,"normalized":true,"special":true}]`,
		`[{"id":7,"content":"<tool>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":false}]`},
}

// tokenizerWords is what a token of the file may become.
var tokenizerWords = []string{`null`, `true`, `0`, `1`, `-1`, `4294967295`, `1e308`, `""`, `"a"`, `"▁"`, `"\u0000"`, `{}`, `[]`, `,`, `:`, `{`, `}`, `[`, `]`,
	`"type"`, `"vocab"`, `"merges"`, `"id"`, `"unk_token"`, `"<s>"`, `"(a+)+b"`, `"(?=a)*"`, `"\\p{"`, `"[^"`, `"Sequence"`, `"ByteLevel"`, `"Regex"`}

// tokenizerMutant makes a small tokenizer.json that is valid but for up to three
// changes.
func tokenizerMutant(c *mutate.Choices) []byte {
	d := mutate.Document{[]byte(`{`), []byte(`"version"`), []byte(`:`), []byte(`"1.0"`)}
	for _, name := range []string{"added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "model"} {
		options := tokenizerParts[name]
		d = append(d, []byte(`,`), []byte(`"`+name+`"`), []byte(`:`))
		d = append(d, mutate.JSON([]byte(options[c.Below(len(options))]))...)
	}
	return append(d, []byte(`}`)).Mutate(c, tokenizerWords).Bytes()
}

// FuzzTokenizerFile reads small tokenizers that are valid but for a few changes.
// Each is refused or works: its ids lie in the vocabulary, and streaming gives
// what decoding gives.
func FuzzTokenizerFile(f *testing.F) {
	for seed := range uint64(200) {
		f.Add(mutate.Seeded(seed, nil).Bytes(), "a ab <s> é▁\n")
	}
	f.Fuzz(func(t *testing.T, decisions []byte, text string) {
		if len(text) > 1<<10 {
			return
		}
		file := tokenizerMutant(mutate.From(decisions))
		live := Live()
		tokenizer, err := LoadTokenizer(file, nil)
		if err != nil {
			require.NotContains(t, err.Error(), "panic", "%s", file)
			require.Equal(t, live, Live())
			return
		}
		defer tokenizer.Close()
		for _, special := range []bool{true, false} {
			ids, err := tokenizer.Encode(strings.ToValidUTF8(text, "?"), special)
			if err != nil {
				require.NotContains(t, err.Error(), "panic", "%s", file)
				continue
			}
			for _, id := range ids {
				require.Less(t, int(id), tokenizer.VocabSize(), "%s", file)
			}
			if _, err := tokenizer.Decode(ids, special); err != nil {
				require.NotContains(t, err.Error(), "panic", "%s", file)
			}
			s := tokenizer.NewStream()
			for _, id := range ids {
				_, _ = s.Step(id)
			}
			s.Flush()
		}
	})
}

// TestTokenizerMutants: the generator makes files of both kinds.
func TestTokenizerMutants(t *testing.T) {
	accepted, refused := 0, map[string]bool{}
	for seed := range uint64(2000) {
		tokenizer, err := LoadTokenizer(tokenizerMutant(mutate.Seeded(seed, nil)), nil)
		if err != nil {
			refused[err.Error()] = true
			continue
		}
		accepted++
		tokenizer.Close()
	}
	require.Greater(t, accepted, 400)
	require.Greater(t, len(refused), 200)
	t.Logf("%d accepted, %d different errors", accepted, len(refused))
}
