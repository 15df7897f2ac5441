// Package enginetest holds what stands in for the real engine in tests: the
// scripted engine, whose tokens, speed, load time and failures come from a
// Script, and Conformance, the table of what any engine must do. It must never
// need cgo or a device, and never decide anything by chance or by the wall
// clock: its only clock is package time, so it runs in a synctest bubble.
//
// Start with ReadScript and New.
package enginetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"harmonyd/engine/job"
)

// Engine is the scripted engine. It runs one generation at a time, interactive
// ones first, and changes over at step boundaries. All methods may be called
// from any goroutine.
type Engine struct {
	ring int

	mu      sync.Mutex
	order   []string // model ids as the script has them
	models  map[string]*model
	queue   []*generation // what is not done, in order of arrival
	current *generation   // the one whose step is running, without the lock
	looping bool
	closed  bool
	wake    chan struct{} // tells the loop that queue changed; capacity 1
	work    sync.WaitGroup
}

// model is a model of the engine; Engine.mu guards what changes.
type model struct {
	Model
	first     bool // in the script
	tokenizer *Tokenizer
	state     job.ModelState
	load      *load
	// cached are the tokens whose keys and values the model would hold, of the
	// generation that ended last.
	cached   []int32
	cachedBy *generation
}

// load is a load in progress; several callers share it.
type load struct {
	waiters int
	tick    chan struct{} // closed and replaced at each progress
	at      job.Progress
	abandon chan struct{} // closed when nobody waits any more
	done    chan struct{}
	err     error // set before done is closed
}

// Opened is a model's tokenizer and template.
type Opened struct {
	Info      job.Model
	Tokenizer *Tokenizer
	Template  *Template // nil where the script says noTemplate
}

// New returns an engine that follows s. The caller closes it.
func New(s Script) (*Engine, error) {
	if err := s.fill(); err != nil {
		return nil, err
	}
	e := &Engine{ring: s.Ring, models: make(map[string]*model), wake: make(chan struct{}, 1)}
	for _, m := range s.Models {
		e.order = append(e.order, m.ID)
		e.models[m.ID] = &model{Model: m, first: len(e.order) == 1, tokenizer: newTokenizer(m.Vocabulary), state: job.Unloaded}
	}
	return e, nil
}

// Close ends everything that runs with job.ErrClosed and waits for it.
func (e *Engine) Close() error {
	e.mu.Lock()
	e.closed = true
	for _, g := range slices.Clone(e.queue) {
		e.halt(g, job.StopError, job.ErrClosed)
	}
	for _, m := range e.models {
		m.giveUp(job.ErrClosed)
	}
	e.mu.Unlock()
	e.work.Wait()
	return nil
}

// Models lists the script's models, sorted by id.
func (e *Engine) Models(context.Context) ([]job.Model, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []job.Model
	for _, id := range slices.Sorted(slices.Values(e.order)) {
		all = append(all, e.models[id].info())
	}
	return all, nil
}

// Open gives a model's tokenizer and template; the empty id is the script's
// first model.
func (e *Engine) Open(_ context.Context, id string) (*Opened, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m, err := e.find(id)
	if err != nil {
		return nil, err
	}
	if m.Panic != "" {
		panic(m.Panic)
	}
	o := &Opened{Info: m.info(), Tokenizer: m.tokenizer}
	if !m.NoTemplate {
		o.Template = new(Template)
	}
	return o, nil
}

