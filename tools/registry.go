// Package tools holds what models may call. A tool is data until it is called:
// its definition is kept as it was registered, byte for byte and in order,
// because that is what models read and what a person once agreed to. Nothing
// here runs anything.
//
// Start with Registry.
package tools

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"harmonyd/schema"
)

// Registry is the set of registered tools. It is safe for concurrent use. What
// it hands out never changes: a registration makes a new set.
type Registry struct {
	limits schema.Limits

	mu    sync.Mutex
	tools []tool // in the order of their registration
	// switches are what was switched off, and what a session has on that is off for
	// all.
	switches map[seat]bool
	revision int64
	holds    func(inputSchema json.RawMessage) error
}

// seat is a tool by its name: that of one session, or of all where that is empty.
type seat struct{ session, name string }

// tool is one registered tool, compiled when it was registered so that a call
// cannot fail for its schemas.
type tool struct {
	schema.Tool
	size int // bytes of the definition
	// warnings are the places in the schemas that are not checked.
	warnings []schema.FieldError
	// unconstrained are the places in the inputSchema that a grammar does not hold.
	unconstrained []schema.Unconstrained
}

// NewRegistry returns an empty registry that holds MaxTools and MaxToolBytes of limits at
// most. Holds says what is wrong with a JSON Schema as a grammar; where it is nil,
// grammars hold all of them.
func NewRegistry(limits schema.Limits, holds func(inputSchema json.RawMessage) error) *Registry {
	if holds == nil {
		holds = func(json.RawMessage) error { return nil }
	}
	return &Registry{limits: limits, switches: make(map[seat]bool), holds: holds}
}

// Register adds tools at the end of the set, all or none. With Replace a tool
// takes the place of the one with its name; one for a session hides the one of that
// name for all. The errors are *schema.Error: invalid_params for names and texts,
// tool_schema_invalid with all places of all tools that are wrong, tool_conflict for
// a name that is taken or a set that is full.
func (r *Registry) Register(p schema.ToolRegisterParams) (schema.ToolRegisterResult, error) {
	added, err := r.compile(p.Tools)
	if err != nil {
		return schema.ToolRegisterResult{}, err
	}
	for i := range added {
		added[i].SessionID = p.SessionID
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	set, changed, err := r.merge(added, p.Replace)
	if err != nil {
		return schema.ToolRegisterResult{}, err
	}
	r.tools = set
	if changed {
		r.revision++
	}
	res := schema.ToolRegisterResult{Registered: make([]schema.RegisteredTool, len(added)), Revision: r.revision}
	for i, t := range added {
		res.Registered[i] = schema.RegisteredTool{Name: t.Name, Digest: t.Digest, Warnings: t.warnings, Unconstrained: t.unconstrained}
	}
	return res, nil
}

// Unregister takes tools away that were registered for a session, or for all where
// session is empty: all that are named, or none with the error tool_not_found.
func (r *Registry) Unregister(session string, names []string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	set := slices.Clone(r.tools)
	for i, name := range names {
		at := slices.IndexFunc(set, func(t tool) bool { return t.Name == name && t.SessionID == session })
		if at < 0 {
			return notFound(fmt.Sprintf("/names/%d", i), name)
		}
		set = slices.Delete(set, at, at+1)
	}
	r.shrink(set)
	return nil
}

// shrink makes a part of the set the set, and forgets the switches of what is gone.
// It is called with the lock held.
func (r *Registry) shrink(set []tool) {
	if len(set) == len(r.tools) {
		return
	}
	r.tools = set
	r.revision++
	left := make(map[seat]bool, len(set))
	for i := range set {
		left[seat{set[i].SessionID, set[i].Name}] = true
	}
	maps.DeleteFunc(r.switches, func(s seat, _ bool) bool { return !left[s] && !left[seat{"", s.name}] })
}

func notFound(path, name string) error {
	err := schema.Errorf(schema.KindToolNotFound, "no tool named %q is registered", name)
	err.Data.Errors = []schema.FieldError{{Tool: name, InstancePath: path, Message: "is not registered"}}
	return err
}

// Forget takes all tools of a session away, and what it has switched.
func (r *Registry) Forget(session string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.switches, func(s seat, _ bool) bool { return s.session == session })
	r.shrink(slices.DeleteFunc(slices.Clone(r.tools), func(t tool) bool { return t.SessionID == session }))
}

