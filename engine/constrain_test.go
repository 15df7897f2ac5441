package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"harmonyd/engine/enginetest"
	"harmonyd/engine/job"
)

var (
	schemaCount = flag.Int("schemas", 40, "how many random schemas a model of random weights writes to")
	schemaSeeds = flag.Int("seeds", 2, "how many texts it writes to each of them")
	ownSchemas  = flag.Int("ownschemas", 3, "how many schemas the default model writes to")
)

// schemaMaker makes random schemas of bounded texts: strings, lists and depth have a
// most, and objects no other members than theirs.
type schemaMaker struct{ *rand.Rand }

func (r schemaMaker) text() string {
	words := []string{"a", "name", "Zürich", "two words", "quote\"d", "back\\slash", "日本", "line\nbreak", "x/y", "€", ""}
	return words[r.IntN(len(words))]
}

func (r schemaMaker) value(depth int) map[string]any {
	kinds := 9
	if depth == 0 {
		kinds = 6 // nothing with others inside
	}
	switch r.IntN(kinds) {
	case 0:
		return map[string]any{"type": "boolean"}
	case 1:
		least := r.IntN(200) - 100
		return map[string]any{"type": "integer", "minimum": least, "maximum": least + r.IntN(1000)}
	case 2:
		least := r.IntN(4)
		return map[string]any{"type": "string", "minLength": least, "maxLength": least + 1 + r.IntN(12)}
	case 3:
		return map[string]any{"enum": []any{r.text() + "1", r.IntN(9), nil, true, r.text() + "2"}[:1+r.IntN(5)]}
	case 4:
		patterns := []string{"^[a-z]{1,8}$", "^[0-9]{4}-[0-9]{2}$", "^(on|off|auto)$", "^#[0-9a-f]{6}$"}
		return map[string]any{"type": "string", "pattern": patterns[r.IntN(len(patterns))]}
	case 5:
		return map[string]any{"const": r.text()}
	case 6:
		least := r.IntN(2)
		return map[string]any{"type": "array", "items": r.value(depth - 1), "minItems": least, "maxItems": least + r.IntN(3)}
	case 7:
		return map[string]any{"anyOf": []any{r.value(depth - 1), r.object(depth - 1)}}
	default:
		return r.object(depth - 1)
	}
}

func (r schemaMaker) object(depth int) map[string]any {
	members, required := map[string]any{}, []string{}
	for i := range 1 + r.IntN(4) {
		name := fmt.Sprint(r.text(), i)
		members[name] = r.value(max(depth, 0))
		if r.IntN(3) > 0 {
			required = append(required, name)
		}
	}
	return map[string]any{"type": "object", "properties": members, "required": required, "additionalProperties": false}
}

// schemas are n random schemas, the same ones each time.
func schemas(t testing.TB, n int) []string {
	all := make([]string, n)
	for i := range all {
		r := schemaMaker{rand.New(rand.NewPCG(uint64(i), 1))}
		text, err := json.Marshal(r.object(3))
		require.NoError(t, err)
		all[i] = string(text)
	}
	return all
}

// validate parses text as one JSON value and holds it against the schema.
func validate(t *testing.T, schema string, text []byte) error {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(schema)))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource("schema.json", doc))
	s, err := c.Compile("schema.json")
	require.NoError(t, err)
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	return s.Validate(value)
}

// writing counts what texts under constraints came to.
type writing struct {
	texts, ended, tokens int
	stats                job.ConstraintStats
}

// write has the model write to the schema and holds the result against it.
func (w *writing) write(t *testing.T, e *Engine, m *Model, req job.Request, schema string) {
	t.Helper()
	req.Model, req.Constraint = m.Info.ID, job.Constraint{Kind: job.JSONSchema, Source: schema}
	o := generate(t, e, req)
	require.NoError(t, o.err, "%s", schema)
	w.texts++
	w.tokens += len(o.ids)
	s := o.result.Stats.Constraint
	w.stats.Forced += s.Forced
	w.stats.Masks += s.Masks
	w.stats.LateMasks += s.LateMasks
	w.stats.MaskTime += s.MaskTime
	w.stats.LongestMask = max(w.stats.LongestMask, s.LongestMask)
	if o.result.Reason == job.StopLength {
		return
	}
	require.Equal(t, job.StopEOS, o.result.Reason)
	w.ended++
	var text []byte
	stream := m.Tokenizer.NewStream()
	for _, id := range o.ids {
		text = stream.AppendStep(text, id)
	}
	text = stream.AppendFlush(text)
	require.NoError(t, validate(t, schema, text), "%s\n%s", schema, text)
}

