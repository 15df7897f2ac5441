package conversation

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/schema"
)

func readChatLog(t *testing.T, file string) (*ChatLog, []byte) {
	t.Helper()
	text, err := os.ReadFile("testdata/" + file)
	require.NoError(t, err)
	l, err := ReadChatLog(text)
	require.NoError(t, err)
	return l, text
}

// leaves are the scalar values in a JSON document, with how often each occurs.
func leaves(t *testing.T, docs ...[]byte) map[string]int {
	all := map[string]int{}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, x := range v {
				all["member "+name]++
				walk(x)
			}
		case []any:
			for _, x := range v {
				walk(x)
			}
		default:
			all[fmt.Sprintf("%T %v", v, v)]++
		}
	}
	for _, doc := range docs {
		d := json.NewDecoder(bytes.NewReader(doc))
		d.UseNumber()
		var v any
		require.NoError(t, d.Decode(&v))
		walk(v)
	}
	return all
}

func TestChatLogVersion2(t *testing.T) {
	l, text := readChatLog(t, "chat_v2.json")
	require.Empty(t, l.Report.Lines(), "a sound file needs no repair")
	require.Equal(t, string(text), string(l.JSON()), "byte for byte")

	all := l.Conversations("My chat")
	require.Len(t, all, 2)
	require.Equal(t, "My chat (chat-1)", all[0].Header.Title)
	require.Empty(t, all[1].Entries)
	s := tempStore(t)
	id, err := s.Import(all[0])
	require.NoError(t, err)
	c, err := s.Load(id)
	require.NoError(t, err)
	defer c.Close()
	require.Equal(t, "mlx-harmony chat log", c.Header().Origin.Format)
	at := time.Date(2025, 12, 17, 19, 33, 20, 5e8, time.UTC)
	require.Equal(t, at, c.Header().Created)
	path, err := c.Path("")
	require.NoError(t, err)
	require.Len(t, path, 6, "the chain of parents")
	for i, e := range path {
		require.Equal(t, fmt.Sprintf("%032x", i+1), e.ID)
		require.Equal(t, at.Add(time.Duration(i)*time.Second), e.Time, "unix is off by the zone, iso is not")
	}
	require.Equal(t, schema.Message{Role: schema.RoleTool, Name: "browser", Content: schema.TextContent(`{"status":"not_implemented"}`)}, path[2].Message)
	require.JSONEq(t, `{"recipient":"assistant","channel":"commentary","timestamp":{"unix":1766021602.5,"iso":"2025-12-17T19:33:22.500000Z"},"hyperparameters":{"temperature":0.7,"max_tokens":768,"seed":1234}}`, string(path[2].Extra))
	require.Equal(t, schema.Content{{Type: schema.PartReasoning, Text: "I could not find it."}}, path[3].Message.Content, "the words for no answer are none")
	require.Contains(t, string(path[3].Extra), "[Analysis only")
	require.Contains(t, string(path[4].Extra), "sha1-of-something")
	require.Equal(t, "Found.\n\n```go\nx  :=  1\n```", path[5].Message.Content.Text())
	require.Nil(t, path[1].Turn)
	require.JSONEq(t, `{"temperature":0.7,"max_tokens":768,"seed":1234}`, string(path[3].Turn.Hyperparameters), "the differences add up")
	require.JSONEq(t, `{"temperature":0.2,"max_tokens":768,"seed":1234}`, string(path[5].Turn.Hyperparameters))
	require.Equal(t, "/models/gpt-oss-20b", path[5].Turn.Model)
	require.Equal(t, "configs/p.json", path[5].Turn.PromptConfig)
}

// TestNothingOfAChatLogIsLost looks for every value and every unknown member of a file in
// what is stored of it.
func TestNothingOfAChatLogIsLost(t *testing.T) {
	for _, file := range []string{"chat_v1.json", "chat_v2.json"} {
		l, text := readChatLog(t, file)
		s := tempStore(t)
		var stored [][]byte
		for _, i := range l.Conversations("x") {
			id, err := s.Import(i)
			require.NoError(t, err)
			c, err := s.Load(id)
			require.NoError(t, err)
			var b bytes.Buffer
			require.NoError(t, c.ExportJSON(&b))
			require.NoError(t, c.Close())
			stored = append(stored, b.Bytes())
		}
		in, out := leaves(t, text), leaves(t, stored...)
		delete(in, "member chat-1") // ids of chats, which are values as well
		delete(in, "member chat-2")
		n := 0
		for leaf, times := range in {
			switch leaf {
			case "string ", "<nil> <nil>", "member id", "member parent_id", "member cache_key", "member chats", "member analysis",
				"member messages", "member model", "member prompt_config", "member schema_version", "json.Number 2":
				continue // said in another way
			}
			n++
			require.GreaterOrEqual(t, out[leaf], 1, "%s: %s occurs %d times and is nowhere", file, leaf, times)
		}
		t.Logf("%s: %d different values and members", file, n)
	}
}

