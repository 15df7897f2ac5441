package rpc

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/schema"
)

// TestR13TranscriptsShowEverything: no method, notification or error is served
// that no transcript shows.
func TestR13TranscriptsShowEverything(t *testing.T) {
	var all strings.Builder
	for _, pattern := range []string{"testdata/*.txtar", "testdata/bad/*.txtar"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, file := range files {
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			all.Write(data)
		}
	}
	shown := func(member, value string) {
		require.Contains(t, all.String(), `"`+member+`":"`+value+`"`)
	}
	for i := range methods {
		shown("method", methods[i].name)
	}
	for _, e := range slices.Concat(questions, notifications) {
		shown("method", e.name)
	}
	for i := range schema.ErrorCodes {
		shown("kind", string(schema.ErrorCodes[i].Kind))
	}
}

// TestMethodRows: the tables hold together.
func TestMethodRows(t *testing.T) {
	require.Len(t, byName, len(methods), "names are unique")
	for _, m := range methods {
		require.NotEmpty(t, m.doc, m.name)
		require.NotNil(t, m.params, m.name)
		require.False(t, m.kind == notify && !m.inline, "%s: notifications keep their order", m.name)
	}
}
