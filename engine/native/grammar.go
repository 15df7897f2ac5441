package native

// #include "harmonyd_native.h"
import "C"

import (
	"fmt"
	"unsafe"
)

// GrammarTokenizer is a tokenizer's vocabulary in the form that grammars walk.
// It is made once a model and may be used from any number of goroutines.
type GrammarTokenizer struct {
	handle
	words int
}

// NewGrammarTokenizer builds the form for a model with vocab logits, which may
// be more than the tokenizer has tokens; eos lists the ids that end a text, at
// least one. It takes up to a second and some tens of megabytes. The result
// stays valid after t is closed; the caller closes it.
func NewGrammarTokenizer(t *Tokenizer, vocab int, eos []int32) (*GrammarTokenizer, error) {
	p, err := t.borrow()
	if err != nil {
		return nil, err
	}
	defer t.mu.RUnlock()
	for _, id := range eos {
		if id < 0 {
			return nil, fmt.Errorf("grammar tokenizer: end-of-text token %d", id)
		}
	}
	var out *C.hd_vocabulary
	var message C.hd_bytes
	status := C.hd_vocabulary_new((*C.hd_tokenizer)(p), C.size_t(max(vocab, 0)),
		(*C.uint32_t)(unsafe.Pointer(unsafe.SliceData(eos))), C.size_t(len(eos)), &out, &message)
	if status != C.HD_OK {
		return nil, fmt.Errorf("grammar tokenizer: %w", failed(status, message))
	}
	g := &GrammarTokenizer{words: (vocab + 31) / 32}
	g.open("grammar tokenizer", unsafe.Pointer(out), func(p unsafe.Pointer) {
		C.hd_vocabulary_free((*C.hd_vocabulary)(p))
	})
	return g, nil
}

// Grammar is a compiled grammar. It may be used from any number of goroutines.
type Grammar struct {
	handle
	words int
}

// Compile compiles a grammar of the kind "json_schema", "regex" or "lark". A
// schema is taken strictly: a keyword that cannot be enforced is an error that
// names it, unless the schema has "x-guidance": {"lenient": true}. Objects come
// in the order of their properties, with at most one space after a comma or
// colon. The caller closes the result.
func (g *GrammarTokenizer) Compile(kind, source string) (*Grammar, error) {
	p, err := g.borrow()
	if err != nil {
		return nil, err
	}
	defer g.mu.RUnlock()
	var out *C.hd_grammar
	var message C.hd_bytes
	status := C.hd_grammar_new((*C.hd_vocabulary)(p), viewString(kind), viewString(source),
		&out, &message)
	if status != C.HD_OK {
		return nil, fmt.Errorf("compile grammar: %w", failed(status, message))
	}
	r := &Grammar{words: g.words}
	r.open("grammar", unsafe.Pointer(out), func(p unsafe.Pointer) {
		C.hd_grammar_free((*C.hd_grammar)(p))
	})
	return r, nil
}

// NewMatcher starts a walk through the grammar. The caller closes it. The first one makes
// the mask of the beginning, which takes up to some milliseconds, for all.
func (g *Grammar) NewMatcher() (*Matcher, error) {
	p, err := g.borrow()
	if err != nil {
		return nil, err
	}
	defer g.mu.RUnlock()
	var out *C.hd_matcher
	var message C.hd_bytes
	if status := C.hd_matcher_new((*C.hd_grammar)(p), &out, &message); status != C.HD_OK {
		return nil, fmt.Errorf("grammar: %w", failed(status, message))
	}
	return newMatcher(out, g.words), nil
}

// Matcher is one walk through a grammar: the tokens so far and what may follow.
// Calls from several goroutines wait for each other.
type Matcher struct {
	handle
	words int
}

func newMatcher(p *C.hd_matcher, words int) *Matcher {
	m := &Matcher{words: words}
	m.open("matcher", unsafe.Pointer(p), func(p unsafe.Pointer) {
		C.hd_matcher_free((*C.hd_matcher)(p))
	})
	return m
}

// MaskWords returns the length of a mask: one bit for each logit, in words of 32.
func (m *Matcher) MaskWords() int { return m.words }

// Mask sets dst to the tokens that may come next: token i is bit i%32 of
// dst[i/32]. Once the grammar is complete these are the end tokens. dst must
// have MaskWords words. It takes some microseconds, up to a millisecond where the
// grammar's state is a new one.
func (m *Matcher) Mask(dst []uint32) error {
	p, err := m.seize()
	if err != nil {
		return err
	}
	defer m.mu.Unlock()
	var message C.hd_bytes
	status := C.hd_matcher_mask((*C.hd_matcher)(p), (*C.uint32_t)(unsafe.SliceData(dst)),
		C.size_t(len(dst)), &message)
	if status != C.HD_OK {
		return fmt.Errorf("mask: %w", failed(status, message))
	}
	return nil
}

// Consume goes on by one token. A token that the grammar does not allow is an
// error and changes nothing.
func (m *Matcher) Consume(token int32) error {
	p, err := m.seize()
	if err != nil {
		return err
	}
	defer m.mu.Unlock()
	var message C.hd_bytes
	status := C.hd_matcher_consume((*C.hd_matcher)(p), C.uint32_t(token), &message)
	if status != C.HD_OK {
		return fmt.Errorf("consume: %w", failed(status, message))
	}
	return nil
}

// ForcedTokens returns the tokens that must come next, as the tokenizer itself
// would split their text. It does not consume them.
func (m *Matcher) ForcedTokens() ([]int32, error) {
	p, err := m.seize()
	if err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var ids C.hd_ids
	var message C.hd_bytes
	status := C.hd_matcher_forced((*C.hd_matcher)(p), &ids, &message)
	if status != C.HD_OK {
		return nil, fmt.Errorf("forced tokens: %w", failed(status, message))
	}
	return appendIDs(nil, ids), nil
}

// IsAccepting reports whether the text may end here.
func (m *Matcher) IsAccepting() (bool, error) {
	p, err := m.seize()
	if err != nil {
		return false, err
	}
	defer m.mu.Unlock()
	var out C.int32_t
	var message C.hd_bytes
	status := C.hd_matcher_accepting((*C.hd_matcher)(p), &out, &message)
	if status != C.HD_OK {
		return false, fmt.Errorf("accepting: %w", failed(status, message))
	}
	return out != 0, nil
}

// IsStopped reports whether only an end token may follow, or one came, or the
// matcher is closed.
func (m *Matcher) IsStopped() bool {
	p, err := m.seize()
	if err != nil {
		return true
	}
	defer m.mu.Unlock()
	return C.hd_matcher_stopped((*C.hd_matcher)(p)) != 0
}
