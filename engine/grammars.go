package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"

	"harmonyd/engine/job"
	"harmonyd/engine/native"
)

// Bounds of the compiled grammars that are kept for a model.
const (
	maxGrammars       = 32
	maxGrammarSources = 1 << 20 // bytes of their sources, with which their memory grows
)

// grammars are a model's compiled grammars: a conversation has the same in each turn,
// and a check before a turn compiles what the turn needs. Its methods may be called
// from any goroutine.
type grammars struct {
	compile func(job.Constraint) (*native.Grammar, error)

	mu    sync.Mutex
	kept  []*grammar // the one used last is the last
	bytes int        // of the sources of those kept
}

// grammar is one of them, or what is wrong with it.
type grammar struct {
	constraint job.Constraint
	once       sync.Once
	compiled   *native.Grammar
	err        error

	users int // under the lock of grammars
	kept  bool
}

// matcher starts a walk through the grammar of a constraint.
func (s *grammars) matcher(c job.Constraint) (*native.Matcher, error) {
	g := s.take(c)
	defer s.giveBack(g)
	g.once.Do(func() { g.compiled, g.err = s.compile(c) })
	if g.err != nil {
		return nil, g.err
	}
	return g.compiled.NewMatcher()
}

// take finds or adds the grammar of a constraint.
func (s *grammars) take(c job.Constraint) *grammar {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found *grammar
	for i, g := range s.kept {
		if g.constraint == c {
			found = g
			s.kept = append(s.kept[:i], s.kept[i+1:]...)
			break
		}
	}
	if found == nil {
		found = &grammar{constraint: c, kept: true}
		s.bytes += len(c.Source)
	}
	s.kept = append(s.kept, found)
	found.users++
	// The new one stays whatever its size, until the next comes.
	for len(s.kept) > 1 && (len(s.kept) > maxGrammars || s.bytes > maxGrammarSources) {
		s.drop(s.kept[0])
		s.kept = s.kept[1:]
	}
	return found
}

// giveBack ends a use, and with the last one what is not kept any more.
func (s *grammars) giveBack(g *grammar) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g.users--; g.users == 0 && !g.kept {
		g.close()
	}
}

// drop keeps g no more. It is called with the lock held.
func (s *grammars) drop(g *grammar) {
	g.kept = false
	s.bytes -= len(g.constraint.Source)
	if g.users == 0 {
		g.close()
	}
}

func (g *grammar) close() {
	if g.compiled != nil {
		g.compiled.Close() // what walks through it keeps it
	}
}

// close keeps none any more.
func (s *grammars) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.kept {
		s.drop(g)
	}
	s.kept = nil
}

// vocabulary is a tokenizer with what grammars need of it.
type vocabulary struct {
	once      sync.Once
	tokenizer *native.Tokenizer
	grammars  *native.GrammarTokenizer
	err       error
}

// open makes the vocabulary of the single bytes, in which a grammar costs next to
// nothing.
func (v *vocabulary) open() error {
	v.once.Do(func() {
		bytes, next := map[string]int{}, rune(0x100)
		for b := range 256 {
			char := string(rune(b))
			if b <= 0x20 || b >= 0x7f && b <= 0xa0 || b == 0xad { // those that byte-level tokenizers do not show
				char = string(next)
				next++
			}
			bytes[char] = b
		}
		type object = map[string]any
		level := object{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}
		end := object{"id": 256, "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}
		file, err := json.Marshal(object{"version": "1.0", "pre_tokenizer": level, "decoder": level, "added_tokens": []object{end},
			"model": object{"type": "BPE", "vocab": bytes, "merges": []string{}}})
		if err != nil {
			v.err = err
			return
		}
		if v.tokenizer, v.err = native.LoadTokenizer(file, nil); v.err == nil {
			v.grammars, v.err = native.NewGrammarTokenizer(v.tokenizer, 257, []int32{256})
		}
	})
	return v.err
}

// close frees what open made. Nobody may call open any more.
func (v *vocabulary) close() {
	if v.grammars != nil {
		v.grammars.Close()
	}
	if v.tokenizer != nil {
		v.tokenizer.Close()
	}
}

// CheckSchema says what a grammar cannot hold of a JSON Schema, of any model.
func (e *Engine) CheckSchema(source json.RawMessage) error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return job.ErrClosed
	}
	e.work.Add(1)
	e.mu.Unlock()
	defer e.work.Done()
	if err := e.bytes.open(); err != nil {
		return fmt.Errorf("vocabulary of bytes: %w", err)
	}
	source = bytes.TrimSpace(source)
	// Of two members of a name the later one counts.
	if inner, ok := bytes.CutPrefix(source, []byte("{")); ok && len(bytes.TrimSpace(inner)) > 1 {
		source = append(bytes.Clone(source[:len(source)-1]), `,"x-guidance":{}}`...)
	}
	g, err := e.bytes.grammars.Compile(string(job.JSONSchema), string(source))
	if err == nil {
		g.Close()
	}
	return err
}