// Fork registers the tools of a session for another one too, as far as there is
// room for them, and switches what it has switched.
func (r *Registry) Fork(from, to string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var added []tool
	for _, t := range r.tools {
		if t.SessionID == from {
			t.SessionID = to
			added = append(added, t)
		}
	}
	set, changed, err := r.merge(added, true)
	if err != nil {
		return err
	}
	r.tools = set
	if changed {
		r.revision++
	}
	for s, on := range maps.Clone(r.switches) {
		if s.session == from {
			r.switches[seat{to, s.name}] = on
		}
	}
	return nil
}

// SetEnabled switches tools that a session sees, or those for all where it is empty:
// all that are named, or none with the error tool_not_found.
func (r *Registry) SetEnabled(session string, names []string, on bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := r.seen(session)
	changed := false
	for i, name := range names {
		at := slices.IndexFunc(seen, func(t tool) bool { return t.Name == name })
		if at < 0 {
			return notFound(fmt.Sprintf("/names/%d", i), name)
		}
		changed = changed || seen[at].Enabled != on
	}
	for _, name := range names {
		r.switches[seat{session, name}] = on
	}
	if changed {
		r.revision++
	}
	return nil
}

// isEnabled reports whether a session has a tool that it sees switched on. It is
// called with the lock held.
func (r *Registry) isEnabled(session string, t *tool) bool {
	if on, set := r.switches[seat{session, t.Name}]; set {
		return on
	}
	on, set := r.switches[seat{"", t.Name}]
	return on || !set || t.SessionID != ""
}

// List returns the tools that a generation of a session can use, or those for all
// where session is empty, in the order of their registration.
func (r *Registry) List(session string) schema.ToolsListResult {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := r.seen(session)
	res := schema.ToolsListResult{Tools: make([]schema.ToolInfo, len(seen)), Revision: r.revision}
	for i := range seen {
		res.Tools[i] = seen[i].ToolInfo
	}
	return res
}

// seen are the tools that a session sees, with what is switched for it. It is called
// with the lock held.
func (r *Registry) seen(session string) []tool {
	var own []tool
	for _, t := range r.tools {
		if session != "" && t.SessionID == session {
			own = append(own, t)
		}
	}
	var all []tool
	for _, t := range r.tools {
		hidden := slices.ContainsFunc(own, func(o tool) bool { return o.Name == t.Name })
		if t.SessionID == "" && !hidden || t.SessionID != "" && t.SessionID == session {
			t.Enabled = r.isEnabled(session, &t)
			all = append(all, t)
		}
	}
	return all
}

// Resolve returns the tools of one generation: those that refs names and defines,
// or all that its session sees where refs is nil, but for those that are switched off.
// What it returns stays as it is, whatever is registered later. The errors are those of Register and tool_not_found.
func (r *Registry) Resolve(session string, refs *[]schema.ToolRef) ([]schema.Tool, error) {
	r.mu.Lock()
	seen := r.seen(session)
	r.mu.Unlock()
	if refs == nil {
		return plain(seen), nil
	}
	var given []schema.ToolSpec
	for _, ref := range *refs {
		if ref.Spec != nil {
			given = append(given, *ref.Spec)
		}
	}
	defined, err := r.compile(given)
	if err != nil {
		return nil, err
	}
	var set []tool
	for i, ref := range *refs {
		path := fmt.Sprintf("/tools/%d", i)
		var t tool
		if ref.Spec != nil {
			t, defined = defined[0], defined[1:]
		} else {
			at := slices.IndexFunc(seen, func(t tool) bool { return t.Name == ref.Name })
			if at < 0 {
				return nil, notFound(path, ref.Name)
			}
			t = seen[at]
		}
		if slices.ContainsFunc(set, func(o tool) bool { return o.Name == t.Name }) {
			return nil, schema.InvalidParam(path, "the name %q stands twice", t.Name)
		}
		set = append(set, t)
	}
	return plain(set), nil
}

