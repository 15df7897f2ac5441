package conversation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"harmonyd/schema"
)

// ChatLog is a file of chats as mlx-harmony writes it, in that program's schema 2. It
// holds every member of what was read, also those that nobody knows.
type ChatLog struct {
	root  object
	chats []chat // in chat_order
	// Report is what reading put right.
	Report Report
}

// chat is one of the chats, taken apart.
type chat struct {
	id       string
	entry    object // whose metadata and messages are those below
	metadata object
	messages []object
}

// Report says what became different when a chat log was read.
type Report struct {
	// Warnings are inconsistencies, Changes the values that were replaced, with the old
	// ones, Renames the members that have another name now, and Added those that were
	// missing.
	Warnings, Changes, Renames, Added []string
}

// Lines are all of the report, marked.
func (r *Report) Lines() []string {
	var all []string
	for _, part := range []struct {
		mark  string
		lines []string
	}{{"[WARN] ", r.Warnings}, {"changed: ", r.Changes}, {"renamed: ", r.Renames}, {"added: ", r.Added}} {
		for _, l := range part.lines {
			all = append(all, part.mark+l)
		}
	}
	return all
}

func add(to *[]string, format string, args ...any) { *to = append(*to, fmt.Sprintf(format, args...)) }

// chatLogVersion is mlx-harmony's newest schema.
const chatLogVersion = 2

