//go:build !scripted

package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/agent/parse"
	"harmonyd/engine"
	"harmonyd/engine/native"
	"harmonyd/schema"
)

// accepts reports whether a grammar of the schema allows a text, in the vocabulary of
// bytes.
func accepts(t *testing.T, g *native.Grammar, text []byte) bool {
	t.Helper()
	m, err := g.NewMatcher()
	require.NoError(t, err)
	defer m.Close()
	for _, b := range text {
		if m.Consume(int32(b)) != nil {
			return false
		}
	}
	ok, err := m.IsAccepting()
	require.NoError(t, err)
	return ok
}

// TestUnconstrainedIsNamed: what a grammar does not hold of a schema is named when a tool
// is registered, by the official tests of JSON Schema: where nothing is named no invalid
// value can be written; where something is, what is left of the schema is a grammar.
func TestUnconstrainedIsNamed(t *testing.T) {
	root := ".deps/suite/tests"
	if _, err := os.Stat(root); err != nil {
		t.Skip("make deps fetches the suite")
	}
	e, err := engine.New(engine.Options{Root: t.TempDir()})
	require.NoError(t, err)
	defer func() { require.NoError(t, e.Close()) }()
	tok := walker(t, nil)
	eos, _ := tok.ID("<end>")
	grammars, err := native.NewGrammarTokenizer(tok, tok.VocabSize(), []int32{eos})
	require.NoError(t, err)
	defer grammars.Close()
	whole, parts, held, invalid, valid, missed := 0, 0, 0, 0, 0, 0
	keywords := map[string]int{}
	var found []string
	for draft, id := range map[string]string{"draft7": "http://json-schema.org/draft-07/schema#", "draft2020-12": "https://json-schema.org/draft/2020-12/schema"} {
		files, err := filepath.Glob(filepath.Join(root, draft, "*.json"))
		require.NoError(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			var groups []struct {
				Description string
				Schema      json.RawMessage
				Tests       []struct {
					Description string
					Data        json.RawMessage
					Valid       bool
				}
			}
			require.NoError(t, json.Unmarshal(text, &groups))
			for _, g := range groups {
				if bytes.Contains(g.Schema, []byte("localhost:1234")) || g.Schema[0] != '{' {
					continue // another document, or none at all
				}
				s := g.Schema
				if !bytes.Contains(s, []byte(`"$schema"`)) {
					s = slices.Concat([]byte(`{"$schema":"`+id+`",`), bytes.TrimSpace(s)[1:])
				}
				name := draft + "/" + filepath.Base(file) + ": " + g.Description
				rest, left := schema.Hold(s, e.CheckSchema)
				if len(left) == 0 {
					whole++
				} else {
					parts++
				}
				for _, u := range left {
					keywords[u.Keyword]++
				}
				grammar, err := grammars.Compile("json_schema", parse.Guided(rest))
				require.NoError(t, err, "%s: %s", name, rest)
				for _, c := range g.Tests {
					value, err := json.Marshal(c.Data)
					require.NoError(t, err)
					ok := accepts(t, grammar, spaced(value))
					switch {
					case c.Valid && ok:
						valid++
					case c.Valid:
						missed++
					case len(left) > 0:
						if !ok {
							held++
						}
					case ok:
						found = append(found, name+": "+c.Description)
					default:
						invalid++
					}
				}
				grammar.Close()
			}
		}
	}
	t.Logf("%d schemas held whole: %d invalid values refused; %d held in part: %d more", whole, invalid, parts, held)
	t.Logf("valid values: %d can be written, %d not", valid, missed)
	for _, k := range slices.Sorted(maps.Keys(keywords)) {
		t.Logf("named %d times: %s", keywords[k], k)
	}
	require.Empty(t, found, "relaxed in silence")
	require.Greater(t, whole, 300)
	require.Greater(t, invalid, 450)
	require.Greater(t, valid, 1150)
}

// spaced puts a space behind each comma and colon outside of strings.
func spaced(value []byte) (out []byte) {
	quoted := false
	for i, b := range value {
		if out = append(out, b); b == '"' && (i == 0 || !escaped(value[:i])) {
			quoted = !quoted
		}
		if !quoted && strings.IndexByte(",:", b) >= 0 {
			out = append(out, ' ')
		}
	}
	return out
}

// escaped reports whether what follows text is escaped.
func escaped(text []byte) bool {
	return (len(text)-len(bytes.TrimRight(text, `\`)))%2 == 1
}
