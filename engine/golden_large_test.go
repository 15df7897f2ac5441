package engine

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest"
	"harmonyd/engine/hub"
	"harmonyd/engine/job"
)

// largeLengths are the lengths of the prompts to the default model, in tokens.
// They lie on both sides of the cache's blocks and of several prefill chunks.
var largeLengths = []int{
	4, 8, 12, 20, 30, 50, 64, 80, 100, 128, 160, 200, 250, 256, 257, 300, 400, 450, 512, 600,
}

// largeText is cut and turned to make the prompts.
const largeText = `The lighthouse keeper wrote one line a day. On Monday the fog came in before
breakfast and stayed until the lamp was lit. On Tuesday a ship asked for the time, and he answered
it with the bell, twice, because the wind was wrong. By Wednesday the oil was low. "Send more," he
wrote, "and a better pen." Nobody read the book for forty years. Then a girl of nine found it under
the stairs, next to a brass key and 17 unpaid bills, and asked her mother what the numbers in the
margin meant. They were depths, in fathoms: 3, 5, 8, 13. The last page said only this: for i := 0;
i < n; i++ { light(i) }, which made no sense to anyone at all until the day she learned to program. `

// defaultModel returns the hub with the default model in it, imported once for
// all tests of the package.
func defaultModel(t testing.TB) (root, id string) {
	t.Helper()
	root, err := importDefault()
	require.NoError(t, err, "run `make deps` first")
	return root, hub.DefaultModel
}

// importRoot is removed by TestMain.
var importRoot string

var importDefault = sync.OnceValues(func() (string, error) {
	files, err := filepath.Glob("../.deps/models/*.gguf")
	if err != nil || len(files) != 1 {
		return "", os.ErrNotExist
	}
	if importRoot, err = os.MkdirTemp("", "harmonyd-test-"); err != nil {
		return "", err
	}
	_, err = hub.New(importRoot).Import(context.Background(), files[0], "", nil)
	return importRoot, err
})

func largePrompts(t *testing.T, e *Engine, id string, lengths []int) [][]int32 {
	t.Helper()
	m, err := e.Open(t.Context(), id)
	require.NoError(t, err)
	words := strings.Fields(largeText)
	var all [][]int32
	for i, n := range lengths {
		from := i * 7 % len(words)
		turned := strings.Join(append(words[from:len(words):len(words)], words[:from]...), " ")
		ids, err := m.Tokenizer.Encode(strings.Repeat(turned+" ", 1+n/100), false)
		require.NoError(t, err)
		require.Greater(t, len(ids), n)
		all = append(all, ids[:n])
	}
	return all
}

// projections are the vectors of goldens.py.
func projections(n int) [][]float64 {
	state := uint32(1)
	rows := make([][]float64, 8)
	for r := range rows {
		rows[r] = make([]float64, n)
		for i := range rows[r] {
			state = state*1664525 + 1013904223
			rows[r][i] = (float64(state>>8)/(1<<23) - 1) / math.Sqrt(float64(n))
		}
	}
	return rows
}

// TestGoldenDefaultModel compares the scores of the default model, and its greedy
// continuations twice: fed in one piece, and decoded token by token.
func TestGoldenDefaultModel(t *testing.T) {
	root, id := defaultModel(t)
	e := newTestEngine(t, Options{Root: root})
	prompts := largePrompts(t, e, id, largeLengths)
	want := reference(t, "large", filepath.Join(root, id), prompts)[id]
	m := loadFolder(t, e, filepath.Join(root, id), math.MaxInt64)
	requireGolden(t, m, prompts, want)
}

// requireGolden compares scores and greedy continuations with those of the
// reference.
func requireGolden(t *testing.T, m *loadedModel, prompts [][]int32, want []golden) {
	t.Helper()
	require.Len(t, want, len(prompts))
	var basis [][]float64
	for i, g := range want {
		require.Equal(t, len(prompts[i]), g.Prompt)
		all := append(prompts[i][:g.Prompt:g.Prompt], g.Greedy[:len(g.Greedy)-1]...)
		rows := m.scores(t, all, len(g.Greedy))
		if basis == nil {
			basis = projections(len(rows[0]))
		}
		for k, id := range g.Top {
			require.InDelta(t, g.Values[k], rows[0][id], tolerance, "%d tokens, score of %d", g.Prompt, id)
		}
		for k, v := range basis {
			var sum float64
			for j, x := range rows[0] {
				sum += v[j] * float64(x)
			}
			require.InDelta(t, g.Projections[k], sum, tolerance, "%d tokens, projection %d", g.Prompt, k)
		}
		for k, id := range g.Greedy {
			require.Equal(t, id, argmax(rows[k]), "%d tokens, greedy token %d", g.Prompt, k)
		}
		require.Equal(t, g.Greedy, m.greedy(t, prompts[i], len(g.Greedy)), "%d tokens, decoded", g.Prompt)
	}
}

// TestConformanceOfTheEngine runs the table that every engine has to pass.
func TestConformanceOfTheEngine(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, enginetest.Checkpoint{Seed: 1}.Write(filepath.Join(root, "tiny")))
	enginetest.Conformance(t, func(t *testing.T) enginetest.Subject {
		e := newTestEngine(t, Options{Root: root, DefaultModel: "tiny", RingSize: 64})
		return enginetest.Subject{
			Runner: runner{e}, Model: "tiny", Prompt: pseudoPrompt(40, 96), Long: 200,
		}
	})
}

// runner gives the engine the type that the table knows.
type runner struct{ *Engine }

func (r runner) Start(req job.Request) (enginetest.Generation, error) {
	g, err := r.Engine.Start(req)
	if err != nil {
		return nil, err
	}
	return g, nil
}
