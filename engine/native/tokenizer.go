package native

// #include "harmonyd_native.h"
import "C"

import (
	"encoding/json"
	"fmt"
	"unsafe"
)

// Tokenizer is a loaded tokenizer. Its methods may be called from any number of
// goroutines at once.
type Tokenizer struct {
	handle
	table    table
	specials []Special
	bos      int32
}

// Special is an added token: one that is found in text before the vocabulary is
// consulted.
type Special struct {
	ID   int32
	Text string
	// Special says that decoding leaves the token out when asked to.
	Special bool
	// Control says that outside text must never become the token: it is
	// special or has the form of a tag.
	Control bool
	// LStrip and RStrip say that the token takes the white space on its left
	// and right with it.
	LStrip, RStrip bool
	// SingleWord says that the token is found only between word boundaries.
	SingleWord bool
}

// tokenizerInfo is what hd_tokenizer_info reports.
type tokenizerInfo struct {
	BOS   *int32    `json:"bos"`
	Join  string    `json:"join"`
	Strip int       `json:"strip"`
	First bool      `json:"first"`
	Added []Special `json:"added"`
}

// LoadTokenizer reads a tokenizer.json and, unless it is nil, the
// tokenizer_config.json beside it, which may name control tokens that the first
// does not list. Large vocabularies take a second and some hundred megabytes.
// The caller closes the result.
func LoadTokenizer(tokenizerJSON, configJSON []byte) (*Tokenizer, error) {
	var out *C.hd_tokenizer
	var message C.hd_bytes
	status := C.hd_tokenizer_new(viewBytes(tokenizerJSON), viewBytes(configJSON), &out, &message)
	if status != C.HD_OK {
		return nil, fmt.Errorf("load tokenizer: %w", failed(status, message))
	}
	t := &Tokenizer{bos: -1}
	t.open("tokenizer", unsafe.Pointer(out), func(p unsafe.Pointer) {
		C.hd_tokenizer_free((*C.hd_tokenizer)(p))
	})
	if err := t.describe(out); err != nil {
		t.Close()
		return nil, fmt.Errorf("load tokenizer: %w", err)
	}
	return t, nil
}

// describe copies what Go needs to know to decode without calls.
func (t *Tokenizer) describe(p *C.hd_tokenizer) error {
	var view C.hd_view
	var message C.hd_bytes
	if status := C.hd_tokenizer_info(p, &view, &message); status != C.HD_OK {
		return failed(status, message)
	}
	var info tokenizerInfo
	if err := json.Unmarshal(unsafe.Slice((*byte)(view.ptr), int(view.len)), &info); err != nil {
		return err
	}
	t.specials = info.Added
	if info.BOS != nil {
		t.bos = *info.BOS
	}
	c := C.hd_tokenizer_table(p)
	n := int(c.tokens)
	offsets := unsafe.Slice((*uint32)(c.offsets), n+1)
	t.table = table{
		data:    append([]byte(nil), unsafe.Slice((*byte)(c.data), int(offsets[n]))...),
		offsets: append([]uint32(nil), offsets...),
		flags:   append([]uint8(nil), unsafe.Slice((*uint8)(c.flags), n)...),
		join:    joins[info.Join],
		strip:   info.Strip,
		first:   info.First,
	}
	return nil
}

// Encode returns the ids of text. Where special is set, literals of control
// tokens in text become those tokens; otherwise all of the text is ordinary.
// Nothing is put before or after: chat templates write their own BOS. Invalid
// UTF-8 is an error, as is text of more than 8 MiB.
func (t *Tokenizer) Encode(text string, special bool) ([]int32, error) {
	return t.EncodeInto(nil, text, special)
}

// EncodeInto is Encode that appends to dst.
func (t *Tokenizer) EncodeInto(dst []int32, text string, special bool) ([]int32, error) {
	ids, err := t.encode(text, special)
	if err != nil {
		return dst, err
	}
	return appendIDs(dst, ids), nil
}

// Count returns the number of ids that Encode returns.
func (t *Tokenizer) Count(text string, special bool) (int, error) {
	ids, err := t.encode(text, special)
	if err != nil {
		return 0, err
	}
	n := int(ids.len)
	C.hd_ids_free(ids)
	return n, nil
}

