package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Bounds of a client's JSON Schema. The exponents of numbers are bounded because they are
// computed to the last digit.
const (
	MaxSchemaBytes = 64 << 10
	MaxSchemaDepth = 32
	MaxSubschemas  = 1000
	// MaxSchemaNames bounds the names of members that lie in one another: that is how long
	// a JSON Pointer into the schema can be.
	MaxSchemaNames = 2 << 10
	// MaxSchemaValues bounds the commas: what people write has none in every fourth byte.
	MaxSchemaValues = 16 << 10
	// MaxAddressed bounds the subschemas where the library has to say what references
	// mean: it takes some 30 µs for each, and a client waits.
	MaxAddressed      = 150
	maxSchemaExponent = 308 // that of the largest float64
)

// Validator is a client's JSON Schema, ready to check values. It is immutable
// and safe for concurrent use.
type Validator struct {
	// library is the schema in the library's form, made when it is first needed.
	library func() (*compiled, []FieldError)
	// Unchecked are the places in the schema that checks leave out, the first 16.
	Unchecked []FieldError
	// Subschemas counts the schema and those within it: the first check takes time with
	// their number.
	Subschemas int
}

// compiled is a schema as the library has it.
type compiled struct {
	*jsonschema.Schema
	anchors map[string][]*jsonschema.Schema
}

// Compile makes a Validator of a schema for an object: draft 2020-12, or
// draft-07 where $schema says so. References may point into the schema itself, or to
// those of the drafts, only; nothing is ever fetched. A pattern that is no RE2 expression is left
// out and named in Unchecked: look-around and back-references are ECMAScript's,
// and a matcher for them can be made to run for ever.
//
// Where the schema cannot be used it returns the places that are wrong, 16 at
// most, as JSON Pointers into the schema. A thousand subschemas take some milliseconds.
func Compile(raw json.RawMessage) (*Validator, []FieldError) {
	whole := func(format string, args ...any) []FieldError {
		return []FieldError{{Message: fmt.Sprintf(format, args...)}}
	}
	if len(raw) > MaxSchemaBytes {
		return nil, whole("got %d bytes, want at most %d", len(raw), MaxSchemaBytes)
	}
	if bytes.Count(raw, []byte{','}) >= MaxSchemaValues {
		return nil, whole("has %d members and items or more, want fewer", MaxSchemaValues)
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
	w.document(doc)
	if len(w.bad) > 0 {
		return nil, w.bad
	}
	v := &Validator{Unchecked: w.unchecked, Subschemas: w.schemas}
	outside := w.outside
	v.library = sync.OnceValues(func() (*compiled, []FieldError) { return compileLibrary(doc, outside) })
	if w.left != nil {
		if _, bad := v.library(); len(bad) > 0 {
			return nil, bad
		}
	}
	return v, nil
}

// compileLibrary has the library read a schema; outside are references that may leave it.
func compileLibrary(doc any, outside []reference) (*compiled, []FieldError) {
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	c.UseLoader(refusingLoader{})
	c.UseRegexpEngine(func(text string) (jsonschema.Regexp, error) {
		if _, err := syntax.Parse(text, syntax.Perl); err != nil {
			return nil, err
		}
		return &expression{text, sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })}, nil
	})
	const here = base + "schema"
	if err := c.AddResource(here, doc); err != nil {
		return nil, []FieldError{{Message: err.Error()}}
	}
	s, err := c.Compile(here)
	if err != nil {
		return nil, compileErrors(err, outside)
	}
	return &compiled{s, anchorsOf(s)}, nil
}

// Check returns the places in a value that break the schema, 16 at most, as
// JSON Pointers into the value. Data is JSON that Scan has found sound.
func (v *Validator) Check(data json.RawMessage) []FieldError {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return []FieldError{{Message: err.Error()}}
	}
	w := schemaWalk{}
	if w.numbers(value, &place{}); len(w.bad) > 0 {
		return w.bad
	}
	s, bad := v.library()
	if len(bad) > 0 {
		return []FieldError{{Message: "the schema cannot be used: " + bad[0].InstancePath + " " + bad[0].Message}}
	}
	if much := s.tooMuch(value); much != "" {
		return []FieldError{{Message: much}}
	}
	var found *jsonschema.ValidationError
	switch err := s.Validate(value); {
	case err == nil:
		return nil
	case errors.As(err, &found):
		return appendLeaves(nil, found)
	default:
		return []FieldError{{Message: err.Error()}}
	}
}

// expression is compiled when it is first tried: that takes longer than all else about a
// schema, and most tools are never called.
type expression struct {
	text     string
	compiled func() *regexp.Regexp
}

func (e *expression) String() string { return e.text }

func (e *expression) MatchString(s string) bool { return e.compiled().MatchString(s) }

// refusingLoader is asked for every document that the schema does not hold
// itself.
type refusingLoader struct{}

func (refusingLoader) Load(string) (any, error) {
	return nil, errors.New("references to other documents are not followed")
}

// base is where a schema would lie that says nothing else. No such host exists.
const base = "https://tool.invalid/"

// compileErrors turns what the compiler reports into places.
func compileErrors(err error, outside []reference) []FieldError {
	var missing *jsonschema.LoadURLError
	if errors.As(err, &missing) {
		// The error has the whole address, of which the schema may write only the end.
		for _, r := range outside {
			if document, _, _ := strings.Cut(r.text, "#"); document != "" && strings.HasSuffix(missing.URL, strings.TrimLeft(document, "./")) {
				return []FieldError{{InstancePath: r.at.String(), Message: fmt.Sprintf("got %q, want a reference into this schema: no other document is read", clip(r.text))}}
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
