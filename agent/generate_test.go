package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/schema"
)

func TestGenerate(t *testing.T) {
	for _, c := range []struct {
		name   string
		script string
		params func(p *schema.GenerateParams)
		want   string
		reason schema.StopReason
		tokens int
		stop   string
	}{
		{"an answer", model("", "Hello, world!"), nil, "Hello, world!", schema.StopEndTurn, 13, ""},
		{"maxTokens", model("", "Hello, world!"), func(p *schema.GenerateParams) { p.MaxTokens = 5 }, "Hello", schema.StopMaxTokens, 5, ""},
		{"full context", model(`"contextLength": 20`, "Hello, world!"), func(p *schema.GenerateParams) { p.Prompt = ptr("0123456789abcdef") }, "Hell", schema.StopContextFull, 4, ""},
		{"stop string", model("", "one two three"), func(p *schema.GenerateParams) { p.Stop = []string{"x", " t"} }, "one", schema.StopStopSequence, 5, " t"},
		{"stop string at the very end", model("", "one two"), func(p *schema.GenerateParams) { p.Stop = []string{"two"} }, "one ", schema.StopStopSequence, 7, "two"},
		{"the beginning of a stop string at the end", model("", "one tw"), func(p *schema.GenerateParams) { p.Stop = []string{"two"} }, "one tw", schema.StopEndTurn, 6, ""},
		{"stop string at once", model("", "one"), func(p *schema.GenerateParams) { p.Stop = []string{"o"} }, "", schema.StopStopSequence, 1, "o"},
		{"characters of several tokens", model("", "日本語😀"), nil, "日本語😀", schema.StopEndTurn, 13, ""},
		{"half a character at the end", `{"models": [{"id": "m", "replies": [{"text": "a", "tokens": [195]}]}]}`, nil, "a\uFFFD", schema.StopEndTurn, 2, ""},
		{"half a character that completes a stop string", `{"models": [{"id": "m", "replies": [{"text": "ab", "tokens": [195]}]}]}`, func(p *schema.GenerateParams) { p.Stop = []string{"b\uFFFD"} }, "a", schema.StopStopSequence, 3, "b\uFFFD"},
		{"half a character before a stop string", `{"models": [{"id": "m", "replies": [{"text": "a", "tokens": [195, 98, 99]}]}]}`, func(p *schema.GenerateParams) { p.Stop = []string{"b"} }, "a\uFFFD", schema.StopStopSequence, 3, "b"},
		{"nothing", model("", ""), nil, "", schema.StopEndTurn, 0, ""},
		{"special tokens are no text", model("", "a<|im_start|>b"), nil, "ab", schema.StopEndTurn, 3, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := raw("x")
			if c.params != nil {
				c.params(&p)
			}
			res, r := generate(t, newAgent(t, c.script), p)
			require.Equal(t, c.want, res.Message.Content.Text())
			require.Equal(t, c.reason, res.StopReason)
			require.Equal(t, c.stop, res.StopSequence)
			require.Equal(t, "m", res.Model)
			require.Equal(t, c.tokens, res.Usage.CompletionTokens)
			require.Equal(t, 1, res.Usage.Rounds)
			if c.want != "" {
				require.Contains(t, r.states(), schema.StateDecoding)
			}
		})
	}
}

func TestMessagesGoThroughTheTemplate(t *testing.T) {
	a := newAgent(t, `{"models": [{"replies": [{"contains": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", "text": "ok"}]}]}`)
	p := chat("hi")
	p.Messages = append([]schema.Message{{Role: schema.RoleSystem, Content: schema.TextContent("Be brief.")}}, p.Messages...)
	res, _ := generate(t, a, p)
	require.Equal(t, "ok", res.Message.Content.Text())

	// A raw prompt may hold control tokens; a message may not become one.
	res, _ = generate(t, a, raw("<|im_start|>user\nraw<|im_end|>"))
	require.Equal(t, 6+4+2-2, res.Usage.PromptTokens)
	res, _ = generate(t, a, chat("<|im_end|>"))
	plain, _ := generate(t, a, chat("0123456789"))
	require.Equal(t, plain.Usage.PromptTokens, res.Usage.PromptTokens)
}

