package engine

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"harmonyd/engine/hub"
	"harmonyd/engine/job"
	"harmonyd/engine/models"
	"harmonyd/engine/weights"
)

// fallbackContext is the context of a model whose configuration names none.
const fallbackContext = 2048

// refresh brings the entries up to date with what is installed.
func (e *Engine) refresh(ctx context.Context) error {
	found, err := hub.New(e.opts.Root).List(ctx)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, m := range e.entries {
		m.gone = true
	}
	for _, f := range found {
		m := e.entries[f.ID]
		if m == nil {
			m = &entry{id: f.ID}
			e.entries[f.ID] = m
		}
		m.gone = false
		if !m.ready && m.load == nil {
			m.folder, m.info = f.Folder, describe(f)
		}
	}
	return nil
}

// describe turns what the hub found into the seam's words. An architecture that
// is not known makes a model unavailable, too.
func describe(f hub.Model) job.Model {
	m := job.Model{
		ID: f.ID, Family: f.Family, Quantization: f.Quantization,
		ContextLength: cmp.Or(f.ContextLength, fallbackContext),
		Vocab:         f.Vocab, SizeBytes: f.SizeBytes, StopIDs: f.StopIDs,
		Chat: f.Chat, State: job.Unloaded, Problem: Problem(f),
	}
	if m.Problem != "" {
		m.State = job.Unavailable
	}
	return m
}

// Problem says why an installed model cannot be used, and nothing where it can as
// far as its headers and its config tell.
func Problem(f hub.Model) string {
	if f.Problem != "" {
		return f.Problem
	}
	config, err := weights.ReadConfig(f.Folder)
	if err == nil {
		_, err = models.New(config.ModelType, config.Raw)
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// find returns the entry of an id, or of the default model for the empty one,
// and its description. A model that was not there, or was broken, is looked for
// again: a person may have mended it.
func (e *Engine) find(id string) (*entry, job.Model, error) {
	m, info := e.known(id)
	if m == nil || info.State == job.Unavailable {
		if err := e.refresh(e.ctx); err != nil {
			return nil, info, err
		}
		m, info = e.known(id)
	}
	switch {
	case m == nil:
		missing := &job.ModelNotFoundError{Model: id}
		e.mu.Lock()
		defer e.mu.Unlock()
		for id, m := range e.entries {
			if !m.gone && m.info.State != job.Unavailable {
				missing.Available = append(missing.Available, id)
			}
		}
		slices.Sort(missing.Available)
		return nil, info, missing
	case info.State == job.Unavailable:
		return nil, info, &job.LoadError{Model: m.id, Cause: info.Problem}
	}
	return m, info, nil
}

// known looks among the entries.
func (e *Engine) known(id string) (*entry, job.Model) {
	e.mu.Lock()
	defer e.mu.Unlock()
	byDefault := e.defaultID()
	id = cmp.Or(id, byDefault)
	m := e.entries[id]
	if m == nil || m.gone && !m.ready {
		return nil, job.Model{}
	}
	info := m.info
	info.Default = id == byDefault
	if info.State == job.Unloaded {
		info.State = m.state()
	}
	return m, info
}

// defaultID is the model that was chosen; without a choice the usual one, or
// where that cannot run the first that can. Engine.mu is held.
func (e *Engine) defaultID() string {
	if e.opts.DefaultModel != "" {
		return e.opts.DefaultModel
	}
	if !e.entries[hub.DefaultModel].usable() {
		for _, id := range slices.Sorted(maps.Keys(e.entries)) {
			if e.entries[id].usable() {
				return id
			}
		}
	}
	return hub.DefaultModel
}

func (m *entry) usable() bool {
	return m != nil && !m.gone && m.info.State != job.Unavailable
}
