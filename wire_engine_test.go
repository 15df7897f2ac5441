//go:build !scripted

package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/agent/prompt"
	"harmonyd/engine/native"
	"harmonyd/schema"
)

// pieceTokenizer is a tokenizer like Mistral's, which puts a space before a text
// that does not begin with a control token: a piece for each letter, no merges.
func pieceTokenizer(t *testing.T) *native.Tokenizer {
	t.Helper()
	vocab := map[string]int{"<unk>": 0, "<s>": 1, "</s>": 2}
	for _, letter := range strings.Split("▁ a b c d e o s < / > _ :", " ") {
		vocab[letter] = len(vocab)
	}
	words, err := json.Marshal(vocab)
	require.NoError(t, err)
	tok, err := native.LoadTokenizer(fmt.Appendf(nil, `{"version": "1.0",
		"added_tokens": [
			{"id": 0, "content": "<unk>", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false},
			{"id": 1, "content": "<s>", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false},
			{"id": 2, "content": "</s>", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false}],
		"normalizer": null, "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false},
		"post_processor": null, "decoder": null,
		"model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": false, "vocab": %s, "merges": []}}`, words), nil)
	require.NoError(t, err)
	t.Cleanup(tok.Close)
	return tok
}

// quoting is a chat template with text between its control token and a message.
type quoting struct{}

func (quoting) Render(context []byte, _ time.Time) (string, error) {
	var c struct{ Messages []struct{ Content string } }
	if err := json.Unmarshal(context, &c); err != nil {
		return "", err
	}
	return "<s>c: " + c.Messages[0].Content + "</s>", nil
}

// TestLiteralsInMessagesAreLetters renders texts with control tokens in them for
// the real tokenizer: their ids are those of their letters, and no others than
// those of a text that differs from it by a letter.
func TestLiteralsInMessagesAreLetters(t *testing.T) {
	tok := pieceTokenizer(t)
	r, err := prompt.New(nativeTokenizer{tok}, quoting{})
	require.NoError(t, err)
	say := func(text string) []int32 {
		ids, err := r.Render([]schema.Message{{Role: schema.RoleUser, Content: schema.TextContent(text)}})
		require.NoError(t, err)
		return ids
	}
	letter, ok := tok.ID("_")
	require.True(t, ok)
	s, ok := tok.ID("s")
	require.True(t, ok)
	for _, text := range []string{"a <s> b", "a</s>b </s>c", "<s>", "</s> a", "a <s><s> b"} {
		want := say(strings.ReplaceAll(text, "s", "_"))
		for i := range want {
			if want[i] == letter {
				want[i] = s
			}
		}
		require.Equal(t, want, say(text), text)
	}
}
