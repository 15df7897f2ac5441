package schema

import (
	"encoding/json"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// everything is a generate request with all that there is.
const everything = `{
	"generationId":"c1","model":"m","messages":[
		{"role":"system","content":"s"},
		{"role":"user","content":[{"type":"text","text":"t"},{"type":"image","data":"AA==","mimeType":"image/png"}]},
		{"role":"assistant","content":[],"toolCalls":[{"callId":"c","name":"n","arguments":{"z":1,"a":[1,2]}}]},
		{"role":"tool","content":"r","toolCallId":"c","name":"n"}],
	"tools":["a",{"name":"b","title":"T","description":"d","inputSchema":{"type":"object","z":1,"a":2},"outputSchema":true,
		"annotations":{"readOnly":true,"destructive":true,"idempotent":true,"openWorld":true}}],
	"toolMode":"return","toolChoice":{"name":"b"},
	"sampling":{"temperature":0,"topP":0.5,"topK":5,"minP":1e-2,"minTokensToKeep":1,"xtcProbability":1,"xtcThreshold":0.5,
		"seed":9007199254740991,"logitBias":[{"token":0,"bias":-1},{"text":"a","bias":2}],"repetitionPenalty":1.1,
		"repetitionContextSize":0,"presencePenalty":-1,"presenceContextSize":1,"frequencyPenalty":2,"frequencyContextSize":3},
	"logprobs":3,"maxTokens":7,"stop":["a","b"],"responseFormat":{"type":"json_schema","schema":{"b":1,"a":2}},
	"contextOverflow":"rollingWindow","stream":{"intervalMs":0,"maxTokens":1,"maxBytes":2},"priority":"background","workDoneToken":"w"}`

// TestDecodeLikeJSON: on sound params Decode and encoding/json agree, and what
// they give encodes to the same again.
func TestDecodeLikeJSON(t *testing.T) {
	for in, into := range map[string]any{
		everything: &GenerateParams{},
		`{"prompt":"\ud83d\ude00","stream":false,"toolChoice":"required","workDoneToken":-5,"tools":[]}`: &GenerateParams{},
		`{"all":true}`: &CancelParams{},
		`{"processId":7,"clientInfo":{"name":"n","version":"v"},"capabilities":{"harmonyd":{"protocolVersion":1,"stream":{"maxBytes":9,"toolArguments":true}}},"trace":"verbose","initializationOptions":{"mcpServers":{"b":2,"a":1}}}`: &InitializeParams{},
		`{"capabilities":{"harmonyd":{"stream":false}}}`: &InitializeParams{},
		`{"text":"","model":"m"}`:                        &TokensCountParams{},
	} {
		other := reflect.New(reflect.TypeOf(into).Elem()).Interface()
		require.NoError(t, Decode([]byte(in), into), in)
		require.NoError(t, json.Unmarshal([]byte(in), other), in)
		require.Equal(t, other, into)
		out, err := Encode(into)
		require.NoError(t, err)
		again := reflect.New(reflect.TypeOf(into).Elem()).Interface()
		require.NoError(t, Decode(out, again), string(out))
		require.Equal(t, into, again)
	}
}

// TestInitializationOptions: what they may be, and how many servers they ask for.
func TestInitializationOptions(t *testing.T) {
	for text, want := range map[string]int{
		`null`: 0, `{}`: 0, `[]`: 0, "[ \n]": 0, `{"x":1}`: 0, `{"mcpServers":null}`: 0, `{"mcpServers":{}}`: 0, `{"mcpServers":{"a":{},"b":7}}`: 2,
		`"x"`: -1, `[1]`: -1, `7`: -1, `{"mcpServers":[]}`: -1, `{"mcpServers":"x"}`: -1,
	} {
		var p InitializeParams
		err := Decode([]byte(`{"initializationOptions":`+text+`}`), &p)
		require.Equal(t, want < 0, err != nil, text)
		require.Equal(t, max(want, 0), p.InitializationOptions.Servers(), text)
	}
}

// TestStreamPolicyOver: what is said counts, member by member, and false is said.
func TestStreamPolicyOver(t *testing.T) {
	for _, c := range [][3]string{
		{`{}`, `{"maxTokens":2}`, `{"maxTokens":2}`},
		{`{}`, `false`, `false`},
		{`false`, `{"maxTokens":2}`, `false`},
		{`{"maxTokens":3}`, `false`, `{"maxTokens":3}`},
		{`{"intervalMs":0,"toolArguments":false}`, `{"intervalMs":5,"maxTokens":2,"maxBytes":7,"toolArguments":true}`, `{"intervalMs":0,"maxTokens":2,"maxBytes":7,"toolArguments":false}`},
	} {
		var s, common, want StreamPolicy
		for i, into := range []*StreamPolicy{&s, &common, &want} {
			require.NoError(t, Decode([]byte(c[i]), into))
		}
		require.Equal(t, want, s.Over(common), c)
	}
}

// TestDecodeIgnores: unknown members, at every depth, and null.
func TestDecodeIgnores(t *testing.T) {
	var p GenerateParams
	require.NoError(t, Decode([]byte(`{"x":{"y":[1,{"z":"}"}]},"messages":[{"role":"user","_meta":{},"content":[{"type":"text","text":"a","Text":5}]}],
		"Prompt":"case","MODEL":7,"sampling":{"TopK":-1,"temperature":null},"maxTokens":null,"stop":null,"\u006dodel":"escaped"}`), &p))
	require.Equal(t, GenerateParams{Model: "escaped", Messages: []Message{{Role: RoleUser, Content: TextContent("a")}}}, p)
}

// TestDecodePlaces: every place is named, in the order of the input, up to 16.
func TestDecodePlaces(t *testing.T) {
	var p GenerateParams
	var e *Error
	require.ErrorAs(t, Decode([]byte(`{"prompt":5,"messages":[{"role":"x"},7,{"content":{}}],"stop":["ok","",3],"sampling":{"topP":2}}`), &p), &e)
	require.Equal(t, int64(-32602), e.Code)
	require.Equal(t, []FieldError{
		{InstancePath: "/prompt", Message: "got a number, want a string"},
		{InstancePath: "/messages/0/role", Message: `got "x", want one of system, developer, user, assistant, tool`},
		{InstancePath: "/messages/1", Message: "got a number, want an object"},
		{InstancePath: "/messages/2/content", Message: "got an object, want a string or an array"},
		{InstancePath: "/messages/2/role", Message: "missing"},
		{InstancePath: "/stop/2", Message: "got a number, want a string"},
		{InstancePath: "/sampling/topP", Message: "got 2, want 0 to 1"},
	}, e.Data.Errors)
	require.Equal(t, "invalid params: /prompt: got a number, want a string (and 6 more)", e.Message)

	require.ErrorAs(t, Decode([]byte(`{"messages":[`+strings.Repeat("1,", 50)+`1]}`), &p), &e)
	require.Len(t, e.Data.Errors, 16)
	require.Less(t, len(p.Messages), 20, "what is wrong already is not kept")
}

// TestDecodeRules breaks rules one at a time, of every sort that there is.
func TestDecodeRules(t *testing.T) {
	type p = GenerateParams
	for _, test := range []struct {
		into any
		in   string
		want FieldError
	}{
		{new(p), `{"prompt":true}`, FieldError{InstancePath: "/prompt", Message: "got a boolean, want a string"}},
		{new(p), `{"prompt":{}}`, FieldError{InstancePath: "/prompt", Message: "got an object, want a string"}},
		{new(p), `{"prompt":"","model":[]}`, FieldError{InstancePath: "/model", Message: "got an array, want a string"}},
		{new(p), `["prompt"]`, FieldError{Message: "got an array, want an object"}},
		{new(p), `"prompt"`, FieldError{Message: "got a string, want an object"}},
		{new(p), `null`, FieldError{Message: "got null, want an object"}},
		{new(p), `{"prompt":"","stop":{}}`, FieldError{InstancePath: "/stop", Message: "got an object, want an array"}},
		{new(p), `{"prompt":"","stop":["a",""]}`, FieldError{InstancePath: "/stop/1", Message: "got 0 characters, want at least 1"}},
		{new(p), `{"prompt":"","stop":[` + strings.Repeat(`"a",`, 16) + `"a"]}`, FieldError{InstancePath: "/stop", Message: "got 17 elements, want at most 16"}},
		{new(p), `{"prompt":"","generationId":"` + strings.Repeat("é", 129) + `"}`, FieldError{InstancePath: "/generationId", Message: "got 129 characters, want at most 128"}},
		{new(p), `{"prompt":"","maxTokens":1.5}`, FieldError{InstancePath: "/maxTokens", Message: "got 1.5, want an integer"}},
		{new(p), `{"prompt":"","maxTokens":1e99}`, FieldError{InstancePath: "/maxTokens", Message: "got 1e99, want an integer"}},
		{new(p), `{"prompt":"","maxTokens":0}`, FieldError{InstancePath: "/maxTokens", Message: "got 0, want 1 to 2147483647"}},
		{new(p), `{"prompt":"","sampling":{"topP":1e999}}`, FieldError{InstancePath: "/sampling/topP", Message: "the number is out of range"}},
		{new(p), `{"prompt":"","sampling":{"topP":-1e-9}}`, FieldError{InstancePath: "/sampling/topP", Message: "got -1e-9, want 0 to 1"}},
		{new(p), `{"prompt":"","priority":"` + strings.Repeat("é", 40) + `"}`, FieldError{InstancePath: "/priority", Message: `got "` + strings.Repeat("é", 32) + `…", want one of interactive, background`}},
		{new(p), `{"prompt":"","tools":[{"name":"a.b","inputSchema":{}}]}`, FieldError{InstancePath: "/tools/0/name", Message: `got "a.b", want a match of ^[A-Za-z0-9_-]{1,64}$`}},
		{new(p), `{"prompt":"","tools":[{"name":"a","inputSchema":true}]}`, FieldError{InstancePath: "/tools/0", Message: "inputSchema is no object"}},
		{new(p), `{"prompt":"","tools":[""]}`, FieldError{InstancePath: "/tools/0", Message: "got an empty name"}},
		{new(p), `{"prompt":"","toolChoice":"all"}`, FieldError{InstancePath: "/toolChoice", Message: `got "all", want auto, required, none or an object`}},
		{new(p), `{"prompt":"","toolChoice":7}`, FieldError{InstancePath: "/toolChoice", Message: "got a number, want a string or an object"}},
		{new(p), `{"prompt":"","toolChoice":{}}`, FieldError{InstancePath: "/toolChoice/name", Message: "missing"}},
		{new(p), `{"prompt":"","stream":true}`, FieldError{InstancePath: "/stream", Message: "got a boolean, want false or an object"}},
		{new(p), `{"prompt":"","workDoneToken":1.5}`, FieldError{InstancePath: "/workDoneToken", Message: "got 1.5, want a string or an integer of 53 bits"}},
		{new(p), `{"prompt":"","workDoneToken":9007199254740992}`, FieldError{InstancePath: "/workDoneToken", Message: "got 9007199254740992, want a string or an integer of 53 bits"}},
		{new(p), `{"prompt":"","workDoneToken":-` + strings.Repeat("9", 70) + `}`, FieldError{InstancePath: "/workDoneToken", Message: "got -" + strings.Repeat("9", 63) + "…, want a string or an integer of 53 bits"}},
		{new(p), `{"prompt":"","workDoneToken":"` + strings.Repeat("a", 129) + `"}`, FieldError{InstancePath: "/workDoneToken", Message: "got 129 characters, want at most 128"}},
		{new(ModelLoadParams), `{"workDoneToken":"` + strings.Repeat("a", 129) + `"}`, FieldError{InstancePath: "/workDoneToken", Message: "got 129 characters, want at most 128"}},
		{new(p), `{"prompt":"","workDoneToken":[]}`, FieldError{InstancePath: "/workDoneToken", Message: "got an array, want a string or an integer"}},
		{new(p), `{"prompt":"","responseFormat":{"type":"json_schema"}}`, FieldError{InstancePath: "/responseFormat", Message: "type json_schema needs schema"}},
		{new(p), `{"prompt":"","responseFormat":{"type":"lark"}}`, FieldError{InstancePath: "/responseFormat", Message: "type lark needs source"}},
		{new(p), `{"messages":[{"role":"assistant","toolCalls":[{"callId":"a","name":"b","arguments":7}]}]}`, FieldError{InstancePath: "/messages/0/toolCalls/0", Message: "arguments are no object"}},
		{new(p), `{}`, FieldError{Message: "neither messages nor prompt is given"}},
		{new(p), `{"messages":[]}`, FieldError{Message: "messages is empty"}},
		{new(p), `{"messages":[{"role":"user"}],"prompt":""}`, FieldError{Message: "messages and prompt are both given, want one"}},
		{new(TokensCountParams), `{}`, FieldError{Message: "neither messages nor text is given"}},
		{new(CancelParams), `{"all":false}`, FieldError{Message: "none of generationId, sessionId and all:true is given"}},
		{new(CancelParams), `{"all":true,"generationId":"a"}`, FieldError{Message: "generationId, sessionId and all:true exclude one another"}},
		{new(CancelParams), `{"all":"yes"}`, FieldError{InstancePath: "/all", Message: "got a string, want a boolean"}},
		{new(InitializeParams), `{"processId":"7"}`, FieldError{InstancePath: "/processId", Message: "got a string, want an integer"}},
		{new(SetTraceParams), `{}`, FieldError{InstancePath: "/value", Message: "missing"}},
	} {
		require.Nil(t, Scan([]byte(test.in), 128, nil), test.in)
		require.Equal(t, InvalidParams(test.want), Decode([]byte(test.in), test.into), test.in)
	}
}

// TestDecodeManyElements: lists have ends, and what is beyond them is counted
// and takes no memory.
func TestDecodeManyElements(t *testing.T) {
	list := func(n int, element string) string {
		return "[" + strings.TrimSuffix(strings.Repeat(element+",", n), ",") + "]"
	}
	user := func(n int) string { return list(n, `{"role":"user"}`) }
	parts := func(n int) string {
		return `[{"role":"user","content":` + list(n, `{"type":"text"}`) + `},{"role":"user","content":` + list(1, `{"type":"a"}`) + `}]`
	}
	for _, test := range []struct {
		in   string
		into any
		want *FieldError
	}{
		{`{"messages":` + user(16384) + `}`, new(GenerateParams), nil},
		{`{"messages":` + user(16385) + `}`, new(GenerateParams), &FieldError{InstancePath: "/messages", Message: "got 16385 elements, want at most 16384"}},
		{`{"messages":` + user(16385) + `}`, new(TokensCountParams), &FieldError{InstancePath: "/messages", Message: "got 16385 elements, want at most 16384"}},
		{`{"messages":` + parts(4096) + `}`, new(GenerateParams), nil},
		{`{"messages":` + parts(4097) + `}`, new(GenerateParams), &FieldError{InstancePath: "/messages/0/content", Message: "got 4097 elements, want at most 4096"}},
	} {
		err := Decode([]byte(test.in), test.into)
		if test.want == nil {
			require.NoError(t, err)
		} else {
			require.Equal(t, InvalidParams(*test.want), err)
		}
	}
	var p GenerateParams
	in := []byte(`{"messages":` + user(2_000_000) + `}`)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	require.Error(t, Decode(in, &p))
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(32<<20))
	require.Len(t, p.Messages, 16384)
}

