package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"harmonyd/agent/conversation"
	"harmonyd/agent/profile"
	"harmonyd/schema"
)

// defaultProfiles is the file of a profile that is named without one.
const defaultProfiles = "profiles.json"

// configuration is what a session was opened with. Each of its turns makes the settings
// of it that count for that turn, since they depend on the model.
type configuration struct {
	file     profile.Config // the prompt config
	fileName string
	profile  profile.Profile
	// profileName and profilesFile are kept where the profile is gone: it may come back.
	profileName, profilesFile string
	named                     bool // the profile, by who opens the session now
	request                   profile.Config
	saved                     profile.SavedChat
	began                     time.Time // when the conversation did
	warnings                  []string
}

// wanted is what a client says of the settings of a session.
type wanted struct {
	promptConfig, profile, profilesFile string
	settings                            json.RawMessage
}

func (w wanted) nothing() bool {
	return w.promptConfig == "" && w.profile == "" && len(w.settings) == 0
}

// former is how a conversation was held before.
type former struct {
	saved                 profile.SavedChat
	profile, profilesFile string
	configured            bool
}

// configure reads the files that a session names. Where a conversation is taken up again,
// what a file of then lacks now is a warning, for the conversation is to go on.
func (a *Agent) configure(w wanted, then former, began time.Time) (*configuration, error) {
	c := &configuration{
		saved: then.saved, began: began, named: w.profile != "",
		profileName: cmp.Or(w.profile, then.profile), profilesFile: w.profilesFile,
	}
	var err error
	if len(w.settings) > 0 {
		if c.request, err = profile.ReadRequest(w.settings); err != nil {
			return nil, settingsError("/settings", err)
		}
	}
	if !c.named {
		c.profilesFile = cmp.Or(c.profilesFile, then.profilesFile)
	}
	if c.profileName != "" {
		if err := c.readProfile(c.profileName, cmp.Or(c.profilesFile, defaultProfiles), a.configs); err != nil {
			if c.named {
				return nil, settingsError("/profile", err)
			}
			c.warn("the conversation's profile %s counts no more: %v", c.profileName, err)
		}
	}
	name, origin := profile.ChoosePromptConfig(w.promptConfig, c.before(c.saved.PromptConfig), c.saved)
	if name == "" {
		return c, nil
	}
	c.fileName = name
	var problems []profile.Problem
	if c.file, problems, err = profile.LoadConfig(name, a.configs...); err != nil {
		if origin.Source == schema.FromRequest || origin.Source == schema.FromProfile && c.named {
			return nil, settingsError("/promptConfig", err)
		}
		c.warn("the conversation's prompt config counts no more: %v", err)
	}
	c.tell(problems)
	return c, nil
}

// before is the profile where it goes before what the conversation had, if it had something:
// one that nobody names now goes behind it.
func (c *configuration) before(had string) profile.Profile {
	if !c.named && had != "" {
		return profile.Profile{}
	}
	return c.profile
}

// model is the model of a session that is opened with a name, or none.
func (c *configuration) model(request string) string {
	model, _ := profile.ChooseModel(request, c.before(c.saved.Model), c.saved)
	return model
}

func (c *configuration) readProfile(name, file string, folders []string) error {
	all, problems, err := profile.LoadProfiles(file, folders...)
	if err != nil {
		return err
	}
	c.tell(problems)
	c.profile, err = all.Named(name)
	return err
}

func (c *configuration) tell(problems []profile.Problem) {
	for _, p := range problems {
		c.warnings = append(c.warnings, p.String())
	}
}

func (c *configuration) warn(format string, args ...any) {
	c.warnings = append(c.warnings, fmt.Sprintf(format, args...))
}

// resolve makes the settings for a model. A nil one is not known yet.
func (c *configuration) resolve(m *opened, turn profile.Config) (profile.Settings, error) {
	in := profile.Input{
		Request: c.request.Merge(turn), Saved: c.saved, PromptConfig: c.file, PromptConfigName: c.fileName,
		Profile: c.profile, Now: c.began,
	}
	if m != nil {
		in.Model = profile.Model{ID: m.Info.ID, ContextLength: m.Info.ContextLength, Harmony: m.harmony()}
	}
	s, err := profile.Resolve(in)
	if err != nil {
		return s, settingsError("/settings", err)
	}
	return s, nil
}

// settingsError is the wire's error for settings that cannot count.
func settingsError(path string, err error) error {
	var bad *profile.Error
	if !errors.As(err, &bad) {
		return schema.InvalidParam(path, "%v", err)
	}
	e := schema.Errorf(schema.KindInvalidParams, "%s", strings.TrimPrefix(path, "/")+": "+bad.Problems[0].String())
	for _, p := range bad.Problems {
		at := path
		if p.File == "" && p.Key != "" {
			at += "/" + strings.ReplaceAll(p.Key, ".", "/")
			p.Key = ""
		}
		e.Data.Errors = append(e.Data.Errors, schema.FieldError{InstancePath: at, Message: p.String()})
	}
	return e
}

// Folders are those that settings name, for a program that is to begin with them: a
// session that is given the same settings then has nothing to say of folders.
func Folders(p schema.SessionNewParams, configs []string) (profile.Folders, error) {
	a := &Agent{configs: configs}
	c, err := a.configure(wanted{p.PromptConfig, p.Profile, p.ProfilesFile, p.Settings}, former{}, time.Now())
	if err != nil {
		return profile.Folders{}, err
	}
	s, err := c.resolve(nil, profile.Config{})
	return s.Folders, err
}