// Load takes the time that the script gives it, and fails where the script
// says so. Report is called from the caller's own goroutine, and not after
// Load has returned.
func (e *Engine) Load(ctx context.Context, id string, report func(job.Progress)) error {
	e.mu.Lock()
	m, err := e.find(id)
	if err != nil || m.state == job.Ready {
		e.mu.Unlock()
		return err
	}
	if ctx.Err() != nil {
		e.mu.Unlock()
		return fmt.Errorf("load model %q: %w", m.ID, job.ErrCancelled)
	}
	l := m.load
	if l == nil {
		l = e.startLoad(m)
	}
	l.waiters++
	for {
		tick, at := l.tick, l.at
		e.mu.Unlock()
		if report != nil && at.Done > 0 {
			report(at)
		}
		select {
		case <-l.done:
			return l.err
		case <-tick:
			e.mu.Lock()
		case <-ctx.Done():
			e.mu.Lock()
			defer e.mu.Unlock()
			if l.waiters--; l.waiters == 0 && m.load == l {
				m.giveUp(job.ErrCancelled)
			}
			return fmt.Errorf("load model %q: %w", m.ID, job.ErrCancelled)
		}
	}
}

// startLoad is called with the lock held.
func (e *Engine) startLoad(m *model) *load {
	l := &load{
		tick:    make(chan struct{}),
		at:      job.Progress{Total: m.SizeBytes},
		abandon: make(chan struct{}),
		done:    make(chan struct{}),
	}
	m.load, m.state = l, job.LoadingNow
	e.work.Go(func() { e.runLoad(m, l) })
	return l
}

// runLoad reports ten times and then makes the model ready. Whoever takes the
// load away from the model ends it.
func (e *Engine) runLoad(m *model, l *load) {
	const parts = 10
	for i := range int64(parts) {
		t := time.NewTimer(time.Duration(m.LoadMS) * time.Millisecond / parts)
		select {
		case <-t.C:
		case <-l.abandon:
			t.Stop()
			return
		}
		e.mu.Lock()
		if m.load != l {
			e.mu.Unlock()
			return
		}
		l.at.Done = l.at.Total * (i + 1) / parts
		close(l.tick)
		l.tick = make(chan struct{})
		if i == parts-1 {
			m.endLoad(m.loadError(), job.Ready)
		}
		e.mu.Unlock()
	}
}

func (m *model) loadError() error {
	if m.FailLoad == "" {
		return nil
	}
	return &job.LoadError{Model: m.ID, Cause: m.FailLoad, NeededBytes: m.NeededBytes, AvailableBytes: m.AvailableBytes}
}

// endLoad is called with the lock held.
func (m *model) endLoad(err error, state job.ModelState) {
	l := m.load
	m.load, m.state = nil, state
	if err != nil {
		m.state = job.Unloaded
	}
	l.err = err
	close(l.done)
}

// giveUp ends a load that nobody waits for, or that must not go on. It is
// called with the lock held.
func (m *model) giveUp(why error) {
	if l := m.load; l != nil {
		m.endLoad(fmt.Errorf("load model %q: %w", m.ID, why), job.Unloaded)
		close(l.abandon)
	}
}

// Unload frees a model, gives up its load, and ends what runs on it with
// job.ErrUnloaded.
func (e *Engine) Unload(_ context.Context, id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	m, err := e.find(id)
	if err != nil {
		return err
	}
	for _, g := range slices.Clone(e.queue) {
		if g.model == m {
			e.halt(g, job.StopError, fmt.Errorf("model %q: %w", m.ID, job.ErrUnloaded))
		}
	}
	m.giveUp(job.ErrUnloaded)
	m.state, m.cached, m.cachedBy = job.Unloaded, nil, nil
	return nil
}

// find is called with the lock held.
func (e *Engine) find(id string) (*model, error) {
	if e.closed {
		return nil, job.ErrClosed
	}
	if id == "" {
		id = e.order[0]
	}
	m, ok := e.models[id]
	if !ok {
		return nil, &job.ModelNotFoundError{Model: id, Available: slices.Sorted(slices.Values(e.order))}
	}
	return m, nil
}

func (m *model) info() job.Model {
	return job.Model{
		ID:            m.ID,
		Family:        "scripted",
		ContextLength: m.ContextLength,
		Vocab:         m.tokenizer.size(),
		SizeBytes:     m.SizeBytes,
		StopIDs:       []int32{ImEnd, EndOfText},
		Chat:          !m.NoTemplate,
		Default:       m.first,
		State:         m.state,
	}
}

