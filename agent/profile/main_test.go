package profile

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest/leaks"
)

func TestMain(m *testing.M) { os.Exit(leaks.Run(m)) }

func resolve(t testing.TB, in Input) Settings {
	t.Helper()
	s, err := Resolve(in)
	require.NoError(t, err)
	return s
}

func config(t testing.TB, text string) Config {
	t.Helper()
	c, warnings, err := ReadConfig("test.json", []byte(text))
	require.NoError(t, err)
	require.Empty(t, warnings)
	return c
}
