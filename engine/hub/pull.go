package hub

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/gofrs/flock"

	"harmonyd/engine/weights"
)

const (
	// pullPrefix begins the name of the folder of a model that is being pulled.
	// It stays when a pull is interrupted, so that the next one goes on from it.
	pullPrefix = ".pulling-"
	// originFile says in a pulled model where it is from.
	originFile = ".origin.json"
	// pullWorkers is how many files are fetched at a time. More connections bring
	// no more bytes from the networks that serve models.
	pullWorkers = 4
	// diskReserve is what a pull leaves free on the disk.
	diskReserve = 64 << 20
)

// A Pull says what to fetch, and who wants to know.
type Pull struct {
	Repo     string // such as "mlx-community/SmolLM2-135M-Instruct-4bit"
	Revision string // a branch, tag or commit; empty means main
	ID       string // of the new model; empty means Repo

	// Planned, if not nil, is called when it is known what will be fetched.
	Planned func(Planned)
	// Configured, if not nil, is called when the folder has its config.json and none
	// of its weights yet.
	Configured func(folder string)
	// Progress, if not nil, is called from other goroutines, one call at a time,
	// with what there is of a file, and with the sums of all under the empty name.
	Progress func(file string, done, total int64)
}

// Planned is what a pull is about to do.
type Planned struct {
	ID, Commit string
	Files      int
	Bytes      int64 // of all files
	Have       int64 // of these, what an earlier pull has fetched
}

// Pulled is the outcome of a pull.
type Pulled struct {
	Model         // its Problem says why it cannot be used as it is
	Commit string // what was asked for is this one
	// Before is true where the model had been pulled at this commit already.
	Before bool
}

var revisionPattern = regexp.MustCompile(`^[\w][\w./-]{0,199}$`)

// Pull fetches the model of a repository into the hub. It appears complete, with
// every byte checked against the checksums of the remote hub, or not at all. An
// interrupted pull goes on where it ended. A model that was pulled at the same
// commit before is left alone; any other use of the id gives an error that
// matches fs.ErrExist.
func (h *Hub) Pull(ctx context.Context, r *Remote, p Pull) (Pulled, error) {
	p.ID, p.Revision = cmp.Or(p.ID, p.Repo), cmp.Or(p.Revision, "main")
	if err := checkID(p.Repo); err != nil {
		return Pulled{}, fmt.Errorf("pull: %w", err)
	}
	if !revisionPattern.MatchString(p.Revision) || strings.Contains(p.Revision, "..") {
		return Pulled{}, fmt.Errorf("pull: revision %q: want a branch, a tag or a commit", shorten(p.Revision))
	}
	if err := h.checkNew(p.ID); err != nil {
		return Pulled{}, err
	}
	defer r.client.CloseIdleConnections()
	l, err := r.list(ctx, p.Repo, p.Revision)
	if err != nil {
		return Pulled{}, fmt.Errorf("pull %w", err)
	}
	w := &pulling{hub: h, remote: r, Pull: p, list: l, dest: h.folder(p.ID)}
	if done, err := w.before(); done || err != nil {
		return w.pulled(true), err
	}
	if err := w.run(ctx); err != nil {
		return Pulled{}, fmt.Errorf("pull %s: %w", p.Repo, err)
	}
	return w.pulled(false), nil
}

// pulling is a pull under way.
type pulling struct {
	Pull
	hub    *Hub
	remote *Remote
	list   *listing
	dest   string

	mu    sync.Mutex
	done  int64
	files map[string]int64
}

func (w *pulling) pulled(before bool) Pulled {
	m := Describe(w.dest)
	m.ID = w.ID
	return Pulled{Model: m, Commit: w.list.Commit, Before: before}
}

// before looks for a model of that id.
func (w *pulling) before() (same bool, err error) {
	if _, err := os.Stat(w.dest); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	var origin listing
	text, err := os.ReadFile(filepath.Join(w.dest, originFile))
	if err == nil && json.Unmarshal(text, &origin) == nil && origin.Repo == w.Repo {
		if origin.Commit == w.list.Commit {
			return true, nil
		}
		return false, fmt.Errorf("pull %s: commit %s of it is installed, the hub has %s; harmonyd remove %s makes room for it: %w",
			w.Repo, brief(origin.Commit), brief(w.list.Commit), w.ID, fs.ErrExist)
	}
	return false, fmt.Errorf("pull %s: there is another model with the id %s; harmonyd remove %s makes room for it: %w",
		w.Repo, w.ID, w.ID, fs.ErrExist)
}

func brief(commit string) string { return commit[:min(12, len(commit))] }

func (w *pulling) run(ctx context.Context) error {
	folder := pullFolder(w.dest)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	unlock, err := lockPull(folder)
	if err != nil {
		return err
	}
	defer unlock()
	defer w.tidy(folder)
	// Another process may have been faster between the first look and the lock.
	if same, err := w.before(); same || err != nil {
		return errors.Join(err, os.RemoveAll(folder))
	}
	if err := w.prepare(folder); err != nil {
		return err
	}
	if err := w.fetch(ctx, folder); err != nil {
		return fmt.Errorf("%w; what was fetched is kept for the next pull", err)
	}
	return w.install(ctx, folder)
}

