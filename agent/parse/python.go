package parse

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"harmonyd/schema"
)

// pythonCall reads a call such as f(a=1, b="x") at the beginning of text and
// returns what follows it. Arguments without a name are those of the tool's
// parameters that have their places.
func pythonCall(tools *toolbox, text string) (c Call, rest string) {
	end := 0
	for end < len(text) && isNameByte(text[end]) {
		end++
	}
	c.Name = text[:end]
	rest = strings.TrimLeft(text[end:], " ")
	if c.Name == "" || !strings.HasPrefix(rest, "(") {
		c.Problem = "it is not of the form name(key=value, …)"
		return c, rest
	}
	rest = trimPython(rest[1:])
	var args members
	for place := 0; !strings.HasPrefix(rest, ")"); place++ {
		key, after, named := keyword(rest)
		if !named {
			if key = tools.parameter(c.Name, place); key == "" {
				c.Problem = fmt.Sprintf("argument %d has no name", place+1)
				return c, rest
			}
			after = rest
		}
		value, after, err := pythonValue(after, maxDepth)
		if err != nil {
			c.Problem = fmt.Sprintf("the argument %q: %v", key, err)
			return c, rest
		}
		if !args.add(key, value) {
			c.Problem = fmt.Sprintf("the argument %q stands twice", key)
			return c, rest
		}
		switch rest = trimPython(after); {
		case strings.HasPrefix(rest, ","):
			rest = trimPython(rest[1:])
		case !strings.HasPrefix(rest, ")"):
			c.Problem = fmt.Sprintf("behind the argument %q stands neither a comma nor )", key)
			return c, rest
		}
	}
	c.Arguments = args.object()
	return c, rest[1:]
}

func trimPython(text string) string { return strings.TrimLeft(text, " \t\r\n") }

// keyword reads the name and the = of a named argument.
func keyword(text string) (key, rest string, ok bool) {
	end := 0
	for end < len(text) && isNameByte(text[end]) && text[end] != '.' && text[end] != '-' {
		end++
	}
	rest = trimPython(text[end:])
	if end == 0 || !strings.HasPrefix(rest, "=") || strings.HasPrefix(rest, "==") {
		return "", text, false
	}
	return text[:end], rest[1:], true
}

// parameter is the name of the tool's parameter at a place.
func (b *toolbox) parameter(tool string, place int) (name string) {
	b.properties(tool, func(property string, _ []byte) {
		if place == 0 {
			name = property
		}
		place--
	})
	return name
}

// pythonValue reads a literal of Python or JSON and returns it as JSON.
func pythonValue(text string, depth int) (value json.RawMessage, rest string, err error) {
	text = trimPython(text)
	if text == "" {
		return nil, "", fmt.Errorf("no value")
	}
	switch c := text[0]; {
	case c == '"' || c == '\'':
		s, rest, err := pythonString(text)
		for err == nil && (strings.HasPrefix(trimPython(rest), `"`) || strings.HasPrefix(trimPython(rest), "'")) {
			var more string // strings that stand side by side are one
			more, rest, err = pythonString(trimPython(rest))
			s += more
		}
		return quote(s), rest, err
	case c == '[' || c == '(':
		return pythonList(text, depth)
	case c == '{':
		return pythonDict(text, depth)
	}
	end := strings.IndexAny(text, " \t\r\n,)]}:")
	if end < 0 {
		end = len(text)
	}
	word, rest := text[:end], text[end:]
	switch word {
	case "True", "true":
		return json.RawMessage("true"), rest, nil
	case "False", "false":
		return json.RawMessage("false"), rest, nil
	case "None", "null":
		return json.RawMessage("null"), rest, nil
	}
	number := strings.TrimPrefix(strings.ReplaceAll(word, "_", ""), "+")
	if schema.Scan([]byte(number), 1, nil) != nil {
		return nil, "", fmt.Errorf("%.40q is no value", word)
	}
	return json.RawMessage(number), rest, nil
}

// pythonList reads a list or tuple as a JSON array.
func pythonList(text string, depth int) (value json.RawMessage, rest string, err error) {
	if depth == 0 {
		return nil, "", fmt.Errorf("it nests deeper than %d levels", maxDepth)
	}
	end := "]"
	if text[0] == '(' {
		end = ")"
	}
	out := []byte{'['}
	for rest = trimPython(text[1:]); !strings.HasPrefix(rest, end); rest = trimPython(rest) {
		if value, rest, err = pythonValue(rest, depth-1); err != nil {
			return nil, "", err
		}
		if len(out) > 1 {
			out = append(out, ", "...)
		}
		out = append(out, value...)
		if rest = trimPython(rest); strings.HasPrefix(rest, ",") {
			rest = rest[1:]
		} else if !strings.HasPrefix(rest, end) {
			return nil, "", fmt.Errorf("a list has neither a comma nor %s behind a value", end)
		}
	}
	return append(out, ']'), rest[1:], nil
}

