// harmonyd is a language server for local language models. An editor starts it
// as a subprocess and speaks JSON-RPC 2.0 with it over stdio; it loads a model
// with MLX, streams what the model writes, and cancels within a token.
//
// This file parses the command line, wires engine, agent and rpc together, and
// maps the outcome to an exit code. It holds no other logic.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"time"

	"harmonyd/agent"
	"harmonyd/agent/profile"
	"harmonyd/editors/terminal"
	"harmonyd/rpc"
	"harmonyd/tools"
)

func main() {
	// Before anything else can print: the native libraries write to descriptor
	// 1 when they please, and that is the protocol.
	in, out, err := rpc.ClaimStdio()
	if err != nil {
		fmt.Fprintln(os.Stderr, "harmonyd: claim stdin and stdout:", err)
		os.Exit(terminal.ExitFailed)
	}
	err = terminal.New(commands(in, out)).ExecuteContext(context.Background())
	var exit *terminal.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.Err == nil) {
		fmt.Fprintln(os.Stderr, "harmonyd:", err)
	}
	os.Exit(terminal.ExitCode(err))
}

// commands hands the command line what it needs. Nothing is opened before a
// command asks for it.
func commands(in, out *os.File) terminal.Commands {
	return terminal.Commands{
		Version:       version(),
		In:            in,
		Out:           out,
		Err:           os.Stderr,
		ErrIsTerminal: terminal.IsTerminal(os.Stderr),
		Serve: func(ctx context.Context, o terminal.Options, s terminal.ServeOptions) error {
			return serve(ctx, in, out, o, s)
		},
		Agent: func(ctx context.Context, o terminal.Options) (terminal.Agent, func(), error) {
			return openChat(ctx, o, os.Stderr)
		},
		Chat:    openChat,
		State:   stateRoot,
		Folders: configuredFolders,
		Models:  openModels,
		Bench:   openBench,
		Doctor:  examine,
		Schema:  rpc.Publish,

		Conversations: openConversations,
		MigrateChat:   migrateChat,
		Dialogue:      profile.ConvertDialogue,
		ConfigSchema:  profile.JSONSchema,
	}
}

// openAgent wires an engine and the tools into an agent.
func openAgent(o terminal.Options, log *slog.Logger) (*agent.Agent, func(), error) {
	eng, closeEngine, err := openEngine(o, log)
	if err != nil {
		return nil, nil, err
	}
	// A server whose disk refuses the folder works, and keeps nothing.
	store, err := openStore(o)
	if err != nil {
		log.Warn("conversations are not kept", "err", err)
	}
	a := agent.New(eng, tools.NewRegistry(o.Limits, eng.CheckSchema), agent.Options{
		Log: log, State: stateRoot(o), Conversations: store, Configs: configFolders(o), Folders: profile.Folders(o.Folders), MaxSessions: o.Limits.MaxSessions,
	})
	return a, func() { a.Close(); closeEngine() }, nil
}

// serve runs the stdio server until its client is gone. The engine ends with
// the process: an editor must not wait for a step that is under way.
func serve(ctx context.Context, in, out *os.File, o terminal.Options, s terminal.ServeOptions) error {
	sink, err := openLogSink(o)
	if err != nil {
		return err
	}
	defer sink.Close()
	log := terminal.NewLog(sink, o)
	a, _, err := openAgent(o, log)
	if err != nil {
		return &terminal.ExitError{Code: exitEngineLost, Err: err}
	}
	defer a.Close()
	// The first signal ends the connection in good order, the second at once.
	ctx, stop := signal.NotifyContext(ctx, rpc.EndSignals()...)
	context.AfterFunc(ctx, stop)
	code := rpc.Serve(ctx, in, out, wireAgent{a}, rpc.Options{
		Version:         version(),
		Limits:          o.Limits,
		Log:             log,
		ClientProcessID: s.ClientProcessID,
		WriteStall:      time.Duration(s.WriteStallSeconds) * time.Second,
	})
	if code != rpc.ExitOK {
		return &terminal.ExitError{Code: code}
	}
	return nil
}

// exitEngineLost is the exit code of a server without an engine. A model that
// cannot be loaded is not that: it is answered with an error.
const exitEngineLost = 3

// version is the module's version, or the commit of a build from a checkout.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return "development " + s.Value[:min(12, len(s.Value))]
		}
	}
	return "development"
}
