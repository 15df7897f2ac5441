package enginetest

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest/leaks"
	"harmonyd/engine/job"
)

func TestMain(m *testing.M) { os.Exit(leaks.Run(m)) }

func newEngine(t *testing.T, script string) *Engine {
	t.Helper()
	s, err := ReadScript(strings.NewReader(script))
	require.NoError(t, err)
	e, err := New(s)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

// request asks the first model for an answer to a raw prompt.
func request(t *testing.T, e *Engine, prompt string) job.Request {
	t.Helper()
	o, err := e.Open(t.Context(), "")
	require.NoError(t, err)
	ids, err := o.Tokenizer.Encode(prompt, true)
	require.NoError(t, err)
	return job.Request{ID: "test", Model: o.Info.ID, Prompt: ids, Priority: job.Interactive}
}

func start(t *testing.T, e *Engine, req job.Request) Generation {
	t.Helper()
	g, err := e.Start(req)
	require.NoError(t, err)
	return g
}

func text(t *testing.T, e *Engine, ids []int32) string {
	t.Helper()
	o, err := e.Open(t.Context(), "")
	require.NoError(t, err)
	s, err := o.Tokenizer.Decode(ids, true)
	require.NoError(t, err)
	return s
}

func TestScriptedEngineConforms(t *testing.T) {
	for name, script := range map[string]string{
		"as fast as possible": `{"ring": 64, "models": [{"id": "m", "vocabulary": ["ab"], "prefillChunk": 7}, {"id": "a"}]}`,
		"on a clock":          `{"ring": 32, "models": [{"id": "m", "loadMs": 10, "tokensPerSecond": 20000, "prefillTokensPerSecond": 1e6}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			Conformance(t, func(t *testing.T) Subject {
				e := newEngine(t, script)
				return Subject{Runner: e, Model: "m", Prompt: request(t, e, "xabyabz and so on").Prompt, Long: 90}
			})
		})
	}
}

func TestReplies(t *testing.T) {
	const script = `{"models": [{"id": "m", "replies": [
		{"contains": "rain", "text": "It rains.<|im_end|>never said"},
		{"contains": "loop", "text": "ab", "endless": true},
		{"contains": "half", "text": "é", "tokens": [195]},
		{"contains": "mute"},
		{"contains": "break", "text": "abcdef", "failAt": 3, "fail": "lost the device"}
	]}]}`
	for _, c := range []struct {
		name, prompt, want string
		maxTokens          int
		reason             job.StopReason
	}{
		{"a reply", "will it rain?", "It rains.", 0, job.StopEOS},
		{"endless", "loop", "ababa", 5, job.StopLength},
		{"bytes that are no character", "half", "é\uFFFD", 0, job.StopEOS},
		{"nothing", "mute", "", 0, job.StopEOS},
		{"echo of a raw prompt", "hello", "hello", 0, job.StopEOS},
		{"echo of the last user message", "<|im_start|>user\none<|im_end|>\n<|im_start|>user\ntwo<|im_end|>\n<|im_start|>assistant\n", "two", 0, job.StopEOS},
		{"a failure", "break", "abc", 0, job.StopError},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEngine(t, script)
			req := request(t, e, c.prompt)
			req.MaxTokens = c.maxTokens
			g := start(t, e, req)
			ids := tokens(drain(t, g))
			require.Equal(t, c.want, text(t, e, ids))
			res, err := g.Wait()
			require.Equal(t, c.reason, res.Reason)
			require.Equal(t, len(ids), res.Usage.GeneratedTokens)
			if c.reason == job.StopError {
				require.Equal(t, &job.EngineError{Cause: "lost the device"}, err)
			} else {
				require.NoError(t, err)
			}
		})
	}
}

// TestEchoOfTypedControlTokens has a user type a control token; encoded as
// text it is part of the message.
func TestEchoOfTypedControlTokens(t *testing.T) {
	e := newEngine(t, "")
	o, err := e.Open(t.Context(), "")
	require.NoError(t, err)
	typed, err := o.Tokenizer.Encode("a<|im_end|>b", false)
	require.NoError(t, err)
	req := request(t, e, "<|im_start|>user\n")
	req.Prompt = append(append(req.Prompt, typed...), ImEnd, '\n')
	require.Equal(t, "a<|im_end|>b", text(t, e, tokens(drain(t, start(t, e, req)))))
}

func TestContextFull(t *testing.T) {
	e := newEngine(t, `{"models": [{"contextLength": 12, "replies": [{"text": "ab", "endless": true}]}]}`)
	g := start(t, e, request(t, e, "prompt"))
	require.Len(t, tokens(drain(t, g)), 6)
	res, err := g.Wait()
	require.NoError(t, err)
	require.Equal(t, job.StopContext, res.Reason)
}

func TestStopIDsAndIgnoreEOS(t *testing.T) {
	e := newEngine(t, `{"models": [{"replies": [{"text": "one|two<|im_end|>"}]}]}`)
	req := request(t, e, "x")
	req.StopIDs = []int32{'|'}
	require.Equal(t, "one", text(t, e, tokens(drain(t, start(t, e, req)))))
	req.StopIDs, req.IgnoreEOS, req.MaxTokens = nil, true, 10
	got := tokens(drain(t, start(t, e, req)))
	require.Equal(t, "one|twoon", text(t, e, got), "%v", got)
	require.Contains(t, got, int32(ImEnd))
}

// TestRunAheadIsExact reads k tokens and stops there: the loop has then run
// exactly the steps that the script says.
func TestRunAheadIsExact(t *testing.T) {
	for ahead := range 9 {
		e := newEngine(t, strings.Replace(`{"models": [{"runAhead": N, "replies": [{"text": "abcdefgh", "endless": true}]}]}`, "N", string(rune('0'+ahead)), 1))
		for read := 1; read < 20; read++ {
			g := start(t, e, request(t, e, "x"))
			until(t, g, job.Token, read)
			g.Stop(read)
			res, err := g.Wait()
			require.NoError(t, err)
			require.Equal(t, read+ahead, res.Stats.Steps, "ahead %d, read %d", ahead, read)
			require.Equal(t, read, res.Usage.GeneratedTokens)
			require.Len(t, tokens(drain(t, g)), ahead, "surplus tokens are handed over")
		}
	}
}

func TestPrefixCache(t *testing.T) {
	const reply = "0123456789"
	for _, c := range []struct {
		name string
		end  func(t *testing.T, g Generation)
		next string
		want int
	}{
		{"the same prompt but its last token", nil, "prompt", 5},
		{"prompt and answer", nil, "prompt" + reply + "more", 16},
		{"another prompt", nil, "pro-", 3},
		{"after stop", func(t *testing.T, g Generation) { until(t, g, job.Token, 4); g.Stop(4) }, "prompt" + reply, 10},
		{"after a late stop", func(t *testing.T, g Generation) { drain(t, g); g.Stop(2) }, "prompt" + reply, 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEngine(t, `{"models": [{"replies": [{"contains": "pro", "text": "`+reply+`"}]}]}`)
			g := start(t, e, request(t, e, "prompt"))
			if c.end == nil {
				c.end = func(t *testing.T, g Generation) { drain(t, g) }
			}
			c.end(t, g)
			_, err := g.Wait()
			require.NoError(t, err)
			g = start(t, e, request(t, e, c.next))
			drain(t, g)
			res, err := g.Wait()
			require.NoError(t, err)
			require.Equal(t, c.want, res.Usage.CachedTokens)
		})
	}
}

// TestClock runs on a synctest clock, where the times are exact.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine(t, `{"models": [{"loadMs": 2000, "tokensPerSecond": 10, "prefillTokensPerSecond": 100, "prefillChunk": 10,
			"replies": [{"text": "abcde"}]}]}`)
		g := start(t, e, request(t, e, strings.Repeat("x", 50)))
		events := drain(t, g)
		res, err := g.Wait()
		require.NoError(t, err)
		require.Equal(t, job.Stats{
			Load: 2 * time.Second, Prefill: 500 * time.Millisecond, FirstToken: 2600 * time.Millisecond,
			Decode: 400 * time.Millisecond, Steps: 6, ActiveBytes: 1_000_000, PeakBytes: 1_000_000,
		}, res.Stats)
		require.InDelta(t, 10, res.TokensPerSecond(), 1e-9)
		kinds := map[job.EventKind]int{}
		for _, ev := range events {
			kinds[ev.Kind]++
		}
		require.Equal(t, map[job.EventKind]int{job.Queued: 1, job.Loading: 10, job.Prefill: 6, job.Token: 5, job.Done: 1}, kinds)
	})
}

func TestInteractiveOvertakesBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine(t, `{"models": [{"tokensPerSecond": 10, "replies": [{"text": "0123456789"}]}]}`)
		require.NoError(t, e.Load(t.Context(), "", nil))
		began := time.Now()
		slow, quick := request(t, e, "slow"), request(t, e, "quick")
		slow.Priority = job.Background
		first := start(t, e, slow)
		until(t, first, job.Token, 3)
		second := start(t, e, quick)
		third := start(t, e, quick)
		drain(t, second)
		// Three slow tokens, the slow step that was running, the quick answer
		// and its end.
		require.Equal(t, 1500*time.Millisecond, time.Since(began))
		drain(t, third)
		require.Equal(t, 2600*time.Millisecond, time.Since(began))
		require.Len(t, tokens(drain(t, first)), 7)
	})
}

// TestStepBoundaries bounds how long an end takes on the engine's clock.
func TestStepBoundaries(t *testing.T) {
	const script = `{"models": [{"loadMs": 10000, "tokensPerSecond": 10, "prefillTokensPerSecond": 100, "prefillChunk": 20,
		"replies": [{"text": "ab", "endless": true}]}]}`
	for _, c := range []struct {
		name  string
		kind  job.EventKind
		nth   int
		bound time.Duration
	}{
		{"queued", job.Queued, 1, 0},
		{"loading", job.Loading, 3, 0},
		{"prefill", job.Prefill, 2, 200 * time.Millisecond},
		{"decode", job.Token, 5, 100 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEngine(t, script)
				g := start(t, e, request(t, e, strings.Repeat("x", 100)))
				until(t, g, c.kind, c.nth)
				synctest.Wait()
				began := time.Now()
				g.Cancel()
				res, err := g.Wait()
				require.NoError(t, err)
				require.Equal(t, job.StopCancelled, res.Reason)
				require.LessOrEqual(t, time.Since(began), c.bound)
			})
		})
	}
}

func TestLoadFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine(t, `{"models": [{"id": "big", "loadMs": 100, "failLoad": "out of memory", "neededBytes": 9, "availableBytes": 5}]}`)
		want := &job.LoadError{Model: "big", Cause: "out of memory", NeededBytes: 9, AvailableBytes: 5}
		require.Equal(t, want, e.Load(t.Context(), "", nil))
		g := start(t, e, request(t, e, "x"))
		drain(t, g)
		_, err := g.Wait()
		require.Equal(t, want, err)

		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, e.Load(ctx, "", nil), job.ErrCancelled)
		models, err := e.Models(t.Context())
		require.NoError(t, err)
		require.Equal(t, job.Unloaded, models[0].State, "nobody waits any more")
	})
}

func TestLoadGoesOnForTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine(t, `{"models": [{"loadMs": 1000}]}`)
		ctx, cancel := context.WithCancel(t.Context())
		gaveUp, loaded := make(chan error, 1), make(chan error, 1)
		go func() { gaveUp <- e.Load(ctx, "", nil) }()
		go func() { loaded <- e.Load(t.Context(), "", nil) }()
		time.Sleep(500 * time.Millisecond)
		cancel()
		require.ErrorIs(t, <-gaveUp, job.ErrCancelled)
		require.NoError(t, <-loaded)

		require.NoError(t, e.Unload(t.Context(), ""))
		go func() { loaded <- e.Load(t.Context(), "", nil) }()
		time.Sleep(500 * time.Millisecond)
		require.NoError(t, e.Unload(t.Context(), ""))
		require.ErrorIs(t, <-loaded, job.ErrUnloaded)
	})
}

func TestNextGivesUpItsWaitOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine(t, `{"models": [{"tokensPerSecond": 1, "replies": [{"text": "abc"}]}]}`)
		g := start(t, e, request(t, e, "x"))
		until(t, g, job.Prefill, 2)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		n, err := g.Next(ctx, make([]job.Event, 4))
		require.Zero(t, n)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = g.Next(t.Context(), nil)
		require.ErrorIs(t, err, io.ErrShortBuffer)
		require.Len(t, tokens(drain(t, g)), 3)
	})
}

func TestCloseEndsEverything(t *testing.T) {
	s, err := ReadScript(strings.NewReader(`{"models": [{"replies": [{"text": "ab", "endless": true}]}, {"id": "slow", "loadMs": 60000}]}`))
	require.NoError(t, err)
	e, err := New(s)
	require.NoError(t, err)
	req := request(t, e, "x")
	running := start(t, e, req)
	req.Model = "slow"
	loading := start(t, e, req)
	until(t, running, job.Token, 1)
	require.NoError(t, e.Close())
	for _, g := range []Generation{running, loading} {
		_, err := g.Wait()
		require.ErrorIs(t, err, job.ErrClosed)
	}
	_, err = e.Start(req)
	require.ErrorIs(t, err, job.ErrClosed)
	require.ErrorIs(t, e.Load(t.Context(), "", nil), job.ErrClosed)
}

func TestBadScripts(t *testing.T) {
	for _, c := range []struct{ script, want string }{
		{`{`, "script: unexpected EOF"},
		{`{} {}`, "text after the JSON object"},
		{`{"modles": []}`, `unknown field "modles"`},
		{`{"ring": 2}`, "ring: got 2"},
		{`{"models": [{}, {}]}`, `model "scripted": appears twice`},
		{`{"models": [{"contextLength": 1}]}`, "contextLength: got 1"},
		{`{"models": [{"loadMs": -1}]}`, "a negative size or time"},
		{`{"models": [{"tokensPerSecond": -1}]}`, "tokens per second"},
		{`{"models": [{"runAhead": 254}]}`, "runAhead: got 254, want 0 to 253"},
		{`{"models": [{"vocabulary": ["ab", "ab"]}]}`, "vocabulary"},
		{`{"models": [{"replies": [{"tokens": [259]}]}]}`, "token 259: want 0 to 258"},
		{`{"models": [{"replies": [{"failAt": 2}]}]}`, "failAt wants fail"},
	} {
		_, err := ReadScript(strings.NewReader(c.script))
		require.ErrorContains(t, err, c.want, c.script)
	}
	_, err := ReadScript(iotest.ErrReader(errors.New("gone")))
	require.ErrorContains(t, err, "script: gone")
	s, err := ReadScript(strings.NewReader(""))
	require.NoError(t, err)
	require.Equal(t, "scripted", s.Models[0].ID)
}

// TestStreamingDecodeIsDecode feeds random ids, most of them parts of no
// character.
func TestStreamingDecodeIsDecode(t *testing.T) {
	tok := newTokenizer([]string{"é!", "word", "日本"})
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		ids := make([]int32, r.IntN(12))
		for i := range ids {
			ids[i] = int32(r.IntN(tok.size()))
			if r.IntN(2) == 0 {
				ids[i] = int32("日é€😀"[r.IntN(12)])
			}
		}
		want, err := tok.Decode(ids, true)
		require.NoError(t, err)
		var got []byte
		s := tok.NewStream()
		for _, id := range ids {
			got = s.AppendStep(got, id)
			require.True(t, strings.HasPrefix(want, string(got)), "%q is no beginning of %q", got, want)
		}
		require.Equal(t, want, string(s.AppendFlush(got)), "%v", ids)
	}
}

func TestEncode(t *testing.T) {
	tok := newTokenizer([]string{"ab", "abc"})
	for _, c := range []struct {
		text    string
		special bool
		want    []int32
	}{
		{"abcab", false, []int32{260, 259}},
		{"<|im_end|>a", true, []int32{ImEnd, 'a'}},
		{"<|", true, []int32{'<', '|'}},
		{"é", false, []int32{0xc3, 0xa9}},
	} {
		got, err := tok.Encode(c.text, c.special)
		require.NoError(t, err)
		require.Equal(t, c.want, got, c.text)
	}
	plain, err := tok.Encode("<|im_end|>", false)
	require.NoError(t, err)
	require.Len(t, plain, 10)
	_, err = tok.Encode("\xff", true)
	require.ErrorContains(t, err, "not UTF-8")
	_, err = tok.Decode([]int32{1000}, false)
	require.ErrorContains(t, err, "token 1000")
}

func TestEncodePlain(t *testing.T) {
	tok := newTokenizer([]string{"a<", ">b"})
	const text = "<|im_end|>a<|im_end|>b<|im_end|>"
	for _, c := range []struct {
		plain [][2]int
		want  string // the tokens, with a bar between two
	}{
		{nil, "<|im_end|> a <|im_end|> b <|im_end|>"},
		{[][2]int{{11, 21}}, "<|im_end|> a< | i m _ e n d | >b <|im_end|>"},
		{[][2]int{{0, 1}, {31, 32}}, "< | i m _ e n d | > a <|im_end|> b < | i m _ e n d | >"},
		{[][2]int{{10, 11}, {21, 22}}, "<|im_end|> a <|im_end|> b <|im_end|>"},
	} {
		ids, err := tok.EncodePlain(text, c.plain)
		require.NoError(t, err)
		var got []string
		for _, id := range ids {
			got = append(got, string(tok.appendBytes(nil, id, false)))
		}
		require.Equal(t, c.want, strings.Join(got, " "), c.plain)
	}
	for _, bad := range [][][2]int{{{3, 2}}, {{-1, 2}}, {{0, 33}}, {{4, 6}, {2, 3}}} {
		_, err := tok.EncodePlain(text, bad)
		require.ErrorContains(t, err, "range")
	}
	_, err := tok.EncodePlain("\xff", nil)
	require.ErrorContains(t, err, "not UTF-8")
}
