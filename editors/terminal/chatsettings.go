package terminal

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"harmonyd/schema"
)

// settingFlags are the flags for the keys of a prompt config.
type settingFlags struct {
	sampling                schema.Sampling
	maxTokens, maxContext   *int
	effort, loop            string
	reseed, performanceMode bool
	others                  []string
}

func (s *settingFlags) add(cmd *cobra.Command) {
	addSamplingFlags(cmd, &s.sampling)
	fl := cmd.Flags()
	fl.VarP(optional[int]{&s.maxTokens}, "max-tokens", "n", "most tokens of an answer")
	fl.Var(optional[int]{&s.maxContext}, "max-context-tokens", "most tokens of a prompt")
	fl.StringVar(&s.effort, "reasoning-effort", "", "how much to think: low, medium or high")
	fl.StringVar(&s.loop, "loop-detection", "", "how to look for answers that repeat themselves: off, cheap or full")
	fl.BoolVar(&s.reseed, "reseed-each-turn", false, "begin each turn with the same --seed")
	fl.BoolVar(&s.performanceMode, "performance-mode", false, "have the perf_ keys of the prompt config count")
	fl.StringArrayVar(&s.others, "set", nil, "set a key of a prompt config, as in `key=value`; may be repeated")
}

// object is the flags that were given as a JSON object of keys.
func (s *settingFlags) object() (json.RawMessage, error) {
	text, err := schema.Encode(s.sampling)
	if err != nil {
		return nil, err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return nil, err
	}
	keys := map[string]any{}
	for name, value := range members {
		keys[strings.ReplaceAll(flagOf("/"+name), "-", "_")] = value
	}
	for name, value := range map[string]*int{"max_tokens": s.maxTokens, "max_context_tokens": s.maxContext} {
		if value != nil {
			keys[name] = *value
		}
	}
	for name, value := range map[string]string{"reasoning_effort": s.effort, "loop_detection": s.loop} {
		if value != "" {
			keys[name] = value
		}
	}
	for name, value := range map[string]bool{"reseed_each_turn": s.reseed, "performance_mode": s.performanceMode} {
		if value {
			keys[name] = value
		}
	}
	for _, one := range s.others {
		name, value, err := setting(one)
		if err != nil {
			return nil, fmt.Errorf("--set: %w", err)
		}
		keys[name] = value
	}
	return schema.Encode(keys)
}

// configFlags say which prompt config counts.
type configFlags struct{ promptConfig, profile, profilesFile string }

func (f *configFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.promptConfig, "prompt-config", "", "`file` of a prompt config, or its name in the folder of configurations")
	fl.StringVar(&f.profile, "profile", "", "`name` of a profile: a model and a prompt config")
	fl.StringVar(&f.profilesFile, "profiles-file", "", "`file` of the profile (default profiles.json)")
}

// session is a request for a session with the prompt config and settings.
func (f *configFlags) session(settings json.RawMessage) schema.SessionNewParams {
	return schema.SessionNewParams{PromptConfig: f.promptConfig, Profile: f.profile, ProfilesFile: f.profilesFile, Settings: settings}
}

// begin are the options of a program that begins with the folders that the prompt config
// and settings name. What the command line and the environment say goes before.
func (f *configFlags) begin(c Commands, o Options, settings json.RawMessage) (Options, error) {
	folders, err := c.Folders(o, f.session(settings))
	if err != nil {
		return o, err
	}
	o.Folders = folders
	o.ModelsRoot = cmp.Or(o.ModelsRoot, folders.Models)
	o.ConversationsRoot = cmp.Or(o.ConversationsRoot, folders.Chats)
	if folders.Logs != "" && o.LogFile == "" {
		if err := os.MkdirAll(folders.Logs, 0o700); err != nil {
			return o, fmt.Errorf("logs_dir: %w", err)
		}
		o.LogFile = filepath.Join(folders.Logs, "harmonyd.log")
	}
	return o, nil
}

