package agent

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/job"
	"harmonyd/schema"
)

// watched is an engine that counts what is asked of it, and whose first Open of
// a model takes time.
type watched struct {
	scripted
	opens time.Duration

	mu     sync.Mutex
	tok    *countingTokenizer
	loads  int
	opened bool
}

// countingTokenizer counts how often its control tokens are asked for, which is
// once for each renderer.
type countingTokenizer struct {
	tokenizer
	asked atomic.Int32
}

func (c *countingTokenizer) SpecialLiterals() []string {
	c.asked.Add(1)
	return c.tokenizer.SpecialLiterals()
}

func (w *watched) Open(ctx context.Context, model string) (*Model, error) {
	m, err := w.scripted.Open(ctx, model)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.opened {
		w.opened = true
		w.mu.Unlock()
		time.Sleep(w.opens)
		w.mu.Lock()
	}
	if w.tok == nil {
		w.tok = &countingTokenizer{tokenizer: m.Tokenizer.(tokenizer)}
	}
	m.Tokenizer = w.tok
	return m, nil
}

func (w *watched) Load(ctx context.Context, model string, report func(job.Progress)) error {
	w.mu.Lock()
	w.loads++
	w.mu.Unlock()
	return w.scripted.Load(ctx, model, report)
}

func TestOneRendererForEachTokenizer(t *testing.T) {
	w := &watched{scripted: newScripted(t, model("", "fine"))}
	a := New(w, noTools{}, Options{})
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			p := schema.TokensCountParams{Messages: chat("<|im_end|>").Messages}
			p.Model = []string{"", "m"}[i%2]
			_, err := a.CountTokens(t.Context(), p)
			if err != nil {
				panic(err)
			}
		})
	}
	all.Wait()
	generate(t, a, chat("x"))
	first := w.tok
	// By the one renderer, and by the parser of the one answer.
	require.EqualValues(t, 2, first.asked.Load())
	w.tok = nil // as after an import over the model's folder
	generate(t, a, chat("x"))
	generate(t, a, chat("y"))
	require.EqualValues(t, 2, first.asked.Load())
	require.EqualValues(t, 3, w.tok.asked.Load(), "for two answers")
}

// TestBadPromptsLoadNothing refuses prompts to a model whose weights take an
// hour. The one that meets a closed tokenizer gives up the load that went on
// beside it; those that meet an open one begin none.
func TestBadPromptsLoadNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &watched{scripted: newScripted(t, model(`"loadMs": 3600000, "contextLength": 8`, "x")), opens: time.Second}
		a := New(w, noTools{}, Options{})
		start := time.Now()
		for i, p := range []schema.GenerateParams{
			raw("01234567"), raw("01234567"), raw(""),
			{Messages: []schema.Message{{Role: schema.RoleDeveloper, Content: schema.TextContent("x")}}},
		} {
			_, err := a.Generate(t.Context(), p, &recorder{}, nil)
			require.Error(t, err)
			require.Equal(t, time.Second, time.Since(start), "prompt %d: only the tokenizer took time", i)
			require.Equal(t, 1, w.loads, "prompt %d", i)
			models, err := a.Models(t.Context())
			require.NoError(t, err)
			require.Equal(t, schema.ModelUnloaded, models.Models[0].State, "prompt %d", i)
		}
		res, _ := generate(t, a, raw("ok"))
		require.Equal(t, "x", res.Message.Content.Text())
		require.Equal(t, time.Hour+time.Second, time.Since(start))
	})
}

// TestUsageAccountsForTheWait adds up where the time to the first token went.
func TestUsageAccountsForTheWait(t *testing.T) {
	const step = 100.0
	script := model(`"loadMs": 2000, "prefillTokensPerSecond": 100, "prefillChunk": 10, "tokensPerSecond": 10`, "abc")
	for name, c := range map[string]struct {
		opens time.Duration
		load  float64
	}{
		"weights are last":                {500 * time.Millisecond, 2000},
		"the tokenizer is last":           {3 * time.Second, 3000},
		"the tokenizer takes no time":     {0, 2000},
		"the tokenizer and weights alike": {2 * time.Second, 2000},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := New(&watched{scripted: newScripted(t, script), opens: c.opens}, noTools{}, Options{})
				check := func(u schema.Usage, queue, load float64) {
					require.Equal(t, []float64{queue, load}, []float64{u.QueueMS, u.LoadMS})
					require.InDelta(t, u.TTFTMS, u.QueueMS+u.LoadMS+u.PrefillMS+step, 1e-6)
				}
				res, _ := generate(t, a, raw(strings.Repeat("x", 30)))
				check(res.Usage, 0, c.load)
				// A loaded model, behind another generation.
				behind := make(chan schema.Usage)
				go func() {
					time.Sleep(50 * time.Millisecond)
					res, err := a.Generate(t.Context(), raw(strings.Repeat("y", 30)), &recorder{}, nil)
					if err != nil {
						panic(err)
					}
					behind <- res.Usage
				}()
				generate(t, a, raw(strings.Repeat("z", 30)))
				check(<-behind, 300+400-50, 0)
			})
		})
	}
}
