package profile

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/schema"
)

// TestPrecedence gives max_context_tokens, which every source has, to every set of sources.
func TestPrecedence(t *testing.T) {
	sources := []struct {
		value  int
		origin Origin
		give   func(*Input, int)
	}{
		{100, Origin{Source: schema.FromRequest}, func(in *Input, n int) { in.Request.MaxContextTokens = &n }},
		{200, Origin{Source: schema.FromSavedChat}, func(in *Input, n int) {
			in.Saved.Hyperparameters = fmt.Appendf(nil, `{"max_context_tokens":%d}`, n)
		}},
		{300, Origin{schema.FromPromptConfig, "p.json"}, func(in *Input, n int) { in.PromptConfig.MaxContextTokens = &n }},
		{400, Origin{schema.FromProfile, "fast"}, func(in *Input, n int) { in.Profile.MaxContextTokens = &n }},
		{500, Origin{schema.FromModel, "m"}, func(in *Input, n int) { in.Model.ContextLength = n }},
		{4096, Origin{Source: schema.FromDefault}, func(*Input, int) {}},
	}
	for set := range 1 << (len(sources) - 1) {
		in := Input{PromptConfigName: "p.json", Profile: Profile{Name: "fast"}, Model: Model{ID: "m"}, Saved: SavedChat{Model: "m"}, Now: morning}
		want := len(sources) - 1
		for i := len(sources) - 2; i >= 0; i-- {
			if set>>i&1 == 1 {
				sources[i].give(&in, sources[i].value)
				want = i
			}
		}
		s := resolve(t, in)
		require.Equal(t, sources[want].value, s.Context.MaxTokens, "%06b", set)
		require.Equal(t, sources[want].origin, s.Origin("max_context_tokens"), "%06b", set)
	}
}

// TestPrecedenceOfEveryKey has every key in all of the three sources that may have it, with
// another value: zero and false are values.
func TestPrecedenceOfEveryKey(t *testing.T) {
	for _, e := range effects {
		k, _ := keyNamed(e.key)
		in := Input{PromptConfig: config(t, fmt.Sprintf(`{%q:%s}`, e.key, e.value)), Now: morning}
		if k.When == schema.WhenTurn && !strings.HasPrefix(k.Name, "perf") {
			in.Saved.Hyperparameters = fmt.Appendf(nil, `{%q:%s}`, e.key, e.value)
			in.PromptConfig = Config{}
			s := resolve(t, in)
			require.Equal(t, schema.FromSavedChat, s.Origin(e.key).Source, e.key)
			in.PromptConfig = config(t, fmt.Sprintf(`{%q:%s}`, e.key, e.value))
			require.Equal(t, schema.FromSavedChat, ptr(resolve(t, in)).Origin(e.key).Source, e.key)
		}
		in.Request = in.PromptConfig
		require.Equal(t, schema.FromRequest, ptr(resolve(t, in)).Origin(e.key).Source, e.key)
	}
	zero := config(t, `{"temperature":0,"top_k":0,"seed":0,"truncate_response":0,"reseed_each_turn":false,"repetition_context_size":0}`)
	s := resolve(t, Input{Request: zero, PromptConfig: config(t, `{"temperature":1,"top_k":5,"seed":9,"truncate_response":7,"reseed_each_turn":true,"repetition_context_size":4}`)})
	require.Zero(t, *s.Sampling.Temperature)
	require.Zero(t, *s.Sampling.TopK)
	require.Equal(t, Seed{0, false}, s.Seed)
	require.Zero(t, s.Display.Response)
	require.Zero(t, *s.Sampling.RepetitionContextSize)
}

func TestHarmonyModelsHaveTheirOwnDefaults(t *testing.T) {
	s := resolve(t, Input{Model: Model{ID: "gpt", Harmony: true}})
	require.Equal(t, 1024, s.MaxTokens)
	require.Equal(t, 1.05, *s.Sampling.RepetitionPenalty)
	require.Equal(t, 256, *s.Sampling.RepetitionContextSize)
	require.Equal(t, []string{"<|endoftext|>"}, s.EndTokens)
	require.Equal(t, "model gpt", ptr(s.Origin("max_tokens")).String())
	s = resolve(t, Input{Model: Model{ID: "gpt", Harmony: true}, PromptConfig: config(t, `{"end_token_strings":[],"repetition_penalty":1}`)})
	require.Empty(t, s.EndTokens)
	require.Equal(t, 1.0, *s.Sampling.RepetitionPenalty)
}

