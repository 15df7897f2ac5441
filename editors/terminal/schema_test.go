package terminal

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/schema"
)

func TestSchema(t *testing.T) {
	text, err := []byte("{\n}\n"), error(nil)
	var format schema.Language
	c := Commands{Schema: func(f schema.Language) ([]byte, error) {
		format = f
		return text, err
	}}
	require.Equal(t, ran{out: "{\n}\n"}, run(t, c, "schema"))
	require.Equal(t, schema.LanguageJSONSchema, format)
	require.Equal(t, ran{out: "{\n}\n"}, run(t, c, "schema", "--format", "lua"))
	require.Equal(t, schema.LanguageLua, format)
	require.Equal(t, ExitUsage, run(t, c, "schema", "--format", "xml").code)
	require.Equal(t, ExitUsage, run(t, c, "schema", "generate").code)
	folder := filepath.Join(t.TempDir(), "a", "b")
	require.Equal(t, ran{}, run(t, c, "schema", "--out", folder, "--format", "lua"))
	written := func() (names []string) {
		files, err := filepath.Glob(filepath.Join(folder, "*"))
		require.NoError(t, err)
		for _, f := range files {
			text, err := os.ReadFile(f)
			require.NoError(t, err)
			require.Equal(t, "{\n}\n", string(text))
			names = append(names, filepath.Base(f))
		}
		return names
	}
	require.Equal(t, []string{"protocol.lua"}, written())
	require.Equal(t, ran{}, run(t, c, "schema", "--out", folder))
	require.Equal(t, []string{"meta.json", "protocol.lua", "protocol.ts", "schema.json"}, written())
	require.Equal(t, ExitUsage, run(t, c, "schema", "profiles", "--out", folder).code)
	require.Equal(t, ExitFailed, run(t, c, "schema", "--out", filepath.Join(folder, "meta.json", "x")).code)
	text, err = nil, errors.New("no sources")
	r := run(t, c, "schema")
	require.ErrorIs(t, r.failure, err)
	require.Equal(t, ExitFailed, r.code)
	require.Empty(t, r.out)
}