func TestChatLogVersion1(t *testing.T) {
	l, _ := readChatLog(t, "chat_v1.json")
	report := strings.Join(l.Report.Lines(), "\n")
	for _, want := range []string{
		"changed: schema 1 became the only chat, ", "metadata.model is model_path", "metadata.prompt_config is prompt_config_path",
		"message 0: timestamp: \"2025-12-01T10:00:01Z\" became an object", "added: chat ", "message 1: parent_id", "message 0: cache_key",
		"metadata.created_at: \"2025-12-01T10:00:00Z\" became an object", "metadata.updated_at", "metadata.last_hyperparameters",
	} {
		require.Contains(t, report, want)
	}
	var v2 struct {
		SchemaVersion int      `json:"schema_version"`
		ChatOrder     []string `json:"chat_order"`
		Active        string   `json:"active_chat_id"`
		Chats         map[string]struct {
			ID       string           `json:"chat_id"`
			Metadata map[string]any   `json:"metadata"`
			Messages []map[string]any `json:"messages"`
		} `json:"chats"`
		Note any `json:"note"`
	}
	out := l.JSON()
	require.NoError(t, json.Unmarshal(out, &v2))
	require.Equal(t, 2, v2.SchemaVersion)
	require.Equal(t, []string{v2.Active}, v2.ChatOrder)
	chat := v2.Chats[v2.Active]
	require.Equal(t, v2.Active, chat.ID)
	require.Equal(t, "~/models/gpt-oss-20b", chat.Metadata["model_path"])
	require.Equal(t, chat.Metadata["model_path"], chat.Metadata["last_model_path"])
	require.Equal(t, "configs/persona.json", chat.Metadata["last_prompt_config_path"])
	require.Equal(t, map[string]any{"unix": 1764583200.0, "iso": "2025-12-01T10:00:00Z"}, chat.Metadata["created_at"])
	require.Equal(t, map[string]any{"unix": 1764583202.25, "iso": "2025-12-01T10:00:02.25Z"}, chat.Metadata["updated_at"])
	require.Equal(t, chat.Messages[0]["id"], chat.Messages[1]["parent_id"])
	require.Nil(t, chat.Messages[0]["parent_id"])
	require.NotNil(t, v2.Note)
	require.Contains(t, string(out), `"Hello ünïcode"`, "as it is")
	require.Contains(t, string(out), "2.50")

	// What was made is sound.
	again, err := ReadChatLog(out)
	require.NoError(t, err)
	require.Empty(t, again.Report.Lines())
	require.Equal(t, string(out), string(again.JSON()))
	i := l.Conversations("t")[0]
	require.Equal(t, "t", i.Header.Title)
	require.JSONEq(t, `{"temperature":0.8,"top_p":0.95}`, string(i.Entries[1].Turn.Hyperparameters), "there are none with the messages")
	require.Equal(t, "greet back", i.Entries[1].Message.Content.Reasoning())
	require.Contains(t, string(i.Entries[1].Extra), `"stars":5`)
}

