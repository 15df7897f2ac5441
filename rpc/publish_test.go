package rpc_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"golang.org/x/tools/txtar"

	"harmonyd/rpc"
	"harmonyd/schema"
)

// TestSchemaIsFresh shows each change of the protocol where changes are read, and
// keeps the types of the editors to it.
func TestSchemaIsFresh(t *testing.T) {
	files := map[schema.Language]string{
		schema.LanguageJSONSchema: "testdata/schema.json",
		schema.LanguageMeta:       "testdata/meta.json",
		schema.LanguageTypeScript: "../editors/vscode/src/protocol.ts",
		schema.LanguageLua:        "../editors/nvim/lua/harmonyd/protocol.lua",
	}
	for _, format := range schema.Languages {
		got, err := rpc.Publish(format)
		require.NoError(t, err)
		again, err := rpc.Publish(format)
		require.NoError(t, err)
		require.Equal(t, string(got), string(again), "the same bytes each time")
		file := files[format]
		require.Equal(t, format.File(), filepath.Base(file))
		if *update {
			require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
			require.NoError(t, os.WriteFile(file, got, 0o644))
			continue
		}
		want, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), "%s: run go test ./rpc -run SchemaIsFresh -update", file)
	}
	_, err := rpc.Publish("xml")
	require.ErrorContains(t, err, `language "xml": want one of`)
}

// published is the document, ready to validate with a library that had no part
// in making it.
type published struct {
	Methods []struct {
		Method         string
		Side           schema.Side
		Kind           schema.MethodKind
		Params, Result json.RawMessage
	} `json:"x-methods"`
	Defs map[string]struct {
		Description string
		Properties  map[string]struct{ Description string }
		Method      string `json:"x-method"`
	} `json:"$defs"`
	Errors []schema.ErrorCode `json:"x-errors"`

	compiler *jsonschema.Compiler
	compiled map[string]*jsonschema.Schema
}

const at = "mem:///schema.json"

func publish(t *testing.T) *published {
	t.Helper()
	text, err := rpc.Publish(schema.LanguageJSONSchema)
	require.NoError(t, err)
	p := &published{compiler: jsonschema.NewCompiler(), compiled: map[string]*jsonschema.Schema{}}
	require.NoError(t, json.Unmarshal(text, p))
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	require.NoError(t, p.compiler.AddResource(at, doc))
	return p
}

