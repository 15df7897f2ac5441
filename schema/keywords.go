package schema

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A keyword is what a draft of JSON Schema says of a member of a schema: that schemas are
// within its value, or what the value must look like. The two tables say what the drafts'
// own schemas say, which takes their validator a hundred times as long.
type keyword struct {
	// part tells where in the value schemas stand.
	part part
	// check looks at a value without schemas.
	check func(w *schemaWalk, v any, at *place)
	// foreign keywords are another draft's: what is wrong within them only counts where a
	// reference leads there.
	foreign bool
}

// part is where schemas stand in the value of a keyword.
type part int

const (
	noPart        part = iota
	onePart            // the value is one
	listPart           // it is a list of them, of one at least
	oneOrListPart      // either
	mapPart            // its members are
	dependentPart      // each member is one, or a list of names
)

var (
	draft07 = keywords(map[string]keyword{
		"additionalItems": {part: onePart}, "items": {part: oneOrListPart}, "enum": {check: (*schemaWalk).distinct},

		"$defs": foreign(mapPart), "dependentSchemas": foreign(mapPart), "prefixItems": foreign(listPart), "contentSchema": foreign(onePart),
		"unevaluatedItems": foreign(onePart), "unevaluatedProperties": foreign(onePart),
	})
	draft2020 = keywords(map[string]keyword{
		"$defs": {part: mapPart}, "dependentSchemas": {part: mapPart}, "prefixItems": {part: listPart}, "items": {part: onePart},
		"contentSchema": {part: onePart}, "unevaluatedItems": {part: onePart}, "unevaluatedProperties": {part: onePart},
		"dependentRequired": {check: (*schemaWalk).namesOfEach}, "enum": is("array"), "minContains": {check: (*schemaWalk).count},
		"maxContains": {check: (*schemaWalk).count}, "deprecated": is("boolean"), "$anchor": {check: (*schemaWalk).anchor},
		"$dynamicAnchor": {check: (*schemaWalk).anchor}, "$dynamicRef": {check: (*schemaWalk).dynamic}, "$recursiveRef": {check: (*schemaWalk).dynamic},
		"$recursiveAnchor": {check: (*schemaWalk).dynamic}, "$vocabulary": {check: (*schemaWalk).dynamic},

		"additionalItems": foreign(onePart),
	})
)

// keywords adds those that the drafts share.
func keywords(own map[string]keyword) map[string]keyword {
	all := map[string]keyword{
		"$ref": {check: (*schemaWalk).reference}, "$id": {check: (*schemaWalk).id},
		"multipleOf": {check: (*schemaWalk).positive}, "required": {check: (*schemaWalk).names}, "type": {check: (*schemaWalk).types},
		"dependencies": {part: dependentPart},
	}
	for _, name := range []string{"additionalProperties", "contains", "else", "if", "not", "propertyNames", "then"} {
		all[name] = keyword{part: onePart}
	}
	for _, name := range []string{"allOf", "anyOf", "oneOf"} {
		all[name] = keyword{part: listPart}
	}
	for _, name := range []string{"definitions", "patternProperties", "properties"} {
		all[name] = keyword{part: mapPart}
	}
	for _, name := range []string{"$comment", "contentEncoding", "contentMediaType", "description", "format", "pattern", "title"} {
		all[name] = is("string")
	}
	for _, name := range []string{"readOnly", "uniqueItems", "writeOnly"} {
		all[name] = is("boolean")
	}
	for _, name := range []string{"exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum"} {
		all[name] = is("number")
	}
	for _, name := range []string{"maxItems", "maxLength", "maxProperties", "minItems", "minLength", "minProperties"} {
		all[name] = keyword{check: (*schemaWalk).count}
	}
	all["examples"] = is("array")
	for name, k := range own {
		all[name] = k
	}
	return all
}

func foreign(p part) keyword { return keyword{part: p, foreign: true} }

// is wants a value of a type.
func is(want string) keyword {
	return keyword{check: func(w *schemaWalk, v any, at *place) { w.typed(v, want, at) }}
}

// typed reports whether v is of a type.
func (w *schemaWalk) typed(v any, want string, at *place) bool {
	if got := typeOf(v); got != want {
		w.fail(at, "got %s, want %s", got, want)
		return false
	}
	return true
}

// typeOf names the type of a value that UnmarshalJSON has made.
func typeOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	}
	return "number"
}

// count wants a whole number, 0 or more.
func (w *schemaWalk) count(v any, at *place) {
	if w.typed(v, "number", at) {
		if n := decimalOf(v.(json.Number)); n.exponent < 0 || n.negative {
			w.fail(at, "got %s, want a whole number, 0 or more", clip(fmt.Sprint(v)))
		}
	}
}

func (w *schemaWalk) positive(v any, at *place) {
	if w.typed(v, "number", at) {
		if n := decimalOf(v.(json.Number)); n.negative || n.digits == "" {
			w.fail(at, "got %s, want more than 0", clip(fmt.Sprint(v)))
		}
	}
}

// decimal is a number: its digits, the first and the last of which are not 0, times a power
// of 10. It is the same for all spellings of a number. Zero has no digits and is positive.
type decimal struct {
	negative bool
	digits   string
	exponent int
}

