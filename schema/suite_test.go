package schema

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
)

// suiteGroup is a schema of JSON-Schema-Test-Suite and values to hold against it.
type suiteGroup struct {
	Description string          `json:"description"`
	Schema      json.RawMessage `json:"schema"`
	Tests       []struct {
		Description string          `json:"description"`
		Data        json.RawMessage `json:"data"`
		Valid       bool            `json:"valid"`
	} `json:"tests"`
}

// exception is why a group may come out otherwise than the suite has it, or nothing.
func (g *suiteGroup) exception(file string, wrong []string) string {
	for _, w := range wrong {
		refused := strings.HasPrefix(w, "refused: ") && strings.Contains(w, "other document") && strings.Contains(string(g.Schema), "localhost:1234")
		switch {
		case refused:
			return "the schema refers to another document, and a tool's schema may not"
		case file == "draft2020-12/format.json" && strings.HasSuffix(w, "is only an annotation by default"):
		default:
			return ""
		}
	}
	return "format is held to in 2020-12 too, where the draft leaves that to the program"
}

// TestJSONSchemaTestSuite runs the required tests of the drafts that a tool's schema may
// be of. Every one must come out as the suite has it, but for the exceptions, which are
// named and counted.
func TestJSONSchemaTestSuite(t *testing.T) {
	root := "../.deps/suite/tests"
	if _, err := os.Stat(root); err != nil {
		t.Skip("make deps fetches the suite")
	}
	ran, excepted := 0, map[string][]string{}
	for draft, id := range map[string]string{
		"draft7":       "http://json-schema.org/draft-07/schema#",
		"draft2020-12": "https://json-schema.org/draft/2020-12/schema",
	} {
		files, err := filepath.Glob(filepath.Join(root, draft, "*.json"))
		require.NoError(t, err)
		require.Greater(t, len(files), 35, draft)
		for _, path := range files {
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			var groups []suiteGroup
			require.NoError(t, json.Unmarshal(text, &groups))
			file := draft + "/" + filepath.Base(path)
			for _, g := range groups {
				ran += len(g.Tests)
				wrong := g.run(t, id)
				if len(wrong) == 0 {
					continue
				}
				why := g.exception(file, wrong)
				require.NotEmpty(t, why, "%s: %s: %q", file, g.Description, wrong)
				excepted[why] = append(excepted[why], file+": "+g.Description)
			}
		}
	}
	for _, why := range slices.Sorted(maps.Keys(excepted)) {
		t.Logf("%d groups are exceptions: %s", len(excepted[why]), why)
		slices.Sort(excepted[why])
		for _, name := range excepted[why] {
			t.Log("\t" + name)
		}
	}
	t.Logf("%d required tests of draft-07 and 2020-12", ran)
	require.Greater(t, ran, 2100)
	require.LessOrEqual(t, len(slices.Concat(slices.Collect(maps.Values(excepted))...)), 50)
}

// run returns what comes out otherwise than the suite has it.
func (g *suiteGroup) run(t *testing.T, draft string) (wrong []string) {
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(g.Schema)))
	require.NoError(t, err)
	// The drafts' own ids, where the suite leaves them to the folder.
	if object, ok := doc.(map[string]any); ok && object["$schema"] == nil {
		object["$schema"] = draft
	}
	v, bad := new(schemaWalk).compile(doc)
	if v == nil {
		return []string{"refused: " + bad[0].InstancePath + ": " + bad[0].Message}
	}
	for _, c := range g.Tests {
		if found := v.Check(c.Data); (len(found) == 0) != c.Valid {
			wrong = append(wrong, c.Description)
		}
	}
	for _, u := range v.Unchecked {
		wrong = append(wrong, u.InstancePath+" "+u.Message)
	}
	return wrong
}
