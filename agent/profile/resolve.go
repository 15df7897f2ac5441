package profile

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"harmonyd/schema"
)

// Input is all that settings are made of. Everything but Now may be empty.
type Input struct {
	// Request is what the command line, a request and \set say.
	Request Config
	// Saved is the conversation that is taken up again.
	Saved SavedChat
	// PromptConfig is the file that ChoosePromptConfig chose, with its name.
	PromptConfig     Config
	PromptConfigName string
	Profile          Profile
	Model            Model
	// Now is when the conversation began.
	Now time.Time
}

// SavedChat is what a log says of how a conversation was held.
type SavedChat struct {
	Model, PromptConfig string
	// Hyperparameters is a JSON object, as Settings gives it.
	Hyperparameters json.RawMessage
}

// Model is what settings depend on of a model.
type Model struct {
	ID string
	// ContextLength is how many tokens it is made for; 0 where it does not say.
	ContextLength int
	// Harmony says that it writes in the Harmony format.
	Harmony bool
}

// ChooseModel is the model of a conversation: the one that the command line names, then that
// of a profile, which is named there too, then the one that the conversation had.
func ChooseModel(request string, p Profile, saved SavedChat) (string, Origin) {
	return choose(request, p.Model, p.Name, saved.Model)
}

// ChoosePromptConfig is the prompt config of a conversation, in the order of ChooseModel.
func ChoosePromptConfig(request string, p Profile, saved SavedChat) (string, Origin) {
	return choose(request, p.PromptConfig, p.Name, saved.PromptConfig)
}

// choose is the first of them that is there, with where it came from; name is the
// profile's.
func choose(request, profile, name, saved string) (string, Origin) {
	switch {
	case request != "":
		return request, Origin{Source: schema.FromRequest}
	case profile != "":
		return profile, Origin{schema.FromProfile, name}
	case saved != "":
		return saved, Origin{Source: schema.FromSavedChat}
	}
	return "", Origin{Source: schema.FromDefault}
}

// layer is what one source says.
type layer struct {
	origin Origin
	config Config
}

// Resolve makes the settings of a conversation.
func Resolve(in Input) (Settings, error) {
	r := resolution{origins: map[string]Origin{}}
	layers := []layer{
		{Origin{Source: schema.FromRequest}, in.Request},
		{Origin{Source: schema.FromSavedChat}, r.savedConfig(in)},
		{Origin{schema.FromPromptConfig, in.PromptConfigName}, in.PromptConfig},
		{Origin{schema.FromProfile, in.Profile.Name}, Config{MaxContextTokens: in.Profile.MaxContextTokens}},
		{Origin{schema.FromModel, in.Model.ID}, modelConfig(in.Model)},
		{Origin{Source: schema.FromDefault}, defaults(in.Now)},
	}
	for _, k := range keys {
		for i := range layers {
			if layers[i].config.has(k) {
				r.v.take(k, &layers[i].config)
				r.origins[k.Name] = layers[i].origin
				break
			}
		}
	}
	chosen := Config{}
	for _, k := range keys {
		if source := r.origins[k.Name].Source; k.When == schema.WhenTurn && source != schema.FromModel && source != schema.FromDefault {
			chosen.take(k, &r.v)
		}
	}
	r.performance()
	now, err := r.clock(in.Now)
	if err != nil {
		return Settings{}, err
	}
	r.contextBounds()
	s, err := settings(r.v, now)
	if err != nil {
		return s, fmt.Errorf("%s: placeholders: %w", r.origins["placeholders"], err)
	}
	s.Context.MaxTokens, s.Reasoning.Budget = r.context, r.reasoning()
	s.Warnings, s.chosen, s.values, s.origins = r.warnings, chosen, r.v, r.origins
	return s, nil
}

// resolution is the work of Resolve.
type resolution struct {
	v        Config
	origins  map[string]Origin
	warnings []string
	context  int // tokens
}

func (r *resolution) warn(format string, args ...any) {
	r.warnings = append(r.warnings, fmt.Sprintf(format, args...))
}

// savedConfig is what a saved chat says: of another model not how long its prompts were, and
// nothing that counts only when a conversation begins. Mlx-harmony saved values that are out
// of their ranges; they are told and do not count, for the chat is to go on.
func (r *resolution) savedConfig(in Input) Config {
	if len(in.Saved.Hyperparameters) == 0 {
		return Config{}
	}
	c, _, err := ReadConfig("", in.Saved.Hyperparameters)
	var bad *Error
	if errors.As(err, &bad) {
		for _, p := range bad.Problems {
			r.warn("saved chat: %s: it does not count", p)
		}
	}
	for _, k := range keys {
		if k.When != schema.WhenTurn || k.Name == "performance_mode" || strings.HasPrefix(k.Name, "perf_") {
			c.take(k, &Config{})
		}
	}
	if in.Saved.Model != in.Model.ID {
		c.MaxContextTokens = nil
	}
	return c
}

