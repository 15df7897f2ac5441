package profile

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/schema"
)

// original are the 45 keys of mlx-harmony; those of Config that follow are ours.
var original = strings.Fields(`system_model_identity reasoning_effort conversation_start_date knowledge_cutoff
	developer_instructions assistant_greeting example_dialogues placeholders deterministic_time_enabled deterministic_time_iso
	max_tokens max_context_tokens max_context_tokens_margin performance_mode perf_max_tokens perf_max_context_tokens
	perf_max_kv_size perf_prompt_token_budget temperature top_p min_p min_tokens_to_keep top_k xtc_probability xtc_threshold
	xtc_special_tokens repetition_penalty repetition_context_size loop_detection max_kv_size mlock lazy seed reseed_each_turn
	clear_cache clear_cache_interval clear_cache_generation log_memory_stats log_timing_stats end_token_strings
	truncate_thinking truncate_response logs_dir chats_dir models_dir`)

// effect is a value of a key and what it does.
type effect struct {
	key, value string // as JSON
	set        string // as in \set, where that differs
	// with are other keys that it needs.
	with string
	see  func(s Settings) any
	want any
	// before is what there is without the key.
	before any
}

var morning = time.Date(2026, 3, 4, 9, 30, 0, 0, time.UTC)

// effects has every key that is not refused.
var effects = []effect{
	{key: "system_model_identity", value: `"I am {a}."`, with: `"placeholders":{"a":"b"}`, see: func(s Settings) any { return s.Prompt.Identity }, want: "I am b.", before: ""},
	{key: "reasoning_effort", value: `"High"`, set: "High", see: func(s Settings) any { return s.Reasoning.Effort }, want: "high", before: "medium"},
	{key: "conversation_start_date", value: `"2020-02-02"`, see: func(s Settings) any { return s.Prompt.Date }, want: "2020-02-02", before: "2026-03-04"},
	{key: "knowledge_cutoff", value: `"2025-06"`, see: func(s Settings) any { return s.Prompt.KnowledgeCutoff }, want: "2025-06", before: "2024-06"},
	{key: "developer_instructions", value: `"At <|time|>: be brief."`, see: func(s Settings) any { return s.Prompt.Developer }, want: "At 09:30:00: be brief.", before: ""},
	{key: "assistant_greeting", value: `"Hello."`, see: func(s Settings) any { return s.Prompt.Greeting }, want: "Hello.", before: ""},
	{key: "example_dialogues", value: `[[{"role":"USER","content":"{DATE}?"},{"role":"tool","content":"x","name":"n","recipient":"assistant"}]]`,
		see:  func(s Settings) any { return s.Prompt.Examples },
		want: [][]ExampleTurn{{{Role: "user", Content: "2026-03-04?"}, {Role: "tool", Content: "x", Name: "n", Recipient: "assistant"}}}, before: [][]ExampleTurn(nil)},
	{key: "placeholders", value: `{"assistant":"Dixie","n":7}`, see: func(s Settings) any { return s.Prompt.Assistant + s.Prompt.Placeholders.Expand(" {n} <|N|>") }, want: "Dixie 7 7", before: "Assistant {n} <|N|>"},
	{key: "deterministic_time_enabled", value: `true`, with: `"seed":5`, see: func(s Settings) any { return s.Prompt.Now }, want: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), before: morning},
	{key: "deterministic_time_iso", value: `"2001-02-03T04:05:06"`, with: `"deterministic_time_enabled":true`, see: func(s Settings) any { return s.Prompt.Now.Format(time.RFC3339) }, want: "2001-02-03T04:05:06Z", before: "2000-01-01T00:00:00Z"},
	{key: "max_tokens", value: `77`, see: func(s Settings) any { return s.MaxTokens }, want: 77, before: 512},
	{key: "max_context_tokens", value: `2000`, see: func(s Settings) any { return s.Context.MaxTokens }, want: 2000, before: 4096},
	{key: "max_context_tokens_margin", value: `96`, see: func(s Settings) any { return s.Context.MaxTokens }, want: 4000, before: 4096},
	{key: "performance_mode", value: `true`, see: func(s Settings) any { return s.Performance }, want: true, before: false},
	{key: "perf_max_tokens", value: `33`, with: `"performance_mode":true`, see: func(s Settings) any { return s.MaxTokens }, want: 33, before: 512},
	{key: "perf_max_context_tokens", value: `3000`, with: `"performance_mode":true`, see: func(s Settings) any { return s.Context.MaxTokens }, want: 3000, before: 4096},
	{key: "perf_max_kv_size", value: `2222`, with: `"performance_mode":true`, see: func(s Settings) any { return s.Context.MaxKVSize }, want: 2222, before: 0},
	{key: "perf_prompt_token_budget", value: `1111`, with: `"performance_mode":true`, see: func(s Settings) any { return s.Context.MaxTokens }, want: 1111, before: 4096},
	{key: "temperature", value: `0.25`, see: func(s Settings) any { return *s.Sampling.Temperature }, want: 0.25, before: 1.0},
	{key: "top_p", value: `0.9`, see: func(s Settings) any { return *s.Sampling.TopP }, want: 0.9, before: 0.0},
	{key: "min_p", value: `0.1`, see: func(s Settings) any { return *s.Sampling.MinP }, want: 0.1, before: 0.0},
	{key: "min_tokens_to_keep", value: `3`, see: func(s Settings) any { return *s.Sampling.MinTokensToKeep }, want: 3, before: 1},
	{key: "top_k", value: `40`, see: func(s Settings) any { return *s.Sampling.TopK }, want: 40, before: 0},
	{key: "xtc_probability", value: `0.5`, see: func(s Settings) any { return *s.Sampling.XTCProbability }, want: 0.5, before: 0.0},
	{key: "xtc_threshold", value: `0.3`, see: func(s Settings) any { return *s.Sampling.XTCThreshold }, want: 0.3, before: 0.1},
	{key: "xtc_special_tokens", value: `[1,2]`, see: func(s Settings) any { return s.XTCSpecialTokens }, want: []int{1, 2}, before: []int(nil)},
	{key: "repetition_penalty", value: `1.2`, see: func(s Settings) any { return *s.Sampling.RepetitionPenalty }, want: 1.2, before: 1.0},
	{key: "repetition_context_size", value: `0`, see: func(s Settings) any { return *s.Sampling.RepetitionContextSize }, want: 0, before: 20},
	{key: "loop_detection", value: `"full"`, set: "FULL", see: func(s Settings) any { return s.LoopDetection }, want: "full", before: "cheap"},
	{key: "max_kv_size", value: `1024`, see: func(s Settings) any { return s.Context.MaxKVSize }, want: 1024, before: 0},
	{key: "seed", value: `5`, see: func(s Settings) any { return s.Seed.Value }, want: int64(5), before: int64(-1)},
	{key: "reseed_each_turn", value: `true`, with: `"seed":5`, see: func(s Settings) any { return *s.Seed.For(3, 0) == 5 }, want: true, before: false},
	{key: "log_memory_stats", value: `true`, see: func(s Settings) any { return s.Log }, want: Log{Memory: true}, before: Log{}},
	{key: "log_timing_stats", value: `true`, see: func(s Settings) any { return s.Log }, want: Log{Timing: true}, before: Log{}},
	{key: "end_token_strings", value: `["<|end|>"]`, see: func(s Settings) any { return s.EndTokens }, want: []string{"<|end|>"}, before: []string(nil)},
	{key: "truncate_thinking", value: `0`, see: func(s Settings) any { return s.Display }, want: Display{0, 1000}, before: Display{1000, 1000}},
	{key: "truncate_response", value: `5`, see: func(s Settings) any { return s.Display }, want: Display{1000, 5}, before: Display{1000, 1000}},
	{key: "logs_dir", value: `"l"`, see: func(s Settings) any { return s.Folders }, want: Folders{Logs: "l"}, before: Folders{}},
	{key: "chats_dir", value: `"c"`, see: func(s Settings) any { return s.Folders }, want: Folders{Chats: "c"}, before: Folders{}},
	{key: "models_dir", value: `"m"`, see: func(s Settings) any { return s.Folders }, want: Folders{Models: "m"}, before: Folders{}},

	{key: "max_tool_iterations", value: `3`, see: func(s Settings) any { return s.MaxToolRounds }, want: 3, before: 10},
	{key: "max_resume_attempts", value: `0`, see: func(s Settings) any { return s.Repair.Attempts }, want: 0, before: 2},
	{key: "reasoning_budget", value: `100`, see: func(s Settings) any { return s.Reasoning.Budget }, want: 100, before: 256},
	{key: "stop", value: `["END"]`, see: func(s Settings) any { return s.Stop }, want: []string{"END"}, before: []string(nil)},
	{key: "context_overflow", value: `"error"`, set: "error", see: func(s Settings) any { return s.Context.Overflow }, want: schema.OverflowError, before: schema.OverflowRollingWindow},
	{key: "presence_penalty", value: `0.5`, see: func(s Settings) any { return *s.Sampling.PresencePenalty }, want: 0.5, before: 0.0},
	{key: "presence_context_size", value: `9`, see: func(s Settings) any { return *s.Sampling.PresenceContextSize }, want: 9, before: 20},
	{key: "frequency_penalty", value: `-0.5`, see: func(s Settings) any { return *s.Sampling.FrequencyPenalty }, want: -0.5, before: 0.0},
	{key: "frequency_context_size", value: `9`, see: func(s Settings) any { return *s.Sampling.FrequencyContextSize }, want: 9, before: 20},
	{key: "logit_bias", value: `[{"token":5,"bias":-100}]`, see: func(s Settings) any { return s.Sampling.LogitBias }, want: []schema.LogitBias{{Token: ptr(5), Bias: -100}}, before: []schema.LogitBias(nil)},
}