func (t *Tokenizer) encode(text string, special bool) (ids C.hd_ids, err error) {
	p, err := t.borrow()
	if err != nil {
		return ids, err
	}
	defer t.mu.RUnlock()
	var flag C.int32_t
	if special {
		flag = 1
	}
	var message C.hd_bytes
	status := C.hd_tokenizer_encode((*C.hd_tokenizer)(p), viewString(text), flag, &ids, &message)
	if status != C.HD_OK {
		return ids, fmt.Errorf("encode: %w", failed(status, message))
	}
	return ids, nil
}

// Span is the byte range [From, To) of a text.
type Span struct{ From, To int }

// EncodeSpans is Encode with control tokens, except that literals which touch
// one of the plain spans are ordinary text. Text on both sides of a plain span's
// edge is encoded in one piece, so that words merge across it. The spans must be
// in order, apart, and within the text. Without spans it equals
// Encode(text, true).
func (t *Tokenizer) EncodeSpans(text string, plain []Span) ([]int32, error) {
	spans := make([]C.hd_span, len(plain))
	end := 0
	for i, s := range plain {
		if s.From < end || s.To < s.From || s.To > len(text) {
			return nil, fmt.Errorf("encode: span %d [%d, %d) after %d in %d bytes",
				i, s.From, s.To, end, len(text))
		}
		end = s.To
		spans[i] = C.hd_span{from: C.size_t(s.From), to: C.size_t(s.To)}
	}
	p, err := t.borrow()
	if err != nil {
		return nil, err
	}
	defer t.mu.RUnlock()
	var ids C.hd_ids
	var message C.hd_bytes
	status := C.hd_tokenizer_encode_spans((*C.hd_tokenizer)(p), viewString(text),
		unsafe.SliceData(spans), C.size_t(len(spans)), &ids, &message)
	if status != C.HD_OK {
		return nil, fmt.Errorf("encode: %w", failed(status, message))
	}
	return appendIDs(nil, ids), nil
}

// Decode returns the text of ids. Special tokens are left out where skipSpecial
// is set. Ids without a token add nothing; bytes that are no UTF-8 become
// U+FFFD.
func (t *Tokenizer) Decode(ids []int32, skipSpecial bool) (string, error) {
	p, err := t.borrow()
	if err != nil {
		return "", err
	}
	defer t.mu.RUnlock()
	var flag C.int32_t
	if skipSpecial {
		flag = 1
	}
	var out, message C.hd_bytes
	status := C.hd_tokenizer_decode((*C.hd_tokenizer)(p),
		(*C.uint32_t)(unsafe.Pointer(unsafe.SliceData(ids))), C.size_t(len(ids)), flag, &out, &message)
	if status != C.HD_OK {
		return "", fmt.Errorf("decode: %w", failed(status, message))
	}
	return takeString(out), nil
}

// ID returns the id of the token that tokenizer.json calls text.
func (t *Tokenizer) ID(text string) (int32, bool) {
	p, err := t.borrow()
	if err != nil {
		return 0, false
	}
	defer t.mu.RUnlock()
	id := C.hd_tokenizer_id((*C.hd_tokenizer)(p), viewString(text))
	return int32(id), id >= 0
}

// BOS returns the token that the tokenizer puts before a text that no template
// made. Many have none.
func (t *Tokenizer) BOS() (int32, bool) { return max(t.bos, 0), t.bos >= 0 }

// VocabSize returns one more than the largest id. A model may have more logits.
func (t *Tokenizer) VocabSize() int { return len(t.table.flags) }

// TokenBytes returns what a token adds to a text after its first word: nil for
// an id without a token, the literal for a control token. The caller must not
// change it.
func (t *Tokenizer) TokenBytes(id int32) []byte { return t.table.bytes(id) }

// Specials returns the added tokens by ascending id. The caller must not change
// the slice.
func (t *Tokenizer) Specials() []Special { return t.specials }

// SpecialLiterals returns the texts that Encode turns into control tokens.
func (t *Tokenizer) SpecialLiterals() []string {
	var texts []string
	for _, s := range t.specials {
		if s.Control {
			texts = append(texts, s.Text)
		}
	}
	return texts
}