// validate checks JSON text against the schema at a JSON Pointer.
func (p *published) validate(t *testing.T, place, text string) error {
	t.Helper()
	s := p.compiled[place]
	if s == nil {
		var err error
		s, err = p.compiler.Compile(at + "#" + place)
		require.NoError(t, err)
		p.compiled[place] = s
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	require.NoError(t, err, text)
	return s.Validate(value)
}

// place is where the document has a method's params or result.
func (p *published) place(method, part string) (string, bool) {
	for i := range p.Methods {
		if p.Methods[i].Method == method {
			return fmt.Sprintf("/x-methods/%d/%s", i, part), true
		}
	}
	return "", false
}

func TestSchemaListsMethodsAndErrors(t *testing.T) {
	p := publish(t)
	require.Len(t, p.Methods, len(rpc.Methods()))
	for i, m := range rpc.Methods() {
		got := p.Methods[i]
		require.Equal(t, []any{m.Name, m.Side, m.Kind}, []any{got.Method, got.Side, got.Kind})
		require.Equal(t, m.Kind == schema.MethodNotification, got.Result == nil, m.Name)
	}
	require.Equal(t, schema.ErrorCodes, p.Errors)
	require.Equal(t, "generate", p.Defs["GenerateParams"].Method)
	require.Equal(t, "generate", p.Defs["GenerateResult"].Method)
	require.Empty(t, p.Defs["Empty"].Method, "several methods use it")
	for name, def := range p.Defs {
		require.NotEmpty(t, def.Description, name)
		for member, m := range def.Properties {
			require.NotEmpty(t, m.Description, "%s.%s", name, member)
		}
	}
}

// bases are sound values of the types that clients send. Probes are put into
// each of them, one member at a time.
var bases = map[string][]string{
	"CancelParams":          {`{"generationId":"a"}`, `{"sessionId":"a"}`, `{"all":true}`, `{}`},
	"CancelRequestParams":   {`{"id":1}`},
	"ClientCapabilities":    {`{}`},
	"ClientHarmonyd":        {`{}`},
	"ClientTools":           {`{}`},
	"Empty":                 {`{}`},
	"GenerateParams":        {`{"prompt":"a"}`, `{"messages":[{"role":"user"}]}`, `{}`},
	"InitializeParams":      {`{}`},
	"InitializationOptions": {`{}`},
	"LogitBias":             {`{"token":1,"bias":0}`, `{"text":"a","bias":0}`, `{"bias":0}`},
	"Message":               {`{"role":"user"}`},
	"ModelLoadParams":       {`{}`},
	"ModelUnloadParams":     {`{}`},
	"Part":                  {`{"type":"text"}`},
	"PeerInfo":              {`{"name":"a"}`},
	"ResponseFormat": {
		`{"type":"text"}`, `{"type":"json_schema"}`, `{"type":"json_schema","schema":{}}`, `{"type":"regex"}`,
		`{"type":"lark","source":"a"}`,
	},
	"Resource":              {`{"uri":"file:///a"}`},
	"Sampling":              {`{}`},
	"SessionNewParams":      {`{}`},
	"SessionParams":         {`{"sessionId":"a"}`},
	"SessionLoadParams":     {`{"sessionId":"a"}`},
	"SessionListParams":     {`{}`},
	"SessionSettingsParams": {`{"sessionId":"a"}`},
	"SetTraceParams":        {`{"value":"off"}`},
	"StreamPolicy":          {`{}`},
	"TokensCountParams":     {`{"text":"a"}`, `{"messages":[{"role":"user"}]}`, `{}`},
	"ToolAnnotations":       {`{}`},
	"ToolApproveResult":     {`{"outcome":"selected"}`},
	"ToolCall":              {`{"callId":"a","name":"a","arguments":{}}`},
	"ToolChoice":            {`{"name":"a"}`},
	"ToolRef":               {`{"name":"a","inputSchema":{}}`},
	"ToolProgressParams":    {`{"callId":"a"}`},
	"ToolRegisterParams":    {`{"tools":[]}`},
	"ToolResult":            {`{}`, `{"content":"a"}`},
	"ToolSpec":              {`{"name":"a","inputSchema":{}}`},
	"ToolsListParams":       {`{}`},
	"ToolsUnregisterParams": {`{"names":[]}`},
	"ToolsSetEnabledParams": {`{"names":[],"enabled":true}`},
}

// probes are values for a member with a tag and a type: some of every kind,
// and for each rule values on both sides of it.
func probes(f reflect.StructField) []string {
	all := []string{
		`true`, `false`, `0`, `1`, `-1`, `0.5`, `1.5`, `1e2`, `""`, `"a"`, `"é"`, `"a b"`, `"auto"`, `"required"`,
		`[]`, `[""]`, `["a"]`, `[1]`, `[{}]`, `{}`, `{"name":1}`, `{"name":""}`, `{"type":"text"}`,
	}
	elem := f.Type
	for elem.Kind() == reflect.Pointer || elem.Kind() == reflect.Slice {
		elem = elem.Elem()
	}
	switch f.Type {
	case reflect.TypeFor[schema.ProgressToken]():
		for _, n := range []int{128, 129} {
			all = append(all, strconv.Quote(strings.Repeat("a", n)), strconv.Quote(strings.Repeat("é", n)))
		}
		all = append(all, "9007199254740991", "9007199254740992", "-9007199254740991", "-9007199254740992")
	case reflect.TypeFor[schema.Content]():
		all = append(all, listOf(bases["Part"][0], 4096), listOf(bases["Part"][0], 4097))
	}
	elements := append([]string{`"a"`}, bases[elem.Name()]...)
	for _, e := range elements {
		all = append(all, e, "["+e+"]")
	}
	for _, rule := range strings.Split(f.Tag.Get("jsonschema"), ",") {
		key, value, _ := strings.Cut(rule, "=")
		if key == "enum" {
			all = append(all, strconv.Quote(value), strconv.Quote(value+"x"), strconv.Quote(strings.ToUpper(value)))
		}
		if key == "pattern" {
			value = "64"
		}
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			all = append(all, fmt.Sprint(n-1), fmt.Sprint(n), fmt.Sprint(n+1))
			for k := max(n-1, 0); k <= n+1 && n < 1<<17; k++ {
				text := strconv.Quote(strings.Repeat("é", int(k)))
				all = append(all, text, "["+text+"]", strconv.Quote(strings.Repeat("a", int(k))))
				for _, e := range elements {
					if k < 1000 || key == "maxItems" {
						all = append(all, listOf(e, int(k)))
					}
				}
			}
		}
		if x, err := strconv.ParseFloat(value, 64); err == nil {
			all = append(all, fmt.Sprint(x), fmt.Sprint(x-0.001), fmt.Sprint(x+0.001))
		}
	}
	return all
}