// decimalOf reads a number whose exponent has been found small.
func decimalOf(n json.Number) decimal {
	text, negative := strings.CutPrefix(n.String(), "-")
	exponent, _ := strconv.Atoi(exponentOf(n))
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		text = text[:i]
	}
	whole, fraction, _ := strings.Cut(text, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	exponent -= len(fraction)
	short := strings.TrimRight(digits, "0")
	if short == "" {
		return decimal{}
	}
	return decimal{negative, short, exponent + len(digits) - len(short)}
}

// typeNames are the types that a schema may ask for.
var typeNames = []string{"array", "boolean", "integer", "null", "number", "object", "string"}

func (w *schemaWalk) types(v any, at *place) {
	one := func(v any, at *place) {
		if name, _ := v.(string); !slices.Contains(typeNames, name) {
			w.fail(at, "got %s, want one of %s", clip(fmt.Sprint(v)), strings.Join(typeNames, ", "))
		}
	}
	list, ok := v.([]any)
	if !ok {
		one(v, at)
		return
	}
	if len(list) == 0 {
		w.fail(at, "got no type, want one at least")
	}
	w.each(list, at, one)
}

// names wants a list of strings, all of them different.
func (w *schemaWalk) names(v any, at *place) {
	if w.typed(v, "array", at) {
		w.each(v.([]any), at, func(v any, at *place) { w.typed(v, "string", at) })
	}
}

func (w *schemaWalk) namesOfEach(v any, at *place) {
	if w.typed(v, "object", at) {
		w.members(v.(map[string]any), at, w.names)
	}
}

// distinct wants a list of one value or more, all of them different.
func (w *schemaWalk) distinct(v any, at *place) {
	if w.typed(v, "array", at) {
		if list := v.([]any); len(list) == 0 {
			w.fail(at, "got no value, want one at least")
		} else {
			w.different(list, at)
		}
	}
}

// each calls check for the items of a list, and wants them to be different.
func (w *schemaWalk) each(list []any, at *place, check func(v any, at *place)) {
	w.items(list, at, check)
	w.different(list, at)
}

// different wants the items of a list to be so.
func (w *schemaWalk) different(list []any, at *place) {
	if w.full() {
		return
	}
	seen := make(map[string]bool, len(list))
	for i, v := range list {
		id := identity(v)
		if seen[id] {
			w.fail(at.item(i), "got %s twice", clip(fmt.Sprint(v)))
			return // one says enough
		}
		seen[id] = true
	}
}

// items calls check for the items of a list.
func (w *schemaWalk) items(list []any, at *place, check func(v any, at *place)) {
	for i := 0; i < len(list) && !w.full(); i++ {
		check(list[i], at.item(i))
	}
}

// members calls check for the members of an object, in their order.
func (w *schemaWalk) members(m map[string]any, at *place, check func(v any, at *place)) {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if check(m[name], at.member(name)); w.full() {
			return
		}
	}
}

// identity is the same text for values that JSON Schema takes for equal: 1 is 1.0, and the
// order of members means nothing.
func identity(v any) string {
	switch v := v.(type) {
	case json.Number:
		if text := v.String(); !strings.ContainsAny(text, ".eE-") && text[len(text)-1] != '0' {
			return text // as it comes out below, which takes longer
		}
		d := decimalOf(v)
		if d.negative {
			d.digits = "-" + d.digits
		}
		if d.exponent != 0 {
			d.digits += "e" + strconv.Itoa(d.exponent)
		}
		return d.digits
	case string:
		return strconv.Quote(v)
	case []any:
		items := make([]string, len(v))
		for i := range v {
			items[i] = identity(v[i])
		}
		return "[" + strings.Join(items, ",") + "]"
	case map[string]any:
		members := make([]string, 0, len(v))
		for name, value := range v {
			members = append(members, strconv.Quote(name)+":"+identity(value))
		}
		slices.Sort(members)
		return "{" + strings.Join(members, ",") + "}"
	}
	return fmt.Sprint(v)
}

// id is the schema's address, which the library reads. Those of its parts change what
// references mean.
func (w *schemaWalk) id(v any, at *place) {
	switch id, _ := v.(string); {
	case at.above.above != nil || strings.Contains(id, "json-schema.org"):
		w.leave(at)
	case w.typed(v, "string", at):
		w.address = id
	}
}

// anchorName is what $anchor may be.
var anchorName = regexp.MustCompile(`^[A-Za-z_][-A-Za-z0-9._]*$`)

// anchor gives a schema a name, by which it can be referred to.
func (w *schemaWalk) anchor(v any, at *place) {
	name, _ := v.(string)
	switch other := w.anchors[name]; {
	case !w.typed(v, "string", at):
	case !anchorName.MatchString(name):
		w.fail(at, "got %q, want a letter or _, and then letters, digits and -._", clip(name))
	case other != nil && other != at.above:
		w.leave(at) // whether they are names in one another's sight
	default:
		w.anchors[name] = at.above
	}
}

// dynamic is what means something else in each place that it is seen from.
func (w *schemaWalk) dynamic(v any, at *place) {
	w.leave(at)
	if text, ok := v.(string); ok && !strings.HasPrefix(text, "#") && strings.HasSuffix(at.name, "Ref") {
		w.outside = append(w.outside, reference{at, text})
	}
}

// reference is followed once everything has been seen.
func (w *schemaWalk) reference(v any, at *place) {
	text, _ := v.(string)
	switch {
	case !w.typed(v, "string", at):
	case strings.HasPrefix(text, "#"):
		w.inside = append(w.inside, reference{at, text})
	default:
		w.outside = append(w.outside, reference{at, text})
		w.leave(at)
	}
}
