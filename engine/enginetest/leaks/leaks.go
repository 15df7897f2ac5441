// Package leaks fails the tests of a package that leave something behind:
// goroutines, open files, child processes. It must not import anything of ours, so
// that every package's tests can use it.
package leaks

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Run runs the tests of a package and returns the code for os.Exit. After tests
// that passed it looks for what is there and was not before, and asks each of
// more, which say what else was left.
func Run(m *testing.M, more ...func() error) int {
	wakePoller()
	before := descriptors()
	code := m.Run()
	if code != 0 {
		return code
	}
	// The clock of the regular expressions that colour code ends by itself a second later.
	errs := []error{goleak.Find(goleak.IgnoreAnyFunction("github.com/dlclark/regexp2/v2.runClock")), files(before), children()}
	for _, f := range more {
		errs = append(errs, f())
	}
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintf(os.Stderr, "the tests left something behind:\n%v\n", err)
		return 1
	}
	return 0
}

// wakePoller has the runtime open the descriptors that it waits for others with
// and keeps from then on.
func wakePoller() {
	r, w, err := os.Pipe()
	if err != nil {
		return
	}
	_ = r.SetReadDeadline(time.Now().Add(time.Hour))
	_, _ = r.Close(), w.Close()
}

// descriptors lists what the process has open, by name where there is one.
func descriptors() []string {
	var all []string
	entries, _ := os.ReadDir("/dev/fd")
	for _, e := range entries {
		name := filepath.Join("/dev/fd", e.Name())
		if target, err := os.Readlink(name); err == nil {
			name = target
		}
		all = append(all, name)
	}
	return all
}

// files reports descriptors beyond those of before. What closes itself in the
// background gets a moment.
func files(before []string) error {
	var now []string
	for range 50 {
		if now = descriptors(); len(now) <= len(before) {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, name := range before {
		if i := slices.Index(now, name); i >= 0 {
			now = slices.Delete(now, i, i+1)
		}
	}
	return fmt.Errorf("open files: %q", now)
}

// children reports processes that were started and not waited for.
func children() error {
	var status syscall.WaitStatus
	switch pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil); {
	case err == syscall.ECHILD:
		return nil
	case err != nil:
		return fmt.Errorf("wait for children: %w", err)
	case pid == 0:
		return errors.New("child processes that still run")
	default:
		return fmt.Errorf("a child process that was not waited for: %d", pid)
	}
}
