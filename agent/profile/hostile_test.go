package profile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestNothingIsToldForEver reads sources with far more that is wrong than anybody reads. To
// tell all of it took half a minute for each of them, and more with each key.
func TestNothingIsToldForEver(t *testing.T) {
	var unknown, refused strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&unknown, `"temprature%d": 1, `, i)
		refused.WriteString(`{"role": "nobody", "content": ""}, `)
	}
	for _, text := range []string{
		"{" + unknown.String() + `"top_k": 3}`,
		`{"example_dialogues": [[` + refused.String() + `{"role": "user", "content": ""}]], "top_k": 3}`,
		`{"` + strings.Repeat("x", 4<<20) + `": 1, "top_k": 3}`,
	} {
		var bad *Error
		c, err := ReadRequest([]byte(text))
		require.ErrorAs(t, err, &bad)
		require.LessOrEqual(t, len(bad.Problems), maxProblems)
		require.Equal(t, 3, *c.TopK, "what is right is read all the same")
		c, problems, err := ReadConfig("file.json", []byte(text))
		require.True(t, err != nil || len(problems) > 0)
		require.LessOrEqual(t, len(problems), maxProblems)
		require.Equal(t, 3, *c.TopK)
	}
}

// TestOnlyFilesAreRead, which have an end.
func TestOnlyFilesAreRead(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{dir, os.DevNull} {
		_, _, err := LoadConfig(name)
		require.ErrorContains(t, err, name+": is no regular file")
		_, _, err = LoadProfiles(name)
		require.ErrorContains(t, err, name+": is no regular file")
	}
	_, _, err := LoadConfig(filepath.Join(dir, "none.json"))
	require.ErrorIs(t, err, os.ErrNotExist)
}
