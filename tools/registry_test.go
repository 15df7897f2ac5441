package tools

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest/leaks"
	"harmonyd/schema"
)

func TestMain(m *testing.M) { os.Exit(leaks.Run(m)) }

func spec(name, inputSchema string) schema.ToolSpec {
	return schema.ToolSpec{Name: name, Description: "does " + name, InputSchema: json.RawMessage(inputSchema)}
}

func register(r *Registry, replace bool, specs ...schema.ToolSpec) (schema.ToolRegisterResult, error) {
	return r.Register(schema.ToolRegisterParams{Tools: specs, Replace: replace})
}

// names are the tools of a registry in their order.
func names(r *Registry) []string {
	out := []string{}
	for _, t := range r.List("").Tools {
		out = append(out, t.Name)
	}
	return out
}

func TestRegisterKeepsOrderAndBytes(t *testing.T) {
	r := NewRegistry(schema.DefaultLimits(), nil)
	const odd = `{ "type":"object",  "properties":{"z":{},"a":{"const":1.0}} }`
	res, err := register(r, false, spec("zebra", odd), spec("ant", `{}`))
	require.NoError(t, err)
	require.EqualValues(t, 1, res.Revision)
	require.Len(t, res.Registered, 2)
	_, err = register(r, false, spec("bee", `{}`))
	require.NoError(t, err)
	list := r.List("")
	require.Equal(t, []string{"zebra", "ant", "bee"}, names(r))
	require.EqualValues(t, 2, list.Revision)
	require.Equal(t, odd, string(list.Tools[0].InputSchema))
	require.Equal(t, schema.SourceClient, list.Tools[0].Source)
	require.Equal(t, res.Registered[0].Digest, list.Tools[0].Digest)
}

// TestDigest changes with whatever a person would want to be asked about again
// and with nothing else.
func TestDigest(t *testing.T) {
	digest := func(s schema.ToolSpec) string {
		res, err := register(NewRegistry(schema.DefaultLimits(), nil), false, s)
		require.NoError(t, err)
		require.Len(t, res.Registered[0].Digest, 64)
		return res.Registered[0].Digest
	}
	base := spec("x", `{"type":"object","properties":{"a":{},"b":{}}}`)
	same := spec("x", "{ \"type\": \"object\",\n\"properties\":{\"a\":{},\"b\":{}}}")
	require.Equal(t, digest(base), digest(same))
	seen := map[string]string{digest(base): "base"}
	for what, change := range map[string]func(*schema.ToolSpec){
		"name":        func(s *schema.ToolSpec) { s.Name = "y" },
		"description": func(s *schema.ToolSpec) { s.Description = "and sends it away" },
		"order": func(s *schema.ToolSpec) {
			s.InputSchema = json.RawMessage(`{"type":"object","properties":{"b":{},"a":{}}}`)
		},
		"number":      func(s *schema.ToolSpec) { s.InputSchema = json.RawMessage(`{"maxProperties":3}`) },
		"output":      func(s *schema.ToolSpec) { s.OutputSchema = json.RawMessage(`{}`) },
		"annotations": func(s *schema.ToolSpec) { s.Annotations = &schema.ToolAnnotations{ReadOnly: true} },
	} {
		s := base
		change(&s)
		d := digest(s)
		require.NotContains(t, seen, d, what)
		seen[d] = what
	}
}

func TestReplace(t *testing.T) {
	r := NewRegistry(schema.DefaultLimits(), nil)
	_, err := register(r, false, spec("a", `{}`), spec("b", `{}`))
	require.NoError(t, err)
	before := r.List("")

	_, err = register(r, false, spec("c", `{}`), spec("b", `{"type":"object"}`), spec("a", `{}`))
	require.Equal(t, &schema.Error{
		Code: -31007, Message: `a tool named "b" is registered already; set replace to replace it`,
		Data: schema.ErrorData{Kind: schema.KindToolConflict, Errors: []schema.FieldError{
			{Tool: "b", InstancePath: "/tools/1/name", Message: "is registered already"},
			{Tool: "a", InstancePath: "/tools/2/name", Message: "is registered already"},
		}},
	}, err)
	require.Equal(t, before, r.List(""), "all or none")

	res, err := register(r, true, spec("b", `{}`))
	require.NoError(t, err)
	require.EqualValues(t, 1, res.Revision, "the same definition is no change")
	res, err = register(r, true, spec("a", `{"type":"object"}`), spec("c", `{}`))
	require.NoError(t, err)
	require.EqualValues(t, 2, res.Revision)
	require.Equal(t, []string{"a", "b", "c"}, names(r), "in its old place")
	require.Equal(t, `{}`, string(before.Tools[0].InputSchema), "what was handed out does not change")
	res, err = register(r, false)
	require.NoError(t, err)
	require.Equal(t, schema.ToolRegisterResult{Registered: []schema.RegisteredTool{}, Revision: 2}, res)
}

