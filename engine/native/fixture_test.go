package native

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"sort"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest/leaks"
)

func TestMain(m *testing.M) {
	os.Exit(leaks.Run(m, func() error {
		if n := Live(); n != 0 {
			return fmt.Errorf("%d handles", n)
		}
		return nil
	}))
}

// corpus is what the fixtures' vocabularies are trained on.
const corpus = `The quick brown fox jumps over the lazy dog. The model answers the question and
calls a tool: {"name": "get_weather", "arguments": {"city": "Paris", "days": 3}} then the tool
answers: {"temperature": 21.5, "unit": "celsius"}. func main() { fmt.Println("hello, world") }
for i := range 10 { total += values[i] } return total, nil // the end of the function
日本語のテキストを読む。Résumé naïve café übergröße. true false null "type": "object"`

type added struct {
	ID         int    `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

type object = map[string]any

// train learns merges from words, greedily by count, ties by name.
func train(words [][]string, merges int) [][2]string {
	var learned [][2]string
	for range merges {
		counts := map[[2]string]int{}
		for _, w := range words {
			for i := 1; i < len(w); i++ {
				counts[[2]string{w[i-1], w[i]}]++
			}
		}
		var best [2]string
		for pair, n := range counts {
			if n > counts[best] || n == counts[best] && pair[0]+" "+pair[1] < best[0]+" "+best[1] {
				best = pair
			}
		}
		if counts[best] < 2 {
			break
		}
		learned = append(learned, best)
		for k, w := range words {
			for i := 1; i < len(w); i++ {
				if w[i-1] == best[0] && w[i] == best[1] {
					w = append(append(w[:i-1:i-1], best[0]+best[1]), w[i+1:]...)
				}
			}
			words[k] = w
		}
	}
	return learned
}

// byteChar is the character that stands for a byte in byte-level vocabularies.
func byteChar(b byte) string {
	visible := func(b int) bool { return b > 0x20 && b < 0x7f || b > 0xa0 && b != 0xad }
	if visible(int(b)) {
		return string(rune(b))
	}
	n := rune(0x100)
	for i := range int(b) {
		if !visible(i) {
			n++
		}
	}
	return string(n)
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return b
}

// byteLevelJSON is a tokenizer like GPT-2's and Qwen's.
func byteLevelJSON(t testing.TB) []byte {
	var words [][]string
	for _, w := range regexp.MustCompile(` ?\pL+| ?\pN+| ?[^\s\pL\pN]+|\s+`).FindAllString(corpus, -1) {
		var chars []string
		for _, b := range []byte(w) {
			chars = append(chars, byteChar(b))
		}
		words = append(words, chars)
	}
	vocab := map[string]int{}
	for b := range 256 {
		vocab[byteChar(byte(b))] = len(vocab)
	}
	merges := train(words, 300)
	for _, m := range merges {
		vocab[m[0]+m[1]] = len(vocab)
	}
	next := len(vocab)
	var tokens []added
	for _, a := range []added{
		{Content: "<|endoftext|>", Special: true}, {Content: "<|im_start|>", Special: true},
		{Content: "<|im_end|>", Special: true}, {Content: "<tool_call>"}, {Content: "</tool_call>"},
		{Content: "      "}, {Content: "<mask>", Special: true, LStrip: true},
		{Content: "[END]", Special: true, RStrip: true}, {Content: "<h1>"},
	} {
		a.ID, next = next, next+1
		tokens = append(tokens, a)
	}
	return marshal(t, object{
		"version": "1.0", "added_tokens": tokens, "normalizer": nil,
		"pre_tokenizer":  object{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
		"post_processor": nil,
		"decoder":        object{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
		"model":          bpeModel(vocab, merges, object{}),
	})
}

func bpeModel(vocab map[string]int, merges [][2]string, extra object) object {
	model := object{"type": "BPE", "vocab": vocab, "merges": merges, "dropout": nil, "unk_token": nil,
		"continuing_subword_prefix": nil, "end_of_word_suffix": nil, "fuse_unk": false,
		"byte_fallback": false, "ignore_merges": false}
	for k, v := range extra {
		model[k] = v
	}
	return model
}

const mark = "▁"

// pieceVocab lists the control tokens, the byte tokens and the characters of
// the corpus, as SentencePiece vocabularies do.
func pieceVocab(words [][]string) []string {
	pieces := []string{"<unk>", "<s>", "</s>"}
	for b := range 256 {
		pieces = append(pieces, fmt.Sprintf("<0x%02X>", b))
	}
	seen := map[string]bool{}
	var chars []string
	for _, w := range append(words, strings.Split("<s>/", "")) {
		for _, c := range w {
			if !seen[c] {
				seen[c] = true
				chars = append(chars, c)
			}
		}
	}
	sort.Strings(chars)
	return append(pieces, chars...)
}

func markedWords() [][]string {
	var words [][]string
	for _, w := range strings.Fields(corpus) {
		words = append(words, strings.Split(mark+w, ""))
	}
	return words
}

var pieceTokens = []added{
	{ID: 0, Content: "<unk>", Special: true}, {ID: 1, Content: "<s>", Special: true},
	{ID: 2, Content: "</s>", Special: true},
}

var pieceDecoder = object{"type": "Sequence", "decoders": []object{
	{"type": "Replace", "pattern": object{"String": mark}, "content": " "},
	{"type": "ByteFallback"}, {"type": "Fuse"},
	{"type": "Strip", "content": " ", "start": 1, "stop": 0},
}}

var bosProcessor = object{"type": "TemplateProcessing",
	"single":         []object{{"SpecialToken": object{"id": "<s>", "type_id": 0}}, {"Sequence": object{"id": "A", "type_id": 0}}},
	"pair":           []object{{"Sequence": object{"id": "A", "type_id": 0}}, {"Sequence": object{"id": "B", "type_id": 1}}},
	"special_tokens": object{"<s>": object{"id": "<s>", "ids": []int{1}, "tokens": []string{"<s>"}}}}

// pieceJSON is a tokenizer like Llama 2's: merges even for "</s>", so that the
// model itself would spell it.
func pieceJSON(t testing.TB) []byte {
	words := markedWords()
	vocab := map[string]int{}
	for _, p := range pieceVocab(words) {
		vocab[p] = len(vocab)
	}
	merges := train(words, 200)
	merges = append(merges, [2]string{"<", "/"}, [2]string{"s", ">"}, [2]string{"</", "s>"})
	for _, m := range merges {
		if _, ok := vocab[m[0]+m[1]]; !ok {
			vocab[m[0]+m[1]] = len(vocab)
		}
	}
	return marshal(t, object{
		"version": "1.0", "added_tokens": pieceTokens,
		"normalizer": object{"type": "Sequence", "normalizers": []object{
			{"type": "Prepend", "prepend": mark},
			{"type": "Replace", "pattern": object{"String": " "}, "content": mark},
		}},
		"pre_tokenizer": nil, "post_processor": bosProcessor, "decoder": pieceDecoder,
		"model": bpeModel(vocab, merges, object{"unk_token": "<unk>", "byte_fallback": true, "fuse_unk": true}),
	})
}

// unigramJSON is a tokenizer like T5's, whose vocabulary finds "</s>" in text.
func unigramJSON(t testing.TB) []byte {
	words := markedWords()
	pieces := []any{}
	add := func(piece string, score float64) { pieces = append(pieces, []any{piece, score}) }
	for _, p := range pieceVocab(words) {
		if !strings.HasPrefix(p, "<0x") {
			add(p, -8)
		}
	}
	for i, m := range train(words, 200) {
		add(m[0]+m[1], -3-float64(i)/100)
	}
	pieces[1], pieces[2] = []any{"<s>", 0.0}, []any{"</s>", 0.0}
	space := object{"type": "Metaspace", "replacement": mark, "prepend_scheme": "first", "split": true}
	return marshal(t, object{
		"version": "1.0", "added_tokens": pieceTokens, "normalizer": nil,
		"pre_tokenizer": space, "post_processor": nil, "decoder": space,
		"model": object{"type": "Unigram", "unk_id": 0, "vocab": pieces, "byte_fallback": false},
	})
}

// wordPieceJSON is a tokenizer whose decoder is no sum over tokens.
func wordPieceJSON(t testing.TB) []byte {
	var file object
	require.NoError(t, json.Unmarshal(byteLevelJSON(t), &file))
	file["decoder"] = object{"type": "Sequence", "decoders": []object{
		{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
		{"type": "Replace", "pattern": object{"String": "the"}, "content": "THE"},
	}}
	return marshal(t, file)
}

// fixtures are the tokenizers that every tokenizer test runs on.
var fixtures = []struct {
	name string
	json func(testing.TB) []byte
}{
	{"byte level", byteLevelJSON}, {"pieces", pieceJSON}, {"unigram", unigramJSON},
	{"foreign decoder", wordPieceJSON},
}

func load(t testing.TB, source []byte) *Tokenizer {
	t.Helper()
	tok, err := LoadTokenizer(source, nil)
	require.NoError(t, err)
	t.Cleanup(tok.Close)
	return tok
}
