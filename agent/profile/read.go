package profile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"harmonyd/schema"
)

// Problem is something wrong at a place.
type Problem struct {
	// File is where it is, and Line and Column where in it, from 1; 0 where it is no file.
	File         string
	Line, Column int
	// Key is the key, with the places in its value behind dots; empty where it is the whole.
	Key     string
	Message string
}

func (p Problem) String() string {
	var parts []string
	if p.File != "" {
		place := p.File
		if p.Line > 0 {
			place += fmt.Sprintf(":%d:%d", p.Line, p.Column)
		}
		parts = append(parts, place)
	}
	if p.Key != "" {
		parts = append(parts, p.Key)
	}
	return strings.Join(append(parts, p.Message), ": ")
}

// maxProblems bounds the errors and the warnings of one source that are told. To look one
// up in a file, or for the key that a wrong one may mean, takes time.
const maxProblems = 64

// Error is what is wrong with a source of settings, the first maxProblems of it.
type Error struct{ Problems []Problem }

func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// reader reads one source.
type reader struct {
	file string
	data []byte
	// strict makes errors of what is a warning in a file: keys that are unknown or refused.
	strict bool
	// turn makes errors of keys that count when a conversation begins.
	turn          bool
	errs, warning []Problem
}

// ReadConfig reads a prompt config; file names it in problems. As in mlx-harmony, numbers
// and booleans may be strings and null is no value. A key that is unknown, or that has no
// effect here, is a warning, so that every file of that program loads; a value out of its
// range is an error, with all others of the file, and not in the Config.
func ReadConfig(file string, data []byte) (Config, []Problem, error) {
	r := reader{file: file, data: bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))}
	c := r.config()
	return c, r.warning, r.err()
}

// ReadRequest reads the keys that a request or a command line sets. Those that are unknown
// or have no effect are errors.
func ReadRequest(data []byte) (Config, error) {
	r := reader{data: data, strict: true}
	c := r.config()
	return c, r.err()
}

// ReadTurn is ReadRequest for a turn of a conversation that has begun: keys that count when
// it begins are errors as well.
func ReadTurn(data []byte) (Config, error) {
	r := reader{data: data, strict: true, turn: true}
	c := r.config()
	return c, r.err()
}

// ReadSet reads what follows \set in a chat: name=value. Text needs no quotes; lists and
// objects are JSON. Keys that count when a conversation begins cannot be set in one.
func ReadSet(text string) (Config, error) {
	name, value, ok := strings.Cut(text, "=")
	name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
	if !ok || name == "" {
		return Config{}, &Error{[]Problem{{Message: `want name=value, as in \set temperature=0.7`}}}
	}
	k, known := keyNamed(name)
	raw := []byte(value)
	if !known || k.typ.Kind() != reflect.Slice {
		raw = schema.AppendString(nil, value)
	} else if !json.Valid(raw) {
		return Config{}, &Error{[]Problem{{Key: name, Message: fmt.Sprintf("got %q, want a list as in JSON", value)}}}
	}
	r := reader{strict: true, turn: true, data: append(append(append(schema.AppendString([]byte{'{'}, name), ':'), raw...), '}')}
	c := r.config()
	return c, r.err()
}

func (r *reader) err() error {
	if len(r.errs) == 0 {
		return nil
	}
	return &Error{r.errs}
}

// problem is one at a JSON pointer into the data.
func (r *reader) problem(pointer, format string, args ...any) Problem {
	p := Problem{File: r.file, Key: strings.ReplaceAll(strings.TrimPrefix(pointer, "/"), "/", "."), Message: fmt.Sprintf(format, args...)}
	if r.file != "" {
		p.Line, p.Column = position(r.data, offsetOf(r.data, pointer))
	}
	return p
}

func (r *reader) fail(pointer, format string, args ...any) {
	if len(r.errs) < maxProblems {
		r.errs = append(r.errs, r.problem(pointer, format, args...))
	}
}

// complain is an error where the source is strict, else a warning.
func (r *reader) complain(pointer, format string, args ...any) {
	if r.strict {
		r.fail(pointer, format, args...)
	} else if len(r.warning) < maxProblems {
		r.warning = append(r.warning, r.problem(pointer, format, args...))
	}
}

// members reads the members of the whole, which must be an object.
func (r *reader) members(each func(name string, value json.RawMessage)) {
	var whole map[string]json.RawMessage
	err := json.Unmarshal(r.data, &whole)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		p := Problem{File: r.file, Message: "no JSON: " + syntax.Error()}
		p.Line, p.Column = position(r.data, int(syntax.Offset)-1)
		r.errs = append(r.errs, p)
		return
	}
	if err != nil || whole == nil {
		r.fail("", "want a JSON object")
		return
	}
	if err := schema.Scan(r.data, 32, func(name string, value []byte) { each(name, value) }); err != nil {
		r.fail("", "%s", err.Message)
	}
}

func (r *reader) config() (c Config) {
	r.members(func(name string, value json.RawMessage) {
		if k, known := keyNamed(name); known {
			r.member(&c, k, value)
		} else if name != "$schema" && name != "" && len(r.errs) < maxProblems && len(r.warning) < maxProblems {
			hint := ""
			if n := near(name); n != "" {
				hint = fmt.Sprintf("; did you mean %s?", n)
			}
			r.complain("/"+name, "is no key%s", hint)
		}
	})
	r.check(&c)
	return c
}

