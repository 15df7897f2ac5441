package terminal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"harmonyd/schema"
)

// chatAction is something that a person can say to the program in a chat.
type chatAction struct {
	names    []string // the first is the one that is shown
	argument string   // what it may be followed by, for the help
	help     string
	// exact takes the name only as it is written: what follows \set has capitals too.
	exact bool
	do    func(t *chat, ctx context.Context, argument string) error
}

// chatActions are in the order of the help.
func chatActions() []chatAction {
	return []chatAction{
		{names: []string{"help", "?"}, help: "list the commands", do: (*chat).help},
		{names: []string{"list", "show"}, argument: "[all]", help: "show the settings in force and where they come from", do: (*chat).list},
		{names: []string{"set"}, exact: true, argument: "NAME=VALUE", help: "change a setting from the next turn on", do: (*chat).setOne},
		{names: []string{"models"}, help: "list the installed models", do: (*chat).listModels},
		{names: []string{"model"}, argument: "NAME", help: "go on with another model", do: (*chat).changeModel},
		{names: []string{"save"}, argument: "[FILE]", help: "write the conversation to a file, as JSON where it ends in .json, else as Markdown", do: (*chat).save},
		{names: []string{"load"}, argument: "[ID]", help: "go on with another conversation", do: (*chat).loadOther},
		{names: []string{"reset"}, help: "begin a new conversation", do: (*chat).reset},
		{names: []string{"quit", "exit", "q"}, help: "leave, as q and Ctrl-D do", do: (*chat).quit},
	}
}