// TestStopStringEverywhere puts a stop string at every position of an answer
// whose tokens are of one to six bytes, with an engine that is 0 to 8 tokens
// ahead when the stop is found. Text and usage are the same to the byte for
// all of them, and so is what the next turn finds in the cache.
func TestStopStringEverywhere(t *testing.T) {
	const text = "It rains in the morning, and the 日本 rain is ending."
	const fields = `"vocabulary": ["rain", "s in", " the ", "ing", "nd", "and", "日本", "本 r"], "runAhead": %d`
	type outcome struct {
		Text, Stop   string
		Usage, After schema.Usage
		Tokens       int
	}
	want := map[string]outcome{}
	cases := 0
	for ahead := range 9 {
		a := newAgent(t, model(fmt.Sprintf(fields, ahead), text))
		whole, _ := generate(t, a, raw("x"))
		require.Equal(t, text, whole.Message.Content.Text())
		for from := range text {
			for _, length := range []int{1, 2, 3, 7} {
				if from+length > len(text) {
					continue
				}
				stop := text[from : from+length]
				if strings.ToValidUTF8(stop, "") != stop {
					continue
				}
				p := raw("x")
				p.Stop = []string{stop, "never", text[from:] + "."}
				res, r := generate(t, a, p)
				at, _ := firstStop(text, p.Stop)
				require.Equal(t, text[:at], res.Message.Content.Text())
				next, _ := generate(t, a, raw("x"+text))
				got := outcome{r.all(), res.StopSequence, counts(res.Usage), counts(next.Usage), r.tokens}
				key := fmt.Sprint(from, "+", length)
				if ahead == 0 {
					want[key] = got
					require.Less(t, res.Usage.CompletionTokens, whole.Usage.CompletionTokens+1)
				}
				require.Equal(t, want[key], got, "%q, %d tokens ahead", stop, ahead)
				cases++
				// The next case finds the cache as this one did.
				generate(t, a, raw("y"))
			}
		}
	}
	t.Logf("%d stop strings", cases)
	require.Greater(t, cases, 1500)
}

func TestStatuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgent(t, model(`"loadMs": 1000, "prefillTokensPerSecond": 100, "prefillChunk": 10, "tokensPerSecond": 10`, "abc"))
		res, r := generate(t, a, raw(strings.Repeat("x", 30)))
		require.Equal(t, []schema.GenerateState{"queued", "loading", "prefill", "decoding", "done"}, r.states())
		share, done := 0.0, 0
		for _, s := range r.statuses {
			require.GreaterOrEqual(t, s.LoadedShare, share*btof(s.State == schema.StateLoading))
			if s.State == schema.StateLoading {
				share = s.LoadedShare
			}
			if s.State == schema.StatePrefill {
				require.Equal(t, 30, s.PromptTokens)
				require.GreaterOrEqual(t, s.ProcessedTokens, done)
				done = s.ProcessedTokens
			}
		}
		require.InDelta(t, 1, share, 0)
		require.Equal(t, 30, done)
		require.Equal(t, schema.Usage{
			PromptTokens: 30, CompletionTokens: 3, Rounds: 1,
			LoadMS: 1000, PrefillMS: 300, TTFTMS: 1400, DecodeMS: 200, TokensPerSecond: 10,
		}, res.Usage)
		res, _ = generate(t, a, raw(strings.Repeat("x", 29)+"y"))
		require.Equal(t, 29, res.Usage.CachedTokens)
	})
}

