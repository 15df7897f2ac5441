package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"harmonyd/engine/job"
	"harmonyd/engine/models"
	"harmonyd/engine/weights"
)

// refresh brings the entries up to date with what is installed.
func (e *Engine) refresh() error {
	found := map[string]string{}
	for _, root := range e.opts.Roots {
		list, err := os.ReadDir(root)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("list models: %w", err)
		}
		for _, d := range list {
			folder := filepath.Join(root, d.Name())
			if _, err := os.Stat(filepath.Join(folder, "config.json")); err == nil && found[d.Name()] == "" {
				found[d.Name()] = folder
			}
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, m := range e.entries {
		if found[id] == "" && !m.ready && m.load == nil {
			delete(e.entries, id)
		}
	}
	for id, folder := range found {
		if m := e.entries[id]; m == nil {
			e.entries[id] = &entry{id: id, folder: folder, info: describe(id, folder)}
		}
	}
	return nil
}

// find returns the entry of an id, or of the default model for the empty one.
func (e *Engine) find(id string) (*entry, error) {
	if m := e.known(id); m != nil {
		return m, nil
	}
	if err := e.refresh(); err != nil {
		return nil, err
	}
	if m := e.known(id); m != nil {
		return m, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	missing := &job.ModelNotFoundError{Model: id}
	for id := range e.entries {
		missing.Available = append(missing.Available, id)
	}
	slices.Sort(missing.Available)
	return nil, missing
}

func (e *Engine) known(id string) *entry {
	e.mu.Lock()
	defer e.mu.Unlock()
	if id == "" {
		id = e.opts.DefaultModel
	}
	if id == "" {
		for other := range e.entries {
			if id == "" || other < id {
				id = other
			}
		}
	}
	return e.entries[id]
}

// describe reads what the folder says of its model.
func describe(id, folder string) job.Model {
	m := job.Model{ID: id, State: job.Unloaded}
	broken := func(err error) job.Model {
		m.State, m.Problem = job.Unavailable, err.Error()
		return m
	}
	config, err := weights.ReadConfig(folder)
	if err != nil {
		return broken(err)
	}
	m.Family, m.StopIDs = config.ModelType, config.EOS
	if q := config.Quantization; q != nil {
		m.Quantization = fmt.Sprintf("%s %d-bit, groups of %d", q.Mode, q.Bits, q.GroupSize)
	}
	arch, err := models.New(config.ModelType, config.Raw)
	if err != nil {
		return broken(err)
	}
	sizes := arch.Sizes()
	m.Vocab, m.ContextLength = sizes.Vocab, contextLength(sizes)
	files, err := weights.Open(folder)
	if err != nil {
		return broken(err)
	}
	defer files.Close()
	m.SizeBytes = files.Bytes()
	return m
}

// contextLength is what the configuration says, or what any model has.
func contextLength(s models.Sizes) int {
	const fallback = 2048
	if s.Context == 0 {
		return fallback
	}
	return s.Context
}
