package agent

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/job"
	"harmonyd/schema"
)

// cancelled runs a generation under a context that when ends, and returns the
// result, which is never an error, and the time from the end to the result.
func cancelled(t *testing.T, a *Agent, p schema.GenerateParams, r *recorder, when func(cancel func())) (schema.GenerateResult, time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var at time.Time
	when(func() { at = time.Now(); cancel() })
	res, err := a.Generate(ctx, p, r, nil)
	took := time.Since(at)
	require.NoError(t, err)
	require.Equal(t, schema.StopCancelled, res.StopReason)
	checkResult(t, res, r)
	return res, took
}

// TestCancelInEveryState bounds the wait for the result on the engine's clock:
// by a step while it decodes, by a chunk in a prefill, else not at all.
func TestCancelInEveryState(t *testing.T) {
	const step, chunk = 100 * time.Millisecond, 200 * time.Millisecond
	script := model(`"loadMs": 1000, "prefillTokensPerSecond": 50, "prefillChunk": 10, "tokensPerSecond": 10`, "0123456789")
	for _, c := range []struct {
		state schema.GenerateState
		after time.Duration
		bound time.Duration
		text  string
		want  schema.Usage
	}{
		{schema.StateQueued, 0, 0, "", schema.Usage{PromptTokens: 30}},
		{schema.StateLoading, 450 * time.Millisecond, 0, "", schema.Usage{PromptTokens: 30, Rounds: 1}},
		{schema.StatePrefill, 1250 * time.Millisecond, chunk, "", schema.Usage{PromptTokens: 30, Rounds: 1}},
		{schema.StateDecoding, 1950 * time.Millisecond, step, "012", schema.Usage{PromptTokens: 30, CompletionTokens: 3, Rounds: 1}},
	} {
		t.Run(string(c.state), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAgent(t, script)
				var r recorder
				p := raw("012345678901234567890123456789")
				res, took := cancelled(t, a, p, &r, func(cancel func()) {
					if c.after == 0 {
						r.status = func(s schema.GenerateStatus) {
							if s.State == schema.StateQueued {
								cancel()
							}
						}
						return
					}
					time.AfterFunc(c.after, cancel)
				})
				require.LessOrEqual(t, took, c.bound)
				require.Equal(t, c.text, res.Message.Content.Text())
				require.Equal(t, c.want, counts(res.Usage))
				require.Contains(t, r.states(), c.state)
				// The same again, to its end, with what stayed in the cache.
				res, _ = generate(t, a, p)
				require.Equal(t, "0123456789", res.Message.Content.Text())
			})
		})
	}
}

func TestCancelBehindAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgent(t, model(`"tokensPerSecond": 10`, "0123456789"))
		first := make(chan string)
		go func() {
			res, err := a.Generate(t.Context(), raw("x"), &recorder{}, nil)
			if err != nil {
				panic(err)
			}
			first <- res.Message.Content.Text()
		}()
		time.Sleep(250 * time.Millisecond)
		var r recorder
		_, took := cancelled(t, a, raw("y"), &r, func(cancel func()) { time.AfterFunc(300*time.Millisecond, cancel) })
		require.Zero(t, took)
		require.Equal(t, []schema.GenerateState{schema.StateQueued, schema.StateDone}, r.states())
		require.Equal(t, "0123456789", <-first)
	})
}

func TestCancelBeforeTheRequest(t *testing.T) {
	a := newAgent(t, model("", "text"))
	res, _ := cancelled(t, a, raw("x"), &recorder{}, func(cancel func()) { cancel() })
	require.Empty(t, res.Message.Content.Text())
}

// TestCancelAtEveryToken ends the context from within the sink: nothing is
// said after that, and nothing was lost before.
func TestCancelAtEveryToken(t *testing.T) {
	const text = "0123456789abcdef"
	a := newAgent(t, model("", text))
	for n := 1; n <= len(text); n++ {
		ctx, cancel := context.WithCancel(t.Context())
		var r recorder
		r.text = func(context.Context) {
			if len(r.pieces) == n {
				cancel()
			}
		}
		res, err := a.Generate(ctx, raw("x"), &r, nil)
		cancel()
		require.NoError(t, err)
		require.Equal(t, schema.StopCancelled, res.StopReason)
		require.Equal(t, text[:n], res.Message.Content.Text())
		require.Equal(t, n, res.Usage.CompletionTokens)
		checkResult(t, res, &r)
	}
}

// TestCancelReleasesWhatMayBeAStopString has text held back when the context
// ends. It is text, for no stop string came. Half a character is none.
func TestCancelReleasesWhatMayBeAStopString(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgent(t, model(`"tokensPerSecond": 10`, "abcdé"))
		p := raw("x")
		p.Stop = []string{"cd!"}
		var r recorder
		res, _ := cancelled(t, a, p, &r, func(cancel func()) { time.AfterFunc(450*time.Millisecond, cancel) })
		require.Equal(t, "abcd", res.Message.Content.Text())
		r = recorder{}
		p.Stop = nil
		res, _ = cancelled(t, a, p, &r, func(cancel func()) { time.AfterFunc(550*time.Millisecond, cancel) })
		require.Equal(t, "abcd", res.Message.Content.Text())
		require.Equal(t, 5, res.Usage.CompletionTokens)
	})
}