// modelConfig is what a model is made for.
func modelConfig(m Model) (c Config) {
	if m.ContextLength > 0 {
		c.MaxContextTokens = &m.ContextLength
	}
	if m.Harmony {
		c.MaxTokens, c.RepetitionPenalty, c.RepetitionContextSize = ptr(1024), ptr(1.05), ptr(256)
		c.EndTokenStrings = &[]string{"<|endoftext|>"}
	}
	return c
}

// defaults are what counts where no one has a value. The tags of Config say so in words.
func defaults(now time.Time) Config {
	return Config{
		ReasoningEffort: ptr("medium"), ConversationStartDate: ptr("{DATE}"), KnowledgeCutoff: ptr("2024-06"),
		Placeholders: json.RawMessage("{}"), DeterministicTimeEnabled: ptr(false),
		MaxTokens: ptr(512), MaxContextTokens: ptr(4096), MaxContextTokensMargin: ptr(0), PerformanceMode: ptr(false),
		Temperature: ptr(1.0), TopP: ptr(0.0), MinP: ptr(0.0), MinTokensToKeep: ptr(1), TopK: ptr(0),
		XTCProbability: ptr(0.0), XTCThreshold: ptr(0.1),
		RepetitionPenalty: ptr(1.0), RepetitionContextSize: ptr(20),
		PresencePenalty: ptr(0.0), PresenceContextSize: ptr(20), FrequencyPenalty: ptr(0.0), FrequencyContextSize: ptr(20),
		LoopDetection: ptr("cheap"), Seed: ptr(int64(-1)), ReseedEachTurn: ptr(false),
		LogMemoryStats: ptr(false), LogTimingStats: ptr(false),
		TruncateThinking: ptr(1000), TruncateResponse: ptr(1000),
		MaxToolIterations: ptr(10), MaxResumeAttempts: ptr(2), ReasoningBudget: ptr(0), ContextOverflow: ptr("rollingWindow"),
	}
}

// performance puts the keys that begin with perf_ in the places of those without: before all
// but what a request says, and of the context before all but what a request or the saved chat
// of the same model says.
func (r *resolution) performance() {
	if !or(r.v.PerformanceMode, false) {
		return
	}
	for _, p := range []struct {
		to     **int
		value  *int
		key    string
		before []schema.SettingSource
	}{
		{&r.v.MaxTokens, r.v.PerfMaxTokens, "max_tokens", []schema.SettingSource{schema.FromRequest}},
		{&r.v.MaxKVSize, r.v.PerfMaxKVSize, "max_kv_size", []schema.SettingSource{schema.FromRequest}},
		{&r.v.MaxContextTokens, r.v.PerfMaxContextTokens, "max_context_tokens", []schema.SettingSource{schema.FromRequest, schema.FromSavedChat}},
	} {
		stays := p.value == nil
		for _, s := range p.before {
			stays = stays || r.origins[p.key].Source == s
		}
		if !stays {
			*p.to = p.value
			r.origins[p.key] = r.origins["perf_"+p.key]
		}
	}
}

// clock is the time of the conversation. Where it is made to stand still, the seed does too.
func (r *resolution) clock(now time.Time) (time.Time, error) {
	if !or(r.v.DeterministicTimeEnabled, false) {
		return now, nil
	}
	at := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	if r.v.DeterministicTimeISO == nil {
		r.warn("deterministic_time_enabled is set and deterministic_time_iso is not: the time is %s", at.Format(time.RFC3339))
	} else {
		var err error
		if at, err = parseISO(*r.v.DeterministicTimeISO); err != nil {
			return at, fmt.Errorf("%s: deterministic_time_iso: got %q, want a time such as 2000-01-01T00:00:00Z", r.origins["deterministic_time_iso"], *r.v.DeterministicTimeISO)
		}
	}
	if or(r.v.Seed, -1) < 0 {
		r.warn("deterministic_time_enabled is set and seed is not: the seed is 0")
		r.v.Seed = ptr(int64(0))
		r.origins["seed"] = r.origins["deterministic_time_enabled"]
	}
	return at, nil
}

// contextBounds is how long a prompt may be.
func (r *resolution) contextBounds() {
	r.context = *r.v.MaxContextTokens
	if margin := or(r.v.MaxContextTokensMargin, 0); margin >= r.context {
		r.warn("max_context_tokens_margin is %d and not less than max_context_tokens, %d: it does not count", margin, r.context)
	} else {
		r.context -= margin
	}
	if budget := r.v.PerfPromptTokenBudget; budget != nil && or(r.v.PerformanceMode, false) {
		r.context = min(r.context, *budget)
	}
}

// reasoning is the budget of reasoning. Something is always left for the answer.
func (r *resolution) reasoning() int {
	answer, budget := *r.v.MaxTokens, *r.v.ReasoningBudget
	half := max(1, answer/2)
	if budget == 0 {
		return half
	}
	if budget >= answer {
		r.warn("reasoning_budget is %d and not less than max_tokens, %d: it is %d", budget, answer, half)
		return half
	}
	return budget
}