// listOf is an array of n elements.
func listOf(element string, n int) string {
	return "[" + strings.TrimSuffix(strings.Repeat(element+",", n), ",") + "]"
}

// sent collects the structs that a type is made of.
func sent(t reflect.Type, into map[string]reflect.Type) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		sent(t.Elem(), into)
	case reflect.Struct:
		if into[t.Name()] == nil {
			into[t.Name()] = t
			for i := range t.NumField() {
				sent(t.Field(i).Type, into)
			}
		}
	}
}

// with is an object with a member set.
func with(t *testing.T, object, member, value string) string {
	t.Helper()
	var m map[string]json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(object), &m))
	m[member] = json.RawMessage(value)
	text, err := json.Marshal(m)
	require.NoError(t, err)
	return string(text)
}

// TestSchemaIsWhatDecodeEnforces puts values on both sides of every rule into
// every member that a client can send: the published schema takes them where
// schema.Decode does.
func TestSchemaIsWhatDecodeEnforces(t *testing.T) {
	p := publish(t)
	types := map[string]reflect.Type{}
	for _, m := range rpc.Methods() {
		if m.Side == schema.SideServer {
			sent(m.Params, types)
		} else if m.Result != nil {
			sent(m.Result, types)
		}
	}
	require.Len(t, bases, len(types), "every type has a base")
	agree := func(typ reflect.Type, text string) bool {
		decoded := schema.Decode([]byte(text), reflect.New(typ).Interface())
		valid := p.validate(t, "/$defs/"+typ.Name(), text)
		if (decoded == nil) != (valid == nil) {
			t.Errorf("%s %.200s\nDecode: %v\nschema: %v", typ.Name(), text, decoded, valid)
		}
		return decoded == nil
	}
	tried := 0
	for name, typ := range types {
		require.NotEmpty(t, bases[name], name)
		for _, base := range bases[name] {
			agree(typ, base)
			var members map[string]json.RawMessage
			require.NoError(t, json.Unmarshal([]byte(base), &members))
			for member := range members {
				less := strings.Replace(base, strconv.Quote(member), `"other"`, 1)
				agree(typ, less)
			}
		}
		for i := range typ.NumField() {
			f := typ.Field(i)
			member, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if member == "" || member == "-" || name+"."+member == "CancelRequestParams.id" {
				continue // the last is kept as it came: nobody answers a notification
			}
			verdicts := map[bool]int{}
			for _, value := range probes(f) {
				if f.Type == reflect.TypeFor[schema.ProgressToken]() && value == "1e2" {
					continue // to JSON Schema an integer, but not the text of one
				}
				for _, base := range bases[name] {
					verdicts[agree(typ, with(t, base, member, value))]++
					tried++
				}
			}
			require.NotZero(t, verdicts[true], "%s.%s: no value is taken", name, member)
			if f.Type != reflect.TypeFor[json.RawMessage]() {
				require.NotZero(t, verdicts[false], "%s.%s: no value is refused", name, member)
			}
		}
	}
	require.Greater(t, tried, 3000)
}

// message is one line of a transcript.
type message struct {
	ID, Params, Result, Error json.RawMessage
	Method                    string
}

// witness holds the lines of one transcript against the published schema.
type witness struct {
	t      *testing.T
	schema *published
	counts map[string]int
	open   map[string][]message // requests without an answer, by id
	posed  map[string]string    // methods of the server's requests, by id
}

// check validates the params or the result of a method.
func (w *witness) check(method, part string, value json.RawMessage) error {
	place, known := w.schema.place(method, part)
	require.True(w.t, known, method)
	if part == "params" && (value == nil || string(value) == "null") {
		value = json.RawMessage("{}")
	}
	w.counts[part]++
	return w.schema.validate(w.t, place, string(value))
}

