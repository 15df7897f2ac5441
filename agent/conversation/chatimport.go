package conversation

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"harmonyd/schema"
)

// repairMessages gives each message an id, a parent, a cache key and a time, and checks
// the rest. It returns the time of the newest.
func (c *chat) repairMessages(r *Report) (newest time.Time, err error) {
	ids := map[string]bool{}
	last, before := "", time.Time{}
	for i := range c.messages {
		m, what := &c.messages[i], fmt.Sprintf("chat %s: message %d: ", c.id, i)
		if role := strings.ToLower(m.text("role")); titles[schema.Role(role)] == "" {
			return newest, fmt.Errorf("%srole: got %s, want system, developer, user, assistant or tool", what, clip(m.get("role")))
		}
		for _, name := range []string{"content", "analysis", "name"} {
			if v := m.get(name); v != nil && kind(v) != '"' {
				return newest, fmt.Errorf("%s%s: got %s, want a string", what, name, clip(v))
			}
		}
		id := m.text("id")
		if id == "" || ids[id] {
			id = newMessageID()
			if old := m.get("id"); old != nil {
				add(&r.Warnings, "%sid: %s is none, or taken; it became %s", what, clip(old), id)
				m.set("original_id", old)
			} else {
				add(&r.Added, "%sid", what)
			}
			m.set("id", jsonString(id))
		}
		c.repairParent(m, what, last, ids, r)
		if m.get("cache_key") == nil {
			m.set("cache_key", jsonString(id))
			add(&r.Added, "%scache_key", what)
		}
		at, ok := parseTime(m.get("timestamp"))
		if !ok {
			// That of the message before it keeps the order; mlx-harmony does not load
			// one that has none.
			at = before
			if at.IsZero() {
				if at, ok = parseTime(c.metadata.get("created_at")); !ok {
					at = time.Now()
				}
				ok = false
			}
			if old := m.get("timestamp"); old != nil {
				add(&r.Warnings, "%stimestamp: %s is no time", what, clip(old))
				m.set("original_timestamp", old)
			} else {
				add(&r.Added, "%stimestamp", what)
			}
		}
		if !ok || kind(m.get("timestamp")) != '{' {
			if ok {
				add(&r.Changes, "%stimestamp: %s became an object", what, clip(m.get("timestamp")))
			}
			m.set("timestamp", formatTime(at))
		}
		ids[id], last, before = true, id, at
		if at.After(newest) {
			newest = at
		}
	}
	c.syncHyperparameters(r)
	return newest, nil
}

// repairParent makes a message follow one that is before it: the last, where it does not
// say.
func (c *chat) repairParent(m *object, what, last string, ids map[string]bool, r *Report) {
	old := m.get("parent_id")
	if parent := m.text("parent_id"); parent != "" && ids[parent] || old == nil && last == "" {
		if old == nil && !slices.ContainsFunc(*m, func(x objectMember) bool { return x.name == "parent_id" }) {
			m.set("parent_id", json.RawMessage("null"))
			add(&r.Added, "%sparent_id", what)
		}
		return
	}
	if old == nil {
		add(&r.Added, "%sparent_id", what)
	} else {
		add(&r.Warnings, "%sparent_id: %s is no message before it", what, clip(old))
		m.set("original_parent_id", old)
	}
	if last == "" {
		m.set("parent_id", json.RawMessage("null"))
	} else {
		m.set("parent_id", jsonString(last))
	}
}

// syncHyperparameters makes last_hyperparameters those that the turns say.
func (c *chat) syncHyperparameters(r *Report) {
	now := object{}
	for _, m := range c.messages {
		now.merge(m.get("hyperparameters"))
	}
	old := c.metadata.get("last_hyperparameters")
	if len(now) == 0 || old != nil && sameJSON(old, now.json()) {
		return
	}
	if old == nil {
		add(&r.Added, "chat %s: metadata.last_hyperparameters", c.id)
	} else {
		add(&r.Warnings, "chat %s: metadata.last_hyperparameters: %s is not that of the last turn", c.id, old)
	}
	c.metadata.set("last_hyperparameters", now.json())
}

func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	one, _ := json.Marshal(x) // with sorted members
	two, _ := json.Marshal(y)
	return string(one) == string(two)
}