func (r *reader) member(c *Config, k Key, value json.RawMessage) {
	switch {
	case string(bytes.TrimSpace(value)) == "null":
	case k.Refused != "":
		r.complain("/"+k.Name, "has no effect: %s", k.Refused)
	case r.turn && k.When == schema.WhenSession:
		r.fail("/"+k.Name, "counts when a conversation begins; give it in the prompt config")
	default:
		one := append(schema.AppendString([]byte{'{'}, k.Name), ':')
		one = append(append(one, coerced(k, value)...), '}')
		var read Config
		var bad *schema.Error
		if errors.As(schema.Decode(one, &read), &bad) {
			for _, e := range bad.Data.Errors {
				r.fail(e.InstancePath, "%s", e.Message)
			}
			return
		}
		c.take(k, &read)
	}
}

// coerced is a value in the type of its key where it is a string that says as much, as
// mlx-harmony takes it. Words that are one of a few are taken in any case.
func coerced(k Key, value json.RawMessage) json.RawMessage {
	value = bytes.TrimSpace(value)
	if len(value) == 0 || value[0] != '"' {
		return value
	}
	text := strings.TrimSpace(schema.Unquote(value))
	switch k.typ.Kind() {
	case reflect.Float64, reflect.Int, reflect.Int64:
		if f, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(f) && !math.IsInf(f, 0) {
			if n, err := strconv.ParseInt(text, 10, 64); err == nil {
				return strconv.AppendInt(nil, n, 10)
			}
			return strconv.AppendFloat(nil, f, 'g', -1, 64)
		}
	case reflect.Bool:
		switch strings.ToLower(text) {
		case "true", "yes", "on", "1":
			return []byte("true")
		case "false", "no", "off", "0":
			return []byte("false")
		}
	case reflect.String:
		if k.Name == "reasoning_effort" || k.Name == "loop_detection" {
			return schema.AppendString(nil, strings.ToLower(text))
		}
	}
	return value
}

// roles are those of example dialogues.
var roles = []string{"user", "assistant", "tool", "system", "developer"}

// check holds c to the rules that no type has. What breaks one is taken out.
func (r *reader) check(c *Config) {
	for i, dialogue := range or(c.ExampleDialogues, nil) {
		for n := range dialogue {
			turn := &dialogue[n]
			turn.Role = strings.ToLower(strings.TrimSpace(turn.Role))
			if !slices.Contains(roles, turn.Role) {
				r.fail(fmt.Sprintf("/example_dialogues/%d/%d/role", i, n), "got %q, want one of %q", turn.Role, roles)
				c.ExampleDialogues = nil
			}
		}
	}
	for i, id := range or(c.XTCSpecialTokens, nil) {
		if id < 0 || id > math.MaxInt32 {
			r.fail(fmt.Sprintf("/xtc_special_tokens/%d", i), "got %d, want the id of a token", id)
			c.XTCSpecialTokens = nil
		}
	}
	if c.DeterministicTimeISO != nil {
		if _, err := parseISO(*c.DeterministicTimeISO); err != nil {
			r.fail("/deterministic_time_iso", "got %q, want a time such as 2000-01-01T00:00:00Z", *c.DeterministicTimeISO)
			c.DeterministicTimeISO = nil
		}
	}
	if _, err := readPlaceholders(c.Placeholders); err != nil {
		r.fail("/placeholders", "%v", err)
		c.Placeholders = nil
	}
}

// position is the line and column of an offset, from 1; columns are bytes.
func position(data []byte, offset int) (line, column int) {
	before := data[:max(0, min(offset, len(data)))]
	return bytes.Count(before, []byte("\n")) + 1, len(before) - bytes.LastIndexByte(before, '\n')
}

// offsetOf is where the value begins that a JSON pointer points at, or the last part of it
// that is there.
func offsetOf(data []byte, pointer string) int {
	at, rest := skipSpace(data, 0), strings.Split(strings.TrimPrefix(pointer, "/"), "/")
	if pointer == "" {
		return at
	}
	for _, part := range rest {
		next := child(data[at:], part)
		if next < 0 {
			break
		}
		at += next
	}
	return at
}

func skipSpace(data []byte, at int) int {
	for at < len(data) && strings.IndexByte(" \t\r\n:,", data[at]) >= 0 {
		at++
	}
	return at
}

// child is where in a JSON value the member or element begins that part names, -1 where
// there is none.
func child(data []byte, part string) int {
	d := json.NewDecoder(bytes.NewReader(data))
	open, err := d.Token()
	if err != nil {
		return -1
	}
	for i := 0; d.More(); i++ {
		name := strconv.Itoa(i)
		if open == json.Delim('{') {
			t, err := d.Token()
			if err != nil {
				return -1
			}
			name, _ = t.(string)
		}
		at := skipSpace(data, int(d.InputOffset()))
		if name == part {
			return at
		}
		var skipped json.RawMessage
		if d.Decode(&skipped) != nil {
			return -1
		}
	}
	return -1
}