func btof(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// TestTextArrivesWithItsToken keeps the agent from holding back what can be
// told: each token's text is with the sink before the next token is made.
func TestTextArrivesWithItsToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgent(t, model(`"tokensPerSecond": 10`, "abcdefgh"))
		var at []time.Duration
		start := time.Now()
		r := recorder{}
		r.text = func(context.Context) { at = append(at, time.Since(start)) }
		p := raw("x")
		p.Stop = []string{"cd!"}
		_, err := a.Generate(t.Context(), p, &r, nil)
		require.NoError(t, err)
		require.Equal(t, []string{"a", "b", "cde", "f", "g", "h"}, r.pieces)
		const tenth = 100 * time.Millisecond
		require.Equal(t, []time.Duration{tenth, 2 * tenth, 5 * tenth, 6 * tenth, 7 * tenth, 8 * tenth}, at)
	})
}

func TestRefusals(t *testing.T) {
	type refusal struct {
		name   string
		change func(p *schema.GenerateParams)
		path   string
		text   string
	}
	a := newAgent(t, model(`"loadMs": 0`, "x"))
	for _, c := range []refusal{
		{"both", func(p *schema.GenerateParams) { p.Messages = chat("x").Messages }, "", "got both messages and prompt"},
		{"neither", func(p *schema.GenerateParams) { p.Prompt = nil }, "", "got neither messages nor prompt"},
		{"no messages", func(p *schema.GenerateParams) { p.Prompt, p.Messages = nil, []schema.Message{} }, "/messages", "is empty"},
		{"empty prompt", func(p *schema.GenerateParams) { p.Prompt = ptr("") }, "/prompt", "is empty"},
		{"not UTF-8", func(p *schema.GenerateParams) { p.Prompt = ptr("\xff") }, "/prompt", "is not UTF-8"},
		{"maxTokens", func(p *schema.GenerateParams) { p.MaxTokens = -1 }, "/maxTokens", "got -1, want 1 to 2147483647"},
		{"temperature", func(p *schema.GenerateParams) { p.Sampling.Temperature = ptr(-0.5) }, "/sampling/temperature", "got -0.5, want 0 to 100"},
		{"temperature NaN", func(p *schema.GenerateParams) { p.Sampling.Temperature = ptr(math.NaN()) }, "", "NaN"},
		{"topP", func(p *schema.GenerateParams) { p.Sampling.TopP = ptr(1.1) }, "/sampling/topP", "got 1.1, want 0 to 1"},
		{"minP", func(p *schema.GenerateParams) { p.Sampling.MinP = ptr(math.Inf(1)) }, "", "+Inf"},
		{"topK", func(p *schema.GenerateParams) { p.Sampling.TopK = ptr(-1) }, "/sampling/topK", "got -1"},
		{"seed", func(p *schema.GenerateParams) { p.Sampling.Seed = ptr[int64](-1) }, "/sampling/seed", "got -1"},
		{"long id", func(p *schema.GenerateParams) { p.GenerationID = strings.Repeat("x", 129) }, "/generationId", "got 129 characters, want at most 128"},
		{"17 stops", func(p *schema.GenerateParams) { p.Stop = strings.Split(strings.Repeat("x", 17), "") }, "/stop", "got 17 elements, want at most 16"},
		{"empty stop", func(p *schema.GenerateParams) { p.Stop = []string{"x", ""} }, "/stop/1", "got 0 characters, want at least 1"},
		{"long stop", func(p *schema.GenerateParams) { p.Stop = []string{strings.Repeat("é", 1025)} }, "/stop/0", "got 1025 characters"},
		{"stop not UTF-8", func(p *schema.GenerateParams) { p.Stop = []string{"\xa9"} }, "/stop/0", "is not UTF-8"},
		{"priority", func(p *schema.GenerateParams) { p.Priority = "urgent" }, "/priority", `got "urgent"`},
		{"contextOverflow", func(p *schema.GenerateParams) { p.ContextOverflow = "pray" }, "/contextOverflow", `got "pray"`},
		{"tools of a prompt", func(p *schema.GenerateParams) { p.Tools = &[]schema.ToolRef{{Name: "grep"}} }, "/tools", "a prompt has no tools"},
		{"session of a prompt", func(p *schema.GenerateParams) { p.SessionID = "s1" }, "", "a session takes messages"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := raw("x")
			c.change(&p)
			_, err := a.Generate(t.Context(), p, &recorder{}, nil)
			var wire *schema.Error
			require.ErrorAs(t, err, &wire)
			require.Equal(t, schema.KindInvalidParams, wire.Data.Kind)
			require.Equal(t, c.path, wire.Data.Errors[0].InstancePath)
			require.Contains(t, wire.Data.Errors[0].Message, c.text)
		})
	}
	p := raw("x")
	p.MaxTokens, p.Sampling.TopP, p.Priority = -1, ptr(2.0), "urgent"
	_, err := a.Generate(t.Context(), p, &recorder{}, nil)
	var wire *schema.Error
	require.ErrorAs(t, err, &wire)
	require.Len(t, wire.Data.Errors, 3, "all places at once")
}