func (w *writing) report(t *testing.T, name string) {
	t.Logf("%s: %d texts, %d ended, all of these valid; %d tokens, %d of them forced; %d masks, %d late, %v each, at most %v",
		name, w.texts, w.ended, w.tokens, w.stats.Forced, w.stats.Masks, w.stats.LateMasks,
		w.stats.MaskTime/time.Duration(max(w.stats.Masks, 1)), w.stats.LongestMask)
	require.GreaterOrEqual(t, float64(w.ended), 0.99*float64(w.texts), "of bounded schemas")
	require.Positive(t, w.stats.Forced)
}

// TestConstrainedTextsAreValid lets a model of random weights, all of whose scores are
// near each other, write to random schemas in the default model's vocabulary. make
// constrain-long does so 2,000 × 4 times.
//
// Planted break: a mask that is made before the token before it is consumed.
func TestConstrainedTextsAreValid(t *testing.T) {
	real, id := defaultModel(t)
	root := t.TempDir()
	c := enginetest.Checkpoint{Vocab: 49152, Hidden: 32, Heads: 2, KVHeads: 1, Intermediate: 32, Layers: 1, EOS: []int32{2}, Tied: true}
	require.NoError(t, c.Write(filepath.Join(root, "flat")))
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json"} {
		text, err := os.ReadFile(filepath.Join(real, id, name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(root, "flat", name), text, 0o644))
	}
	e := newTestEngine(t, Options{Root: root})
	m, err := e.Open(t.Context(), "flat")
	require.NoError(t, err)
	var w writing
	for i, schema := range schemas(t, *schemaCount) {
		for seed := range *schemaSeeds {
			req := request(pseudoPrompt(3+i%5, 49152), 1000)
			req.Sampling = job.Sampling{Temperature: 1, Seed: uint64(seed), HasSeed: true}
			w.write(t, e, m, req, schema)
		}
	}
	w.report(t, "random weights")
}

// TestDefaultModelWritesToSchemas is the same with the default model, which is asked
// for what it writes.
func TestDefaultModelWritesToSchemas(t *testing.T) {
	root, id := defaultModel(t)
	e := newTestEngine(t, Options{Root: root})
	m, err := e.Open(t.Context(), id)
	require.NoError(t, err)
	var w writing
	for i, schema := range schemas(t, *ownSchemas) {
		prompt, err := m.Tokenizer.Encode("<|im_start|>user\nWrite JSON for this schema: "+schema+"<|im_end|>\n<|im_start|>assistant\n", true)
		require.NoError(t, err)
		req := request(prompt, 1000)
		req.Sampling = job.Sampling{Temperature: 0.8, Seed: uint64(i), HasSeed: true}
		w.write(t, e, m, req, schema)
	}
	w.report(t, "the default model")
}

// scriptedMatcher is a grammar of a scripted model: in turn there is a choice, and then
// a run of forced tokens.
type scriptedMatcher struct {
	text   []int32 // what was consumed
	every  int     // after so many choices
	forced []int32
	most   int // tokens, then it is complete
	closed int
}

func (m *scriptedMatcher) MaskWords() int { return 3 }

func (m *scriptedMatcher) place() (inRun int) {
	return len(m.text)%(m.every+len(m.forced)) - m.every
}

func (m *scriptedMatcher) Mask(dst []uint32) error {
	clear(dst)
	for id := len(m.text) % 3; id < 96; id += 3 {
		dst[id/32] |= 1 << (id % 32)
	}
	return nil
}

func (m *scriptedMatcher) Consume(id int32) error {
	if at := m.place(); at >= 0 && id != m.forced[at] || at < 0 && int(id)%3 != len(m.text)%3 {
		return fmt.Errorf("token %d may not be the %dth", id, len(m.text))
	}
	m.text = append(m.text, id)
	return nil
}

func (m *scriptedMatcher) ForcedTokens() ([]int32, error) {
	if at := m.place(); at >= 0 {
		return slices.Clone(m.forced[at:]), nil
	}
	return nil, nil
}

func (m *scriptedMatcher) IsStopped() bool { return m.most > 0 && len(m.text) >= m.most }
func (m *scriptedMatcher) Close()          { m.closed++ }

// startConstrained starts a generation of a scripted model with a scripted grammar.
func startConstrained(t *testing.T, b *bench, limit int) *Generation {
	t.Helper()
	req := request(pseudoPrompt(30, 96), limit)
	req.Constraint.Kind = job.Regex // whatever it is, the grammar is a scripted one
	g, err := b.Start(req)
	require.NoError(t, err)
	return g
}

// constrainedBench is a bench whose generations all walk through the grammar that next
// makes.
func constrainedBench(t *testing.T, o Options, next func() *scriptedMatcher) *bench {
	b := newBench(t, o)
	b.newWalk = func(context.Context, *entry, job.Model, job.Constraint) (*walk, error) {
		m := next()
		return &walk{matcher: m, mask: make([]uint32, m.MaskWords())}, nil
	}
	return b
}

