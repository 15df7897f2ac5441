package schema

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
)

// schemaWalk goes through a schema once, in the order of names, and says whether it is sound:
// whether each keyword has the value that its draft wants, and each reference leads to a
// schema. What only addresses decide it leaves to the library.
type schemaWalk struct {
	draft          map[string]keyword
	bad, unchecked []FieldError // the first places of each
	schemas        int          // boolean ones too
	values         int          // objects and booleans, wherever they stand
	inside         []reference
	outside        []reference       // those that may leave the schema
	anchors        map[string]*place // the schemas that have a name
	address        string            // the $id of the whole schema
	foreign        int               // how many schemas and keywords of other drafts the walk is within
	left           *place            // the first place that the library has to judge
	// Of the expressions: Unicode classes, bytes and instructions.
	classes, written, size int
}

// reference is the text of a $ref or its like.
type reference struct {
	at   *place
	text string
}

// fail notes that something is wrong. Within another draft's keywords that only counts where a
// reference leads there, which is the library's to say.
func (w *schemaWalk) fail(at *place, format string, args ...any) {
	if w.foreign > 0 {
		w.leave(at)
	} else if len(w.bad) < maxFieldErrors {
		w.bad = append(w.bad, FieldError{InstancePath: at.String(), Message: fmt.Sprintf(format, args...)})
	}
}

// full reports whether nothing more of the schema matters.
func (w *schemaWalk) full() bool { return len(w.bad) == maxFieldErrors || w.schemas > MaxSubschemas }

// leave has the library say whether the schema is sound.
func (w *schemaWalk) leave(at *place) {
	if w.left == nil {
		w.left = at
	}
}

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
	if w.measure(doc, 0) > MaxSchemaNames {
		w.fail(at, "the names of members that lie in one another have more than %d bytes", MaxSchemaNames)
		return
	}
	root, _ := doc.(map[string]any)
	w.draft, w.anchors = draft2020, map[string]*place{}
	if version, ok := root["$schema"]; ok {
		if w.draft = draftOf(version); w.draft == nil {
			// Of another draft, of which the library may know.
			w.draft, w.foreign = draft2020, 1
			w.leave(at)
		}
	}
	w.schema(doc, at)
	if w.schemas > MaxSubschemas {
		w.bad = []FieldError{{Message: fmt.Sprintf("has more than %d subschemas", MaxSubschemas)}}
		return
	}
	for _, r := range w.inside {
		if !w.leads(doc, r.text) {
			w.leave(r.at)
		}
	}
	if _, named := w.draft["$anchor"]; !named && root["$ref"] != nil && w.address != "" {
		w.leave(at) // draft-07 reads no $id beside a $ref
	}
	if w.left == nil && w.address != "" {
		alone := map[string]any{"$id": w.address}
		if version, ok := root["$schema"]; ok {
			alone["$schema"] = version
		}
		_, wrong := compileLibrary(alone, nil)
		w.bad = append(w.bad, wrong...)
	}
	if w.left != nil && len(w.bad) == 0 && (w.schemas > MaxAddressed || w.values > 2*MaxAddressed) {
		w.bad = []FieldError{{InstancePath: w.left.String(), Message: fmt.Sprintf("is for schemas of at most %d subschemas; larger ones may refer to their own only, "+
			"by JSON Pointers such as #/$defs/name and by $anchor, and have one $id and one $schema", MaxAddressed)}}
	}
}

// measure counts the values of a document and returns the bytes of the names in one another,
// where there are most. What the library does takes time with their square.
func (w *schemaWalk) measure(v any, names int) (most int) {
	most = names
	switch v := v.(type) {
	case bool:
		w.values++
	case map[string]any:
		w.values++
		for name, e := range v {
			most = max(most, w.measure(e, names+len(name)))
		}
	case []any:
		for _, e := range v {
			most = max(most, w.measure(e, names))
		}
	}
	return most
}

// numbers checks every number, also those in values that are no schemas.
func (w *schemaWalk) numbers(v any, at *place) {
	if hasLargeExponent(v) {
		w.largeExponents(v, at)
	}
}

// largeExponents names the places of the first ones.
func (w *schemaWalk) largeExponents(v any, at *place) {
	switch v := v.(type) {
	case json.Number:
		if hasLargeExponent(v) {
			w.fail(at, "got a number with exponent %s, want at most %d", clip(exponentOf(v)), maxSchemaExponent)
		}
	case map[string]any:
		w.members(v, at, w.largeExponents)
	case []any:
		w.items(v, at, w.largeExponents)
	}
}

// hasLargeExponent reports whether a number within v takes too long to compute.
func hasLargeExponent(v any) bool {
	switch v := v.(type) {
	case json.Number:
		text := exponentOf(v)
		n, err := strconv.Atoi(text)
		return text != "" && (err != nil || max(n, -n) > maxSchemaExponent)
	case map[string]any:
		for _, e := range v {
			if hasLargeExponent(e) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, hasLargeExponent)
	}
	return false
}

