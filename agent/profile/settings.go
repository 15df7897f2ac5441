package profile

import (
	"cmp"
	"encoding/json"
	"time"

	"harmonyd/schema"
)

// Settings is what counts for a conversation. Resolve makes one; it is never changed, and a
// change of a setting makes another one.
type Settings struct {
	Prompt    Prompt
	Reasoning Reasoning
	// Sampling chooses tokens, without a seed: that is Seed's, for each turn.
	Sampling schema.Sampling
	// XTCSpecialTokens are the ids of tokens that XTC never drops; nil means line ends and
	// the tokens that end an answer.
	XTCSpecialTokens []int
	Seed             Seed
	// MaxTokens is the most that one answer may be, in tokens.
	MaxTokens int
	Context   Context
	// Stop are texts that end an answer, EndTokens control tokens that do beside those of
	// the model. Neither is part of it.
	Stop, EndTokens []string
	// LoopDetection is off, cheap or full; see package loop.
	LoopDetection string
	// MaxToolRounds is how often in one turn the model is asked again with the results of
	// its calls.
	MaxToolRounds int
	Repair        Repair
	Display       Display
	Folders       Folders
	Log           Log
	// Performance says that the keys that begin with perf_ are in force.
	Performance bool
	// Warnings are for the person whose settings these are.
	Warnings []string

	chosen  Config
	values  Config
	origins map[string]Origin
}

// Prompt is the texts that come before a conversation, with their placeholders replaced.
type Prompt struct {
	// Identity replaces what the system message says the model is; empty leaves it.
	Identity string
	// Date is what the model is told the date is, KnowledgeCutoff where its knowledge ends.
	Date, KnowledgeCutoff string
	// Developer is the developer message; empty means none.
	Developer string
	// Greeting is the first message of a new conversation, said by the model; empty means
	// none.
	Greeting string
	// Examples are dialogues that come before the conversation.
	Examples [][]ExampleTurn
	// Assistant is what the model is called.
	Assistant string
	// Placeholders are for user messages.
	Placeholders Placeholders
	// Now is when the conversation began, or the time that it is to seem to be.
	Now time.Time
}

// Reasoning is how much a model is to think.
type Reasoning struct {
	// Effort is low, medium or high.
	Effort string
	// Budget is the most tokens that one answer's reasoning may have, always fewer than
	// MaxTokens: reasoning cannot eat the answer.
	Budget int
}

// Context bounds prompts.
type Context struct {
	// MaxTokens is the most that a prompt may have, the margin taken off and the budget of
	// performance mode applied.
	MaxTokens int
	// Overflow says which messages a longer prompt leaves out.
	Overflow schema.ContextOverflow
	// MaxKVSize bounds the cache of keys and values, in tokens; 0 means no bound.
	MaxKVSize int
}

// Repair says how often a bad answer is asked for again.
type Repair struct{ Attempts int }

// Display bounds what is shown, in characters; what is kept and what the model reads is
// whole.
type Display struct{ Thinking, Response int }

// Folders are those of files; empty means the platform's.
type Folders struct{ Logs, Chats, Models string }

// Log says what is written about each turn.
type Log struct{ Memory, Timing bool }

// Seed makes answers repeatable.
type Seed struct {
	// Value is the seed; a negative one is none.
	Value int64
	// EachTurn gives each turn the same one.
	EachTurn bool
}

// maxSeed is the greatest integer that every JSON reader keeps.
const maxSeed = 1<<53 - 1

// For is the seed of an attempt of a turn, both from 0; nil means a random one. The first
// turn has the seed itself; another attempt, or another turn unless EachTurn is set, has
// one that follows from it, since the same draws would do the same again.
func (s Seed) For(turn, attempt int) *int64 {
	if s.Value < 0 {
		return nil
	}
	if s.EachTurn {
		turn = 0
	}
	seed := s.Value
	if turn > 0 || attempt > 0 {
		// SplitMix64, whose outputs for different inputs have nothing in common.
		x := uint64(seed) + 0x9e3779b97f4a7c15*(uint64(turn)<<8+uint64(attempt)+1)
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		seed = int64((x ^ x>>31) & maxSeed)
	}
	return &seed
}

// Origin says where a value came from.
type Origin struct {
	Source schema.SettingSource
	// Name is the file or profile, where the source is one.
	Name string
}

func (o Origin) String() string {
	if o.Name == "" {
		return string(o.Source)
	}
	return string(o.Source) + " " + o.Name
}