// plain are the tools of a set that are on.
func plain(set []tool) []schema.Tool {
	out := make([]schema.Tool, 0, len(set))
	for i := range set {
		if set[i].Enabled {
			out = append(out, set[i].Tool)
		}
	}
	return out
}

// merge returns the set with added in it, and whether that is another one. It is
// called with the lock held.
func (r *Registry) merge(added []tool, replace bool) (set []tool, changed bool, err error) {
	set = slices.Clone(r.tools)
	var taken []schema.FieldError
	for i, t := range added {
		own := slices.IndexFunc(set, func(o tool) bool { return o.Name == t.Name && o.SessionID == t.SessionID })
		// A name for all is taken for sessions too.
		conflict := own >= 0 || slices.ContainsFunc(set, func(o tool) bool { return o.Name == t.Name && o.SessionID == "" })
		switch {
		case conflict && !replace:
			taken = append(taken, schema.FieldError{Tool: t.Name, InstancePath: place(i, "name"), Message: "is registered already"})
		case own >= 0:
			changed = changed || set[own].Digest != t.Digest
			set[own] = t
		default:
			set, changed = append(set, t), true
		}
	}
	if len(taken) > 0 {
		err := schema.Errorf(schema.KindToolConflict, "a tool named %q is registered already; set replace to replace it", taken[0].Tool)
		err.Data.Errors = taken
		return nil, false, err
	}
	size := 0
	for i := range set {
		size += set[i].size
	}
	switch {
	case len(set) > r.limits.MaxTools:
		return nil, false, full("the set would have %d tools, and holds %d", len(set), r.limits.MaxTools)
	case size > r.limits.MaxToolBytes:
		return nil, false, full("the set would have %d bytes, and holds %d", size, r.limits.MaxToolBytes)
	}
	return set, changed, nil
}

// maxSubschemas bounds the time that one registration takes: it is more than a
// full set of tools with thirty parameters each has.
const maxSubschemas = 8192

// full is the error of a set that cannot take more.
func full(format string, args ...any) error {
	return schema.Errorf(schema.KindToolConflict, format, args...)
}

// compile checks and compiles definitions.
func (r *Registry) compile(specs []schema.ToolSpec) ([]tool, error) {
	// More than fit into the set are refused before any of them costs time.
	if limit := r.limits.MaxTools; len(specs) > limit {
		return nil, schema.InvalidParam("/tools", "got %d tools, want at most %d", len(specs), limit)
	}
	if err := checkTexts(specs); err != nil {
		return nil, err
	}
	tools := make([]tool, len(specs))
	holds := r.patient()
	var bad []schema.FieldError
	size, subschemas := 0, 0
	for i, s := range specs {
		// Clients wait while schemas compile, so what cannot fit is not compiled.
		if size += len(s.InputSchema) + len(s.OutputSchema); size > r.limits.MaxToolBytes {
			return nil, full("the set would have more than %d bytes", r.limits.MaxToolBytes)
		}
		if subschemas > maxSubschemas {
			return nil, full("the schemas of one registration have more than %d subschemas", maxSubschemas)
		}
		more, err := tools[i].define(i, s, holds)
		if err != nil {
			return nil, err
		}
		bad = append(bad, more...)
		for _, v := range []*schema.Validator{tools[i].Input, tools[i].Output} {
			if v != nil {
				subschemas += v.Subschemas
			}
		}
	}
	if len(bad) > 0 {
		return nil, schema.ToolSchemaInvalid(bad[:min(len(bad), maxPlaces)]...)
	}
	return tools, nil
}

// maxHoldTime is how long one registration asks what grammars hold, in which thousands of
// tools as people write them are asked for.
const maxHoldTime = time.Second