// pythonDict reads a dict as a JSON object.
func pythonDict(text string, depth int) (value json.RawMessage, rest string, err error) {
	if depth == 0 {
		return nil, "", fmt.Errorf("it nests deeper than %d levels", maxDepth)
	}
	var out members
	for rest = trimPython(text[1:]); !strings.HasPrefix(rest, "}"); rest = trimPython(rest) {
		if rest == "" || rest[0] != '"' && rest[0] != '\'' {
			return nil, "", fmt.Errorf("a key of a dict is no string")
		}
		key, after, err := pythonString(rest)
		if err != nil {
			return nil, "", err
		}
		if after = trimPython(after); !strings.HasPrefix(after, ":") {
			return nil, "", fmt.Errorf("no colon behind the key %.40q", key)
		}
		if value, rest, err = pythonValue(after[1:], depth-1); err != nil {
			return nil, "", err
		}
		if !out.add(key, value) {
			return nil, "", fmt.Errorf("the key %.40q stands twice", key)
		}
		if rest = trimPython(rest); strings.HasPrefix(rest, ",") {
			rest = rest[1:]
		} else if !strings.HasPrefix(rest, "}") {
			return nil, "", fmt.Errorf("a dict has neither a comma nor } behind a value")
		}
	}
	return out.object(), rest[1:], nil
}

// escapes are those of one letter, of Python and JSON.
var escapes = map[byte]string{
	'n': "\n", 't': "\t", 'r': "\r", 'b': "\b", 'f': "\f", 'a': "\a", 'v': "\v", '0': "\x00",
	'\\': `\`, '\'': `'`, '"': `"`, '/': `/`, '\n': "",
}

// pythonString reads a string in single, double or three quotes.
func pythonString(text string) (s, rest string, err error) {
	mark := text[:1]
	if strings.HasPrefix(text, strings.Repeat(mark, 3)) {
		mark = text[:3]
	}
	var b strings.Builder
	for i := len(mark); i < len(text); {
		switch c := text[i]; {
		case strings.HasPrefix(text[i:], mark):
			return b.String(), text[i+len(mark):], nil
		case c != '\\':
			b.WriteByte(c)
			i++
		case i+1 == len(text):
			return "", "", fmt.Errorf("a string has no end")
		default:
			n := unescape(&b, text[i+1:])
			i += 1 + n
		}
	}
	return "", "", fmt.Errorf("a string has no end")
}

// unescape writes what text, behind a backslash, stands for, and returns how much
// of it that was. As in Python, an unknown escape is itself.
func unescape(b *strings.Builder, text string) int {
	if s, ok := escapes[text[0]]; ok {
		b.WriteString(s)
		return 1
	}
	digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[text[0]]
	if digits > 0 && len(text) > digits {
		var r rune
		for _, c := range []byte(text[1 : 1+digits]) {
			v := strings.IndexByte("0123456789abcdef", c|0x20)
			if v < 0 || c < '0' {
				digits, r = 0, utf8.MaxRune+1
				break
			}
			r = r<<4 | rune(v)
		}
		if utf8.ValidRune(r) && digits > 0 {
			b.WriteRune(r)
			return 1 + digits
		}
	}
	b.WriteByte('\\')
	b.WriteByte(text[0])
	return 1
}

// brackets finds the end of a call in Python's form.
type brackets struct {
	pos     int
	depth   int
	mark    byte // the quote of the string that pos is in
	triple  bool
	escaped bool
	run     int // quotes in a row, as far as they are of one kind
}

// scan goes to the end of the bracket that the text begins with, or as far as text
// goes, and reports whether it is there; pos is then behind it.
func (s *brackets) scan(text []byte) bool {
	for ; s.pos < len(text); s.pos++ {
		c := text[s.pos]
		switch {
		case s.mark != 0:
			s.inString(c)
		case c == '"' || c == '\'':
			// Three quotes begin a string of their own kind; two are an empty one.
			s.mark, s.triple, s.run = c, false, 1
			if s.pos+2 >= len(text) {
				if s.pos+1 < len(text) && text[s.pos+1] != c {
					break
				}
				s.mark = 0
				return false // not clear yet
			}
			if text[s.pos+1] == c && text[s.pos+2] == c {
				s.triple, s.pos = true, s.pos+2
			}
			s.run = 0
		case c == '(' || c == '[' || c == '{':
			s.depth++
		case c == ')' || c == ']' || c == '}':
			if s.depth--; s.depth <= 0 {
				s.pos++
				return true
			}
		}
	}
	return false
}

// inString takes a byte of a string.
func (s *brackets) inString(c byte) {
	switch {
	case s.escaped:
		s.escaped, s.run = false, 0
	case c == '\\':
		s.escaped, s.run = true, 0
	case c != s.mark:
		s.run = 0
	case !s.triple:
		s.mark = 0
	default:
		if s.run++; s.run == 3 {
			s.mark, s.run = 0, 0
		}
	}
}
