// Package hub is the folder of models on disk: it lists, finds, imports, pulls and
// removes them.
//
// A model is a folder in MLX format directly under the root or one level below
// it, and its id is that relative path: "name" or "owner/name". Ids arrive over
// the wire, so no id may ever name a path outside the root. A symbolic link
// under the root is followed: who can make one there decides where it leads.
// The package reads headers and config files only, never weights. What a remote
// hub says in a pull is a stranger's word: it becomes a name, a size or a number
// of bytes on disk only after a check.
//
// Start at [New].
package hub

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"harmonyd/engine/weights"
)

// DefaultModel is the id that an empty id stands for: what importing
// SmolLM2-135M-Instruct.Q4_1.gguf gives.
const DefaultModel = "SmolLM2-135M-Instruct.Q4_1"

// EnvRoot is the environment variable that names the folder of models.
const EnvRoot = "HARMONYD_MODELS"

// Root decides where the models are: at the path a person gave by flag, else
// in the environment, else under the platform's folder for data.
func Root(flag, data string) string {
	if flag != "" {
		return flag
	}
	if env := os.Getenv(EnvRoot); env != "" {
		return env
	}
	return filepath.Join(data, "models")
}

// ErrNotFound says that no model has the id asked for.
var ErrNotFound = errors.New("model not found")

// A Hub is a folder of models. It holds no state of its own; its methods may be
// called at any time from any goroutine.
type Hub struct{ root string }

// New returns the hub at root, which need not exist yet.
func New(root string) *Hub { return &Hub{root: root} }

// Root returns the folder of models.
func (h *Hub) Root() string { return h.root }

var idPattern = regexp.MustCompile(`^[\w.-]+(/[\w.-]+)?$`)

// checkID refuses an id that is not one, or that would name a hidden folder or
// one outside the root.
func checkID(id string) error {
	if !idPattern.MatchString(id) || len(id) > 255 {
		return fmt.Errorf("model id %q: want letters, digits, '_', '.' and '-', at most one '/'", shorten(id))
	}
	for part := range strings.SplitSeq(id, "/") {
		if part[0] == '.' {
			return fmt.Errorf("model id %q: %q begins with a dot", id, part)
		}
	}
	return nil
}

// shorten keeps a message readable when the id in it is not.
func shorten(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

// Resolve returns the folder of the model with that id, DefaultModel if it is
// empty. Nothing but an id is accepted, which makes Resolve fit for names that
// come over the wire. An id that no folder has gives an ErrNotFound.
func (h *Hub) Resolve(id string) (string, error) {
	if id == "" {
		id = DefaultModel
	}
	if err := checkID(id); err != nil {
		return "", err
	}
	folder := h.folder(id)
	info, err := os.Stat(folder)
	if err != nil || !info.IsDir() {
		return "", fmt.Errorf("%w: %s in %s", ErrNotFound, id, h.root)
	}
	return folder, nil
}

// List describes every model of the hub in order of id, the broken ones too. A
// root that does not exist holds none.
func (h *Hub) List(ctx context.Context) ([]Model, error) {
	var models []Model
	add := func(id string) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		m := Describe(h.folder(id))
		m.ID = id
		models = append(models, m)
		return nil
	}
	owners, err := folders(h.root)
	if err != nil {
		return nil, err
	}
	for _, owner := range owners {
		path := filepath.Join(h.root, owner)
		if holdsFiles(path) {
			if err := add(owner); err != nil {
				return nil, err
			}
			continue
		}
		names, err := folders(path)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if err := add(owner + "/" + name); err != nil {
				return nil, err
			}
		}
	}
	slices.SortFunc(models, func(a, b Model) int { return strings.Compare(a.ID, b.ID) })
	return models, nil
}

// folders returns the names in a folder that can be part of an id and lead to
// a folder, links included.
func folders(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list models: %w", err)
	}
	var names []string
	for _, e := range entries {
		if checkID(e.Name()) != nil {
			continue
		}
		if info, err := os.Stat(filepath.Join(path, e.Name())); err == nil && info.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// holdsFiles tells a model folder, whole or broken, from the folder of an
// owner, which holds only folders.
func holdsFiles(path string) bool {
	entries, err := os.ReadDir(path)
	if err != nil {
		return true // Describe will say what is wrong
	}
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		info, err := os.Stat(filepath.Join(path, e.Name()))
		return err != nil || !info.IsDir()
	})
}