// setting takes name=value apart. The agent reads numbers and truth values from strings,
// so that only lists and objects have to be JSON.
func setting(text string) (name string, value json.RawMessage, err error) {
	name, written, ok := strings.Cut(text, "=")
	name, written = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(written)
	if !ok || name == "" {
		return "", nil, fmt.Errorf("got %q, want name=value, as in temperature=0.7", text)
	}
	if strings.HasPrefix(written, "[") || strings.HasPrefix(written, "{") {
		if json.Valid([]byte(written)) {
			return name, json.RawMessage(written), nil
		}
	}
	return name, schema.AppendString(nil, strings.ToValidUTF8(written, "\uFFFD")), nil
}

// setOne changes a setting from the next turn on.
func (t *chat) setOne(ctx context.Context, argument string) error {
	name, value, err := setting(argument)
	if err != nil {
		return err
	}
	if name == "stats" {
		return t.setStats(schema.Unquote(value))
	}
	next := maps.Clone(t.set)
	if next == nil {
		next = map[string]json.RawMessage{}
	}
	next[name] = value
	object, err := schema.Encode(next)
	if err != nil {
		return err
	}
	r, err := t.agent.SessionSettings(ctx, schema.SessionSettingsParams{SessionID: t.id, Settings: object})
	if err != nil {
		return err
	}
	for _, w := range r.Warnings {
		t.view.remark(w)
	}
	t.set = next
	for _, s := range r.Settings {
		if s.Key == name {
			t.view.print(fmt.Sprintf("%s = %s", s.Key, settingText(s.Value)))
		}
	}
	t.display = displayOf(r.Settings, t.display)
	return nil
}

func (t *chat) setStats(value string) error {
	switch strings.ToLower(value) {
	case "on", "true", "yes", "1":
		t.flags.quiet = false
	case "off", "false", "no", "0":
		t.flags.quiet = true
	default:
		return fmt.Errorf("stats: got %q, want on or off", value)
	}
	return nil
}

// displayOf is what settings say of how much is shown.
func displayOf(all []schema.Setting, d schema.Display) schema.Display {
	for _, s := range all {
		switch s.Key {
		case "truncate_thinking":
			_ = json.Unmarshal(s.Value, &d.Thinking) // it is a number
		case "truncate_response":
			_ = json.Unmarshal(s.Value, &d.Response)
		}
	}
	return d
}

// turnSettings is what goes along with a turn.
func (t *chat) turnSettings() json.RawMessage {
	if len(t.set) == 0 {
		return nil
	}
	object, err := schema.Encode(t.set)
	if err != nil {
		panic(err) // of values that were encoded before
	}
	return object
}

// list shows the settings that someone gave a value, or all.
func (t *chat) list(ctx context.Context, what string) error {
	all := strings.EqualFold(what, "all")
	if what != "" && !all {
		return fmt.Errorf(`\list shows all settings with \list all; got %q`, what)
	}
	r, err := t.agent.SessionSettings(ctx, schema.SessionSettingsParams{SessionID: t.id, Settings: t.turnSettings()})
	if err != nil {
		return err
	}
	var lines []string
	width := 0
	for _, s := range r.Settings {
		width = max(width, len(s.Key))
	}
	for _, s := range r.Settings {
		if len(s.Value) == 0 || string(s.Value) == "null" || s.When == schema.WhenSession && s.Source == schema.FromDefault && !all {
			continue
		}
		from := string(s.Source)
		if s.Name != "" {
			from += " " + s.Name
		}
		lines = append(lines, fmt.Sprintf("%-*s = %s  (%s)", width, s.Key, settingText(s.Value), printable(from)))
	}
	if len(lines) == 0 {
		return errors.New("this conversation has no settings")
	}
	stats := "on"
	if t.flags.quiet {
		stats = "off"
	}
	t.view.print(append(lines, fmt.Sprintf("%-*s = %s  (chat)", width, "stats", stats))...)
	return nil
}

// settingNames are the keys that \set takes.
func (t *chat) settingNames() []string {
	names := []string{"stats"}
	r, err := t.agent.SessionSettings(context.Background(), schema.SessionSettingsParams{SessionID: t.id})
	if err != nil { // of which Tab is no place to tell
		return names
	}
	for _, s := range r.Settings {
		if s.When == schema.WhenTurn {
			names = append(names, s.Key)
		}
	}
	return names
}

// settingText is a value for people, of one line.
func settingText(value json.RawMessage) string {
	text := string(value)
	var s string
	if json.Unmarshal(value, &s) == nil && s != "" {
		text = s
	}
	return printable(inShort(text))
}