// TestEveryKey sets each key through a file, a request and \set, and sees its effect in the
// settings, with where it came from; or it is refused by name with the reason, and in a chat
// also where it comes too late.
func TestEveryKey(t *testing.T) {
	seen := map[string]bool{}
	for _, e := range effects {
		seen[e.key] = true
		t.Run(e.key, func(t *testing.T) {
			k, ok := keyNamed(e.key)
			require.True(t, ok)
			with := config(t, "{"+e.with+"}")
			base := Input{Request: with, Now: morning}
			require.Equal(t, e.before, e.see(resolve(t, base)), "without it")

			own := fmt.Sprintf(`{%q:%s}`, e.key, e.value)
			in := base
			in.PromptConfig, in.PromptConfigName = config(t, own), "p.json"
			s := resolve(t, in)
			require.Equal(t, e.want, e.see(s), "in a file")
			require.Equal(t, Origin{schema.FromPromptConfig, "p.json"}, s.Origin(e.key))
			require.Equal(t, "prompt config p.json", s.Origin(e.key).String())

			r, err := ReadRequest([]byte(own))
			require.NoError(t, err)
			in = base
			in.Request = with.Merge(r)
			s = resolve(t, in)
			require.Equal(t, e.want, e.see(s), "in a request")
			require.Equal(t, "request", s.Origin(e.key).String())

			value := e.set
			if value == "" {
				value = e.value
			}
			c, err := ReadSet(" " + strings.ToUpper(e.key) + " = " + value + " ")
			if k.When == schema.WhenSession {
				require.EqualError(t, err, e.key+": counts when a conversation begins; give it in the prompt config")
				return
			}
			require.NoError(t, err)
			in.Request = with.Merge(c)
			require.Equal(t, e.want, e.see(resolve(t, in)), `with \set`)
		})
	}
	for _, k := range Keys() {
		if k.Refused == "" {
			require.True(t, seen[k.Name], "%s has no row in effects", k.Name)
			require.Contains(t, []schema.SettingWhen{schema.WhenTurn, schema.WhenSession}, k.When, k.Name)
			require.NotEmpty(t, k.Default, k.Name)
			continue
		}
		require.False(t, seen[k.Name])
		why := k.Name + ": has no effect: " + k.Refused
		for _, value := range []string{"true", "4"} {
			_, warnings, err := ReadConfig("p.json", fmt.Appendf(nil, "{\n  %q: %s}", k.Name, value))
			require.NoError(t, err, "files of mlx-harmony load")
			require.Equal(t, "p.json:2:"+fmt.Sprint(6+len(k.Name)+1)+": "+why, warnings[0].String())
			_, err = ReadRequest(fmt.Appendf(nil, "{%q: %s}", k.Name, value))
			require.EqualError(t, err, why)
			_, err = ReadSet(k.Name + "=" + value)
			require.EqualError(t, err, why)
		}
	}
	var names []string
	for _, k := range Keys() {
		names = append(names, k.Name)
	}
	require.Len(t, original, 45)
	require.Equal(t, original, names[:45])
	t.Logf("%d keys of mlx-harmony and %d of ours; %d have an effect, %d are refused", len(original), len(names)-45, len(effects), len(names)-len(effects))
}

