package main

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"

	"github.com/adrg/xdg"

	"harmonyd/agent"
	"harmonyd/editors/terminal"
	"harmonyd/rpc"
	"harmonyd/schema"
)

// wiredEngine is an engine that the tools ask as well: which schemas its grammars hold.
type wiredEngine interface {
	agent.Engine
	CheckSchema(source json.RawMessage) error
}

// wireAgent lets rpc serve an agent: the two packages do not know each other,
// and each declares the sink and the host it needs.
type wireAgent struct{ *agent.Agent }

func (w wireAgent) Generate(ctx context.Context, p schema.GenerateParams, s rpc.Sink, h rpc.Host) (schema.GenerateResult, error) {
	return w.Agent.Generate(ctx, p, s, h)
}

// openChat wires an agent for a command, which logs to a file or else to log.
func openChat(_ context.Context, o terminal.Options, log io.Writer) (terminal.ChatAgent, func(), error) {
	if o.LogFile != "" {
		sink, err := openLogSink(o)
		if err != nil {
			return nil, nil, err
		}
		a, closeAgent, err := openAgent(o, terminal.NewLog(sink, o))
		if err != nil {
			sink.Close()
			return nil, nil, err
		}
		return a, func() { closeAgent(); sink.Close() }, nil
	}
	a, closeAgent, err := openAgent(o, terminal.NewLog(log, o))
	return a, closeAgent, err
}

// stateRoot is the folder of what is remembered between runs.
func stateRoot(o terminal.Options) string {
	return cmp.Or(o.StateRoot, filepath.Join(xdg.StateHome, "harmonyd"))
}

// openLogSink opens where the server's log goes. The file stays open for the
// life of the process.
func openLogSink(o terminal.Options) (*rpc.LogSink, error) {
	if o.LogFile == "" {
		return rpc.NewLogSink(os.Stderr, terminal.DroppedNote(o)), nil
	}
	f, err := rpc.OpenLogFile(o.LogFile)
	if err != nil {
		return nil, err
	}
	return rpc.NewLogSink(f, terminal.DroppedNote(o)), nil
}