func (w *witness) says(m message) {
	_, known := w.schema.place(m.Method, "params")
	switch {
	case m.Method == "" && m.Result != nil && w.posed[w.id(m)] != "":
		// What the server makes of one that is invalid is in the transcript.
		if w.check(w.posed[w.id(m)], "result", m.Result) != nil {
			w.counts["unusable"]++
		}
	case m.Method == "":
	case m.ID != nil:
		w.open[w.id(m)] = append(w.open[w.id(m)], m)
	case known:
		require.NoError(w.t, w.check(m.Method, "params", m.Params), m.Method)
	}
}

func (w *witness) hears(m message) {
	if m.Method != "" {
		require.NoError(w.t, w.check(m.Method, "params", m.Params), "%s %s", m.Method, m.Params)
		if m.ID != nil {
			w.posed[w.id(m)] = m.Method
		}
		return
	}
	var kind schema.Kind
	if m.Error != nil {
		require.NoError(w.t, w.schema.validate(w.t, "/$defs/Error", string(m.Error)), "%s", m.Error)
		var e schema.Error
		require.NoError(w.t, json.Unmarshal(m.Error, &e))
		kind = e.Data.Kind
	}
	asked := w.open[w.id(m)]
	if len(asked) == 0 {
		require.NotEmpty(w.t, kind, "a result that nobody asked for")
		return // of a line that is no request
	}
	i := 0
	if kind == schema.KindInvalidRequest {
		i = len(asked) - 1 // of two with one id the second is refused
	}
	request := asked[i]
	w.open[w.id(m)] = append(asked[:i:i], asked[i+1:]...)
	switch kind {
	case schema.KindInvalidParams:
		require.Error(w.t, w.check(request.Method, "params", request.Params), "refused: %s", request.Params)
		w.counts["refused"]++
	case schema.KindInvalidRequest, schema.KindNotInitialized, schema.KindMethodNotFound:
		// Nobody has looked at the params.
	case "":
		require.NoError(w.t, w.check(request.Method, "result", m.Result), "%s", m.Result)
		fallthrough
	default:
		require.NoError(w.t, w.check(request.Method, "params", request.Params), "%s", request.Params)
	}
}

// id is the id of m, however it is spelled.
func (w *witness) id(m message) string {
	var id any
	if len(m.ID) > 0 {
		require.NoError(w.t, json.Unmarshal(m.ID, &id))
	}
	return fmt.Sprintf("%T %v", id, id)
}

// messagesIn are the messages, a line each, in a section of quoted bytes.
func messagesIn(section string) string {
	var all, found strings.Builder
	for line := range strings.Lines(section) {
		text, err := strconv.Unquote(strings.TrimSpace(line))
		if err != nil {
			return ""
		}
		all.WriteString(text)
	}
	for rest := all.String(); ; {
		begin := strings.Index(rest, `{"jsonrpc"`)
		if begin < 0 {
			return found.String()
		}
		in := json.NewDecoder(strings.NewReader(rest[begin:]))
		var m json.RawMessage
		if in.Decode(&m) != nil {
			m = json.RawMessage("{")
		}
		found.Write(append(m, '\n'))
		rest = rest[begin+len(m):]
	}
}

// TestTranscriptsKeepToTheSchema: what the server says is valid, and what the
// client says is valid where it is taken and invalid where its params are
// refused.
func TestTranscriptsKeepToTheSchema(t *testing.T) {
	p := publish(t)
	counts := map[string]int{}
	files, err := filepath.Glob("testdata/*.txtar")
	require.NoError(t, err)
	bad, err := filepath.Glob("testdata/bad/*.txtar")
	require.NoError(t, err)
	for _, file := range append(files, bad...) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			require.NoError(t, err)
			w := witness{t, p, counts, map[string][]message{}, map[string]string{}}
			take := map[string]func(message){"client": w.says, "bytes": w.says, "server": w.hears, "sorted": w.hears}
			for _, f := range archive.Files {
				text := string(f.Data)
				if f.Name == "bytes" {
					text = messagesIn(text)
				}
				for line := range strings.Lines(text) {
					var m message
					if take[f.Name] == nil || json.Unmarshal([]byte(line), &m) != nil {
						continue // a wait, or no JSON at all
					}
					take[f.Name](m)
				}
			}
		})
	}
	require.Greater(t, counts["params"], 200)
	require.Greater(t, counts["result"], 50)
	require.Greater(t, counts["refused"], 50)
	require.Equal(t, 4, counts["unusable"], "the answers that tool_call_unusable and tool_approve show")
	t.Log(counts)
}
