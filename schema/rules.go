package schema

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// field is what a struct's field is on the wire.
type field struct {
	name     string
	index    int
	required bool
	rules    rules
}

// rules are the limits of one value, in JSON Schema's words. They are read
// from the tag jsonschema, from which the published schema is made as well.
// On a list of strings all but maxItems are about each string.
type rules struct {
	minimum, maximum     *float64
	minLength, maxLength int // in characters; maxLength 0 is none
	maxItems             int
	enum                 []string
	pattern              *regexp.Regexp
}

var fieldCache sync.Map // reflect.Type to []field

func fieldsOf(t reflect.Type) []field {
	if cached, ok := fieldCache.Load(t); ok {
		return cached.([]field)
	}
	fields := appendFields(nil, t)
	if len(fields) > 64 {
		panic("schema: more than 64 fields in " + t.String())
	}
	cached, _ := fieldCache.LoadOrStore(t, fields)
	return cached.([]field)
}

func appendFields(fields []field, t reflect.Type) []field {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" || !f.IsExported() || f.Anonymous {
			continue
		}
		fields = append(fields, field{
			name:     name,
			index:    i,
			required: !strings.Contains(options, "omit"),
			rules:    parseRules(f.Tag.Get("jsonschema")),
		})
	}
	return fields
}

// parseRules panics on a tag that it does not understand: the tags are ours.
func parseRules(tag string) rules {
	var r rules
	for _, word := range strings.Split(strings.ReplaceAll(tag, `\,`, "\x00"), ",") {
		key, value, _ := strings.Cut(strings.ReplaceAll(word, "\x00", ","), "=")
		switch key {
		case "":
		case "minimum":
			r.minimum = number(value)
		case "maximum":
			r.maximum = number(value)
		case "minLength":
			r.minLength = int(*number(value))
		case "maxLength":
			r.maxLength = int(*number(value))
		case "maxItems":
			r.maxItems = int(*number(value))
		case "enum":
			r.enum = append(r.enum, value)
		case "pattern":
			r.pattern = regexp.MustCompile(value)
		default:
			panic("schema: unknown rule " + word)
		}
	}
	return r
}

func number(s string) *float64 {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		panic(err)
	}
	return &f
}

// check returns what is wrong with a decoded value, or nothing.
func (r *rules) check(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Int, reflect.Int64:
		return r.checkNumber(float64(v.Int()))
	case reflect.Float64:
		return r.checkNumber(v.Float())
	case reflect.String:
		return r.checkString(v.String())
	}
	return ""
}

func (r *rules) checkNumber(f float64) string {
	low := r.minimum != nil && f < *r.minimum
	high := r.maximum != nil && f > *r.maximum
	if !low && !high {
		return ""
	}
	return fmt.Sprintf("got %s, want %s to %s", show(&f), show(r.minimum), show(r.maximum))
}

func show(f *float64) string {
	if f == nil {
		return "any"
	}
	b, err := json.Marshal(*f)
	if err != nil {
		return strconv.FormatFloat(*f, 'g', -1, 64)
	}
	return string(b)
}

func (r *rules) checkString(s string) string {
	n := utf8.RuneCountInString(s)
	switch {
	case n < r.minLength:
		return fmt.Sprintf("got %d characters, want at least %d", n, r.minLength)
	case r.maxLength > 0 && n > r.maxLength:
		return fmt.Sprintf("got %d characters, want at most %d", n, r.maxLength)
	case r.enum != nil && !slices.Contains(r.enum, s):
		return fmt.Sprintf("got %q, want one of %s", clip(s), strings.Join(r.enum, ", "))
	case r.pattern != nil && !r.pattern.MatchString(s):
		return fmt.Sprintf("got %q, want a match of %s", clip(s), r.pattern)
	}
	return ""
}