func TestPerformanceMode(t *testing.T) {
	c := config(t, `{"performance_mode":true,"max_tokens":500,"perf_max_tokens":50,"max_kv_size":600,"perf_max_kv_size":60,"max_context_tokens":700,"perf_max_context_tokens":70}`)
	see := func(in Input) [3]int {
		s := resolve(t, in)
		return [3]int{s.MaxTokens, s.Context.MaxKVSize, s.Context.MaxTokens}
	}
	saved := SavedChat{Model: "m", Hyperparameters: json.RawMessage(`{"max_tokens":5,"max_kv_size":6,"max_context_tokens":7,"performance_mode":false,"perf_max_tokens":1}`)}
	m := Model{ID: "m"}
	require.Equal(t, [3]int{50, 60, 70}, see(Input{PromptConfig: c, Model: m}))
	require.Equal(t, [3]int{50, 60, 7}, see(Input{PromptConfig: c, Model: m, Saved: saved}), "of the saved chat the context counts")
	require.Equal(t, [3]int{1, 2, 3}, see(Input{PromptConfig: c, Model: m, Saved: saved, Request: config(t, `{"max_tokens":1,"max_kv_size":2,"max_context_tokens":3}`)}))
	require.Equal(t, [3]int{500, 600, 700}, see(Input{PromptConfig: c, Model: m, Request: config(t, `{"performance_mode":false}`)}))
	require.Equal(t, [3]int{5, 6, 700}, see(Input{PromptConfig: c, Model: Model{ID: "other"}, Saved: saved, Request: config(t, `{"performance_mode":false}`)}), "the context is that of another model")
	s := resolve(t, Input{PromptConfig: c, PromptConfigName: "p", Model: m})
	require.Equal(t, Origin{schema.FromPromptConfig, "p"}, s.Origin("max_tokens"))
}

// TestHyperparametersDoNotGrow saves and takes up a conversation many times: what performance
// mode, a model or a default put in does not become someone's choice.
func TestHyperparametersDoNotGrow(t *testing.T) {
	in := Input{
		PromptConfig: config(t, `{"performance_mode":true,"perf_max_tokens":50,"max_tokens":500,"deterministic_time_enabled":true,"temperature":0.5,"developer_instructions":"x"}`),
		Request:      config(t, `{"top_k":3}`), Model: Model{ID: "m", ContextLength: 9000, Harmony: true}, Now: morning,
	}
	s := resolve(t, in)
	require.Equal(t, 50, s.MaxTokens)
	require.Zero(t, s.Seed.Value)
	want := `{"max_tokens":500,"performance_mode":true,"perf_max_tokens":50,"temperature":0.5,"top_k":3}`
	require.JSONEq(t, want, string(s.Hyperparameters()))
	in.Saved = SavedChat{Model: "m", Hyperparameters: s.Hyperparameters()}
	in.Request, in.PromptConfig = Config{}, Config{}
	for range 3 {
		s = resolve(t, in)
		require.Equal(t, 500, s.MaxTokens, "performance mode was not this chat's")
		require.Equal(t, int64(-1), s.Seed.Value)
		require.JSONEq(t, `{"max_tokens":500,"temperature":0.5,"top_k":3}`, string(s.Hyperparameters()))
		in.Saved.Hyperparameters = s.Hyperparameters()
	}
	in.Saved.Hyperparameters = json.RawMessage(`{"temperature":0.1,"logs_dir":"x","mlock":true,"unknown":1}`)
	s = resolve(t, in)
	require.Equal(t, 0.1, *s.Sampling.Temperature)
	require.Empty(t, s.Folders.Logs, "no setting of a turn")
	in.Saved.Hyperparameters = json.RawMessage(`{"temperature":9,"top_k":4}`)
	s = resolve(t, in)
	require.Equal(t, []string{"saved chat: temperature: got 9, want 0 to 2: it does not count"}, s.Warnings)
	require.Equal(t, 4, *s.Sampling.TopK)
	require.Equal(t, 1.0, *s.Sampling.Temperature)
	in.Saved.Hyperparameters = json.RawMessage(`[`)
	require.Contains(t, resolve(t, in).Warnings[0], "saved chat: no JSON: ")
}