func TestUnsupported(t *testing.T) {
	a := newAgent(t, `{"models": [{"replies": [{"text": "fine"}]}, {"id": "raw", "noTemplate": true}]}`)
	for feature, change := range map[string]func(p *schema.GenerateParams){
		"messages": func(p *schema.GenerateParams) { p.Model = "raw" },
		"content part image": func(p *schema.GenerateParams) {
			p.Messages[0].Content = append(p.Messages[0].Content, schema.Part{Type: schema.PartImage})
		},
	} {
		p := chat("x")
		change(&p)
		_, err := a.Generate(t.Context(), p, &recorder{}, nil)
		var wire *schema.Error
		require.ErrorAs(t, err, &wire, feature)
		require.Equal(t, schema.KindUnsupported, wire.Data.Kind)
		require.Equal(t, feature, wire.Data.Feature)
	}
	// What turns those features off is taken.
	p := chat("x")
	p.Tools, p.ToolMode, p.ToolChoice = &[]schema.ToolRef{}, schema.ToolNone, &schema.ToolChoice{Mode: schema.ToolChoiceNone}
	p.ResponseFormat, p.ContextOverflow = &schema.ResponseFormat{Type: schema.FormatText}, schema.OverflowError
	res, _ := generate(t, a, p)
	require.Equal(t, "fine", res.Message.Content.Text())
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		name, script string
		params       schema.GenerateParams
		want         schema.Error
	}{
		{"no such model", model("", "x"), schema.GenerateParams{Model: "none", Prompt: ptr("x")},
			*schema.ModelNotFound("none", []string{"m"})},
		{"a load that fails", model(`"failLoad": "no memory", "neededBytes": 9, "availableBytes": 5`, "x"), raw("x"),
			*schema.ModelLoadFailed("m", "no memory", 9, 5)},
		{"too long", model(`"contextLength": 8`, "x"), raw("01234567"),
			*schema.ContextOverflowed(8, 8)},
		{"a device that fails at once", `{"models": [{"replies": [{"fail": "lost"}]}]}`, raw("x"),
			*schema.EngineFailed("lost", nil)},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := newAgent(t, c.script).Generate(t.Context(), c.params, &recorder{}, nil)
			require.Equal(t, &c.want, err)
		})
	}
}

func TestPartial(t *testing.T) {
	a := newAgent(t, `{"models": [{"replies": [{"text": "some text", "failAt": 6, "fail": "lost"}]}]}`)
	var r recorder
	p := raw("x")
	p.Stop = []string{"tea"}
	_, err := a.Generate(t.Context(), p, &r, nil)
	var wire *schema.Error
	require.ErrorAs(t, err, &wire)
	require.Equal(t, schema.KindEngine, wire.Data.Kind)
	require.Equal(t, "lost", wire.Data.Cause)
	require.Equal(t, "some t", wire.Data.Partial.Message.Content.Text(), "what was held back is text too")
	require.Equal(t, "some t", r.all())
	require.Equal(t, schema.Usage{PromptTokens: 1, CompletionTokens: 6, Rounds: 1}, counts(wire.Data.Partial.Usage))
}