// patient is holds for one registration: when it has taken its time nothing more is held,
// whatever is asked, so that clients do not wait for schemas that were made to be hard.
func (r *Registry) patient() func(json.RawMessage) error {
	var spent time.Duration
	return func(inputSchema json.RawMessage) error {
		if spent > maxHoldTime {
			return errors.New("the schemas of this registration take too long to make grammars of")
		}
		defer func(begin time.Time) { spent += time.Since(begin) }(time.Now())
		return r.holds(inputSchema)
	}
}

// define makes t the tool that s, the ith of its request, defines. It returns
// the places in its schemas that are wrong.
func (t *tool) define(i int, s schema.ToolSpec, holds func(json.RawMessage) error) (bad []schema.FieldError, err error) {
	compile := func(raw []byte, member string) *schema.Validator {
		v, wrong := schema.Compile(raw)
		bad = append(bad, located(wrong, i, s.Name, member)...)
		if v != nil {
			t.warnings = append(t.warnings, located(v.Unchecked, i, s.Name, member)...)
		}
		return v
	}
	t.Input = compile(s.InputSchema, "inputSchema")
	if s.OutputSchema != nil {
		t.Output = compile(s.OutputSchema, "outputSchema")
	}
	if len(bad) > 0 {
		return bad, nil
	}
	t.Held, t.unconstrained = schema.Hold(s.InputSchema, holds)
	for n := range t.unconstrained {
		u := &t.unconstrained[n]
		u.InstancePath = place(i, "inputSchema") + u.InstancePath
		if s.Strict {
			bad = append(bad, schema.FieldError{Tool: s.Name, InstancePath: u.InstancePath,
				Message: cmp.Or(u.Keyword, "this") + " cannot be held by a grammar, and the tool is strict"})
		}
	}
	if len(bad) > 0 {
		return bad, nil
	}
	// White space is no part of a definition; the order of members is.
	definition, err := schema.Encode(s)
	if err != nil {
		return nil, fmt.Errorf("tool %q: %w", s.Name, err)
	}
	sum := sha256.Sum256(definition)
	t.size = len(definition)
	t.ToolInfo = schema.ToolInfo{ToolSpec: s, Source: schema.SourceClient, Digest: hex.EncodeToString(sum[:]), Enabled: true}
	return nil, nil
}

// maxPlaces bounds the places that one error names.
const maxPlaces = 16

// checkTexts holds all of specs but their schemas to the rules that stand next
// to the fields, as the wire does, and names to be of one tool each.
func checkTexts(specs []schema.ToolSpec) error {
	var bad []schema.FieldError
	seen := make(map[string]int, len(specs))
	for i, s := range specs {
		first, twice := seen[s.Name]
		seen[s.Name] = i
		if twice {
			bad = append(bad, schema.FieldError{Tool: s.Name, InstancePath: place(i, "name"), Message: fmt.Sprintf("is the name of tool %d as well", first)})
			continue
		}
		s.InputSchema, s.OutputSchema = []byte(`{}`), nil
		text, err := schema.Encode(s)
		if err != nil {
			return fmt.Errorf("tool %q: %w", s.Name, err)
		}
		var wrong *schema.Error
		if errors.As(schema.Decode(text, new(schema.ToolSpec)), &wrong) {
			for _, p := range wrong.Data.Errors {
				bad = append(bad, schema.FieldError{InstancePath: fmt.Sprintf("/tools/%d%s", i, p.InstancePath), Message: p.Message})
			}
		}
	}
	if len(bad) > 0 {
		return schema.InvalidParams(bad[:min(len(bad), maxPlaces)]...)
	}
	return nil
}

func place(tool int, member string) string { return fmt.Sprintf("/tools/%d/%s", tool, member) }

// located turns places in a schema into places in params.
func located(places []schema.FieldError, tool int, name, member string) []schema.FieldError {
	out := make([]schema.FieldError, len(places))
	for i, p := range places {
		out[i] = schema.FieldError{Tool: name, InstancePath: place(tool, member) + p.InstancePath, Message: p.Message}
	}
	return out
}