// Start queues a generation. It loads the model first where that is needed.
func (e *Engine) Start(req job.Request) (Generation, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m, err := e.find(req.Model)
	if err != nil {
		return nil, err
	}
	if err := m.check(req); err != nil {
		return nil, err
	}
	g := newGeneration(e, m, req)
	if g.reply.Panic != "" {
		g.giveUp()
		panic(g.reply.Panic)
	}
	e.queue = append(e.queue, g)
	g.push(job.Event{Kind: job.Queued})
	if m.state == job.Ready {
		g.ready = true
	} else {
		g.loadFrom = time.Now()
		e.work.Go(func() { e.loadFor(g) })
	}
	if !e.looping {
		e.looping = true
		e.work.Go(e.loop)
	}
	e.nudge()
	return g, nil
}

// check refuses what the request alone shows to be wrong.
func (m *model) check(req job.Request) error {
	if len(req.Prompt) == 0 {
		return &job.RequestError{Field: "prompt", Problem: "is empty"}
	}
	for i, id := range req.Prompt {
		if id < 0 || int(id) >= m.tokenizer.size() {
			return &job.RequestError{Field: "prompt", Problem: fmt.Sprintf("token %d: got id %d, want 0 to %d", i, id, m.tokenizer.size()-1)}
		}
	}
	if req.MaxTokens < 0 {
		return &job.RequestError{Field: "maxTokens", Problem: fmt.Sprintf("got %d, want 0 or more", req.MaxTokens)}
	}
	if req.Logprobs < 0 || req.Logprobs > job.MaxLogprobs {
		return &job.RequestError{Field: "logprobs", Problem: fmt.Sprintf("got %d, want 0 to %d", req.Logprobs, job.MaxLogprobs)}
	}
	if len(req.Prompt) >= m.ContextLength {
		return &job.ContextOverflowError{PromptTokens: len(req.Prompt), ContextLength: m.ContextLength}
	}
	if err := req.Sampling.Validate(m.tokenizer.size()); err != nil {
		return &job.RequestError{Field: "sampling", Problem: err.Error()}
	}
	return nil
}

// Check finds nothing wrong with any constraint: what is written stands in the script.
func (e *Engine) Check(context.Context, string, job.Constraint) error { return nil }

// notHeld are the keywords of JSON Schema that the grammars of a scripted engine would
// not hold, if it had any.
var notHeld = []string{"contains", "if", "not", "oneOf", "uniqueItems"}

// CheckSchema finds those keywords wrong, wherever they stand.
func (e *Engine) CheckSchema(source json.RawMessage) error {
	for _, name := range notHeld {
		if bytes.Contains(source, []byte(`"`+name+`"`)) {
			return fmt.Errorf("%s cannot be held", name)
		}
	}
	return nil
}

// loadFor loads g's model and lets g start, or ends it.
func (e *Engine) loadFor(g *generation) {
	err := e.Load(g.loading, g.model.ID, func(p job.Progress) {
		e.mu.Lock()
		defer e.mu.Unlock()
		g.push(job.Event{Kind: job.Loading, Done: int32(p.Done * 1000 / max(p.Total, 1)), Total: 1000})
	})
	e.mu.Lock()
	defer e.mu.Unlock()
	g.stats.Load = time.Since(g.loadFrom)
	g.ready = true
	if err != nil {
		e.halt(g, job.StopError, err)
	}
	e.nudge()
}

// Generation is what Start returns. Its methods are those of the agent's
// interface of the same name, which says what they mean.
type Generation interface {
	Next(ctx context.Context, dst []job.Event) (int, error)
	Logprobs() []job.Logprobs
	Stop(n int)
	Cancel()
	Wait() (job.Result, error)
}
