package prompt

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest/leaks"
	"harmonyd/schema"
)

func TestMain(m *testing.M) { os.Exit(leaks.Run(m)) }

// controls are the control tokens of the tests' tokenizer; their ids start at
// 256, and the bytes have those below.
var controls = []string{"<|im_start|>", "<|im_end|>", "<s>", "</s>", "[INST]", "[/INST]", "<|x|>", "<|x|>y", "</think>"}

// bytesTokenizer has a token for each byte and each control token.
type bytesTokenizer struct {
	controls []string
	calls    *[]string // what Encode was asked for, one string a call
}

func (t bytesTokenizer) SpecialLiterals() []string { return t.controls }

func (t bytesTokenizer) Encode(text string, special bool) ([]int32, error) {
	if !special {
		return t.EncodePlain(text, [][2]int{{0, len(text)}})
	}
	return t.EncodePlain(text, nil)
}

func (t bytesTokenizer) EncodePlain(text string, plain [][2]int) ([]int32, error) {
	if t.calls != nil {
		*t.calls = append(*t.calls, fmt.Sprint(plain, text))
	}
	var ids []int32
	for i := 0; i < len(text); {
		id, n := int32(text[i]), 1
		for k, c := range t.controls {
			if len(c) > n-btoi(id < 256) && strings.HasPrefix(text[i:], c) {
				id, n = int32(256+k), len(c)
			}
		}
		for _, p := range plain {
			if p[0] < i+n && i < p[1] {
				id, n = int32(text[i]), 1
			}
		}
		ids = append(ids, id)
		i += n
	}
	return ids, nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func decode(ids []int32) string {
	var b strings.Builder
	for _, id := range ids {
		if id < 256 {
			b.WriteByte(byte(id))
		} else {
			b.WriteString(controls[id-256])
		}
	}
	return b.String()
}

func countControls(ids []int32) int {
	n := 0
	for _, id := range ids {
		n += btoi(id >= 256)
	}
	return n
}

type message struct {
	Role, Content, Name string
	ToolCallID          string `json:"tool_call_id"`
}

// template is a Template in Go.
type template func(messages []message) (string, error)

func (f template) Render(context []byte, _ time.Time) (string, error) {
	var c struct{ Messages []message }
	if err := json.Unmarshal(context, &c); err != nil {
		return "", err
	}
	return f(c.Messages)
}

// each makes a template of what it writes for one message.
func each(f func(m message) string) template {
	return func(messages []message) (string, error) {
		var b strings.Builder
		for _, m := range messages {
			b.WriteString(f(m))
		}
		return b.String() + "<|im_start|>assistant\n", nil
	}
}

var (
	chatML = each(func(m message) string {
		return "<|im_start|>" + m.Role + "\n" + m.Content + "<|im_end|>\n"
	})
	// gaps writes no control token between messages: two of them can join.
	gaps = each(func(m message) string { return m.Name + m.Content + m.ToolCallID })
	// trims and quotes stand for what templates do to content.
	trims  = each(func(m message) string { return "<s>" + strings.TrimSpace(m.Content) + "</s>" })
	quotes = each(func(m message) string { b, _ := json.Marshal(m.Content); return "[INST]" + string(b) + "[/INST]" })
	// named lets a name fill the inside of a control token.
	named = each(func(m message) string { return "<|" + m.Name + "|>" + m.Content + "\n" })
	// opens writes the beginning of a control token before a content.
	opens = each(func(m message) string { return "<|im_" + m.Content + "\n" })
	// thinks drops the reasoning of an answer, as the templates of reasoning
	// models do.
	thinks = each(func(m message) string {
		if i := strings.LastIndex(m.Content, "</think>"); i >= 0 && m.Role == "assistant" {
			m.Content = m.Content[i+len("</think>"):]
		}
		return "<|im_start|>" + m.Content + "<|im_end|>"
	})
	// joins takes a piece out of the middle of a content.
	joins = each(func(m message) string {
		return "<|im_start|>" + strings.ReplaceAll(m.Content, "(cut)", "") + "<|im_end|>"
	})
	shouts = each(func(m message) string { return "<s>" + strings.ToUpper(m.Content) + "</s>" })
	twice  = each(func(m message) string { return "<s>" + m.Content + "</s>" + m.Content })
)

var templates = map[string]template{
	"chatML": chatML, "gaps": gaps, "trims": trims, "quotes": quotes, "named": named, "opens": opens,
	"thinks": thinks, "joins": joins, "shouts": shouts, "twice": twice,
}

func newRenderer(t *testing.T, tmpl Template) *Renderer {
	t.Helper()
	r, err := New(bytesTokenizer{controls: controls}, tmpl)
	require.NoError(t, err)
	return r
}

func user(text string) schema.Message {
	return schema.Message{Role: schema.RoleUser, Content: schema.TextContent(text)}
}

func assistant(text string) schema.Message {
	return schema.Message{Role: schema.RoleAssistant, Content: schema.TextContent(text)}
}

// plain renders messages as the template alone would.
func plain(t *testing.T, tmpl Template, messages []schema.Message) string {
	t.Helper()
	text, err := tmpl.Render(Context(Chat{Messages: messages}), time.Time{})
	require.NoError(t, err)
	return text
}

func TestContext(t *testing.T) {
	var got string
	r := newRenderer(t, rawTemplate(func(context []byte) (string, error) {
		if got == "" { // the first of two renderings
			got = string(context)
		}
		return "x", nil
	}))
	_, err := r.Render([]schema.Message{
		{Role: schema.RoleSystem, Content: schema.Content{{Type: schema.PartText, Text: "a\"b"}, {Type: schema.PartText, Text: "ü</"}}},
		{Role: schema.RoleUser},
		{Role: schema.RoleTool, Name: "grep", ToolCallID: "c1", Content: schema.TextContent("none")},
	})
	require.NoError(t, err)
	require.Equal(t, `{"messages":[{"role":"system","content":"a\"bü</"},{"role":"user","content":""},`+
		`{"role":"tool","content":"none","name":"grep","tool_call_id":"c1"}],"tools":null,"documents":null,"add_generation_prompt":true}`, got)
}

type rawTemplate func(context []byte) (string, error)

func (f rawTemplate) Render(context []byte, _ time.Time) (string, error) { return f(context) }

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name    string
		tmpl    Template
		message schema.Message
		want    schema.Error
	}{
		{"no template", nil, user("x"), *schema.Unsupported("messages", "the model has no chat template; send prompt instead of messages")},
		{"developer", chatML, schema.Message{Role: schema.RoleDeveloper}, *schema.Unsupported("role developer", "/messages/0/role: messages of the developer are not supported by this model")},
		{"unknown role", chatML, schema.Message{Role: "narrator"}, *schema.InvalidParam("/messages/0/role", `got "narrator", want system, user, assistant or tool`)},
		{"image", chatML, schema.Message{Role: schema.RoleUser, Content: schema.Content{{Type: schema.PartText}, {Type: schema.PartImage}}}, *schema.Unsupported("content part image", `/messages/0/content/1: parts of type "image" are not supported by this model`)},
		{"tool calls", chatML, schema.Message{Role: schema.RoleAssistant, ToolCalls: []schema.ToolCall{{}}}, *schema.Unsupported("toolCalls", "/messages/0/toolCalls: WithTools was not asked")},
		{"template raises", template(func([]message) (string, error) { return "", errors.New("roles must alternate") }), user("x"), schema.Error{Code: -32803, Message: "chat template: roles must alternate", Data: schema.ErrorData{Kind: schema.KindRequestFailed, Cause: "roles must alternate"}}},
		{"control token in a text that the template changes", shouts, user("a <|im_end|> b"), *schema.InvalidParam("/messages/0/content", `has the control token "<|im_end|>" in it, and the model's chat template does not pass it through as text`)},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := newRenderer(t, c.tmpl).Render([]schema.Message{c.message})
			require.Equal(t, &c.want, err)
		})
	}
	single, err := New(bytesTokenizer{controls: []string{"¤"}}, chatML)
	require.NoError(t, err)
	_, err = single.Render([]schema.Message{user("10 ¤")})
	require.ErrorContains(t, err, `/messages/0/content: has the character "¤" in it`)
}

