package profile

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"harmonyd/schema"
)

// Placeholders replaces names in texts: <|NAME|> in any case, and {name} as it is written.
// Names that it does not know stay, control tokens such as <|start|> among them. What is put
// in is not looked at again.
type Placeholders struct {
	exact map[string]string // for {name}
	upper map[string]string // for <|NAME|>
}

// placeholder finds both forms.
var placeholder = regexp.MustCompile(`<\|([^|<>]+)\|>|\{([^{}]+)\}`)

// newPlaceholders are the built-in names at a time, and those of own, which win. The time
// stands still, so that prompts that begin the same keep doing so.
func newPlaceholders(own map[string]string, now time.Time) Placeholders {
	p := Placeholders{map[string]string{}, map[string]string{}}
	put := func(name, text string) { p.exact[name], p.upper[strings.ToUpper(name)] = text, text }
	put("DATE", now.Format(time.DateOnly))
	put("DATETIME", now.Format("2006-01-02T15:04:05"))
	put("TIME", now.Format(time.TimeOnly))
	put("TIMEZ", now.Format(time.TimeOnly))
	put("TIMEA", now.Format("03:04:05 PM"))
	put("TIMEU", now.UTC().Format("15:04:05 UTC"))
	for name, text := range own {
		put(name, text)
	}
	return p
}

// Expand replaces the names in text.
func (p Placeholders) Expand(text string) string {
	if !strings.ContainsAny(text, "{<") {
		return text
	}
	return placeholder.ReplaceAllStringFunc(text, func(found string) string {
		names, name := p.exact, found[1:len(found)-1]
		if found[0] == '<' {
			names, name = p.upper, strings.ToUpper(found[2:len(found)-2])
		}
		if value, ok := names[name]; ok {
			return value
		}
		return found
	})
}

// readPlaceholders reads an object of texts; other scalars become theirs.
func readPlaceholders(raw json.RawMessage) (map[string]string, error) {
	if raw == nil {
		return nil, nil
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf("got %.40s, want an object of texts", raw)
	}
	own := map[string]string{}
	for name, v := range all {
		switch text := strings.TrimSpace(string(v)); text[0] {
		case '"':
			own[name] = schema.Unquote([]byte(text))
		case '{', '[':
			return nil, fmt.Errorf("%s: got %.40s, want a text", name, text)
		default:
			own[name] = text
		}
	}
	return own, nil
}

// parseISO reads a time in ISO 8601, in UTC where it names no zone.
func parseISO(text string) (time.Time, error) {
	var err error
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999", "2006-01-02T15:04", time.DateOnly} {
		var at time.Time
		if at, err = time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	return time.Time{}, err
}
