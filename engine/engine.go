// Package engine runs language models with MLX. It owns the one OS thread that
// MLX lives on, the models that are loaded, the generations under way and the
// caches that let the next turn of a conversation start where the last ended.
//
// It must never know of messages, tools or JSON-RPC, and nothing but the engine
// thread may touch an array. Package agent declares what it needs of an Engine;
// the two packages do not know each other.
//
// Start with Engine for what can be asked, loop.go for how a token comes about,
// and backend.go for what a model is to the loop.
package engine

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"

	"harmonyd/engine/job"
	"harmonyd/engine/native"
	"harmonyd/engine/weights"
)

// Options configure an Engine. The zero value of a field stands for its default.
type Options struct {
	// Root is the folder of models, see package hub.
	Root string
	// DefaultModel is the id that the empty name stands for: by default
	// hub.DefaultModel, or the first model where that is not installed.
	DefaultModel string
	// RingSize is how many events a generation buffers for its consumer before
	// it pauses: by default 1024.
	RingSize int
	// PrefixCaches is how many conversations of a model are kept for their next
	// turn: by default 4. A negative number keeps none, so that the same prompt
	// costs the same every time.
	PrefixCaches int
	// MemoryBytes is what models and caches may use: by default what the device
	// says is free when a model is loaded.
	MemoryBytes int64
	// Weights is the form of weights in memory: by default AsStored.
	Weights WeightForm
	// Threads is how many threads a CPU computes with: by default as many as Go
	// runs, which follows the limits of containers.
	Threads int
	// Log receives what a person who looks into a problem wants to know.
	Log *slog.Logger
}

// Engine runs models. Its methods may be called from any goroutine.
type Engine struct {
	opts   Options
	thread *thread
	sched  scheduler
	// open brings a model's weights to the device. Tests put a scripted one here.
	open func(ctx context.Context, folder string, m job.Model, report func(job.Progress)) (Backend, error)

	// newWalk compiles a constraint for a model. Tests put a scripted grammar here.
	newWalk func(ctx context.Context, m *entry, info job.Model, c job.Constraint) (*walk, error)

	// folder opens a model's folder to load it from. Tests put one in between that
	// fails at chosen reads.
	folder func(path string) weights.Folder
	// available measures the bytes that the device has left. Tests put their own.
	available   func() int64
	prefixBytes int64 // constant after New

	// The engine thread's own.
	loads map[*loading]struct{} // that were admitted
	clock int64                 // orders uses of models

	ctx    context.Context // of loads
	cancel context.CancelCauseFunc
	work   sync.WaitGroup // loads under way

	bytes vocabulary // of no model, see CheckSchema

	mu      sync.Mutex
	closed  bool
	entries map[string]*entry
}

// Model is an opened model: what turns text into its tokens and back. It belongs
// to the engine.
type Model struct {
	Info      job.Model
	Tokenizer *native.Tokenizer
	Template  *native.Template // nil where the model has none
	// TemplateSource is the text of Template.
	TemplateSource string
}

// New starts an engine. The caller closes it.
func New(o Options) (*Engine, error) {
	e := newEngine(o)
	e.open = e.openMLX
	if err := e.thread.do(control, e.prepareDevice); err != nil {
		_ = e.Close()
		return nil, err
	}
	return e, nil
}

func newEngine(o Options) *Engine {
	if o.RingSize <= 0 {
		o.RingSize = 1024
	}
	if o.PrefixCaches == 0 {
		o.PrefixCaches = 4
	}
	o.PrefixCaches = max(o.PrefixCaches, 0)
	if o.Threads <= 0 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	e := &Engine{opts: o, thread: newThread(), entries: make(map[string]*entry),
		loads: make(map[*loading]struct{})}
	e.available = e.measure
	e.newWalk = compileWalk
	e.folder = func(path string) weights.Folder { return weights.Dir(path) }
	e.ctx, e.cancel = context.WithCancelCause(context.Background())
	go e.thread.run(e.step, e.last)
	return e
}

// Close ends everything that runs with job.ErrClosed and frees all memory. It
// waits for the step or the tensor that is under way, no longer.
func (e *Engine) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		<-e.thread.done
		return nil
	}
	e.closed = true
	e.mu.Unlock()
	e.cancel(job.ErrClosed)
	e.work.Wait()
	e.thread.close()
	for _, m := range e.entries { // nobody else is left
		m.opened.close()
	}
	e.bytes.close()
	return nil
}

