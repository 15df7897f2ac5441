package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"harmonyd/engine/job"
	"harmonyd/schema"
)

// marks remember on disk which models are being loaded. A process that is ended
// while it loads leaves its mark, so that the next one does not load the same model
// again by itself: editors start a server that died again at once.
//
// A mark is a file that its process holds a lock on, which the system releases
// however the process ends. A nil *marks remembers nothing.
type marks struct {
	dir string

	mu   sync.Mutex
	held map[*mark]bool
}

// mark is one load of this process.
type mark struct {
	set  *marks
	lock *flock.Flock
}

// marked is the text of a mark.
type marked struct {
	Model   string    `json:"model"`
	Process int       `json:"process"`
	Began   time.Time `json:"began"`
}

// newMarks keeps marks in a folder, which it makes when it is needed.
func newMarks(dir string) *marks { return &marks{dir: dir, held: make(map[*mark]bool)} }

// files returns the marks of a model.
func (m *marks) files(model string) []string {
	// The name is a hash, so there is nothing in it that a pattern could mistake.
	files, _ := filepath.Glob(filepath.Join(m.dir, m.name(model)+".*"))
	return files
}

func (m *marks) name(model string) string {
	sum := sha256.Sum256([]byte(model))
	return hex.EncodeToString(sum[:16])
}

// begin marks a load. The caller ends the mark when the load has, in whatever way;
// a mark of nil, which an error comes with, can be ended too.
func (m *marks) begin(model string) (*mark, error) {
	if m == nil {
		return nil, nil
	}
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return nil, fmt.Errorf("mark the load of %q: %w", model, err)
	}
	text, err := json.Marshal(marked{model, os.Getpid(), time.Now()})
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(m.dir, m.name(model)+".*")
	if err != nil {
		return nil, fmt.Errorf("mark the load of %q: %w", model, err)
	}
	lock := flock.New(f.Name())
	// Locked before it has its text: one without is no mark yet.
	err = lock.Lock()
	_, e := f.Write(text)
	if err = errors.Join(err, e, f.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("mark the load of %q: %w", model, err), lock.Close(), os.Remove(f.Name()))
	}
	k := &mark{m, lock}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held[k] = true
	return k, nil
}

// end takes the mark away. It may be called again.
func (k *mark) end() {
	if k == nil {
		return
	}
	k.set.mu.Lock()
	defer k.set.mu.Unlock()
	if k.set.held[k] {
		delete(k.set.held, k)
		_ = os.Remove(k.lock.Path()) // before others can lock it
		_ = k.lock.Close()
	}
}

// left returns the mark of a process that ended while it loaded the model, nil
// where there is none.
func (m *marks) left(model string) *marked {
	if m == nil {
		return nil
	}
	for _, file := range m.files(model) {
		if found := read(file); found != nil {
			return found
		}
	}
	return nil
}

// forget takes away what processes have left that ended while they loaded the
// model.
func (m *marks) forget(model string) {
	if m == nil {
		return
	}
	for _, file := range m.files(model) {
		if read(file) != nil {
			_ = os.Remove(file) // what is still there is found again
		}
	}
}

// read returns the mark in a file whose process has ended.
func read(file string) *marked {
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return nil // or the lock would make it
	}
	lock := flock.New(file, flock.SetFlag(os.O_RDWR))
	defer lock.Close()
	if free, err := lock.TryLock(); err != nil || !free {
		return nil // its process lives
	}
	text, err := os.ReadFile(file)
	var found marked
	if err != nil || json.Unmarshal(text, &found) != nil {
		return nil
	}
	return &found
}

// close takes the marks of this process away: it ends in good order.
func (m *marks) close() {
	m.mu.Lock()
	held := make([]*mark, 0, len(m.held))
	for k := range m.held {
		held = append(held, k)
	}
	m.mu.Unlock()
	for _, k := range held {
		k.end()
	}
}

// guard marks the load of a model that is not there, or refuses it where the load
// before ended its process, unless force is set. It returns the model's id as far as
// that is known without opening anything. The mark is nil where there is nothing to
// mark, and where no mark can be made: that is no reason not to load.
func (a *Agent) guard(ctx context.Context, model string, force bool) (id string, k *mark, err error) {
	if a.marks == nil {
		return model, nil, nil
	}
	id, ready := a.target(ctx, model)
	if ready {
		return id, nil, nil
	}
	if left := a.marks.left(id); left != nil && !force {
		return id, nil, schema.ModelLoadFailed(id, fmt.Sprintf("process %d ended while it loaded this model on %s, so the model is not loaded again by itself. "+
			"model/load with force:true, or harmonyd generate at a terminal, loads it all the same", left.Process, left.Began.Format(time.DateTime)), 0, 0)
	}
	if k, err = a.marks.begin(id); err != nil {
		a.log.Warn("a crash while the model loads will not be remembered", "error", err)
	}
	return id, k, nil
}

// target returns the id of a model that was asked for, and whether it is loaded.
// What is not known is what it is called.
func (a *Agent) target(ctx context.Context, model string) (id string, ready bool) {
	if a.isOpen(model) {
		if m, err := a.engine.Open(ctx, model); err == nil {
			return m.Info.ID, m.Info.State == job.Ready
		}
		return model, false
	}
	models, err := a.engine.Models(ctx)
	if err != nil {
		return model, false
	}
	for _, m := range models {
		if m.ID == model || model == "" && m.Default {
			return m.ID, m.State == job.Ready
		}
	}
	return model, false
}