// parseCommand takes what a person says apart. A command begins with a backslash or a
// slash and a word; q alone is one. What begins with two backslashes is a message that
// begins with one; a path is a message. Otherwise argument is the message.
func parseCommand(text string) (name, argument string, isCommand bool) {
	trimmed := strings.TrimSpace(text)
	switch {
	case strings.EqualFold(trimmed, "q"):
		return "quit", "", true
	case strings.HasPrefix(text, `\\`):
		return "", text[1:], false
	case !strings.HasPrefix(text, `\`) && !strings.HasPrefix(text, "/"), strings.ContainsRune(trimmed, '\n'):
		return "", text, false
	}
	name, argument, _ = strings.Cut(trimmed[1:], " ")
	word := strings.IndexFunc(name, func(r rune) bool { return !unicode.IsLetter(r) }) < 0 || name == "?"
	if text[0] == '/' && (!word || name == "") {
		return "", text, false
	}
	return name, strings.TrimSpace(argument), true
}

// command carries a command out.
func (t *chat) command(ctx context.Context, name, argument string) error {
	for _, a := range chatActions() {
		for _, n := range a.names {
			if n != name && (a.exact || !strings.EqualFold(n, name)) {
				continue
			}
			if argument != "" && a.argument == "" {
				return fmt.Errorf(`\%s takes no argument, got %q`, a.names[0], argument)
			}
			return a.do(t, ctx, argument)
		}
	}
	hint := ""
	if near := nearestAction(name); near != "" {
		hint = fmt.Sprintf(`; did you mean \%s?`, near)
	}
	return fmt.Errorf(`there is no command \%s%s \help lists them. A message that begins with a backslash is sent with two`, name, cmp.Or(hint, "."))
}

// nearestAction is the name that a mistyped one may mean.
func nearestAction(name string) string {
	tree := new(cobra.Command)
	for _, a := range chatActions() {
		tree.AddCommand(&cobra.Command{Use: a.names[0], Run: func(*cobra.Command, []string) {}})
	}
	for tree.SuggestionsMinimumDistance = 1; tree.SuggestionsMinimumDistance < 3; tree.SuggestionsMinimumDistance++ {
		if near := tree.SuggestionsFor(strings.ToLower(name)); len(near) > 0 {
			return near[0]
		}
	}
	return ""
}

// complete completes the name of a command, or that of a setting behind \set.
func (t *chat) complete(line string) (ways []string) {
	if !strings.HasPrefix(line, `\`) && !strings.HasPrefix(line, "/") {
		return nil
	}
	if before, name, ok := strings.Cut(line, " "); ok {
		for _, n := range t.settingNames() {
			if before[1:] == "set" && strings.HasPrefix(n, name) {
				ways = append(ways, before+" "+n+"=")
			}
		}
		return ways
	}
	for _, a := range chatActions() {
		if way := line[:1] + a.names[0]; strings.HasPrefix(way, strings.ToLower(line)) {
			if a.argument != "" {
				way += " "
			}
			ways = append(ways, way)
		}
	}
	return ways
}

func (t *chat) help(context.Context, string) error {
	var lines []string
	for _, a := range chatActions() {
		lines = append(lines, fmt.Sprintf(`  \%-22s %s`, strings.TrimSpace(a.names[0]+" "+a.argument), a.help))
	}
	t.view.print(append(lines, "",
		`A slash does as well as the backslash. A message that begins with a backslash is sent with two.`,
		`Shift-Enter, Alt-Enter and Ctrl-J begin another line; so does a backslash at the end of one.`,
		`Ctrl-C ends an answer, twice within a second the chat. Up and Down go through what was said.`)...)
	return nil
}

func (t *chat) listModels(ctx context.Context, _ string) error {
	r, err := t.agent.Models(ctx)
	if err != nil {
		return err
	}
	if len(r.Models) == 0 {
		t.view.print("No model is installed. Fetch one: harmonyd pull mlx-community/NAME")
		return nil
	}
	var lines []string
	for _, m := range r.Models {
		mark, about := " ", fmt.Sprintf("%s, %s", m.State, bytesText(m.SizeBytes))
		if m.ID == t.model {
			mark = "*"
		}
		if m.Problem != "" {
			about = "unusable: " + m.Problem
		}
		lines = append(lines, fmt.Sprintf("%s %s  (%s)", mark, printable(m.ID), printable(about)))
	}
	t.view.print(lines...)
	return nil
}

func (t *chat) changeModel(ctx context.Context, name string) error {
	if name == "" {
		t.view.print("The model is " + t.model + `. \models lists the others.`)
		return nil
	}
	before := t.model
	t.model = name
	if err := t.loadModel(ctx); err != nil {
		t.model = before
		return err
	}
	t.view.remark("The model is " + t.model + " now.")
	return nil
}

// save writes the conversation to a file, or says that it is kept.
func (t *chat) save(_ context.Context, file string) error {
	switch {
	case !t.keep:
		return errors.New("this conversation is not kept: start without --no-keep")
	case file == "":
		t.view.print(fmt.Sprintf(`Conversation %s is kept as it is said; harmonyd chat --resume %s goes on with it.`, t.id, t.id))
		return nil
	}
	format := ExportMarkdown
	if strings.EqualFold(filepath.Ext(file), ".json") {
		format = ExportJSON
	}
	text, err := exported(t.commands, t.options, t.id, format)
	if err != nil {
		return err
	}
	if err := replaceFile(file, text); err != nil {
		return err
	}
	t.view.print(fmt.Sprintf("Wrote %s, %s.", file, bytesText(int64(len(text)))))
	return nil
}

// loadOther goes on with another conversation: a kept one, or one of an mlx-harmony log,
// which is imported.
func (t *chat) loadOther(ctx context.Context, what string) error {
	id := what
	if st, err := os.Stat(what); err == nil && !st.IsDir() {
		if id, err = t.importLog(what); err != nil {
			return err
		}
	} else if id, err = t.chooseConversation(ctx, what); err != nil {
		return err
	}
	if err := t.load(ctx, id); err != nil {
		return err
	}
	if err := t.loadModel(ctx); err != nil {
		return err
	}
	t.set = nil // which was about the one before
	t.show()
	return nil
}

func (t *chat) importLog(file string) (id string, err error) {
	log, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	s, err := t.commands.Conversations(t.options)
	if err != nil {
		return "", err
	}
	ids, report, err := s.ImportChat(log, strings.TrimSuffix(filepath.Base(file), filepath.Ext(file)))
	for _, line := range report {
		t.view.remark(line)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	if len(ids) == 0 {
		return "", fmt.Errorf("%s: holds no chat", file)
	}
	return ids[len(ids)-1], nil
}

// listed is how many conversations a person is shown to choose from.
const listed = 9

// chooseConversation is the conversation whose id begins so, or the last one where
// --continue asks for it, or the one that a person chooses.
func (t *chat) chooseConversation(ctx context.Context, prefix string) (string, error) {
	if prefix != "" {
		s, err := t.commands.Conversations(t.options)
		if err != nil {
			return "", err
		}
		return s.Resolve(prefix)
	}
	r, err := t.agent.ListSessions(ctx, schema.SessionListParams{Limit: listed + 1})
	if err != nil {
		return "", err
	}
	var rows []schema.SessionInfo
	for _, s := range r.Sessions {
		if s.SessionID != t.id && len(rows) < listed {
			rows = append(rows, s)
		}
	}
	switch {
	case len(rows) == 0:
		return "", errors.New("no other conversation is kept")
	case t.flags.last && t.id == "":
		return rows[0].SessionID, nil
	case !t.view.interactive():
		return "", errors.New("which conversation? Name one; harmonyd sessions lists them")
	}
	var lines []string
	keys := ""
	for i, s := range rows {
		keys += fmt.Sprint(i + 1)
		title, _ := shortTo(s.Title, 30)
		lines = append(lines, fmt.Sprintf("%d  %s  %s  %s", i+1, s.SessionID, s.Updated.Local().Format("2006-01-02 15:04"), printable(title)))
	}
	t.view.print(lines...)
	key, err := t.reader.Choose(ctx, "Which one?", keys)
	if err != nil {
		return "", err
	}
	if key == 0 {
		return "", errors.New("none was chosen")
	}
	return rows[key-'1'].SessionID, nil
}

func (t *chat) reset(ctx context.Context, _ string) error {
	before := t.id
	if err := t.start(ctx); err != nil {
		return err
	}
	if t.keep {
		t.view.remark(fmt.Sprintf(`A new conversation, %s. \load %s goes back.`, t.id, before))
	} else {
		t.view.remark("A new conversation.")
	}
	t.show()
	return nil
}

func (t *chat) quit(context.Context, string) error {
	t.leave = true
	return nil
}

// showEnd shows the last answer of a conversation that is taken up again, and what it
// answers, cut to as many characters as are to be shown.
func (t *chat) showEnd(messages []schema.Message) {
	question, answer := "", ""
	for _, m := range messages {
		switch {
		case m.Role == schema.RoleUser:
			question, answer = m.Content.Text(), ""
		case m.Role == schema.RoleAssistant && m.Content.Text() != "":
			answer = m.Content.Text()
		}
	}
	if question != "" {
		text, _ := shortTo(question, t.display.Response)
		t.view.remark("> " + text)
	}
	if answer != "" {
		text, note := shortTo(answer, t.display.Response)
		t.view.whole(t.assistant, text)
		if note != "" {
			t.view.remark(note)
		}
	}
}

// shortTo is text of at most so many characters, and a note where it is cut.
func shortTo(text string, most int) (short, note string) {
	runes := []rune(text)
	if len(runes) <= most {
		return text, ""
	}
	return strings.TrimSpace(string(runes[:most])) + "…", fmt.Sprintf("(%d of %d characters)", most, len(runes))
}