// last is what the engine thread does before it ends.
func (e *Engine) last() {
	for _, g := range e.sched.all() {
		g.finish(job.StopError, job.ErrClosed)
	}
	for _, m := range e.entries {
		m.drop()
	}
}

// Models lists the installed models, sorted by id.
func (e *Engine) Models(ctx context.Context) ([]job.Model, error) {
	if err := e.refresh(ctx); err != nil {
		return nil, err
	}
	e.mu.Lock()
	ids := slices.Sorted(maps.Keys(e.entries))
	e.mu.Unlock()
	var all []job.Model
	for _, id := range ids {
		if m, info := e.known(id); m != nil {
			all = append(all, info)
		}
	}
	return all, nil
}

// Packed is the Form of weights that are quantized as the checkpoint has them.
const Packed = "packed"

// Form says how the weights of a model lie in memory: Packed, or the name of
// their type where none is quantized. It is empty while the model is not loaded.
func (e *Engine) Form(model string) (form string, err error) {
	m, _, err := e.find(model)
	if err != nil {
		return "", err
	}
	err = e.thread.do(control, func() error {
		if b, ok := m.backend.(*mlxBackend); ok {
			form = b.form()
		}
		return nil
	})
	return form, err
}

// Start queues a generation and returns at once. The model is loaded first where
// it is not. What only the model can tell comes from Generation.Wait.
func (e *Engine) Start(req job.Request) (*Generation, error) {
	m, info, err := e.find(req.Model)
	if err != nil {
		return nil, err
	}
	if err := check(req, info); err != nil {
		return nil, err
	}
	if !req.Sampling.HasSeed {
		req.Sampling.Seed, req.Sampling.HasSeed = rand.Uint64(), true
	}
	g := &Generation{req: req, engine: e, entry: m, done: make(chan struct{})}
	g.stopAt.Store(-1)
	g.times.submitted = time.Now()
	g.ring = newRing(e.opts.RingSize, e.thread.nudge)
	if req.Logprobs > 0 {
		g.ring.withLogprobs()
	}

	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, job.ErrClosed
	}
	if req.Constraint.Kind != job.NoConstraint {
		e.constrain(g, info)
	}
	if m.ready {
		g.phase = prefilling
		// Before the scheduler has it, or it might be started first.
		e.thread.post(control, func() { e.screen(g) })
	} else {
		g.times.loading = g.times.submitted
		g.load = e.join(m)
		g.load.generations = append(g.load.generations, g)
	}
	if e.sched.add(g) {
		g.ring.push(job.Event{Kind: job.Queued})
	}
	e.thread.nudge()
	return g, nil
}

// check refuses what the request and the model's description tell.
func check(req job.Request, m job.Model) error {
	bad := func(field, format string, args ...any) error {
		return &job.RequestError{Field: field, Problem: fmt.Sprintf(format, args...)}
	}
	switch {
	case len(req.Prompt) == 0:
		return bad("prompt", "holds no tokens")
	case req.MaxTokens < 0:
		return bad("maxTokens", "got %d, want 0 or more", req.MaxTokens)
	case req.Logprobs < 0 || req.Logprobs > job.MaxLogprobs:
		return bad("logprobs", "got %d, want 0 to %d", req.Logprobs, job.MaxLogprobs)
	case req.Priority > job.Interactive:
		return bad("priority", "got %d, want 0 or 1", req.Priority)
	case !slices.Contains([]job.ConstraintKind{job.NoConstraint, job.JSONSchema, job.Regex, job.Lark}, req.Constraint.Kind):
		return bad("constraint", "kind %q is not known", req.Constraint.Kind)
	case req.Constraint.Kind != job.NoConstraint && req.IgnoreEOS:
		return bad("constraint", "does not go with ignoreEOS: a text that is complete has to end")
	case len(req.Prompt) >= m.ContextLength:
		return &job.ContextOverflowError{PromptTokens: len(req.Prompt), ContextLength: m.ContextLength}
	}
	if err := req.Sampling.Validate(m.Vocab); err != nil {
		return bad("sampling", "%v", err)
	}
	for i, id := range req.Prompt {
		if id < 0 || int(id) >= m.Vocab {
			return bad("prompt", "token %d is %d, want 0 to %d", i, id, m.Vocab-1)
		}
	}
	return nil
}