// TestConstrainedSteps: the token in flight is fed before it is read, a run of forced
// tokens is one evaluation, and no step of it is chosen.
func TestConstrainedSteps(t *testing.T) {
	m := &scriptedMatcher{every: 2, forced: []int32{7, 8, 9, 10}, most: 12}
	b := constrainedBench(t, Options{}, func() *scriptedMatcher { return m })
	o := consume(t, startConstrained(t, b, 50))
	require.NoError(t, o.err)
	require.Equal(t, job.StopEOS, o.result.Reason)
	require.Equal(t, m.text, o.ids)
	require.Len(t, o.ids, 12)
	require.Equal(t, []int32{7, 8, 9, 10}, o.ids[2:6])
	require.Equal(t, 1, m.closed)
	require.Equal(t, job.ConstraintStats{Forced: 8, Masks: 4, MaskTime: o.result.Stats.Constraint.MaskTime,
		LongestMask: o.result.Stats.Constraint.LongestMask}, o.result.Stats.Constraint)
	require.Equal(t, []string{"NewSequence", "SetSampling", "Score", "Choose", // the prompt
		"Read", "Score", "Choose", // the first token is read at once
		"Score", "Read", // the second one is fed first
		"Score", "Choose", // the run
		"Score", "Read", "Choose", "Score", "Read"}, slices.DeleteFunc(b.steps(), func(s string) bool { return s == "Proceed" }))
}

// TestConstrainedLimits ends texts at every length, in runs too, with room for one
// event at a time.
func TestConstrainedLimits(t *testing.T) {
	for limit := 1; limit <= 14; limit++ {
		m := &scriptedMatcher{every: 2, forced: []int32{7, 8, 9, 10}}
		b := constrainedBench(t, Options{RingSize: 2}, func() *scriptedMatcher { return m })
		o := consume(t, startConstrained(t, b, limit))
		require.NoError(t, o.err)
		require.Equal(t, job.StopLength, o.result.Reason)
		require.Len(t, o.ids, limit)
		// A run is consumed whole, the last token where there is a choice not at all.
		n := min(limit, len(m.text))
		require.Equal(t, append([]int32{}, m.text[:n]...), o.ids[:n])
		require.GreaterOrEqual(t, n, limit-1)
		require.Equal(t, 1, m.closed)
	}
}

// TestConstrainedCancel cancels at every step. What stays in the cache serves the next
// turn, whose text is the same.
func TestConstrainedCancel(t *testing.T) {
	fresh := func() *scriptedMatcher { return &scriptedMatcher{every: 2, forced: []int32{7, 8, 9}, most: 20} }
	b := constrainedBench(t, Options{}, fresh)
	want := consume(t, startConstrained(t, b, 50)).ids
	require.Len(t, want, 20)
	for k := range 30 {
		require.NoError(t, b.Unload(t.Context(), "tiny"))
		o, _ := b.cancelAt(t, k, func() *Generation { return startConstrained(t, b, 50) }, func(string) bool { return true })
		require.Equal(t, want[:len(o.ids)], append([]int32{}, o.ids...), "cancel at step %d", k)
		require.Equal(t, want, consume(t, startConstrained(t, b, 50)).ids, "after a cancel at step %d", k)
	}
}

// TestConstraintsThatCannotBe are refused, and nothing else with them.
func TestConstraintsThatCannotBe(t *testing.T) {
	root, id := defaultModel(t)
	e := newTestEngine(t, Options{Root: root})
	for _, c := range []struct {
		constraint job.Constraint
		problem    string
	}{
		{job.Constraint{Kind: "yaml", Source: "a"}, `kind "yaml" is not known`},
		{job.Constraint{Kind: job.JSONSchema, Source: `{"type":`}, "EOF"},
		{job.Constraint{Kind: job.JSONSchema, Source: `{"not":{}}`}, "not"},
		{job.Constraint{Kind: job.Regex, Source: "(("}, "regex"},
		{job.Constraint{Kind: job.Lark, Source: "start: nothing"}, "nothing"},
	} {
		req := request([]int32{1, 2, 3}, 4)
		req.Model, req.Constraint = id, c.constraint
		g, err := e.Start(req)
		if err == nil {
			err = consume(t, g).err
		}
		var refused *job.RequestError
		require.ErrorAs(t, err, &refused, "%+v", c.constraint)
		require.Equal(t, "constraint", refused.Field)
		require.Contains(t, refused.Problem, c.problem)
	}
	req := request([]int32{1, 2, 3}, 4)
	req.Model = id
	require.NoError(t, generate(t, e, req).err)
}
