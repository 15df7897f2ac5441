package hub

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"harmonyd/engine/weights"
)

// removePrefix begins the name of a model that is being deleted.
const removePrefix = ".removing-"

// ErrBusy says that another process is changing the folder of models.
var ErrBusy = errors.New("another process is importing, converting or removing a model")

// lock keeps other processes from changing the hub. The lock goes when the
// process does, however it ends.
func (h *Hub) lock() (unlock func(), err error) {
	if err := os.MkdirAll(h.root, 0o755); err != nil {
		return nil, fmt.Errorf("create the folder of models: %w", err)
	}
	l := flock.New(filepath.Join(h.root, ".lock"))
	locked, err := l.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock the folder of models: %w", err)
	}
	if !locked {
		return nil, fmt.Errorf("%s: %w", h.root, ErrBusy)
	}
	return func() { _ = l.Unlock() }, nil // closing the file is what unlocks
}

// lockWait is lock that waits for its turn.
func (h *Hub) lockWait(ctx context.Context) (unlock func(), err error) {
	for {
		unlock, err := h.lock()
		if !errors.Is(err, ErrBusy) {
			return unlock, err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// clean deletes what interrupted imports and removals left, under the root and
// under every owner. What a pull left stays, for the next one. Its caller holds the lock, so that none of it is in use.
func (h *Hub) clean() error {
	if err := cleanFolder(h.root); err != nil {
		return err
	}
	owners, err := folders(h.root)
	if err != nil {
		return err
	}
	for _, owner := range owners {
		path := filepath.Join(h.root, owner)
		if holdsFiles(path) {
			continue // a model
		}
		if err := cleanFolder(path); err != nil {
			return err
		}
	}
	return nil
}

func cleanFolder(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return fmt.Errorf("clean the folder of models: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), weights.ImportPrefix) || strings.HasPrefix(e.Name(), removePrefix) {
			if err := os.RemoveAll(filepath.Join(path, e.Name())); err != nil {
				return fmt.Errorf("clean the folder of models: %w", err)
			}
		}
	}
	return nil
}