// TestDefaultsAreAsTheyAreDescribed compares the words in the tags of Config with the values.
func TestDefaultsAreAsTheyAreDescribed(t *testing.T) {
	d := defaults(morning)
	for _, k := range Keys() {
		text, err := schema.Encode(func() Config { c := Config{}; c.take(k, &d); return c }())
		require.NoError(t, err)
		value := strings.TrimSuffix(strings.TrimPrefix(string(text), `{"`+k.Name+`":`), "}")
		value = strings.Trim(value, `"`)
		switch k.Name {
		case "max_tokens", "max_context_tokens", "repetition_context_size":
			require.True(t, strings.HasSuffix(k.Default, "else "+value), "%s: %s", k.Name, value)
		case "repetition_penalty", "conversation_start_date", "placeholders":
		default:
			if d.has(k) {
				require.Equal(t, k.Default, value, k.Name)
			}
		}
	}
}

func TestValuesOutOfRange(t *testing.T) {
	for text, want := range map[string]string{
		`{"temperature":2.1}`:                                 "temperature: ",
		`{"temperature":-0.1}`:                                "temperature: ",
		`{"temperature":"hot"}`:                               "temperature: got a string, want a number",
		`{"temperature":"nan"}`:                               "temperature: got a string, want a number",
		`{"top_p":1.5}`:                                       "top_p: ",
		`{"min_p":-1}`:                                        "min_p: ",
		`{"xtc_threshold":0.6}`:                               "xtc_threshold: ",
		`{"max_tokens":0}`:                                    "max_tokens: ",
		`{"max_tokens":1.5}`:                                  "max_tokens: got 1.5, want an integer",
		`{"max_tokens":true}`:                                 "max_tokens: got a boolean, want an integer",
		`{"seed":"x"}`:                                        "seed: ",
		`{"reasoning_effort":"extreme"}`:                      `reasoning_effort: `,
		`{"loop_detection":"maybe"}`:                          `loop_detection: `,
		`{"deterministic_time_iso":"noon"}`:                   `deterministic_time_iso: got "noon", want a time such as`,
		`{"placeholders":[]}`:                                 "placeholders: got [], want an object of texts",
		`{"placeholders":{"a":{}}}`:                           "placeholders: a: got {}, want a text",
		`{"end_token_strings":[""]}`:                          "end_token_strings.0: ",
		`{"end_token_strings":"x"}`:                           "end_token_strings: got a string, want an array",
		`{"example_dialogues":[{}]}`:                          "example_dialogues.0: got an object, want an array",
		`{"example_dialogues":[[{"role":"user"}]]}`:           "example_dialogues.0.0.content: missing",
		`{"xtc_special_tokens":[5,-1]}`:                       "xtc_special_tokens.1: got -1, want the id of a token",
		`{"logit_bias":[{"bias":1}]}`:                         "logit_bias.0: neither token nor text is given",
		`{"example_dialogues":[[{"role":"x","content":""}]]}`: `example_dialogues.0.0.role: got "x", want one of`,
	} {
		_, _, err := ReadConfig("p.json", []byte(text))
		require.ErrorContains(t, err, "p.json:1:", text)
		require.ErrorContains(t, err, want, text)
		_, err = ReadRequest([]byte(text))
		require.ErrorContains(t, err, want, text)
	}
}