// furnish gives a session the settings that are wanted of it.
func (a *Agent) furnish(s *session, w wanted, then former, began time.Time) error {
	c, err := a.configure(w, then, began)
	if err == nil {
		err = s.settle(c, a.folders)
	}
	if err == nil {
		s.model = c.model(s.model)
	}
	return err
}

// settle gives a session its settings and what they bring with them. Open are the folders
// that the program uses.
func (s *session) settle(c *configuration, open profile.Folders) error {
	settings, err := c.resolve(nil, profile.Config{})
	if err != nil {
		return err
	}
	s.config, s.prompt, s.display = c, settings.Prompt, schema.Display(settings.Display)
	// What a session says of the folders of files comes too late.
	for _, f := range [][3]string{
		{"logs_dir", settings.Folders.Logs, open.Logs}, {"chats_dir", settings.Folders.Chats, open.Chats}, {"models_dir", settings.Folders.Models, open.Models},
	} {
		if f[1] != "" && f[1] != f[2] {
			c.warn("%s: %s has no effect on a session: the program has opened its folders before; give it to the program", settings.Origin(f[0]), f[0])
		}
	}
	c.warnings = append(c.warnings, settings.Warnings...)
	return nil
}

// told is what a client is told of the settings of a session.
func (s *session) told() (assistant string, display *schema.Display, warnings []string) {
	if s.config == nil {
		return "", nil, nil
	}
	return s.prompt.Assistant, &s.display, s.config.warnings
}

// configured is the configuration of a turn that brings settings of its own, or none: that
// of its session, where it has one, or one for them alone, which begins now.
func (s *session) configured(own json.RawMessage, now time.Time) *configuration {
	switch {
	case s != nil && s.config != nil:
		return s.config
	case len(own) == 0:
		return nil
	}
	return &configuration{began: now}
}

// greeting is what a new conversation begins with.
func (s *session) greeting() []schema.Message {
	if s.config == nil || s.prompt.Greeting == "" {
		return nil
	}
	return []schema.Message{{Role: schema.RoleAssistant, Content: schema.TextContent(s.prompt.Greeting)}}
}

// formerly is how the entries of a conversation were held last.
func formerly(entries []conversation.Entry) former {
	for _, e := range slices.Backward(entries) {
		if t := e.Turn; t != nil {
			return former{
				profile.SavedChat{Model: t.Model, PromptConfig: t.PromptConfig, Hyperparameters: t.Hyperparameters},
				t.Profile, t.ProfilesFile, t.Configured || t.PromptConfig != "" || t.Profile != "",
			}
		}
	}
	return former{}
}

// SessionSettings says what is in force in a session and why.
func (a *Agent) SessionSettings(ctx context.Context, p schema.SessionSettingsParams) (schema.SessionSettingsResult, error) {
	s, err := a.session(p.SessionID)
	if err != nil {
		return schema.SessionSettingsResult{}, err
	}
	own, err := readTurn(p.Settings)
	if err != nil {
		return schema.SessionSettingsResult{}, err
	}
	m, err := a.open(ctx, s.model)
	if err != nil {
		return schema.SessionSettingsResult{}, wireError(ctx, err)
	}
	r := schema.SessionSettingsResult{Model: m.Info.ID, Settings: []schema.Setting{}}
	c := s.configured(p.Settings, time.Now())
	if c == nil {
		return r, nil
	}
	settings, err := c.resolve(m, own)
	if err != nil {
		return r, err
	}
	r.Settings, r.Warnings = settings.List(), settings.Warnings
	return r, nil
}

// readTurn reads the settings of a turn.
func readTurn(data json.RawMessage) (profile.Config, error) {
	if len(data) == 0 {
		return profile.Config{}, nil
	}
	c, err := profile.ReadTurn(data)
	if err != nil {
		return c, settingsError("/settings", err)
	}
	return c, nil
}

// membersOf are the settings that the members of a request say.
func membersOf(p *schema.GenerateParams) profile.Config {
	s := &p.Sampling
	c := profile.Config{
		Temperature: s.Temperature, TopP: s.TopP, TopK: s.TopK, MinP: s.MinP, MinTokensToKeep: s.MinTokensToKeep,
		XTCProbability: s.XTCProbability, XTCThreshold: s.XTCThreshold, Seed: s.Seed,
		RepetitionPenalty: s.RepetitionPenalty, RepetitionContextSize: s.RepetitionContextSize,
		PresencePenalty: s.PresencePenalty, PresenceContextSize: s.PresenceContextSize,
		FrequencyPenalty: s.FrequencyPenalty, FrequencyContextSize: s.FrequencyContextSize,
	}
	if s.LogitBias != nil {
		bias := s.LogitBias
		c.LogitBias = &bias
	}
	if p.MaxTokens > 0 {
		n := p.MaxTokens
		c.MaxTokens = &n
	}
	if p.MaxRounds > 0 {
		n := max(1, p.MaxRounds-1)
		c.MaxToolIterations = &n
	}
	if p.Stop != nil {
		stop := p.Stop
		c.Stop = &stop
	}
	if p.ContextOverflow != "" {
		policy := string(p.ContextOverflow)
		c.ContextOverflow = &policy
	}
	return c
}
