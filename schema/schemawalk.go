package schema

import (
	"encoding/json"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
)

// schemaWalk goes through a schema once and says whether it is sound: whether each keyword
// has the value that its draft wants, and each reference leads to a schema. What only
// addresses decide it leaves to the library.
type schemaWalk struct {
	draft          map[string]keyword
	bad, unchecked []FieldError // the first places of each
	failed         int          // how often something was wrong
	schemas        int
	inside         []reference
	outside        []reference // those that may leave the schema
	foreign        int         // how many keywords of other drafts the walk is within
	left           []*place    // what the library has to judge
}

// reference is the text of a $ref or its like.
type reference struct {
	at   *place
	text string
}

func (w *schemaWalk) fail(at *place, format string, args ...any) {
	w.failed++
	if w.foreign > 0 {
		w.leave(at)
		return
	}
	note(&w.bad, at, func() string { return fmt.Sprintf(format, args...) })
}

// note adds a place to the first ones in their order, as many as an answer names: a schema
// may be wrong in ten thousand.
func note(places *[]FieldError, at *place, message func() string) {
	path := at.String()
	i, _ := slices.BinarySearchFunc(*places, path, func(f FieldError, path string) int { return strings.Compare(f.InstancePath, path) })
	if i == maxFieldErrors {
		return
	}
	*places = slices.Insert(*places, i, FieldError{InstancePath: path, Message: message()})
	*places = (*places)[:min(len(*places), maxFieldErrors)]
}

// leave has the library say whether the schema is sound.
func (w *schemaWalk) leave(at *place) { w.left = append(w.left, at) }

// root checks what is true of a tool's outermost schema only.
func (w *schemaWalk) root(s map[string]any) {
	at := &place{}
	if t, ok := s["type"]; ok && t != "object" {
		w.fail(at.member("type"), "got %s, want object: a tool's arguments are one", clip(fmt.Sprint(t)))
	}
	if d, ok := s["$schema"]; ok && draftOf(d) == nil {
		w.fail(at.member("$schema"), "got %s, want draft 2020-12 or draft-07", clip(fmt.Sprint(d)))
	}
}

// draftOf is the draft that a $schema names, or nil.
func draftOf(name any) map[string]keyword {
	text, _ := name.(string)
	switch protocol, where, _ := strings.Cut(strings.TrimSuffix(text, "#"), "://"); {
	case protocol != "http" && protocol != "https":
		return nil
	case where == "json-schema.org/draft/2020-12/schema":
		return draft2020
	case where == "json-schema.org/draft-07/schema":
		return draft07
	}
	return nil
}

// document goes through a whole document.
func (w *schemaWalk) document(doc any) {
	at := &place{}
	w.numbers(doc, at)
	w.draft = draft2020
	if s, ok := doc.(map[string]any); ok && s["$schema"] != nil {
		if w.draft = draftOf(s["$schema"]); w.draft == nil {
			w.draft, w.foreign = draft2020, 1
			w.leave(at)
		}
	}
	w.schema(doc, at)
	for _, r := range w.inside {
		if !w.leads(doc, r.text) {
			w.leave(r.at)
		}
	}
	if len(w.left) > 0 && w.schemas > MaxAddressed {
		first := slices.MinFunc(w.left, func(a, b *place) int { return strings.Compare(a.String(), b.String()) })
		w.foreign = 0
		w.fail(first, "a schema of more than %d subschemas may only refer to its own, by JSON Pointers such as #/$defs/name", MaxAddressed)
	}
}

// numbers checks every number, also those in values that are no schemas.
func (w *schemaWalk) numbers(v any, at *place) {
	switch v := v.(type) {
	case json.Number:
		if exponent := largeExponent(v); exponent != "" {
			w.fail(at, "got a number with exponent %s, want at most %d", clip(exponent), maxSchemaExponent)
		}
	case map[string]any:
		for name, e := range v {
			w.numbers(e, at.member(name))
		}
	case []any:
		for i, e := range v {
			// A long list is one of numbers, and its places are not needed.
			if n, ok := e.(json.Number); !ok || largeExponent(n) != "" {
				w.numbers(e, at.item(i))
			}
		}
	}
}

// largeExponent is a number's exponent, if it is too large.
func largeExponent(n json.Number) string {
	i := strings.IndexAny(n.String(), "eE")
	if i < 0 {
		return ""
	}
	exponent := n.String()[i+1:]
	if n, err := strconv.Atoi(exponent); err == nil && max(n, -n) <= maxSchemaExponent {
		return ""
	}
	return exponent
}