func TestProblemsSayWhere(t *testing.T) {
	text := []byte("\ufeff" + `{
  "temprature": 0.5,
  "Top-P": 1,
  "$schema": "x",
  "temperature": 3, "max_tokens": 0,
  "example_dialogues": [
    [],
    [{"role": "user", "content": "x"},
     {"role": "wizard",
      "content": "y"}]
  ],
  "max_user_tokens": 5,
  "note_to_self": 1
}`)
	_, warnings, err := ReadConfig("configs/a.json", text)
	var all *Error
	require.ErrorAs(t, err, &all)
	lines := strings.Split(err.Error(), "\n")
	require.Len(t, lines, 3)
	require.True(t, strings.HasPrefix(lines[0], "configs/a.json:5:18: temperature: "), lines[0])
	require.True(t, strings.HasPrefix(lines[1], "configs/a.json:5:35: max_tokens: "), lines[1])
	require.Equal(t, `configs/a.json:9:15: example_dialogues.1.1.role: got "wizard", want one of ["user" "assistant" "tool" "system" "developer"]`, lines[2])
	var said []string
	for _, w := range warnings {
		said = append(said, w.String())
	}
	require.Equal(t, []string{
		"configs/a.json:2:17: temprature: is no key; did you mean temperature?",
		"configs/a.json:3:12: Top-P: is no key; did you mean top_p?",
		"configs/a.json:12:22: max_user_tokens: is no key",
		"configs/a.json:13:19: note_to_self: is no key",
	}, said)

	for text, want := range map[string]string{
		"{\n\"a\": }":         "p.json:2:6: no JSON: ",
		"":                    "p.json:1:1: no JSON: ",
		"[1]":                 "p.json:1:1: want a JSON object",
		"null":                "p.json:1:1: want a JSON object",
		`{"seed":1,"seed":2}`: "p.json:1:1: ",
	} {
		_, _, err := ReadConfig("p.json", []byte(text))
		require.ErrorContains(t, err, want, text)
	}
	_, err = ReadRequest([]byte(`{"temprature":1}`))
	require.EqualError(t, err, "temprature: is no key; did you mean temperature?")
	for text, want := range map[string]string{
		"temperature":   `want name=value, as in \set temperature=0.7`,
		"=1":            `want name=value, as in \set temperature=0.7`,
		"temperature=":  "temperature: got a string, want a number",
		"seed=nan":      "seed: got a string, want an integer",
		"seed=inf":      "seed: got a string, want an integer",
		"seed=1.5":      "seed: got 1.5, want an integer",
		"temperature=9": "temperature: ",
		"stop=END":      `stop: got "END", want a list as in JSON`,
		"colour=red":    "colour: is no key",
		`a"b=1`:         `a"b: is no key`,
	} {
		_, err := ReadSet(text)
		require.ErrorContains(t, err, want, text)
	}
}