// ReadChatLog reads a chat log of schema 1 or 2. What is missing or inconsistent is put
// right as mlx-harmony does when it loads the file; the report names each case.
func ReadChatLog(data []byte) (*ChatLog, error) {
	l := &ChatLog{}
	var err error
	if l.root, err = parseObject("chat log", data); err != nil {
		return nil, err
	}
	switch v := l.root.get("schema_version"); {
	case v == nil:
		if l.root.get("chats") == nil {
			l.wrapVersion1()
		}
		l.root = append(object{{"schema_version", json.RawMessage("2")}}, l.root...)
		add(&l.Report.Added, "schema_version: 2")
	case string(trimmed(v)) != "2":
		add(&l.Report.Warnings, "schema_version: %s is not known; read as 2", v)
		l.root.set("schema_version", json.RawMessage("2"))
	}
	if err := l.readChats(); err != nil {
		return nil, err
	}
	for i := range l.chats {
		if err := l.chats[i].repair(&l.Report); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// wrapVersion1 makes the one chat of schema 1 the only one of schema 2. Members of the
// file that are not the chat's stay where they are.
func (l *ChatLog) wrapVersion1() {
	metadata, _ := parseObject("metadata", l.root.get("metadata"))
	id := metadata.text("chat_id")
	if id == "" {
		id = newMessageID()
	}
	entry := object{{"chat_id", jsonString(id)}}
	for _, name := range []string{"metadata", "messages"} {
		if v := l.root.get(name); v != nil {
			entry.set(name, v)
		}
		l.root.drop(name)
	}
	l.root.set("chat_order", append(append([]byte{'['}, jsonString(id)...), ']'))
	l.root.set("active_chat_id", jsonString(id))
	l.root.set("chats", object{{id, entry.json()}}.json())
	add(&l.Report.Changes, "schema 1 became the only chat, %s, of schema 2", id)
}

// readChats takes the chats apart and puts their order right.
func (l *ChatLog) readChats() error {
	chats, err := parseObject("chats", l.root.get("chats"))
	if err != nil {
		return err
	}
	if len(chats) == 0 {
		return errors.New("chats: there is none")
	}
	var order []string
	if v := l.root.get("chat_order"); v != nil && json.Unmarshal(v, &order) != nil {
		add(&l.Report.Warnings, "chat_order: %s is no list of ids", v)
	}
	in := map[string]bool{}
	for _, id := range order {
		if chats.get(id) != nil && !in[id] {
			in[id] = true
			if err := l.readChat(id, chats.get(id)); err != nil {
				return err
			}
		} else {
			add(&l.Report.Warnings, "chat_order: %q is no chat, or named twice", id)
		}
	}
	for _, m := range chats {
		if !in[m.name] {
			if err := l.readChat(m.name, m.value); err != nil {
				return err
			}
			add(&l.Report.Added, "chat_order: %s", m.name)
		}
	}
	if active := l.root.text("active_chat_id"); chats.get(active) == nil {
		add(&l.Report.Changes, "active_chat_id: %q became %q", active, l.chats[0].id)
		l.root.set("active_chat_id", jsonString(l.chats[0].id))
	}
	return nil
}

func (l *ChatLog) readChat(id string, raw json.RawMessage) error {
	what := "chat " + id
	entry, err := parseObject(what, raw)
	if err != nil {
		return err
	}
	c := chat{id: id, entry: entry}
	if v := entry.get("metadata"); v != nil {
		if c.metadata, err = parseObject(what+": metadata", v); err != nil {
			return err
		}
	}
	var messages []json.RawMessage
	if v := entry.get("messages"); v != nil {
		if err := json.Unmarshal(v, &messages); err != nil {
			return fmt.Errorf("%s: messages: got %s, want a list", what, clip(v))
		}
	}
	for i, v := range messages {
		m, err := parseObject(fmt.Sprintf("%s: message %d", what, i), v)
		if err != nil {
			return err
		}
		c.messages = append(c.messages, m)
	}
	// They keep their places; JSON puts them in again.
	l.chats = append(l.chats, c)
	return nil
}

// JSON is the log in mlx-harmony's schema 2, two spaces deep.
func (l *ChatLog) JSON() []byte {
	chats, order := object{}, []byte{'['}
	for i, c := range l.chats {
		messages := []byte{'['}
		for n, m := range c.messages {
			if n > 0 {
				messages = append(messages, ',')
			}
			messages = append(messages, m.json()...)
		}
		entry := append(object{}, c.entry...)
		entry.set("metadata", c.metadata.json())
		entry.set("messages", append(messages, ']'))
		chats.set(c.id, entry.json())
		if i > 0 {
			order = append(order, ',')
		}
		order = append(order, jsonString(c.id)...)
	}
	root := append(object{}, l.root...)
	root.set("chat_order", append(order, ']'))
	root.set("chats", chats.json())
	var b bytes.Buffer
	if err := json.Indent(&b, root.json(), "", "  "); err != nil {
		panic(err) // every part of it was scanned
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// repair fills in and puts right what a chat says of itself.
func (c *chat) repair(r *Report) error {
	what := "chat " + c.id + ": "
	meta := &c.metadata
	if v := meta.get("model"); v != nil && meta.get("model_path") == nil {
		meta.drop("model_path")
		c.rename("model", "model_path", r)
	}
	if v := meta.get("prompt_config"); kind(v) == '"' && meta.get("prompt_config_path") == nil {
		meta.drop("prompt_config_path")
		c.rename("prompt_config", "prompt_config_path", r)
	}
	for _, o := range []*object{&c.entry, meta} {
		if o.text("chat_id") != c.id {
			if old := o.get("chat_id"); old != nil {
				add(&r.Changes, "%schat_id: %s became %q", what, old, c.id)
			} else {
				add(&r.Added, "%schat_id", what)
			}
			o.set("chat_id", jsonString(c.id))
		}
	}
	newest, err := c.repairMessages(r)
	if err != nil {
		return err
	}
	c.repairTimes(newest, r)
	for _, name := range []string{"model_path", "prompt_config_path", "prompt_config", "hyperparameters"} {
		if v := meta.get(name); v != nil && meta.get("last_"+name) == nil {
			meta.set("last_"+name, v)
			add(&r.Added, "%smetadata.last_%s", what, name)
		}
	}
	return nil
}

func (c *chat) rename(from, to string, r *Report) {
	for i := range c.metadata {
		if c.metadata[i].name == from {
			c.metadata[i].name = to
		}
	}
	add(&r.Renames, "chat %s: metadata.%s is %s", c.id, from, to)
}

// repairTimes gives the chat the times that its messages have.
func (c *chat) repairTimes(newest time.Time, r *Report) {
	what := "chat " + c.id + ": metadata."
	for _, name := range []string{"created_at", "updated_at"} {
		old := c.metadata.get(name)
		at, ok := parseTime(old)
		switch {
		case !ok:
			if at = newest; name == "created_at" {
				at = c.oldest(newest)
			}
			if old == nil {
				add(&r.Added, "%s%s", what, name)
			} else {
				add(&r.Warnings, "%s%s: %s is no time; it became %s", what, name, old, at.Format(time.RFC3339))
			}
		case name == "updated_at" && at.Before(newest):
			add(&r.Warnings, "%s%s: %s is older than the newest message; it became %s", what, name, old, newest.Format(time.RFC3339))
			at = newest
		case kind(old) != '{':
			add(&r.Changes, "%s%s: %s became an object", what, name, old)
		default:
			continue
		}
		c.metadata.set(name, formatTime(at))
	}
}

// oldest is the time of the first message, otherwise where there is none.
func (c *chat) oldest(otherwise time.Time) time.Time {
	if len(c.messages) > 0 {
		if at, ok := parseTime(c.messages[0].get("timestamp")); ok {
			return at
		}
	}
	return otherwise
}

// parseTime reads a timestamp: {unix, iso}, a text or a number. The text counts where
// both are there: mlx-harmony computes unix from a time of UTC as if it were local.
func parseTime(raw json.RawMessage) (time.Time, bool) {
	switch kind(raw) {
	case '{':
		o, err := parseObject("timestamp", raw)
		if err != nil {
			return time.Time{}, false
		}
		if at, ok := parseTime(o.get("iso")); ok {
			return at, true
		}
		return parseTime(o.get("unix"))
	case '"':
		text := schema.Unquote(trimmed(raw))
		for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", time.DateOnly} {
			if at, err := time.Parse(layout, text); err == nil {
				return at.UTC(), true
			}
		}
		// Python's isoformat has the offset already when the program adds its Z.
		if rest, ok := strings.CutSuffix(text, "+00:00Z"); ok {
			return parseTime(jsonString(rest))
		}
	case 0:
	default:
		var unix float64
		if json.Unmarshal(raw, &unix) == nil && unix > 0 && unix < 1<<36 {
			whole, part := math.Modf(unix)
			return time.Unix(int64(whole), int64(part*1e6)*1e3).UTC(), true
		}
	}
	return time.Time{}, false
}

func formatTime(t time.Time) json.RawMessage {
	t = t.UTC().Truncate(time.Microsecond)
	return fmt.Appendf(nil, `{"unix":%s,"iso":"%s"}`, fmt.Sprintf("%d.%06d", t.Unix(), t.Nanosecond()/1000), t.Format("2006-01-02T15:04:05.999999Z"))
}

// clip shortens a value of a file for a message.
func clip(raw []byte) string {
	text := strings.ToValidUTF8(string(raw), "\uFFFD")
	if runes := []rune(text); len(runes) > 60 {
		return string(runes[:60]) + "…"
	}
	return text
}