// TestDecodeBoundsOneList: the bound of a list is not that of what comes after
// it, even where there is no list.
func TestDecodeBoundsOneList(t *testing.T) {
	var p struct {
		A []string `json:"a,omitempty" jsonschema:"maxItems=1"`
		B []string `json:"b,omitempty"`
	}
	require.Error(t, Decode([]byte(`{"a":{},"b":["1","2"]}`), &p))
	require.Len(t, p.B, 2)
	require.NoError(t, Decode([]byte(`{"a":["1"],"b":["1","2"]}`), &p))
	require.Error(t, Decode([]byte(`{"a":["1","2"]}`), &p))
}

func TestContentText(t *testing.T) {
	c := Content{{Type: PartReasoning, Text: "hm"}, {Type: PartText, Text: "a"}, {Type: PartImage, Data: "AA=="}, {Type: PartText, Text: "b"}}
	require.Equal(t, "ab", c.Text())
	require.Equal(t, "hm", c.Reasoning())
	require.Equal(t, "x", TextContent("x").Text())
	require.Empty(t, Content(nil).Text())
}

// TestDecodeKeeps: raw members keep their bytes and are no part of the input.
func TestDecodeKeeps(t *testing.T) {
	in := []byte(`{"tools":[{"name":"a","inputSchema": { "z" : 1, "a":"\u00e9" } }]}`)
	var p ToolRegisterParams
	require.NoError(t, Decode(in, &p))
	clear(in)
	require.Equal(t, `{ "z" : 1, "a":"\u00e9" }`, string(p.Tools[0].InputSchema))
	require.Equal(t, "a", p.Tools[0].Name)
}