func TestUnloadUnderAGeneration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgent(t, model(`"tokensPerSecond": 10`, "abcdefgh"))
		errs := make(chan error, 1)
		go func() {
			_, err := a.Generate(t.Context(), raw("x"), &recorder{}, nil)
			errs <- err
		}()
		time.Sleep(450 * time.Millisecond)
		res, err := a.UnloadModel(t.Context(), schema.ModelUnloadParams{})
		require.NoError(t, err)
		require.Equal(t, "m", res.Model)
		var wire *schema.Error
		require.ErrorAs(t, <-errs, &wire)
		require.Equal(t, schema.KindServerCancelled, wire.Data.Kind)
		require.True(t, wire.Data.Retryable)
		require.Equal(t, "abcd", wire.Data.Partial.Message.Content.Text())
	})
}

func TestManyAtOnce(t *testing.T) {
	a := newAgent(t, `{"ring": 8, "models": [{"id": "a"}, {"id": "b", "loadMs": 1, "runAhead": 2}]}`)
	var all sync.WaitGroup
	errs := make([]error, 48)
	for i := range errs {
		all.Go(func() {
			text := strings.Repeat(fmt.Sprintf("text %d ", i), 20)
			p := chat(text)
			p.Model = "ab"[i%2 : i%2+1]
			if i%3 == 0 {
				p.Priority = schema.PriorityBackground
			}
			var r recorder
			res, err := a.Generate(t.Context(), p, &r, nil)
			if err == nil && (r.all() != text || res.Message.Content.Text() != text) {
				err = errors.New("another generation's text: " + r.all())
			}
			errs[i] = err
		})
	}
	all.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
}

func TestModels(t *testing.T) {
	a := newAgent(t, `{"models": [{"id": "b", "contextLength": 100, "sizeBytes": 7}, {"id": "a", "noTemplate": true}]}`)
	loaded, err := a.LoadModel(t.Context(), schema.ModelLoadParams{}, nil)
	require.NoError(t, err)
	require.Equal(t, schema.ModelLoadResult{Model: "b"}, schema.ModelLoadResult{Model: loaded.Model})
	res, err := a.Models(t.Context())
	require.NoError(t, err)
	require.Equal(t, []schema.ModelInfo{
		{ID: "a", Name: "a", Family: "scripted", ContextLength: 4096, MaxOutputTokens: 4095, State: schema.ModelUnloaded, SizeBytes: 1_000_000},
		{ID: "b", Name: "b", Family: "scripted", ContextLength: 100, MaxOutputTokens: 99, State: schema.ModelReady, SizeBytes: 7,
			Default: true, Capabilities: schema.ModelCapabilities{Chat: true, Tools: true}},
	}, res.Models)
}

func TestLoadModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgent(t, `{"models": [{"id": "m", "loadMs": 700, "sizeBytes": 1000}, {"id": "bad", "failLoad": "torn"}]}`)
		var seen []int64
		res, err := a.LoadModel(t.Context(), schema.ModelLoadParams{Model: "m"}, func(done, total int64) {
			require.EqualValues(t, 1000, total)
			seen = append(seen, done)
		})
		require.NoError(t, err)
		require.Equal(t, schema.ModelLoadResult{Model: "m", LoadMS: 700}, res)
		require.NotEmpty(t, seen)
		res, err = a.LoadModel(t.Context(), schema.ModelLoadParams{Model: "m"}, nil)
		require.NoError(t, err)
		require.Zero(t, res.LoadMS, "it is loaded")
		_, err = a.LoadModel(t.Context(), schema.ModelLoadParams{Model: "bad"}, nil)
		require.Equal(t, schema.ModelLoadFailed("bad", "torn", 0, 0), err)
		_, err = a.LoadModel(t.Context(), schema.ModelLoadParams{Model: "none"}, nil)
		require.Equal(t, schema.ModelNotFound("none", []string{"bad", "m"}), err)
		_, err = a.UnloadModel(t.Context(), schema.ModelUnloadParams{Model: "none"})
		require.Equal(t, schema.ModelNotFound("none", []string{"bad", "m"}), err)
	})
}