// exponentOf is what a number has behind its e, or nothing.
func exponentOf(n json.Number) string {
	if i := strings.IndexAny(n.String(), "eE"); i >= 0 {
		return n.String()[i+1:]
	}
	return ""
}

// schema checks one schema and those within it. It takes out the patterns that
// cannot be checked.
func (w *schemaWalk) schema(v any, at *place) {
	s, isObject := v.(map[string]any)
	if _, isBool := v.(bool); !isObject && !isBool {
		w.fail(at, "got %s, want object or boolean", typeOf(v))
		return
	}
	if w.schemas++; w.full() {
		return
	}
	if _, ok := s["$schema"]; ok && at.above != nil {
		// What its draft says of it is the library's to know.
		w.leave(at.member("$schema"))
		w.foreign++
		defer func() { w.foreign-- }()
	}
	w.patterns(s, at)
	for _, name := range slices.Sorted(maps.Keys(s)) {
		k, ok := w.draft[name]
		if !ok {
			continue
		}
		if k.foreign {
			w.foreign++
		}
		if in := at.member(name); k.check != nil {
			k.check(w, s[name], in)
		} else {
			w.parts(k.part, s[name], in)
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

// patterns takes the expressions out of s that cannot be checked.
func (w *schemaWalk) patterns(s map[string]any, at *place) {
	if p, ok := s["pattern"].(string); ok && !w.expression(p, at.member("pattern")) {
		delete(s, "pattern")
	}
	m, _ := s["patternProperties"].(map[string]any)
	for _, p := range slices.Sorted(maps.Keys(m)) {
		if w.expression(p, at.member("patternProperties").member(p)) {
			continue
		}
		delete(m, p)
		// What the expression would have let through must not be refused.
		delete(s, "additionalProperties")
		delete(s, "unevaluatedProperties")
	}
}

// Bounds of the expressions of one schema, all together: their bytes, their Unicode classes,
// each of which takes some 100 µs to read, and their instructions, which stay in memory.
const (
	maxExpressions  = 32 << 10
	maxClasses      = 64
	maxInstructions = 50_000
)

// expression reports whether p can be checked.
func (w *schemaWalk) expression(p string, at *place) bool {
	why := ""
	if w.classes += strings.Count(p, `\p`) + strings.Count(p, `\P`); w.classes > maxClasses {
		why = fmt.Sprintf("the schema has more than %d Unicode classes", maxClasses)
	} else if w.written += len(p); w.written > maxExpressions {
		why = fmt.Sprintf("the schema's expressions have more than %d bytes", maxExpressions)
	} else if re, err := syntax.Parse(p, syntax.Perl); err != nil {
		why = clip(err.Error())
	} else if w.size += instructions(re); w.size > maxInstructions {
		why = "the schema's expressions are too large together"
	}
	if why != "" && len(w.unchecked) < maxFieldErrors {
		w.unchecked = append(w.unchecked, FieldError{InstancePath: at.String(), Message: "is not checked: " + why})
	}
	return why == ""
}

// instructions is about how many an expression is compiled to.
func instructions(re *syntax.Regexp) int {
	n := 1 + len(re.Rune)/8
	for _, sub := range re.Sub {
		n += instructions(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Min, re.Max, 1)
	}
	return n
}

// leads reports whether a reference leads to what the walk has seen as a schema.
func (w *schemaWalk) leads(doc any, ref string) bool {
	pointer, err := url.PathUnescape(ref[1:])
	if err != nil || strings.ContainsAny(ref, " \\^\"<>`{|}") {
		return false // the library knows what it means, if anything
	}
	if w.anchors[pointer] != nil || pointer == "" {
		return true
	}
	if pointer[0] != '/' {
		return false
	}
	v, is := doc, onePart
	for step := range strings.SplitSeq(pointer[1:], "/") {
		if v, is = w.step(v, is, unescapePointer.Replace(step)); is == noPart {
			return false
		}
	}
	kind := typeOf(v)
	return is == onePart && (kind == "object" || kind == "boolean")
}

// step goes a step of a JSON Pointer from a value that is such a part of a schema.
func (w *schemaWalk) step(v any, is part, step string) (any, part) {
	switch of := v.(type) {
	case map[string]any:
		v, ok := of[step]
		if !ok || is == listPart {
			return nil, noPart
		}
		if is != onePart { // a member that is a schema, or a list of names
			return v, onePart
		}
		is = w.draft[step].part
		if _, isList := v.([]any); is == oneOrListPart && isList {
			is = listPart
		} else if is == oneOrListPart {
			is = onePart
		}
		return v, is
	case []any:
		i, err := strconv.Atoi(step)
		if is == listPart && err == nil && i >= 0 && i < len(of) && strconv.Itoa(i) == step {
			return of[i], onePart
		}
	}
	return nil, noPart
}
