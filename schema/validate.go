package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Bounds of a client's JSON Schema. The number of subschemas is bounded
// because compiling takes time with its square; the exponents of numbers are,
// because the compiler computes them to the last digit.
const (
	MaxSchemaBytes    = 64 << 10
	MaxSchemaDepth    = 32
	MaxSubschemas     = 1000
	maxSchemaExponent = 308 // that of the largest float64
)

// Validator is a client's JSON Schema, ready to check values. It is immutable
// and safe for concurrent use.
type Validator struct {
	compiled *jsonschema.Schema
	anchors  map[string][]*jsonschema.Schema
	// Unchecked are the places in the schema that checks leave out, the first 16.
	Unchecked []FieldError
	// Subschemas counts the schema and those within it: compiling took time with
	// their number.
	Subschemas int
}

// Compile makes a Validator of a schema for an object: draft 2020-12, or
// draft-07 where $schema says so. References may point into the schema itself, or to
// those of the drafts, only; nothing is ever fetched. A pattern that is no RE2 expression is left
// out and named in Unchecked: look-around and back-references are ECMAScript's,
// and a matcher for them can be made to run for ever.
//
// Where the schema cannot be used it returns the places that are wrong, 16 at
// most, as JSON Pointers into the schema.
func Compile(raw json.RawMessage) (*Validator, []FieldError) {
	whole := func(format string, args ...any) []FieldError {
		return []FieldError{{Message: fmt.Sprintf(format, args...)}}
	}
	if len(raw) > MaxSchemaBytes {
		return nil, whole("got %d bytes, want at most %d", len(raw), MaxSchemaBytes)
	}
	if err := Scan(raw, MaxSchemaDepth, nil); err != nil {
		return nil, whole("%s", err.Message)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return nil, whole("%v", err)
	}
	root, ok := doc.(map[string]any)
	if !ok {
		return nil, whole("got %s, want an object", clip(string(raw)))
	}
	w := schemaWalk{}
	w.root(root)
	return w.compile(doc)
}

// compile is Compile for a schema that has been read, of any value.
func (w *schemaWalk) compile(doc any) (*Validator, []FieldError) {
	w.numbers(doc, "")
	w.schema(doc, "")
	if len(w.bad) > 0 {
		return nil, w.bad[:min(len(w.bad), maxFieldErrors)]
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	c.UseLoader(refusingLoader{})
	const here = base + "schema"
	if err := c.AddResource(here, doc); err != nil {
		return nil, []FieldError{{Message: err.Error()}}
	}
	compiled, err := c.Compile(here)
	if err != nil {
		return nil, w.compileErrors(err)
	}
	return &Validator{compiled: compiled, anchors: anchorsOf(compiled), Unchecked: w.unchecked, Subschemas: w.schemas}, nil
}

// Check returns the places in a value that break the schema, 16 at most, as
// JSON Pointers into the value. Data is JSON that Scan has found sound.
func (v *Validator) Check(data json.RawMessage) []FieldError {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return []FieldError{{Message: err.Error()}}
	}
	w := schemaWalk{}
	if w.numbers(value, ""); len(w.bad) > 0 {
		return w.bad[:min(len(w.bad), maxFieldErrors)]
	}
	if much := v.tooMuch(value); much != "" {
		return []FieldError{{Message: much}}
	}
	var found *jsonschema.ValidationError
	switch err := v.compiled.Validate(value); {
	case err == nil:
		return nil
	case errors.As(err, &found):
		return appendLeaves(nil, found)
	default:
		return []FieldError{{Message: err.Error()}}
	}
}

// refusingLoader is asked for every document that the schema does not hold
// itself.
type refusingLoader struct{}

func (refusingLoader) Load(string) (any, error) {
	return nil, errors.New("references to other documents are not followed")
}

// base is where a schema would lie that says nothing else. No such host exists.
const base = "https://tool.invalid/"

// compileErrors turns what the compiler reports into places.
func (w *schemaWalk) compileErrors(err error) []FieldError {
	var missing *jsonschema.LoadURLError
	if errors.As(err, &missing) {
		// The error has the whole address, of which the schema may write only the end.
		for _, r := range w.outside {
			if document, _, _ := strings.Cut(r.Message, "#"); strings.HasSuffix(missing.URL, strings.TrimLeft(document, "./")) {
				return []FieldError{{InstancePath: r.InstancePath, Message: fmt.Sprintf("got %q, want a reference into this schema: no other document is read", clip(r.Message))}}
			}
		}
	}
	var invalid *jsonschema.SchemaValidationError
	var found *jsonschema.ValidationError
	if !errors.As(err, &invalid) || !errors.As(invalid.Err, &found) {
		return []FieldError{{Message: strings.ReplaceAll(err.Error(), base, "")}}
	}
	return appendLeaves(nil, found)
}

// appendLeaves appends the causes that have no causes themselves.
func appendLeaves(places []FieldError, e *jsonschema.ValidationError) []FieldError {
	if len(places) == maxFieldErrors {
		return places
	}
	for _, cause := range e.Causes {
		places = appendLeaves(places, cause)
	}
	if len(e.Causes) > 0 {
		return places
	}
	// The library says where and what in one text; without the place it begins
	// with an empty one.
	what := (&jsonschema.ValidationError{ErrorKind: e.ErrorKind}).Error()
	var at strings.Builder
	for _, name := range e.InstanceLocation {
		at.WriteString(pointer(name))
	}
	return append(places, FieldError{InstancePath: at.String(), Message: strings.TrimPrefix(what, "at '': ")})
}

