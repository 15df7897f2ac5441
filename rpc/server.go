package rpc

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"time"

	"github.com/sourcegraph/jsonrpc2"

	"harmonyd/schema"
)

// The exit codes of Serve. A command line that is wrong and an engine that is
// lost have codes of their own, which are main's.
const (
	// ExitOK is for a connection that came to a good end: shutdown and exit, or
	// an end of input with nothing left to answer.
	ExitOK = 0
	// ExitAbandoned is for a client that went away from work in flight, stopped
	// reading for good, or said exit without shutdown.
	ExitAbandoned = 1
)

const (
	// patience is how long work that was cancelled may take to end, and its
	// answers to be written. Editors kill a server two seconds after exit.
	patience = time.Second
	// parentPoll is how often the client's process is looked for.
	parentPoll = 2 * time.Second
)

// Options are what a server can be started with. The zero value serves.
type Options struct {
	// Name and Version are what initialize answers as serverInfo.
	Name, Version string
	// Limits bounds what is taken; the zero value means schema.DefaultLimits.
	Limits schema.Limits
	// Log takes what happens. It must never block; see LogSink. Nil is nowhere.
	Log *slog.Logger
	// ClientProcessID is the process to live no longer than, 0 for none.
	// initialize may name another.
	ClientProcessID int
	// WriteStall ends the connection when a write makes no progress for so
	// long. 0 lets a client be as slow as it likes.
	WriteStall time.Duration
}

// Serve serves one client until the connection ends, and returns the process's
// exit code. It owns in and out and closes both. When ctx is done it cancels
// what runs, waits for it a second at most, and returns.
//
// With header framing the end of input means that the client is gone: what
// runs is cancelled. With a message a line it means that there are no more
// requests: what was asked is answered first. A broken out or a client process
// that has died cancel in either framing. When Serve returns, a handler that
// does not heed its context may still run.
func Serve(ctx context.Context, in io.ReadCloser, out io.WriteCloser, agent Agent, o Options) int {
	o.Limits = cmp.Or(o.Limits, schema.DefaultLimits())
	o.Name = cmp.Or(o.Name, "harmonyd")
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := newStream(in, out, o, func() error { return errors.Join(in.Close(), out.Close()) })
	c := newConn(agent, s, o)
	connection := jsonrpc2.NewConn(context.Background(), s, c,
		jsonrpc2.OnSend(s.sending),
		jsonrpc2.SetLogger(log.New(io.Discard, "", 0))) // s has said it better
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dead := c.watchParent(ctx)

	end := c.wait(ctx, dead)
	c.stop(errEnding)
	c.drain()
	o.Log.Info("end", "why", end.why, "inFlight", end.inFlight, "code", end.code)
	if err := connection.Close(); err != nil && !errors.Is(err, jsonrpc2.ErrClosed) {
		o.Log.Debug("close", "err", err)
	}
	return end.code
}

// ending is how a connection came to its end.
type ending struct {
	code     int
	why      string
	inFlight int
}

// wait returns when the connection has come to its end.
func (c *conn) wait(ctx context.Context, dead <-chan struct{}) ending {
	s := c.stream
	select {
	case <-c.exited:
		if c.saidShutdown() {
			return ending{ExitOK, "exit", c.inFlight()}
		}
		return c.abandoned("exit without shutdown")
	case <-s.ended:
		// What came before the end may be an exit.
		select {
		case <-c.exited:
			return c.wait(ctx, dead)
		default:
		}
		if s.in.framing() == ndjson {
			return c.finish(ctx, dead)
		}
		return c.ended("end of input")
	case <-s.out.gone:
		return c.abandoned(s.out.failure().Error())
	case <-ctx.Done():
		return c.ended("told to end")
	case <-dead:
		return c.ended("the client's process is gone")
	}
}

// finish answers what was asked before the input ended.
func (c *conn) finish(ctx context.Context, dead <-chan struct{}) ending {
	await := func(done <-chan struct{}) (end ending, over bool) {
		select {
		case <-done:
			return ending{ExitOK, "end of input", 0}, false
		case <-c.stream.out.gone:
			return c.abandoned(c.stream.out.failure().Error()), true
		case <-ctx.Done():
			return c.ended("told to end"), true
		case <-dead:
			return c.ended("the client's process is gone"), true
		}
	}
	if end, over := await(c.whenIdle()); over {
		return end
	}
	end, _ := await(c.stream.out.flush())
	return end
}

// ended is an end that is good unless work is in flight.
func (c *conn) ended(why string) ending {
	if c.inFlight() == 0 || c.saidShutdown() {
		return ending{ExitOK, why, c.inFlight()}
	}
	return c.abandoned(why)
}

func (c *conn) abandoned(why string) ending { return ending{ExitAbandoned, why, c.inFlight()} }

func (c *conn) saidShutdown() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase == closing
}

// drain gives what was cancelled, and its answers, a last chance. Where nobody
// reads any more, what runs should still end in good order.
func (c *conn) drain() {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case <-c.whenIdle():
	case <-timeout.C:
		return
	}
	select {
	case <-c.stream.out.flush():
	case <-c.stream.out.gone:
	case <-timeout.C:
	}
}
