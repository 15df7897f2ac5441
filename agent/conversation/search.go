package conversation

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"harmonyd/schema"
)

// Hit is a message that Search found.
type Hit struct {
	Conversation, Message string
	Role                  schema.Role
	Time                  time.Time
	// Snippet is the text around the first of the words, on one line.
	Snippet string
}

// errEnough stops a scan.
var errEnough = errors.New("enough")

// Search finds the messages, of all branches, in which every word of query occurs: in
// their text, reasoning, calls or results, in any case and order. It returns limit hits
// at most, unless that is 0, those of the conversations that changed last first. What
// cannot be read of a conversation is left out; List tells of it.
func (s *Store) Search(ctx context.Context, query string, limit int) ([]Hit, error) {
	q := newQuery(query)
	if len(q.words) == 0 {
		return nil, errors.New("search: there are no words to look for")
	}
	list, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	found := make([][]Hit, len(list))
	err = parallel(ctx, len(list), func(i int) error {
		c, err := s.load(list[i].ID, func(id string, body []byte) error {
			if limit > 0 && len(found[i]) == limit {
				return errEnough
			}
			if h, ok := q.find(body); ok {
				h.Conversation, h.Message = list[i].ID, id
				found[i] = append(found[i], h)
			}
			return ctx.Err()
		})
		if err != nil {
			return nil // enough, or unreadable
		}
		return c.Close()
	})
	if err != nil {
		return nil, err
	}
	all := slices.Concat(found...)
	if limit > 0 && len(all) > limit {
		all = all[:limit]
	}
	return all, nil
}

// query is what to look for.
type query struct {
	words []string // in lower case
	// plain are those words that JSON writes as they are, so that most messages need
	// not be decoded.
	plain [][]byte
}

func newQuery(text string) query {
	q := query{words: strings.Fields(strings.ToLower(text))}
	for _, w := range q.words {
		if strings.IndexFunc(w, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }) < 0 {
			q.plain = append(q.plain, []byte(w))
		}
	}
	return q
}

func (q *query) find(body []byte) (h Hit, ok bool) {
	if len(q.plain) > 0 {
		lower := bytes.ToLower(body)
		for _, w := range q.plain {
			if !bytes.Contains(lower, w) {
				return h, false
			}
		}
	}
	var e Entry
	if json.Unmarshal(body, &e) != nil {
		return h, false
	}
	text := searched(&e.Message)
	lower := strings.ToLower(text)
	at := -1
	for _, w := range q.words {
		i := strings.Index(lower, w)
		if i < 0 {
			return h, false
		}
		if at < 0 || i < at {
			at = i
		}
	}
	return Hit{Role: e.Message.Role, Time: e.Time, Snippet: snippet(text, lower, at)}, true
}

// searched is all that a message says.
func searched(m *schema.Message) string {
	var b strings.Builder
	for _, p := range m.Content {
		b.WriteString(p.Text)
		b.WriteByte('\n')
	}
	for _, c := range m.ToolCalls {
		b.WriteString(c.Name)
		b.WriteByte(' ')
		b.Write(c.Arguments)
		b.WriteByte('\n')
	}
	return b.String()
}

// snippet is up to 100 characters of text, with a little of what stands before the byte
// at of its lower case.
func snippet(text, lower string, at int) string {
	if len(lower) != len(text) {
		// Lower case has another length for a few letters; near is good enough.
		at = min(at, len(text))
	}
	const before, most = 30, 100
	start := at
	for n := 0; start > 0 && n < before; n++ {
		_, size := utf8.DecodeLastRuneInString(text[:start])
		start -= size
	}
	for start < len(text) && !utf8.RuneStart(text[start]) {
		start++
	}
	cut := []rune(text[start:min(len(text), start+4*most)])
	end := ""
	if len(cut) > most {
		cut, end = cut[:most], "…"
	}
	line := strings.Join(strings.Fields(string(cut)), " ") + end
	if start > 0 {
		line = "…" + line
	}
	return line
}
