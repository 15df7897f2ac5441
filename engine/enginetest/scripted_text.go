package enginetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// The ids of the special tokens; smaller ones are the bytes.
const (
	ImStart   = 256 // <|im_start|>
	ImEnd     = 257 // <|im_end|>, ends a turn
	EndOfText = 258 // <|endoftext|>, ends a turn
	firstWord = 259
)

var specials = [...]string{"<|im_start|>", "<|im_end|>", "<|endoftext|>"}

// Tokenizer is the tokenizer of a scripted model: one token for each byte, the
// special tokens, and the words of the model's vocabulary. It is safe for
// concurrent use.
type Tokenizer struct {
	words []string
	ids   map[string]int32
	long  int // the longest word, in bytes
}

// newTokenizer leaves out the words that could not be told apart, and Script
// refuses a vocabulary that has some.
func newTokenizer(vocabulary []string) *Tokenizer {
	t := &Tokenizer{ids: make(map[string]int32)}
	for i, s := range specials {
		t.ids[s] = int32(ImStart + i)
	}
	for _, w := range vocabulary {
		if _, known := t.ids[w]; known || len(w) < 2 {
			continue
		}
		t.ids[w] = int32(firstWord + len(t.words))
		t.words = append(t.words, w)
		t.long = max(t.long, len(w))
	}
	return t
}

func (t *Tokenizer) size() int { return firstWord + len(t.words) }

// SpecialLiterals lists the texts of the special tokens.
func (t *Tokenizer) SpecialLiterals() []string { return append([]string(nil), specials[:]...) }

// Encode takes the longest word at each place. Special tokens are known only
// where special is set.
func (t *Tokenizer) Encode(text string, special bool) ([]int32, error) {
	if special {
		return t.EncodePlain(text, nil)
	}
	return t.EncodePlain(text, [][2]int{{0, len(text)}})
}

// EncodePlain is Encode with special tokens, but for those whose text has a byte
// in one of the ranges [from, to) of plain, which are in order and apart.
func (t *Tokenizer) EncodePlain(text string, plain [][2]int) ([]int32, error) {
	if !utf8.ValidString(text) {
		return nil, errors.New("encode: the text is not UTF-8")
	}
	end := 0
	for i, p := range plain {
		if p[0] < end || p[1] < p[0] || p[1] > len(text) {
			return nil, fmt.Errorf("encode: range %d: got %v, want one behind %d in %d bytes", i, p, end, len(text))
		}
		end = p[1]
	}
	ids := make([]int32, 0, len(text))
	done := 0
	for i := 0; i < len(text); {
		id, n := control(text[i:])
		for len(plain) > 0 && plain[0][1] <= i {
			plain = plain[1:]
		}
		if n > 0 && (len(plain) == 0 || plain[0][0] >= i+n) {
			ids = append(t.appendWords(ids, text[done:i]), id)
			done = i + n
		}
		i += max(n, 1)
	}
	return t.appendWords(ids, text[done:]), nil
}

// control returns the special token that text begins with and its length, 0
// where there is none.
func control(text string) (id int32, n int) {
	for i, s := range specials {
		if strings.HasPrefix(text, s) {
			return int32(ImStart + i), len(s)
		}
	}
	return 0, 0
}

func (t *Tokenizer) appendWords(ids []int32, text string) []int32 {
	for i := 0; i < len(text); {
		id, n := int32(text[i]), 1
		for k := min(t.long, len(text)-i); k > 1; k-- {
			if word, ok := t.ids[text[i:i+k]]; ok && word >= firstWord {
				id, n = word, k
				break
			}
		}
		ids = append(ids, id)
		i += n
	}
	return ids
}

// TokenBytes is the byte, the word or the literal that a token stands for.
func (t *Tokenizer) TokenBytes(id int32) []byte {
	if id < 0 || int(id) >= t.size() {
		return nil
	}
	return t.appendBytes(nil, id, false)
}

// Decode returns the text of ids, with U+FFFD for each byte that is part of no
// character.
func (t *Tokenizer) Decode(ids []int32, skipSpecial bool) (string, error) {
	var raw []byte
	for _, id := range ids {
		if id < 0 || int(id) >= t.size() {
			return "", fmt.Errorf("decode: token %d: want 0 to %d", id, t.size()-1)
		}
		raw = t.appendBytes(raw, id, skipSpecial)
	}
	return string([]rune(string(raw))), nil
}

func (t *Tokenizer) appendBytes(dst []byte, id int32, skipSpecial bool) []byte {
	switch {
	case id < ImStart:
		return append(dst, byte(id))
	case id >= firstWord:
		return append(dst, t.words[id-firstWord]...)
	case skipSpecial:
		return dst
	}
	return append(dst, specials[id-ImStart]...)
}

// NewStream starts a streaming decode.
func (t *Tokenizer) NewStream() *TokenStream { return &TokenStream{t: t} }

// TokenStream decodes one token at a time. What it appends, over all steps and
// the flush, is what Decode gives. It is not safe for concurrent use.
type TokenStream struct {
	t    *Tokenizer
	held []byte
}

// AppendStep appends the characters that id completes. An unknown id has no
// text.
func (s *TokenStream) AppendStep(dst []byte, id int32) []byte {
	if id < 0 || int(id) >= s.t.size() {
		return dst
	}
	s.held = s.t.appendBytes(s.held, id, true)
	n := 0
	for n < len(s.held) && utf8.FullRune(s.held[n:]) {
		r, size := utf8.DecodeRune(s.held[n:])
		dst = utf8.AppendRune(dst, r)
		n += size
	}
	s.held = append(s.held[:0], s.held[n:]...)
	return dst
}

// AppendFlush appends what is held back as U+FFFD.
func (s *TokenStream) AppendFlush(dst []byte) []byte {
	dst = append(dst, string([]rune(string(s.held)))...)
	s.held = s.held[:0]
	return dst
}

// Template is a chat template in the manner of ChatML. It is safe for
// concurrent use.
type Template struct{}

// Render reads messages with a role and a content that is a string or null,
// and add_generation_prompt.
func (Template) Render(context []byte, _ time.Time) (string, error) {
	var c struct {
		Messages []struct {
			Role    string  `json:"role"`
			Content *string `json:"content"`
		} `json:"messages"`
		AddGenerationPrompt bool `json:"add_generation_prompt"`
	}
	if err := json.Unmarshal(context, &c); err != nil {
		return "", fmt.Errorf("template: %w", err)
	}
	var b strings.Builder
	for _, m := range c.Messages {
		b.WriteString(specials[0] + m.Role + "\n")
		if m.Content != nil {
			b.WriteString(*m.Content)
		}
		b.WriteString(specials[1] + "\n")
	}
	if c.AddGenerationPrompt {
		b.WriteString(specials[0] + "assistant\n")
	}
	return b.String(), nil
}

// lastUserMessage is what a model without a fitting reply echoes. It looks at
// ids, in which a control token that a user typed is none.
func (t *Tokenizer) lastUserMessage(prompt []int32) []int32 {
	for i := len(prompt) - 1; i >= 0; i-- {
		if prompt[i] != ImStart {
			continue
		}
		var role []byte
		for k, id := range prompt[i+1:] {
			role = t.appendBytes(role, id, false)
			if len(role) > len("user\n") {
				break
			}
			if string(role) != "user\n" {
				continue
			}
			text := prompt[i+k+2:]
			if end := slices.Index(text, ImEnd); end >= 0 {
				text = text[:end]
			}
			return text
		}
	}
	return prompt
}
