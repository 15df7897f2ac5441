package schema

import (
	"bytes"
	"embed"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/invopop/jsonschema"
)

// Method is one row of the protocol: a request or a notification.
type Method struct {
	Name string
	// Doc is one sentence.
	Doc  string
	Kind MethodKind
	Side Side
	// Params and Result are wire types. Result is nil where nothing is ever
	// answered, and an interface type where the answer is null.
	Params, Result reflect.Type
}

// MethodKind says whether a method is answered.
type MethodKind string

// The kinds of method. MethodEither is what its sender makes it.
const (
	MethodRequest      MethodKind = "request"
	MethodNotification MethodKind = "notification"
	MethodEither       MethodKind = "either"
)

// Side is the end of the connection at which a method is carried out.
type Side string

// The sides.
const (
	SideServer Side = "server"
	SideClient Side = "client"
)

// published is what the document says of itself.
const published = `The types of harmonyd's protocol. x-methods lists its methods, x-errors its ` +
	`errors. A type that one method has for its params or result names that method: x-method is ` +
	`its name, x-side the side that carries it out, and x-kind is request, notification or either. ` +
	`Members that are not listed are ignored, and null stands for an absent member. Values listed ` +
	`as examples are those in use; more may come.`

// publishedMethod is a Method in the document.
type publishedMethod struct {
	Method      string             `json:"method"`
	Side        Side               `json:"side"`
	Kind        MethodKind         `json:"kind"`
	Description string             `json:"description"`
	Params      *jsonschema.Schema `json:"params"`
	Result      *jsonschema.Schema `json:"result,omitempty"`
}

// publishedError is an ErrorCode in the document.
type publishedError struct {
	Kind      Kind   `json:"kind"`
	Code      int64  `json:"code"`
	Retryable bool   `json:"retryable"`
	Meaning   string `json:"meaning"`
}

// newDocument collects every type which the methods and the errors use. The bounds
// in it are those that Decode enforces, and its descriptions are the comments of
// this package.
func newDocument(methods []Method) (*document, error) {
	src, err := parseSources(sources)
	if err != nil {
		return nil, err
	}
	r := jsonschema.Reflector{
		Anonymous: true, AllowAdditionalProperties: true,
		Mapper: src.named, LookupComment: src.comment,
	}
	d := &document{defs: jsonschema.Definitions{}}
	define := func(t reflect.Type) *jsonschema.Schema {
		if t.Kind() == reflect.Interface {
			return &jsonschema.Schema{Type: "null"}
		}
		s := r.ReflectFromType(t)
		maps.Copy(d.defs, s.Definitions)
		return &jsonschema.Schema{Ref: s.Ref}
	}
	define(reflect.TypeFor[Error]())
	for _, m := range methods {
		row := publishedMethod{m.Name, m.Side, m.Kind, m.Doc, define(m.Params), nil}
		if m.Result != nil {
			row.Result = define(m.Result)
		}
		d.methods = append(d.methods, row)
	}
	for _, def := range d.defs {
		closeEnums(def)
	}
	markTypes(d.defs, d.methods)
	return d, nil
}

// jsonSchema is the protocol as one JSON Schema document, draft 2020-12.
func (d *document) jsonSchema() ([]byte, error) {
	return indented(&jsonschema.Schema{
		Version: jsonschema.Version, Title: "harmonyd", Description: published, Definitions: d.defs,
		Extras: map[string]any{"x-protocolVersion": Version, "x-methods": d.methods, "x-errors": publishedErrors()},
	})
}

func publishedErrors() []publishedError {
	errors := make([]publishedError, len(ErrorCodes))
	for i, e := range ErrorCodes {
		errors[i] = publishedError(e)
	}
	return errors
}

// metaMethod is a method in the list.
type metaMethod struct {
	Method      string     `json:"method"`
	Kind        MethodKind `json:"kind"`
	Description string     `json:"description"`
}

// meta lists the methods by the side that carries them out, and the errors.
func (d *document) meta() ([]byte, error) {
	of := func(s Side) (all []metaMethod) {
		for _, m := range d.methods {
			if m.Side == s {
				all = append(all, metaMethod{m.Method, m.Kind, m.Description})
			}
		}
		return all
	}
	return indented(struct {
		Version       int              `json:"version"`
		AgentMethods  []metaMethod     `json:"agentMethods"`
		ClientMethods []metaMethod     `json:"clientMethods"`
		Errors        []publishedError `json:"errors"`
	}{Version, of(SideServer), of(SideClient), publishedErrors()})
}