func TestBadTools(t *testing.T) {
	for _, c := range []struct {
		name   string
		specs  []schema.ToolSpec
		kind   schema.Kind
		places []string
		text   string
	}{
		{"name with a space", []schema.ToolSpec{spec("a b", `{}`)}, schema.KindInvalidParams, []string{"/tools/0/name"}, "want a match of ^[A-Za-z0-9_-]{1,64}$"},
		{"no name", []schema.ToolSpec{spec("", `{}`)}, schema.KindInvalidParams, []string{"/tools/0/name"}, "want a match of ^[A-Za-z0-9_-]{1,64}$"},
		{"long name", []schema.ToolSpec{spec(strings.Repeat("x", 65), `{}`)}, schema.KindInvalidParams, []string{"/tools/0/name"}, "want a match of ^[A-Za-z0-9_-]{1,64}$"},
		{"long texts", []schema.ToolSpec{spec("a", `{}`), {Name: "b", Title: strings.Repeat("x", 257), Description: strings.Repeat("é", 8193), InputSchema: json.RawMessage(`{}`)}},
			schema.KindInvalidParams, []string{"/tools/1/title", "/tools/1/description"}, "got 257 characters, want at most 256"},
		{"twice", []schema.ToolSpec{spec("a", `{}`), spec("a", `{}`)}, schema.KindInvalidParams, []string{"/tools/1/name"}, "is the name of tool 0 as well"},
		{"no schema", []schema.ToolSpec{{Name: "a"}}, schema.KindToolSchema, []string{"/tools/0/inputSchema"}, "no JSON"},
		{"bad schemas", []schema.ToolSpec{spec("a", `{"type":"array"}`), spec("b", `{}`), spec("c", `{"properties":{"p":{"type":7}}}`)},
			schema.KindToolSchema, []string{"/tools/0/inputSchema/type", "/tools/2/inputSchema/properties/p/type"}, "invalid tool schema: /tools/0/inputSchema/type"},
		{"bad output schema", []schema.ToolSpec{{Name: "a", InputSchema: json.RawMessage(`{}`), OutputSchema: json.RawMessage(`[]`)}},
			schema.KindToolSchema, []string{"/tools/0/outputSchema"}, "want an object"},
		{"too many", make([]schema.ToolSpec, 257), schema.KindInvalidParams, []string{"/tools"}, "got 257 tools, want at most 256"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := NewRegistry(schema.DefaultLimits(), nil)
			_, err := register(r, true, c.specs...)
			var wire *schema.Error
			require.ErrorAs(t, err, &wire)
			require.Equal(t, c.kind, wire.Data.Kind)
			require.Contains(t, wire.Error(), c.text)
			var at []string
			for _, p := range wire.Data.Errors {
				if !contains(at, p.InstancePath) {
					at = append(at, p.InstancePath)
				}
				if c.kind == schema.KindToolSchema {
					require.NotEmpty(t, p.Tool)
				}
			}
			require.Equal(t, c.places, at)
			require.Empty(t, names(r), "all or none")
		})
	}
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

func TestFullSet(t *testing.T) {
	r := NewRegistry(schema.DefaultLimits(), nil)
	for i := range 256 {
		_, err := register(r, false, spec(fmt.Sprintf("t%d", i), `{}`))
		require.NoError(t, err)
	}
	_, err := register(r, false, spec("more", `{}`))
	require.ErrorContains(t, err, "the set would have 257 tools, and holds 256")
	before := r.List("")
	_, err = register(r, true, spec("t7", `{"type":"object"}`), spec("more", `{}`))
	require.ErrorContains(t, err, "the set would have 257 tools")
	require.Equal(t, before, r.List(""), "all or none")
	_, err = register(r, true, spec("t7", `{"type":"object"}`))
	require.NoError(t, err, "a replacement takes no place")

	r = NewRegistry(schema.DefaultLimits(), nil)
	large := `{"description":"` + strings.Repeat("x", 60<<10) + `"}`
	for i := range 34 {
		_, err := register(r, false, spec(fmt.Sprintf("t%d", i), large))
		require.NoError(t, err)
	}
	_, err = register(r, false, spec("last", large))
	require.ErrorContains(t, err, "bytes, and holds 2097152")
	require.Len(t, names(r), 34)
}