// Imported is a foreign conversation, ready to be stored.
type Imported struct {
	Header  Header
	Entries []Entry
}

// What mlx-harmony stores as the content of an answer that had none.
var noAnswer = []string{"[Analysis only - no final response]", "[No final response - see thinking above]"}

// Conversations are the chats as conversations, named title. Everything that was in the
// file is in them: what has no place of its own stands in Origin and Extra.
func (l *ChatLog) Conversations(title string) []Imported {
	all := make([]Imported, len(l.chats))
	for i, c := range l.chats {
		file := append(object{}, l.root...)
		file.drop("chats")
		entry := append(object{}, c.entry...)
		entry.drop("metadata")
		entry.drop("messages")
		file.set("chat", entry.json())
		h := Header{Title: title, Origin: &Origin{
			Format: "mlx-harmony chat log", Metadata: c.metadata.raw(), Extra: file.raw(), Repairs: l.Report.Lines(),
		}}
		if len(l.chats) > 1 {
			h.Title += " (" + c.id + ")"
		}
		h.Created, _ = parseTime(c.metadata.get("created_at"))
		all[i] = Imported{h, c.entries()}
	}
	return all
}

// entries turns the messages into entries of a log.
func (c *chat) entries() []Entry {
	settings := object{}
	if !slices.ContainsFunc(c.messages, func(m object) bool { return m.get("hyperparameters") != nil }) {
		settings.merge(c.metadata.get("hyperparameters"))
	}
	ids := map[string]string{"": Root} // in the log, by those in the file
	entries := make([]Entry, len(c.messages))
	for i, m := range c.messages {
		// Each turn says what differs from the one before.
		settings.merge(m.get("hyperparameters"))
		extra := append(object{}, m...)
		e := Entry{ID: m.text("id"), Parent: ids[m.text("parent_id")]}
		if !validID(e.ID) {
			e.ID = newMessageID()
		} else {
			extra.drop("id")
			extra.drop("parent_id")
		}
		ids[m.text("id")] = e.ID
		if m.text("cache_key") == m.text("id") {
			extra.drop("cache_key")
		}
		e.Time, _ = parseTime(m.get("timestamp"))
		e.Message = c.message(m, &extra)
		if e.Message.Role == schema.RoleAssistant {
			e.Turn = &Turn{
				Model: c.metadata.text("model_path"), PromptConfig: c.metadata.text("prompt_config_path"),
				Hyperparameters: append(object{}, settings...).raw(),
			}
		}
		e.Extra = extra.raw()
		entries[i] = e
	}
	return entries
}

// message is a message of a chat. What it holds is dropped from extra.
func (c *chat) message(m object, extra *object) schema.Message {
	msg := schema.Message{Role: schema.Role(strings.ToLower(m.text("role"))), Name: m.text("name")}
	if string(msg.Role) == m.text("role") {
		extra.drop("role")
	}
	content, analysis := m.text("content"), m.text("analysis")
	if analysis != "" {
		msg.Content = append(msg.Content, schema.Part{Type: schema.PartReasoning, Text: analysis})
	}
	none := slices.Contains(noAnswer, content) && msg.Role == schema.RoleAssistant
	if content != "" && !none { // those words stay in extra, for no model should read them
		msg.Content = append(msg.Content, schema.Part{Type: schema.PartText, Text: content})
	}
	for name, text := range map[string]string{"name": msg.Name, "analysis": analysis, "content": content} {
		// Halves of surrogate pairs, which are no text, stay in extra too.
		if !strings.ContainsRune(text, utf8.RuneError) && !(none && name == "content") {
			extra.drop(name)
		}
	}
	return msg
}

// Import stores a foreign conversation under a new id, all of it or nothing.
func (s *Store) Import(c Imported) (id string, err error) {
	l := Log{Conversation: Conversation{index: &index{byID: map[string]int{}}}}
	_, text, err := l.encode(c.Entries, &index{byID: map[string]int{}})
	if err != nil {
		return "", fmt.Errorf("import: %w", err)
	}
	made, err := s.create(c.Header, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
	if err != nil {
		return "", err
	}
	return made.Header().ID, made.Close()
}
