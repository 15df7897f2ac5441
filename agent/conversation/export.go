package conversation

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"harmonyd/schema"
)

// exported is a whole conversation as one JSON document.
type exported struct {
	Format  string  `json:"format"`
	Header  Header  `json:"header"`
	Leaf    string  `json:"leaf"`
	Damage  string  `json:"damage,omitempty"`
	Entries []Entry `json:"messages"`
}

// ExportJSON writes everything that the log holds, all branches included, as one JSON
// document for people and programs.
func (c *Conversation) ExportJSON(w io.Writer) error {
	entries, err := c.Entries()
	if err != nil {
		return err
	}
	x := exported{Format: "harmonyd conversation", Header: c.Header(), Leaf: c.Leaf(), Entries: entries}
	if c.damage != nil {
		x.Damage = c.damage.String()
	}
	text, err := schema.Encode(x)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "  "); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err = w.Write(b.Bytes())
	return err
}

// ExportMarkdown writes the path to leaf, an empty leaf being the newest message, as a
// Markdown document.
func (c *Conversation) ExportMarkdown(w io.Writer, leaf string) error {
	entries, err := c.Path(leaf)
	if err != nil {
		return err
	}
	h := c.Header()
	title := firstLine(h.Title)
	for i := range entries {
		if title == "" && entries[i].Message.Role == schema.RoleUser {
			title = firstLine(entries[i].Message.Content.Text())
		}
	}
	if title == "" {
		title = h.ID
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s\n\n", title)
	fmt.Fprintf(&b, "Conversation %s, begun %s.\n", h.ID, day(h.Created))
	if h.ForkedFrom != nil {
		fmt.Fprintf(&b, "Forked from %s after message %s.\n", h.ForkedFrom.Conversation, h.ForkedFrom.Message)
	}
	for i := range entries {
		markdown(&b, &entries[i])
	}
	_, err = w.Write(b.Bytes())
	return err
}

// titles are the headings of messages.
var titles = map[schema.Role]string{
	schema.RoleSystem: "System", schema.RoleDeveloper: "Developer", schema.RoleUser: "User",
	schema.RoleAssistant: "Assistant", schema.RoleTool: "Tool",
}

// markdown writes one message. What a tool says is data and goes into a block; what people
// and models say is Markdown itself.
func markdown(b *bytes.Buffer, e *Entry) {
	heading := titles[e.Message.Role]
	if heading == "" {
		heading = string(e.Message.Role)
	}
	if e.Message.Name != "" {
		heading += " " + e.Message.Name
	}
	fmt.Fprintf(b, "\n## %s\n\n*%s*\n", heading, strings.Join(facts(e), " · "))
	for _, p := range e.Message.Content {
		switch {
		case p.Type == schema.PartImage:
			fmt.Fprintf(b, "\n*(an image, %s)*\n", p.MimeType)
		case p.Text == "":
		case p.Type == schema.PartReasoning:
			fmt.Fprintf(b, "\n%s\n", quoted(p.Text))
		case e.Message.Role == schema.RoleTool:
			fmt.Fprintf(b, "\n%s\n", fenced("", p.Text))
		default:
			fmt.Fprintf(b, "\n%s\n", strings.TrimRight(p.Text, "\n"))
		}
	}
	for _, c := range e.Message.ToolCalls {
		fmt.Fprintf(b, "\nCalls `%s` (%s):\n\n%s\n", c.Name, c.CallID, fenced("json", string(c.Arguments)))
	}
}

// facts are what is known about a message in few words.
func facts(e *Entry) []string {
	all := []string{day(e.Time)}
	if e.Message.ToolCallID != "" {
		all = append(all, "answers "+e.Message.ToolCallID)
	}
	if t := e.Turn; t != nil {
		if t.Model != "" {
			all = append(all, t.Model)
		}
		if t.StopReason != "" {
			all = append(all, string(t.StopReason))
		}
		if u := t.Usage; u != nil {
			all = append(all, fmt.Sprintf("%d + %d tokens", u.PromptTokens, u.CompletionTokens))
		}
	}
	return all
}

func day(t time.Time) string {
	if t.IsZero() {
		return "at an unknown time"
	}
	return t.UTC().Format("2006-01-02 15:04:05 MST")
}

// quoted is text as a block quote.
func quoted(text string) string {
	return "> " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n> ")
}

// fenced is text as a code block whose fence does not occur in it.
func fenced(language, text string) string {
	fence := "```"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	return fence + language + "\n" + strings.TrimRight(text, "\n") + "\n" + fence
}