// TestChatLogRepairs has a file with everything wrong that can be put right.
func TestChatLogRepairs(t *testing.T) {
	l, err := ReadChatLog([]byte(`{"schema_version":3,"chat_order":["gone","b","b",""],"active_chat_id":"gone","chats":{
		"a":{"metadata":{"updated_at":"never"},"messages":[]},
		"b":{"chat_id":"other","metadata":{"created_at":1764583200,"updated_at":{"iso":"2020-01-01T00:00:00Z"},
			"last_hyperparameters":{"temperature":1},"model":"old","model_path":null},
		"messages":[
			{"role":"USER","content":"1","id":"x"},
			{"role":"assistant","content":null,"id":"x","parent_id":"nobody","hyperparameters":{"temperature":0.5},"timestamp":"noon"},
			{"role":"user","content":"3 \ud800","id":"not an id!","parent_id":"x","timestamp":"2025-12-01 10:00:05.5"},
			{"role":"assistant","content":"4","parent_id":"not an id!","timestamp":"2025-12-01T10:00:06+00:00Z"}]}}}`))
	require.NoError(t, err)
	report := strings.Join(l.Report.Lines(), "\n")
	for _, want := range []string{
		"[WARN] schema_version: 3 is not known; read as 2", `[WARN] chat_order: "gone" is no chat`, `[WARN] chat_order: "b" is no chat, or named twice`, "added: chat_order: a",
		`changed: active_chat_id: "gone" became "b"`, `chat_id: "other" became "b"`, "added: chat a: chat_id",
		`[WARN] chat a: metadata.updated_at: "never" is no time`, "metadata.updated_at: {\"iso\":\"2020-01-01T00:00:00Z\"} is older than the newest message; it became 2025-12-01T10:00:06Z",
		`[WARN] chat b: message 1: id: "x" is none, or taken`, `message 1: parent_id: "nobody" is no message before it`, `message 1: timestamp: "noon" is no time`,
		`added: chat b: message 0: timestamp`, "[WARN] chat b: metadata.last_hyperparameters: {\"temperature\":1} is not that of the last turn", "metadata.model is model_path",
	} {
		require.Contains(t, report, want)
	}
	again, err := ReadChatLog(l.JSON())
	require.NoError(t, err)
	require.Empty(t, again.Report.Lines())

	s := tempStore(t)
	id, err := s.Import(l.Conversations("t")[0])
	require.NoError(t, err)
	c, err := s.Load(id)
	require.NoError(t, err)
	defer c.Close()
	path, err := c.Path("")
	require.NoError(t, err)
	require.Len(t, path, 3, "the third message follows the first")
	all, err := c.Entries()
	require.NoError(t, err)
	require.Equal(t, "x", all[0].ID)
	require.Equal(t, schema.RoleUser, all[0].Message.Role)
	require.Contains(t, string(all[0].Extra), `"role":"USER"`)
	require.Equal(t, time.Unix(1764583200, 0).UTC(), all[0].Time, "that of the chat")
	require.Contains(t, string(all[1].Extra), `"original_id":"x"`)
	require.Contains(t, string(all[1].Extra), `"original_parent_id":"nobody"`)
	require.Contains(t, string(all[2].Extra), `"id":"not an id!"`)
	require.Contains(t, string(all[2].Extra), `"content":"3 \ud800"`, "what is no text is kept")
	require.Equal(t, all[2].ID, all[3].Parent)
	require.Contains(t, strings.Join(c.Header().Origin.Repairs, "\n"), "is older than the newest message")
}

func TestChatLogsThatAreNone(t *testing.T) {
	for text, want := range map[string]string{
		``:                                 "chat log: no JSON: it ends after 0 bytes",
		`[]`:                               "chat log: got [], want an object",
		`{"a":1,"a":2}`:                    "chat log: ",
		`{"chats":[]}`:                     "chats: got [], want an object",
		`{"chats":{}}`:                     "chats: there is none",
		`{"chats":{"a":1}}`:                "chat a: got 1, want an object",
		`{"chats":{"a":{"metadata":[]}}}`:  "chat a: metadata: got [], want an object",
		`{"chats":{"a":{"messages":{}}}}`:  "chat a: messages: got {}, want a list",
		`{"chats":{"a":{"messages":[7]}}}`: "chat a: message 0: got 7, want an object",
		`{"messages":[{"role":"wizard"}]}`: `message 0: role: got "wizard", want system, developer, user, assistant or tool`,
		`{"messages":[{"role":"user","content":[]}]}`:                        "message 0: content: got [], want a string",
		`{"schema_version":2,"metadata":{},"messages":[]}`:                   "chats: no JSON",
		strings.Repeat(`{"a":`, 200) + "1" + strings.Repeat("}", 200):        "chat log: ",
		`{"messages":[{"role":"user","content":"` + strings.Repeat("x", 100): "chat log: no JSON",
	} {
		_, err := ReadChatLog([]byte(text))
		require.ErrorContains(t, err, want, text)
	}
}

func FuzzReadChatLog(f *testing.F) {
	for _, name := range []string{"chat_v1.json", "chat_v2.json"} {
		text, err := os.ReadFile("testdata/" + name)
		require.NoError(f, err)
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := ReadChatLog(text)
		if err != nil {
			return
		}
		again, err := ReadChatLog(l.JSON())
		require.NoError(t, err)
		require.Equal(t, string(l.JSON()), string(again.JSON()))
		m := newMemory()
		for _, c := range l.Conversations("x") {
			_, err := memoryStore(t, m).Import(c)
			require.NoError(t, err)
		}
		require.NoError(t, m.left())
	})
}

func FuzzScan(f *testing.F) {
	head, err := appendHeader(nil, Header{Version: Version, ID: "a"})
	require.NoError(f, err)
	f.Add(head)
	body, err := encodeBody(numbered(0, 1)[0])
	require.NoError(f, err)
	f.Add(appendMessage(head, "m0", Root, body, 1))
	f.Fuzz(func(t *testing.T, text []byte) {
		x, d, err := scan(bytes.NewReader(text), int64(len(text)), nil)
		if err == nil {
			require.Equal(t, d != nil, x.end < int64(len(text)))
		}
		sum := Summary{ID: "a"}
		m := newMemory()
		m.put("c/a.jsonl", text)
		h, err := m.open("c/a.jsonl")
		require.NoError(t, err)
		_ = sum.read(h)
	})
}