// TestCostlySets are refused before most of them is compiled: a client that
// wants to cancel something waits for a registration.
func TestCostlySets(t *testing.T) {
	for _, c := range []struct {
		name, schema, want string
		tools              int
	}{
		{"bytes", `{"description":"` + strings.Repeat("x", 60<<10) + `"}`, "more than 2097152 bytes", 35},
		{"subschemas", `{"allOf":[` + strings.Repeat("{},", 900) + `{}]}`, "more than 8192 subschemas", 11},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := NewRegistry(schema.DefaultLimits(), nil)
			specs := make([]schema.ToolSpec, 0, 256)
			for i := range c.tools {
				specs = append(specs, spec(fmt.Sprintf("t%d", i), c.schema))
			}
			_, err := register(r, false, specs[:c.tools-1]...)
			require.NoError(t, err)
			// The last is no schema at all, and nobody looks at it.
			specs[c.tools-1].InputSchema = json.RawMessage(strings.Replace(c.schema, "{", "[", 1))
			_, err = register(NewRegistry(schema.DefaultLimits(), nil), false, specs...)
			require.ErrorContains(t, err, c.want)
			var wire *schema.Error
			require.ErrorAs(t, err, &wire)
			require.Equal(t, schema.KindToolConflict, wire.Data.Kind)
			require.Len(t, names(r), c.tools-1)
		})
	}
}

func TestWarnings(t *testing.T) {
	res, err := register(NewRegistry(schema.DefaultLimits(), nil), false, spec("fine", `{}`), spec("odd", `{"properties":{"p":{"pattern":"(?!x)"}}}`))
	require.NoError(t, err)
	require.Empty(t, res.Registered[0].Warnings)
	require.Len(t, res.Registered[1].Warnings, 1)
	w := res.Registered[1].Warnings[0]
	require.Equal(t, "odd", w.Tool)
	require.Equal(t, "/tools/1/inputSchema/properties/p/pattern", w.InstancePath)
	require.Contains(t, w.Message, "is not checked")
}

// TestUnconstrained: what grammars do not hold is named, in its place in the request, and
// a strict tool has none of it.
func TestUnconstrained(t *testing.T) {
	r := NewRegistry(schema.DefaultLimits(), func(s json.RawMessage) error {
		if strings.Contains(string(s), "uniqueItems") {
			return errors.New("no")
		}
		return nil
	})
	odd := spec("odd", `{"properties":{"p":{"type":"array","uniqueItems":true}}}`)
	res, err := register(r, false, spec("fine", `{}`), odd)
	require.NoError(t, err)
	require.Empty(t, res.Registered[0].Unconstrained)
	require.Equal(t, []schema.Unconstrained{{Keyword: "uniqueItems", InstancePath: "/tools/1/inputSchema/properties/p/uniqueItems"}}, res.Registered[1].Unconstrained)
	set, err := r.Resolve("", nil)
	require.NoError(t, err)
	require.JSONEq(t, `{"properties":{"p":{"type":"array"}}}`, string(set[1].Held))
	require.Contains(t, string(set[1].InputSchema), "uniqueItems", "which the model reads, and the arguments are checked against")
	odd.Name, odd.Strict = "strict", true
	for _, add := range []func() error{
		func() error { _, err := register(r, false, odd); return err },
		func() error { _, err := r.Resolve("", &[]schema.ToolRef{{Spec: &odd}}); return err },
	} {
		var wire *schema.Error
		require.ErrorAs(t, add(), &wire)
		require.Equal(t, schema.KindToolSchema, wire.Data.Kind)
		require.Equal(t, []schema.FieldError{{Tool: "strict", InstancePath: "/tools/0/inputSchema/properties/p/uniqueItems",
			Message: "uniqueItems cannot be held by a grammar, and the tool is strict"}}, wire.Data.Errors)
	}
	require.Equal(t, []string{"fine", "odd"}, names(r))
}

// TestHoldingIsBounded: what takes too long to ask is not held, and named.
func TestHoldingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		r := NewRegistry(schema.DefaultLimits(), func(s json.RawMessage) error {
			asked++
			time.Sleep(maxHoldTime / 4)
			return errors.New("no")
		})
		begin := time.Now()
		var specs []schema.ToolSpec
		for i := range 20 {
			specs = append(specs, spec(fmt.Sprint("t", i), `{"properties":{"a":{"uniqueItems":true},"b":{"uniqueItems":true}}}`))
		}
		res, err := register(r, false, specs...)
		require.NoError(t, err)
		require.Less(t, time.Since(begin), 2*maxHoldTime)
		require.Equal(t, 5, asked)
		for i := range res.Registered {
			require.Equal(t, []schema.Unconstrained{{InstancePath: fmt.Sprintf("/tools/%d/inputSchema", i)}}, res.Registered[i].Unconstrained)
		}
		_, err = register(r, true, specs[0])
		require.NoError(t, err)
		require.Equal(t, 7, asked, "the next registration has time of its own")
	})
}

