package schema

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// Bounds of the search of Hold: how often it asks what grammars hold, less often of a
// large schema.
const (
	maxHoldChecks = 200
	minHoldChecks = 16
	maxHoldBytes  = 2 << 20
)

// Hold returns what grammars hold of a schema that Compile has found sound: all of it
// where check takes it, else the schema without the keywords that it refuses, which
// are left to be checked when the arguments are there. Of a oneOf the alternatives are
// held, not that only one of them fits. Paths are JSON Pointers into the schema.
func Hold(raw json.RawMessage, check func(json.RawMessage) error) (held json.RawMessage, left []Unconstrained) {
	if check(raw) == nil {
		return raw, nil
	}
	h := holder{raw: raw, check: check, out: map[string]bool{}, checks: max(minHoldChecks, min(maxHoldChecks, maxHoldBytes/len(raw)))}
	h.find(raw, "")
	for _, path := range h.candidates {
		h.out[path] = true
	}
	if h.check(h.without()) != nil {
		// Not even types and properties.
		return json.RawMessage(`{"type":"object"}`), []Unconstrained{{}}
	}
	h.add(h.candidates)
	for _, path := range h.candidates {
		if h.out[path] && !slices.ContainsFunc(left, func(u Unconstrained) bool { return strings.HasPrefix(path, u.InstancePath+"/") && u.Keyword != "oneOf" }) {
			left = append(left, Unconstrained{Keyword: path[strings.LastIndexByte(path, '/')+1:], InstancePath: path})
		}
	}
	return h.without(), left
}

// holder looks for the keywords of a schema that a grammar cannot hold.
type holder struct {
	raw        json.RawMessage
	check      func(json.RawMessage) error
	candidates []string        // their paths, outer ones first
	out        map[string]bool // those that are left out
	checks     int             // that may still be made
}

// holdable are the keywords that may be left out: neither types and properties, without
// which nothing is left of a schema, nor what holds a value to nothing.
var holdable = []string{"$dynamicAnchor", "$dynamicRef", "$recursiveAnchor", "$recursiveRef", "$ref", "additionalItems", "additionalProperties", "allOf", "anyOf",
	"const", "contains", "dependencies", "dependentRequired", "dependentSchemas", "else", "enum", "exclusiveMaximum", "exclusiveMinimum", "format", "if", "items",
	"maxContains", "maxItems", "maxLength", "maxProperties", "maximum", "minContains", "minItems", "minLength", "minProperties", "minimum", "multipleOf", "not",
	"oneOf", "pattern", "patternProperties", "prefixItems", "propertyNames", "then", "unevaluatedItems", "unevaluatedProperties", "uniqueItems"}

// find lists the keywords of a schema and those within it.
func (h *holder) find(raw []byte, path string) {
	_ = Scan(raw, MaxSchemaDepth, func(name string, value []byte) { // it is sound
		at := path + pointer(name)
		if slices.Contains(holdable, name) && len(h.candidates) < 4*MaxSubschemas {
			h.candidates = append(h.candidates, at)
		}
		within(name, value, at, func(s []byte, path string) []byte {
			h.find(s, path)
			return s
		})
	})
}

// within calls visit for each schema in the value of a keyword and returns the value with
// what that made of them.
func within(name string, value []byte, path string, visit func(s []byte, path string) []byte) []byte {
	// The older draft's table has the keywords of both.
	switch p := draft07[name].part; {
	case value[0] == '{' && (p == onePart || p == oneOrListPart):
		return visit(value, path)
	case value[0] == '[' && (p == listPart || p == oneOrListPart):
		var items []json.RawMessage
		_ = json.Unmarshal(value, &items)
		for i, s := range items {
			items[i] = visit(s, path+"/"+strconv.Itoa(i))
		}
		return slices.Concat([]byte("["), bytes.Join(rawBytes(items), []byte(",")), []byte("]"))
	case value[0] == '{' && (p == mapPart || p == dependentPart):
		return object(value, func(name string, s []byte) (string, []byte) { return name, visit(s, path+pointer(name)) })
	}
	return value
}

func rawBytes(items []json.RawMessage) [][]byte {
	out := make([][]byte, len(items))
	for i := range items {
		out[i] = items[i]
	}
	return out
}

// object rebuilds a JSON object of the members that change gives; an empty name leaves
// one out.
func object(raw []byte, change func(name string, value []byte) (string, []byte)) []byte {
	out := []byte{'{'}
	_ = Scan(raw, MaxSchemaDepth, func(name string, value []byte) {
		if name, value = change(name, value); value == nil {
			return
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(AppendString(out, name), ':'), value...)
	})
	return append(out, '}')
}

// without is the schema without what is left out.
func (h *holder) without() json.RawMessage { return h.prune(h.raw, "") }

func (h *holder) prune(raw []byte, path string) []byte {
	if len(raw) == 0 || raw[0] != '{' {
		return raw
	}
	var has []string
	_ = Scan(raw, MaxSchemaDepth, func(name string, _ []byte) { has = append(has, name) })
	return object(raw, func(name string, value []byte) (string, []byte) {
		at := path + pointer(name)
		pruned := within(name, value, at, h.prune)
		switch {
		case name == "oneOf" && h.out[at] && !slices.Contains(has, "anyOf"):
			return "anyOf", pruned
		case h.out[at]:
			return "", nil
		// What the names or places that are left out would have let through.
		case name == "additionalProperties" && h.out[path+"/patternProperties"]:
			return "", nil
		case (name == "items" || name == "additionalItems") && (h.out[path+"/prefixItems"] || h.out[path+"/items"]):
			return "", nil
		}
		return name, pruned
	})
}

// add takes keywords in again, as many as the grammar holds.
func (h *holder) add(paths []string) {
	if len(paths) == 0 || h.checks == 0 {
		return
	}
	h.checks--
	for _, path := range paths {
		delete(h.out, path)
	}
	if h.check(h.without()) == nil {
		return
	}
	for _, path := range paths {
		h.out[path] = true
	}
	if len(paths) > 1 {
		h.add(paths[:len(paths)/2])
		h.add(paths[len(paths)/2:])
	}
}