// Origin says where the value of a key came from.
func (s *Settings) Origin(key string) Origin { return s.origins[key] }

// List is the value of each key that has an effect, in the order of Config.
func (s *Settings) List() []schema.Setting {
	var list []schema.Setting
	for _, k := range keys {
		if k.Refused != "" {
			continue
		}
		origin := s.origins[k.Name]
		row := schema.Setting{Key: k.Name, Source: cmp.Or(origin.Source, schema.FromDefault), Name: origin.Name, When: k.When}
		if s.values.has(k) {
			row.Value = k.value(&s.values)
		}
		list = append(list, row)
	}
	return list
}

// Hyperparameters is a JSON object of the keys that take effect with the next turn and that
// someone gave a value, as a log of conversations keeps it and SavedChat takes it. It does
// not have what a model, a default, performance mode or a deterministic time put in their
// places: another model, or a day without them, is not to inherit that.
func (s *Settings) Hyperparameters() json.RawMessage {
	text, err := schema.Encode(s.chosen)
	if err != nil {
		panic(err) // numbers and texts that were read from JSON
	}
	return text
}

// settings makes Settings of values, all of which are there but for those whose absence
// says something.
func settings(v Config, now time.Time) (Settings, error) {
	own, err := readPlaceholders(v.Placeholders)
	if err != nil {
		return Settings{}, err
	}
	p := newPlaceholders(own, now)
	expand := func(text *string) string { return p.Expand(or(text, "")) }
	s := Settings{
		Prompt: Prompt{
			Identity: expand(v.SystemModelIdentity), KnowledgeCutoff: expand(v.KnowledgeCutoff), Date: expand(v.ConversationStartDate),
			Developer: expand(v.DeveloperInstructions), Greeting: expand(v.AssistantGreeting),
			Assistant: cmp.Or(own["assistant"], "Assistant"), Placeholders: p, Now: now,
		},
		Reasoning: Reasoning{Effort: or(v.ReasoningEffort, ""), Budget: or(v.ReasoningBudget, 0)},
		Sampling: schema.Sampling{
			Temperature: v.Temperature, TopP: v.TopP, TopK: v.TopK, MinP: v.MinP, MinTokensToKeep: v.MinTokensToKeep,
			XTCProbability: v.XTCProbability, XTCThreshold: v.XTCThreshold,
			RepetitionPenalty: v.RepetitionPenalty, RepetitionContextSize: v.RepetitionContextSize,
			PresencePenalty: v.PresencePenalty, PresenceContextSize: v.PresenceContextSize,
			FrequencyPenalty: v.FrequencyPenalty, FrequencyContextSize: v.FrequencyContextSize,
			LogitBias: or(v.LogitBias, nil),
		},
		XTCSpecialTokens: or(v.XTCSpecialTokens, nil),
		Seed:             Seed{or(v.Seed, -1), or(v.ReseedEachTurn, false)},
		MaxTokens:        or(v.MaxTokens, 0),
		Context: Context{
			MaxTokens: or(v.MaxContextTokens, 0), Overflow: schema.ContextOverflow(or(v.ContextOverflow, "")), MaxKVSize: or(v.MaxKVSize, 0),
		},
		Stop: or(v.Stop, nil), EndTokens: or(v.EndTokenStrings, nil),
		LoopDetection: or(v.LoopDetection, ""),
		MaxToolRounds: or(v.MaxToolIterations, 0),
		Repair:        Repair{or(v.MaxResumeAttempts, 0)},
		Display:       Display{or(v.TruncateThinking, 0), or(v.TruncateResponse, 0)},
		Folders:       Folders{home(or(v.LogsDir, "")), home(or(v.ChatsDir, "")), home(or(v.ModelsDir, ""))},
		Log:           Log{or(v.LogMemoryStats, false), or(v.LogTimingStats, false)},
		Performance:   or(v.PerformanceMode, false),
	}
	for _, dialogue := range or(v.ExampleDialogues, nil) {
		var expanded []ExampleTurn
		for _, turn := range dialogue {
			turn.Content = p.Expand(turn.Content)
			expanded = append(expanded, turn)
		}
		s.Prompt.Examples = append(s.Prompt.Examples, expanded)
	}
	// In mlx-harmony's files 0 is off as well as 1; to the wire 0 is no divisor.
	if v.RepetitionPenalty != nil && *v.RepetitionPenalty == 0 {
		s.Sampling.RepetitionPenalty = ptr(1.0)
	}
	return s, nil
}

func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

func ptr[T any](v T) *T { return &v }
