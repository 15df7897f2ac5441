package rpc

import (
	"context"
	"errors"
	"os"
	"slices"
	"syscall"
	"time"
)

// process is one that the server is to live no longer than.
type process struct {
	pid  int64
	gone func() bool // called again and again
	stop func()      // gives up what gone needs
}

// watchParent returns a channel that is closed when a process that we were
// told to live no longer than is gone, or our own parent is. The pipe alone
// does not tell: another process may hold its other end.
func (c *conn) watchParent(ctx context.Context) <-chan struct{} {
	dead := make(chan struct{})
	parent := os.Getppid()
	var watched []process
	gone := func(p process) bool {
		return p.gone() || p.pid == int64(parent) && os.Getppid() != parent
	}
	go func() {
		defer func() {
			for _, p := range watched {
				p.stop()
			}
		}()
		var tick <-chan time.Time // none while there is nothing to look for
		for {
			select {
			case <-ctx.Done():
				return
			case pid := <-c.parent:
				if pid > 0 {
					watched = append(watched, watch(pid))
				}
			case <-tick:
			}
			if slices.ContainsFunc(watched, gone) {
				close(dead)
				return
			}
			if len(watched) > 0 {
				tick = time.After(parentPoll)
			}
		}
	}()
	c.parent <- int64(c.opts.ClientProcessID)
	return dead
}

// watchByNumber asks for the process of that number each time. Where one ends that
// nobody waits for, or another takes its number, it is not seen to be gone.
func watchByNumber(pid int64) process {
	return process{pid, func() bool { return !alive(pid) }, func() {}}
}

// alive says whether a process exists. Signal 0 is only a question; that we may
// not ask it is an answer too.
func alive(pid int64) bool {
	err := syscall.Kill(int(pid), 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}