// tidy removes a folder that nothing was fetched into.
func (w *pulling) tidy(folder string) {
	entries, err := os.ReadDir(folder)
	if err == nil && len(entries) == 1 {
		_ = os.RemoveAll(folder)
		w.hub.dropOwner(w.dest)
	}
}

// pullFolder is where a model is fetched to.
func pullFolder(dest string) string {
	return filepath.Join(filepath.Dir(dest), pullPrefix+filepath.Base(dest))
}

// lockPull keeps other pulls of the same model out.
func lockPull(folder string) (unlock func(), err error) {
	l := flock.New(filepath.Join(folder, ".lock"))
	locked, err := l.TryLock()
	switch {
	case err != nil:
		return nil, err
	case !locked:
		return nil, errors.New("another process is pulling it")
	}
	return func() { _ = l.Unlock() }, nil // closing the file is what unlocks
}

// prepare drops what is of another version of the model, and sees that the rest
// of this one has room.
func (w *pulling) prepare(folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	var have int64
	for _, e := range entries {
		name := strings.TrimSuffix(strings.TrimSuffix(e.Name(), etagSuffix), partSuffix)
		i := slices.IndexFunc(w.list.Files, func(f remoteFile) bool { return f.Name == name })
		if i < 0 && e.Name() != ".lock" {
			if err := os.RemoveAll(filepath.Join(folder, e.Name())); err != nil {
				return err
			}
			continue
		}
		if info, err := e.Info(); err == nil && i >= 0 && !strings.HasSuffix(e.Name(), etagSuffix) {
			have += min(info.Size(), w.list.Files[i].Size)
		}
	}
	need := w.list.bytes() - have
	if err := checkSpace(folder, need); err != nil {
		return err
	}
	if w.Planned != nil {
		w.Planned(Planned{ID: w.ID, Commit: w.list.Commit, Files: len(w.list.Files), Bytes: w.list.bytes(), Have: have})
	}
	return nil
}

// freeSpace is weights.FreeSpace; tests fill the disk here.
var freeSpace = weights.FreeSpace

// checkSpace refuses to write so many bytes into a folder where the disk lacks
// them.
func checkSpace(folder string, need int64) error {
	free, err := freeSpace(folder)
	if err != nil {
		return fmt.Errorf("look for room in %s: %w", folder, err)
	}
	if need > free-diskReserve {
		return fmt.Errorf("needs %s of disk and %s to spare, %s are free in %s", weights.SizeText(need),
			weights.SizeText(diskReserve), weights.SizeText(free), folder)
	}
	return nil
}

// fetch fetches config.json and then the rest, the largest first: the last ones
// are then small, and the workers end at about the same time.
func (w *pulling) fetch(ctx context.Context, folder string) error {
	files := slices.SortedStableFunc(slices.Values(w.list.Files), func(a, b remoteFile) int {
		return cmp.Compare(b.Size, a.Size)
	})
	w.files = make(map[string]int64)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	bring := func(f remoteFile) error {
		job := &fetch{remote: w.remote, list: w.list, file: f, folder: folder, done: func(n int64) { w.report(f, n) }}
		return job.run(ctx)
	}
	i := slices.IndexFunc(files, func(f remoteFile) bool { return f.Name == "config.json" })
	if err := bring(files[i]); err != nil {
		return err
	}
	if w.Configured != nil {
		w.Configured(folder)
	}
	queue := make(chan remoteFile, len(files))
	for _, f := range slices.Delete(files, i, i+1) {
		queue <- f
	}
	close(queue)
	var wait sync.WaitGroup
	for range pullWorkers {
		wait.Go(func() {
			for f := range queue {
				if ctx.Err() != nil {
					return
				}
				if err := bring(f); err != nil {
					stop(err)
				}
			}
		})
	}
	wait.Wait()
	return context.Cause(ctx)
}

func (w *pulling) report(f remoteFile, n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done += n
	w.files[f.Name] += n
	if w.Progress != nil {
		w.Progress(f.Name, w.files[f.Name], f.Size)
		w.Progress("", w.done, w.list.bytes())
	}
}

// install makes the fetched folder the model. An import that is under way is
// waited for.
func (w *pulling) install(ctx context.Context, folder string) error {
	origin, err := json.MarshalIndent(w.list, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, originFile), append(origin, '\n'), 0o644); err != nil {
		return err
	}
	unlock, err := w.hub.lockWait(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := w.hub.checkNew(w.ID); err != nil {
		return err
	}
	if _, err := os.Lstat(w.dest); !errors.Is(err, fs.ErrNotExist) {
		return cmp.Or(err, fs.ErrExist)
	}
	if err := os.Remove(filepath.Join(folder, ".lock")); err != nil {
		return err
	}
	if err := weights.SyncFolder(folder); err != nil {
		return err
	}
	if err := os.Rename(folder, w.dest); err != nil {
		return err
	}
	return weights.SyncFolder(filepath.Dir(w.dest))
}