// TestFilesOfTheOriginalLoad reads one with all keys, and the author's own of which only the
// values are known.
func TestFilesOfTheOriginalLoad(t *testing.T) {
	c, warnings, err := LoadConfig("all_keys.json", "testdata")
	require.NoError(t, err)
	refused := 0
	for _, k := range Keys() {
		if slices.Contains(original, k.Name) && k.Refused == "" && k.Name != "deterministic_time_iso" {
			require.True(t, c.has(k), k.Name)
		}
		if k.Refused != "" {
			refused++
		}
	}
	require.Len(t, warnings, refused)
	s := resolve(t, Input{PromptConfig: c, Now: morning})
	require.Equal(t, 100, s.MaxTokens, "performance mode, which was a string")
	require.Equal(t, 300, s.Context.MaxTokens)
	require.Equal(t, 1.0, *s.Sampling.RepetitionPenalty, "0 is off")
	require.Equal(t, "3 true", s.Prompt.Placeholders.Expand("{n} {t}"))

	c, warnings, err = LoadConfig("testdata/deterministic.json")
	require.NoError(t, err)
	require.Len(t, warnings, 4, "mlock, clear_cache and two keys that never were")
	require.Contains(t, warnings[0].String(), "testdata/deterministic.json:9:12: mlock: has no effect: ")
	s = resolve(t, Input{PromptConfig: c, Now: morning})
	require.Equal(t, "You are Dixie.", s.Prompt.Identity)
	require.Equal(t, "Today is 2000-01-01. Call the user Morgan.", s.Prompt.Developer)
	require.Equal(t, "Dixie, at 00:00:00 UTC.", s.Prompt.Examples[0][1].Content)
	require.Equal(t, "2000-01-01", s.Prompt.Date)
	require.Equal(t, "Good morning, Morgan.", s.Prompt.Greeting)
	require.Equal(t, Display{2048, 8192}, s.Display)
	require.Empty(t, s.Warnings)
}