// references are the keywords that refer to a schema.
var references = []string{"$dynamicRef", "$recursiveRef", "$ref"}

// schema checks one schema and those within it. It takes out the patterns that
// cannot be checked.
func (w *schemaWalk) schema(v any, at *place) {
	s, ok := v.(map[string]any)
	if !ok {
		if _, ok := v.(bool); !ok {
			w.fail(at, "got %s, want object or boolean", typeOf(v))
		}
		return
	}
	if w.schemas++; w.schemas == MaxSubschemas+1 {
		note(&w.bad, nil, func() string { return fmt.Sprintf("has more than %d subschemas", MaxSubschemas) })
	}
	if w.schemas > MaxSubschemas {
		return
	}
	w.patterns(s, at)
	for name, value := range s {
		k, ok := w.draft[name]
		if !ok {
			continue
		}
		if k.foreign {
			w.foreign++
		}
		if in := at.member(name); k.check != nil {
			k.check(w, value, in)
		} else {
			w.parts(k.part, value, in)
		}
		if k.foreign {
			w.foreign--
		}
	}
}

// parts checks the schemas in the value of a keyword.
func (w *schemaWalk) parts(p part, v any, at *place) {
	list, isList := v.([]any)
	switch {
	case p == onePart || p == oneOrListPart && !isList:
		w.schema(v, at)
	case p == listPart || p == oneOrListPart:
		if w.typed(v, "array", at) && len(list) == 0 {
			w.fail(at, "got no schema, want one at least")
		}
		w.items(list, at, w.schema)
	case w.typed(v, "object", at):
		w.members(v.(map[string]any), at, func(v any, at *place) {
			if _, isList := v.([]any); isList && p == dependentPart {
				w.names(v, at)
			} else {
				w.schema(v, at)
			}
		})
	}
}

// patterns takes the expressions out of s that are not RE2's.
func (w *schemaWalk) patterns(s map[string]any, at *place) {
	if p, ok := s["pattern"].(string); ok && !w.expression(p, at.member("pattern")) {
		delete(s, "pattern")
	}
	m, _ := s["patternProperties"].(map[string]any)
	for p := range m {
		if w.expression(p, at.member("patternProperties").member(p)) {
			continue
		}
		delete(m, p)
		// What the expression would have let through must not be refused.
		delete(s, "additionalProperties")
		delete(s, "unevaluatedProperties")
	}
}

// expression reports whether p can be checked.
func (w *schemaWalk) expression(p string, at *place) bool {
	_, err := syntax.Parse(p, syntax.Perl)
	if err != nil {
		note(&w.unchecked, at, func() string { return "is not checked: " + clip(err.Error()) })
	}
	return err == nil
}

// refer notes a reference.
func (w *schemaWalk) refer(v any, at *place) {
	switch text, _ := v.(string); {
	case !strings.HasPrefix(text, "#"):
		w.outside = append(w.outside, reference{at, text})
		w.leave(at)
	case at.name == "$ref":
		w.inside = append(w.inside, reference{at, text})
	}
}

// plainPointer is a JSON Pointer that means in a URL what it says.
var plainPointer = regexp.MustCompile(`^(/[A-Za-z0-9_$.-]*)+$`)

// leads reports whether a reference leads to what the walk has seen as a schema.
func (w *schemaWalk) leads(doc any, ref string) bool {
	if ref == "#" {
		return true
	}
	if !plainPointer.MatchString(ref[1:]) {
		return false
	}
	v, is := doc, onePart
	for step := range strings.SplitSeq(ref[2:], "/") {
		switch of := v.(type) {
		case map[string]any:
			v = of[step]
			switch is {
			case onePart:
				k := w.draft[step]
				if is = k.part; k.foreign {
					return false
				}
				if _, isList := v.([]any); is == oneOrListPart && isList {
					is = listPart
				} else if is == oneOrListPart {
					is = onePart
				}
			case mapPart, dependentPart:
				is = onePart
			default:
				return false
			}
		case []any:
			i, err := strconv.Atoi(step)
			if is != listPart || err != nil || i < 0 || i >= len(of) || strconv.Itoa(i) != step {
				return false
			}
			v, is = of[i], onePart
		default:
			return false
		}
	}
	_, isBool := v.(bool)
	_, isMap := v.(map[string]any)
	return is == onePart && (isBool || isMap)
}
