package engine

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/job"
	"harmonyd/engine/native"
)

// countedGrammars are grammars over the vocabulary of bytes, and how often one was compiled.
func countedGrammars(t *testing.T) (*grammars, *atomic.Int64) {
	t.Helper()
	var v vocabulary
	require.NoError(t, v.open())
	t.Cleanup(v.close)
	compiled := new(atomic.Int64)
	s := &grammars{compile: func(c job.Constraint) (*native.Grammar, error) {
		compiled.Add(1)
		return v.grammars.Compile(string(c.Kind), c.Source)
	}}
	t.Cleanup(s.close)
	return s, compiled
}

// TestGrammarsAreCompiledOnce: a constraint that comes again is not compiled again, nor is
// one that is wrong, and what walks through a grammar that is kept no more goes on.
func TestGrammarsAreCompiledOnce(t *testing.T) {
	s, compiled := countedGrammars(t)
	c := job.Constraint{Kind: job.Regex, Source: "ab*c"}
	for range 3 {
		m, err := s.matcher(c)
		require.NoError(t, err)
		require.NoError(t, m.Consume('a'))
		m.Close()
	}
	require.EqualValues(t, 1, compiled.Load())
	_, err := s.matcher(job.Constraint{Kind: job.JSONSchema, Source: c.Source})
	require.Error(t, err, "another kind is another grammar")
	for range 3 {
		_, err := s.matcher(job.Constraint{Kind: job.Regex, Source: "(("})
		require.ErrorContains(t, err, "regex")
	}
	require.EqualValues(t, 3, compiled.Load())
	old, err := s.matcher(c)
	require.NoError(t, err)
	defer old.Close()
	for i := range maxGrammars {
		m, err := s.matcher(job.Constraint{Kind: job.Regex, Source: fmt.Sprint("x", i)})
		require.NoError(t, err)
		m.Close()
	}
	compiled.Store(0)
	require.NoError(t, old.Consume('a'))
	require.NoError(t, old.Consume('c'))
	m, err := s.matcher(c)
	require.NoError(t, err)
	m.Close()
	require.EqualValues(t, 1, compiled.Load(), "it was dropped")
}

// TestGrammarsAreBounded: by their number and by the bytes of their sources.
func TestGrammarsAreBounded(t *testing.T) {
	s, _ := countedGrammars(t)
	before := native.Live()
	for i := range 4 * maxGrammars {
		m, err := s.matcher(job.Constraint{Kind: job.Regex, Source: fmt.Sprint("x", i)})
		require.NoError(t, err)
		m.Close()
		require.LessOrEqual(t, native.Live()-before, maxGrammars)
	}
	require.EqualValues(t, maxGrammars, native.Live()-before)
	large := strings.Repeat("#", maxGrammarSources/3)
	for i := range 9 {
		m, err := s.matcher(job.Constraint{Kind: job.Lark, Source: fmt.Sprintf("start: \"%d\" %s", i, large)})
		require.NoError(t, err)
		m.Close()
		require.LessOrEqual(t, s.bytes, maxGrammarSources)
	}
	require.LessOrEqual(t, native.Live()-before, 3)
	m, err := s.matcher(job.Constraint{Kind: job.Lark, Source: "start: \"a\" " + strings.Repeat("#", 2*maxGrammarSources)})
	require.NoError(t, err, "one that is larger than all is used, and kept until the next")
	m.Close()
	require.EqualValues(t, 1, native.Live()-before)
	s.close()
	require.EqualValues(t, 0, native.Live()-before)
	require.Zero(t, s.bytes)
}

// TestGrammarsAtOnce: of many who want one, one compiles it, whatever is dropped meanwhile.
func TestGrammarsAtOnce(t *testing.T) {
	s, compiled := countedGrammars(t)
	var all sync.WaitGroup
	var failed atomic.Pointer[error]
	for i := range 8 {
		all.Go(func() {
			for n := range 60 {
				m, err := s.matcher(job.Constraint{Kind: job.Regex, Source: fmt.Sprint("x", (n+i)%(maxGrammars+8))})
				if err == nil {
					err = m.Consume('x')
					m.Close()
				}
				if err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	all.Wait()
	require.Nil(t, failed.Load())
	require.Less(t, compiled.Load(), int64(8*60))
}

// TestATurnCompilesOnce: the check before a turn, the turn and the turns after it compile
// one constraint once.
func TestATurnCompilesOnce(t *testing.T) {
	root, id := defaultModel(t)
	e := newTestEngine(t, Options{Root: root})
	c := job.Constraint{Kind: job.Regex, Source: "[ab]{3}"}
	require.NoError(t, e.Check(t.Context(), id, c))
	m, _, err := e.find(id)
	require.NoError(t, err)
	g := &m.opened.text.grammars
	compile, compiled := g.compile, 0
	g.compile = func(c job.Constraint) (*native.Grammar, error) {
		compiled++
		return compile(c)
	}
	for range 3 {
		req := request([]int32{1, 2, 3}, 8)
		req.Model, req.Constraint = id, c
		require.NoError(t, generate(t, e, req).err)
	}
	require.Zero(t, compiled)
}

// TestCheckSchema: which keywords a grammar holds is the library's own word, of no model.
func TestCheckSchema(t *testing.T) {
	e := newTestEngine(t, Options{Root: t.TempDir()})
	for s, refused := range map[string]string{
		`{}`: "",
		`{"type":"object","properties":{"a":{"type":"string","pattern":"^a"}},"additionalProperties":false}`: "",
		`{"properties":{"a":{"oneOf":[{"const":"a"},{"type":"integer"}]}}}`:                                  "",
		`{"properties":{"a":{"oneOf":[{"type":"string"},{"type":"string"}]}}}`:                               "oneOf",
		`{"properties":{"a":{"type":"array","uniqueItems":true}}}`:                                           "uniqueItems",
		`{"not":{"required":["a"]}}`:                                                                     "not",
		`{"if":{"required":["a"]},"then":{"required":["b"]}}`:                                            "if",
		`{"type":"array","contains":{}}`:                                                                 "contains",
		`{"propertyNames":{"minLength":3}}`:                                                              "propertyNames",
		`{"dependentRequired":{"a":["b"]}}`:                                                              "dependentRequired",
		`{"unevaluatedProperties":false}`:                                                                "unevaluatedProperties",
		`{"properties":{"a":{"type":"string","format":"odd"}}}`:                                          "format",
		`{"properties":{"a":{"type":"string","pattern":"(?=a)b"}}}`:                                      "look",
		`{"type":"object","properties":{"a":{},"b":{}},"minProperties":2,"x-guidance":{"lenient":true}}`: "maxProperties",
		`{"not":{"required":["a"]},"x-guidance":{"lenient":true}}`:                                       "not",
		`{"$schema":"http://json-schema.org/draft-07/schema#","properties":{"a":{"$ref":"#/definitions/a"}},"definitions":{"a":{"type":"null"}}}`: "",
	} {
		err := e.CheckSchema(json.RawMessage(s))
		if refused == "" {
			require.NoError(t, err, s)
		} else {
			require.ErrorContains(t, err, refused, s)
		}
	}
	require.NoError(t, e.Close())
	require.ErrorIs(t, e.CheckSchema(json.RawMessage(`{}`)), job.ErrClosed)
}