func TestCountTokens(t *testing.T) {
	a := newAgent(t, `{"models": [{"id": "m"}, {"id": "raw", "noTemplate": true}]}`)
	for _, c := range []struct {
		params schema.TokensCountParams
		want   int
	}{
		{schema.TokensCountParams{Text: ptr("hello")}, 5},
		{schema.TokensCountParams{Text: ptr("")}, 0},
		{schema.TokensCountParams{Text: ptr("<|im_end|>")}, 10},
		{schema.TokensCountParams{Messages: chat("hi").Messages}, 1 + 5 + 2 + 2 + 1 + 10},
		{schema.TokensCountParams{Model: "raw", Text: ptr("hello")}, 5},
	} {
		res, err := a.CountTokens(t.Context(), c.params)
		require.NoError(t, err)
		require.Equal(t, c.want, res.Tokens)
		if c.params.Messages != nil {
			gen, _ := generate(t, a, schema.GenerateParams{Messages: c.params.Messages})
			require.Equal(t, gen.Usage.PromptTokens, res.Tokens, "as generate counts them")
		}
	}
	tools := []schema.ToolSpec{{Name: "x", InputSchema: json.RawMessage(`{}`)}}
	for _, c := range []struct {
		kind schema.Kind
		p    schema.TokensCountParams
	}{
		{schema.KindInvalidParams, schema.TokensCountParams{}},
		{schema.KindModelNotFound, schema.TokensCountParams{Model: "none", Text: ptr("x")}},
		{schema.KindInvalidParams, schema.TokensCountParams{Text: ptr("x"), Tools: tools}},
		{schema.KindUnsupported, schema.TokensCountParams{Model: "raw", Messages: chat("x").Messages, Tools: tools}},
	} {
		_, err := a.CountTokens(t.Context(), c.p)
		var wire *schema.Error
		require.ErrorAs(t, err, &wire)
		require.Equal(t, c.kind, wire.Data.Kind)
	}
}

func TestToolsGoToTheToolbox(t *testing.T) {
	a := newAgent(t, "")
	reg, err := a.RegisterTools(t.Context(), schema.ToolRegisterParams{})
	require.NoError(t, err)
	list, err := a.ListTools(t.Context(), schema.ToolsListParams{})
	require.NoError(t, err)
	require.Equal(t, reg.Revision, list.Revision)
	switched, err := a.SetToolsEnabled(t.Context(), schema.ToolsSetEnabledParams{})
	require.NoError(t, err)
	require.Equal(t, list, switched)
	_, err = a.SetToolsEnabled(t.Context(), schema.ToolsSetEnabledParams{SessionID: "none"})
	var wire *schema.Error
	require.ErrorAs(t, err, &wire)
	require.Equal(t, schema.KindSessionNotFound, wire.Data.Kind)
}

// TestLog has one record for each generation, and none of its text.
func TestLog(t *testing.T) {
	var out strings.Builder
	log := slog.New(slog.NewTextHandler(&out, nil))
	a := New(newScripted(t, `{"models": [{"replies": [{"contains": "bad", "text": "secret", "failAt": 2, "fail": "lost"}, {"text": "secret"}]}]}`), noTools{}, Options{Log: log})
	generate(t, a, raw("hidden"))
	_, err := a.Generate(t.Context(), raw("bad hidden"), &recorder{}, nil)
	require.Error(t, err)
	require.Equal(t, 2, strings.Count(out.String(), "\n"), out.String())
	require.Contains(t, out.String(), "stopReason=end_turn")
	require.Contains(t, out.String(), `level=WARN msg="generation failed" id=g model=scripted promptTokens=10 cachedTokens=0 completionTokens=2`)
	require.Contains(t, out.String(), "lost")
	require.NotContains(t, out.String(), "secret")
	require.NotContains(t, out.String(), "hidden")
}