// TestWireTypes: every type that Decode may meet has a form on the wire that it
// knows, and rules that can be read. It decodes an empty object into each.
func TestWireTypes(t *testing.T) {
	for _, v := range []any{
		&InitializeParams{}, &CancelRequestParams{}, &SetTraceParams{}, &ModelLoadParams{}, &ModelUnloadParams{},
		&TokensCountParams{}, &GenerateParams{}, &CancelParams{}, &ToolRegisterParams{}, &Empty{},
	} {
		walk(reflect.TypeOf(v).Elem(), map[reflect.Type]bool{})
		_ = Decode([]byte("{}"), v)
	}
}

func walk(t reflect.Type, seen map[reflect.Type]bool) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		walk(t.Elem(), seen)
	case reflect.Struct:
		if seen[t] {
			return
		}
		seen[t] = true
		for _, f := range fieldsOf(t) {
			walk(t.Field(f.index).Type, seen)
		}
	}
}

func TestErrorTable(t *testing.T) {
	kinds := map[Kind]bool{}
	for _, c := range ErrorCodes {
		require.False(t, kinds[c.Kind], c.Kind)
		kinds[c.Kind] = true
		require.NotEmpty(t, c.Meaning)
		require.NotZero(t, c.Code)
		e := Errorf(c.Kind, "a %d", 1)
		require.Equal(t, &Error{Code: c.Code, Message: "a 1", Data: ErrorData{Kind: c.Kind, Retryable: c.Retryable}}, e)
		require.ErrorAs(t, fmt.Errorf("wrapped: %w", e), new(*Error))
	}
	require.Equal(t, KindInternal, Errorf("no such kind", "x").Data.Kind)
	for _, e := range []*Error{
		Overloaded(5, "x"), ModelNotFound("m", []string{"a"}), ModelLoadFailed("m", "c", 2, 1), ContextOverflowed(2, 1),
		OutOfMemory(5, 4, 3, 2, true),
		EngineFailed("c", &Partial{}), Unsupported("f", "x"), ToolSchemaInvalid(FieldError{Tool: "t", InstancePath: "/a", Message: "m"}), InvalidParam("/a", "m"),
	} {
		out, err := Encode(e)
		require.NoError(t, err)
		var again Error
		require.NoError(t, json.Unmarshal(out, &again))
		require.Equal(t, e, &again)
	}
}

// FuzzDecode: no JSON upsets Decode, and what it takes it takes again.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(everything))
	f.Add([]byte(`{"prompt":"x","stream":false,"toolChoice":"auto"}`))
	f.Add([]byte(`{"messages":[{"role":"user","content":"x"}],"sampling":{"topK":1e3}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		var p GenerateParams
		if Scan(in, 128, nil) != nil {
			_ = Decode(in, &p) // must come to an end
			return
		}
		if Decode(in, &p) != nil {
			return
		}
		out, err := Encode(p)
		require.NoError(t, err)
		var again GenerateParams
		require.NoError(t, Decode(out, &again), "%s", out)
		require.Equal(t, p, again)
	})
}