func TestWarnings(t *testing.T) {
	for text, want := range map[string]string{
		`{"max_context_tokens":100,"max_context_tokens_margin":100}`:                "max_context_tokens_margin is 100 and not less than max_context_tokens, 100: it does not count",
		`{"deterministic_time_enabled":true,"seed":3}`:                              "deterministic_time_iso is not: the time is 2000-01-01T00:00:00Z",
		`{"deterministic_time_enabled":true,"deterministic_time_iso":"2001-01-01"}`: "seed is not: the seed is 0",
		`{"reasoning_budget":600,"max_tokens":600}`:                                 "reasoning_budget is 600 and not less than max_tokens, 600: it is 300",
	} {
		s := resolve(t, Input{PromptConfig: config(t, text), Now: morning})
		require.Len(t, s.Warnings, 1, text)
		require.Contains(t, s.Warnings[0], want)
	}
	s := resolve(t, Input{PromptConfig: config(t, `{"deterministic_time_enabled":true}`), Now: morning})
	require.Len(t, s.Warnings, 2)
	require.Zero(t, s.Seed.Value)
	require.False(t, s.Seed.EachTurn)
	require.Equal(t, 1, ptr(resolve(t, Input{Request: Config{MaxTokens: ptr(1)}})).Reasoning.Budget)
	// A Config need not come from a file.
	_, err := Resolve(Input{Request: Config{DeterministicTimeEnabled: ptr(true), DeterministicTimeISO: ptr("noon")}})
	require.ErrorContains(t, err, `request: deterministic_time_iso: got "noon"`)
	_, err = Resolve(Input{Request: Config{Placeholders: json.RawMessage(`[]`)}})
	require.ErrorContains(t, err, "request: placeholders: ")
}

func TestSeeds(t *testing.T) {
	require.Nil(t, Seed{Value: -1}.For(0, 0))
	for _, each := range []bool{false, true} {
		seen := map[int64]string{}
		s := Seed{Value: 42, EachTurn: each}
		for turn := range 50 {
			for attempt := range 4 {
				got := *s.For(turn, attempt)
				require.Equal(t, got, *s.For(turn, attempt), "repeatable")
				require.GreaterOrEqual(t, got, int64(0))
				require.LessOrEqual(t, got, int64(maxSeed))
				where := fmt.Sprint(turn, attempt)
				if each {
					where = fmt.Sprint(attempt)
				}
				if before, ok := seen[got]; ok {
					require.Equal(t, before, where, "another turn or attempt, another seed")
				}
				seen[got] = where
			}
		}
		require.Equal(t, int64(42), *s.For(0, 0))
		require.Len(t, seen, map[bool]int{false: 200, true: 4}[each])
	}
}

func TestChoices(t *testing.T) {
	p := Profile{Name: "fast", Model: "pm", PromptConfig: "pc"}
	saved := SavedChat{Model: "sm", PromptConfig: "sc"}
	for _, c := range []struct {
		request     string
		p           Profile
		saved       SavedChat
		model, file string
		from        Origin
	}{
		{"r", p, saved, "r", "r", Origin{Source: schema.FromRequest}},
		{"", p, saved, "pm", "pc", Origin{schema.FromProfile, "fast"}},
		{"", Profile{}, saved, "sm", "sc", Origin{Source: schema.FromSavedChat}},
		{"", Profile{}, SavedChat{}, "", "", Origin{Source: schema.FromDefault}},
	} {
		model, from := ChooseModel(c.request, c.p, c.saved)
		require.Equal(t, c.model, model)
		require.Equal(t, c.from, from)
		file, from := ChoosePromptConfig(c.request, c.p, c.saved)
		require.Equal(t, c.file, file)
		require.Equal(t, c.from, from)
	}
}

func TestPlaceholders(t *testing.T) {
	at := time.Date(2026, 3, 4, 15, 6, 7, 0, time.FixedZone("X", 2*3600))
	p := newPlaceholders(map[string]string{"name": "Ann", "b": "{name}", "TIME": "tea time"}, at)
	for text, want := range map[string]string{
		"<|DATE|> <|date|> {DATE} {date}": "2026-03-04 2026-03-04 2026-03-04 {date}",
		"<|DateTime|>":                    "2026-03-04T15:06:07",
		"<|TIMEZ|> <|TIMEA|> <|TIMEU|>":   "15:06:07 03:06:07 PM 13:06:07 UTC",
		"{TIME} <|time|>":                 "tea time tea time",
		"{name} <|NAME|> {NAME}":          "Ann Ann {NAME}",
		"{b}":                             "{name}",
		"<|start|>{unknown} {} <||> {":    "<|start|>{unknown} {} <||> {",
		"func f() { return {name} }":      "func f() { return Ann }",
		"{a{name}}":                       "{aAnn}",
		"none":                            "none",
	} {
		require.Equal(t, want, p.Expand(text), text)
	}
}