// schemaWalk looks at what the compiler would take and must not.
type schemaWalk struct {
	bad, unchecked []FieldError
	outside        []FieldError // references that may leave the schema, with their texts
	schemas        int
}

func (w *schemaWalk) fail(path, format string, args ...any) {
	w.bad = append(w.bad, FieldError{InstancePath: path, Message: fmt.Sprintf(format, args...)})
}

// root checks what is true of the outermost schema only.
func (w *schemaWalk) root(s map[string]any) {
	if t, ok := s["type"]; ok && t != "object" {
		w.fail("/type", "got %s, want object: a tool's arguments are one", clip(fmt.Sprint(t)))
	}
	if d, ok := s["$schema"]; ok {
		name, _ := d.(string)
		name = strings.TrimSuffix(name, "#")
		name = strings.TrimPrefix(strings.TrimPrefix(name, "https://"), "http://")
		if name != "json-schema.org/draft/2020-12/schema" && name != "json-schema.org/draft-07/schema" {
			w.fail("/$schema", "got %s, want draft 2020-12 or draft-07", clip(fmt.Sprint(d)))
		}
	}
}

// numbers checks every number, also those in values that are no schemas.
func (w *schemaWalk) numbers(v any, path string) {
	switch v := v.(type) {
	case json.Number:
		_, exponent, _ := strings.Cut(strings.ToLower(v.String()), "e")
		if n, err := strconv.Atoi(exponent); exponent != "" && (err != nil || max(n, -n) > maxSchemaExponent) {
			w.fail(path, "got a number with exponent %s, want at most %d", clip(exponent), maxSchemaExponent)
		}
	case map[string]any:
		for _, name := range sorted(v) {
			w.numbers(v[name], path+pointer(name))
		}
	case []any:
		for i, e := range v {
			w.numbers(e, path+"/"+strconv.Itoa(i))
		}
	}
}

// What the members of a schema hold that are schemas themselves, in either
// draft.
var (
	schemaMembers = []string{"additionalItems", "additionalProperties", "contains", "contentSchema", "else", "if",
		"items", "not", "propertyNames", "then", "unevaluatedItems", "unevaluatedProperties"}
	schemaLists = []string{"allOf", "anyOf", "items", "oneOf", "prefixItems"}
	schemaMaps  = []string{"$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"}
	references  = []string{"$dynamicRef", "$recursiveRef", "$ref"}
)

// schema checks one schema and those within it. It takes out the patterns that
// cannot be checked.
func (w *schemaWalk) schema(v any, path string) {
	s, ok := v.(map[string]any)
	if !ok {
		return
	}
	if w.schemas++; w.schemas == MaxSubschemas+1 {
		w.fail("", "has more than %d subschemas", MaxSubschemas)
	}
	if w.schemas > MaxSubschemas {
		return
	}
	for _, name := range references {
		if ref, ok := s[name].(string); ok && !strings.HasPrefix(ref, "#") {
			w.outside = append(w.outside, FieldError{InstancePath: path + "/" + name, Message: ref})
		}
	}
	w.patterns(s, path)
	for _, name := range schemaMembers {
		w.schema(s[name], path+"/"+name)
	}
	for _, name := range schemaLists {
		list, _ := s[name].([]any)
		for i, e := range list {
			w.schema(e, path+"/"+name+"/"+strconv.Itoa(i))
		}
	}
	for _, name := range schemaMaps {
		if m, ok := s[name].(map[string]any); ok {
			for _, key := range sorted(m) {
				w.schema(m[key], path+"/"+name+pointer(key))
			}
		}
	}
}

// patterns takes the expressions out of s that are not RE2's.
func (w *schemaWalk) patterns(s map[string]any, path string) {
	if p, ok := s["pattern"].(string); ok && !w.expression(p, path+"/pattern") {
		delete(s, "pattern")
	}
	m, _ := s["patternProperties"].(map[string]any)
	for _, p := range sorted(m) {
		if w.expression(p, path+"/patternProperties"+pointer(p)) {
			continue
		}
		delete(m, p)
		// What the expression would have let through must not be refused.
		delete(s, "additionalProperties")
		delete(s, "unevaluatedProperties")
	}
}

// expression reports whether p can be checked.
func (w *schemaWalk) expression(p, path string) bool {
	_, err := regexp.Compile(p)
	if err != nil && len(w.unchecked) < maxFieldErrors {
		w.unchecked = append(w.unchecked, FieldError{InstancePath: path, Message: "is not checked: " + clip(err.Error())})
	}
	return err == nil
}

// sorted returns the names of m in an order that does not change.
func sorted(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

// pointerEscapes are those of RFC 6901. Making it takes longer than using it.
var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

// pointer is a name as a step of a JSON Pointer.
func pointer(name string) string {
	return "/" + pointerEscapes.Replace(name)
}