// TestCancelWhileTheSinkBlocks has a client that does not read: the engine is
// told at once, not when the sink comes back.
func TestCancelWhileTheSinkBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newScripted(t, `{"ring": 8, "models": [{"tokensPerSecond": 10, "replies": [{"text": "ab", "endless": true}]}]}`)
		a := New(e, noTools{}, Options{})
		var r recorder
		r.text = func(ctx context.Context) {
			if len(r.pieces) > 3 {
				<-ctx.Done()
				time.Sleep(time.Hour) // a sink that is slow to notice
			}
		}
		time.AfterFunc(30*time.Minute, func() {
			// The generation waits for its consumer, so another one runs at once.
			start := time.Now()
			_, err := a.Generate(t.Context(), schema.GenerateParams{Prompt: ptr("y"), MaxTokens: 2}, &recorder{}, nil)
			require.NoError(t, err)
			require.Less(t, time.Since(start), time.Second)
		})
		res, took := cancelled(t, a, raw("x"), &r, func(cancel func()) { time.AfterFunc(31*time.Minute, cancel) })
		require.Equal(t, time.Hour, took)
		require.Equal(t, "abab", res.Message.Content.Text())
	})
}

// stuck is an engine whose Open takes until its context ends.
type stuck struct{ scripted }

func (s stuck) Open(ctx context.Context, _ string) (*Model, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestCancelWhileTheTokenizerLoads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(stuck{newScripted(t, model(`"loadMs": 60000`, "x"))}, noTools{}, Options{})
		res, took := cancelled(t, a, raw("x"), &recorder{}, func(cancel func()) { time.AfterFunc(time.Second, cancel) })
		require.Zero(t, took)
		require.Zero(t, res.Usage)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := a.LoadModel(ctx, schema.ModelLoadParams{}, nil)
		require.Equal(t, context.DeadlineExceeded, err, "the context's own error, which says why")
		_, err = a.CountTokens(ctx, schema.TokensCountParams{Text: ptr("x")})
		require.Equal(t, context.DeadlineExceeded, err)
	})
}

// lingering is an engine whose Load is slow to notice that it is given up.
type lingering struct {
	scripted
	loads *atomic.Int32
}

func (l lingering) Load(ctx context.Context, _ string, _ func(job.Progress)) error {
	l.loads.Add(1)
	<-ctx.Done()
	time.Sleep(time.Second)
	l.loads.Add(-1)
	return ctx.Err()
}

func TestNothingRunsOnAfterTheResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		loads := new(atomic.Int32)
		a := New(lingering{newScripted(t, model("", "text")), loads}, noTools{}, Options{})
		generate(t, a, raw("x"))
		require.Zero(t, loads.Load())
		_, err := a.Generate(t.Context(), chat("<|im_end|>"), &recorder{}, nil)
		require.NoError(t, err)
		require.Zero(t, loads.Load())
	})
}

// rogue is an engine whose generations do what none should.
type rogue struct {
	scripted
	next error
	wait job.Result
	err  error
}

type rogueGeneration struct{ r rogue }

func (r rogue) Start(job.Request) (Generation, error) { return rogueGeneration{r}, nil }

func (g rogueGeneration) Next(_ context.Context, dst []job.Event) (int, error) {
	if g.r.next != nil {
		return 0, g.r.next
	}
	dst[0] = job.Event{Kind: job.Done}
	return 1, nil
}
func (rogueGeneration) Logprobs() []job.Logprobs    { return nil }
func (rogueGeneration) Stop(int)                    {}
func (rogueGeneration) Cancel()                     {}
func (g rogueGeneration) Wait() (job.Result, error) { return g.r.wait, g.r.err }

func TestRogueEngines(t *testing.T) {
	errOdd := errors.New("odd")
	for name, c := range map[string]struct {
		engine rogue
		want   error
		reason schema.StopReason
	}{
		"Next fails":              {rogue{next: errOdd}, errOdd, ""},
		"Wait fails":              {rogue{err: errOdd}, errOdd, ""},
		"no reason":               {rogue{}, schema.EngineFailed("ended for no known reason: ", nil), ""},
		"cancelled by itself":     {rogue{wait: job.Result{Reason: job.StopCancelled}}, nil, schema.StopCancelled},
		"an unknown request":      {rogue{err: &job.RequestError{Field: "sampling", Problem: "is odd"}}, schema.InvalidParam("/sampling", "is odd"), ""},
		"a feature that it lacks": {rogue{err: &job.UnsupportedError{Feature: "regex"}}, schema.Unsupported("regex", "regex: not supported by this model"), ""},
		"overflow":                {rogue{err: &job.ContextOverflowError{PromptTokens: 3, ContextLength: 2}}, schema.ContextOverflowed(3, 2), ""},
		"memory":                  {rogue{err: &job.MemoryError{Tokens: 9, FittingTokens: 7, NeededBytes: 5, AvailableBytes: 3, Retryable: true}}, schema.OutOfMemory(9, 7, 5, 3, true), ""},
		"closed":                  {rogue{err: job.ErrClosed}, schema.Errorf(schema.KindServerCancelled, "the engine is shut down"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			c.engine.scripted = newScripted(t, "")
			res, err := New(c.engine, noTools{}, Options{}).Generate(t.Context(), raw("x"), &recorder{}, nil)
			require.Equal(t, c.want, err)
			require.Equal(t, c.reason, res.StopReason)
		})
	}
}