func TestProfiles(t *testing.T) {
	p, warnings, err := LoadProfiles("profiles.json", "nowhere", "testdata")
	require.NoError(t, err)
	require.Equal(t, []string{"gpt-oss", "odd", "small"}, p.Names())
	require.Len(t, warnings, 2)
	require.Equal(t, "testdata/profiles.json:12:20: odd.temperature: is no member of a profile; those are model, prompt_config and max_context_tokens", warnings[0].String())
	one, err := p.Named("gpt-oss")
	require.NoError(t, err)
	dir, err := os.UserHomeDir()
	require.NoError(t, err)
	require.Equal(t, Profile{Name: "gpt-oss", Model: filepath.Join(dir, "models/gpt-oss-20b"), PromptConfig: "deterministic.json", MaxContextTokens: ptr(8192)}, one)
	_, err = p.Named("huge")
	require.EqualError(t, err, `testdata/profiles.json: no profile "huge"; there are ["gpt-oss" "odd" "small"]`)
	for text, want := range map[string]string{
		`{"a":1}`:                              "p.json:1:6: a: want an object",
		`{"a":{"model":1}}`:                    "p.json:1:15: a.model: got a number, want a string",
		"{\"a\":\n{\"max_context_tokens\":0}}": "p.json:2:23: a.max_context_tokens: ",
		`x`:                                    "p.json:1:1: no JSON",
	} {
		_, _, err := ReadProfiles("p.json", []byte(text))
		require.ErrorContains(t, err, want, text)
	}
	_, warnings, err = ReadProfiles("p.json", []byte(`{"$schema":"x","a":{}}`))
	require.NoError(t, err)
	require.Empty(t, warnings)
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "own.json")
	require.NoError(t, os.WriteFile(file, []byte("{}"), 0o600))
	require.Equal(t, file, Find(file, "testdata"))
	require.Equal(t, file, Find("own.json", "testdata", dir))
	require.Equal(t, "testdata/profiles.json", Find("testdata/profiles.json", dir), "here first")
	require.Equal(t, "none.json", Find("none.json", dir))
	require.Empty(t, Find("", dir))
	t.Setenv("HOME", dir)
	require.Equal(t, file, Find("~/own.json"))
	require.Equal(t, dir, home("~"))
	require.Equal(t, "~other/x", home("~other/x"))
	_, _, err := LoadConfig("none.json", "a", "b")
	require.EqualError(t, err, "prompt config none.json: there is no such file, neither here nor in a, b")
	_, _, err = LoadConfig(filepath.Join(dir, "none.json"))
	require.ErrorIs(t, err, os.ErrNotExist)
	_, _, err = LoadProfiles("none.json")
	require.ErrorContains(t, err, "profiles: ")
	require.NoError(t, os.Truncate(file, maxFile+1))
	_, _, err = LoadConfig(file)
	require.ErrorContains(t, err, "more than 16777216")
	_, _, err = LoadConfig(dir)
	require.Error(t, err)
}

func TestDialogues(t *testing.T) {
	text := "\ufeffNotes, not said.\nUser: Hi\n  there\n\nand more\n\n  ASSISTANT:Hello: how are you?\r\n\ttool: {\"a\":1}\nuser:\n\nassistant: Bye\nuserx: not a role\n"
	want := []ExampleTurn{
		{Role: "user", Content: "Hi\n  there\n\nand more"}, {Role: "assistant", Content: "Hello: how are you?"},
		{Role: "tool", Content: `{"a":1}`}, {Role: "assistant", Content: "Bye\nuserx: not a role"},
	}
	require.Equal(t, want, ParseDialogue(text))
	out, err := ConvertDialogue("user: <é>\nassistant: b", false)
	require.NoError(t, err)
	require.Equal(t, "[\n  {\n    \"role\": \"user\",\n    \"content\": \"<é>\"\n  },\n  {\n    \"role\": \"assistant\",\n    \"content\": \"b\"\n  }\n]\n", string(out))
	out, err = ConvertDialogue(text, true)
	require.NoError(t, err)
	c := config(t, `{"example_dialogues":`+string(out)+`}`)
	require.Equal(t, [][]ExampleTurn{want}, *c.ExampleDialogues)
	_, err = ConvertDialogue("nobody speaks", false)
	require.ErrorContains(t, err, "there is no message in it")
}

func FuzzReadConfig(f *testing.F) {
	for _, file := range []string{"deterministic.json", "all_keys.json", "profiles.json"} {
		text, err := os.ReadFile("testdata/" + file)
		require.NoError(f, err)
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		_, _, _ = ReadProfiles("p.json", text)
		c, _, err := ReadConfig("p.json", text)
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		s, err := Resolve(Input{PromptConfig: c, Now: morning})
		require.NoError(t, err)
		require.Less(t, s.Reasoning.Budget, max(2, s.MaxTokens))
		require.Positive(t, s.Context.MaxTokens)
		_, err = ReadRequest(s.Hyperparameters())
		require.NoError(t, err, "what is saved can be read")
	})
}