// Import turns a GGUF file into the model with that id and returns the id; an
// empty one is made from the name of the file. progress may be nil, see
// weights.ImportGGUF. An id in use gives an error that matches fs.ErrExist.
func (h *Hub) Import(ctx context.Context, file, id string,
	progress func(done, total int64, what string)) (string, error) {
	what := "import " + id
	if id == "" {
		id, what = idFor(file), "import" // the error names the file
	}
	err := h.change(id, func() error {
		if err := weights.ImportGGUF(ctx, file, h.folder(id), progress); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return id, nil
}

// Create makes the model with that id out of the files that fill writes into a
// folder, need bytes or less. The model appears complete or not at all. An id in
// use gives an error that matches fs.ErrExist.
func (h *Hub) Create(id string, need int64, fill func(folder string) error) error {
	return h.change(id, func() error {
		if err := checkSpace(h.root, need); err != nil {
			return err
		}
		return weights.CreateFolder(h.folder(id), fill)
	})
}

// change runs work that makes the model with that id, alone.
func (h *Hub) change(id string, work func() error) error {
	if err := h.checkNew(id); err != nil {
		return err
	}
	unlock, err := h.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := h.clean(); err != nil {
		return err
	}
	return work()
}

// checkNew refuses an id that no new model can have.
func (h *Hub) checkNew(id string) error {
	if err := checkID(id); err != nil {
		return err
	}
	if owner, _, ok := strings.Cut(id, "/"); ok && holdsFiles(filepath.Join(h.root, owner)) {
		if _, err := os.Stat(filepath.Join(h.root, owner)); err == nil {
			return fmt.Errorf("model id %q: %s is a model, not an owner of models", id, owner)
		}
	}
	return nil
}

// folder is where the model of an id is, or would be.
func (h *Hub) folder(id string) string { return filepath.Join(h.root, filepath.FromSlash(id)) }

// dropOwner removes the folder above a model's unless it holds another one.
func (h *Hub) dropOwner(folder string) {
	if owner := filepath.Dir(folder); owner != h.root {
		_ = os.Remove(owner) // succeeds only if it is empty
	}
}

var notInID = regexp.MustCompile(`[^\w.-]+`)

// idFor makes an id from the name of a file.
func idFor(file string) string {
	name := filepath.Base(file)
	name = strings.TrimSuffix(name, filepath.Ext(name))
	return strings.TrimLeft(notInID.ReplaceAllString(name, "-"), ".")
}

// Remove deletes the model with that id, which must not be empty. It is out of
// the list at once, even if deleting its files takes a while or is interrupted.
// A link is removed, not what it leads to. What an interrupted pull of it left goes
// as well. An id that no model has gives an
// ErrNotFound.
func (h *Hub) Remove(id string) error {
	if err := checkID(id); err != nil {
		return err
	}
	unlock, err := h.lock()
	if err != nil {
		return err
	}
	defer unlock()
	// First, because the name that the folder gets may be that of an earlier try.
	if err := h.clean(); err != nil {
		return err
	}
	partial, err := h.removePartial(id)
	if err != nil {
		return err
	}
	folder, err := h.Resolve(id)
	if partial && errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	owner, _, owned := strings.Cut(id, "/")
	switch isModel := holdsFiles(filepath.Join(h.root, owner)); {
	case owned && isModel: // a folder inside of a model
		return fmt.Errorf("%w: %s in %s", ErrNotFound, id, h.root)
	case !owned && !isModel:
		return fmt.Errorf("model id %q: is a folder of models, not a model", id)
	}
	parent := filepath.Dir(folder)
	doomed := filepath.Join(parent, removePrefix+filepath.Base(folder))
	if err := os.Rename(folder, doomed); err != nil {
		return fmt.Errorf("remove %s: %w", id, err)
	}
	if err := os.RemoveAll(doomed); err != nil {
		return fmt.Errorf("remove %s: %w", id, err)
	}
	h.dropOwner(folder)
	return nil
}

// removePartial deletes what an interrupted pull of the model left, and reports
// whether there was any.
func (h *Hub) removePartial(id string) (bool, error) {
	folder := pullFolder(h.folder(id))
	if _, err := os.Stat(folder); err != nil {
		return false, nil
	}
	unlock, err := lockPull(folder)
	if err == nil {
		err = os.RemoveAll(folder)
		unlock()
		h.dropOwner(folder)
	}
	if err != nil {
		return false, fmt.Errorf("remove %s: %w", id, err)
	}
	return true, nil
}