// enabled are the tools of a session that are on, as a list and as a generation that
// names none has them.
func enabled(t *testing.T, r *Registry, session string) string {
	t.Helper()
	var listed, resolved []string
	for _, tool := range r.List(session).Tools {
		if tool.Enabled {
			listed = append(listed, tool.Name)
		}
	}
	set, err := r.Resolve(session, nil)
	require.NoError(t, err)
	for _, tool := range set {
		require.True(t, tool.Enabled)
		resolved = append(resolved, tool.Name)
	}
	require.Equal(t, listed, resolved)
	return strings.Join(listed, " ")
}

// TestSetEnabled: what is off keeps its place and is in no generation. A session's own
// switch counts before that of all; what becomes of both when tools and sessions go.
func TestSetEnabled(t *testing.T) {
	r := NewRegistry(schema.DefaultLimits(), nil)
	_, err := register(r, false, spec("a", `{}`), spec("b", `{}`), spec("c", `{}`))
	require.NoError(t, err)
	_, err = r.Register(schema.ToolRegisterParams{SessionID: "s", Tools: []schema.ToolSpec{spec("own", `{}`)}})
	require.NoError(t, err)
	revision := r.List("").Revision
	change := func(session string, on bool, names ...string) {
		t.Helper()
		require.NoError(t, r.SetEnabled(session, names, on))
		revision++
		require.Equal(t, revision, r.List("").Revision)
	}
	running, err := r.Resolve("", nil)
	require.NoError(t, err)
	change("", false, "b", "a", "b")
	require.Len(t, running, 3, "a generation keeps what it began with")
	require.Equal(t, []string{"a", "b", "c"}, names(r), "in their places")
	require.Equal(t, "c", enabled(t, r, ""))
	require.Equal(t, "c own", enabled(t, r, "s"))
	require.NoError(t, r.SetEnabled("", []string{"a"}, false))
	require.Equal(t, revision, r.List("").Revision, "which it was")

	change("s", true, "b")
	change("s", false, "c", "own")
	require.Equal(t, "c", enabled(t, r, ""))
	require.Equal(t, "b", enabled(t, r, "s"))
	set, err := r.Resolve("s", &[]schema.ToolRef{{Name: "a"}, {Name: "b"}, {Spec: &schema.ToolSpec{Name: "c", InputSchema: json.RawMessage(`{}`)}}})
	require.NoError(t, err)
	require.Len(t, set, 2, "whoever names it; one that is given in place is another")

	// All or none.
	before := r.List("s")
	err = r.SetEnabled("s", []string{"a", "none"}, true)
	var wire *schema.Error
	require.ErrorAs(t, err, &wire)
	require.Equal(t, schema.KindToolNotFound, wire.Data.Kind)
	require.Equal(t, "/names/1", wire.Data.Errors[0].InstancePath)
	require.Error(t, r.SetEnabled("", []string{"own"}, false), "is the session's")
	require.Equal(t, before, r.List("s"))

	require.NoError(t, r.Fork("s", "fork"))
	require.Equal(t, "b", enabled(t, r, "fork"))
	_, err = register(r, true, spec("a", `{"type":"object"}`))
	require.NoError(t, err)
	require.Equal(t, "c", enabled(t, r, ""), "another definition is off too")

	// A tool that is gone takes its switches with it, and so does a session.
	require.NoError(t, r.Unregister("", []string{"a", "b", "c"}))
	_, err = register(r, false, spec("c", `{}`), spec("b", `{}`), spec("a", `{}`))
	require.NoError(t, err)
	require.Equal(t, "c b a", enabled(t, r, "s"), "but own")
	require.NoError(t, r.SetEnabled("s", []string{"a"}, false))
	require.Equal(t, "c b", enabled(t, r, "s"))
	r.Forget("s")
	r.Forget("fork")
	require.Equal(t, "c b a", enabled(t, r, "s"))
	require.Empty(t, r.switches)
}

func TestManyClientsAtOnce(t *testing.T) {
	r := NewRegistry(schema.DefaultLimits(), nil)
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for k := range 8 {
				_, err := register(r, true, spec(fmt.Sprintf("t%d-%d", i, k), `{}`), spec("shared", fmt.Sprintf(`{"maxProperties":%d}`, i)))
				if err != nil {
					panic(err)
				}
				r.List("")
			}
		})
	}
	all.Wait()
	require.Len(t, names(r), 16*8+1)
}