func TestJSONSchemaOfFiles(t *testing.T) {
	text, err := JSONSchema(PromptConfigFile)
	require.NoError(t, err)
	again, err := JSONSchema(PromptConfigFile)
	require.NoError(t, err)
	require.True(t, bytes.Equal(text, again))
	v, bad := schema.Compile(text)
	require.Empty(t, bad)
	for _, file := range []string{"deterministic.json", "all_keys.json"} {
		data, err := os.ReadFile("testdata/" + file)
		require.NoError(t, err)
		var problems []string
		for _, p := range v.Check(data) {
			problems = append(problems, p.InstancePath+p.Message)
		}
		t.Log(file, problems)
	}
	require.Empty(t, v.Check([]byte(`{"$schema":"x","temperature":0.5,"reasoning_effort":"High","placeholders":{"a":"b"},"stop":["x"]}`)))
	for _, bad := range []string{`{"temprature":1}`, `{"temperature":3}`, `{"reasoning_effort":"extreme"}`, `{"placeholders":{"a":[]}}`, `{"example_dialogues":[{}]}`} {
		require.NotEmpty(t, v.Check([]byte(bad)), bad)
	}
	for _, k := range Keys() {
		require.Contains(t, string(text), fmt.Sprintf("%q: {", k.Name))
	}
	require.Equal(t, strings.Count(string(text), `"deprecated": true`), 5)
	require.Contains(t, string(text), `"default": 0.1`)

	text, err = JSONSchema(ProfilesFile)
	require.NoError(t, err)
	v, bad = schema.Compile(text)
	require.Empty(t, bad)
	require.Empty(t, v.Check([]byte(`{"$schema":"x","a":{"model":"m","max_context_tokens":5}}`)))
	require.NotEmpty(t, v.Check([]byte(`{"a":{"max_context_tokens":0}}`)))
	require.NotEmpty(t, v.Check([]byte(`{"a":{"modell":"x"}}`)))
	_, err = JSONSchema("chat")
	require.EqualError(t, err, `file "chat": want prompt-config or profiles`)
}
