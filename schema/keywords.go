package schema

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
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
	// foreign keywords are another draft's: what is within them only counts where a
	// reference leads there, which is the library's to say.
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
		"maxContains": {check: (*schemaWalk).count}, "deprecated": is("boolean"),

		"additionalItems": foreign(onePart),
	})
)

// keywords adds those that the drafts share.
func keywords(own map[string]keyword) map[string]keyword {
	all := map[string]keyword{
		"$ref": {check: (*schemaWalk).reference}, "$id": {check: (*schemaWalk).id}, "$schema": {check: (*schemaWalk).version},
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
	for _, name := range []string{"$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveAnchor", "$recursiveRef", "$vocabulary"} {
		all[name] = keyword{check: (*schemaWalk).address}
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
		if n, ok := exact(v); !ok || !n.IsInt() || n.Sign() < 0 {
			w.fail(at, "got %s, want a whole number, 0 or more", clip(fmt.Sprint(v)))
		}
	}
}

func (w *schemaWalk) positive(v any, at *place) {
	if w.typed(v, "number", at) {
		if n, ok := exact(v); !ok || n.Sign() <= 0 {
			w.fail(at, "got %s, want more than 0", clip(fmt.Sprint(v)))
		}
	}
}

// exact is a number to its last digit; its exponent has been found small.
func exact(v any) (*big.Rat, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return nil, false
	}
	return new(big.Rat).SetString(n.String())
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
	if w.typed(v, "array", at) && len(v.([]any)) == 0 {
		w.fail(at, "got no value, want one at least")
	}
	list, _ := v.([]any)
	w.each(list, at, func(any, *place) {})
}

// each calls check for the items of a list, and wants them to be different.
func (w *schemaWalk) each(list []any, at *place, check func(v any, at *place)) {
	seen := make(map[string]bool, len(list))
	w.items(list, at, check)
	for i, v := range list {
		id := identity(v)
		if seen[id] {
			w.fail(at.item(i), "got %s twice", clip(fmt.Sprint(v)))
			return // one says enough
		}
		seen[id] = true
	}
}

// items calls check for the items of a list until enough of them are wrong.
func (w *schemaWalk) items(list []any, at *place, check func(v any, at *place)) {
	for i, before := 0, w.failed; i < len(list) && w.failed <= before+maxFieldErrors; i++ {
		check(list[i], at.item(i))
	}
}

// members calls check for the members of an object, in their order, until enough of them
// are wrong.
func (w *schemaWalk) members(m map[string]any, at *place, check func(v any, at *place)) {
	before := w.failed
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if check(m[name], at.member(name)); w.failed > before+maxFieldErrors {
			return
		}
	}
}

// identity is the same text for values that JSON Schema takes for equal: 1 is 1.0, and the
// order of members means nothing.
func identity(v any) string {
	switch v := v.(type) {
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE-") {
			if n, ok := exact(v); ok {
				return n.RatString()
			}
		}
		return v.String()
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

// plainID is an address that says nothing but where the whole schema lies.
var plainID = regexp.MustCompile(`^(https?://[A-Za-z0-9.-]+(/[A-Za-z0-9._~/-]*)?|[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*)$`)

// id is the schema's address. Those of its parts change what references mean.
func (w *schemaWalk) id(v any, at *place) {
	if id, _ := v.(string); at.above.above != nil || !plainID.MatchString(id) || strings.Contains(id, "json-schema.org") {
		w.leave(at)
	}
}

// version is the draft, which the whole schema may name.
func (w *schemaWalk) version(_ any, at *place) {
	if at.above.above != nil {
		w.leave(at)
	}
}

// address gives a part of the schema a name, or refers to one.
func (w *schemaWalk) address(v any, at *place) {
	w.leave(at)
	if slices.Contains(references, at.name) {
		w.refer(v, at)
	}
}

// reference is followed once everything has been seen.
func (w *schemaWalk) reference(v any, at *place) {
	if w.typed(v, "string", at) {
		w.refer(v, at)
	}
}