func TestLiterals(t *testing.T) {
	l := newLiterals([]string{"ab", "abcd", "b", "xyz", "ab"})
	for _, c := range []struct {
		text         string
		whole, begun int
	}{{"", 0, 0}, {"a", 0, 1}, {"ab", 2, 2}, {"abc", 2, 3}, {"abcx", 2, 3}, {"abcd", 4, 4}, {"abcde", 4, 4}, {"q", 0, 0}, {"xy!", 0, 2}} {
		whole, begun := l.at(c.text)
		require.Equal(t, [2]int{c.whole, c.begun}, [2]int{whole, begun}, c.text)
	}
	require.Equal(t, []span{{0, 2}, {3, 7}, {7, 9}, {11, 14}}, l.find("abcabcdabxyxyz"))
}

// TestManyLiterals would not end soon if a text were compared to each literal
// at each place.
func TestManyLiterals(t *testing.T) {
	var many []string
	for i := range 2000 {
		many = append(many, fmt.Sprintf("<|reserved_special_token_%d|>", i))
	}
	r, err := New(bytesTokenizer{controls: many}, chatML)
	require.NoError(t, err)
	text := strings.Repeat("<|reserved_special_token_", 40_000)
	require.Empty(t, r.literals.find(text))
	require.True(t, r.literals.touches(text))
	require.Len(t, r.literals.find(strings.Repeat(many[1999], 1000)), 1000)
}

func BenchmarkRender(b *testing.B) {
	r, err := New(bytesTokenizer{controls: controls}, chatML)
	require.NoError(b, err)
	messages := []schema.Message{user(strings.Repeat("some words and a < b\n", 200))}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Render(messages); err != nil {
			b.Fatal(err)
		}
	}
}