// indented is v for people to read, with a line end.
func indented(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "  "); err != nil {
		return nil, err
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// closeEnums drops the examples of members that have no values beside their
// enum.
func closeEnums(s *jsonschema.Schema) {
	if s.Properties == nil {
		return
	}
	for p := s.Properties.Oldest(); p != nil; p = p.Next() {
		if p.Value.Enum != nil {
			p.Value.Examples = nil
		}
	}
}

// markTypes names in each type the method that it belongs to, where there is
// but one.
func markTypes(defs jsonschema.Definitions, rows []publishedMethod) {
	of := map[string][]*publishedMethod{}
	for i := range rows {
		for _, s := range []*jsonschema.Schema{rows[i].Params, rows[i].Result} {
			if s != nil && s.Ref != "" {
				name := strings.TrimPrefix(s.Ref, "#/$defs/")
				of[name] = append(of[name], &rows[i])
			}
		}
	}
	for name, users := range of {
		if m := users[0]; len(users) == 1 {
			defs[name].Extras = map[string]any{"x-method": m.Method, "x-side": m.Side, "x-kind": m.Kind}
		}
	}
}

// sources are the files of this package that declare wire types: the document
// is printed far from them.
//
//go:embed doc.go errors.go generate.go lifecycle.go models.go sampling.go session.go toolcall.go tools.go shorthand.go
var sources embed.FS

// parsed is what the sources say beyond what reflection tells.
type parsed struct {
	docs   map[string]string // by "Type" or "Type.Field"
	values map[string][]any  // the constants of a type
}

func parseSources(from embed.FS) (parsed, error) {
	src := parsed{map[string]string{}, map[string][]any{}}
	files, err := from.ReadDir(".")
	if err != nil {
		return src, err
	}
	for _, f := range files {
		text, err := from.ReadFile(f.Name())
		if err != nil {
			return src, err
		}
		file, err := parser.ParseFile(token.NewFileSet(), f.Name(), text, parser.ParseComments)
		if err != nil {
			return src, err
		}
		for _, d := range file.Decls {
			if g, ok := d.(*ast.GenDecl); ok {
				src.add(g)
			}
		}
	}
	return src, nil
}

func (p parsed) add(g *ast.GenDecl) {
	for _, spec := range g.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			p.docs[spec.Name.Name] = paragraphs(g.Doc.Text())
			s, ok := spec.Type.(*ast.StructType)
			if !ok {
				continue
			}
			for _, f := range s.Fields.List {
				for _, name := range f.Names {
					p.docs[spec.Name.Name+"."+name.Name] = paragraphs(f.Doc.Text())
				}
			}
		case *ast.ValueSpec:
			t, ok := spec.Type.(*ast.Ident)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, v := range spec.Values {
				if lit, ok := v.(*ast.BasicLit); ok {
					p.values[t.Name] = append(p.values[t.Name], literal(lit))
				}
			}
		}
	}
}

func literal(lit *ast.BasicLit) any {
	if s, err := strconv.Unquote(lit.Value); err == nil {
		return s
	}
	return json.Number(lit.Value)
}

// paragraphs undoes the line breaks of a comment but for those that end a
// paragraph.
func paragraphs(comment string) string {
	all := strings.Split(strings.TrimSpace(comment), "\n\n")
	for i := range all {
		all[i] = strings.Join(strings.Fields(all[i]), " ")
	}
	return strings.Join(all, "\n\n")
}

// comment is the doc comment of a type or, where field is given, of its field. It
// calls fields by the names that they have on the wire.
func (p parsed) comment(t reflect.Type, field string) string {
	text := p.docs[t.Name()]
	if field != "" {
		text = p.docs[t.Name()+"."+field]
	}
	if t.Kind() != reflect.Struct {
		return text
	}
	sentence := true // the next word begins one, where every word is capital
	return word.ReplaceAllStringFunc(text, func(w string) string {
		begins := sentence
		sentence = strings.HasSuffix(w, ".") || strings.HasSuffix(w, ":")
		name := strings.TrimRight(w, ".,;:")
		f, ok := t.FieldByName(name)
		if wire, _, _ := strings.Cut(f.Tag.Get("json"), ","); ok && wire != "" && wire != "-" && (!begins || name == field) {
			return wire + w[len(name):]
		}
		return w
	})
}

var word = regexp.MustCompile(`\S+`)

// named is the schema of a type that has constants.
func (p parsed) named(t reflect.Type) *jsonschema.Schema {
	values, ok := p.values[t.Name()]
	if !ok || t.PkgPath() != reflect.TypeFor[Method]().PkgPath() {
		return nil
	}
	if t.Kind() == reflect.Int {
		return &jsonschema.Schema{Type: "integer", Examples: values}
	}
	return &jsonschema.Schema{Type: "string", Examples: values}
}
